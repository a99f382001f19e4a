//! A parking space: a car comes, settles, stays, and leaves.
//!
//! How often cars come and go depends on the place, the hour and the day of the week: a kerb in the
//! old town turns over a dozen times a day, a space in an office's basement fills at eight and is
//! left at six, a resident's is taken by night. While a car stands, the magnetic field and the
//! distance above stay the same but for the sensor's noise, and its body costs the radio some
//! decibels; a state is reported three seconds after it settled.
//!
//! Leaves, skips and people see to the sensor itself: it is covered, moved, or breaks.

use loushan_schemas::reading::{Body, Parking};

use super::spell::Chance;
use super::{Model, Trigger};
use crate::city::{
    DAY, HOUR, MINUTE, SECOND, by_hour, in_service, is_weekend, next_by_hour, outdoor_dc,
};
use crate::faults::Incident;
use crate::seed::{Rng, mix};

const FREE: i32 = 1;
const OCCUPIED: i32 = 2;
const UNKNOWN: i32 = 3;

/// From a change to its report: wheels still roll, and people walk over the sensor.
const SETTLE: i64 = 3 * SECOND;
/// What a car above the sensor costs its radio.
const CAR_DB: i64 = 8;
/// So long before a run its space is lived through, so that it begins as its hour has it.
const LIVED_BEFORE: i64 = 2 * DAY;

/// What a space is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Kerb,
    Mall,
    Office,
    Housing,
    Railway,
}

/// Cars that come to a free space, and that leave an occupied one, in a thousand such hours.
struct Habit {
    come: [i64; 24],
    go: [i64; 24],
    /// On Saturdays and Sundays, percent of both.
    weekend: (i64, i64),
}

const KERB: Habit = Habit {
    come: [
        330, 200, 140, 120, 140, 250, 650, 1500, 3300, 4200, 3800, 3300, //
        3000, 2700, 3000, 3300, 3800, 5000, 4200, 3300, 2300, 1500, 850, 500,
    ],
    go: [
        300, 250, 200, 200, 250, 500, 1100, 1400, 1400, 1400, 1400, 1600, //
        1600, 1400, 1400, 1400, 1500, 1600, 1500, 1300, 1100, 900, 700, 400,
    ],
    weekend: (85, 90),
};
const MALL: Habit = Habit {
    come: [
        20, 10, 10, 10, 10, 20, 50, 150, 500, 1500, 2200, 2400, //
        2300, 2000, 2200, 2300, 2300, 2600, 2800, 2400, 1100, 300, 80, 40,
    ],
    go: [
        900, 600, 500, 500, 500, 500, 500, 500, 400, 400, 450, 550, //
        600, 600, 600, 600, 650, 600, 550, 700, 1200, 2500, 2500, 1500,
    ],
    weekend: (150, 85),
};
const OFFICE: Habit = Habit {
    come: [
        5, 5, 5, 5, 10, 40, 400, 2000, 3000, 1200, 600, 300, //
        400, 700, 500, 300, 150, 80, 60, 40, 30, 20, 10, 5,
    ],
    go: [
        300, 200, 200, 200, 200, 200, 50, 20, 20, 40, 60, 180, //
        150, 60, 60, 80, 200, 1200, 1500, 1200, 1000, 1000, 800, 500,
    ],
    weekend: (8, 100),
};
const HOUSING: Habit = Habit {
    come: [
        60, 40, 20, 15, 15, 20, 60, 100, 120, 150, 150, 250, //
        250, 200, 180, 220, 350, 800, 1100, 900, 700, 600, 400, 150,
    ],
    go: [
        15, 10, 10, 10, 30, 120, 450, 900, 700, 300, 150, 120, //
        150, 200, 150, 120, 120, 120, 120, 120, 80, 50, 30, 20,
    ],
    weekend: (90, 45),
};
const RAILWAY: Habit = Habit {
    come: [
        60, 30, 30, 40, 120, 500, 1000, 1000, 800, 600, 500, 400, //
        350, 400, 400, 400, 400, 350, 300, 250, 200, 150, 100, 80,
    ],
    go: [
        80, 50, 30, 30, 30, 40, 50, 60, 80, 100, 120, 130, //
        130, 130, 150, 180, 220, 260, 280, 300, 320, 300, 250, 150,
    ],
    weekend: (120, 110),
};

impl Place {
    const fn of(draw: u64) -> Self {
        match draw {
            0..35 => Self::Kerb,
            35..55 => Self::Mall,
            55..70 => Self::Office,
            70..92 => Self::Housing,
            _ => Self::Railway,
        }
    }

    const fn habit(self) -> &'static Habit {
        match self {
            Self::Kerb => &KERB,
            Self::Mall => &MALL,
            Self::Office => &OFFICE,
            Self::Housing => &HOUSING,
            Self::Railway => &RAILWAY,
        }
    }
}

/// What befalls a sensor: leaves or a skip on it, somebody with a lever, the end of its life.
const CAUSES: [(u64, i64, u32, (i64, i64)); 3] = [
    (10, 120 * DAY, 100_000, (HOUR, 4 * DAY)),
    (11, 400 * DAY, 60_000, (10 * MINUTE, DAY)),
    (12, 900 * DAY, 80_000, (DAY, 14 * DAY)),
];
const BEFALLS: [Incident; 3] =
    [Incident::SensorCovered, Incident::SensorTampered, Incident::SensorBroken];

