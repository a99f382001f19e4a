//! A lift: trips, with an up peak in the morning, a down peak in the evening, and quiet nights.
//!
//! The car goes through *idle*, *moving*, *door opening, open, closing* and is idle again. What it
//! does between two reports is lived through, so that trips and door cycles count what happened.
//! Rarely it stops between two floors with somebody inside.

use loushan_schemas::reading::{Body, Elevator};

use super::{Model, NEVER, Trigger};
use crate::city::{DAY, HOUR, MINUTE, SECOND, by_hour, in_service, local_hour};
use crate::seed::Rng;

const MODE_NORMAL: i32 = 1;
const MODE_OUT_OF_SERVICE: i32 = 10;
const STOPPED: i32 = 1;
const UP: i32 = 2;
const DOWN: i32 = 3;
const CLOSED: i32 = 1;
const OPENING: i32 = 2;
const OPEN: i32 = 3;
const CLOSING: i32 = 4;
const STOPPED_OUTSIDE_LANDING_ZONE: i32 = 9;

/// Mean seconds the car waits for its next passenger, by hour of day.
const IDLE_S: [i64; 24] = [
    900, 1500, 2400, 2400, 1800, 700, 120, 40, 30, 60, 90, 70, //
    50, 70, 90, 90, 70, 40, 30, 40, 60, 90, 180, 400,
];

/// Mean time between two entrapments of one lift.
const BETWEEN_ENTRAPMENTS: i64 = 90 * DAY;
/// A floor's height.
const FLOOR_MM: i64 = 3000;
/// How long doors take to open or close.
const DOOR_MOVES: i64 = 2 * SECOND;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Moving { to: i64 },
    Opening,
    Open,
    Closing,
    Trapped,
}

/// A car in its shaft.
#[derive(Debug)]
pub(super) struct Lift {
    phase: Phase,
    since: i64,
    until: i64,
    floor: i64,
    floors: i64,
    speed_mm_s: i64,
    load_pct: i64,
    /// After the doors close: whether somebody got in, and where to.
    bound_for: Option<i64>,
    trips: i64,
    door_cycles: i64,
    run_ms: i64,
    next_entrapment: i64,
    entrapped_until: i64,
}

impl Lift {
    pub(super) fn new(start: i64, nature: &mut Rng, rng: &mut Rng) -> Self {
        let floors = nature.between(6, 32);
        // Busier than any lift was, so that a later run never begins below an earlier one.
        let trips = nature.between(10_000, 900_000) + in_service(start) / (15 * SECOND);
        Self {
            phase: Phase::Idle,
            since: start,
            until: start + rng.wait_ms(MINUTE),
            floor: 1,
            floors,
            speed_mm_s: if floors > 15 { 2500 } else { 1600 },
            load_pct: 0,
            bound_for: None,
            trips,
            door_cycles: trips * 21 / 10,
            run_ms: trips * 14 * SECOND,
            next_entrapment: start + rng.wait_ms(BETWEEN_ENTRAPMENTS),
            entrapped_until: NEVER,
        }
    }

    /// Lives through everything up to `now`.
    fn advance(&mut self, now: i64, rng: &mut Rng) {
        while self.until <= now {
            let at = self.until;
            self.since = at;
            match self.phase {
                Phase::Idle => {
                    let call = self.call(at, rng);
                    self.bound_for = Some(self.destination(at, call, rng));
                    self.go(at, call);
                }
                Phase::Moving { to } => {
                    self.floor = to;
                    self.enter(Phase::Opening, at + DOOR_MOVES);
                }
                Phase::Opening => {
                    self.door_cycles += 1;
                    self.enter(Phase::Open, at + rng.between(4, 11) * SECOND);
                }
                Phase::Open => {
                    self.load_pct = if self.bound_for.is_some() { rng.between(5, 70) } else { 0 };
                    self.enter(Phase::Closing, at + DOOR_MOVES);
                }
                Phase::Closing => match self.bound_for.take() {
                    Some(to) => self.go(at, to),
                    None => {
                        let idle = rng.wait_ms(by_hour(&IDLE_S, at) * SECOND);
                        self.enter(Phase::Idle, at + idle);
                    }
                },
                // Ends by its event, not by itself.
                Phase::Trapped => self.until = NEVER,
            }
        }
    }

