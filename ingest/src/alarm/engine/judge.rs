//! What one reading says about each rule: that it holds, that it does not, or nothing.
//!
//! A rule may hold for two *causes*: the device says so (a flag, a state), or its figures do. Each has
//! its own word, and the rule holds while one of them does. Between the thresholds of setting and
//! clearing a figure says nothing; so does one that is absent, or that is impossible ([`Field::hard`]).
//!
//! [`Field::hard`]: loushan_schemas::field::Field::hard

use std::time::Duration;

use loushan_schemas::field::Field;
use loushan_schemas::pb;
use loushan_schemas::reading::{
    Body, Common, Elevator, Parking, Reading, Smoke, StreetLight, Water,
};

use crate::alarm::config::Thresholds;
use crate::alarm::rule::Rule;

/// The device says so.
pub(crate) const SAID: u8 = 1;
/// Its figures say so.
pub(crate) const MEASURED: u8 = 2;

/// Hourly intervals that must all have flow to be a leak.
const LEAK_HOURS: usize = 24;
/// Their length.
const HOUR_S: i64 = 3600;

/// What is said of a cause of a rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Word {
    /// It holds, and is an alarm when it has for so long.
    Holds {
        /// How long.
        after: Duration,
        /// What was seen.
        why: String,
    },
    /// It does not.
    HoldsNot,
}

/// What is said of one cause.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) rule: Rule,
    pub(crate) cause: u8,
    pub(crate) word: Word,
}

/// Gathers verdicts.
#[derive(Debug, Default)]
struct Words(Vec<Verdict>);

impl Words {
    fn say(&mut self, rule: Rule, cause: u8, holds: Option<bool>, why: impl FnOnce() -> String) {
        self.say_after(rule, cause, holds, Duration::ZERO, why);
    }

    fn say_after(
        &mut self,
        rule: Rule,
        cause: u8,
        holds: Option<bool>,
        after: Duration,
        why: impl FnOnce() -> String,
    ) {
        let word = match holds {
            None => return,
            Some(true) => Word::Holds { after, why: why() },
            Some(false) => Word::HoldsNot,
        };
        self.0.push(Verdict { rule, cause, word });
    }
}

/// What a reading of a device says. `reverse_l` is what its meter had counted backwards before.
pub(crate) fn judge(
    reading: &Reading,
    limits: &Thresholds,
    reverse_l: Option<i64>,
) -> Vec<Verdict> {
    let mut words = Words::default();
    battery(&reading.common, limits, &mut words);
    match &reading.body {
        Body::Parking(body) => parking(body, &mut words),
        Body::StreetLight(body) => street_light(body, limits, &mut words),
        Body::Smoke(body) => smoke(body, &mut words),
        Body::Elevator(body) => elevator(body, limits, &mut words),
        Body::Water(body) => water(body, limits, reverse_l, &mut words),
        Body::StationStatus(_) => {}
    }
    words.0
}

/// A figure, where it is possible at all.
fn possible(fields: &[Field], name: &str, value: Option<f64>) -> Option<f64> {
    let hard = fields.iter().find(|field| field.name == name).and_then(|field| field.hard);
    value.filter(|value| hard.is_none_or(|hard| (hard.low..=hard.high).contains(value)))
}

/// Above `set` it holds, up to `clear` it does not.
fn above(value: f64, (set, clear): (f64, f64)) -> Option<bool> {
    match value {
        value if value > set => Some(true),
        value if value <= clear => Some(false),
        _ => None,
    }
}

/// Below `set` it holds, from `clear` on it does not.
fn below(value: f64, (set, clear): (f64, f64)) -> Option<bool> {
    match value {
        value if value < set => Some(true),
        value if value >= clear => Some(false),
        _ => None,
    }
}

fn battery(common: &Common, limits: &Thresholds, words: &mut Words) {
    if let Some(pct) = possible(Common::FIELDS, "battery_pct", common.battery_pct) {
        let low = below(pct, limits.battery_pct);
        words.say(Rule::LowBattery, MEASURED, low, || format!("battery at {pct} %"));
    }
}

fn parking(parking: &Parking, words: &mut Words) {
    words.say(Rule::Tamper, SAID, parking.tamper, || "the sensor was moved or opened".into());
    words.say(Rule::Covered, SAID, parking.covered, || "something lies on the sensor".into());
}

fn street_light(light: &StreetLight, limits: &Thresholds, words: &mut Words) {
    use pb::street_light::Fault;
    let broken = light.faults.iter().any(|f| [Fault::Lamp as i32, Fault::Gear as i32].contains(f));
    words.say(Rule::LampFailure, SAID, Some(broken), || "lamp or gear reports a fault".into());
    let power = possible(StreetLight::FIELDS, "power_w", light.power_w);
    if let Some(power) = power {
        // A lamp that is not to be lit shows nothing of itself.
        if light.dim_command_pct.is_some_and(|command| command > 0.0) {
            let dark = below(power, limits.lamp_dark_w);
            words.say(Rule::LampFailure, MEASURED, dark, || {
                format!("it is to be lit and draws {power} W")
            });
        }
        if let Some(dim) = light.dim_pct.or(light.dim_command_pct) {
            let burns = if dim > 0.0 { Some(false) } else { above(power, limits.day_burner_w) };
            words.say(Rule::DayBurner, MEASURED, burns, || {
                format!("it is to be dark and draws {power} W")
            });
        }
    }
    if let Some(tilt) = possible(StreetLight::FIELDS, "tilt_deg", light.tilt_deg) {
        let leans = above(tilt, limits.tilt_deg);
        words.say(Rule::LampTilt, MEASURED, leans, || format!("it leans by {tilt}°"));
    }
}

