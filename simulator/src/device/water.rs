//! A household's water meter: a day curve, a total that only grows, and the last 24 hours with it.
//!
//! What an hour draws is a function of the meter and the hour alone, so the deltas of two reports
//! agree wherever their hours overlap, and the total is always the sum of the hours before it. A
//! pipe that starts to leak does so until somebody mends it.

use loushan_schemas::reading::{Body, Water};

use super::{Model, Trigger};
use crate::city::{DAY, HOUR, SECOND, local_hour, outdoor_dc};
use crate::seed::{Rng, Use};

const VALVE_OPEN: i32 = 1;
const LEAK: i32 = 1;
const HOURS: usize = 24;

/// Share of a day's water by hour, in thousandths: an early and a late peak.
const CURVE: [i64; 24] = [
    8, 5, 4, 4, 6, 18, 62, 88, 72, 50, 40, 46, //
    52, 38, 30, 28, 34, 52, 84, 96, 84, 56, 30, 13,
];

/// Mean time until a leak starts.
const BETWEEN_LEAKS: i64 = 400 * DAY;

/// A meter.
#[derive(Debug)]
pub(super) struct Meter {
    key: [u64; 2],
    litres_a_day: i64,
    /// Full hours since 1970 up to which is counted, the total there, and the last 24 hours.
    hour: i64,
    total_l: i64,
    deltas: [i32; HOURS],
    leak_l_h: i64,
    leak_changes: i64,
    pressure_kpa: i64,
}

impl Meter {
    pub(super) fn new(start: i64, imei: u64, seed: u64, nature: &mut Rng, rng: &mut Rng) -> Self {
        let mut meter = Self {
            key: [seed, imei],
            litres_a_day: nature.between(120, 520),
            hour: start / HOUR - HOURS as i64,
            total_l: nature.between(20_000, 900_000),
            deltas: [0; HOURS],
            leak_l_h: 0,
            leak_changes: start + rng.wait_ms(BETWEEN_LEAKS),
            pressure_kpa: nature.between(220, 420),
        };
        meter.advance(start);
        meter
    }

    /// Litres the household draws in an hour.
    fn draws(&self, hour: i64) -> i64 {
        let [seed, imei] = self.key;
        let mut rng = Rng::new(Use::Device, &[seed, imei, hour.unsigned_abs()]);
        let mean = self.litres_a_day * CURVE.get(local_hour(hour * HOUR)).unwrap_or(&40);
        // Nobody at home, or a bath: from nothing to twice the mean. Thousandths are rounded by
        // chance, so that small hours are not always empty.
        (mean * rng.between(0, 200) / 100 + rng.between(0, 999)) / 1000
    }

    /// What the hour that is running draws in all, leak included.
    fn this_hour(&self) -> i64 {
        self.draws(self.hour) + self.leak_l_h
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
        }
    }
}

impl Model for Meter {
    fn next_event(&self) -> i64 {
        self.leak_changes
    }

    fn event(&mut self, now: i64, rng: &mut Rng) -> Option<Trigger> {
        self.advance(now);
        if self.leak_l_h > 0 {
            self.leak_l_h = 0;
            self.leak_changes = now.saturating_add(rng.wait_ms(BETWEEN_LEAKS));
            return Some(Trigger::Event);
        }
        self.leak_l_h = rng.between(3, 20);
        self.leak_changes = now + rng.between(6, 72) * HOUR;
        // It counts for the whole hour it starts in and ends with a full one: were it taken out of a
        // running hour, the total would fall.
        self.leak_changes -= self.leak_changes.rem_euclid(HOUR);
        Some(Trigger::Alarm)
    }

    #[allow(clippy::cast_precision_loss)] // litres an hour, tenths
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        self.advance(now);
        let into = now.rem_euclid(HOUR);
        let this_hour = self.this_hour();
        // Taps run in turns: half of the time the flow is the leak's alone.
        let flow = if into / (5 * 60 * SECOND) % 2 == 0 { self.leak_l_h } else { this_hour * 2 };
        // The history ends with the last full hour by the meter's clock, in whole seconds.
        let first_end = -(into / SECOND) - (HOURS as i64 - 1) * 3600;
        Body::Water(Water {
            total_l: Some(self.total_l + this_hour * into / HOUR),
            reverse_l: Some(0),
            flow_l_h: Some(flow as f64),
            pressure_kpa: Some(self.pressure_kpa - flow / 10 + rng.noise(3.0)),
            temp_c: Some((outdoor_dc(now) / 2 + 75 + rng.noise(2.0)).max(2) as f64 / 10.0),
            valve: Some(VALVE_OPEN),
            alarms: if self.leak_l_h > 0 { vec![LEAK] } else { Vec::new() },
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
        let mut meter = Meter::new(midnight, 864, 1, &mut nature, &mut rng);
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
    fn histories_that_overlap_agree_and_end_on_full_hours() {
        let start = 1_790_000_123_000_i64;
        let mut rng = Rng::new(Use::Device, &[4]);
        let mut nature = Rng::new(Use::Plan, &[4]);
        let mut meter = Meter::new(start, 864, 1, &mut nature, &mut rng);
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
