#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use loushan_schemas::field::{Field, FieldType, Value};
use loushan_schemas::limits::WATER_MODULUS_L;
use loushan_schemas::sample::{self, arbitrary};
use loushan_schemas::topic::Topic;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::pipeline::decode::{Decoded, decode};

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

/// A water meter's reading so many litres and milliseconds after the base.
fn meter(total_l: i64, at_ms: i64) -> Reading {
    let reading = pb::Reading {
        measured_delta_ms: at_ms,
        ..changed(Kind::Water, |_, body| {
            let Body::Water(b) = body else { panic!() };
            b.total_l = Some(total_l);
        })
    };
    let received = received_at(sample::BASE_MS + at_ms);
    let normalized = normalize_batch(batch(vec![reading]), Channel::Telemetry, received);
    normalized.readings.into_iter().next().unwrap().unwrap()
}

fn against(before: &[Reading], mut reading: Reading) -> Option<QualityReason> {
    let previous = before.iter().fold(None, |p, reading| Some(next_previous(p, reading)));
    check_against_previous(previous.as_ref(), &mut reading);
    reading.reason
}

#[test]
fn counters_are_held_against_what_was_counted_before() {
    use QualityReason::{Reset, Rollover, Step};
    const TOP: i64 = WATER_MODULUS_L;
    for (name, before, after, reason) in [
        ("rising", (1000, 0), (1100, HOUR), None),
        ("standing", (1000, 0), (1000, HOUR), None),
        ("falling", (1000, 0), (999, HOUR), Some(Reset)),
        ("to zero", (1000, 0), (0, HOUR), Some(Reset)),
        ("turning over", (TOP - 1000, 0), (50, HOUR), Some(Rollover)),
        (
            "from the edge of the last hundredth",
            (TOP - TOP / 100, 0),
            (0, 200 * DAY),
            Some(Rollover),
        ),
        ("from before it", (TOP - TOP / 100 - 1, 0), (0, 200 * DAY), Some(Reset)),
        ("as fast as water flows", (1000, 0), (1000 + 3125 + 10, HOUR), None),
        ("faster", (1000, 0), (1000 + 3125 + 11, HOUR), Some(Step)),
        ("a litre within a second", (1000, 0), (1001, 1000), None),
        ("late", (1000, HOUR), (500, 0), None),
        ("at the same time", (1000, 0), (500, 0), None),
    ] {
        let found = against(&[meter(before.0, before.1)], meter(after.0, after.1));
        assert_eq!(found, reason, "{name}");
    }
    assert_eq!(against(&[], meter(5, 0)), None, "the first of all");
}

#[test]
fn late_and_impossible_counts_are_not_remembered() {
    let now = [meter(1000, HOUR), meter(500, 0)];
    assert_eq!(against(&now, meter(1100, 2 * HOUR)), None, "a late one moves nothing");
    let wild = [meter(1000, 0), meter(WATER_MODULUS_L, HOUR)];
    assert_eq!(against(&wild, meter(1100, 2 * HOUR)), None, "an impossible one moves nothing");
    let swapped = [meter(1000, 0), meter(5, HOUR)];
    assert_eq!(against(&swapped, meter(10, 2 * HOUR)), None, "a reset is said once");
}

#[test]
fn a_counter_that_is_missing_for_a_while_is_held_against_its_own_last_time() {
    let mut without = meter(0, 10 * HOUR);
    let Body::Water(body) = &mut without.body else { panic!() };
    body.total_l = None;
    let before = [meter(1000, 0), without];
    assert_eq!(against(&before, meter(1000 + 30_000, 10 * HOUR + 1)), None);
}

#[test]
fn every_counter_of_every_kind_is_watched() {
    for kind in Kind::ALL {
        for (position, field) in kind.fields().iter().enumerate() {
            let Some(counter) = field.counter else { continue };
            let with = |value, n: u32| {
                let mut reading = sample::reading(kind, n);
                reading.body.set(position, Value::Int(value)).unwrap();
                reading
            };
            let found = against(&[with(2_000_000, 1)], with(1_900_000, 2));
            assert_eq!(found, Some(QualityReason::Reset), "{kind} {}", field.name);
            if let Some(modulus) = counter.modulus {
                // A meter's volume cannot flow within the second between the samples.
                let found = against(&[with(modulus - 1, 1)], with(0, 2));
                assert_eq!(found, Some(QualityReason::Rollover), "{kind} {}", field.name);
            }
        }
    }
}

#[test]
fn a_device_that_changes_its_kind_begins_anew() {
    let lamp = sample::reading(Kind::StreetLight, 1);
    assert_eq!(against(&[lamp], meter(5, HOUR)), None);
}

