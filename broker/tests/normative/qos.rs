//! Delivery (sections 4.3, 4.4, 4.6) and the packets that acknowledge it (3.4 to 3.7).

use loushan_broker::config::BrokerConfig;

use super::client::Client;
use super::support::{Scripted, start, within};
use super::wire::{
    BOTH, Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish, V4, V5, Version, ack,
    ack_reason, property, raw,
};
use super::{expired, running};

// 3.1.1: [MQTT-4.3.1-1]
// 5: [MQTT-4.3.1-1]
#[tokio::test]
async fn quality_of_service_0_is_sent_without_dup_and_without_identifier() {
    let running = running().await;
    for version in BOTH {
        let mut subscriber = Client::new(&running, version, "s").await;
        subscriber.subscribe("t", 0).await;
        let mut publisher = Client::new(&running, version, "p").await;
        for qos in [0, 1, 2] {
            publisher.deliver(&Publish::new(qos, "t", [qos])).await;
            let message = subscriber.message().await;
            assert_eq!((message.qos, message.dup, &message.payload[..]), (0, false, &[qos][..]));
        }
    }
}

// 3.1.1: [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-2.3.1-4]
// 5: [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-2.2.1-4]
#[tokio::test]
async fn each_message_in_flight_to_a_client_has_an_identifier_of_its_own_and_no_dup() {
    let running = running().await;
    for version in BOTH {
        let mut subscriber = Client::new(&running, version, "s").await;
        subscriber.subscribe("t", 2).await;
        let mut publisher = Client::new(&running, version, "p").await;
        let mut in_flight: Vec<Publish> = Vec::new();
        for n in 0..60 {
            publisher.deliver(&Publish::new(1 + n % 2, "t", [n])).await;
            let message = subscriber.message().await;
            assert!(!message.dup && message.id > 0, "{message:?}");
            assert!(in_flight.iter().all(|other| other.id != message.id), "{message:?}");
            in_flight.push(message);
            if n % 3 == 2 {
                // Some are answered, in an order that is not theirs within a quality of service.
                let taken = in_flight.remove(in_flight.len() / 2);
                subscriber.take(&taken).await;
            }
        }
    }
}

/// What of a session's messages comes again after each of its states.
async fn redelivered(version: Version) {
    let running = running().await;
    let (mut subscriber, _) = Client::kept(&running, version, "s").await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Client::new(&running, version, "p").await;
    let mut sent = Vec::new();
    for (n, qos) in [1, 2, 1, 2, 2, 1].into_iter().enumerate() {
        publisher.deliver(&Publish::new(qos, "t", [n as u8])).await;
        sent.push(subscriber.message().await);
    }
    // 0 and 1 are taken, of 3 the client has said that it has it, of the others nothing.
    subscriber.take(&sent[0]).await;
    subscriber.take(&sent[1]).await;
    subscriber.send(&ack(PUBREC, sent[3].id)).await;
    assert_eq!(subscriber.acked(PUBREL, sent[3].id).await, 0);
    subscriber.silence().await;
    for round in 0..2 {
        subscriber.vanish();
        let present;
        (subscriber, present) = Client::kept(&running, version, "s").await;
        assert!(present, "round {round}");
        let again = |n: usize| Packet::Publish(Publish { dup: true, ..sent[n].clone() });
        // In the order of sending, under the same identifiers; the message that arrived does not
        // come again, its PUBREL does.
        assert_eq!(subscriber.packet().await, again(2));
        assert_eq!(subscriber.acked(PUBREL, sent[3].id).await, 0);
        assert_eq!(subscriber.packet().await, again(4));
        assert_eq!(subscriber.packet().await, again(5));
        subscriber.silence().await;
    }
    subscriber.send(&ack(PUBCOMP, sent[3].id)).await;
    for n in [2, 4, 5] {
        subscriber.take(&sent[n]).await;
    }
    subscriber.silence().await;
    subscriber.vanish();
    let (mut subscriber, _) = Client::kept(&running, version, "s").await;
    subscriber.silence().await;
}

// 3.1.1: [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.6.0-6] [MQTT-3.1.2-4] [MQTT-2.3.1-4]
#[tokio::test]
async fn unacknowledged_messages_of_a_3_1_1_client_come_again_in_their_order() {
    redelivered(V4).await;
}

// 5: [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6]
#[tokio::test]
async fn unacknowledged_messages_of_a_version_5_client_come_again_in_their_order_and_only_then() {
    redelivered(V5).await;
}

// 3.1.1: [MQTT-4.3.2-2]
// 5: [MQTT-4.3.2-5]
#[tokio::test]
async fn after_its_puback_a_publish_of_the_same_identifier_is_a_new_message_dup_or_not() {
    let running = running().await;
    for version in BOTH {
        let mut subscriber = Client::new(&running, version, "s").await;
        subscriber.subscribe("t", 1).await;
        let mut publisher = Client::new(&running, version, "p").await;
        for publish in
            [Publish::new(1, "t", "1"), Publish::new(1, "t", "2"), Publish::new(1, "t", "3").dup()]
        {
            publisher.deliver(&publish).await;
            let message = subscriber.message().await;
            assert_eq!(message.payload, publish.payload);
            subscriber.take(&message).await;
        }
    }
}

