//! A lift: trips, with the peaks of its house, doors that wear, and visits of the mechanic.
//!
//! The car goes through *idle*, *moving*, *door opening, open, closing* and is idle again. What it
//! does between two reports is lived through, so that trips and door cycles count what happened.
//! Housing sends its people down in the morning and takes them up in the evening, an office the other
//! way round, a hospital is busy all day. The longer ago the mechanic was there, the slower the doors
//! and the rougher the ride, and the likelier a door that jams, or a stop between two floors with
//! somebody inside.

use loushan_schemas::reading::{Body, Elevator};

use super::{Model, NEVER, Trigger};
use crate::city::{
    DAY, HOUR, MINUTE, SECOND, by_hour, day_start, in_service, is_weekend, local_hour, next_by_hour,
};
use crate::faults::Incident;
use crate::seed::{Rng, mix};

const MODE_NORMAL: i32 = 1;
const MODE_INSPECTION: i32 = 7;
const MODE_OUT_OF_SERVICE: i32 = 10;
const STOPPED: i32 = 1;
const UP: i32 = 2;
const DOWN: i32 = 3;
const CLOSED: i32 = 1;
const OPENING: i32 = 2;
const OPEN: i32 = 3;
const CLOSING: i32 = 4;
const LIMITED_OPENED: i32 = 6;
const DOOR_CLOSING: i32 = 7;
const STOPPED_OUTSIDE_LANDING_ZONE: i32 = 9;

/// Mean time between two entrapments, and two jams, of a lift that is due for its mechanic.
const BETWEEN_ENTRAPMENTS: i64 = 60 * DAY;
const BETWEEN_JAMS: i64 = 45 * DAY;
/// The mechanic comes twice a month (TSG T5001), and stays so long.
const BETWEEN_VISITS: i64 = 15 * DAY;
const VISIT: i64 = 40 * MINUTE;
/// A floor's height.
const FLOOR_MM: i64 = 3000;
/// How long maintained doors take to open or close.
const DOOR_MOVES: i64 = 2 * SECOND;
/// How fast the motor's temperature follows what it does, and how far it gets if it always runs.
const MOTOR_MS: f64 = (20 * MINUTE) as f64;
const MOTOR_DC: f64 = 450.0;
/// The machine room, and a motor at rest in it, tenths of a degree.
const ROOM_DC: f64 = 280.0;

/// What a house is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum House {
    Homes,
    Office,
    Hospital,
}

/// Mean seconds the car waits for its next passenger, by hour of day.
const HOMES_S: [i64; 24] = [
    900, 1500, 2400, 2400, 1800, 700, 120, 40, 45, 80, 100, 70, //
    60, 80, 100, 100, 80, 45, 35, 45, 60, 90, 180, 400,
];
const OFFICE_S: [i64; 24] = [
    7200, 7200, 7200, 7200, 7200, 3600, 400, 60, 25, 60, 80, 45, //
    40, 45, 80, 80, 70, 30, 45, 150, 400, 900, 2400, 7200,
];
const HOSPITAL_S: [i64; 24] = [
    240, 300, 360, 360, 300, 180, 70, 35, 25, 25, 25, 30, //
    45, 35, 25, 25, 30, 35, 45, 60, 70, 90, 150, 200,
];

impl House {
    const fn of(draw: u64) -> Self {
        match draw {
            0..60 => Self::Homes,
            60..85 => Self::Office,
            _ => Self::Hospital,
        }
    }

    /// Passengers in a thousand hours like the one of a moment.
    fn rate(self, at: i64) -> i64 {
        let (idle_s, weekend_pct) = match self {
            Self::Homes => (&HOMES_S, 90),
            Self::Office => (&OFFICE_S, 8),
            Self::Hospital => (&HOSPITAL_S, 60),
        };
        let pct = if is_weekend(at) { weekend_pct } else { 100 };
        36_000 * pct / by_hour(idle_s, at).max(1)
    }

