//! Shared subscriptions, section 4.8.2 of MQTT 5; 3.1.1 clients may use them as well.
#![allow(clippy::unwrap_used)]

mod support;

use loushan_broker::config::BrokerConfig;
use support::{
    Raw, Running, Scripted, connect_v4, connect_v5, packet, publish_v4, publish_v5, start,
    subscribe_v4, subscribe_v5, text,
};

async fn running() -> Running {
    start(BrokerConfig::default(), Scripted::automatic()).await
}

/// A 3.1.1 client that subscribes to `filter`.
async fn member(running: &Running, id: &str, filter: &str, qos: u8) -> Raw {
    let mut client = running.v4(id).await;
    client.send(&subscribe_v4(1, filter, qos)).await;
    client.expect(&[0x90, 3, 0, 1, qos]).await;
    client
}

/// A v5 client that takes `receive_maximum` messages, whose session ends `expiry` seconds after it.
async fn narrow(running: &Running, id: &str, receive_maximum: u8, expiry: u8) -> Raw {
    let mut client = running.raw().await;
    let properties = [0x21, 0, receive_maximum, 0x11, 0, 0, 0, expiry];
    client.send(&connect_v5(id, false, 0, &properties)).await;
    assert_eq!(client.packet().await[3], 0);
    client
}

async fn publish(publisher: &mut Raw, topic: &str, id: u16, payload: &[u8]) {
    publisher.send(&publish_v4(2, topic, Some(id), payload)).await;
    let [high, low] = id.to_be_bytes();
    publisher.expect(&[0x40, 2, high, low]).await;
}

#[tokio::test]
async fn mqtt_4_8_2_each_message_goes_to_one_member_in_turn_and_to_every_other_subscriber() {
    let running = running().await;
    let filter = "$share/g/s/+";
    let mut members =
        [member(&running, "a", filter, 1).await, member(&running, "b", filter, 1).await];
    let mut other_group = member(&running, "c", "$share/h/s/+", 1).await;
    let mut alone = member(&running, "d", "s/#", 1).await;
    let mut publisher = running.v4("p").await;
    for id in 1..=6u16 {
        publish(&mut publisher, "s/x", id, &[id as u8]).await;
        let nth = id.div_ceil(2);
        let whose = usize::from((id - 1) % 2);
        members[whose].expect(&publish_v4(2, "s/x", Some(nth), &[id as u8])).await;
        other_group.expect(&publish_v4(2, "s/x", Some(id), &[id as u8])).await;
        alone.expect(&publish_v4(2, "s/x", Some(id), &[id as u8])).await;
    }
    // Of quality of service 0 as well.
    for payload in [b"7", b"8"] {
        publisher.send(&publish_v4(0, "s/x", None, payload)).await;
    }
    members[0].expect(&publish_v4(0, "s/x", None, b"7")).await;
    members[1].expect(&publish_v4(0, "s/x", None, b"8")).await;
    for member in &mut members {
        member.expect_silence().await;
    }
}

