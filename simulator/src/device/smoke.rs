//! A smoke detector: years of nothing while dust settles, and then, rarely, smoke.
//!
//! Most alarms are somebody's cooking, at noon and in the evening, and some of them are silenced by
//! hand; a few are fires (see [`super::fire`]). An alarm repeats every half minute until the air has
//! cleared; then one report says so. Once a month the detector tests itself; now and then it is
//! taken down for painting, or fails; dust makes it uncertain until somebody cleans it.
//!
//! What state it is in depends on the detector and the time alone, so that a later run counts its
//! alarms on from an earlier one.

use loushan_schemas::reading::{Body, Smoke};

use super::fire::Flat;
use super::spell::Chance;
use super::{Model, NEVER, Trigger};
use crate::city::{
    DAY, HOUR, MINUTE, SECOND, by_hour, day_start, in_service, local_day, outdoor_dc,
};
use crate::faults::Incident;
use crate::seed::Rng;

const NORMAL: i32 = 1;
const ALARM: i32 = 2;
const MUTED: i32 = 3;
const FAULT: i32 = 4;
const TEST: i32 = 5;
const REMOVED: i32 = 6;
const PASSED: i32 = 1;
const FAILED: i32 = 2;

/// Between the repeats of an alarm that goes on.
const REPEAT: i64 = 30 * SECOND;
/// Between self tests, and how long one takes.
const BETWEEN_TESTS: i64 = 30 * DAY;
const TEST_TAKES: i64 = 10 * SECOND;
/// Obscuration above which the chamber alarms, thousandths of a dB/m.
const THRESHOLD_MDB_M: i64 = 140;
/// Dust at which a detector trusts itself no more, percent.
const DIRTY_PCT: i64 = 75;
/// Days in which something is burnt at most once.
const COOKING_SPAN: i64 = 30;
/// When meals are burnt: of a thousand, by hour.
const MEALS: [i64; 24] = [
    5, 2, 1, 0, 1, 8, 35, 60, 30, 15, 40, 130, //
    120, 40, 15, 15, 40, 120, 150, 90, 45, 20, 12, 6,
];

/// A detector on a ceiling.
#[derive(Debug)]
pub(super) struct Detector {
    state: i32,
    flat: Flat,
    /// Burnt meals; its unit is the local day.
    cooking: Chance,
    removal: Chance,
    failure: Chance,
    test_phase: i64,
    next_change: i64,
    next_repeat: i64,
    alarms_before: i64,
    /// How fast dust comes, and when it is taken out.
    dust_ppm_per_day: i64,
    cleaned_every: i64,
    cleaned_phase: i64,
    indoor_dc: i64,
    incident: Option<Incident>,
}

/// Smoke of a burnt meal: when it comes, is silenced (if it is) and is gone.
#[derive(Debug, Clone, Copy)]
struct Meal {
    from: i64,
    muted: i64,
    to: i64,
}

impl Detector {
    pub(super) fn new(start: i64, key: [u64; 2], flat: Flat, nature: &mut Rng) -> Self {
        let chance =
            |what, span, per_million, lasts| Chance::of(key, what, span, per_million, lasts);
        let cleaned_every = nature.between(400, 900) * DAY;
        // Some hang beside a stove, most in a bedroom.
        let beside_a_stove = nature.chance(250_000);
        let burnt = nature.between(5_000, 60_000) * if beside_a_stove { 6 } else { 1 };
        let mut detector = Self {
            state: NORMAL,
            flat,
            cooking: chance(30, COOKING_SPAN, u32::try_from(burnt).unwrap_or(0), (1, 1)),
            removal: chance(31, 400 * DAY, 200_000, (HOUR, 8 * HOUR)),
            failure: chance(32, 1000 * DAY, 100_000, (DAY, 10 * DAY)),
            test_phase: nature.between(0, BETWEEN_TESTS),
            next_change: NEVER,
            next_repeat: NEVER,
            alarms_before: nature.between(0, 6),
            dust_ppm_per_day: nature.between(60, 900),
            cleaned_every,
            cleaned_phase: nature.between(0, cleaned_every),
            indoor_dc: nature.between(170, 240),
            incident: None,
        };
        detector.look(start);
        detector.incident = None;
        detector
    }

