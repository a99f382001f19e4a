//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (sections 3.8 to 3.11).

use super::client::Client;
use super::running;
use super::wire::{
    BOTH, PUBACK, Packet, Properties, Publish, V5, Version, property, raw, subscribe,
    subscribe_with, text, unsubscribe,
};

// 3.1.1: [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-2.2.2-1] [MQTT-2.2.2-2]
// 5: [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-2.1.3-1]
#[tokio::test]
async fn subscribe_and_unsubscribe_with_other_flags_than_0010_end_the_connection() {
    let running = running().await;
    for version in BOTH {
        for packet in [subscribe(version, 1, &[("t", 0)]), unsubscribe(version, 1, &["t"])] {
            for flags in [0, 1, 3, 6, 0xa, 0xf] {
                let mut client = Client::new(&running, version, "c").await;
                let first = packet[0] & 0xf0 | flags;
                client.send(&[&[first][..], &packet[1..]].concat()).await;
                client.refused(0x81, &format!("flags {flags:04b}")).await;
            }
        }
    }
}

// 3.1.1: [MQTT-3.8.3-3] [MQTT-3.10.3-2] [MQTT-4.8.0-1]
// 5: [MQTT-3.8.3-2] [MQTT-3.10.3-2]
#[tokio::test]
async fn subscribe_and_unsubscribe_without_a_filter_end_the_connection() {
    let running = running().await;
    for version in BOTH {
        for packet in [subscribe(version, 1, &[]), unsubscribe(version, 1, &[])] {
            let mut client = Client::new(&running, version, "c").await;
            client.send(&packet).await;
            client.refused(0x82, "no filter").await;
        }
    }
}

// 3.1.1: [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-4.7.3-2]
// 5: [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-4.7.3-2]
#[tokio::test]
async fn a_filter_that_is_not_utf_8_or_holds_u_0000_ends_the_connection() {
    let running = running().await;
    for version in BOTH {
        for bad in [&b"\xff\xff\xff"[..], b"a/\xe9", b"\xed\xa0\x80", b"a\0b"] {
            for packet in [subscribe(version, 1, &[("~~~", 0)]), unsubscribe(version, 1, &["~~~"])]
            {
                let at = packet.windows(3).position(|w| w == b"~~~").unwrap();
                let mut packet = packet.clone();
                packet[at..at + 3].copy_from_slice(bad);
                let mut client = Client::new(&running, version, "c").await;
                client.send(&packet).await;
                client.refused(0x81, &format!("the filter {bad:02x?}")).await;
            }
        }
    }
}

// 3.1.1: [MQTT-3.8.3-4]
// 5: [MQTT-3.8.3-5]
#[tokio::test]
async fn reserved_bits_of_the_options_and_quality_of_service_3_end_the_connection() {
    let running = running().await;
    let bad: [(Version, &[u8]); 2] =
        [(super::wire::V4, &[3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xff]), (V5, &[3, 0x40, 0x80, 0xc0])];
    for (version, options) in bad {
        for options in options {
            let mut client = Client::new(&running, version, "c").await;
            client.send(&subscribe(version, 1, &[("good", 0), ("t", *options)])).await;
            client.refused(0x81, &format!("the options {options:#04x}")).await;
        }
    }
    let mut client = Client::new(&running, V5, "c").await;
    client.send(&subscribe(V5, 1, &[("t", 0x30)])).await;
    client.refused(0x82, "retain handling 3").await;
}

