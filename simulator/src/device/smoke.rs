//! A smoke detector: years of nothing while dust settles, and then, rarely, smoke.
//!
//! Most alarms are somebody's cooking. An alarm repeats every half minute until the air has cleared;
//! then one report says so. Once a month the detector tests itself.

use loushan_schemas::reading::{Body, Smoke};

use super::{Model, NEVER, Trigger};
use crate::city::{DAY, HOUR, MINUTE, SECOND, in_service, outdoor_dc};
use crate::seed::{Rng, Use};

const NORMAL: i32 = 1;
const ALARM: i32 = 2;
const TEST: i32 = 5;
const PASSED: i32 = 1;

/// In each of these spans of a detector's life there is one alarm, at a moment and of a length that
/// depend on the detector and the span alone.
const SPAN: i64 = 60 * DAY;
/// Between the repeats of an alarm that goes on.
const REPEAT: i64 = 30 * SECOND;
/// Between self tests.
const BETWEEN_TESTS: i64 = 30 * DAY;
/// Obscuration above which the chamber alarms, thousandths of a dB/m.
const THRESHOLD_MDB_M: i64 = 140;

/// A detector on a ceiling.
#[derive(Debug)]
pub(super) struct Detector {
    state: i32,
    alarm_ends: i64,
    key: [u64; 2],
    next_alarm: i64,
    next_test: i64,
    next_repeat: i64,
    alarms_before: i64,
    low_battery: bool,
    /// When the chamber was last cleaned, and how fast dust comes.
    cleaned: i64,
    dust_ppm_per_day: i64,
    indoor_dc: i64,
}

impl Detector {
    pub(super) fn new(start: i64, key: [u64; 2], low_battery: bool, nature: &mut Rng) -> Self {
        let first_test = nature.between(0, BETWEEN_TESTS);
        let mut detector = Self {
            state: NORMAL,
            alarm_ends: 0,
            key,
            next_alarm: NEVER,
            next_test: start + (first_test - start).rem_euclid(BETWEEN_TESTS),
            next_repeat: NEVER,
            alarms_before: nature.between(0, 6),
            low_battery,
            cleaned: start - in_service(start) - nature.between(10, 900) * DAY,
            dust_ppm_per_day: nature.between(60, 300),
            indoor_dc: nature.between(170, 240),
        };
        detector.next_alarm = detector.alarm_after(start);
        detector
    }

    /// When a span's alarm begins, and how long the air takes to clear.
    fn alarm_of(&self, span: i64) -> (i64, i64) {
        let [seed, imei] = self.key;
        let mut rng = Rng::new(Use::Plan, &[seed, imei, span.unsigned_abs()]);
        (span * SPAN + rng.between(0, SPAN - HOUR), rng.between(2, 9) * MINUTE)
    }

    fn alarm_after(&self, now: i64) -> i64 {
        let span = now.div_euclid(SPAN);
        let (this, _) = self.alarm_of(span);
        if this > now { this } else { self.alarm_of(span + 1).0 }
    }

    /// Alarms since the pilot began.
    fn alarm_count(&self, now: i64) -> i64 {
        let span = now.div_euclid(SPAN);
        let first = (now - in_service(now)).div_euclid(SPAN);
        self.alarms_before + (span - first) + i64::from(self.alarm_of(span).0 <= now)
    }

    /// Dust in the chamber, percent.
    fn contamination_pct(&self, now: i64) -> i64 {
        ((now - self.cleaned).max(0) / DAY * self.dust_ppm_per_day / 10_000).min(100)
    }
}

impl Model for Detector {
    fn next_event(&self) -> i64 {
        self.next_alarm.min(self.next_test).min(self.next_repeat)
    }

    fn event(&mut self, now: i64, _rng: &mut Rng) -> Option<Trigger> {
        if self.next_repeat <= now {
            if now < self.alarm_ends {
                self.next_repeat = now + REPEAT;
                return Some(Trigger::Alarm);
            }
            // Back to normal: after an alarm, and after a test.
            self.state = NORMAL;
            self.next_repeat = NEVER;
            return Some(Trigger::Event);
        }
        if self.next_alarm <= now {
            let (_, lasts) = self.alarm_of(now.div_euclid(SPAN));
            self.next_alarm = self.alarm_after(now);
            self.state = ALARM;
            self.alarm_ends = now + lasts;
            self.next_repeat = now + REPEAT;
            return Some(Trigger::Alarm);
        }
        self.next_test = now + BETWEEN_TESTS;
        if self.state == ALARM {
            return None;
        }
        self.state = TEST;
        self.alarm_ends = now;
        self.next_repeat = now + 10 * SECOND;
        Some(Trigger::Event)
    }

    #[allow(clippy::cast_precision_loss)] // tenths and thousandths
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        let contamination = self.contamination_pct(now);
        let smoke = match self.state {
            ALARM => THRESHOLD_MDB_M + rng.between(10, 240),
            TEST => THRESHOLD_MDB_M + 20,
            _ => rng.between(0, 6),
        };
        let warmth = if self.state == ALARM { rng.between(20, 180) } else { 0 };
        let temp_dc = self.indoor_dc + (outdoor_dc(now) - 155) / 4 + warmth + rng.noise(3.0);
        Body::Smoke(Smoke {
            state: Some(self.state),
            obscuration_db_m: Some((contamination / 3 + smoke) as f64 / 1000.0),
            temp_c: Some(temp_dc as f64 / 10.0),
            contamination_pct: Some(contamination as f64),
            removed: Some(false),
            low_battery: Some(self.low_battery),
            self_test: Some(PASSED),
            alarm_count: Some(self.alarm_count(now)),
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

    #[test]
    fn an_alarm_repeats_until_the_air_has_cleared_and_dust_only_grows() {
        let start = 1_790_000_000_000;
        let mut rng = Rng::new(Use::Device, &[8]);
        let mut d = Detector::new(start, [1, 86], false, &mut rng.clone());
        let (mut alarms, mut dust, mut was_alarm) = (0, 0, false);
        let mut count = d.alarm_count(start);
        while d.next_event() < start + 2000 * DAY {
            let now = d.next_event();
            let trigger = d.event(now, &mut rng);
            let Body::Smoke(s) = d.sample(now, &mut rng) else { panic!("smoke") };
            let alarm = s.state == Some(ALARM);
            assert_eq!(alarm, s.obscuration_db_m.unwrap() > 0.15 && s.state != Some(TEST));
            if alarm {
                assert_eq!(trigger, Some(Trigger::Alarm));
                if !was_alarm {
                    assert_eq!(s.alarm_count.unwrap(), count + 1);
                }
                alarms += i32::from(!was_alarm);
                assert!(d.next_event() <= now + REPEAT);
            }
            was_alarm = alarm;
            count = s.alarm_count.unwrap();
            assert!(d.contamination_pct(now) >= dust);
            dust = d.contamination_pct(now);
        }
        assert!((32..=35).contains(&alarms), "{alarms} alarms in 2000 days");
        assert!(dust > 0);
    }
}
