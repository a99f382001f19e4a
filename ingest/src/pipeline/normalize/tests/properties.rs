//! What holds for every reading and for every payload.

use loushan_schemas::sample::arbitrary;
use loushan_schemas::topic::Topic;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::pipeline::decode::{Decoded, decode};

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