    /// What was burnt on a local day, by its number among the spells of cooking.
    fn meals(&self, first_day: i64, last_day: i64) -> impl Iterator<Item = Meal> {
        self.cooking.begun(first_day, last_day + 1).map(|day| {
            let mut rng = day.rng();
            let mut draw = rng.between(0, MEALS.iter().sum::<i64>() - 1);
            let hour = MEALS.iter().take_while(|share| {
                draw -= **share;
                draw >= 0
            });
            let hour = i64::try_from(hour.count()).unwrap_or(0);
            let from = day_start(day.from) + hour * HOUR + rng.between(0, HOUR - 1);
            let lasts = rng.between(2, 9) * MINUTE;
            // Every other cook finds the button.
            let muted = if rng.chance(500_000) { rng.between(20, 110) * SECOND } else { lasts };
            Meal { from, muted: from + muted, to: from + lasts }
        })
    }

    fn meal(&self, now: i64) -> Option<Meal> {
        // One burnt before midnight may smoke into the day.
        let today = local_day(now);
        self.meals(today - 1, today).find(|meal| (meal.from..meal.to).contains(&now))
    }

    fn in_test(&self, now: i64) -> bool {
        (now - self.test_phase).rem_euclid(BETWEEN_TESTS) < TEST_TAKES
    }

    fn state_at(&self, now: i64) -> i32 {
        if self.removal.at(now).is_some() {
            return REMOVED;
        }
        if self.flat.burning(now).is_some() {
            return ALARM;
        }
        if let Some(meal) = self.meal(now) {
            return if now < meal.muted { ALARM } else { MUTED };
        }
        if self.in_test(now) {
            TEST
        } else if self.failure.at(now).is_some() || self.contamination_pct(now) > DIRTY_PCT {
            FAULT
        } else {
            NORMAL
        }
    }

    /// When, after a moment, its state may change next.
    fn change_after(&self, now: i64) -> i64 {
        let today = local_day(now);
        let meal = self
            .meals(today - 1, today + 20 * COOKING_SPAN)
            .flat_map(|meal| [meal.from, meal.muted, meal.to])
            .find(|at| *at > now);
        let into_test = (now - self.test_phase).rem_euclid(BETWEEN_TESTS);
        let test = if into_test < TEST_TAKES { TEST_TAKES } else { BETWEEN_TESTS } - into_test;
        [
            self.removal.change_after(now),
            self.failure.change_after(now),
            self.flat.change_after(now),
            now + test,
        ]
        .into_iter()
        .chain(meal)
        .fold(NEVER, i64::min)
    }

    /// Alarms since the pilot began, and before it.
    fn alarm_count(&self, now: i64) -> i64 {
        let first = local_day(now - in_service(now));
        let meals = self.meals(first, local_day(now)).map(|meal| meal.from);
        let heard = meals
            .filter(|from| *from <= now)
            .chain(self.flat.came(now))
            .filter(|from| self.removal.at(*from).is_none());
        self.alarms_before + i64::try_from(heard.count()).unwrap_or(0)
    }

    /// Dust in the chamber, percent.
    fn contamination_pct(&self, now: i64) -> i64 {
        let since = (now - self.cleaned_phase).rem_euclid(self.cleaned_every);
        (since / HOUR * self.dust_ppm_per_day / (24 * 10_000)).min(100)
    }