// 3.1.1: [MQTT-4.3.3-2] [MQTT-2.3.1-6]
// 5: [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12] [MQTT-2.2.1-5] [MQTT-3.7.2-1]
#[tokio::test]
async fn a_repeated_quality_of_service_2_publish_is_acknowledged_again_and_delivered_once() {
    let running = running().await;
    for version in BOTH {
        let mut subscriber = Client::new(&running, version, "s").await;
        subscriber.subscribe("t", 2).await;
        let (mut publisher, _) = Client::kept(&running, version, "p").await;
        let publish = Publish::new(2, "t", "once").id(300);
        publisher.publish(&publish).await;
        assert_eq!(publisher.acked(PUBREC, 300).await, 0);
        for repetition in [publish.clone().dup(), publish.clone()] {
            publisher.publish(&repetition).await;
            assert_eq!(publisher.acked(PUBREC, 300).await, 0);
        }
        // The same over a connection that was lost.
        publisher.vanish();
        let (mut publisher, present) = Client::kept(&running, version, "p").await;
        assert!(present);
        publisher.publish(&publish.clone().dup()).await;
        assert_eq!(publisher.acked(PUBREC, 300).await, 0);
        publisher.send(&ack(PUBREL, 300)).await;
        assert_eq!(publisher.acked(PUBCOMP, 300).await, 0);
        // A PUBREL whose PUBCOMP was lost is answered as well.
        publisher.send(&ack(PUBREL, 300)).await;
        let reason = publisher.acked(PUBCOMP, 300).await;
        assert_eq!(reason, if version == V5 { 0x92 } else { 0 });
        let message = subscriber.message().await;
        assert_eq!(message.text(), "once");
        subscriber.take(&message).await;
        // And the identifier is free.
        publisher.deliver(&Publish::new(2, "t", "new").id(300)).await;
        let message = subscriber.message().await;
        assert_eq!(message.text(), "new");
        subscriber.take(&message).await;
        subscriber.silence().await;
    }
}

// 3.1.1: [MQTT-4.3.3-1]
// 5: [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-3.6.2-1]
#[tokio::test]
async fn pubrec_is_answered_by_pubrel_each_time_it_comes() {
    let running = running().await;
    for version in BOTH {
        let mut subscriber = Client::new(&running, version, "s").await;
        subscriber.subscribe("t", 2).await;
        let mut publisher = Client::new(&running, version, "p").await;
        publisher.deliver(&Publish::new(2, "t", "x")).await;
        let message = subscriber.message().await;
        for _ in 0..2 {
            subscriber.send(&ack(PUBREC, message.id)).await;
            assert_eq!(subscriber.acked(PUBREL, message.id).await, 0);
        }
        subscriber.send(&ack(PUBCOMP, message.id)).await;
        // Of an identifier that is not in use: answered, so that a client that waits goes on.
        subscriber.send(&ack(PUBREC, message.id)).await;
        let reason = subscriber.acked(PUBREL, message.id).await;
        assert_eq!(reason, if version == V5 { 0x92 } else { 0 });
    }
}

// 5: [MQTT-4.3.3-4] [MQTT-4.4.0-2]
#[tokio::test]
async fn an_acknowledgement_with_an_error_ends_the_exchange_for_good() {
    let running = running().await;
    let connect = Connect::kept(V5, "s").with(property::RECEIVE_MAXIMUM, 1);
    let mut subscriber = Client::accepted(&running, V5, &connect).await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Client::new(&running, V5, "p").await;
    for (qos, kind) in [(1, PUBACK), (2, PUBREC), (1, PUBACK), (2, PUBREC)] {
        publisher.deliver(&Publish::new(qos, "t", [qos])).await;
        let message = subscriber.message().await;
        assert_eq!(message.qos, qos, "the one before it holds no place any more");
        subscriber.send(&ack_reason(kind, message.id, 0x83)).await;
    }
    // No PUBREL in answer, and nothing comes again.
    subscriber.silence().await;
    subscriber.vanish();
    let (mut subscriber, present) = Client::kept(&running, V5, "s").await;
    assert!(present);
    subscriber.silence().await;
}

// 5: [MQTT-4.3.3-9]
#[tokio::test]
async fn after_a_pubrec_with_an_error_the_identifier_is_that_of_a_new_message() {
    let running = running().await;
    let mut subscriber = Client::new(&running, V5, "s").await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Client::new(&running, V5, "p").await;
    publisher.publish(&Publish::new(2, &"/".repeat(200), "refused").id(7)).await;
    assert_eq!(publisher.acked(PUBREC, 7).await, 0x90);
    publisher.deliver(&Publish::new(2, "t", "new").id(7)).await;
    let message = subscriber.message().await;
    assert_eq!(message.text(), "new");
    subscriber.take(&message).await;
}