    fn enter(&mut self, phase: Phase, until: i64) {
        self.phase = phase;
        self.until = until;
    }

    /// Sets off for a floor; the floor it stands at needs the doors only.
    fn go(&mut self, at: i64, to: i64) {
        if to == self.floor {
            return self.enter(Phase::Opening, at + DOOR_MOVES);
        }
        self.trips += 1;
        // Two seconds for starting and stopping.
        let takes = (to - self.floor).abs() * FLOOR_MM * SECOND / self.speed_mm_s + 2 * SECOND;
        self.run_ms += takes;
        self.enter(Phase::Moving { to }, at + takes);
    }

    /// Where somebody calls the car.
    fn call(&self, at: i64, rng: &mut Rng) -> i64 {
        match local_hour(at) {
            // People leave in the morning and come home in the evening.
            6..=8 if rng.chance(800_000) => rng.between(2, self.floors),
            17..=19 if rng.chance(800_000) => 1,
            _ => rng.between(1, self.floors),
        }
    }

    fn destination(&self, at: i64, from: i64, rng: &mut Rng) -> i64 {
        let to = match local_hour(at) {
            6..=8 if from != 1 => 1,
            _ => rng.between(1, self.floors),
        };
        if to == from { if from == 1 { self.floors } else { 1 } } else { to }
    }

    /// The floor the car stands at, or passed last.
    fn position(&self, now: i64) -> i64 {
        match self.phase {
            Phase::Moving { to } => {
                let all = (self.until - self.since).max(1);
                self.floor + (to - self.floor) * (now - self.since).clamp(0, all) / all
            }
            _ => self.floor,
        }
    }
}

impl Model for Lift {
    fn next_event(&self) -> i64 {
        self.next_entrapment.min(self.entrapped_until)
    }

    fn event(&mut self, now: i64, rng: &mut Rng) -> Option<Trigger> {
        if self.entrapped_until <= now {
            self.entrapped_until = NEVER;
            self.load_pct = 0;
            self.since = now;
            self.enter(Phase::Opening, now + DOOR_MOVES);
            return Some(Trigger::Event);
        }
        self.advance(now, rng);
        if !matches!(self.phase, Phase::Moving { .. }) || self.load_pct == 0 {
            // It takes a moving car with somebody in it: wait for one.
            self.next_entrapment = now + rng.between(2, 20) * SECOND;
            return None;
        }
        self.floor = self.position(now);
        self.next_entrapment = now + rng.wait_ms(BETWEEN_ENTRAPMENTS).max(HOUR);
        self.entrapped_until = now + rng.between(8, 45) * MINUTE;
        self.since = now;
        self.bound_for = None;
        self.enter(Phase::Trapped, NEVER);
        Some(Trigger::Alarm)
    }

