//! Connections: how they begin, how they end, and what is no MQTT.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use loushan_broker::config::BrokerConfig;
use proptest::prelude::*;
use support::{
    Running, Scripted, connect_v4, connect_v5, packet, publish_v4, publish_v5, start, text,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn running() -> Running {
    start(BrokerConfig::default(), Scripted::automatic()).await
}

#[tokio::test]
async fn mqtt_3_1_0_1_the_first_packet_must_be_connect() {
    let running = running().await;
    let mut client = running.raw().await;
    client.send(&[0xc0, 0]).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn mqtt_3_1_0_2_a_second_connect_ends_the_connection() {
    let running = running().await;
    let mut old = running.v4("c").await;
    old.send(&connect_v4("c", true, 0)).await;
    old.expect_closed().await;
    let mut new = running.v5("c").await;
    new.send(&connect_v5("c", true, 0, &[])).await;
    new.expect_disconnect(0x82).await;
    new.expect_closed().await;
}

#[tokio::test]
async fn mqtt_3_1_2_2_an_unknown_protocol_level_is_refused_in_the_nearer_version() {
    let running = running().await;
    for (level, answer) in [(3, &[0x20, 2, 0, 1][..]), (6, &[0, 0x84])] {
        let mut body = text("MQTT");
        body.extend([level, 2, 0, 0]);
        body.extend(text("c"));
        let mut client = running.raw().await;
        client.send(&packet(0x10, &body)).await;
        let got = client.packet().await;
        assert!(got == answer || got.get(2..4) == Some(answer), "{got:02x?}");
        client.expect_closed().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_6_a_client_without_an_id_is_given_one_and_told_it() {
    let running = running().await;
    let mut client = running.raw().await;
    client.send(&connect_v5("", true, 0, &[])).await;
    let connack = client.packet().await;
    let at = connack.windows(8).position(|w| w[0] == 0x12 && &w[3..8] == b"auto-");
    assert!(at.is_some(), "{connack:02x?}");
    let mut client = running.raw().await;
    client.send(&connect_v4("", true, 0)).await;
    client.expect(&[0x20, 2, 0, 0]).await;
    let mut client = running.raw().await;
    client.send(&connect_v4("", false, 0)).await;
    client.expect(&[0x20, 2, 0, 2]).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn mqtt_3_1_4_3_the_later_of_two_connections_with_one_id_stays() {
    let running = running().await;
    let mut first = running.v5("c").await;
    let mut second = running.v5("c").await;
    first.expect_disconnect(0x8e).await;
    first.expect_closed().await;
    second.expect_silence().await;
    let mut third = running.v4("c").await;
    second.expect_disconnect(0x8e).await;
    third.expect_silence().await;
}

#[tokio::test]
async fn a_socket_that_says_nothing_is_closed_and_a_full_house_admits_no_more() {
    let config = BrokerConfig {
        connect_timeout: Duration::from_millis(50),
        max_connections: 1,
        ..BrokerConfig::default()
    };
    let running = start(config, Scripted::automatic()).await;
    let mut silent = running.raw().await;
    let mut late = running.raw().await;
    late.expect_closed().await;
    silent.expect_closed().await;
}

#[tokio::test]
async fn bad_packets_are_answered_with_their_reason_code() {
    let running = start(
        BrokerConfig { max_packet_bytes: 100, ..BrokerConfig::default() },
        Scripted::automatic(),
    )
    .await;
    let cases: &[(&str, u8, Vec<u8>)] = &[
        ("wildcard in the topic", 0x90, publish_v5(0, "a/+", None, &[], b"")),
        ("empty topic", 0x90, publish_v5(0, "", None, &[], b"")),
        ("U+0000", 0x81, publish_v5(0, "a\0b", None, &[], b"")),
        ("packet id 0", 0x81, publish_v5(2, "a", Some(0), &[], b"")),
        ("quality of service 3", 0x81, publish_v5(6, "a", Some(1), &[], b"")),
        ("DUP at quality of service 0", 0x81, publish_v5(8, "a", None, &[], b"")),
        ("not UTF-8", 0x81, packet(0x30, &[0, 1, 0xff, 0])),
        ("an alias of 0", 0x94, publish_v5(0, "a", None, &[0x23, 0, 0], b"")),
        ("an alias too great", 0x94, publish_v5(0, "a", None, &[0x23, 0, 17], b"")),
        ("an alias never set", 0x94, publish_v5(0, "", None, &[0x23, 0, 1], b"")),
        ("a property twice", 0x82, publish_v5(0, "a", None, &[1, 0, 1, 0], b"")),
        ("a foreign property", 0x82, publish_v5(0, "a", None, &[0x11, 0, 0, 0, 0], b"")),
        ("a property cut short", 0x81, publish_v5(0, "a", None, &[2, 0], b"")),
        ("reserved flags", 0x81, vec![0xc1, 0]),
        ("PUBREL with flags 0", 0x81, vec![0x60, 2, 0, 1]),
        ("SUBSCRIBE without filter", 0x82, vec![0x82, 3, 0, 1, 0]),
        ("a packet of a server", 0x82, vec![0xd0, 0]),
        ("AUTH out of the blue", 0x82, vec![0xf0, 0]),
        ("five length bytes", 0x81, vec![0x30, 0xff, 0xff, 0xff, 0xff, 1]),
        ("too large", 0x95, vec![0x30, 99]),
        ("left over", 0x81, vec![0xc0, 1, 0]),
    ];
    for (what, reason, bytes) in cases {
        let mut client = running.v5("c").await;
        client.send(bytes).await;
        let got = client.packet().await;
        assert_eq!((got[0], got[2]), (0xe0, *reason), "{what}");
        client.expect_closed().await;
    }
    let mut old = running.v4("c").await;
    old.send(&publish_v4(0, "a/#", None, b"")).await;
    old.expect_closed().await;
}

#[tokio::test]
async fn a_client_that_is_still_writing_as_we_close_can_read_why() {
    let running = running().await;
    let mut client = running.v5("c").await;
    client.send(&[0xc1, 0]).await;
    // The end of the stream: what is behind the reason is not read by the broker and does no harm.
    let mut said = Vec::new();
    support::within("the end", client.stream.read_to_end(&mut said)).await.unwrap();
    assert_eq!((said[0], said[2], said.len()), (0xe0, 0x81, 2 + usize::from(said[1])));
    for _ in 0..20 {
        client.send(&[0xc0, 0]).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_topic_alias_stands_for_its_topic() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(BrokerConfig::default(), handler).await;
    let mut client = running.v5("c").await;
    client.send(&publish_v5(0, "t/long", None, &[0x23, 0, 1], b"1")).await;
    client.send(&publish_v5(0, "", None, &[0x23, 0, 1], b"2")).await;
    for payload in ["1", "2"] {
        let (publish, _ticket) = support::within("an offer", offers.recv()).await.unwrap();
        assert_eq!((&*publish.topic, &publish.payload[..]), ("t/long", payload.as_bytes()));
    }
}

#[tokio::test]
async fn packets_may_come_in_any_pieces() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(BrokerConfig::default(), handler).await;
    let mut client = running.raw().await;
    let mut bytes = connect_v4("c", true, 0);
    bytes.extend(publish_v4(2, "t/x", Some(1), &[7; 300]));
    for byte in bytes {
        client.send(&[byte]).await;
    }
    client.expect(&[0x20, 2, 0, 0]).await;
    let (publish, ticket) = support::within("an offer", offers.recv()).await.unwrap();
    assert_eq!(publish.payload, vec![7; 300]);
    ticket.durable(Default::default());
    client.expect(&[0x40, 2, 0, 1]).await;
}

#[test]
fn no_bytes_panic_the_broker_or_disturb_its_other_clients() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (running, neighbour) = runtime.block_on(async {
        let running = running().await;
        let neighbour = running.v5("neighbour").await;
        (running, tokio::sync::Mutex::new(neighbour))
    });
    // Headers that are right more often than chance would have them, so that bodies are reached.
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(first, body)| packet(first, &body)),
        (0u8..16, "[a/+#\0遵]{0,6}", prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(flags, topic, rest)| packet(0x30 | flags, &[text(&topic), rest].concat())),
    ];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: ProptestConfig::default().cases.min(128),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&(0..3, prop::collection::vec(piece, 0..5)), |(version, pieces)| {
            runtime.block_on(async {
                let mut client = running.raw().await;
                let mut bytes = match version {
                    0 => connect_v4("fuzz", true, 0),
                    1 => connect_v5("fuzz", true, 0, &[]),
                    _ => Vec::new(),
                };
                bytes.extend(pieces.concat());
                // The broker may close before it has read all: that is no failure.
                drop(client.stream.write_all(&bytes).await);
                drop(client.stream.shutdown().await);
                let mut rest = Vec::new();
                drop(support::within("the close", client.stream.read_to_end(&mut rest)).await);
                neighbour.lock().await.expect_silence().await;
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        running.stop.cancel();
        let report = support::within("the shutdown", running.served).await.unwrap();
        assert_eq!((report.unanswered_publishes, report.cut_connections), (0, 0));
    });
}