fn smoke(smoke: &Smoke, words: &mut Words) {
    use pb::smoke::{SelfTest, State};
    let state = smoke.state.and_then(|state| State::try_from(state).ok());
    // Only ALARM raises it and only NORMAL ends it: a detector that is muted, tested, or torn off while
    // it is sounding says nothing of the smoke.
    let smoking = match state {
        Some(State::Alarm) => Some(true),
        Some(State::Normal) => Some(false),
        _ => None,
    };
    words.say(Rule::Smoke, SAID, smoking, || match smoke.obscuration_db_m {
        Some(db_m) => format!("state ALARM, {db_m} dB/m"),
        None => "state ALARM".into(),
    });
    let removed = match (state, smoke.removed) {
        (Some(State::Removed), _) | (_, Some(true)) => Some(true),
        (Some(_), _) | (None, Some(false)) => Some(false),
        (None, None) => None,
    };
    words.say(Rule::SmokeRemoved, SAID, removed, || "taken off its base".into());
    let failed = smoke.self_test == Some(SelfTest::Failed as i32);
    let broken = match state {
        Some(State::Fault) => Some(true),
        _ if failed => Some(true),
        Some(State::Normal) => Some(false),
        _ => None,
    };
    words.say(Rule::SmokeFault, SAID, broken, || {
        if failed { "the self test failed".into() } else { "state FAULT".into() }
    });
    words.say(Rule::SmokeLowBattery, SAID, smoke.low_battery, || "it says so".into());
}

fn elevator(elevator: &Elevator, limits: &Thresholds, words: &mut Words) {
    use pb::elevator::{Direction, Door};
    let speed = possible(Elevator::FIELDS, "speed_m_s", elevator.speed_m_s);
    words.say(Rule::Entrapment, SAID, elevator.entrapment, || "it says so".into());
    let moves = match (speed, elevator.direction) {
        (Some(speed), _) => Some(speed != 0.0),
        (None, Some(direction)) => Some(direction != Direction::Stopped as i32),
        (None, None) => None,
    };
    let stuck = match (moves, elevator.door_zone, elevator.occupied) {
        (Some(false), Some(false), Some(true)) => Some(true),
        (Some(true), ..) | (_, Some(true), _) | (.., Some(false)) => Some(false),
        _ => None,
    };
    words.say_after(Rule::Entrapment, MEASURED, stuck, limits.entrapment_after, || {
        "it stands outside the door zone with somebody inside".into()
    });
    let open =
        elevator.door.map(|door| [Door::Open as i32, Door::LimitedOpened as i32].contains(&door));
    let open_moving = match (open, speed) {
        (Some(true), Some(speed)) => Some(speed != 0.0),
        (Some(false), _) => Some(false),
        (None, Some(0.0)) => Some(false),
        _ => None,
    };
    words.say(Rule::DoorOpenMoving, MEASURED, open_moving, || {
        format!("it moves at {} m/s with its door open", speed.unwrap_or_default())
    });
    let faulty = Some(!elevator.faults.is_empty());
    words.say(Rule::ElevatorFault, SAID, faulty, || {
        let table = &loushan_schemas::reading::ELEVATOR_FAULT;
        let mut text = String::new();
        for fault in &elevator.faults {
            if !text.is_empty() {
                text.push_str(", ");
            }
            table.write(*fault, &mut text);
        }
        text
    });
}

fn water(water: &Water, limits: &Thresholds, reverse_l: Option<i64>, words: &mut Words) {
    use pb::water::Alarm;
    let says = |alarm: Alarm| Some(water.alarms.contains(&(alarm as i32)));
    let it_says_so = || "it says so".to_owned();
    words.say(Rule::WaterBurst, SAID, says(Alarm::Burst), it_says_so);
    if let Some(flow) = possible(Water::FIELDS, "flow_l_h", water.flow_l_h) {
        let burst = above(flow, limits.burst_l_h);
        words.say(Rule::WaterBurst, MEASURED, burst, || format!("{flow} L/h flow"));
    }
    words.say(Rule::WaterLeak, SAID, says(Alarm::Leak), it_says_so);
    let history = &water.history_delta_l;
    if water.history_interval_s == Some(HOUR_S) && history.len() >= LEAK_HOURS {
        let least = history.iter().copied().min().unwrap_or(0);
        words.say(Rule::WaterLeak, MEASURED, Some(least > 0), || {
            format!("never less than {least} L an hour for a day")
        });
    }
    words.say(Rule::WaterBackflow, SAID, says(Alarm::Backflow), it_says_so);
    if let (Some(now), Some(before)) = (water.reverse_l, reverse_l) {
        // What falls was reset, or is another meter: it says nothing.
        let grows = (now >= before).then_some(now > before);
        words.say(Rule::WaterBackflow, MEASURED, grows, || {
            format!("{} L flowed backwards", now - before)
        });
    }
    words.say(Rule::Tamper, SAID, says(Alarm::Tamper), || "the meter was tampered with".into());
    words.say(Rule::LowBattery, SAID, says(Alarm::LowBattery), it_says_so);
}