#[test]
fn what_is_remembered_is_kept_in_these_bytes() {
    let previous = next_previous(None, &meter(0x0102_0304, 0));
    let mut expected = vec![5, 4, 3, 2, 1, 0, 0, 0, 0];
    expected.extend(sample::BASE_MS.to_le_bytes());
    expected.extend(0_i64.to_le_bytes()); // reverse_l
    expected.extend(sample::BASE_MS.to_le_bytes());
    expected.extend(0_i64.to_le_bytes()); // no third counter
    expected.extend((-1_i64).to_le_bytes());
    assert_eq!(previous.to_bytes().to_vec(), expected);
    assert_eq!(Previous::from_bytes(&previous.to_bytes()), Some(previous));
    assert_eq!(Previous::from_bytes(&[0; Previous::BYTES]), None);
}

fn channels() -> impl Strategy<Value = Channel> {
    prop::sample::select(vec![Channel::Telemetry, Channel::Alarm, Channel::Replay])
}

/// A sample as a device says it that talks JSON.
fn in_json() -> impl Strategy<Value = pb::Reading> {
    let dialect = prop::sample::select(vec![
        (101, Kind::Parking),
        (102, Kind::Smoke),
        (103, Kind::StreetLight),
        (104, Kind::Water),
    ]);
    (dialect, 0_u32..1000).prop_map(|((model, kind), n)| {
        let sample = sample::reading(kind, n);
        let measured = sample.times.measured;
        pb::Reading {
            imei: sample::imei(n).get(),
            ..Model::of(model).to_wire_at(&sample.common, &sample.body, measured)
        }
    })
}

proptest! {
    #[test]
    fn a_judgement_laid_over_the_conversion_is_the_normalized_reading(
        readings in vec(prop_oneof![3 => arbitrary::wire_reading(), 1 => in_json()], 1..8),
        base in prop_oneof![Just(sample::BASE_MS.unsigned_abs()), any::<u64>()],
        channel in channels(),
        replay: bool,
        ns in prop_oneof![Just(sample::BASE_MS * 1_000_000), any::<i64>()],
    ) {
        let received = ReceiveTime::from_ns(ns);
        let decoded = DecodedBatch { base_time_ms: base, replay, ..batch(readings.clone()) };
        let normalized = normalize_batch(decoded, channel, received).readings;
        prop_assert_eq!(normalized.len(), readings.len());
        let mut previous = None;
        for (reading, normalized) in readings.iter().zip(normalized) {
            let mut normalized = normalized.unwrap();
            check_against_previous(previous.as_ref(), &mut normalized);
            let next = next_previous(previous, &normalized);
            prop_assert_eq!(Previous::from_bytes(&next.to_bytes()), Some(next));
            previous = Some(next);
            let judgement = Judgement::of(&normalized);
            prop_assert_eq!(judgement.quality == Quality::Accepted, judgement.reason.is_none());
            prop_assert_eq!(apply(base, reading, received, judgement), Ok(normalized));
        }
    }

    #[test]
    fn a_judged_status_is_the_normalized_one(
        reading in arbitrary::reading(Kind::StationStatus),
        time_ms: u64,
        ns: i64,
    ) {
        let Body::StationStatus(body) = &reading.body else { panic!() };
        let status = pb::StationStatus { time_ms, seq: reading.seq, ..station::status_to_wire(body) };
        let received = ReceiveTime::from_ns(ns);
        let normalized = normalize_status(&status, received).unwrap();
        let judgement = Judgement::of(&normalized);
        prop_assert_eq!(apply_status(&status, received, judgement), Ok(normalized));
    }

    #[test]
    fn mutated_payloads_are_normalized_without_panic(
        readings in vec(arbitrary::wire_reading(), 1..4),
        raw in vec((95_u32..110, vec(any::<u8>(), 0..60)), 0..3),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ns: i64,
    ) {
        let topic = Topic::parse("nb1/honghuagang/bs0001/u/t").unwrap();
        let raw = raw.into_iter().map(|(model_id, json)| pb::Reading {
            model_id,
            body: Some(pb::reading::Body::Raw(json.into())),
            ..sample::wire_reading(Kind::Parking, 0)
        });
        let readings = readings.into_iter().chain(raw).collect();
        let sent = pb::UplinkBatch { readings, ..sample::wire_batch("bs0001", 7, 42, 0, 0) };
        let mut payload = sent.encode_to_vec();
        // The header stays, so that the batch is not simply turned away.
        let header = sample::wire_batch("bs0001", 7, 42, 0, 0).encoded_len();
        for (at, byte) in changes {
            let at = header + at.index(payload.len() - header);
            payload[at] = byte;
        }
        if let Ok(Decoded::Batch(decoded)) = decode(&topic, &Bytes::from(payload)) {
            let count = decoded.readings.len();
            let normalized = normalize_batch(decoded, Channel::Telemetry, ReceiveTime::from_ns(ns));
            prop_assert_eq!(normalized.readings.len(), count);
        }
    }
}
