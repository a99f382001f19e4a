//! A battery that drains with what is sent.
//!
//! Sleep costs little and all the time; a message costs by coverage level, since a device that is
//! heard badly repeats itself up to a hundred times at full power. What was drawn before a run is
//! what the kind's ordinary day takes, so that the next run goes on about where the last one was.
//! When next to nothing is left somebody changes it.

use loushan_schemas::kind::Kind;

use crate::city::{DAY, in_service};
use crate::seed::Rng;

/// Nanojoules of a millijoule and of a joule.
const MJ: i64 = 1_000_000;
const J: i64 = 1000 * MJ;

/// One message, attach to release, by coverage level.
const MESSAGE: [i64; 3] = [350 * MJ, 900 * MJ, 5000 * MJ];
/// Below this share of its charge a battery is low.
const LOW_PCT: i64 = 10;
/// At this share it is changed.
const CHANGED_PCT: i64 = 3;

/// What happened to a battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Low,
    Changed,
}

/// The battery of one device. Energies are nanojoules: milliwatt-microseconds add up exactly.
#[derive(Debug)]
pub(crate) struct Battery {
    capacity: i64,
    used: i64,
    sleep_uw: i64,
    drawn_until: i64,
}

impl Battery {
    /// The battery of a device that was mounted before the pilot, or in its first year; `None` for
    /// kinds that hang on the mains.
    pub(crate) fn new(kind: Kind, start: i64, ce_level: u8, nature: &mut Rng) -> Option<Self> {
        // Capacity, what sleep takes (its sensor included), and messages of an ordinary day.
        let (capacity, sleep_uw, messages) = match kind {
            // 19 Ah of lithium thionyl chloride at 3.6 V, a good 4.6 Ah, and 3.6 Ah.
            Kind::Parking => (246_000 * J, 60, 64),
            Kind::Water => (60_000 * J, 60, 1),
            Kind::Smoke => (47_000 * J, 110, 1),
            _ => return None,
        };
        let a_day = sleep_uw * DAY + messages * message(ce_level);
        let days = in_service(start) / DAY + nature.between(0, 900);
        let mut battery = Self { capacity, used: 0, sleep_uw, drawn_until: start };
        // Those that were emptied before were changed before.
        battery.used = (days * a_day) % (capacity - capacity * CHANGED_PCT / 100);
        Some(battery)
    }

    /// A message goes out. What it did to the battery, if that is worth telling.
    pub(crate) fn send(&mut self, now: i64, ce_level: u8) -> Option<Turn> {
        let was_low = self.is_low();
        self.used += (now - self.drawn_until).max(0) * self.sleep_uw + message(ce_level);
        self.drawn_until = now.max(self.drawn_until);
        if self.left_pct() < CHANGED_PCT {
            self.used = 0;
            return Some(Turn::Changed);
        }
        (!was_low && self.is_low()).then_some(Turn::Low)
    }

    /// Charge left, percent.
    pub(crate) const fn left_pct(&self) -> i64 {
        let left = self.capacity - self.used;
        if left > 0 { left / (self.capacity / 100) } else { 0 }
    }

    pub(crate) const fn is_low(&self) -> bool {
        self.left_pct() < LOW_PCT
    }

    /// Its voltage under load: flat for most of its life, then falling; lower at full power.
    pub(crate) const fn mv(&self, ce_level: u8) -> i64 {
        let left = self.left_pct();
        let rest = if left > 20 { 3540 + left / 2 } else { 3010 + left * 27 };
        rest - 30 * ce_level as i64
    }
}

fn message(ce_level: u8) -> i64 {
    let [first, .., last] = MESSAGE;
    if ce_level == 0 { first } else { MESSAGE.get(usize::from(ce_level)).copied().unwrap_or(last) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::seed::Use;

    const START: i64 = 1_790_000_000_000;

    fn battery(kind: Kind, ce_level: u8) -> Battery {
        let mut battery =
            Battery::new(kind, START, ce_level, &mut Rng::new(Use::Plan, &[1])).unwrap();
        battery.used = 0;
        battery
    }

    /// Days until a battery that sends so often has to be changed.
    fn life(kind: Kind, ce_level: u8, a_day: i64) -> i64 {
        let mut battery = battery(kind, ce_level);
        let mut low_at = None;
        (1..)
            .find(|message| {
                let turn = battery.send(START + message * DAY / a_day, ce_level);
                if turn == Some(Turn::Low) {
                    low_at = Some(*message);
                }
                turn == Some(Turn::Changed)
            })
            .inspect(|changed| {
                assert!(low_at.unwrap() < *changed, "it is low before it is changed")
            })
            .unwrap()
            / a_day
    }

    #[test]
    fn batteries_last_as_long_as_what_they_send_lets_them() {
        let years = |days| days / 365;
        assert!((6..15).contains(&years(life(Kind::Smoke, 0, 1))), "the ten years of the box");
        assert!((10..40).contains(&years(life(Kind::Water, 0, 1))));
        // A basement costs a meter half of its life, and a busy parking sensor nearly all.
        assert!(life(Kind::Water, 2, 1) * 100 < life(Kind::Water, 0, 1) * 60);
        assert!(life(Kind::Parking, 2, 64) * 8 < life(Kind::Parking, 0, 64));
        assert!(life(Kind::Parking, 0, 128) < life(Kind::Parking, 0, 64));
    }

    #[test]
    fn voltage_stays_plausible_and_falls_at_the_end() {
        let mut battery = battery(Kind::Parking, 2);
        let (mut last, full) = (battery.mv(2), battery.mv(2));
        while battery.send(START, 2) != Some(Turn::Changed) {
            assert!((2500..=3900).contains(&battery.mv(2)) && battery.mv(2) <= last);
            last = battery.mv(2);
        }
        assert!(last < full - 300, "{last} of {full}");
        assert_eq!(battery.left_pct(), 100);
    }

    #[test]
    fn the_mains_need_no_battery() {
        let mut nature = Rng::new(Use::Plan, &[1]);
        assert!(Battery::new(Kind::StreetLight, START, 0, &mut nature).is_none());
        assert!(Battery::new(Kind::Elevator, START, 0, &mut nature).is_none());
    }
}
