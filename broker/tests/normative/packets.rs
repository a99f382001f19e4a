//! The form of packets (chapter 2, section 1.5) and what is none (4.13).

use super::client::Client;
use super::running;
use super::wire::{
    BOTH, PINGREQ, PUBACK, PUBCOMP, Packet, Properties, Publish, V4, V5, ack, property, raw, text,
};

// 3.1.1: [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-4.8.0-1]
// 5: [MQTT-2.1.3-1] [MQTT-4.13.1-1] [MQTT-3.15.1-1]
#[tokio::test]
async fn reserved_flags_of_any_packet_end_the_connection() {
    let running = running().await;
    for version in BOTH {
        for first in [0x40, 0x50, 0x70, 0xc0, 0xe0] {
            for flags in [1, 2, 4, 8] {
                let body: &[u8] = if first < 0x80 { &[0, 1] } else { &[] };
                let mut client = Client::new(&running, version, "c").await;
                client.send(&raw(first | flags, body)).await;
                client.refused(0x81, &format!("the first byte {:#04x}", first | flags)).await;
            }
        }
    }
    let mut client = Client::new(&running, V5, "c").await;
    client.send(&raw(0xf1, &[])).await;
    client.refused(0x81, "flags of AUTH").await;
}

// 3.1.1: [MQTT-4.8.0-1]
// 5: [MQTT-4.13.1-1] [MQTT-4.12.0-7]
#[tokio::test]
async fn types_that_no_client_sends_end_the_connection() {
    let running = running().await;
    for version in BOTH {
        for first in [0x00, 0x20, 0x90, 0xb0, 0xd0, 0xf0] {
            let mut client = Client::new(&running, version, "c").await;
            client.send(&raw(first, &[0, 0])).await;
            match client.packet_or_close().await {
                None => continue,
                Some(Packet::Disconnect { reason: 0x81 | 0x82, .. }) if version == V5 => {}
                other => panic!("{other:?} in answer to {first:#04x}"),
            }
            client.closed("a packet that no client sends").await;
        }
    }
}

// 3.1.1: [MQTT-4.8.0-1]
// 5: [MQTT-4.13.1-1]
#[tokio::test]
async fn packets_that_end_too_early_or_too_late_end_the_connection() {
    let running = running().await;
    for version in BOTH {
        let none = Properties::default().bytes(version);
        for (bytes, why) in [
            (raw(0x30, &[0]), "half a topic length"),
            (raw(0x30, &[0, 5, b'a']), "a topic shorter than it says"),
            (raw(0x32, &[&text("t")[..], &[0]].concat()), "half a packet identifier"),
            (raw(0x40, &[]), "PUBACK of nothing"),
            (raw(0x40, &[1]), "PUBACK of half an identifier"),
            (raw(0x62, &[]), "PUBREL of nothing"),
            (raw(0x82, &[&[0, 1][..], &none, &text("t")].concat()), "a filter without options"),
            (raw(0x82, &[&[0, 1][..], &none, &[0, 9, b't']].concat()), "a filter cut short"),
            (raw(0xa2, &[&[0, 1][..], &none, &[0, 9, b't']].concat()), "a filter cut short"),
            (raw(0xc0, &[0]), "PINGREQ of something"),
            (vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01], "a length of five bytes"),
        ] {
            let mut client = Client::new(&running, version, "c").await;
            client.send(&bytes).await;
            client.refused(0x81, why).await;
        }
    }
    for (bytes, why) in [
        (raw(0x40, &[0, 1, 0]), "a PUBACK with a reason"),
        (raw(0x62, &[0, 1, 0]), "a PUBREL with a reason"),
        (raw(0xe0, &[0]), "a DISCONNECT with a reason"),
    ] {
        let mut client = Client::new(&running, V4, "c").await;
        client.send(&bytes).await;
        client.closed(&format!("{why} in 3.1.1")).await;
    }
}

// 5: [MQTT-1.5.5-1]
#[tokio::test]
async fn lengths_are_as_short_as_they_can_be() {
    let running = running().await;
    for (bytes, why) in [
        (vec![0xc0, 0x80, 0x00], "a remaining length of 0 in two bytes"),
        (vec![0xc0, 0x80, 0x80, 0x80, 0x00], "a remaining length of 0 in four bytes"),
        (raw(0x30, &[&text("t")[..], &[0x80, 0x00]].concat()), "a property length in two bytes"),
        (
            raw(0x82, &[&[0, 1, 3, 0x0b, 0x81, 0x00][..], &text("t"), &[0]].concat()),
            "a subscription identifier in two bytes",
        ),
        (
            raw(
                0x82,
                &[&[0, 1, 6, 0x0b, 0x80, 0x80, 0x80, 0x80, 0x01][..], &text("t"), &[0]].concat(),
            ),
            "a subscription identifier in five bytes",
        ),
    ] {
        let mut client = Client::new(&running, V5, "c").await;
        client.send(&bytes).await;
        client.refused(0x81, why).await;
    }
}

