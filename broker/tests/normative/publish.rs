//! PUBLISH (section 3.3), save what is kept (retain), and its topics.

use std::pin::Pin;
use std::sync::Arc;

use loushan_broker::Broker;
use loushan_broker::auth::{AllowAll, Authority, Credentials, Grant, Refusal, Rights};
use loushan_broker::config::BrokerConfig;

use super::client::Client;
use super::support::{Scripted, serve};
use super::wire::{
    BOTH, PUBACK, PUBREC, Packet, Properties, Publish, V4, V5, property, raw, subscribe, text,
};
use super::{running, with};

// 3.1.1: [MQTT-3.3.1-2] [MQTT-3.3.1-4]
// 5: [MQTT-3.3.1-2] [MQTT-3.3.1-4] [MQTT-4.13.1-1]
#[tokio::test]
async fn quality_of_service_3_and_dup_at_0_are_malformed() {
    let running = running().await;
    for version in BOTH {
        for (publish, why) in [
            (Publish { qos: 3, ..Publish::new(1, "t", "x") }, "quality of service 3"),
            (Publish { qos: 3, ..Publish::new(1, "t", "x") }.dup(), "quality of service 3"),
            (Publish::new(0, "t", "x").dup(), "DUP at quality of service 0"),
        ] {
            let mut client = Client::new(&running, version, "c").await;
            client.publish(&publish).await;
            client.refused(0x81, why).await;
        }
    }
}

// 3.1.1: [MQTT-3.3.1-3]
// 5: [MQTT-3.3.1-3]
#[tokio::test]
async fn dup_is_not_passed_on_to_subscribers() {
    let running = running().await;
    for version in BOTH {
        let mut subscriber = Client::new(&running, version, "s").await;
        subscriber.subscribe("t", 2).await;
        let mut publisher = Client::new(&running, version, "p").await;
        for qos in [1, 2] {
            publisher.deliver(&Publish::new(qos, "t", "x").dup()).await;
            let message = subscriber.message().await;
            assert!(!message.dup, "{message:?}");
            subscriber.take(&message).await;
        }
    }
}

// 3.1.1: [MQTT-3.3.2-2] [MQTT-4.7.1-1]
// 5: [MQTT-3.3.2-2] [MQTT-4.7.0-1]
#[tokio::test]
async fn a_topic_name_with_a_wildcard_ends_the_connection_and_reaches_nobody() {
    let running = running().await;
    for version in BOTH {
        let mut watcher = Client::new(&running, version, "w").await;
        watcher.subscribe("#", 1).await;
        for topic in ["#", "+", "a/#", "a/+/b", "a+", "#a"] {
            for qos in [0, 1, 2] {
                let mut client = Client::new(&running, version, "c").await;
                client.publish(&Publish::new(qos, topic, "x")).await;
                client.refused(0x90, topic).await;
            }
        }
        watcher.silence().await;
    }
}

// 3.1.1: [MQTT-3.3.2-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-4.7.3-2]
// 5: [MQTT-3.3.2-1] [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-4.7.3-2]
#[tokio::test]
async fn a_topic_name_that_is_not_utf_8_or_holds_u_0000_ends_the_connection() {
    let running = running().await;
    for version in BOTH {
        for name in [
            &b"\xff"[..],
            b"caf\xe9",
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xe2\x82",
            b"a\0b",
        ] {
            let mut client = Client::new(&running, version, "c").await;
            let mut body = super::wire::binary(name);
            body.extend(Properties::default().bytes(version));
            client.send(&raw(0x30, &body)).await;
            client.refused(0x81, &format!("the topic name {name:02x?}")).await;
        }
    }
}

