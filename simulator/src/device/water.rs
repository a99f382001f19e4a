//! A household's water meter: a day curve, a total that only grows, and the last 24 hours with it.
//!
//! What an hour draws is a function of the meter and the hour alone, so the deltas of two reports,
//! and of two runs, agree wherever their hours overlap, and the total is always the sum of the hours
//! before it. A pipe that starts to leak does so until somebody mends it; that too depends on the
//! meter and the time alone.

use loushan_schemas::reading::{Body, Water};

use super::{Model, NEVER, Trigger};
use crate::city::{DAY, HOUR, SECOND, in_service, local_day, local_hour, outdoor_dc};
use crate::seed::{Rng, Use};

const VALVE_OPEN: i32 = 1;
const LEAK: i32 = 1;
const HOURS: usize = 24;

/// Share of a day's water by hour, in thousandths: an early and a late peak.
const CURVE: [i64; 24] = [
    8, 5, 4, 4, 6, 18, 62, 88, 72, 50, 40, 46, //
    52, 38, 30, 28, 34, 52, 84, 96, 84, 56, 30, 13,
];

/// In each of these spans of a meter's life a leak begins, or in most of them none.
const SPAN_HOURS: i64 = 40 * 24;
/// How many of a hundred spans see one: one in 400 days.
const LEAKS_PERCENT: u64 = 10;
/// Spans that are searched for the next leak; the chance of none is one in 30,000.
const SPANS_AHEAD: i64 = 100;

/// A leak: from which hour to which, and how much.
#[derive(Debug, Clone, Copy)]
struct Leak {
    from: i64,
    to: i64,
    l_h: i64,
}

/// A meter.
#[derive(Debug)]
pub(super) struct Meter {
    key: [u64; 2],
    litres_a_day: i64,
    /// Full hours since 1970 up to which is counted, the total there, and the last 24 hours.
    hour: i64,
    total_l: i64,
    deltas: [i32; HOURS],
    /// A local day and what was drawn from its beginning to each full hour of it.
    day: i64,
    drawn: [i64; HOURS + 1],
    /// The leak that is running, or the next one.
    leak: Option<Leak>,
    /// When a leak begins or ends next.
    next_change: i64,
    pressure_kpa: i64,
}

impl Meter {
    pub(super) fn new(start: i64, key: [u64; 2], nature: &mut Rng) -> Self {
        let hour = start.div_euclid(HOUR) - HOURS as i64;
        let litres_a_day = nature.between(120, 520);
        let mut meter = Self {
            key,
            litres_a_day,
            hour,
            total_l: nature.between(20_000, 900_000),
            deltas: [0; HOURS],
            day: i64::MIN,
            drawn: [0; HOURS + 1],
            leak: None,
            next_change: NEVER,
            pressure_kpa: nature.between(220, 420),
        };
        let first = (start - in_service(start)).div_euclid(HOUR);
        let today = local_day(hour * HOUR);
        let leaked: i64 = (first.div_euclid(SPAN_HOURS)..=hour.div_euclid(SPAN_HOURS))
            .filter_map(|span| meter.leak_of(span))
            .map(|leak| (leak.to.min(hour) - leak.from).max(0) * leak.l_h)
            .sum();
        meter.total_l +=
            (today - local_day(first * HOUR)) * litres_a_day + meter.drawn_until(hour) + leaked;
        meter.leak = meter.leak_from(hour);
        meter.advance(start);
        meter.next_change = meter.change_after(meter.hour);
        meter
    }

    /// Litres from the beginning of an hour's day to its own beginning. A day's are its meter's
    /// daily litres exactly, spread by the curve and by chance: nobody at home, or a bath.
    fn drawn_until(&mut self, hour: i64) -> i64 {
        let day = local_day(hour * HOUR);
        if day != self.day {
            let [seed, imei] = self.key;
            let mut rng = Rng::new(Use::Device, &[seed, imei, day.unsigned_abs()]);
            let mut sum = 0;
            let mut weights = [0; HOURS + 1];
            for (share, weight) in CURVE.iter().zip(weights.iter_mut().skip(1)) {
                // At night most households draw nothing at all: an hour without flow every day is
                // what tells them from a leak.
                let asleep = *share < 10 && rng.chance(800_000);
                sum += if asleep { 0 } else { share * rng.between(0, 200) };
                *weight = sum;
            }
            self.drawn = weights.map(|weight| self.litres_a_day * weight / sum.max(1));
            self.day = day;
        }
        self.drawn.get(local_hour(hour * HOUR)).copied().unwrap_or_default()
    }

