//! From publisher to subscriber.
#![allow(clippy::unwrap_used)]

mod support;

use loushan_broker::config::BrokerConfig;
use loushan_broker::handler::Acknowledgement;
use support::{
    Running, Scripted, connect_v5, packet, publish_v4, publish_v5, start, subscribe_v4,
    subscribe_v5, text, within,
};

async fn running() -> Running {
    start(BrokerConfig::default(), Scripted::automatic()).await
}

#[tokio::test]
async fn mqtt_3_8_4_8_a_subscriber_gets_the_lesser_of_the_two_qualities_of_service() {
    let running = running().await;
    let (mut one, mut two) = (running.v4("one").await, running.v4("two").await);
    one.send(&subscribe_v4(1, "home/+", 1)).await;
    one.expect(&[0x90, 3, 0, 1, 1]).await;
    two.send(&subscribe_v4(1, "home/#", 2)).await;
    two.expect(&[0x90, 3, 0, 1, 2]).await;
    let mut publisher = running.v4("p").await;
    publisher.send(&publish_v4(4, "home/x", Some(1), b"2")).await;
    publisher.expect(&[0x50, 2, 0, 1]).await;
    publisher.send(&publish_v4(2, "home/x", Some(2), b"1")).await;
    publisher.expect(&[0x40, 2, 0, 2]).await;
    one.expect(&publish_v4(2, "home/x", Some(1), b"2")).await;
    one.expect(&publish_v4(2, "home/x", Some(2), b"1")).await;
    two.expect(&publish_v4(4, "home/x", Some(1), b"2")).await;
    two.expect(&publish_v4(2, "home/x", Some(2), b"1")).await;
    // QoS 2 outgoing, to its end.
    two.send(&[0x50, 2, 0, 1]).await;
    two.expect(&[0x62, 2, 0, 1]).await;
    two.send(&[0x70, 2, 0, 1, 0x40, 2, 0, 2]).await;
    publisher.send(&publish_v4(0, "home/x", None, b"0")).await;
    one.expect(&publish_v4(0, "home/x", None, b"0")).await;
    two.expect(&publish_v4(0, "home/x", None, b"0")).await;
}

#[tokio::test]
async fn a_topic_that_is_not_ascii_is_harmless_and_arrives() {
    let running = running().await;
    let mut subscriber = running.v4("s").await;
    subscriber.send(&subscribe_v4(1, "遵义/#", 0)).await;
    subscriber.expect(&[0x90, 3, 0, 1, 0]).await;
    let mut publisher = running.v4("p").await;
    publisher.send(&publish_v4(0, "遵义/1", None, b"x")).await;
    subscriber.expect(&publish_v4(0, "遵义/1", None, b"x")).await;
    publisher.send(&publish_v4(0, "遵义/2", None, b"x")).await;
    subscriber.expect(&publish_v4(0, "遵义/2", None, b"x")).await;
    assert!(running.broker.health().router_running);
    assert_eq!(running.broker.health().router_restarts, 0);
}

#[tokio::test]
async fn properties_reach_v5_subscribers_as_they_were_and_3_1_1_subscribers_not_at_all() {
    let running = running().await;
    let (mut old, mut new) = (running.v4("old").await, running.v5("new").await);
    // Content type, response topic, correlation data, two user properties with one key.
    let properties = b"\x03\x00\x01c\x08\x00\x01r\x09\x00\x02\xff\x00\
                       \x26\x00\x01k\x00\x011\x26\x00\x01k\x00\x012";
    for qos in [0, 1] {
        old.send(&subscribe_v4(1, "x", qos)).await;
        old.expect(&[0x90, 3, 0, 1, qos]).await;
        new.send(&subscribe_v5(1, &[], &[("x", qos)])).await;
        new.expect(&[0x90, 4, 0, 1, 0, qos]).await;
        let mut publisher = running.v5("p").await;
        publisher.send(&publish_v5(2, "x", Some(1), properties, b"p")).await;
        publisher.expect(&[0x40, 2, 0, 1]).await;
        let id = (qos == 1).then_some(1);
        old.expect(&publish_v4(qos << 1, "x", id, b"p")).await;
        new.expect(&publish_v5(qos << 1, "x", id, properties, b"p")).await;
    }
}

