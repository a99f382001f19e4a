//! A device's clock: off by a little, drifting, set right now and then; or simply wrong.
//!
//! What it shows is a function of the moment, so a run that goes on after another does not see it
//! jump. The network sets it every one to fourteen days by the device's own habit; in between it
//! runs free at its crystal's own rate.

use crate::city::{DAY, HOUR, SECOND};
use crate::faults::{DeviceFaultRates, Incident};
use crate::seed::Rng;

/// The wire's numbers.
const SYNCED: i32 = 1;
const FREE_RUNNING: i32 = 2;
const UNSET: i32 = 3;

/// Local time against UTC, and against what UTC a reader takes it for.
const ZONE: i64 = 8 * HOUR;
/// A clock that was not set for so long says that it runs free.
const TRUSTED_FOR: i64 = DAY;
/// From here on a drift is worth counting.
const NOTICED: i64 = SECOND;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Set by the network.
    Set,
    /// Never set: it counts from 1970.
    Unset,
    /// It shows the city's time and calls it UTC.
    Local,
    /// Whole seconds, set before every report: a meter's stamps end its hourly intervals, and the
    /// same interval must not get two ends.
    Meter,
}

/// The clock of one device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    class: Class,
    /// How good the network's own time is: a second or two.
    offset_ms: i64,
    drift_ppb: i64,
    set_every: i64,
    set_phase: i64,
}

/// What a clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) ms: i64,
    /// What it knows of itself: the wire's number.
    pub(super) state: i32,
    /// What is wrong with it.
    pub(super) wrong: Option<Incident>,
}

impl Clock {
    pub(super) fn new(meter: bool, rates: &DeviceFaultRates, nature: &mut Rng) -> Self {
        // All is drawn whatever the rates are, so that switching a fault moves no other number.
        let offset_ms = nature.between(-1500, 1500);
        let per_mille = nature.between(-1000, 1000);
        let set_every = nature.between(1, 14) * DAY;
        let set_phase = nature.between(0, set_every);
        let draw = nature.below(1_000_000);
        let (unset, local) = (u64::from(rates.clock_unset), u64::from(rates.clock_local));
        let class = if meter {
            Class::Meter
        } else if draw < unset {
            Class::Unset
        } else if draw < unset + local {
            Class::Local
        } else {
            Class::Set
        };
        let drift_ppb = per_mille * i64::from(rates.drift_ppm);
        Self { class, offset_ms, drift_ppb, set_every, set_phase }
    }

    /// What it shows at a moment, in a device that booted at another.
    pub(super) fn show(&self, now: i64, booted: i64) -> Shown {
        let alone = (now - self.set_phase).rem_euclid(self.set_every);
        let drift = alone * self.drift_ppb / 1_000_000_000;
        let near = now + self.offset_ms + drift;
        let state = if alone > TRUSTED_FOR { FREE_RUNNING } else { SYNCED };
        match self.class {
            Class::Meter => Shown { ms: now - now.rem_euclid(SECOND), state: SYNCED, wrong: None },
            Class::Unset => {
                let wrong = Some(Incident::ClockUnset);
                Shown { ms: (now - booted).max(0), state: UNSET, wrong }
            }
            Class::Local => Shown { ms: near + ZONE, state, wrong: Some(Incident::ClockLocal) },
            Class::Set => Shown {
                ms: near,
                state,
                wrong: (drift.abs() > NOTICED).then_some(Incident::ClockDrifted),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::seed::Use;

    const START: i64 = 1_790_000_000_000;

    fn clocks(rates: DeviceFaultRates) -> impl Iterator<Item = Clock> {
        (0..2000).map(move |n| Clock::new(false, &rates, &mut Rng::new(Use::Plan, &[n])))
    }

    #[test]
    fn clocks_drift_by_their_own_rate_until_the_network_sets_them() {
        let rates = DeviceFaultRates { drift_ppm: 20, ..DeviceFaultRates::NONE };
        let (mut worst, mut set, mut noticed) = (0, 0, 0);
        for clock in clocks(rates) {
            let mut last = None;
            for hour in 0..24 * 15 {
                let now = START + hour * HOUR;
                let shown = clock.show(now, START);
                let off = shown.ms - now - clock.offset_ms;
                worst = worst.max(off.abs());
                noticed += i32::from(shown.wrong == Some(Incident::ClockDrifted));
                if let Some(last) = last {
                    let step: i64 = off - last;
                    // 20 ppm of an hour are 72 ms; more is the network setting it.
                    if step.abs() > 73 {
                        set += 1;
                        assert!(off.abs() <= 73, "set to {off} ms");
                    }
                }
                last = Some(off);
            }
        }
        // Fourteen days at 20 ppm are 24 s.
        assert!((20_000..24_300).contains(&worst), "{worst} ms");
        assert!(set > 2000 && noticed > 1000, "{set} {noticed}");
    }

    #[test]
    fn without_drift_an_honest_clock_keeps_its_offset_and_faults_have_their_rates() {
        assert!(clocks(DeviceFaultRates::NONE).all(|clock| {
            let shown = clock.show(START, 0);
            (shown.ms - START).abs() <= 1500 && shown.wrong.is_none()
        }));
        let rates = DeviceFaultRates {
            clock_unset: 100_000,
            clock_local: 50_000,
            ..DeviceFaultRates::NONE
        };
        let (mut unset, mut local) = (0, 0);
        for clock in clocks(rates) {
            let shown = clock.show(START + 5 * SECOND, START);
            match shown.wrong {
                Some(Incident::ClockUnset) => {
                    unset += 1;
                    assert_eq!((shown.ms, shown.state), (5 * SECOND, UNSET));
                }
                Some(Incident::ClockLocal) => {
                    local += 1;
                    assert!((shown.ms - START - 8 * HOUR - 5 * SECOND).abs() <= 1500);
                }
                _ => {}
            }
        }
        assert!((160..240).contains(&unset) && (70..130).contains(&local), "{unset} {local}");
    }
}