    /// Takes on the state of the moment; whether it is another one.
    fn look(&mut self, now: i64) -> bool {
        let before = self.state;
        self.state = self.state_at(now);
        self.next_change = self.change_after(now);
        self.next_repeat = if self.state == ALARM { now + REPEAT } else { NEVER };
        if before == self.state {
            return false;
        }
        self.incident = match self.state {
            ALARM if self.flat.burning(now).is_some() => Some(Incident::Fire),
            ALARM => Some(Incident::CookingSmoke),
            MUTED => Some(Incident::DetectorMuted),
            REMOVED => Some(Incident::DetectorRemoved),
            // A test does not make it fail anew.
            FAULT if before != TEST => Some(Incident::DetectorFailed),
            _ => None,
        };
        true
    }

    /// What the chamber sees beside its dust, thousandths of a dB/m, and warmth in tenths.
    fn air(&self, now: i64, rng: &mut Rng) -> (i64, i64) {
        let haze = rng.between(0, 6 + by_hour(&MEALS, now) / 4);
        match self.state {
            TEST => (THRESHOLD_MDB_M + 20, 0),
            ALARM | MUTED => match self.flat.burning(now) {
                Some((from, _)) => {
                    // Thicker and hotter over the first minutes.
                    let grown = ((now - from) / SECOND).clamp(0, 300);
                    (THRESHOLD_MDB_M + 60 + grown * 8 / 10 + rng.between(0, 20), grown)
                }
                None => (THRESHOLD_MDB_M + rng.between(12, 200), rng.between(10, 60)),
            },
            _ => (haze, haze / 2),
        }
    }
}

impl Model for Detector {
    fn next_event(&self) -> i64 {
        self.next_change.min(self.next_repeat)
    }

    fn event(&mut self, now: i64, _rng: &mut Rng) -> Option<Trigger> {
        if self.next_change > now {
            self.next_repeat = now + REPEAT;
            return Some(Trigger::Alarm);
        }
        let changed = self.look(now);
        if self.state == ALARM { Some(Trigger::Alarm) } else { changed.then_some(Trigger::Event) }
    }

