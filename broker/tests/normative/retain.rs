//! Retained messages (section 3.3.1.3) and how a subscription asks for them (3.8.3.1).

use super::client::Client;
use super::running;
use super::wire::{BOTH, Publish, V4, V5, property};

/// Retain handling and the two flags of version 5's subscription options.
const IF_NEW: u8 = 0x10;
const NEVER: u8 = 0x20;
const AS_PUBLISHED: u8 = 0x08;
const NO_LOCAL: u8 = 0x04;

// 3.1.1: [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] [MQTT-3.3.1-7] [MQTT-3.1.2-7]
// 5: [MQTT-3.3.1-5] [MQTT-3.3.1-9]
#[tokio::test]
async fn the_last_retained_message_of_each_topic_comes_with_a_subscription_and_says_so() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        for qos in [0, 1, 2] {
            let topic = format!("r/{version:?}/{qos}");
            publisher.deliver(&Publish::new(1, &topic, "old").retained()).await;
            publisher.deliver(&Publish::new(qos, &topic, "last").retained()).await;
        }
        // They outlive the session of their publisher.
        publisher.leave().await;
        for subscribed in [0, 1, 2] {
            let mut subscriber = Client::new(&running, version, "s").await;
            subscriber.subscribe(&format!("r/{version:?}/+"), subscribed).await;
            let mut seen = Vec::new();
            for _ in 0..3 {
                let message = subscriber.message().await;
                assert!(message.retain && !message.dup, "{message:?}");
                assert_eq!(message.text(), "last");
                let published: u8 = message.topic.rsplit('/').next().unwrap().parse().unwrap();
                assert_eq!(message.qos, published.min(subscribed));
                subscriber.take(&message).await;
                seen.push(published);
            }
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2]);
            subscriber.silence().await;
        }
    }
}

// 3.1.1: [MQTT-3.3.1-10] [MQTT-3.3.1-11]
// 5: [MQTT-3.3.1-6] [MQTT-3.3.1-7]
#[tokio::test]
async fn an_empty_retained_message_is_delivered_and_clears_its_topic() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        for qos in [0, 1, 2] {
            let mut subscriber = Client::new(&running, version, "s").await;
            subscriber.subscribe("c", 2).await;
            publisher.deliver(&Publish::new(1, "c", "kept").retained()).await;
            let live = subscriber.message().await;
            assert_eq!((live.text(), live.retain), ("kept", false));
            subscriber.take(&live).await;
            publisher.deliver(&Publish::new(qos, "c", "").retained()).await;
            let empty = subscriber.message().await;
            assert_eq!((empty.qos, empty.retain, empty.payload.len()), (qos, false, 0));
            subscriber.take(&empty).await;
            let mut late = Client::new(&running, version, "late").await;
            late.subscribe("c", 2).await;
            late.silence().await;
        }
    }
}

// 3.1.1: [MQTT-3.3.1-12]
// 5: [MQTT-3.3.1-8]
#[tokio::test]
async fn a_message_without_the_flag_neither_is_kept_nor_touches_what_is() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        publisher.deliver(&Publish::new(1, "k", "kept").retained()).await;
        for payload in ["other", ""] {
            publisher.deliver(&Publish::new(1, "k", payload)).await;
            publisher.deliver(&Publish::new(1, "k/not", payload)).await;
        }
        let mut subscriber = Client::new(&running, version, "s").await;
        subscriber.subscribe("k/#", 1).await;
        let message = subscriber.message().await;
        assert_eq!((&*message.topic, message.text()), ("k", "kept"));
        subscriber.take(&message).await;
        subscriber.silence().await;
    }
}

// 3.1.1: [MQTT-3.3.1-9]
// 5: [MQTT-3.3.1-12] [MQTT-3.3.1-13]
#[tokio::test]
async fn live_messages_say_retain_only_to_who_asked_for_it_as_published() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        let mut plain = Client::new(&running, version, "plain").await;
        plain.subscribe("l", 2).await;
        let mut faithful = Client::new(&running, V5, "faithful").await;
        faithful.subscribe("l", 2 | AS_PUBLISHED | NEVER).await;
        for qos in [0, 1, 2] {
            for retain in [true, false] {
                publisher.deliver(&Publish { retain, ..Publish::new(qos, "l", "x") }).await;
                let message = plain.message().await;
                assert!(!message.retain, "{message:?}");
                plain.take(&message).await;
                let message = faithful.message().await;
                assert_eq!(message.retain, retain, "{message:?}");
                faithful.take(&message).await;
            }
        }
        publisher.deliver(&Publish::new(1, "l", "").retained()).await;
    }
}

