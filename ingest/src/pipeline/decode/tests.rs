#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write as _;

use loushan_schemas::kind::Kind;
use loushan_schemas::reading::Body;
use loushan_schemas::sample::{self, arbitrary};
use loushan_schemas::station;
use proptest::collection::vec;
use proptest::prelude::*;

use super::wire::{Lists, Shapes, check};
use super::*;

fn topic(channel: Channel) -> Topic {
    Topic::parse(&format!("nb1/honghuagang/bs0001/{}", channel.suffix())).unwrap()
}

fn decode_on(channel: Channel, payload: &[u8]) -> Result<Decoded, RejectReason> {
    decode(&topic(channel), &Bytes::copy_from_slice(payload))
}

fn decode_batch(payload: &[u8]) -> Result<DecodedBatch, RejectReason> {
    match decode_on(Channel::Telemetry, payload)? {
        Decoded::Batch(batch) => Ok(batch),
        other => panic!("a batch topic gave {other:?}"),
    }
}

fn batch(readings: u32) -> pb::UplinkBatch {
    sample::wire_batch("bs0001", 7, 42, 0, readings)
}

/// The header of a batch, without readings.
fn header() -> Vec<u8> {
    batch(0).encode_to_vec()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A field of the length-delimited type.
fn delimited(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A batch of readings that are given as bytes.
fn batch_of(readings: &[&[u8]]) -> Vec<u8> {
    let readings = readings.iter().flat_map(|reading| delimited(7, reading));
    header().into_iter().chain(readings).collect()
}

fn good_reading() -> Vec<u8> {
    sample::wire_reading(Kind::Water, 1).encode_to_vec()
}

/// What becomes of a single reading that is given as bytes, beside a good one.
fn one(reading: &[u8]) -> (Result<pb::Reading, RejectReason>, bool) {
    let mut decoded = decode_batch(&batch_of(&[reading, &good_reading()])).unwrap();
    assert_eq!(decoded.readings.len(), 2);
    assert!(decoded.readings.pop().unwrap().is_ok(), "the good reading beside it");
    (decoded.readings.pop().unwrap(), decoded.unknown_fields)
}

fn status() -> pb::StationStatus {
    let Body::StationStatus(body) = sample::reading(Kind::StationStatus, 1).body else { panic!() };
    pb::StationStatus { seq: 3, time_ms: 1, session: 7, ..station::status_to_wire(&body) }
}

fn state() -> pb::StationState {
    let firmware = "1.2".to_owned();
    pb::StationState { session: 7, online: true, time_ms: 1, schema_major: 1, firmware }
}

fn command_result() -> pb::CommandResult {
    pb::CommandResult {
        command_id: 1,
        imei: 2,
        outcome: 1,
        detail: "done".to_owned(),
        time_ms: 3,
        session: 4,
        seq: 5,
        schema_major: 1,
    }
}

#[test]
fn a_batch_comes_out_as_it_was_sent() {
    let sent = batch(200);
    let decoded = decode_batch(&sent.encode_to_vec()).unwrap();
    assert_eq!((decoded.session, decoded.seq), (7, 42));
    assert_eq!(decoded.base_time_ms, sample::BASE_MS.unsigned_abs());
    assert!(!decoded.replay && !decoded.unknown_fields);
    let readings: Vec<_> = decoded.readings.into_iter().map(Result::unwrap).collect();
    assert_eq!(readings, sent.readings);
}

#[test]
fn each_topic_calls_for_its_own_message() {
    let (status, state, result) = (status(), state(), command_result());
    for channel in [Channel::Telemetry, Channel::Alarm, Channel::Replay] {
        let decoded = decode_on(channel, &batch(1).encode_to_vec()).unwrap();
        assert!(matches!(decoded, Decoded::Batch(_)), "{channel:?}");
    }
    let decoded = decode_on(Channel::Status, &status.encode_to_vec()).unwrap();
    assert_eq!(decoded, Decoded::Status(status));
    let decoded = decode_on(Channel::State, &state.encode_to_vec()).unwrap();
    assert_eq!(decoded, Decoded::State(state));
    let decoded = decode_on(Channel::CommandResult, &result.encode_to_vec()).unwrap();
    assert_eq!(decoded, Decoded::CommandResult(result));
    let commands = decode_on(Channel::Command, &batch(1).encode_to_vec());
    assert_eq!(commands, Err(RejectReason::MalformedTopic));
}

#[test]
fn a_whole_payload_is_rejected_for_the_first_reason_against_it() {
    let with = |change: fn(&mut pb::UplinkBatch)| {
        let mut batch = batch(2);
        change(&mut batch);
        batch.encode_to_vec()
    };
    let many = |n: usize| [header(), [0x3a, 0x00].repeat(n)].concat();
    for (name, payload, reason) in [
        ("nothing", vec![], RejectReason::Empty),
        ("a byte too much", vec![0; limits::PAYLOAD_BYTES + 1], RejectReason::PayloadTooLarge),
        ("another generation", with(|b| b.schema_major = 2), RejectReason::SchemaMajor),
        ("no generation", with(|b| b.schema_major = 0), RejectReason::SchemaMajor),
        ("another station", with(|b| b.station = "bs0002".into()), RejectReason::WrongStation),
        ("no station name", with(|b| b.station = "BS 1".into()), RejectReason::BadStation),
        ("no station", with(|b| b.station.clear()), RejectReason::BadStation),
        ("no readings", with(|b| b.readings.clear()), RejectReason::NoReadings),
        ("a reading too many", many(1001), RejectReason::TooManyReadings),
        ("half a million", many(500_000), RejectReason::TooManyReadings),
        ("random text", b"hello, world".to_vec(), RejectReason::Undecodable),
        ("field number 0", [header(), vec![0x00, 0x00]].concat(), RejectReason::Undecodable),
        ("a group", [header(), vec![0x43, 0x44]].concat(), RejectReason::Undecodable),
        ("wire type 7", [header(), vec![0x47]].concat(), RejectReason::Undecodable),
        (
            "an over-long varint",
            [header(), vec![0x20], vec![0xff; 10], vec![0x01]].concat(),
            RejectReason::Undecodable,
        ),
        (
            "a varint of 65 bits",
            [header(), vec![0x20], vec![0xff; 9], vec![0x02]].concat(),
            RejectReason::Undecodable,
        ),
        ("a length past the end", [header(), vec![0x3a, 0x05]].concat(), RejectReason::Undecodable),
        ("seq as text", [header(), delimited(4, b"42")].concat(), RejectReason::Undecodable),
        (
            "a station that is not UTF-8",
            [header(), delimited(2, &[0xff])].concat(),
            RejectReason::Undecodable,
        ),
    ] {
        assert_eq!(decode_batch(&payload), Err(reason), "{name}");
    }
    assert_eq!(decode_batch(&many(1000)).unwrap().readings.len(), 1000);
}

#[test]
fn every_truncation_of_a_batch_is_rejected_or_ends_between_readings() {
    let sent = batch(3);
    let payload = sent.encode_to_vec();
    for length in 0..payload.len() {
        if let Ok(decoded) = decode_batch(&payload[..length]) {
            let readings: Vec<_> = decoded.readings.into_iter().map(Result::unwrap).collect();
            assert!(readings.len() < 3 && sent.readings.starts_with(&readings), "{length}");
        }
    }
}

#[test]
fn a_broken_reading_costs_only_itself() {
    let deltas = |n: usize| {
        let history = pb::History { delta_l: vec![1; n], ..pb::History::default() };
        let water = pb::Water { history: Some(history), ..pb::Water::default() };
        let body = Some(pb::reading::Body::Water(water));
        pb::Reading { body, ..sample::wire_reading(Kind::Water, 1) }.encode_to_vec()
    };
    let unpacked_faults = |n: usize| delimited(11, &[0x60, 0x01].repeat(n));
    let raw = |n: usize| delimited(15, &vec![b' '; n]);
    let two_halves = delimited(11, &[0x60, 0x01].repeat(20)).repeat(2);
    for (name, reading, outcome) in [
        ("a truncated one", good_reading()[..10].to_vec(), Err(RejectReason::Undecodable)),
        ("imei as varint", vec![0x08, 0x01], Err(RejectReason::Undecodable)),
        ("radio as varint", vec![0x38, 0x01], Err(RejectReason::Undecodable)),
        ("a broken body", delimited(10, &[0x08]), Err(RejectReason::Undecodable)),
        (
            "a broken packed list",
            delimited(11, &delimited(12, &[0x80])),
            Err(RejectReason::Undecodable),
        ),
        ("a group", vec![0x53, 0x54], Err(RejectReason::Undecodable)),
        ("96 deltas", deltas(96), Ok(())),
        ("97 deltas", deltas(97), Err(RejectReason::NestedTooLarge)),
        ("32 faults one by one", unpacked_faults(32), Ok(())),
        ("33 faults one by one", unpacked_faults(33), Err(RejectReason::NestedTooLarge)),
        ("40 faults in two halves", two_halves, Err(RejectReason::NestedTooLarge)),
        ("a raw body at its limit", raw(limits::RAW_BODY_BYTES), Ok(())),
        ("a raw body over it", raw(limits::RAW_BODY_BYTES + 1), Err(RejectReason::NestedTooLarge)),
        (
            "a reading over its limit",
            delimited(40, &vec![0; limits::READING_BYTES]),
            Err(RejectReason::NestedTooLarge),
        ),
    ] {
        assert_eq!(one(&reading).0.map(|_| ()), outcome, "{name}");
    }
}

#[test]
fn a_body_this_build_does_not_know_is_newer_schema() {
    let gas_meter = delimited(17, &[0x08, 0x01]);
    let newer = [pb::Reading { imei: 1, ..pb::Reading::default() }.encode_to_vec(), gas_meter];
    assert_eq!(one(&newer.concat()), (Err(RejectReason::NewerSchema), false));
    // Without a body and without anything unknown, it is normalization that misses the body.
    assert!(one(&[]).0.is_ok_and(|reading| reading.body.is_none()));
}

#[test]
fn unknown_fields_beside_known_ones_are_noted_and_accepted() {
    let unknown = varint(30 << 3).into_iter().chain([1]).collect::<Vec<u8>>();
    let beside_the_body = [good_reading(), unknown.clone()].concat();
    let in_the_body = [good_reading(), delimited(14, &unknown)].concat();
    let in_the_history = [good_reading(), delimited(14, &delimited(8, &unknown))].concat();
    for reading in [beside_the_body, in_the_body, in_the_history] {
        let (decoded, unknown_fields) = one(&reading);
        assert!(unknown_fields);
        assert_eq!(decoded, Ok(sample::wire_reading(Kind::Water, 1)));
    }
    assert!(!one(&good_reading()).1);
    let in_the_batch = [batch(1).encode_to_vec(), unknown].concat();
    assert!(decode_batch(&in_the_batch).unwrap().unknown_fields);
}

#[test]
fn a_raw_body_is_a_view_of_the_payload() {
    let body = Some(pb::reading::Body::Raw(Bytes::from_static(b"{\"rsrp\":114}")));
    let reading = pb::Reading { body, ..pb::Reading::default() }.encode_to_vec();
    let payload = Bytes::from(batch_of(&[&reading]));
    let Ok(Decoded::Batch(decoded)) = decode(&topic(Channel::Telemetry), &payload) else {
        panic!()
    };
    let Ok(pb::Reading { body: Some(pb::reading::Body::Raw(raw)), .. }) = &decoded.readings[0]
    else {
        panic!("{decoded:?}")
    };
    assert!(payload.as_ptr_range().contains(&raw.as_ptr()));
}

#[test]
fn every_field_of_every_message_is_known_to_the_pass_over_the_wire() {
    let known_in = |shapes: Shapes, message: &[u8]| {
        let found = check(shapes, message, &mut Lists::default()).unwrap();
        assert!(!found.unknown_here && !found.unknown_below);
        assert!(shapes.len() <= 32, "as many bits as fields");
        (0..shapes.len()).filter(|i| !found.has_any(1 << i)).map(|i| i + 1).collect::<Vec<_>>()
    };
    for (n, kind) in [Kind::Parking, Kind::StreetLight, Kind::Smoke, Kind::Elevator, Kind::Water]
        .into_iter()
        .enumerate()
    {
        let missing = known_in(wire::READING, &sample::wire_reading(kind, 1).encode_to_vec());
        let other_bodies: Vec<usize> = (10..=15).filter(|number| *number != 10 + n).collect();
        assert_eq!(missing, other_bodies, "{kind}");
    }
    for (shapes, message) in [
        (wire::STATION_STATUS, status().encode_to_vec()),
        (wire::STATION_STATE, state().encode_to_vec()),
        (wire::COMMAND_RESULT, command_result().encode_to_vec()),
    ] {
        assert_eq!(known_in(shapes, &message), Vec::<usize>::new());
    }
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_payloads_are_decoded() {
    let plain = batch(50).encode_to_vec();
    let expected = decode_batch(&plain);
    assert_eq!(decode_batch(&zstd(&plain)), expected);
    assert_eq!(decode_batch(&gzip(&plain)), expected);
    // A stream that does not say how much it holds.
    assert_eq!(decode_batch(&zstd::stream::encode_all(plain.as_slice(), 3).unwrap()), expected);
    // Two frames, two members.
    let (front, back) = plain.split_at(100);
    assert_eq!(decode_batch(&[zstd(front), zstd(back)].concat()), expected);
    assert_eq!(decode_batch(&[gzip(front), gzip(back)].concat()), expected);
}

#[test]
fn broken_compression_is_rejected() {
    let plain = batch(50).encode_to_vec();
    for compressed in [zstd(&plain), gzip(&plain)] {
        let cut = &compressed[..compressed.len() - 5];
        assert_eq!(decode_batch(cut), Err(RejectReason::BadCompression));
        let trailed = [compressed.clone(), vec![1, 2, 3, 4, 5]].concat();
        assert_eq!(decode_batch(&trailed), Err(RejectReason::BadCompression));
        assert_eq!(decode_batch(&compressed[..4]), Err(RejectReason::BadCompression));
    }
    assert_eq!(decode_batch(&zstd(b"")), Err(RejectReason::Empty));
    assert_eq!(decode_batch(&gzip(b"")), Err(RejectReason::Empty));
    // What comes out is not decompressed again.
    assert_eq!(decode_batch(&zstd(&zstd(&plain))), Err(RejectReason::Undecodable));
}

#[test]
fn bombs_are_rejected_at_the_limit() {
    let at_limit = vec![0; limits::PAYLOAD_BYTES];
    let over = vec![0; limits::PAYLOAD_BYTES + 1];
    let bomb = vec![0; 32 * limits::PAYLOAD_BYTES];
    for compress in [zstd, gzip] {
        assert_eq!(decode_batch(&compress(&at_limit)), Err(RejectReason::Undecodable));
        assert_eq!(decode_batch(&compress(&over)), Err(RejectReason::PayloadTooLarge));
        assert_eq!(decode_batch(&compress(&bomb)), Err(RejectReason::PayloadTooLarge));
    }
}

#[test]
fn a_frame_that_asks_for_a_huge_window_is_rejected() {
    // Magic; descriptor: no content size, no checksum; window 2^(10+17) = 128 MiB; an empty last block.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
    assert_eq!(decode_batch(&frame), Err(RejectReason::BadCompression));
    let small = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00, 0x01, 0x00, 0x00];
    assert_eq!(decode_batch(&small), Err(RejectReason::Empty));
}

/// Our decoding against prost's of the same bytes.
fn agrees_with_prost(payload: &[u8]) -> Result<(), TestCaseError> {
    let by_prost = pb::UplinkBatch::decode(payload);
    if let Ok(decoded) = decode_batch(payload) {
        if let Ok(by_prost) = by_prost {
            prop_assert_eq!(decoded.session, by_prost.session);
            prop_assert_eq!(decoded.seq, by_prost.seq);
            prop_assert_eq!(decoded.base_time_ms, by_prost.base_time_ms);
            prop_assert_eq!(decoded.replay, by_prost.replay);
            prop_assert_eq!(decoded.readings.len(), by_prost.readings.len());
            for (ours, theirs) in decoded.readings.iter().zip(&by_prost.readings) {
                prop_assert!(ours.as_ref().is_ok_and(|r| r == theirs) || ours.is_err());
            }
        } else {
            // Only a reading can be what prost choked on.
            prop_assert!(decoded.readings.iter().any(|r| *r == Err(RejectReason::Undecodable)));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(payload in vec(any::<u8>(), 0..600)) {
        for channel in Channel::ALL {
            let _any = decode_on(channel, &payload);
        }
        agrees_with_prost(&payload)?;
        agrees_with_prost(&[header(), payload.clone()].concat())?;
        agrees_with_prost(&[header(), delimited(7, &payload)].concat())?;
        let compressed = [&[0x28, 0xb5, 0x2f, 0xfd], payload.as_slice()].concat();
        let _any = decode_batch(&compressed);
        let _any = decode_batch(&[&[0x1f, 0x8b, 0x08], payload.as_slice()].concat());
    }

    #[test]
    fn arbitrary_readings_come_out_as_prost_gives_them(readings in vec(arbitrary::wire_reading(), 1..20)) {
        let batch = pb::UplinkBatch { readings, ..batch(0) };
        let decoded = decode_batch(&batch.encode_to_vec()).unwrap();
        prop_assert!(!decoded.unknown_fields);
        let readings: Vec<_> = decoded.readings.into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(readings, batch.readings);
    }

    #[test]
    fn mutated_batches_never_panic_and_agree_with_prost(
        readings in vec(arbitrary::wire_reading(), 1..5),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut payload = pb::UplinkBatch { readings, ..batch(0) }.encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        agrees_with_prost(&payload)?;
    }
}