    #[allow(clippy::cast_precision_loss)] // tenths and thousandths
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        let contamination = self.contamination_pct(now);
        let (smoke, warmth) = self.air(now, rng);
        let temp_dc = self.indoor_dc + (outdoor_dc(now) - 155) / 4 + warmth + rng.noise(3.0);
        let failed = self.failure.at(now).is_some();
        Body::Smoke(Smoke {
            state: Some(self.state),
            obscuration_db_m: Some((contamination / 4 + smoke) as f64 / 1000.0),
            temp_c: Some(temp_dc as f64 / 10.0),
            contamination_pct: Some(contamination as f64),
            removed: Some(self.state == REMOVED),
            low_battery: Some(false),
            self_test: Some(if failed { FAILED } else { PASSED }),
            alarm_count: Some(self.alarm_count(now)),
        })
    }

    fn natural_period(&self) -> i64 {
        DAY
    }

    fn incident(&mut self) -> Option<Incident> {
        self.incident.take()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::city::local_hour;
    use crate::seed::Use;

    const START: i64 = 1_790_000_000_000;

    fn detector(station: u32, neighbour: u32) -> Detector {
        let key = [1, u64::from(station * 100 + neighbour)];
        let flat = Flat::new(1, station, neighbour);
        Detector::new(START, key, flat, &mut Rng::new(Use::Plan, &key))
    }

    #[test]
    fn an_alarm_repeats_until_the_air_has_cleared_and_is_counted_once() {
        let mut rng = Rng::new(Use::Device, &[8]);
        let mut seen = BTreeMap::new();
        let mut hours = [0; 24];
        for station in 0..60 {
            let mut d = detector(station, 3);
            let mut count = d.alarm_count(START);
            let mut was = NORMAL;
            while d.next_event() < START + 1000 * DAY {
                let now = d.next_event();
                let trigger = d.event(now, &mut rng);
                let incident = d.incident();
                let Body::Smoke(s) = d.sample(now, &mut rng) else { panic!("smoke") };
                let state = s.state.unwrap();
                assert_eq!(state == ALARM, trigger == Some(Trigger::Alarm));
                let smoky = s.obscuration_db_m.unwrap() > 0.14;
                assert_eq!(smoky, [ALARM, MUTED, TEST].contains(&state), "{s:?}");
                if state == ALARM {
                    assert!(d.next_event() <= now + REPEAT);
                    if was == NORMAL {
                        assert_eq!(s.alarm_count.unwrap(), count + 1);
                    }
                }
                if let Some(incident) = incident {
                    *seen.entry(incident).or_insert(0) += 1;
                    if incident == Incident::CookingSmoke {
                        hours[local_hour(now)] += 1;
                    }
                }
                (was, count) = (state, s.alarm_count.unwrap());
            }
        }
        // Of 60 detectors in 1000 days: 2000 spans, in each of them 3 to 18 % are burnt.
        assert!((90..260).contains(&seen[&Incident::CookingSmoke]), "{seen:?}");
        assert!((15..70).contains(&seen[&Incident::DetectorRemoved]), "{seen:?}");
        assert!(seen.contains_key(&Incident::Fire), "{seen:?}");
        assert!(seen.contains_key(&Incident::DetectorFailed), "{seen:?}");
        let muted = seen[&Incident::DetectorMuted] * 100 / seen[&Incident::CookingSmoke];
        assert!((30..70).contains(&muted), "{seen:?}");
        let meals: i32 = hours[11..13].iter().chain(&hours[17..20]).sum();
        assert!(meals * 100 > hours.iter().sum::<i32>() * 45, "{hours:?}");
        assert_eq!(hours[2..5].iter().sum::<i32>(), 0, "{hours:?}");
    }

    #[test]
    fn dust_drifts_until_somebody_cleans_the_chamber() {
        let mut rng = Rng::new(Use::Device, &[8]);
        let (mut cleaned, mut most) = (0, 0);
        for station in 0..60 {
            let d = detector(station, 0);
            let mut last = d.contamination_pct(START);
            for day in 1..1000 {
                let now = d.contamination_pct(START + day * DAY);
                cleaned += i32::from(now < last);
                assert!(now >= last || now == 0, "from {last} to {now}");
                assert!(now - last <= 1);
                last = now;
                most = most.max(now);
            }
        }
        assert!((60..160).contains(&cleaned), "{cleaned} times in 60 chambers in 1000 days");
        assert!(most > 60, "{most}");
        // What it sees drifts along.
        let mut d = detector(1, 0);
        d.dust_ppm_per_day = 900;
        let mean = |d: &mut Detector, at: i64, rng: &mut Rng| -> f64 {
            let samples = (0..50).map(|_| match d.sample(at, rng) {
                Body::Smoke(smoke) => smoke.obscuration_db_m.unwrap(),
                other => panic!("{other:?}"),
            });
            samples.sum::<f64>() / 50.0
        };
        let clean = START - (START - d.cleaned_phase).rem_euclid(d.cleaned_every);
        let (fresh, old) =
            (mean(&mut d, clean, &mut rng), mean(&mut d, clean + 390 * DAY, &mut rng));
        assert!(old > fresh + 0.004, "{fresh} {old}");
    }

    #[test]
    fn neighbours_alarm_one_after_the_other_in_a_fire() {
        let mut reached_together = 0;
        for station in 0..400 {
            let mut house: Vec<Detector> = (0..6).map(|n| detector(station, n)).collect();
            let mut fires: Vec<i64> = Vec::new();
            for d in &mut house {
                let mut rng = Rng::new(Use::Device, &[8]);
                while d.next_event() < START + 365 * DAY {
                    let now = d.next_event();
                    d.event(now, &mut rng);
                    if d.incident() == Some(Incident::Fire) {
                        fires.push(now);
                    }
                }
            }
            fires.sort_unstable();
            reached_together += fires.windows(2).filter(|w| w[1] - w[0] < 20 * MINUTE).count();
        }
        assert!(reached_together > 10, "{reached_together}");
    }
}
