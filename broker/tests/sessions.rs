//! What outlives a connection: sessions and wills.
#![allow(clippy::unwrap_used)]

mod support;

use loushan_broker::config::BrokerConfig;
use loushan_broker::handler::Acknowledgement;
use support::{
    Running, Scripted, connect_v4, connect_v5, packet, publish_v4, start, subscribe_v4, text,
    within,
};

async fn running() -> Running {
    start(BrokerConfig::default(), Scripted::automatic()).await
}

#[tokio::test]
async fn mqtt_3_1_2_5_a_kept_session_gets_what_came_while_it_was_away() {
    let running = running().await;
    let mut client = running.raw().await;
    client.send(&connect_v4("kept", false, 0)).await;
    client.expect(&[0x20, 2, 0, 0]).await;
    client.send(&subscribe_v4(1, "k", 1)).await;
    client.expect(&[0x90, 3, 0, 1, 1]).await;
    let mut publisher = running.v4("p").await;
    publisher.send(&publish_v4(2, "k", Some(1), b"seen")).await;
    client.expect(&publish_v4(2, "k", Some(1), b"seen")).await;
    drop(client);
    publisher.send(&publish_v4(2, "k", Some(2), b"missed")).await;
    publisher.expect(&[0x40, 2, 0, 1, 0x40, 2, 0, 2]).await;
    let mut client = running.raw().await;
    client.send(&connect_v4("kept", false, 0)).await;
    client.expect(&[0x20, 2, 1, 0]).await;
    // The first was never acknowledged: it comes again, as a duplicate.
    client.expect(&publish_v4(2 | 8, "k", Some(1), b"seen")).await;
    client.expect(&publish_v4(2, "k", Some(2), b"missed")).await;
    client.send(&[0x40, 2, 0, 1, 0x40, 2, 0, 2, 0xe0, 0]).await;
    client.expect_closed().await;
    // A clean start ends it.
    let mut client = running.v4("kept").await;
    publisher.send(&publish_v4(2, "k", Some(3), b"nobody")).await;
    publisher.expect(&[0x40, 2, 0, 3]).await;
    client.expect_silence().await;
}

#[tokio::test]
async fn a_session_expires_when_it_said_it_would() {
    let running = running().await;
    for (expiry, present) in [(0u8, 0u8), (100, 1)] {
        let mut client = running.raw().await;
        client.send(&connect_v5("e", false, 0, &[0x11, 0, 0, 0, expiry])).await;
        client.packet().await;
        client.send(&[0xe0, 0]).await;
        client.expect_closed().await;
        let mut client = running.raw().await;
        client.send(&connect_v5("e", false, 0, &[])).await;
        assert_eq!(client.packet().await[2], present);
        client.send(&[0xe0, 0]).await;
        client.expect_closed().await;
    }
}

#[tokio::test]
async fn mqtt_3_14_2_2_2_a_session_that_ends_with_its_connection_is_not_prolonged_by_disconnect() {
    let running = running().await;
    let disconnect = [0xe0, 7, 0, 5, 0x11, 0, 0, 0, 60];
    for expiry in [0, 1] {
        let mut client = running.raw().await;
        client.send(&connect_v5("e", true, 0, &[0x11, 0, 0, 0, expiry])).await;
        client.packet().await;
        client.send(&disconnect).await;
        if expiry == 0 {
            client.expect_disconnect(0x82).await;
        }
        client.expect_closed().await;
    }
}

/// CONNECT with a will; `delay` for v5.
fn with_will(id: &str, topic: &str, delay: Option<u8>, expiry: u8, keep_alive: u16) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([if delay.is_some() { 5 } else { 4 }, 0x02 | 0x04 | 0x08 | 0x20]);
    body.extend(keep_alive.to_be_bytes());
    if delay.is_some() {
        body.extend([5, 0x11, 0, 0, 0, expiry]);
    }
    body.extend(text(id));
    if let Some(delay) = delay {
        body.extend([5, 0x18, 0, 0, 0, delay]);
    }
    body.extend(text(topic));
    body.extend(text("gone"));
    packet(0x10, &body)
}

#[tokio::test]
async fn mqtt_3_1_2_8_a_will_is_published_when_its_client_is_lost_and_not_when_it_leaves() {
    let running = running().await;
    let mut watcher = running.v4("w").await;
    watcher.send(&subscribe_v4(1, "w/+", 1)).await;
    watcher.expect(&[0x90, 3, 0, 1, 1]).await;
    let mut id = 0;
    for (name, words, published) in [
        ("left", Some(&[0xe0, 0][..]), false),
        ("with", Some(&[0xe0, 1, 4]), true),
        ("failed", Some(&[0xe0, 1, 0x80]), true),
        ("lost", None, true),
        ("broke", Some(&[0xff, 0xff]), true),
    ] {
        let mut client = running.raw().await;
        let topic = format!("w/{name}");
        let delay = matches!(name, "with" | "failed").then_some(0);
        client.send(&with_will(name, &topic, delay, 0, 0)).await;
        assert_eq!(client.packet().await[3], 0);
        if let Some(words) = words {
            client.send(words).await;
        }
        drop(client);
        if published {
            id += 1;
            watcher.expect(&publish_v4(2, &topic, Some(id), b"gone")).await;
        } else {
            // The next one's will comes first if this one has none.
            watcher.expect_silence().await;
        }
    }
    // They were to be retained.
    let mut late = running.v4("late").await;
    late.send(&subscribe_v4(1, "w/lost", 0)).await;
    late.expect(&[0x90, 3, 0, 1, 0]).await;
    late.expect(&publish_v4(1, "w/lost", None, b"gone")).await;
}

