//! A parking space: a car comes, settles, stays, and leaves.
//!
//! Waits between cars follow a day curve (busy from eight to twenty, nearly nothing at three), stays
//! are exponential with a mean of the place's own. While a car stands, the magnetic field and the
//! distance above stay the same but for the sensor's noise; a state is reported three seconds after
//! it settled.

use loushan_schemas::reading::{Body, Parking};

use super::{Model, Trigger};
use crate::city::{HOUR, MINUTE, SECOND, by_hour, in_service, outdoor_dc};
use crate::seed::Rng;

const FREE: i32 = 1;
const OCCUPIED: i32 = 2;

/// From a change to its report: wheels still roll, and people walk over the sensor.
const SETTLE: i64 = 3 * SECOND;

/// Mean minutes a free space waits for a car, by hour of day.
const WAIT_MIN: [i64; 24] = [
    180, 300, 420, 480, 420, 240, 90, 40, 18, 14, 16, 18, //
    20, 22, 20, 18, 16, 12, 14, 18, 26, 40, 70, 120,
];

/// A space and its sensor.
#[derive(Debug)]
pub(super) struct Space {
    occupied: bool,
    since: i64,
    next_report: i64,
    mean_stay: i64,
    change_count: i64,
    /// Of the empty space, and what the standing car adds.
    field: [i64; 3],
    car: [i64; 3],
    car_above_cm: i64,
    ceiling_cm: i64,
    drift_dc: i64,
}

impl Space {
    pub(super) fn new(start: i64, nature: &mut Rng, rng: &mut Rng) -> Self {
        let mean_stay = nature.between(25, 240) * MINUTE;
        let mut space = Self {
            occupied: rng.chance(600_000),
            since: start - rng.wait_ms(HOUR),
            next_report: 0,
            mean_stay,
            // More than any space sees, so that a later run never begins below an earlier one.
            change_count: nature.between(0, 40_000) + in_service(start) / MINUTE,
            field: std::array::from_fn(|_| nature.between(-420, 420)),
            car: [0; 3],
            car_above_cm: 0,
            ceiling_cm: nature.between(220, 400),
            drift_dc: nature.between(-15, 15),
        };
        space.settle(rng);
        space.next_report = start + space.wait(start, rng) + SETTLE;
        space
    }

    /// How long the present state lasts from `now` on.
    fn wait(&self, now: i64, rng: &mut Rng) -> i64 {
        rng.wait_ms(if self.occupied { self.mean_stay } else { by_hour(&WAIT_MIN, now) * MINUTE })
    }

    fn settle(&mut self, rng: &mut Rng) {
        if self.occupied {
            self.car = std::array::from_fn(|_| {
                let pull = rng.between(60, 340);
                if rng.chance(500_000) { pull } else { -pull }
            });
            self.car_above_cm = rng.between(14, 34);
        } else {
            self.car = [0; 3];
        }
    }
}

impl Model for Space {
    fn next_event(&self) -> i64 {
        self.next_report
    }

    fn event(&mut self, now: i64, rng: &mut Rng) -> Option<Trigger> {
        self.occupied = !self.occupied;
        self.since = now - SETTLE;
        self.change_count += 1;
        self.settle(rng);
        // The next change cannot be reported before it settled in turn.
        self.next_report = now + self.wait(now, rng) + SETTLE;
        Some(Trigger::Event)
    }

    #[allow(clippy::cast_precision_loss)] // tenths of a degree
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        let axis = |field: i64, car: i64, rng: &mut Rng| Some(field + car + rng.between(-3, 3));
        let [x, y, z] = self.field;
        let [cx, cy, cz] = self.car;
        let above = if self.occupied { self.car_above_cm } else { self.ceiling_cm };
        Body::Parking(Parking {
            state: Some(if self.occupied { OCCUPIED } else { FREE }),
            state_age_s: Some((now - self.since).max(0) / SECOND),
            mag_x_raw: axis(x, cx, rng),
            mag_y_raw: axis(y, cy, rng),
            mag_z_raw: axis(z, cz, rng),
            radar_cm: Some(above + rng.between(-1, 1)),
            change_count: Some(self.change_count),
            temp_c: Some((outdoor_dc(now) + self.drift_dc + rng.noise(3.0)) as f64 / 10.0),
            covered: Some(false),
            tamper: Some(false),
            fault: Some(false),
        })
    }

    fn natural_period(&self) -> i64 {
        30 * MINUTE
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::seed::Use;

    #[test]
    fn a_parked_car_stays_where_it_is_until_it_leaves() {
        let start = 1_790_000_000_000;
        let mut rng = Rng::new(Use::Device, &[5]);
        let mut space = Space::new(start, &mut rng.clone(), &mut rng);
        let mut now = start;
        for _ in 0..200 {
            let change = space.next_event();
            assert!(change > now);
            let mut seen: Option<Parking> = None;
            while now + MINUTE < change {
                now += MINUTE;
                let Body::Parking(p) = space.sample(now, &mut rng) else { panic!("parking") };
                if let Some(before) = seen {
                    assert_eq!(before.state, p.state);
                    assert!(p.state_age_s > before.state_age_s);
                    assert!((p.mag_x_raw.unwrap() - before.mag_x_raw.unwrap()).abs() <= 6);
                    assert!((p.radar_cm.unwrap() - before.radar_cm.unwrap()).abs() <= 2);
                }
                seen = Some(p);
            }
            now = change;
            let was = space.occupied;
            assert_eq!(space.event(now, &mut rng), Some(Trigger::Event));
            assert_ne!(space.occupied, was);
            let Body::Parking(p) = space.sample(now, &mut rng) else { panic!("parking") };
            assert_eq!(p.state_age_s, Some(3), "a change is reported when it settled");
        }
    }
}