#[tokio::test]
async fn telemetry_is_shown_after_durability_and_not_before() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(BrokerConfig::default(), handler).await;
    let mut subscriber = running.v4("s").await;
    subscriber.send(&subscribe_v4(1, "nb1/#", 1)).await;
    subscriber.expect(&[0x90, 3, 0, 1, 1]).await;
    let mut station = running.v4("bs0001").await;
    let topic = "nb1/zunyi/bs0001/u/t";
    station.send(&publish_v4(3, topic, Some(1), b"reading")).await;
    let (_, ticket) = within("an offer", offers.recv()).await.unwrap();
    subscriber.expect_silence().await;
    ticket.durable(Acknowledgement::default());
    station.expect(&[0x40, 2, 0, 1]).await;
    subscriber.expect(&publish_v4(2, topic, Some(1), b"reading")).await;
    // Its RETAIN flag meant nothing.
    let mut late = running.v4("late").await;
    late.send(&subscribe_v4(1, "nb1/#", 1)).await;
    late.expect(&[0x90, 3, 0, 1, 1]).await;
    late.expect_silence().await;
}

#[tokio::test]
async fn a_state_reaches_the_handler_the_subscribers_and_those_to_come_though_its_client_left() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(BrokerConfig::default(), handler).await;
    let mut station = running.v4("bs0001").await;
    let topic = "nb1/zunyi/bs0001/state";
    station.send(&publish_v4(1, topic, None, b"born")).await;
    station.send(&[0xe0, 0]).await;
    station.expect_closed().await;
    let (publish, ticket) = within("an offer", offers.recv()).await.unwrap();
    assert!(publish.retain);
    let mut early = running.v4("early").await;
    early.send(&subscribe_v4(1, "nb1/+/+/state", 1)).await;
    early.expect(&[0x90, 3, 0, 1, 1]).await;
    ticket.durable(Acknowledgement::default());
    early.expect(&publish_v4(0, topic, None, b"born")).await;
    let mut late = running.v4("late").await;
    late.send(&subscribe_v4(1, "nb1/+/+/state", 1)).await;
    late.expect(&[0x90, 3, 0, 1, 1]).await;
    late.expect(&publish_v4(1, topic, None, b"born")).await;
}