// 3.1.1: [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.9.3-2] [MQTT-2.3.1-7]
// 5: [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2] [MQTT-2.2.1-6] [MQTT-2.2.2-1] [MQTT-3.2.2-10]
#[tokio::test]
async fn suback_has_the_identifier_of_its_subscribe_and_one_code_for_each_filter_in_order() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        let failed = if version == V5 { 0x8f } else { 0x80 };
        for id in [1, 256, 0xffff] {
            let filters =
                [("a/2", 2), ("a/#/b", 1), ("a/0", 0), ("a+", 2), ("a/1", 1), ("", 0), ("a/2", 1)];
            client.send(&subscribe(version, id, &filters)).await;
            match client.packet().await {
                Packet::SubAck { id: i, codes, properties } => {
                    assert_eq!((i, codes), (id, vec![2, failed, 0, failed, 1, failed, 1]));
                    assert!(properties.get(property::SUBSCRIPTION_ID).is_none());
                }
                other => panic!("{other:?}"),
            }
        }
        // As if each had come alone: of two of one filter the later counts.
        for (topic, qos) in [("a/2", 1), ("a/0", 0), ("a/1", 1)] {
            client.send(&Publish::new(2, topic, "x").id(9).bytes(version)).await;
            let mut met = (false, false);
            while met != (true, true) {
                match client.packet().await {
                    Packet::Publish(message) => {
                        assert_eq!((&*message.topic, message.qos), (topic, qos));
                        client.take(&message).await;
                        met.0 = true;
                    }
                    Packet::Ack { kind: super::wire::PUBREC, id: 9, .. } => {
                        client.send(&super::wire::ack(super::wire::PUBREL, 9)).await;
                    }
                    Packet::Ack { kind: super::wire::PUBCOMP, id: 9, .. } => met.1 = true,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

// 3.1.1: [MQTT-3.8.4-3]
// 5: [MQTT-3.8.4-3]
#[tokio::test]
async fn subscribing_to_a_filter_again_replaces_the_subscription() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        let mut client = Client::new(&running, version, "c").await;
        for (round, qos) in [2, 0, 1, 2, 1, 0].into_iter().enumerate() {
            let mut properties = Properties::default();
            if version == V5 && round % 2 == 0 {
                properties = properties.with(property::SUBSCRIPTION_ID, round as u32 + 1);
            }
            let expected = properties.numbers(property::SUBSCRIPTION_ID);
            assert_eq!(client.subscribe_with(&properties, "t/+", qos).await, qos);
            publisher.deliver(&Publish::new(2, "t/x", "x")).await;
            let message = client.message().await;
            assert_eq!(message.qos, qos, "round {round}");
            assert_eq!(message.properties.numbers(property::SUBSCRIPTION_ID), expected);
            client.take(&message).await;
            // One copy: there is one subscription.
            client.silence().await;
        }
        client.unsubscribe("t/+").await;
        publisher.deliver(&Publish::new(2, "t/x", "x")).await;
        client.silence().await;
    }
}

// 5: [MQTT-3.8.4-4]
#[tokio::test]
async fn no_message_is_lost_while_a_subscription_is_replaced() {
    let running = running().await;
    let mut client = Client::new(&running, V5, "c").await;
    client.subscribe("t", 1).await;
    let mut publisher = Client::new(&running, V5, "p").await;
    let publishing = tokio::spawn(async move {
        for n in 1..=300 {
            publisher.deliver(&Publish::new(1, "t", n.to_string()).id(n)).await;
        }
    });
    let mut next = 1;
    while next <= 300 {
        client.send(&subscribe(V5, 5, &[("t", 1)])).await;
        loop {
            match client.packet().await {
                Packet::SubAck { .. } => break,
                Packet::Publish(message) => {
                    assert_eq!(message.text(), next.to_string());
                    client.take(&message).await;
                    next += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    publishing.await.unwrap();
}

// 3.1.1: [MQTT-3.8.4-6]
// 5: [MQTT-3.8.4-8]
#[tokio::test]
async fn a_message_is_sent_at_the_lesser_of_published_and_granted_quality_of_service() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        for granted in [0, 1, 2] {
            let mut client = Client::new(&running, version, "c").await;
            assert_eq!(client.subscribe("t", granted).await, granted);
            for published in [0, 1, 2] {
                publisher.deliver(&Publish::new(published, "t", "x")).await;
                let message = client.message().await;
                assert_eq!(message.qos, published.min(granted), "{published} to {granted}");
                client.take(&message).await;
            }
        }
    }
}

// 3.1.1: [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.10.4-1] [MQTT-2.3.1-7]
// 5: [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.10.4-1] [MQTT-3.11.3-1] [MQTT-3.11.3-2] [MQTT-2.2.1-6]
#[tokio::test]
async fn unsubscribe_takes_filters_to_the_byte_and_is_answered_whether_or_not_they_were_there() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        for filter in ["a/+", "a/#", "A/x", "a/x"] {
            client.subscribe(filter, 1).await;
        }
        let unsubscribed = ["a/x", "a/y", "+/x", "a/+", "a/+"];
        client.send(&unsubscribe(version, 0xff01, &unsubscribed)).await;
        match client.packet().await {
            Packet::UnsubAck { id: 0xff01, codes, .. } if version == V5 => {
                assert_eq!(codes, [0, 0x11, 0x11, 0, 0x11]);
            }
            Packet::UnsubAck { id: 0xff01, .. } => {}
            other => panic!("{other:?}"),
        }
        // `a/#` and `A/x` are left.
        let mut publisher = Client::new(&running, version, "p").await;
        for topic in ["a/x", "A/x"] {
            publisher.deliver(&Publish::new(1, topic, "x")).await;
            let message = client.message().await;
            assert_eq!(message.topic, topic);
            client.take(&message).await;
        }
        client.unsubscribe("a/#").await;
        publisher.deliver(&Publish::new(1, "a/x", "x")).await;
        client.silence().await;
        client.send(&unsubscribe(version, 3, &["nothing/there"])).await;
        assert!(matches!(client.packet().await, Packet::UnsubAck { id: 3, .. }));
    }
}

// 3.1.1: [MQTT-3.10.4-2] [MQTT-3.10.4-3]
// 5: [MQTT-3.10.4-2] [MQTT-3.10.4-3]
#[tokio::test]
async fn after_unsuback_nothing_new_comes_and_what_was_begun_is_completed() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        let (mut client, _) = Client::kept(&running, version, "c").await;
        client.subscribe("t", 2).await;
        let mut begun = Vec::new();
        for qos in [1, 2] {
            publisher.deliver(&Publish::new(qos, "t", [qos])).await;
            begun.push(client.message().await);
        }
        client.unsubscribe("t").await;
        for qos in [0, 1, 2] {
            publisher.deliver(&Publish::new(qos, "t", "late")).await;
        }
        client.silence().await;
        // Even over a lost connection.
        client.vanish();
        let (mut client, _) = Client::kept(&running, version, "c").await;
        for sent in begun {
            let again = client.message().await;
            assert_eq!(again, Publish { dup: true, ..sent });
            client.take(&again).await;
        }
        client.silence().await;
        Client::new(&running, version, "c").await.leave().await;
    }
}

