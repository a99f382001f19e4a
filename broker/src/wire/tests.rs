use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::decode::Decoder;
use super::encode::{self, AckKind, ConnAck, Outgoing};
use super::reason::Reason;
use super::*;

const CONNECT_V4: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01c";
const CONNECT_V5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01c";

/// A decoder that has had its CONNECT.
fn decoder(version: Version) -> Decoder {
    let mut decoder = Decoder::new(100_000);
    let connect = if version == Version::V5 { CONNECT_V5 } else { CONNECT_V4 };
    let Ok(Some(Packet::Connect(connect))) = decoder.next(&mut BytesMut::from(connect)) else {
        panic!("CONNECT")
    };
    assert_eq!(connect.version, version);
    decoder
}

/// All packets of `bytes`, given to the decoder in pieces of `size`, and how that ended.
fn decode(
    decoder: &mut Decoder,
    bytes: &[u8],
    size: usize,
) -> (Vec<Packet>, Result<usize, WireError>) {
    let (mut input, mut packets) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(size) {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Err(error)),
            }
        }
    }
    (packets, Ok(input.len()))
}

fn encoded(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

#[test]
fn the_bytes_of_a_connect_with_everything_are_understood() {
    let mut bytes = b"\x00\x04MQTT\x05\xee\x00\x3c".to_vec();
    bytes.extend(b"\x11\x11\x00\x00\x00\x0a\x21\x00\x05\x27\x00\x00\x10\x00\x17\x00\x19\x01");
    bytes.extend(b"\x00\x02id");
    bytes.extend(b"\x0f\x18\x00\x00\x00\x07\x02\x00\x00\x00\x09\x03\x00\x02ct\x00\x01w\x00\x01m");
    bytes.extend(b"\x00\x01u\x00\x02p\xff");
    let mut input = BytesMut::from(&[0x10, bytes.len() as u8][..]);
    input.extend_from_slice(&bytes);
    let expected = Connect {
        version: Version::V5,
        client_id: "id".into(),
        clean: true,
        keep_alive: 60,
        will: Some(Will {
            topic: "w".into(),
            payload: Bytes::from_static(b"m"),
            qos: QoS::AtLeastOnce,
            retain: true,
            delay: 7,
            properties: PublishProperties {
                forwarded: Bytes::from_static(b"\x03\x00\x02ct"),
                expiry: Some(9),
            },
        }),
        username: Some("u".into()),
        password: Some(Bytes::from_static(b"p\xff")),
        session_expiry: Some(10),
        receive_maximum: 5,
        max_packet: Some(4096),
        topic_alias_maximum: 0,
        response_information: true,
        problem_information: false,
        authentication_method: false,
    };
    let got = Decoder::new(1000).next(&mut input).unwrap().unwrap();
    assert_eq!(got, Packet::Connect(Box::new(expected)));
}

#[test]
fn a_connect_that_contradicts_itself_is_refused() {
    for (what, flags) in [
        ("the reserved flag", 0x01),
        ("will QoS without will", 0x08),
        ("will retain without will", 0x20),
        ("will QoS 3", 0x1c),
        ("password without user name in 3.1.1", 0x40),
    ] {
        let mut bytes = CONNECT_V4.to_vec();
        bytes[9] = flags;
        let error = Decoder::new(1000).next(&mut BytesMut::from(&bytes[..])).unwrap_err();
        assert_eq!(error.reason, Reason::MALFORMED_PACKET, "{what}");
    }
}

#[test]
fn the_size_of_a_packet_is_refused_before_its_bytes_have_come() {
    let mut decoder = decoder(Version::V5);
    let error = decoder.next(&mut BytesMut::from(&b"\x30\xff\xff\xff\x7f"[..])).unwrap_err();
    assert_eq!(error.reason, Reason::PACKET_TOO_LARGE);
}

#[test]
fn the_bytes_of_what_we_send_are_these() {
    use Version::{V5, V311};
    let connack = ConnAck {
        session_present: true,
        session_expiry: Some(1),
        assigned_client_id: Some("x"),
        receive_maximum: 2,
        max_packet: 3,
        keep_alive: Some(60),
        response_information: Some("r"),
    };
    let goldens: &[(&str, Vec<u8>, &[u8])] = &[
        ("connack", encoded(|o| encode::connack(o, V311, &connack)), b"\x20\x02\x01\x00"),
        (
            "connack",
            encoded(|o| encode::connack(o, V5, &connack)),
            b"\x20\x1e\x01\x00\x1b\x11\x00\x00\x00\x01\x21\x00\x02\x27\x00\x00\x00\x03\x12\x00\x01x\x22\x00\x10\x13\x00\x3c\x1a\x00\x01r",
        ),
        ("ack", encoded(|o| encode::ack(o, V311, AckKind::Ack, 258, Reason(0x99), &[("a", "b")])), b"\x40\x02\x01\x02"),
        ("ack", encoded(|o| encode::ack(o, V5, AckKind::Release, 1, Reason::SUCCESS, &[])), b"\x62\x02\x00\x01"),
        ("ack", encoded(|o| encode::ack(o, V5, AckKind::Complete, 1, Reason(0x92), &[])), b"\x70\x03\x00\x01\x92"),
        (
            "ack",
            encoded(|o| encode::ack(o, V5, AckKind::Received, 1, Reason::SUCCESS, &[("a", "b")])),
            b"\x50\x0b\x00\x01\x00\x07\x26\x00\x01a\x00\x01b",
        ),
        ("suback", encoded(|o| encode::suback(o, V311, 1, &[Reason(2), Reason(0x97)], Some("w"))), b"\x90\x04\x00\x01\x02\x80"),
        ("suback", encoded(|o| encode::suback(o, V5, 1, &[Reason(2)], None)), b"\x90\x04\x00\x01\x00\x02"),
        (
            "suback",
            encoded(|o| encode::suback(o, V5, 1, &[Reason(2), Reason(0x97)], Some("w"))),
            b"\x90\x09\x00\x01\x04\x1f\x00\x01w\x02\x97",
        ),
        ("unsuback", encoded(|o| encode::unsuback(o, V311, 1, &[Reason(0)])), b"\xb0\x02\x00\x01"),
        ("unsuback", encoded(|o| encode::unsuback(o, V5, 1, &[Reason(0x11)])), b"\xb0\x04\x00\x01\x00\x11"),
        ("disconnect", encoded(|o| encode::disconnect(o, V311, Reason(0x8b), Some("w"))), b""),
        ("disconnect", encoded(|o| encode::disconnect(o, V5, Reason(0x8b), None)), b"\xe0\x01\x8b"),
        (
            "disconnect",
            encoded(|o| encode::disconnect(o, V5, Reason(0x8b), Some("w"))),
            b"\xe0\x06\x8b\x04\x1f\x00\x01w",
        ),
        ("refused", encoded(|o| encode::connack_refused(o, V311, Reason(0x86), Some("w"))), b"\x20\x02\x00\x04"),
        (
            "refused",
            encoded(|o| encode::connack_refused(o, V5, Reason(0x86), Some("w"))),
            b"\x20\x07\x00\x86\x04\x1f\x00\x01w",
        ),
        ("said", encoded(|o| encode::ack_said(o, V311, AckKind::Complete, 1, Reason(0x92), Some("w"))), b"\x70\x02\x00\x01"),
        (
            "said",
            encoded(|o| encode::ack_said(o, V5, AckKind::Complete, 1, Reason(0x92), Some("w"))),
            b"\x70\x08\x00\x01\x92\x04\x1f\x00\x01w",
        ),
    ];
    for (what, got, expected) in goldens {
        assert_eq!(got, expected, "{what}: {got:02x?}");
    }
}

fn publish() -> impl Strategy<Value = Publish> {
    let property = prop_oneof![
        any::<bool>().prop_map(|flag| vec![1, u8::from(flag)]),
        Just(b"\x03\x00\x02ct".to_vec()),
        Just(b"\x08\x00\x03r/t".to_vec()),
        Just(b"\x09\x00\x02\xff\x00".to_vec()),
    ];
    let user = Just(b"\x26\x00\x01k\x00\x01v".to_vec());
    (
        0u8..3,
        any::<(bool, bool)>(),
        1u16..,
        "[a-z遵]{1,5}(/[a-z]{0,9}){0,3}",
        prop::collection::vec(any::<u8>(), 0..300),
        (property, prop::collection::vec(user, 0..3)),
        any::<Option<u32>>(),
    )
        .prop_map(|(qos, (dup, retain), id, topic, payload, (one, users), expiry)| {
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
            let at_most_once = qos == QoS::AtMostOnce;
            let forwarded = [one, users.concat()].concat();
            Publish {
                dup: dup && !at_most_once,
                qos,
                retain,
                id: if at_most_once { 0 } else { id },
                topic: topic.as_str().into(),
                payload: payload.into(),
                properties: PublishProperties { forwarded: forwarded.into(), expiry },
            }
        })
}

proptest! {
    #[test]
    fn no_bytes_panic_the_decoder_and_pieces_make_no_difference(
        v5 in any::<bool>(),
        packets in prop::collection::vec(
            (any::<u8>(), prop::collection::vec(any::<u8>(), 0..70)), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..20),
        size in 1usize..50,
    ) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        let mut bytes = Vec::new();
        for (first, body) in packets {
            bytes.extend([first, body.len() as u8]);
            bytes.extend(body);
        }
        bytes.extend(tail);
        let whole = decode(&mut decoder(version), &bytes, usize::MAX);
        let pieces = decode(&mut decoder(version), &bytes, size);
        prop_assert_eq!(whole, pieces);
        // As the first packet, too.
        let (packets, _) = decode(&mut Decoder::new(1000), &bytes, size);
        prop_assert!(packets.is_empty() || matches!(packets[0], Packet::Connect(_)));
    }

    #[test]
    fn a_changed_or_cut_connect_panics_nothing(
        v5 in any::<bool>(), at in 0usize..16, byte in any::<u8>(), cut in 0usize..17,
    ) {
        let mut bytes = if v5 { CONNECT_V5 } else { CONNECT_V4 }.to_vec();
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        bytes.truncate(cut.max(2));
        let _any = decode(&mut Decoder::new(1000), &bytes, usize::MAX);
    }

    #[test]
    fn what_is_published_to_us_and_by_us_are_the_same_bytes(
        publish in publish(),
        alias in prop::option::of(1u16..=16),
    ) {
        for (version, alias) in [(Version::V5, alias), (Version::V311, None)] {
            let outgoing = Outgoing {
                dup: publish.dup,
                qos: publish.qos,
                retain: publish.retain,
                id: publish.id,
                topic: &publish.topic,
                alias,
                payload: &publish.payload,
                properties: &publish.properties,
                subscription_ids: &[],
            };
            let bytes = encoded(|out| encode::publish(out, version, &outgoing));
            prop_assert_eq!(bytes.len(), encode::publish_len(version, &outgoing));
            let (packets, end) = decode(&mut decoder(version), &bytes, usize::MAX);
            let mut expected = publish.clone();
            if version == Version::V311 {
                expected.properties = PublishProperties::default();
            }
            prop_assert_eq!(packets, vec![Packet::Publish(expected)]);
            prop_assert_eq!(end, Ok(0));
        }
    }
}
