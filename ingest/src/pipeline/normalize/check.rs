//! What can be said against a reading's values by looking at nothing but the reading.

use loushan_schemas::field::{Field, FieldType, Value};
use loushan_schemas::limits::WATER_Q4_L_H;
use loushan_schemas::pb;
use loushan_schemas::quality::{Quality, QualityReason};
use loushan_schemas::reading::{Body, Elevator, Parking, Reading, Smoke, StreetLight, Water};

use super::lower;

/// A lamp dimmed to nothing draws its gear's standby, 1 W at most; above this it burns by day.
const DAY_BURNER_W: f64 = 5.0;
/// A lamp that is told to shine draws more than this at the lowest dimming.
const LAMP_DRAWS_W: f64 = 1.0;
/// Power factor of a lit lamp; of a dark one it means nothing.
const LIT_POWER_FACTOR: f64 = 0.3;
/// Dust in a smoke chamber above which its figures say more about the dust than about the air. The
/// devices' scale ends at 100, where compensation does; a fifth of it is left to send somebody.
const CONTAMINATED_PCT: f64 = 80.0;

/// Judgement as it forms: the worst quality and the first reason for it.
#[derive(Debug, Clone, Copy)]
struct Worst {
    quality: Quality,
    reason: Option<QualityReason>,
}

impl Worst {
    const NOTHING: Self = Self { quality: Quality::Accepted, reason: None };

    fn lower(&mut self, quality: Quality, reason: QualityReason) {
        if quality < self.quality {
            *self = Self { quality, reason: Some(reason) };
        }
    }

    fn lower_if(&mut self, wrong: bool, reason: QualityReason) {
        if wrong {
            self.lower(Quality::Suspicious, reason);
        }
    }

    fn lay_over(self, reading: &mut Reading) {
        if let Some(reason) = self.reason {
            lower(reading, self.quality, reason);
        }
    }
}

/// Enum values this build has no word for: kept, and suspicious.
pub(super) fn enums(reading: &mut Reading) {
    let mut worst = Worst::NOTHING;
    let mut check = |_: usize, field: &'static Field, value: Value<'_>| {
        let unknown = match (field.ty, value) {
            (FieldType::Enum(table), Value::Enum(number)) => table.word(number).is_none(),
            (FieldType::EnumList(table), Value::EnumList(numbers)) => {
                numbers.iter().any(|number| table.word(*number).is_none())
            }
            _ => false,
        };
        worst.lower_if(unknown, QualityReason::UnknownEnum);
    };
    reading.common.visit(&mut check);
    reading.body.visit(&mut check);
    worst.lay_over(reading);
}

/// Values outside what is possible, or plausible.
pub(super) fn ranges(reading: &mut Reading) {
    let mut worst = Worst::NOTHING;
    let mut check = |_: usize, field: &'static Field, value: Value<'_>| {
        let Some(number) = value.as_number() else { return };
        for (range, quality) in
            [(field.hard, Quality::Rejected), (field.plausible, Quality::Suspicious)]
        {
            let Some(range) = range else { continue };
            if number < range.low {
                worst.lower(quality, QualityReason::UnderRange);
            } else if number > range.high {
                worst.lower(quality, QualityReason::OverRange);
            }
        }
    };
    reading.common.visit(&mut check);
    reading.body.visit(&mut check);
    worst.lay_over(reading);
}

/// Values that contradict each other, and what the device says against its own figures.
pub(super) fn contradictions(reading: &mut Reading) {
    let mut worst = Worst::NOTHING;
    match &reading.body {
        Body::Parking(body) => parking(body, &mut worst),
        Body::StreetLight(body) => street_light(body, &mut worst),
        Body::Smoke(body) => smoke(body, &mut worst),
        Body::Elevator(body) => elevator(body, &mut worst),
        Body::Water(body) => water(body, &mut worst),
        Body::StationStatus(_) => {}
    }
    worst.lay_over(reading);
}

fn parking(parking: &Parking, worst: &mut Worst) {
    worst.lower_if(parking.fault == Some(true), QualityReason::Hardware);
}

fn street_light(light: &StreetLight, worst: &mut Worst) {
    if let Some(power) = light.power_w {
        let day_burner = light.dim_pct == Some(0.0) && power > DAY_BURNER_W;
        let lamp_failure =
            light.dim_command_pct.is_some_and(|command| command > 0.0) && power < LAMP_DRAWS_W;
        worst.lower_if(day_burner || lamp_failure, QualityReason::CrossField);
    }
    let lit = light.dim_pct.is_some_and(|dim| dim > 0.0)
        && light.power_w.is_none_or(|power| power >= LAMP_DRAWS_W);
    let weak = light.power_factor.is_some_and(|factor| factor < LIT_POWER_FACTOR);
    worst.lower_if(lit && weak, QualityReason::UnderRange);
}

fn smoke(smoke: &Smoke, worst: &mut Worst) {
    let broken = smoke.state == Some(pb::smoke::State::Fault as i32)
        || smoke.self_test == Some(pb::smoke::SelfTest::Failed as i32);
    worst.lower_if(broken, QualityReason::Hardware);
    let dirty = smoke.contamination_pct.is_some_and(|pct| pct > CONTAMINATED_PCT);
    worst.lower_if(dirty, QualityReason::Contamination);
}

fn elevator(elevator: &Elevator, worst: &mut Worst) {
    // Most faults are the lift's and its figures are right; these two are the measurement's own.
    let blind = [pb::elevator::Fault::PositionLost, pb::elevator::Fault::LoadMeasurement];
    let blind = blind.iter().any(|fault| elevator.faults.contains(&(*fault as i32)));
    worst.lower_if(blind, QualityReason::Hardware);
    let open = elevator.door == Some(pb::elevator::Door::Open as i32);
    let moving = elevator.speed_m_s.is_some_and(|speed| speed != 0.0);
    worst.lower_if(open && moving, QualityReason::CrossField);
}

#[allow(clippy::cast_precision_loss)] // an interval's seconds end far below 2^53
fn water(water: &Water, worst: &mut Worst) {
    if water.history_delta_l.is_empty() {
        return;
    }
    let interval_s = water.history_interval_s.unwrap_or(0);
    // Without a length all intervals would end at one time, and be one row.
    worst.lower_if(interval_s <= 0, QualityReason::UnderRange);
    // One litre more, for what the counter held back from the interval before.
    let most = WATER_Q4_L_H as f64 * interval_s as f64 / 3600.0 + 1.0;
    let steps = water.history_delta_l.iter().any(|delta| f64::from(delta.unsigned_abs()) > most);
    worst.lower_if(interval_s > 0 && steps, QualityReason::Step);
}
