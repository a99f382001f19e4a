#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use loushan_schemas::field::{Field, FieldType, Value};
use loushan_schemas::limits::WATER_MODULUS_L;
use loushan_schemas::sample;

use super::*;

mod counters;
mod properties;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const DEVICES: [Kind; 5] =
    [Kind::Parking, Kind::StreetLight, Kind::Smoke, Kind::Elevator, Kind::Water];

fn received_at(ms: i64) -> ReceiveTime {
    ReceiveTime::from_ns(ms * 1_000_000)
}

fn batch(readings: Vec<pb::Reading>) -> DecodedBatch {
    DecodedBatch {
        session: 7,
        seq: 42,
        base_time_ms: sample::BASE_MS.unsigned_abs(),
        replay: false,
        readings: readings.into_iter().map(Ok).collect(),
        unknown_fields: false,
    }
}

/// Normalizes one reading that is received when it is measured.
fn normalize(reading: pb::Reading) -> Result<Reading, RejectReason> {
    let now = received_at(sample::BASE_MS);
    normalize_batch(batch(vec![reading]), Channel::Telemetry, now).readings.pop().unwrap()
}

/// A sample with one change in canonical values.
fn changed(kind: Kind, change: impl FnOnce(&mut Common, &mut Body)) -> pb::Reading {
    let mut sample = sample::reading(kind, 0);
    change(&mut sample.common, &mut sample.body);
    let wire = sample::wire_reading(kind, 0);
    pb::Reading {
        imei: wire.imei,
        seq: wire.seq,
        ..Model::CANONICAL.to_wire(&sample.common, &sample.body)
    }
}

fn judged(reading: pb::Reading) -> (u8, Option<QualityReason>) {
    let reading = normalize(reading).unwrap();
    (reading.quality.number(), reading.reason)
}

#[test]
fn a_plausible_reading_is_accepted_as_it_was_said() {
    for kind in DEVICES {
        for n in 0..100 {
            let sample = sample::reading(kind, n);
            let wire = batch(vec![sample::wire_reading(kind, n)]);
            let mut normalized = normalize_batch(wire, Channel::Telemetry, sample.times.received);
            assert_eq!(normalized.readings.pop().unwrap(), Ok(sample), "{kind} {n}");
        }
    }
}

#[test]
fn a_reading_of_no_device_or_without_a_body_is_rejected() {
    let sample = sample::wire_reading(Kind::Smoke, 0);
    let with_imei = |imei| pb::Reading { imei, ..sample.clone() };
    assert_eq!(normalize(with_imei(0)), Err(RejectReason::BadImei));
    assert_eq!(normalize(with_imei(sample.imei ^ 1)), Err(RejectReason::BadImei));
    assert_eq!(normalize(with_imei(u64::MAX)), Err(RejectReason::BadImei));
    let without = pb::Reading { body: None, ..sample };
    assert_eq!(normalize(without), Err(RejectReason::NoBody));
}

#[test]
fn rejects_keep_their_place_in_the_batch() {
    let good = sample::wire_reading(Kind::Smoke, 0);
    let mut decoded = batch(vec![good.clone(), pb::Reading { imei: 1, ..good.clone() }, good]);
    decoded.readings.insert(1, Err(RejectReason::NewerSchema));
    let normalized =
        normalize_batch(decoded, Channel::Telemetry, received_at(sample::BASE_MS)).readings;
    let outcomes: Vec<_> = normalized.iter().map(|r| r.as_ref().err().copied()).collect();
    let expected = [None, Some(RejectReason::NewerSchema), Some(RejectReason::BadImei), None];
    assert_eq!(outcomes, expected);
}

