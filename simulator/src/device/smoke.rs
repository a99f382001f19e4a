//! A smoke detector: years of nothing while dust settles, and then, rarely, smoke.
//!
//! Most alarms are somebody's cooking. An alarm repeats every half minute until the air has cleared;
//! then one report says so. Once a month the detector tests itself.

use loushan_schemas::reading::{Body, Smoke};

use super::{Model, NEVER, Trigger};
use crate::city::{DAY, MINUTE, SECOND, outdoor_dc};
use crate::seed::Rng;

const NORMAL: i32 = 1;
const ALARM: i32 = 2;
const TEST: i32 = 5;
const PASSED: i32 = 1;

/// Mean time between two alarms of one detector.
const BETWEEN_ALARMS: i64 = 60 * DAY;
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
    next_alarm: i64,
    next_test: i64,
    next_repeat: i64,
    alarm_count: i64,
    low_battery: bool,
    /// Dust in the chamber when it was last cleaned, in parts per million, when that was, and how
    /// fast it comes.
    cleaned: i64,
    dust_ppm_per_day: i64,
    indoor_dc: i64,
}

impl Detector {
    pub(super) fn new(start: i64, low_battery: bool, nature: &mut Rng, rng: &mut Rng) -> Self {
        Self {
            state: NORMAL,
            alarm_ends: 0,
            next_alarm: start + rng.wait_ms(BETWEEN_ALARMS),
            next_test: start + rng.between(0, BETWEEN_TESTS),
            next_repeat: NEVER,
            alarm_count: nature.between(0, 6),
            low_battery,
            cleaned: start - nature.between(10, 900) * DAY,
            dust_ppm_per_day: nature.between(60, 500),
            indoor_dc: nature.between(170, 240),
        }
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

    fn event(&mut self, now: i64, rng: &mut Rng) -> Option<Trigger> {
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
            self.next_alarm = now + rng.wait_ms(BETWEEN_ALARMS).max(30 * MINUTE);
            self.state = ALARM;
            self.alarm_count += 1;
            self.alarm_ends = now + rng.between(2, 9) * MINUTE;
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
            alarm_count: Some(self.alarm_count),
        })
    }

    fn natural_period(&self) -> i64 {
        DAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Use;

    #[test]
    fn an_alarm_repeats_until_the_air_has_cleared_and_dust_only_grows() {
        let start = 1_790_000_000_000;
        let mut rng = Rng::new(Use::Device, &[8]);
        let mut d = Detector::new(start, false, &mut rng.clone(), &mut rng);
        let (mut alarms, mut dust, mut was_alarm) = (0, 0, false);
        while d.next_event() < start + 2000 * DAY {
            let now = d.next_event();
            let trigger = d.event(now, &mut rng);
            let Body::Smoke(s) = d.sample(now, &mut rng) else { panic!("smoke") };
            let alarm = s.state == Some(ALARM);
            assert_eq!(alarm, s.obscuration_db_m.unwrap() > 0.15 && s.state != Some(TEST));
            if alarm {
                assert_eq!(trigger, Some(Trigger::Alarm));
                assert!(was_alarm || s.alarm_count.unwrap() >= 1);
                alarms += i32::from(!was_alarm);
                assert!(d.next_event() <= now + REPEAT);
            }
            was_alarm = alarm;
            assert!(d.contamination_pct(now) >= dust);
            dust = d.contamination_pct(now);
        }
        assert!((10..80).contains(&alarms), "{alarms} alarms in 2000 days");
        assert!(dust > 0);
    }
}