// 3.1.1: [MQTT-1.5.3-3] [MQTT-4.7.3-4]
// 5: [MQTT-1.5.4-3] [MQTT-4.7.3-4]
#[tokio::test]
async fn topics_are_compared_and_forwarded_to_the_byte() {
    let running = running().await;
    let topics = [
        "\u{feff}t",
        "t\u{feff}",
        "t",
        "T",
        " t",
        "t ",
        "/t",
        "t/",
        "//t",
        "\u{e9}",
        "e\u{301}",
        "\u{1}t",
        "t\u{fffe}",
        "\u{10ffff}",
    ];
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        let mut all = Client::new(&running, version, "all").await;
        all.subscribe("#", 1).await;
        for topic in topics {
            let mut one = Client::new(&running, version, "one").await;
            one.subscribe(topic, 1).await;
            for other in topics {
                publisher.deliver(&Publish::new(1, other, other)).await;
                let message = all.message().await;
                assert_eq!(message.topic.as_bytes(), other.as_bytes());
                all.take(&message).await;
            }
            let message = one.message().await;
            assert_eq!((&*message.topic, message.text()), (topic, topic));
            one.take(&message).await;
            one.silence().await;
        }
    }
}

// 3.1.1: [MQTT-3.3.2-3]
// 5: [MQTT-3.3.2-3]
#[tokio::test]
async fn what_a_subscriber_gets_matches_its_filter_under_the_name_it_was_published_to() {
    let running = running().await;
    for version in BOTH {
        let mut subscriber = Client::new(&running, version, "s").await;
        subscriber.subscribe("a/+/c", 0).await;
        let mut publisher = Client::new(&running, version, "p").await;
        for topic in ["a/b/c", "a/c", "a/b/c/d", "b/b/c", "a//c", "a/b/C", "a/$x/c"] {
            publisher.publish(&Publish::new(0, topic, topic)).await;
        }
        for expected in ["a/b/c", "a//c", "a/$x/c"] {
            let message = subscriber.message().await;
            assert_eq!((&*message.topic, message.text()), (expected, expected));
        }
    }
}

// 3.1.1: [MQTT-3.3.4-1] [MQTT-2.3.1-6] [MQTT-4.3.2-2]
// 5: [MQTT-3.3.4-1] [MQTT-2.2.1-5] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1]
#[tokio::test]
async fn a_publish_is_answered_as_its_quality_of_service_demands_with_its_identifier() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        // Nothing in answer to quality of service 0.
        client.publish(&Publish::new(0, "t", "x")).await;
        client.silence().await;
        for id in [1, 2, 255, 256, 0x7fff, 0xffff] {
            client.publish(&Publish::new(1, "t", "x").id(id)).await;
            assert_eq!(client.acked(PUBACK, id).await, 0);
            client.deliver(&Publish::new(2, "t", "x").id(id)).await;
        }
        client.silence().await;
    }
}

// 3.1.1: [MQTT-2.3.1-1] [MQTT-2.3.1-5]
// 5: [MQTT-2.2.1-2] [MQTT-2.2.1-3]
#[tokio::test]
async fn packet_identifier_0_is_refused_and_at_quality_of_service_0_there_is_none() {
    let running = running().await;
    for version in BOTH {
        for packet in [
            Publish::new(1, "t", "x").id(0).bytes(version),
            Publish::new(2, "t", "x").id(0).bytes(version),
            subscribe(version, 0, &[("t", 0)]),
            super::wire::unsubscribe(version, 0, &["t"]),
        ] {
            let mut client = Client::new(&running, version, "c").await;
            client.send(&packet).await;
            client.refused(0x81, "packet identifier 0").await;
        }
        // What would be an identifier is payload.
        let mut subscriber = Client::new(&running, version, "s").await;
        subscriber.subscribe("t", 0).await;
        let mut body = text("t");
        body.extend(Properties::default().bytes(version));
        body.extend([0, 7, b'x']);
        subscriber.send(&raw(0x30, &body)).await;
        let message = subscriber.message().await;
        assert_eq!((message.qos, message.payload), (0, vec![0, 7, b'x']));
    }
}