    /// Of a hundred passengers: how many go from a floor down to the street, and how many from the
    /// street up; the rest go from floor to floor.
    const fn streams(self, hour: usize) -> (u64, u64) {
        match (self, hour) {
            (Self::Homes, 6..=9) => (82, 12),
            (Self::Homes, 17..=20) => (14, 82),
            (Self::Homes, _) => (45, 48),
            (Self::Office, 7..=9) => (4, 88),
            (Self::Office, 11..=12) => (60, 18),
            (Self::Office, 13) => (15, 62),
            (Self::Office, 17..=19) => (86, 5),
            (Self::Office, _) => (30, 30),
            (Self::Hospital, _) => (30, 32),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Moving { to: i64 },
    Opening,
    Open,
    Closing,
    Trapped,
    Jammed,
    Inspected,
}

/// A car in its shaft.
#[derive(Debug)]
pub(super) struct Lift {
    house: House,
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
    /// Above its room, tenths of a degree, at a moment.
    motor_dc: f64,
    motor_at: i64,
    visit_phase: i64,
    /// How rough this lift gets from one visit to the next.
    roughness: i64,
    next_visit: i64,
    next_entrapment: i64,
    next_jam: i64,
    stopped_until: i64,
    incident: Option<Incident>,
}

impl Lift {
    pub(super) fn new(start: i64, key: [u64; 2], nature: &mut Rng, rng: &mut Rng) -> Self {
        let floors = nature.between(6, 32);
        // Busier than any lift was, so that a later run never begins below an earlier one.
        let trips = nature.between(10_000, 900_000) + in_service(start) / (15 * SECOND);
        let [seed, imei] = key;
        // By day, on a day of its own.
        let visit_phase = day_start(nature.between(0, 14)) + nature.between(9, 16) * HOUR;
        let mut lift = Self {
            house: House::of(mix(&[seed, imei, 5]) % 100),
            phase: Phase::Idle,
            since: start,
            until: start + rng.wait_ms(MINUTE),
            floor: 1,
            floors,
            speed_mm_s: if floors > 15 { 2500 } else { 1600 },
            load_pct: 0,
            bound_for: None,
            trips,
            door_cycles: trips * 22 / 10,
            run_ms: trips * 14 * SECOND,
            motor_dc: 50.0,
            motor_at: start,
            visit_phase,
            roughness: nature.between(4, 24),
            next_visit: 0,
            next_entrapment: NEVER,
            next_jam: NEVER,
            stopped_until: NEVER,
            incident: None,
        };
        lift.next_visit = start + BETWEEN_VISITS - lift.since_visit(start);
        lift.next_entrapment = lift.mishap(start, BETWEEN_ENTRAPMENTS, rng);
        lift.next_jam = lift.mishap(start, BETWEEN_JAMS, rng);
        lift
    }

    /// How long ago the mechanic came.
    const fn since_visit(&self, now: i64) -> i64 {
        (now - self.visit_phase).rem_euclid(BETWEEN_VISITS)
    }

    /// How worn it is, from 0 after a visit to 100 before the next.
    const fn wear_pct(&self, now: i64) -> i64 {
        self.since_visit(now) * 100 / BETWEEN_VISITS
    }

    /// When something that comes by chance comes next: with the mean `between` when the mechanic is
    /// due, seldomer before, and not at all right after him.
    fn mishap(&self, now: i64, between: i64, rng: &mut Rng) -> i64 {
        let mut at = now;
        loop {
            at += rng.wait_ms(between).max(HOUR);
            if rng.between(0, 99) < self.wear_pct(at) {
                return at;
            }
        }
    }

    fn door_moves(&self, now: i64) -> i64 {
        // Grease and dirt: up to a second and a half more.
        DOOR_MOVES + self.wear_pct(now) * self.roughness * 5 / 8
    }

    /// Lives through everything up to `now`.
    fn advance(&mut self, now: i64, rng: &mut Rng) {
        while self.until <= now {
            let at = self.until;
            self.since = at;
            match self.phase {
                Phase::Idle => {
                    let (call, to) = self.passenger(at, rng);
                    self.bound_for = Some(to);
                    self.go(at, call);
                }
                Phase::Moving { to } => {
                    self.motor_dc = self.motor(at);
                    self.motor_at = at;
                    self.floor = to;
                    self.enter(Phase::Opening, at + self.door_moves(at));
                }
                Phase::Opening => {
                    self.door_cycles += 1;
                    self.enter(Phase::Open, at + rng.between(4, 11) * SECOND);
                }
                Phase::Open => {
                    self.load_pct =
                        if self.bound_for.is_some() { rng.between(1, 9) * 8 } else { 0 };
                    self.enter(Phase::Closing, at + self.door_moves(at));
                }
                // Somebody's foot, or a rail that is worn: they open once more.
                Phase::Closing if rng.below(1000) < 15 + self.wear_pct(at).unsigned_abs() / 2 => {
                    self.enter(Phase::Opening, at + self.door_moves(at));
                }
                Phase::Closing => match self.bound_for.take() {
                    Some(to) => self.go(at, to),
                    None => {
                        let house = self.house;
                        let call = next_by_hour(at, rng, |at| house.rate(at));
                        self.enter(Phase::Idle, call);
                    }
                },
                // These end by their event, not by themselves.
                Phase::Trapped | Phase::Jammed | Phase::Inspected => self.until = NEVER,
            }
        }
    }

    const fn enter(&mut self, phase: Phase, until: i64) {
        self.phase = phase;
        self.until = until;
    }

    /// Sets off for a floor; the floor it stands at needs the doors only.
    fn go(&mut self, at: i64, to: i64) {
        if to == self.floor {
            return self.enter(Phase::Opening, at + self.door_moves(at));
        }
        self.motor_dc = self.motor(at);
        self.motor_at = at;
        self.trips += 1;
        // Two seconds for starting and stopping.
        let takes = (to - self.floor).abs() * FLOOR_MM * SECOND / self.speed_mm_s + 2 * SECOND;
        self.run_ms += takes;
        self.enter(Phase::Moving { to }, at + takes);
    }

    /// The next passenger: where from and where to.
    fn passenger(&self, at: i64, rng: &mut Rng) -> (i64, i64) {
        let (down, up) = self.house.streams(local_hour(at));
        let draw = rng.below(100);
        let above = rng.between(2, self.floors);
        if draw < down {
            (above, 1)
        } else if draw < down + up {
            (1, above)
        } else {
            let other = rng.between(2, self.floors - 1);
            (above, if other >= above { other + 1 } else { other })
        }
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

    /// The motor's temperature above its room's: towards its limit while it runs, towards none while
    /// it stands.
    #[allow(clippy::cast_precision_loss)] // minutes in ms
    fn motor(&self, now: i64) -> f64 {
        let goal = if matches!(self.phase, Phase::Moving { .. }) { MOTOR_DC } else { 0.0 };
        let passed = (now - self.motor_at).max(0) as f64;
        goal + (self.motor_dc - goal) * libm::exp(-passed / MOTOR_MS)
    }

    /// It stops until somebody has seen to it.
    fn stop(&mut self, now: i64, phase: Phase, lasts: i64, incident: Incident) {
        self.motor_dc = self.motor(now);
        self.motor_at = now;
        self.floor = self.position(now);
        self.since = now;
        self.bound_for = None;
        self.stopped_until = now + lasts;
        self.enter(phase, NEVER);
        self.incident = Some(incident);
    }

    const fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Trapped | Phase::Jammed | Phase::Inspected)
    }

    fn visit(&mut self, now: i64) -> Option<Trigger> {
        // He waits until the car stands empty.
        if matches!(self.phase, Phase::Moving { .. }) || self.bound_for.is_some() {
            self.next_visit = now + 10 * SECOND;
            return None;
        }
        self.load_pct = 0;
        self.stop(now, Phase::Inspected, VISIT, Incident::LiftMaintained);
        self.next_visit = now + BETWEEN_VISITS - self.since_visit(now);
        Some(Trigger::Event)
    }

    fn jam(&mut self, now: i64, rng: &mut Rng) -> Option<Trigger> {
        if !matches!(self.phase, Phase::Closing) {
            // Doors jam while they close: wait for that.
            self.next_jam = now + rng.between(500, 4000);
            return None;
        }
        self.next_jam = self.mishap(now, BETWEEN_JAMS, rng);
        self.load_pct = 0;
        self.stop(now, Phase::Jammed, rng.between(20, 120) * MINUTE, Incident::DoorJammed);
        Some(Trigger::Alarm)
    }

    fn entrap(&mut self, now: i64, rng: &mut Rng) -> Option<Trigger> {
        if !matches!(self.phase, Phase::Moving { .. }) || self.load_pct == 0 {
            // It takes a moving car with somebody in it: wait for one.
            self.next_entrapment = now + rng.between(2, 20) * SECOND;
            return None;
        }
        self.next_entrapment = self.mishap(now, BETWEEN_ENTRAPMENTS, rng);
        self.stop(now, Phase::Trapped, rng.between(8, 45) * MINUTE, Incident::Entrapment);
        Some(Trigger::Alarm)
    }
}

impl Model for Lift {
    fn next_event(&self) -> i64 {
        let chance = self.next_entrapment.min(self.next_jam);
        chance.min(self.next_visit).min(self.stopped_until)
    }