// 3.1.1: [MQTT-4.8.0-2]
// 5: [MQTT-4.3.2-4] [MQTT-4.3.3-8]
#[tokio::test]
async fn what_could_not_be_taken_over_is_not_acknowledged_and_the_connection_ends() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(BrokerConfig::default(), handler).await;
    for version in BOTH {
        for qos in [1, 2] {
            let mut client = Client::new(&running, version, "c").await;
            client.publish(&Publish::new(qos, "t/claimed", "x")).await;
            let (_, ticket) = within("an offer", offers.recv()).await.unwrap();
            client.silence().await;
            ticket.failed();
            client.refused(0x83, "it could not be made durable").await;
        }
    }
}

// 5: [MQTT-4.3.3-7]
#[tokio::test]
async fn a_message_whose_sending_has_begun_is_completed_though_it_expires() {
    let running = running().await;
    let (mut subscriber, _) = Client::kept(&running, V5, "s").await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Client::new(&running, V5, "p").await;
    let expiring = Publish::new(2, "t", "sent").with(property::MESSAGE_EXPIRY, 1);
    publisher.deliver(&expiring).await;
    let message = subscriber.message().await;
    subscriber.leave().await;
    let unsent = Publish::new(2, "t", "unsent").with(property::MESSAGE_EXPIRY, 1);
    publisher.deliver(&unsent).await;
    expired(&running).await;
    let (mut subscriber, _) = Client::kept(&running, V5, "s").await;
    let again = subscriber.message().await;
    assert_eq!((again.id, again.dup, again.text()), (message.id, true, "sent"));
    subscriber.take(&again).await;
    subscriber.silence().await;
}

// 5: [MQTT-4.3.3-13] [MQTT-3.3.2-5]
#[tokio::test]
async fn a_publish_that_is_of_no_use_any_more_is_acknowledged_and_not_delivered() {
    let running = running().await;
    let mut subscriber = Client::new(&running, V5, "s").await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Client::new(&running, V5, "p").await;
    for qos in [0, 1, 2] {
        let publish = Publish::new(qos, "t", "late").with(property::MESSAGE_EXPIRY, 0);
        publisher.deliver(&publish.clone().id(u16::from(qos))).await;
        publisher.deliver(&Publish::new(qos, "t", "timely").id(u16::from(qos))).await;
        let message = subscriber.message().await;
        assert_eq!(message.text(), "timely");
        subscriber.take(&message).await;
    }
    subscriber.silence().await;
}

// 3.1.1: [MQTT-4.6.0-5] [MQTT-4.6.0-6]
// 5: [MQTT-4.6.0-5] [MQTT-4.6.0-6]
#[tokio::test]
async fn messages_of_a_client_to_a_topic_arrive_in_their_order_at_each_quality_of_service() {
    let running = running().await;
    for version in BOTH {
        for subscribed in [0, 1, 2] {
            let mut subscriber = Client::new(&running, version, "s").await;
            subscriber.subscribe("t/#", subscribed).await;
            let mut publisher = Client::new(&running, version, "p").await;
            for qos in [0, 1, 2] {
                for n in 0..50 {
                    publisher.publish(&Publish::new(qos, "t/x", [n]).id(u16::from(n) + 1)).await;
                }
                for n in 0..50 {
                    let message = subscriber.message().await;
                    assert_eq!(
                        (message.qos, &message.payload[..]),
                        (qos.min(subscribed), &[n][..])
                    );
                    subscriber.take(&message).await;
                }
                // The acknowledgements leave in the order of the publishes.
                for id in 1..=50 {
                    match qos {
                        0 => break,
                        1 => assert_eq!(publisher.acked(PUBACK, id).await, 0),
                        _ => {
                            assert_eq!(publisher.acked(PUBREC, id).await, 0);
                            publisher.send(&ack(PUBREL, id)).await;
                        }
                    }
                }
                for id in 1..=if qos == 2 { 50 } else { 0 } {
                    assert_eq!(publisher.acked(PUBCOMP, id).await, 0);
                }
            }
        }
    }
}

// 3.1.1: [MQTT-3.6.1-1]
// 5: [MQTT-3.6.1-1]
#[tokio::test]
async fn a_pubrel_with_other_flags_than_0010_ends_the_connection() {
    let running = running().await;
    for version in BOTH {
        for flags in [0, 1, 3, 4, 6, 8, 0xa, 0xf] {
            let mut client = Client::new(&running, version, "c").await;
            client.send(&raw(0x60 | flags, &[0, 1])).await;
            client.refused(0x81, &format!("flags {flags:04b} of a PUBREL")).await;
        }
    }
}