#[test]
fn the_first_clock_inside_its_window_is_taken() {
    use TimeSource::{Heard, Measured, Received};
    const FUTURE: i64 = 5 * 60_000;
    let skew = Some(QualityReason::ClockSkew);
    // Measured and heard against receiving; whether it was kept back; what is taken.
    for (name, measured, heard, patient, source, reason) in [
        ("now", 0, 0, false, Measured, None),
        ("five minutes ahead", FUTURE, 0, false, Measured, None),
        ("and a millisecond", FUTURE + 1, 0, false, Heard, skew),
        ("seven days behind", -7 * DAY, 0, false, Measured, None),
        ("and a millisecond", -7 * DAY - 1, 0, false, Heard, skew),
        ("both behind", -7 * DAY - 1, -7 * DAY - 1, false, Received, skew),
        ("both ahead", FUTURE + 1, FUTURE + 1, false, Received, skew),
        ("ninety days behind, kept back", -90 * DAY, 0, true, Measured, None),
        ("and a millisecond", -90 * DAY - 1, 0, true, Heard, skew),
        ("both behind, kept back", -90 * DAY - 1, -90 * DAY - 1, true, Received, skew),
        ("eight hours ahead", 8 * HOUR, 0, false, Heard, skew),
        ("1970", -sample::BASE_MS, 0, false, Heard, skew),
        ("before 1970", -sample::BASE_MS - 1, 0, false, Heard, skew),
    ] {
        let reading = pb::Reading {
            measured_delta_ms: measured,
            heard_delta_ms: heard,
            ..sample::wire_reading(Kind::Parking, 0)
        };
        let decoded = DecodedBatch { replay: patient, ..batch(vec![reading]) };
        let now = received_at(sample::BASE_MS);
        let normalized = normalize_batch(decoded, Channel::Telemetry, now).readings.pop().unwrap();
        let normalized = normalized.unwrap();
        assert_eq!((normalized.times.source, normalized.reason), (source, reason), "{name}");
        let delta = match source {
            Measured => measured,
            Heard => heard,
            Received => 0,
        };
        assert_eq!(normalized.times.effective.ms(), sample::BASE_MS + delta, "{name}");
        // What was said is kept beside what was taken.
        let said = DeviceTime::from_ms(sample::BASE_MS + measured);
        assert_eq!(normalized.times.measured, said, "{name}");
    }
}

#[test]
fn water_and_what_was_kept_back_may_be_ninety_days_old() {
    let old = |kind, trigger| pb::Reading {
        measured_delta_ms: -60 * DAY,
        trigger,
        ..sample::wire_reading(kind, 0)
    };
    let source = |reading, channel, replay| {
        let decoded = DecodedBatch { replay, ..batch(vec![reading]) };
        let normalized = normalize_batch(decoded, channel, received_at(sample::BASE_MS)).readings;
        normalized[0].as_ref().unwrap().times.source
    };
    let periodic = pb::Trigger::Periodic as i32;
    let replayed = pb::Trigger::Replay as i32;
    use TimeSource::{Heard, Measured};
    assert_eq!(source(old(Kind::Smoke, periodic), Channel::Telemetry, false), Heard);
    assert_eq!(source(old(Kind::Water, periodic), Channel::Telemetry, false), Measured);
    assert_eq!(source(old(Kind::Smoke, periodic), Channel::Replay, false), Measured);
    assert_eq!(source(old(Kind::Smoke, periodic), Channel::Telemetry, true), Measured);
    assert_eq!(source(old(Kind::Smoke, replayed), Channel::Alarm, false), Measured);
}

#[test]
fn a_time_in_a_devices_own_json_goes_before_its_stations_guess() {
    let json = br#"{"state":1,"time":213335}"#;
    let reading = pb::Reading {
        model_id: 101,
        body: Some(pb::reading::Body::Raw(Bytes::from_static(json))),
        ..sample::wire_reading(Kind::Parking, 0)
    };
    let now = received_at(1_536_722_135_000 + HOUR);
    let normalized = normalize_batch(batch(vec![reading]), Channel::Telemetry, now).readings;
    let normalized = normalized[0].as_ref().unwrap();
    assert_eq!(normalized.times.effective.ms(), 1_536_722_135_000);
    assert_eq!(normalized.times.source, TimeSource::Measured);
}