// 3.1.1: [MQTT-3.3.5-1]
// 5: [MQTT-3.3.4-2]
#[tokio::test]
async fn overlapping_subscriptions_bring_the_message_at_the_greatest_quality_of_service() {
    let running = running().await;
    for version in BOTH {
        let mut subscriber = Client::new(&running, version, "s").await;
        for (filter, qos) in [("o/+", 0), ("o/#", 2), ("o/x", 1), ("#", 0)] {
            assert_eq!(subscriber.subscribe(filter, qos).await, qos);
        }
        let mut publisher = Client::new(&running, version, "p").await;
        for qos in [2, 1, 0] {
            publisher.deliver(&Publish::new(qos, "o/x", [qos])).await;
            let message = subscriber.message().await;
            assert_eq!((message.qos, &message.payload[..]), (qos, &[qos][..]));
            subscriber.take(&message).await;
        }
    }
}

// 5: [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[tokio::test]
async fn a_copy_carries_the_identifiers_of_the_subscriptions_that_brought_it() {
    let running = running().await;
    let mut subscriber = Client::new(&running, V5, "s").await;
    for (filter, options, id) in [
        ("i/+", 1, Some(1)),
        ("i/#", 1, Some(268_435_455)),
        ("i/x", 0, None),
        ("other", 1, Some(3)),
    ] {
        let mut properties = Properties::default();
        if let Some(id) = id {
            properties = properties.with(property::SUBSCRIPTION_ID, id);
        }
        assert_eq!(subscriber.subscribe_with(&properties, filter, options).await, options);
    }
    let mut publisher = Client::new(&running, V4, "p").await;
    for (topic, qos, expected) in [
        ("i/x", 1, vec![1, 268_435_455]),
        ("i/y/z", 1, vec![268_435_455]),
        ("i", 0, vec![268_435_455]),
    ] {
        publisher.deliver(&Publish::new(qos, topic, "x")).await;
        let mut seen = Vec::new();
        // One copy with all, or one of each.
        while seen.len() < expected.len() {
            let message = subscriber.message().await;
            assert_eq!((message.qos, &*message.topic), (qos, topic));
            seen.extend(message.properties.numbers(property::SUBSCRIPTION_ID));
            subscriber.take(&message).await;
        }
        seen.sort_unstable();
        assert_eq!(seen, expected, "{topic}");
    }
    subscriber.silence().await;
}

// 5: [MQTT-3.3.4-6]
#[tokio::test]
async fn a_subscription_identifier_in_a_client_s_publish_ends_the_connection() {
    let running = running().await;
    let mut client = Client::new(&running, V5, "c").await;
    client.publish(&Publish::new(1, "t", "x").with(property::SUBSCRIPTION_ID, 1)).await;
    client.refused(0x82, "a subscription identifier from a client").await;
}

// 5: [MQTT-3.3.4-7]
#[tokio::test]
async fn more_unacknowledged_publishes_than_the_receive_maximum_end_the_connection() {
    let running = with(BrokerConfig { max_in_flight: 3, ..BrokerConfig::default() }).await;
    let (mut client, said) = Client::connect(&running, V5, &super::wire::Connect::clean("c")).await;
    assert_eq!(said.properties.number(property::RECEIVE_MAXIMUM), Some(3));
    for id in 1..=3 {
        client.publish(&Publish::new(2, "t", "x").id(id)).await;
        assert_eq!(client.acked(PUBREC, id).await, 0);
    }
    // Other packets are still served.
    client.ping().await;
    client.publish(&Publish::new(0, "t", "x")).await;
    client.publish(&Publish::new(2, "t", "x").id(4)).await;
    client.refused(0x93, "a fourth publish").await;
}

/// Nobody may publish below `denied/`.
struct Restricted;

impl Authority for Restricted {
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>> {
        Box::pin(async {
            let grant = AllowAll.authenticate(credentials).await?;
            Ok(Grant { rights: Arc::new(Self), ..grant })
        })
    }
}