// 3.1.1: [MQTT-4.5.0-1]
// 5: [MQTT-4.5.0-1]
#[tokio::test]
async fn every_client_with_a_matching_subscription_gets_the_message() {
    let running = running().await;
    for version in BOTH {
        let filters = ["t/x", "t/+", "t/#", "+/x", "#", "+/+", "t/x/#"];
        let mut subscribers = Vec::new();
        for filter in filters {
            for qos in [0, 1, 2] {
                let mut client = Client::new(&running, version, &format!("{filter} {qos}")).await;
                client.subscribe(filter, qos).await;
                subscribers.push(client);
            }
        }
        let mut publisher = Client::new(&running, version, "p").await;
        publisher.publish(&Publish::new(1, "t/x", "all")).await;
        assert_eq!(publisher.acked(PUBACK, 1).await, 0);
        for client in &mut subscribers {
            let message = client.message().await;
            assert_eq!(message.text(), "all");
            client.take(&message).await;
            client.silence().await;
        }
    }
}

// 5: [MQTT-2.2.2-1]
#[tokio::test]
async fn a_subscription_identifier_is_1_to_268_435_455() {
    let running = running().await;
    for id in [1, 127, 128, 268_435_455] {
        let mut client = Client::new(&running, V5, "c").await;
        let properties = Properties::default().with(property::SUBSCRIPTION_ID, id);
        client.send(&subscribe_with(V5, 1, &properties, &[("t", 0)])).await;
        assert!(matches!(client.packet().await, Packet::SubAck { id: 1, .. }));
        let mut publisher = Client::new(&running, V5, "p").await;
        publisher.deliver(&Publish::new(0, "t", "x")).await;
        let message = client.message().await;
        assert_eq!(message.properties.numbers(property::SUBSCRIPTION_ID), [id]);
    }
    let mut client = Client::new(&running, V5, "c").await;
    let zero = Properties::default().with(property::SUBSCRIPTION_ID, 0);
    client.send(&subscribe_with(V5, 1, &zero, &[("t", 0)])).await;
    client.refused(0x82, "a subscription identifier of 0").await;
    // Where its property length should be, it has none.
    let mut client = Client::new(&running, V5, "c").await;
    client.send(&raw(0x82, &[&[0, 1][..], &text("t"), &[0]].concat())).await;
    let last = client.packet_or_close().await;
    assert!(matches!(last, Some(Packet::Disconnect { reason: 0x81 | 0x82, .. })), "{last:?}");
}