/// A space and its sensor.
#[derive(Debug)]
pub(super) struct Space {
    place: Place,
    below_ground: bool,
    occupied: bool,
    since: i64,
    next_report: i64,
    change_count: i64,
    /// Of the empty space, and what the standing car adds.
    field: [i64; 3],
    car: [i64; 3],
    car_above_cm: i64,
    ceiling_cm: i64,
    drift_dc: i64,
    causes: [Chance; 3],
    /// Covered, tampered with, broken.
    befallen: [bool; 3],
    next_cause: i64,
    incidents: Vec<Incident>,
}

impl Space {
    pub(super) fn new(start: i64, key: [u64; 2], nature: &mut Rng, rng: &mut Rng) -> Self {
        let [seed, imei] = key;
        let place = Place::of(mix(&[seed, imei, 4]) % 100);
        let below = nature.below(100);
        let mut space = Self {
            place,
            below_ground: match place {
                Place::Kerb => false,
                Place::Mall => below < 80,
                Place::Office => below < 60,
                Place::Housing => below < 50,
                Place::Railway => below < 30,
            },
            occupied: false,
            since: 0,
            next_report: start - LIVED_BEFORE,
            // More than any space sees, so that a later run never begins below an earlier one.
            change_count: 0,
            field: std::array::from_fn(|_| nature.between(-420, 420)),
            car: [0; 3],
            car_above_cm: 0,
            ceiling_cm: nature.between(220, 400),
            drift_dc: nature.between(-15, 15),
            causes: CAUSES.map(|(what, span, per_million, lasts)| {
                Chance::of([seed, imei], what, span, per_million, lasts)
            }),
            befallen: [false; 3],
            next_cause: 0,
            incidents: Vec::new(),
        };
        let counted = nature.between(0, 40_000);
        while space.next_report <= start {
            space.change(space.next_report, rng);
        }
        space.change_count = counted + in_service(start) / (3 * MINUTE);
        space.look(start);
        space.incidents.clear();
        space
    }

    /// Whether it lies where radio hardly reaches.
    pub(super) const fn is_below_ground(&self) -> bool {
        self.below_ground
    }

    /// A car came, or left, and settled by `now`.
    fn change(&mut self, now: i64, rng: &mut Rng) {
        self.occupied = !self.occupied;
        self.since = now - SETTLE;
        self.change_count += 1;
        if self.occupied {
            self.car = std::array::from_fn(|_| {
                let pull = rng.between(60, 340);
                if rng.chance(500_000) { pull } else { -pull }
            });
            self.car_above_cm = rng.between(14, 34);
        } else {
            self.car = [0; 3];
        }
        let Habit { come, go, weekend } = self.place.habit();
        let (curve, weekend) = if self.occupied { (go, weekend.1) } else { (come, weekend.0) };
        let rate = |at| by_hour(curve, at) * if is_weekend(at) { weekend } else { 100 } / 100;
        // The next change cannot be reported before it settled in turn.
        self.next_report = next_by_hour(now, rng, rate) + SETTLE;
    }

    /// Looks what has befallen the sensor; whether that changed.
    fn look(&mut self, now: i64) -> bool {
        let before = self.befallen;
        self.befallen = self.causes.map(|cause| cause.at(now).is_some());
        self.next_cause = self.causes.iter().map(|c| c.change_after(now)).fold(i64::MAX, i64::min);
        let new = before.iter().zip(self.befallen).zip(BEFALLS);
        self.incidents.extend(new.filter(|((b, n), _)| !**b && *n).map(|(_, which)| which));
        before != self.befallen
    }
}

impl Model for Space {
    fn next_event(&self) -> i64 {
        self.next_report.min(self.next_cause)
    }

    fn event(&mut self, now: i64, rng: &mut Rng) -> Option<Trigger> {
        if self.next_cause <= now {
            return self.look(now).then_some(Trigger::Event);
        }
        self.change(now, rng);
        let [_, _, broken] = self.befallen;
        // A broken sensor sees no car.
        (!broken).then_some(Trigger::Event)
    }

    #[allow(clippy::cast_precision_loss)] // tenths of a degree
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        let [covered, tampered, broken] = self.befallen;
        let axis = |field: i64, car: i64, rng: &mut Rng| {
            let said = field + car + rng.between(-3, 3);
            (!broken).then_some(said)
        };
        let [x, y, z] = self.field;
        let [cx, cy, cz] = self.car;
        let above = if covered {
            2
        } else if self.occupied {
            self.car_above_cm
        } else {
            self.ceiling_cm
        };
        // A basement follows the street's temperature slowly and by a quarter.
        let around_dc = outdoor_dc(now);
        let around_dc = if self.below_ground { 155 + (around_dc - 155) / 4 } else { around_dc };
        Body::Parking(Parking {
            state: Some(match (broken, self.occupied) {
                (true, _) => UNKNOWN,
                (_, true) => OCCUPIED,
                (_, false) => FREE,
            }),
            state_age_s: Some((now - self.since).max(0) / SECOND),
            mag_x_raw: axis(x, cx, rng),
            mag_y_raw: axis(y, cy, rng),
            mag_z_raw: axis(z, cz, rng),
            radar_cm: (!broken).then_some(above + rng.between(-1, 1)),
            change_count: Some(self.change_count),
            temp_c: Some((around_dc + self.drift_dc + rng.noise(3.0)) as f64 / 10.0),
            covered: Some(covered),
            tamper: Some(tampered),
            fault: Some(broken),
        })
    }

    fn natural_period(&self) -> i64 {
        30 * MINUTE
    }

    fn incident(&mut self) -> Option<Incident> {
        self.incidents.pop()
    }

    fn shadow_db(&self) -> i64 {
        if self.occupied { CAR_DB } else { 0 }
    }
}

#[cfg(test)]
mod tests;