#[tokio::test]
async fn mqtt_3_3_1_retained_messages_come_with_suback_and_go_with_an_empty_one() {
    let running = running().await;
    let mut publisher = running.v4("p").await;
    for (id, topic) in [(1, "r/a"), (2, "r/b"), (3, "$r")] {
        publisher.send(&publish_v4(3, topic, Some(id), b"kept")).await;
        publisher.expect(&[0x40, 2, 0, id as u8]).await;
    }
    publisher.send(&publish_v4(3, "r/b", Some(4), b"")).await;
    publisher.expect(&[0x40, 2, 0, 4]).await;
    let mut client = running.v5("s").await;
    client.send(&subscribe_v5(1, &[0x0b, 5], &[("#", 2)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 2]).await;
    client.expect(&publish_v5(3, "r/a", Some(1), &[0x0b, 5], b"kept")).await;
    // Retain handling 1: not to a subscription that was there; 2: never.
    client.send(&subscribe_v5(2, &[], &[("#", 0x10), ("r/+", 0x20)])).await;
    client.expect(&[0x90, 5, 0, 2, 0, 0, 0]).await;
    client.send(&subscribe_v5(3, &[], &[("$r", 0)])).await;
    client.expect(&[0x90, 4, 0, 3, 0, 0]).await;
    client.expect(&publish_v5(1, "$r", None, &[], b"kept")).await;
    client.expect_silence().await;
}

#[tokio::test]
async fn subscriptions_that_cannot_be_are_refused_one_by_one() {
    let config = BrokerConfig { max_subscriptions: 1, ..BrokerConfig::default() };
    let running = start(config, Scripted::automatic()).await;
    let mut new = running.v5("new").await;
    let filters = [("a/#/b", 0), ("$share//a", 1), ("a", 1), ("b", 1), ("a", 2)];
    new.send(&subscribe_v5(1, &[], &filters)).await;
    let suback = new.packet().await;
    assert!(suback.ends_with(&[0x8f, 0x8f, 1, 0x97, 2]), "{suback:02x?}");
    assert!(suback.windows(9).any(|said| said == b"filter 1:"), "{suback:02x?}");
    let unsubscribe = [&[0, 2, 0][..], &text("a"), &text("never")].concat();
    new.send(&packet(0xa2, &unsubscribe)).await;
    new.expect(&[0xb0, 5, 0, 2, 0, 0x00, 0x11]).await;
    let mut old = running.v4("old").await;
    old.send(&subscribe_v4(1, "$share/g", 0)).await;
    old.expect(&[0x90, 3, 0, 1, 0x80]).await;
    old.send(&packet(0xa2, &[&[0, 2][..], &text("a")].concat())).await;
    old.expect(&[0xb0, 2, 0, 2]).await;
}

#[tokio::test]
async fn overlapping_subscriptions_bring_one_copy_with_all_their_identifiers() {
    let running = running().await;
    let mut client = running.v5("s").await;
    client.send(&subscribe_v5(1, &[0x0b, 1], &[("o/+", 0)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 0]).await;
    client.send(&subscribe_v5(2, &[0x0b, 2], &[("o/#", 1)])).await;
    client.expect(&[0x90, 4, 0, 2, 0, 1]).await;
    let mut publisher = running.v4("p").await;
    publisher.send(&publish_v4(2, "o/x", Some(1), b"one")).await;
    let got = client.packet().await;
    let ids = [[0x0b, 1, 0x0b, 2], [0x0b, 2, 0x0b, 1]];
    assert!(ids.iter().any(|ids| got == publish_v5(2, "o/x", Some(1), ids, b"one")), "{got:02x?}");
    // By the router as well: one copy of each, in order.
    let mut other = running.v4("p2").await;
    for payload in [b"2", b"3", b"4"] {
        other.send(&publish_v4(0, "o/x", None, payload)).await;
    }
    for payload in [b'2', b'3', b'4'] {
        let got = client.packet().await;
        assert_eq!(got.last(), Some(&payload), "{got:02x?}");
    }
    client.expect_silence().await;
}

#[tokio::test]
async fn mqtt_3_8_3_3_no_local_keeps_a_client_from_hearing_itself() {
    let running = running().await;
    let mut client = running.v5("c").await;
    client.send(&subscribe_v5(1, &[], &[("n", 1 | 4)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    client.send(&publish_v5(2, "n", Some(1), &[], b"mine")).await;
    client.expect(&[0x40, 2, 0, 1]).await;
    let mut other = running.v4("o").await;
    other.send(&publish_v4(2, "n", Some(1), b"other")).await;
    client.expect(&publish_v5(2, "n", Some(1), &[], b"other")).await;
}

#[tokio::test]
async fn a_subscriber_that_takes_nothing_stalls_nobody_and_is_let_go() {
    let config = BrokerConfig { subscriber_queue_bytes: 100_000, ..BrokerConfig::default() };
    let running = start(config, Scripted::automatic()).await;
    let (mut slow, mut quick) = (running.v4("slow").await, running.v4("quick").await);
    for client in [&mut slow, &mut quick] {
        client.send(&subscribe_v4(1, "s", 1)).await;
        client.expect(&[0x90, 3, 0, 1, 1]).await;
    }
    let mut publisher = running.v4("p").await;
    let payload = vec![0; 10_000];
    // More than the sockets' buffers between us and the slow one.
    for id in 1..=2000u16 {
        publisher.send(&publish_v4(2, "s", Some(id), &payload)).await;
        let [high, low] = id.to_be_bytes();
        publisher.expect(&[0x40, 2, high, low]).await;
        quick.expect(&publish_v4(2, "s", Some(id), &payload)).await;
        quick.send(&[0x40, 2, high, low]).await;
    }
    within("the slow one's end", async {
        let mut sink = vec![0; 1 << 20];
        while tokio::io::AsyncReadExt::read(&mut slow.stream, &mut sink).await.is_ok_and(|n| n > 0)
        {
        }
    })
    .await;
}

#[tokio::test]
async fn mqtt_3_1_2_24_what_is_longer_than_the_client_takes_is_not_sent_to_it() {
    let running = running().await;
    let mut client = running.raw().await;
    client.send(&connect_v5("small", true, 0, &[0x27, 0, 0, 0, 30])).await;
    client.packet().await;
    client.send(&subscribe_v5(1, &[], &[("m", 1)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    let mut publisher = running.v4("p").await;
    for (id, len) in [(1, 22), (2, 23), (3, 1)] {
        publisher.send(&publish_v4(2, "m", Some(id), &vec![0; len])).await;
        publisher.expect(&[0x40, 2, 0, id as u8]).await;
    }
    client.expect(&publish_v5(2, "m", Some(1), &[], &[0; 22])).await;
    client.expect(&publish_v5(2, "m", Some(3), &[], &[0; 1])).await;
}

#[tokio::test]
async fn mqtt_3_10_4_after_unsuback_nothing_more_comes() {
    let running = running().await;
    let (mut client, mut publisher) = (running.v4("s").await, running.v4("p").await);
    for round in 1..=3 {
        client.send(&subscribe_v4(round, "u", 0)).await;
        client.expect(&[0x90, 3, 0, round as u8, 0]).await;
        publisher.send(&publish_v4(0, "u", None, &[round as u8])).await;
        client.expect(&publish_v4(0, "u", None, &[round as u8])).await;
        client.send(&packet(0xa2, &[&round.to_be_bytes()[..], &text("u")].concat())).await;
        client.expect(&[0xb0, 2, 0, round as u8]).await;
        publisher.send(&publish_v4(0, "u", None, b"nobody")).await;
        publisher.expect_silence().await;
        client.expect_silence().await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_6_a_message_says_how_long_it_is_still_of_use() {
    let running = running().await;
    let mut publisher = running.v5("p").await;
    publisher.send(&publish_v5(3, "e", Some(1), &[2, 0, 0, 0, 100], b"x")).await;
    publisher.expect(&[0x40, 2, 0, 1]).await;
    let mut client = running.v5("s").await;
    client.send(&subscribe_v5(1, &[], &[("e", 0)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 0]).await;
    let got = client.packet().await;
    let expected = |left| publish_v5(1, "e", None, &[2, 0, 0, 0, left], b"x");
    assert!((98..=100).any(|left| got == expected(left)), "{got:02x?}");
}

#[test]
fn a_subscribe_is_served_before_a_publish_that_arrived_after_it_on_another_connection() {
    // One worker, kept busy until both packets are there: it finds them together, in this order.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let running = running().await;
        let (mut publisher, mut subscriber) = (running.v4("p").await, running.v4("s").await);
        // As many as it takes to meet every step of the scheduler: now and then it looks for packets
        // between two tasks.
        for round in 1..=80 {
            let topic = format!("plaza/{round}");
            let (begun, has_begun) = std::sync::mpsc::sync_channel(0);
            let (end, ends) = std::sync::mpsc::sync_channel(0);
            let busy = tokio::spawn(async move {
                begun.send(()).unwrap();
                ends.recv().unwrap();
            });
            has_begun.recv().unwrap();
            subscriber.stream.try_write(&subscribe_v4(1, &topic, 1)).unwrap();
            publisher.stream.try_write(&publish_v4(2, &topic, Some(7), b"x")).unwrap();
            end.send(()).unwrap();
            within("the worker", busy).await.unwrap();
            publisher.expect(&[0x40, 2, 0, 7]).await;
            subscriber.expect(&[0x90, 3, 0, 1, 1]).await;
            let message = subscriber.packet().await;
            let (id, payload) = (message.len() - 3, message.len() - 1);
            assert_eq!(&message[4..id], topic.as_bytes(), "{message:02x?}");
            subscriber.send(&[&[0x40, 2], &message[id..payload]].concat()).await;
        }
    });
}