#[tokio::test]
async fn who_shares_and_subscribes_alone_gets_a_copy_for_each() {
    let running = running().await;
    let mut client = running.v5("c").await;
    client.send(&subscribe_v5(1, &[0x0b, 7], &[("$share/g/x", 1)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    client.send(&subscribe_v5(2, &[0x0b, 8], &[("x", 0)])).await;
    client.expect(&[0x90, 4, 0, 2, 0, 0]).await;
    let mut publisher = running.v4("p").await;
    publish(&mut publisher, "x", 1, b"m").await;
    client.expect(&publish_v5(2, "x", Some(1), &[0x0b, 7], b"m")).await;
    client.expect(&publish_v5(0, "x", None, &[0x0b, 8], b"m")).await;
    // Until it leaves the group.
    client.send(&packet(0xa2, &[&[0, 3, 0][..], &text("$share/g/x")].concat())).await;
    client.expect(&[0xb0, 4, 0, 3, 0, 0]).await;
    publish(&mut publisher, "x", 2, b"n").await;
    client.expect(&publish_v5(0, "x", None, &[0x0b, 8], b"n")).await;
    client.expect_silence().await;
}

#[tokio::test]
async fn mqtt_3_8_4_a_shared_subscription_brings_no_retained_messages() {
    let running = running().await;
    let mut publisher = running.v4("p").await;
    publisher.send(&publish_v4(3, "r", Some(1), b"kept")).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
    let mut client = running.v5("c").await;
    // Retain as published.
    client.send(&subscribe_v5(1, &[], &[("$share/g/r", 1 | 8)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    client.expect_silence().await;
    publisher.send(&publish_v4(3, "r", Some(2), b"live")).await;
    client.expect(&publish_v5(3, "r", Some(1), &[], b"live")).await;
}

#[tokio::test]
async fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    let running = running().await;
    let mut client = running.v5("c").await;
    client.send(&subscribe_v5(1, &[], &[("$share/g/x", 1 | 4)])).await;
    client.expect_disconnect(0x82).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn mqtt_4_8_2_1_and_2_a_group_has_a_name_without_wildcards() {
    let running = running().await;
    let mut client = running.v5("c").await;
    for filter in ["$share//x", "$share/g", "$share/+/x", "$share/g#/x", "$share/g/"] {
        client.send(&subscribe_v5(1, &[], &[(filter, 1)])).await;
        assert_eq!(client.packet().await.last(), Some(&0x8f), "{filter}");
    }
}

#[tokio::test]
async fn a_member_that_has_all_it_takes_is_passed_over() {
    let running = running().await;
    let mut full = narrow(&running, "full", 1, 0).await;
    full.send(&subscribe_v5(1, &[], &[("$share/g/x", 1)])).await;
    full.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    let mut publisher = running.v4("p").await;
    publish(&mut publisher, "x", 1, b"1").await;
    full.expect(&publish_v5(2, "x", Some(1), &[], b"1")).await;
    let mut free = member(&running, "free", "$share/g/x", 1).await;
    for id in 2..=4 {
        publish(&mut publisher, "x", id, b"more").await;
        free.expect(&publish_v4(2, "x", Some(id - 1), b"more")).await;
    }
    full.expect_silence().await;
}

#[tokio::test]
async fn what_a_member_leaves_behind_goes_to_another_one() {
    let running = running().await;
    let mut leaves = narrow(&running, "leaves", 1, 0).await;
    leaves.send(&subscribe_v5(1, &[], &[("$share/g/x", 1)])).await;
    leaves.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    let mut publisher = running.v4("p").await;
    for id in 1..=3 {
        publish(&mut publisher, "x", id, &[id as u8]).await;
    }
    leaves.expect(&publish_v5(2, "x", Some(1), &[], &[1])).await;
    let mut stays = member(&running, "stays", "$share/g/x", 2).await;
    drop(leaves);
    // What was not sent, and then what was sent and not acknowledged.
    for (id, payload) in [(1, 2), (2, 3), (3, 1)] {
        stays.expect(&publish_v4(2, "x", Some(id), &[payload])).await;
    }
}

#[tokio::test]
async fn mqtt_4_8_2_5_a_message_of_qos_2_that_was_sent_goes_to_nobody_else() {
    let running = running().await;
    let mut leaves = narrow(&running, "leaves", 1, 0).await;
    leaves.send(&subscribe_v5(1, &[], &[("$share/g/x", 2)])).await;
    leaves.expect(&[0x90, 4, 0, 1, 0, 2]).await;
    let mut publisher = running.v4("p").await;
    for (id, payload) in [(1, b"1"), (2, b"2")] {
        publisher.send(&publish_v4(4, "x", Some(id), payload)).await;
        publisher.expect(&[0x50, 2, 0, id as u8]).await;
    }
    leaves.expect(&publish_v5(4, "x", Some(1), &[], b"1")).await;
    let mut stays = member(&running, "stays", "$share/g/x", 2).await;
    drop(leaves);
    stays.expect(&publish_v4(4, "x", Some(1), b"2")).await;
    stays.expect_silence().await;
}

#[tokio::test]
async fn mqtt_4_8_2_6_a_message_that_its_member_refuses_goes_to_nobody_else() {
    let running = running().await;
    let mut refuses = narrow(&running, "refuses", 1, 0).await;
    refuses.send(&subscribe_v5(1, &[], &[("$share/g/x", 1)])).await;
    refuses.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    let mut publisher = running.v4("p").await;
    publish(&mut publisher, "x", 1, b"1").await;
    refuses.expect(&publish_v5(2, "x", Some(1), &[], b"1")).await;
    let mut other = member(&running, "other", "$share/g/x", 1).await;
    refuses.send(&[0x40, 3, 0, 1, 0x83, 0xe0, 0]).await;
    refuses.expect_closed().await;
    other.expect_silence().await;
}

#[tokio::test]
async fn a_member_that_is_away_is_kept_messages_only_while_no_other_is_there() {
    let running = running().await;
    let mut away = running.raw().await;
    away.send(&connect_v4("away", false, 0)).await;
    away.expect(&[0x20, 2, 0, 0]).await;
    away.send(&subscribe_v4(1, "$share/g/x", 1)).await;
    away.expect(&[0x90, 3, 0, 1, 1]).await;
    away.send(&[0xe0, 0]).await;
    away.expect_closed().await;
    let mut publisher = running.v4("p").await;
    publish(&mut publisher, "x", 1, b"kept").await;
    let mut here = member(&running, "here", "$share/g/x", 1).await;
    for id in 2..=3 {
        publish(&mut publisher, "x", id, b"taken").await;
        here.expect(&publish_v4(2, "x", Some(id - 1), b"taken")).await;
    }
    let mut away = running.raw().await;
    away.send(&connect_v4("away", false, 0)).await;
    away.expect(&[0x20, 2, 1, 0]).await;
    away.expect(&publish_v4(2, "x", Some(1), b"kept")).await;
    away.expect_silence().await;
}
