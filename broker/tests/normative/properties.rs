//! What a message carries beside its payload (section 3.3.2.3), and what acknowledgements say.

use super::client::Client;
use super::wire::{
    Connect, PUBACK, PUBREC, PUBREL, Packet, Properties, Publish, V4, V5, ack, property, raw, text,
};
use super::{expired, running};

// 5: [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
#[tokio::test]
async fn what_a_publisher_says_of_its_message_reaches_all_its_receivers_unaltered() {
    let running = running().await;
    let properties = Properties::default()
        .with(property::USER_PROPERTY, ("key", "second is first"))
        .with(property::CORRELATION_DATA, &b"\0\x01\xff"[..])
        .with(property::USER_PROPERTY, ("another", ""))
        .with(property::PAYLOAD_FORMAT, 1)
        .with(property::USER_PROPERTY, ("key", "a key may come twice"))
        .with(property::RESPONSE_TOPIC, "$answers/遵义")
        .with(property::USER_PROPERTY, ("", "a key may be empty"))
        .with(property::CONTENT_TYPE, "text/plain; charset=utf-8");
    let mut old = Client::new(&running, V4, "old").await;
    old.subscribe("m/#", 2).await;
    let mut now = Client::new(&running, V5, "now").await;
    now.subscribe("m/#", 2).await;
    let (mut away, _) = Client::kept(&running, V5, "away").await;
    away.subscribe("m/#", 2).await;
    away.vanish();
    let mut publisher = Client::new(&running, V5, "p").await;
    let mut late = Client::new(&running, V5, "late").await;
    let check = async |client: &mut Client, topic: &str| {
        let message = client.message().await;
        assert_eq!(message.topic, topic);
        for (id, _) in &properties.0 {
            assert_eq!(message.properties.all(*id), properties.all(*id), "{message:?}");
        }
        assert_eq!(message.properties.0.len(), properties.0.len(), "{message:?}");
        client.take(&message).await;
    };
    for qos in [0, 1, 2] {
        let topic = format!("m/{qos}");
        let publish = Publish { properties: properties.clone(), ..Publish::new(qos, &topic, "x") };
        publisher.deliver(&publish.retained()).await;
        check(&mut now, &topic).await;
        late.subscribe(&topic, 2).await;
        check(&mut late, &topic).await;
        // A 3.1.1 client gets topic and payload and nothing between them.
        let message = old.message().await;
        assert_eq!(message.text(), "x");
        old.take(&message).await;
    }
    let (mut away, _) = Client::kept(&running, V5, "away").await;
    for topic in ["m/1", "m/2"] {
        check(&mut away, topic).await;
    }
}

// 5: [MQTT-3.3.2-6] [MQTT-3.3.2-5]
#[tokio::test]
async fn a_message_s_expiry_goes_with_it_less_what_it_has_waited() {
    let running = running().await;
    let mut live = Client::new(&running, V5, "live").await;
    live.subscribe("t", 1).await;
    let (mut away, _) = Client::kept(&running, V5, "away").await;
    away.subscribe("t", 1).await;
    away.leave().await;
    let mut publisher = Client::new(&running, V5, "p").await;
    publisher.deliver(&Publish::new(1, "t", "x").with(property::MESSAGE_EXPIRY, 500)).await;
    publisher.deliver(&Publish::new(1, "t", "short").with(property::MESSAGE_EXPIRY, 1)).await;
    publisher.deliver(&Publish::new(1, "t", "for ever")).await;
    for expected in [Some(499..=500), Some(1..=1), None] {
        let message = live.message().await;
        let left = message.properties.number(property::MESSAGE_EXPIRY);
        match expected {
            Some(expected) => assert!(expected.contains(&left.unwrap()), "{left:?}"),
            None => assert_eq!(left, None),
        }
        live.take(&message).await;
    }
    expired(&running).await;
    let (mut away, _) = Client::kept(&running, V5, "away").await;
    let message = away.message().await;
    let left = message.properties.number(property::MESSAGE_EXPIRY).unwrap();
    assert!((490..=499).contains(&left), "{left}");
    away.take(&message).await;
    // The short one is of no use any more.
    assert_eq!(away.message().await.text(), "for ever");
}