    /// Litres the household draws in an hour.
    fn draws(&mut self, hour: i64) -> i64 {
        let before = self.drawn_until(hour);
        self.drawn.get(local_hour(hour * HOUR) + 1).copied().unwrap_or(before) - before
    }

    /// The leak that begins in a span, if one does. It ends within the span.
    fn leak_of(&self, span: i64) -> Option<Leak> {
        let [seed, imei] = self.key;
        let mut rng = Rng::new(Use::Plan, &[seed, imei, span.unsigned_abs()]);
        let from = span * SPAN_HOURS + rng.between(0, SPAN_HOURS - 73);
        let (to, l_h) = (from + rng.between(6, 72), rng.between(3, 20));
        (rng.below(100) < LEAKS_PERCENT).then_some(Leak { from, to, l_h })
    }

    /// The leak that is running in an hour, or the next one after it.
    fn leak_from(&self, hour: i64) -> Option<Leak> {
        let span = hour.div_euclid(SPAN_HOURS);
        (span..span + SPANS_AHEAD).filter_map(|s| self.leak_of(s)).find(|leak| leak.to > hour)
    }

    /// When, after an hour began, a leak begins or ends: always with a full hour, since a total must
    /// not fall when one is mended.
    fn change_after(&self, hour: i64) -> i64 {
        self.leak_from(hour).map_or(NEVER, |leak| {
            HOUR.saturating_mul(if leak.from > hour { leak.from } else { leak.to })
        })
    }

    /// Litres an hour that the running hour leaks.
    fn leaks(&self) -> i64 {
        self.leak.filter(|leak| (leak.from..leak.to).contains(&self.hour)).map_or(0, |l| l.l_h)
    }

    /// What the hour that is running draws in all, leak included.
    fn this_hour(&mut self) -> i64 {
        self.draws(self.hour) + self.leaks()
    }

    fn advance(&mut self, now: i64) {
        while self.hour < now.div_euclid(HOUR) {
            let drawn = self.this_hour();
            self.total_l += drawn;
            self.deltas.rotate_left(1);
            if let Some(last) = self.deltas.last_mut() {
                *last = i32::try_from(drawn).unwrap_or(i32::MAX);
            }
            self.hour += 1;
            if self.leak.is_some_and(|leak| leak.to <= self.hour) {
                self.leak = self.leak_from(self.hour);
            }
        }
    }
}

impl Model for Meter {
    fn next_event(&self) -> i64 {
        self.next_change
    }

    fn event(&mut self, now: i64, _rng: &mut Rng) -> Option<Trigger> {
        self.advance(now);
        self.next_change = self.change_after(self.hour);
        Some(if self.leaks() > 0 { Trigger::Alarm } else { Trigger::Event })
    }