    #[allow(clippy::cast_precision_loss)] // mm/s, percent and tenths
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        self.advance(now, rng);
        let trapped = self.phase == Phase::Trapped;
        let (direction, speed) = match self.phase {
            Phase::Moving { to } if to > self.floor => (UP, self.speed_mm_s),
            Phase::Moving { .. } => (DOWN, -self.speed_mm_s),
            _ => (STOPPED, 0),
        };
        let moving = speed != 0;
        let vibration = if moving { rng.between(8, 30) } else { rng.between(0, 2) };
        let motor_dc = if moving { 420 } else { 330 } + rng.noise(15.0);
        Body::Elevator(Elevator {
            mode: Some(if trapped { MODE_OUT_OF_SERVICE } else { MODE_NORMAL }),
            direction: Some(direction),
            floor: Some(self.position(now)),
            door: Some(match self.phase {
                Phase::Opening => OPENING,
                Phase::Open => OPEN,
                Phase::Closing => CLOSING,
                _ => CLOSED,
            }),
            speed_m_s: Some(speed as f64 / 1000.0),
            load_pct: Some(self.load_pct as f64),
            occupied: Some(self.load_pct > 0),
            door_zone: Some(!moving && !trapped),
            vibration_mg: Some(vibration),
            trips: Some(self.trips),
            door_cycles: Some(self.door_cycles),
            run_hours: Some(self.run_ms / HOUR),
            faults: if trapped { vec![STOPPED_OUTSIDE_LANDING_ZONE] } else { Vec::new() },
            motor_temp_c: Some(motor_dc as f64 / 10.0),
            entrapment: Some(trapped),
        })
    }

    fn natural_period(&self) -> i64 {
        MINUTE
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::city::{day_start, local_day};
    use crate::seed::Use;

    fn lift(start: i64, rng: &mut Rng) -> Lift {
        Lift::new(start, &mut Rng::new(Use::Plan, &[2]), rng)
    }

    fn sample(lift: &mut Lift, now: i64, rng: &mut Rng) -> Elevator {
        match lift.sample(now, rng) {
            Body::Elevator(e) => e,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_moving_lift_has_its_doors_closed_and_its_counters_only_grow() {
        let start = day_start(local_day(1_790_000_000_000)) + 7 * HOUR;
        let mut rng = Rng::new(Use::Device, &[3]);
        let mut lift = lift(start, &mut rng);
        let mut last = sample(&mut lift, start, &mut rng);
        let mut moved = 0;
        for second in 1..4000 {
            let now = start + second * SECOND;
            let e = sample(&mut lift, now, &mut rng);
            if e.speed_m_s != Some(0.0) {
                moved += 1;
                assert_eq!((e.door, e.door_zone), (Some(CLOSED), Some(false)));
            }
            assert!((1..=lift.floors).contains(&e.floor.unwrap()));
            assert!((e.floor.unwrap() - last.floor.unwrap()).abs() <= 2, "it does not jump");
            assert!(e.trips >= last.trips && e.door_cycles >= last.door_cycles);
            last = e;
        }
        assert!(moved > 200, "moved {moved} of 4000 s in the morning peak");
    }

    #[test]
    fn mornings_see_more_trips_than_nights() {
        let midnight = day_start(local_day(1_790_000_000_000));
        let trips = |from: i64| {
            let mut rng = Rng::new(Use::Device, &[6]);
            let mut lift = lift(from, &mut rng);
            let before = lift.trips;
            sample(&mut lift, from + 2 * HOUR, &mut rng).trips.unwrap() - before
        };
        assert!(trips(midnight + 7 * HOUR) > 4 * trips(midnight + 2 * HOUR));
    }

    #[test]
    fn an_entrapment_ends_with_the_doors_opened() {
        let mut rng = Rng::new(Use::Device, &[3]);
        let mut lift = lift(1_790_000_000_000, &mut rng);
        let trapped_at = loop {
            let now = lift.next_event();
            if lift.event(now, &mut rng) == Some(Trigger::Alarm) {
                break now;
            }
        };
        let e = sample(&mut lift, trapped_at + MINUTE, &mut rng);
        assert_eq!((e.entrapment, e.occupied, e.door_zone), (Some(true), Some(true), Some(false)));
        let freed_at = lift.next_event();
        assert!(freed_at < trapped_at + HOUR);
        assert_eq!(lift.event(freed_at, &mut rng), Some(Trigger::Event));
        let e = sample(&mut lift, freed_at, &mut rng);
        assert_eq!((e.entrapment, e.door), (Some(false), Some(OPENING)));
    }
}
