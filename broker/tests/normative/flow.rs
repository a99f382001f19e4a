//! What client and server agree on: how much may be in flight (section 4.9), topic aliases to the
//! client (3.3.2.3.4), keep-alive (3.2.2.3.14).

use std::collections::HashMap;
use std::time::Duration;

use loushan_broker::config::BrokerConfig;

use super::client::Client;
use super::wire::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish, V5, ack, ack_reason, property,
    subscribe,
};
use super::{running, with};

// 5: [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[tokio::test]
async fn no_more_messages_are_in_flight_to_a_client_than_its_receive_maximum() {
    let running = running().await;
    let connect = Connect::kept(V5, "s").with(property::RECEIVE_MAXIMUM, 3);
    let mut subscriber = Client::accepted(&running, V5, &connect).await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Client::new(&running, V5, "p").await;
    for n in 0..20 {
        publisher.deliver(&Publish::new(1 + n % 2, "t", [n])).await;
    }
    let mut in_flight = Vec::new();
    for n in 0..3 {
        let message = subscriber.message().await;
        assert_eq!(message.payload, [n]);
        in_flight.push(message);
    }
    subscriber.silence().await;
    // All else is still answered, and messages of quality of service 0 need no quota.
    subscriber.send(&subscribe(V5, 5, &[("other", 0)])).await;
    assert!(matches!(subscriber.packet().await, Packet::SubAck { id: 5, .. }));
    subscriber.deliver(&Publish::new(2, "elsewhere", "x")).await;
    // PUBREC frees no place; PUBACK, PUBCOMP and a PUBREC with an error do.
    let [first, second, third] = <[Publish; 3]>::try_from(in_flight).unwrap();
    subscriber.send(&ack(PUBREC, second.id)).await;
    assert_eq!(subscriber.acked(PUBREL, second.id).await, 0);
    subscriber.silence().await;
    subscriber.send(&ack(PUBCOMP, second.id)).await;
    let fourth = subscriber.message().await;
    assert_eq!(fourth.payload, [3]);
    subscriber.send(&ack(PUBACK, first.id)).await;
    let fifth = subscriber.message().await;
    assert_eq!(fifth.payload, [4]);
    subscriber.silence().await;
    subscriber.send(&ack_reason(PUBREC, fourth.id, 0x80)).await;
    let sixth = subscriber.message().await;
    assert_eq!(sixth.payload, [5]);
    subscriber.silence().await;
    // A new connection has a quota of its own, which what comes again counts against.
    subscriber.vanish();
    let connect = Connect::kept(V5, "s").with(property::RECEIVE_MAXIMUM, 2);
    let mut subscriber = Client::accepted(&running, V5, &connect).await;
    for expected in [&third, &fifth] {
        assert_eq!(subscriber.message().await, Publish { dup: true, ..expected.clone() });
    }
    subscriber.silence().await;
    subscriber.take(&third).await;
    let again = subscriber.message().await;
    assert_eq!(again, Publish { dup: true, ..sixth });
    subscriber.take(&fifth).await;
    subscriber.take(&again).await;
    for n in 6..20 {
        let message = subscriber.message().await;
        assert_eq!(message.payload, [n]);
        subscriber.take(&message).await;
    }
    subscriber.silence().await;
}

// 5: [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-8] [MQTT-3.3.2-11] [MQTT-3.3.2-7]
#[tokio::test]
async fn a_client_is_sent_aliases_up_to_its_maximum_and_none_without_one() {
    let running = running().await;
    let mut publisher = Client::new(&running, V5, "p").await;
    for maximum in [None, Some(0), Some(1), Some(3), Some(0xffff)] {
        // The second connection of each knows nothing of the first one's aliases.
        for _ in 0..2 {
            let mut connect = Connect::clean("s");
            if let Some(maximum) = maximum {
                connect = connect.with(property::TOPIC_ALIAS_MAXIMUM, maximum);
            }
            let mut subscriber = Client::accepted(&running, V5, &connect).await;
            subscriber.subscribe("alias/#", 1).await;
            let mut known = HashMap::new();
            for n in [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 4, 3] {
                let topic = format!("alias/topic/{n}");
                publisher.deliver(&Publish::new(1, &topic, "x")).await;
                let message = subscriber.message().await;
                let alias = message.properties.number(property::TOPIC_ALIAS);
                if let Some(alias) = alias {
                    assert!(alias > 0 && alias <= maximum.unwrap_or(0), "alias {alias}");
                    if !message.topic.is_empty() {
                        known.insert(alias, message.topic.clone());
                    }
                    assert_eq!(known.get(&alias), Some(&topic));
                } else {
                    assert_eq!(message.topic, topic);
                }
                subscriber.take(&message).await;
            }
        }
    }
}

// 5: [MQTT-3.2.2-22] [MQTT-3.1.2-22]
#[tokio::test]
async fn a_server_keep_alive_is_told_and_is_the_one_that_counts_and_else_the_client_s_does() {
    let config = BrokerConfig { max_keep_alive: Duration::from_secs(1), ..BrokerConfig::default() };
    let running = with(config).await;
    let connect = Connect::clean("c").keep_alive(1);
    let (_client, said) = Client::connect(&running, V5, &connect).await;
    assert_eq!(said.properties.number(property::SERVER_KEEP_ALIVE), None);
    let (mut client, said) =
        Client::connect(&running, V5, &Connect::clean("d").keep_alive(600)).await;
    assert_eq!(said.properties.number(property::SERVER_KEEP_ALIVE), Some(1));
    client.refused(0x8d, "the server's keep-alive").await;
}