// 5: [MQTT-3.3.2-13] [MQTT-3.3.2-14] [MQTT-3.3.2-19] [MQTT-1.5.7-1]
#[tokio::test]
async fn texts_among_the_properties_must_be_utf_8_and_a_response_topic_a_topic() {
    let running = running().await;
    let one = |id: u8, bytes: &[u8]| [vec![id], super::wire::binary(bytes)].concat();
    for (block, why) in [
        (one(property::RESPONSE_TOPIC, b"\xff"), "a response topic that is not UTF-8"),
        (one(property::RESPONSE_TOPIC, b"a/+"), "a response topic with a wildcard"),
        (one(property::RESPONSE_TOPIC, b"#"), "a response topic with a wildcard"),
        (one(property::RESPONSE_TOPIC, b"a\0"), "a response topic with U+0000"),
        (one(property::CONTENT_TYPE, b"\xc0\xaf"), "a content type that is not UTF-8"),
        (one(property::CONTENT_TYPE, b"a\0"), "a content type with U+0000"),
        ([one(property::USER_PROPERTY, b"\xff"), text("v")].concat(), "a key that is not UTF-8"),
        (
            [one(property::USER_PROPERTY, b"k"), super::wire::binary(b"\xed\xa0\x80")].concat(),
            "a value that is a surrogate",
        ),
    ] {
        let body = [&text("t")[..], &[0, 1], &[block.len() as u8], &block, b"x"].concat();
        let mut client = Client::new(&running, V5, "c").await;
        client.send(&raw(0x32, &body)).await;
        let last = client.packet_or_close().await;
        assert!(
            matches!(last, Some(Packet::Disconnect { reason: 0x81 | 0x82 | 0x90, .. })),
            "{last:?} in answer to {why}"
        );
        client.closed(why).await;
    }
}

// 5: [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[tokio::test]
async fn a_message_longer_than_the_client_takes_is_dropped_as_if_it_had_been_sent() {
    let running = running().await;
    let limit = 60;
    let connect = Connect::kept(V5, "s")
        .with(property::MAXIMUM_PACKET_SIZE, limit)
        .with(property::RECEIVE_MAXIMUM, 1);
    let mut subscriber = Client::accepted(&running, V5, &connect).await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Client::new(&running, V5, "p").await;
    for qos in [0, 1, 2] {
        let fixed = Publish::new(qos, "t", "").bytes(V5).len();
        let fits = vec![qos; limit as usize - fixed];
        for payload in [vec![0; 61 - fixed], vec![0; 5000], fits.clone()] {
            publisher.deliver(&Publish::new(qos, "t", payload)).await;
        }
        // Only it, and so the long ones hold no place in flight.
        let message = subscriber.message().await;
        assert_eq!((message.qos, message.payload), (qos, fits));
        let id = message.id;
        subscriber.take(&Publish { id, ..Publish::new(qos, "t", "") }).await;
    }
    subscriber.silence().await;
    // Nor do they come to a connection that takes more.
    subscriber.vanish();
    let (mut subscriber, _) = Client::kept(&running, V5, "s").await;
    subscriber.silence().await;
}

// 5: [MQTT-3.1.2-29]
#[tokio::test]
async fn a_client_that_wants_no_problem_information_gets_none_in_acknowledgements() {
    let running = running().await;
    let connect = Connect::clean("c").with(property::REQUEST_PROBLEM, 0);
    let mut client = Client::accepted(&running, V5, &connect).await;
    // Whatever could be said something about.
    client.send(&super::wire::subscribe(V5, 1, &[("a/#/b", 0), ("$share/g", 0)])).await;
    client.send(&super::wire::unsubscribe(V5, 2, &["never/there"])).await;
    client.send(&ack(PUBREL, 9)).await;
    client.send(&ack(PUBREC, 9)).await;
    for _ in 0..4 {
        match client.packet().await {
            Packet::SubAck { properties, .. }
            | Packet::UnsubAck { properties, .. }
            | Packet::Ack { properties, .. } => assert_eq!(properties, Properties::default()),
            other => panic!("{other:?}"),
        }
    }
}

// 5: [MQTT-2.2.2-1]
#[tokio::test]
async fn acknowledgements_with_a_reason_and_with_or_without_properties_are_taken() {
    let running = running().await;
    let mut subscriber = Client::new(&running, V5, "s").await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = Client::new(&running, V5, "p").await;
    let said = Properties::default()
        .with(property::REASON_STRING, "because")
        .with(property::USER_PROPERTY, ("k", "v"))
        .with(property::USER_PROPERTY, ("k", "v"));
    for properties in [vec![], vec![0], said.bytes(V5)] {
        let acknowledge =
            |first: u8, id: u16| raw(first, &[&id.to_be_bytes()[..], &[0], &properties].concat());
        publisher.deliver(&Publish::new(1, "t", "1")).await;
        let message = subscriber.message().await;
        subscriber.send(&acknowledge(PUBACK, message.id)).await;
        publisher.deliver(&Publish::new(2, "t", "2")).await;
        let message = subscriber.message().await;
        subscriber.send(&acknowledge(PUBREC, message.id)).await;
        assert_eq!(subscriber.acked(PUBREL, message.id).await, 0);
        subscriber.send(&acknowledge(super::wire::PUBCOMP, message.id)).await;
        subscriber.silence().await;
    }
}