// 5: [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4]
#[tokio::test]
async fn retain_handling_says_which_subscriptions_bring_retained_messages() {
    let running = running().await;
    let mut publisher = Client::new(&running, V5, "p").await;
    publisher.deliver(&Publish::new(1, "h", "kept").retained()).await;
    for (first, again, after_unsubscribe) in
        [(0, true, true), (IF_NEW, false, true), (NEVER, false, false)]
    {
        let mut subscriber = Client::new(&running, V5, "s").await;
        // New, there already, new again.
        for (at, expected) in
            [after_unsubscribe, again, again, after_unsubscribe].into_iter().enumerate()
        {
            if at == 3 {
                subscriber.unsubscribe("h").await;
            }
            subscriber.subscribe("h", 1 | first).await;
            if expected {
                let message = subscriber.message().await;
                assert_eq!((message.text(), message.retain), ("kept", true));
                subscriber.take(&message).await;
            }
            subscriber.silence().await;
        }
    }
    // A subscription that a session has kept is there already.
    let (mut subscriber, _) = Client::kept(&running, V5, "k").await;
    subscriber.subscribe("h", 1 | NEVER).await;
    subscriber.vanish();
    let (mut subscriber, _) = Client::kept(&running, V5, "k").await;
    subscriber.subscribe("h", 1 | IF_NEW).await;
    subscriber.silence().await;
}

// 3.1.1: [MQTT-3.8.4-3]
#[tokio::test]
async fn in_3_1_1_every_subscribe_brings_the_retained_messages_again() {
    let running = running().await;
    let mut publisher = Client::new(&running, V4, "p").await;
    publisher.deliver(&Publish::new(1, "h", "kept").retained()).await;
    let mut subscriber = Client::new(&running, V4, "s").await;
    for qos in [0, 1, 1] {
        subscriber.subscribe("h", qos).await;
        let message = subscriber.message().await;
        assert_eq!((message.text(), message.retain, message.qos), ("kept", true, qos));
        subscriber.take(&message).await;
    }
    subscriber.silence().await;
}

// 5: [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[tokio::test]
async fn a_retained_message_says_how_long_it_is_still_of_use_and_then_is_gone() {
    let running = running().await;
    let mut publisher = Client::new(&running, V5, "p").await;
    let short = Publish::new(1, "short", "x").retained().with(property::MESSAGE_EXPIRY, 1);
    let long = Publish::new(1, "long", "x").retained().with(property::MESSAGE_EXPIRY, 1000);
    publisher.deliver(&long).await;
    publisher.deliver(&short).await;
    let begun = std::time::Instant::now();
    let mut subscriber = Client::new(&running, V5, "s").await;
    // Until the short one is gone.
    loop {
        let brought = subscriber.subscribe_and_see("short", 0).await;
        let Some(message) = brought.first() else { break };
        assert_eq!(message.properties.number(property::MESSAGE_EXPIRY), Some(1));
        assert!(begun.elapsed() < super::support::PATIENCE, "it does not expire");
    }
    assert!(begun.elapsed().as_millis() > 900, "after {:?}", begun.elapsed());
    subscriber.subscribe("long", 0).await;
    let message = subscriber.message().await;
    let left = message.properties.number(property::MESSAGE_EXPIRY).unwrap();
    assert!((900..=999).contains(&left), "{left} seconds are left");
}

// 5: [MQTT-3.8.3-3]
#[tokio::test]
async fn no_local_keeps_a_client_from_hearing_itself_whatever_connection_it_spoke_on() {
    let running = running().await;
    let (mut client, _) = Client::kept(&running, V5, "c").await;
    client.subscribe("n", 2 | NO_LOCAL).await;
    let mut other = Client::new(&running, V5, "o").await;
    for qos in [0, 1, 2] {
        client.deliver(&Publish::new(qos, "n", "mine")).await;
        other.deliver(&Publish::new(qos, "n", "other's")).await;
        let message = client.message().await;
        assert_eq!(message.text(), "other's");
        client.take(&message).await;
    }
    client.deliver(&Publish::new(1, "n", "mine").retained()).await;
    client.vanish();
    let (mut client, _) = Client::kept(&running, V5, "c").await;
    client.silence().await;
}