#[tokio::test]
async fn mqtt_3_1_3_9_a_delayed_will_is_not_published_if_its_client_returns() {
    let running = running().await;
    let mut watcher = running.v4("w").await;
    watcher.send(&subscribe_v4(1, "w/#", 1)).await;
    watcher.expect(&[0x90, 3, 0, 1, 1]).await;
    let mut client = running.raw().await;
    client.send(&with_will("returns", "w/1", Some(1), 60, 0)).await;
    client.packet().await;
    drop(client);
    let mut client = running.raw().await;
    client.send(&connect_v5("returns", false, 0, &[0x11, 0, 0, 0, 60])).await;
    assert_eq!(client.packet().await[2], 1, "the session is there");
    let mut other = running.raw().await;
    other.send(&with_will("stays away", "w/2", Some(1), 60, 0)).await;
    other.packet().await;
    drop(other);
    watcher.expect(&publish_v4(2, "w/2", Some(1), b"gone")).await;
}

#[tokio::test]
async fn a_will_on_a_claimed_topic_goes_to_the_handler_until_it_is_durable() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(BrokerConfig::default(), handler.clone()).await;
    let mut watcher = running.v4("w").await;
    watcher.send(&subscribe_v4(1, "nb1/#", 1)).await;
    watcher.expect(&[0x90, 3, 0, 1, 1]).await;
    let topic = "nb1/zunyi/bs0001/state";
    let mut station = running.raw().await;
    station.send(&with_will("bs0001", topic, None, 0, 0)).await;
    station.expect(&[0x20, 2, 0, 0]).await;
    handler.set_busy(true);
    drop(station);
    within("a refusal", handler.refused.notified()).await;
    handler.set_busy(false);
    let (will, ticket) = within("the will", offers.recv()).await.unwrap();
    assert_eq!(will.origin, loushan_broker::handler::Origin::Will("bs0001".into()));
    ticket.failed();
    let (_, ticket) = within("the will again", offers.recv()).await.unwrap();
    watcher.expect_silence().await;
    ticket.durable(Acknowledgement::default());
    watcher.expect(&publish_v4(2, topic, Some(1), b"gone")).await;
}

#[tokio::test]
async fn mqtt_4_3_3_a_qos_2_message_whose_pubrec_never_left_is_not_delivered_twice() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(BrokerConfig::default(), handler).await;
    let mut subscriber = running.v4("s").await;
    subscriber.send(&subscribe_v4(1, "x", 2)).await;
    subscriber.expect(&[0x90, 3, 0, 1, 2]).await;
    let mut publisher = running.raw().await;
    publisher.send(&connect_v4("kept", false, 0)).await;
    publisher.expect(&[0x20, 2, 0, 0]).await;
    // A publish that waits for durability keeps the PUBREC behind it from leaving.
    publisher.send(&publish_v4(2, "t/x", Some(1), b"")).await;
    let (_, _ticket) = within("an offer", offers.recv()).await.unwrap();
    publisher.send(&publish_v4(4, "x", Some(2), b"once")).await;
    subscriber.expect(&publish_v4(4, "x", Some(1), b"once")).await;
    drop(publisher);
    let mut publisher = running.raw().await;
    publisher.send(&connect_v4("kept", false, 0)).await;
    publisher.expect(&[0x20, 2, 1, 0]).await;
    publisher.send(&publish_v4(4 | 8, "x", Some(2), b"once")).await;
    publisher.expect(&[0x50, 2, 0, 2]).await;
    publisher.send(&[0x62, 2, 0, 2]).await;
    publisher.expect(&[0x70, 2, 0, 2]).await;
    subscriber.expect_silence().await;
}

#[tokio::test]
async fn mqtt_4_3_3_a_claimed_qos_2_message_that_outlived_its_connection_is_shown_once() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(BrokerConfig::default(), handler).await;
    let mut subscriber = running.v4("s").await;
    subscriber.send(&subscribe_v4(1, "t/#", 2)).await;
    subscriber.expect(&[0x90, 3, 0, 1, 2]).await;
    let mut publisher = running.raw().await;
    publisher.send(&connect_v4("kept", false, 0)).await;
    publisher.expect(&[0x20, 2, 0, 0]).await;
    publisher.send(&publish_v4(4, "t/x", Some(7), b"once")).await;
    let (_, ticket) = within("an offer", offers.recv()).await.unwrap();
    drop(publisher);
    // CONNACK: the first connection is over, its ticket is not.
    let mut publisher = running.raw().await;
    publisher.send(&connect_v4("kept", false, 0)).await;
    publisher.expect(&[0x20, 2, 1, 0]).await;
    ticket.durable(Acknowledgement::default());
    subscriber.expect(&publish_v4(4, "t/x", Some(1), b"once")).await;
    // The handler decides whether it is a duplicate; subscribers have it.
    publisher.send(&publish_v4(4 | 8, "t/x", Some(7), b"once")).await;
    let (_, ticket) = within("an offer", offers.recv()).await.unwrap();
    ticket.durable(Acknowledgement::default());
    publisher.expect(&[0x50, 2, 0, 7]).await;
    publisher.send(&[0x62, 2, 0, 7]).await;
    publisher.expect(&[0x70, 2, 0, 7]).await;
    subscriber.expect_silence().await;
    // The id is free for another message.
    publisher.send(&publish_v4(4, "t/x", Some(7), b"once")).await;
    let (_, ticket) = within("an offer", offers.recv()).await.unwrap();
    ticket.durable(Acknowledgement::default());
    subscriber.expect(&publish_v4(4, "t/x", Some(2), b"once")).await;
}