impl Rights for Restricted {
    fn may_publish(&self, topic: &str) -> bool {
        !topic.starts_with("denied/")
    }

    fn may_subscribe(&self, _: &str) -> bool {
        true
    }
}

// 3.1.1: [MQTT-3.3.5-2]
// 5: [MQTT-3.4.2-1] [MQTT-3.5.2-1]
#[tokio::test]
async fn a_publish_that_is_not_allowed_is_delivered_to_nobody_and_acknowledged_or_ends_it_all() {
    let config = BrokerConfig::default();
    let broker = Broker::with_authority(config, Scripted::automatic(), Arc::new(Restricted));
    let running = serve(broker).await;
    for version in BOTH {
        let mut watcher = Client::new(&running, version, "w").await;
        watcher.subscribe("#", 2).await;
        for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
            let mut client = Client::new(&running, version, "c").await;
            client.publish(&Publish::new(qos, "denied/t", "x")).await;
            match client.packet_or_close().await {
                // 3.1.1 has two ways: to say nothing of it, or to go.
                None => assert_eq!(version, V4),
                Some(Packet::Ack { kind: k, id: 1, reason, .. }) if k == kind => {
                    assert_eq!(reason, if version == V5 { 0x87 } else { 0 });
                }
                other => panic!("{other:?}"),
            }
        }
        watcher.silence().await;
    }
}

// 5: [MQTT-3.3.2-7] [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.3.2-12] [MQTT-3.2.2-17]
#[tokio::test]
async fn every_alias_up_to_the_maximum_is_accepted_and_none_outlives_its_connection() {
    let running = running().await;
    let (mut client, said) = Client::connect(&running, V5, &super::wire::Connect::clean("c")).await;
    let maximum = said.properties.number(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0);
    assert!(maximum > 0, "the statement is void without aliases");
    let mut subscriber = Client::new(&running, V5, "s").await;
    subscriber.subscribe("alias/#", 1).await;
    let mut expect = async |topic: &str| {
        let message = subscriber.message().await;
        assert_eq!(message.topic, topic);
        subscriber.take(&message).await;
    };
    for alias in 1..=maximum {
        let topic = format!("alias/{alias}");
        client.deliver(&Publish::new(1, &topic, "x").with(property::TOPIC_ALIAS, alias)).await;
        expect(&topic).await;
    }
    for alias in (1..=maximum).rev() {
        client.deliver(&Publish::new(1, "", "x").with(property::TOPIC_ALIAS, alias)).await;
        expect(&format!("alias/{alias}")).await;
    }
    // An alias may be given anew.
    client.deliver(&Publish::new(1, "alias/new", "x").with(property::TOPIC_ALIAS, 1)).await;
    expect("alias/new").await;
    client.deliver(&Publish::new(1, "", "x").with(property::TOPIC_ALIAS, 1)).await;
    expect("alias/new").await;
    client.leave().await;
    let bad = [("", 1), ("t", 0), ("", 0), ("t", maximum + 1), ("t", 0xffff)];
    for (topic, alias) in bad {
        let mut client = Client::new(&running, V5, "c").await;
        client.publish(&Publish::new(1, topic, "x").with(property::TOPIC_ALIAS, alias)).await;
        let last = client.packet_or_close().await;
        assert!(
            matches!(last, Some(Packet::Disconnect { reason: 0x82 | 0x94, .. })),
            "{last:?} for topic {topic:?} with alias {alias}"
        );
        client.closed("a bad alias").await;
    }
}

// 5: [MQTT-3.3.2-1]
#[tokio::test]
async fn no_topic_name_and_no_alias_is_an_error_in_both_versions() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        client.publish(&Publish::new(1, "", "x")).await;
        let last = client.packet_or_close().await;
        if version == V5 {
            assert!(
                matches!(last, Some(Packet::Disconnect { reason: 0x82 | 0x90, .. })),
                "{last:?}"
            );
        } else {
            assert_eq!(last, None);
        }
    }
}