    fn event(&mut self, now: i64, rng: &mut Rng) -> Option<Trigger> {
        if self.stopped_until <= now {
            self.stopped_until = NEVER;
            self.load_pct = 0;
            self.since = now;
            self.enter(Phase::Opening, now + self.door_moves(now));
            return Some(Trigger::Event);
        }
        if self.is_stopped() {
            // One thing after the other.
            for next in [&mut self.next_visit, &mut self.next_jam, &mut self.next_entrapment] {
                *next = (*next).max(self.stopped_until + MINUTE);
            }
            return None;
        }
        self.advance(now, rng);
        if self.next_visit <= now {
            return self.visit(now);
        }
        if self.next_jam <= now { self.jam(now, rng) } else { self.entrap(now, rng) }
    }

    #[allow(clippy::cast_precision_loss)] // mm/s, percent and tenths
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body {
        self.advance(now, rng);
        let (mode, faults) = match self.phase {
            Phase::Trapped => (MODE_OUT_OF_SERVICE, vec![STOPPED_OUTSIDE_LANDING_ZONE]),
            Phase::Jammed => (MODE_OUT_OF_SERVICE, vec![DOOR_CLOSING]),
            Phase::Inspected => (MODE_INSPECTION, Vec::new()),
            _ => (MODE_NORMAL, Vec::new()),
        };
        let trapped = self.phase == Phase::Trapped;
        let (direction, speed) = match self.phase {
            Phase::Moving { to } if to > self.floor => (UP, self.speed_mm_s),
            Phase::Moving { .. } => (DOWN, -self.speed_mm_s),
            _ => (STOPPED, 0),
        };
        let moving = speed != 0;
        let rough = self.wear_pct(now) * self.roughness / 100 + self.trips / 200_000;
        let vibration = if moving { rng.between(8, 20) + rough } else { rng.between(0, 2) };
        Body::Elevator(Elevator {
            mode: Some(mode),
            direction: Some(direction),
            floor: Some(self.position(now)),
            door: Some(match self.phase {
                Phase::Opening => OPENING,
                Phase::Open => OPEN,
                Phase::Closing => CLOSING,
                Phase::Jammed => LIMITED_OPENED,
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
            faults,
            motor_temp_c: Some(libm::round(ROOM_DC + self.motor(now) + rng.normal() * 5.0) / 10.0),
            entrapment: Some(trapped),
        })
    }

    fn natural_period(&self) -> i64 {
        MINUTE
    }

    fn incident(&mut self) -> Option<Incident> {
        self.incident.take()
    }
}

#[cfg(test)]
mod tests;
