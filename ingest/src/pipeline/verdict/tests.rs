#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const RECEIVED: ReceiveTime = ReceiveTime::from_ns(1_700_000_000_123_456_789);

fn accepted(ms: i64, source: TimeSource, reason: Option<QualityReason>) -> Outcome {
    let quality = if reason.is_some() { Quality::Suspicious } else { Quality::Accepted };
    let effective = DeviceTime::from_ms(ms).unwrap();
    Outcome::Accepted(Judgement { effective, source, quality, reason })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_bytes_of_a_batch_are_pinned() {
    let mut encoder = Encoder::default();
    let outcomes = [
        accepted(RECEIVED.ms() - 1000, TimeSource::Measured, None),
        Outcome::Duplicate,
        Outcome::Rejected(RejectReason::BadImei),
        accepted(RECEIVED.ms(), TimeSource::Received, Some(QualityReason::ClockSkew)),
    ];
    let body =
        encoder.readings("nb1/a/b/u/t", b"pay", RECEIVED, outcomes.iter().copied(), true).to_vec();
    assert_eq!(
        hex(&body),
        concat!(
            "0801",                       // version
            "120b6e62312f612f622f752f74", // topic
            "1a03706179",                 // payload
            "2115cd853dfe9c9717",         // received, ns
            "2801",                       // normalizer
            "4211",                       // readings
            "0a0841000000ff0e3308",       // outcomes
            "1203cf0f00",                 // effective times
            "1801",                       // unknown fields
        )
    );
    let decoded = decode(Bytes::from(body)).unwrap();
    assert_eq!(decoded.topic, "nb1/a/b/u/t");
    assert_eq!(&decoded.payload[..], b"pay");
    assert_eq!(decoded.received, RECEIVED);
    assert_eq!(
        decoded.verdict,
        Verdict::Readings { outcomes: outcomes.to_vec(), unknown_fields: true }
    );
}

#[test]
fn the_bytes_of_rejects_and_records_are_pinned() {
    let mut encoder = Encoder::default();
    let head = "0801120161" /* topic a */;
    let mid = "2115cd853dfe9c97172801";
    let body = encoder.rejected("a", b"x", RECEIVED, Some(70_000), RejectReason::PayloadTooLarge);
    assert_eq!(hex(body), format!("{head}1a0178{mid}30f0a2043802"));
    let decoded = decode(Bytes::copy_from_slice(body)).unwrap();
    assert_eq!(decoded.verdict, Verdict::Rejected(RejectReason::PayloadTooLarge));
    assert_eq!(decoded.cut_from, Some(70_000));
    let body = encoder.recorded("a", b"", RECEIVED);
    assert_eq!(hex(body), format!("{head}1a00{mid}4801"));
    assert_eq!(decode(Bytes::copy_from_slice(body)).unwrap().verdict, Verdict::Recorded);
}

#[test]
fn a_body_of_a_later_build_or_with_unknown_numbers_is_an_error_with_a_name() {
    let encode = |frame: pb::LogFrame| Bytes::from(frame.encode_to_vec());
    let frame = pb::LogFrame { version: 2, ..Default::default() };
    assert_eq!(decode(encode(frame)), Err(BodyError::Version(2)));
    let with = |verdict| pb::LogFrame { version: 1, verdict, ..Default::default() };
    let verdict = |v| decode(encode(with(Some(v)))).unwrap_err();
    assert_eq!(decode(encode(with(None))), Err(BodyError::Verdict("it has none")));
    let reason = BodyError::Verdict("unknown reject reason");
    assert_eq!(verdict(pb::log_frame::Verdict::Rejected(250)), reason);
    assert_eq!(verdict(pb::log_frame::Verdict::Rejected(70_000)), reason);
    let readings = |outcomes: &[u8], deltas: &[i64]| {
        verdict(pb::log_frame::Verdict::Readings(pb::Readings {
            outcomes: outcomes.to_vec(),
            effective_delta_ms: deltas.to_vec(),
            unknown_fields: false,
        }))
    };
    assert_eq!(readings(&[0xff, 250], &[]), reason);
    assert_eq!(readings(&[0x41], &[0]), BodyError::Verdict("half an outcome"));
    assert_eq!(readings(&[0x41, 0], &[]), BodyError::Verdict("a time is missing"));
    assert_eq!(readings(&[0, 0], &[1]), BodyError::Verdict("a time too many"));
    assert_eq!(readings(&[0x44, 0], &[0]), BodyError::Verdict("unknown clock"));
    assert_eq!(readings(&[0x51, 0], &[0]), BodyError::Verdict("unknown quality"));
    assert_eq!(readings(&[0x41, 99], &[0]), BodyError::Verdict("unknown quality reason"));
    assert_eq!(readings(&[0x41, 0], &[i64::MAX]), BodyError::Verdict("a time that is none"));
    assert!(matches!(decode(Bytes::from_static(b"\xff")), Err(BodyError::Message(_))));
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let judged = (0..253_402_300_799_999_i64, 1..4_u8, 1..5_u8, 0..13_u8);
    prop_oneof![
        Just(Outcome::Duplicate),
        (1..18_u8).prop_map(|n| Outcome::Rejected(RejectReason::from_number(n).unwrap())),
        judged.prop_map(|(ms, source, quality, reason)| Outcome::Accepted(Judgement {
            effective: DeviceTime::from_ms(ms).unwrap(),
            source: TimeSource::from_number(source).unwrap(),
            quality: Quality::from_number(quality).unwrap(),
            reason: QualityReason::from_number(reason),
        })),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_is_what_prost_would_write(
        topic in "\\PC{0,40}",
        payload in prop::collection::vec(any::<u8>(), 0..300),
        received in 0..i64::MAX,
        outcomes in prop::collection::vec(outcome(), 0..40),
        unknown_fields: bool,
    ) {
        let received = ReceiveTime::from_ns(received);
        let mut encoder = Encoder::default();
        let body = encoder
            .readings(&topic, &payload, received, outcomes.iter().copied(), unknown_fields)
            .to_vec();
        let decoded = decode(Bytes::from(body.clone())).unwrap();
        prop_assert_eq!(&decoded.topic, &topic);
        prop_assert_eq!(&decoded.payload[..], &payload[..]);
        prop_assert_eq!(decoded.received, received);
        prop_assert_eq!(decoded.verdict, Verdict::Readings { outcomes, unknown_fields });
        let frame = pb::LogFrame::decode(&body[..]).unwrap();
        let again = pb::LogFrame::decode(&frame.encode_to_vec()[..]).unwrap();
        prop_assert_eq!(frame, again);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decode(Bytes::from(bytes)));
    }
}