// 3.1.1: [MQTT-7.1.1-1]
// 5: [MQTT-4.2.0-1]
#[tokio::test]
async fn packets_come_in_any_pieces_of_the_stream() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        let packets =
            [Publish::new(1, "t", vec![7; 200]).bytes(version), PINGREQ.to_vec()].concat();
        for byte in &packets {
            client.send(&[*byte]).await;
        }
        client.send(&packets.repeat(50)).await;
        let mut pongs = 0;
        for _ in 0..102 {
            match client.packet().await {
                Packet::PingResp => pongs += 1,
                Packet::Ack { kind: PUBACK, id: 1, reason: 0, .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pongs, 51);
    }
}

// 3.1.1: [MQTT-2.3.1-6]
// 5: [MQTT-2.2.1-5]
#[tokio::test]
async fn acknowledgements_of_nothing_hurt_nobody() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        client.subscribe("t", 2).await;
        for id in [1, 2, 0xffff] {
            client.send(&[ack(PUBACK, id), ack(PUBCOMP, id)].concat()).await;
        }
        client.silence().await;
        let mut publisher = Client::new(&running, version, "p").await;
        publisher.deliver(&Publish::new(2, "t", "x")).await;
        let message = client.message().await;
        client.take(&message).await;
        client.silence().await;
    }
}

// 5: [MQTT-2.2.2-1]
#[tokio::test]
async fn properties_that_do_not_belong_or_come_twice_end_the_connection() {
    let running = running().await;
    let publish = |properties: Properties| Publish { properties, ..Publish::new(1, "t", "x") };
    let twice = |id: u8, value: u32| Properties::default().with(id, value).with(id, value);
    for (bytes, reasons, why) in [
        (publish(twice(property::MESSAGE_EXPIRY, 1)).bytes(V5), [0x82, 0x82], "an expiry twice"),
        (publish(twice(property::PAYLOAD_FORMAT, 0)).bytes(V5), [0x82, 0x82], "a format twice"),
        (publish(twice(property::TOPIC_ALIAS, 1)).bytes(V5), [0x82, 0x82], "an alias twice"),
        (
            publish(Properties::default().with(property::SESSION_EXPIRY, 1)).bytes(V5),
            [0x81, 0x82],
            "a property of CONNECT",
        ),
        (
            publish(Properties::default().with(property::PAYLOAD_FORMAT, 2)).bytes(V5),
            [0x81, 0x82],
            "payload format 2",
        ),
        (raw(0x30, &[&text("t")[..], &[2, 0x7f, 0]].concat()), [0x81, 0x82], "an unknown property"),
        (raw(0x30, &[&text("t")[..], &[9, 1]].concat()), [0x81, 0x81], "properties cut short"),
        (raw(0x40, &[0, 1, 0, 2, 1, 0]), [0x81, 0x82], "a format in PUBACK"),
        (raw(0xe0, &[0, 3, 0x21, 0, 1]), [0x81, 0x82], "a receive maximum in DISCONNECT"),
    ] {
        let mut client = Client::new(&running, V5, "c").await;
        client.send(&bytes).await;
        let last = client.packet_or_close().await;
        assert!(
            matches!(last, Some(Packet::Disconnect { reason, .. }) if reasons.contains(&reason)),
            "{last:?} in answer to {why}"
        );
        client.closed(why).await;
    }
}

// 5: [MQTT-3.1.4-1] [MQTT-3.2.2-8]
#[tokio::test]
async fn properties_of_connect_that_contradict_the_standard_are_refused() {
    let running = running().await;
    let plain = || super::wire::Connect::clean("c");
    for (connect, why) in [
        (plain().with(property::RECEIVE_MAXIMUM, 0), "a receive maximum of 0"),
        (plain().with(property::MAXIMUM_PACKET_SIZE, 0), "a maximum packet size of 0"),
        (plain().with(property::REQUEST_PROBLEM, 2), "a flag of 2"),
        (plain().with(property::REQUEST_RESPONSE, 2), "a flag of 2"),
        (plain().with(property::AUTHENTICATION_DATA, &b"x"[..]), "data without a method"),
        (plain().with(property::SESSION_EXPIRY, 1).with(property::SESSION_EXPIRY, 1), "one twice"),
        (plain().with(property::WILL_DELAY, 1), "a property of a will"),
        (plain().with(property::TOPIC_ALIAS, 1), "a property of PUBLISH"),
    ] {
        let mut client = Client::silent(&running, V5).await;
        client.send(&connect.bytes(V5)).await;
        match client.packet_or_close().await {
            None => continue,
            Some(Packet::ConnAck { present: false, code: 0x80.., .. }) => {}
            other => panic!("{other:?} in answer to {why}"),
        }
        client.closed(why).await;
    }
}