#[test]
fn swapped_radio_fields_give_a_rejected_level_and_a_suspicious_power() {
    let judged = |json: &'static [u8]| {
        let body = Some(pb::reading::Body::Raw(Bytes::from_static(json)));
        let common = sample::wire_reading(Kind::Parking, 0);
        judged(pb::Reading { model_id: 101, body, radio: None, ..common })
    };
    assert_eq!(judged(br#"{"ecl":-97,"rsrp":100}"#), (1, Some(QualityReason::UnderRange)));
    assert_eq!(judged(br#"{"ecl":1,"rsrp":100}"#), (4, None));
}

/// The smallest or greatest value inside a range is accepted; the next one outside is not.
#[test]
fn every_range_of_every_field_is_kept() {
    for kind in Kind::ALL {
        let mut checked = 0;
        let tables = [(true, kind.common_fields()), (false, kind.fields())];
        for (is_common, fields) in tables {
            for (position, field) in fields.iter().enumerate() {
                let levels =
                    [(field.hard, Quality::Rejected), (field.plausible, Quality::Suspicious)];
                for (range, quality) in levels {
                    let Some(range) = range else { continue };
                    for (inside, step, reason) in [
                        (range.low, -1.0, QualityReason::UnderRange),
                        (range.high, 1.0, QualityReason::OverRange),
                    ] {
                        let judge =
                            |value: f64| judge_value(kind, is_common, position, field, value);
                        let (at_edge, _) = judge(inside);
                        assert!(at_edge > quality, "{kind} {} at {inside}", field.name);
                        let both_end_here =
                            field.hard.is_some_and(|r| r.low == inside || r.high == inside);
                        let quality = if both_end_here { Quality::Rejected } else { quality };
                        let past = judge(inside + step * step_of(field));
                        assert_eq!(past, (quality, Some(reason)), "{kind} {}", field.name);
                        checked += 1;
                    }
                }
            }
        }
        assert!(checked >= 10, "{kind}");
    }
}

fn step_of(field: &Field) -> f64 {
    if field.ty == FieldType::Int { 1.0 } else { 0.001 }
}

fn judge_value(
    kind: Kind,
    is_common: bool,
    position: usize,
    field: &Field,
    value: f64,
) -> (Quality, Option<QualityReason>) {
    let value = match field.ty {
        FieldType::Int => Value::Int(value as i64),
        _ => Value::Float(value),
    };
    let mut reading = sample::reading(kind, 0);
    if is_common {
        reading.common.set(position, value).unwrap();
    } else {
        reading.body.set(position, value).unwrap();
    }
    check::ranges(&mut reading);
    (reading.quality, reading.reason)
}

#[test]
fn one_rule_one_vector() {
    use QualityReason::{
        Contamination, CrossField, Hardware, OverRange, Step, UnderRange, UnknownEnum,
    };
    macro_rules! body {
        ($kind:ident, |$b:ident| $change:expr) => {
            changed(Kind::$kind, |_, body| {
                let Body::$kind($b) = body else { panic!() };
                $change;
            })
        };
    }
    let suspicious = |reason| (3, Some(reason));
    let accepted = (4, None);
    for (name, reading, expected) in [
        (
            "unknown trigger",
            changed(Kind::Smoke, |c, _| c.trigger = Some(9)),
            suspicious(UnknownEnum),
        ),
        ("unknown state", body!(Parking, |b| b.state = Some(-4)), suspicious(UnknownEnum)),
        ("unknown mode", body!(Elevator, |b| b.mode = Some(12)), suspicious(UnknownEnum)),
        (
            "unknown fault in a list",
            body!(Elevator, |b| b.faults = vec![1, 99]),
            suspicious(UnknownEnum),
        ),
        ("no state at all", body!(Parking, |b| b.state = None), accepted),
        ("level 3", changed(Kind::Smoke, |c, _| c.ce_level = Some(3)), (1, Some(OverRange))),
        ("a sensor's own fault", body!(Parking, |b| b.fault = Some(true)), suspicious(Hardware)),
        ("a detector in fault", body!(Smoke, |b| b.state = Some(4)), suspicious(Hardware)),
        ("a failed self test", body!(Smoke, |b| b.self_test = Some(2)), suspicious(Hardware)),
        (
            "a dirty chamber",
            body!(Smoke, |b| b.contamination_pct = Some(81.0)),
            suspicious(Contamination),
        ),
        ("nearly dirty", body!(Smoke, |b| b.contamination_pct = Some(80.0)), accepted),
        ("a lost position", body!(Elevator, |b| b.faults = vec![15]), suspicious(Hardware)),
        ("a broken scale", body!(Elevator, |b| b.faults = vec![17]), suspicious(Hardware)),
        ("a fault of the lift alone", body!(Elevator, |b| b.faults = vec![1, 7]), accepted),
        (
            "a day burner",
            body!(StreetLight, |b| (b.dim_command_pct, b.dim_pct, b.power_w) =
                (Some(0.0), Some(0.0), Some(5.1))),
            suspicious(CrossField),
        ),
        (
            "standby by day",
            body!(StreetLight, |b| (b.dim_command_pct, b.dim_pct, b.power_w) =
                (Some(0.0), Some(0.0), Some(5.0))),
            accepted,
        ),
        ("a lamp failure", body!(StreetLight, |b| b.power_w = Some(0.9)), suspicious(CrossField)),
        ("a dim lamp", body!(StreetLight, |b| b.power_w = Some(1.0)), accepted),
        (
            "a weak factor when lit",
            body!(StreetLight, |b| b.power_factor = Some(0.299)),
            suspicious(UnderRange),
        ),
        ("a fair factor when lit", body!(StreetLight, |b| b.power_factor = Some(0.3)), accepted),
        (
            "a weak factor in the dark",
            body!(StreetLight, |b| {
                (b.dim_command_pct, b.dim_pct, b.power_w) = (Some(0.0), Some(0.0), Some(0.4));
                b.power_factor = Some(0.0);
            }),
            accepted,
        ),
        (
            "moving with the door open",
            body!(Elevator, |b| (b.door, b.speed_m_s) = (Some(3), Some(-0.2))),
            suspicious(CrossField),
        ),
        (
            "standing with the door open",
            body!(Elevator, |b| (b.door, b.speed_m_s) = (Some(3), Some(0.0))),
            accepted,
        ),
        (
            "an hour's flow above Q4",
            body!(Water, |b| b.history_delta_l = vec![0, 3127]),
            suspicious(Step),
        ),
        ("an hour's flow at Q4", body!(Water, |b| b.history_delta_l = vec![3126, -3126]), accepted),
        (
            "intervals without a length",
            body!(Water, |b| b.history_interval_s = Some(0)),
            suspicious(UnderRange),
        ),
        (
            "a counter beyond its modulus",
            body!(Water, |b| b.total_l = Some(WATER_MODULUS_L)),
            (1, Some(OverRange)),
        ),
    ] {
        assert_eq!(judged(reading), expected, "{name}");
    }
}

#[test]
fn the_worst_value_decides_and_the_first_of_equals_names_the_reason() {
    let both = changed(Kind::Smoke, |common, _| {
        common.trigger = Some(9);
        common.battery_mv = Some(5001);
    });
    assert_eq!(judged(both), (1, Some(QualityReason::OverRange)));
    let late = pb::Reading {
        measured_delta_ms: -30 * DAY,
        ..changed(Kind::Smoke, |common, _| common.trigger = Some(9))
    };
    assert_eq!(judged(late.clone()), (3, Some(QualityReason::UnknownEnum)));
    let late = pb::Reading { trigger: 1, ..late };
    assert_eq!(judged(late), (3, Some(QualityReason::ClockSkew)));
}

#[test]
fn a_station_has_one_clock() {
    let sample = sample::reading(Kind::StationStatus, 5);
    let Body::StationStatus(body) = &sample.body else { panic!() };
    let at = |ms: i64| pb::StationStatus {
        session: 7,
        seq: 5,
        time_ms: ms.unsigned_abs(),
        ..station::status_to_wire(body)
    };
    let status = at(sample.times.measured.unwrap().ms());
    assert_eq!(normalize_status(&status, sample.times.received), Ok(sample.clone()));
    let late = at(sample::BASE_MS - 8 * DAY);
    let late = normalize_status(&late, sample.times.received).unwrap();
    assert_eq!(late.times.source, TimeSource::Received);
    assert_eq!(late.times.effective.ms(), sample.times.received.ms());
    assert_eq!(late.reason, Some(QualityReason::ClockSkew));
    let hot = pb::StationStatus { cabinet_temp_dc: Some(851), ..status };
    let hot = normalize_status(&hot, sample.times.received).unwrap();
    assert_eq!((hot.quality, hot.reason), (Quality::Rejected, Some(QualityReason::OverRange)));
}