    #[allow(clippy::cast_precision_loss)] // litres an hour, tenths
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        self.advance(now);
        let into = now.rem_euclid(HOUR);
        let (this_hour, leaks) = (self.this_hour(), self.leaks());
        // Taps run in turns: half of the time the flow is the leak's alone.
        let flow = if into / (5 * 60 * SECOND) % 2 == 0 { leaks } else { this_hour * 2 };
        // The history ends with the last full hour by the meter's clock, in whole seconds.
        let first_end = -(into / SECOND) - (HOURS as i64 - 1) * 3600;
        Body::Water(Water {
            total_l: Some(self.total_l + this_hour * into / HOUR),
            reverse_l: Some(0),
            flow_l_h: Some(flow as f64),
            pressure_kpa: Some(self.pressure_kpa - flow / 10 + rng.noise(3.0)),
            temp_c: Some((outdoor_dc(now) / 2 + 75 + rng.noise(2.0)).max(2) as f64 / 10.0),
            valve: Some(VALVE_OPEN),
            alarms: if leaks > 0 { vec![LEAK] } else { Vec::new() },
            history_first_end_s: Some(first_end),
            history_interval_s: Some(3600),
            history_delta_l: self.deltas.to_vec(),
        })
    }

    fn natural_period(&self) -> i64 {
        DAY
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn water(meter: &mut Meter, now: i64, rng: &mut Rng) -> Water {
        match meter.sample(now, rng) {
            Body::Water(water) => water,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_total_never_falls_and_is_the_sum_of_its_hours() {
        let start = 1_790_000_000_000_i64;
        let midnight = start - start.rem_euclid(HOUR);
        let mut rng = Rng::new(Use::Device, &[3]);
        let mut nature = Rng::new(Use::Plan, &[3]);
        let mut meter = Meter::new(midnight, [1, 864], &mut nature);
        let (mut last, mut leaks) = (0, 0);
        let mut day_before = water(&mut meter, midnight, &mut rng);
        for minute in 1..(800 * 24 * 4) {
            let now = midnight + minute * 15 * 60 * SECOND;
            while meter.next_event() <= now {
                let at = meter.next_event();
                leaks += i32::from(meter.event(at, &mut rng) == Some(Trigger::Alarm));
            }
            let w = water(&mut meter, now, &mut rng);
            assert!(w.total_l.unwrap() >= last, "fell at {minute}");
            last = w.total_l.unwrap();
            if (now - midnight) % DAY == 0 {
                let sum: i32 = w.history_delta_l.iter().sum();
                assert_eq!(last - day_before.total_l.unwrap(), i64::from(sum));
                assert!((20..3000).contains(&sum), "{sum} l in a day");
                day_before = w;
            }
        }
        assert!(leaks > 0, "800 days without a leak");
    }

    #[test]
    fn only_a_leak_flows_through_every_hour_of_a_day() {
        let midnight = 1_789_999_200_000_i64;
        let (mut always, mut days) = (0, 0);
        for imei in 0..60 {
            let mut rng = Rng::new(Use::Plan, &[imei]);
            let mut meter = Meter::new(midnight, [1, imei], &mut rng.clone());
            for day in 1..30 {
                let w = water(&mut meter, midnight + day * DAY, &mut rng);
                if w.alarms.is_empty() && w.history_delta_l.iter().all(|delta| *delta > 0) {
                    always += 1;
                }
                days += 1;
            }
        }
        // A leak that was mended within the day still shows in its hours.
        assert!(always * 100 < days, "{always} of {days}");
    }

    #[test]
    fn the_next_run_goes_on_where_the_last_one_was() {
        let start = 1_790_000_123_000_i64;
        let rng = &mut Rng::new(Use::Device, &[3]);
        let nature = Rng::new(Use::Plan, &[3]);
        let mut meter = Meter::new(start, [1, 864], &mut nature.clone());
        for hours in 0..2000 {
            let now = start + hours * HOUR;
            let mut next = Meter::new(now, [1, 864], &mut nature.clone());
            let (old, new) = (water(&mut meter, now, rng), water(&mut next, now, rng));
            assert_eq!((old.total_l, &old.history_delta_l), (new.total_l, &new.history_delta_l));
        }
    }

    #[test]
    fn histories_that_overlap_agree_and_end_on_full_hours() {
        let start = 1_790_000_123_000_i64;
        let mut rng = Rng::new(Use::Device, &[4]);
        let mut nature = Rng::new(Use::Plan, &[4]);
        let mut meter = Meter::new(start, [1, 864], &mut nature);
        let mut ends = std::collections::BTreeMap::new();
        for quarter in 0..200 {
            let now = start + quarter * 900 * SECOND;
            let w = water(&mut meter, now, &mut rng);
            for (i, delta) in (0..).zip(&w.history_delta_l) {
                let end = now / SECOND + w.history_first_end_s.unwrap() + i * 3600;
                assert_eq!(end % 3600, 0);
                assert_eq!(*ends.entry(end).or_insert(*delta), *delta);
            }
        }
        assert_eq!(ends.len(), 24 + 50);
    }
}
