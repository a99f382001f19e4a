//! What a PUBACK means on the wire: after the ticket, in order, or not at all.
#![allow(clippy::unwrap_used)]

mod support;

use loushan_broker::Broker;
use loushan_broker::config::BrokerConfig;
use loushan_broker::handler::{Acknowledgement, Origin, QoS};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use support::{PATIENCE, Scripted, publish_v4, publish_v5, start, within};

const QOS1: u8 = 2;
const QOS2: u8 = 4;

fn defaults() -> BrokerConfig {
    BrokerConfig::default()
}

#[tokio::test]
async fn acks_leave_in_publish_order_though_the_handler_answers_in_reverse() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler).await;
    let mut client = running.v4("c").await;
    for id in 1..=50 {
        client.send(&publish_v4(QOS1, "t/x", Some(id), b"p")).await;
    }
    let mut tickets = Vec::new();
    for _ in 0..50 {
        tickets.push(within("an offer", offers.recv()).await.unwrap().1);
    }
    client.expect_silence().await;
    let first = tickets.remove(0);
    for ticket in tickets.into_iter().rev() {
        ticket.durable(Acknowledgement::default());
    }
    client.expect_silence().await;
    first.durable(Acknowledgement::default());
    for id in 1..=50 {
        client.expect(&[0x40, 2, 0, id]).await;
    }
}

#[tokio::test]
async fn an_alarm_is_acknowledged_while_a_replay_waits() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler).await;
    let mut client = running.v4("c").await;
    client.send(&publish_v4(QOS1, "t/replay", Some(1), b"")).await;
    client.send(&publish_v4(QOS1, "a/alarm", Some(2), b"")).await;
    let (_, replay) = within("the replay", offers.recv()).await.unwrap();
    let (_, alarm) = within("the alarm", offers.recv()).await.unwrap();
    alarm.durable(Acknowledgement::default());
    client.expect(&[0x40, 2, 0, 2]).await;
    replay.durable(Acknowledgement::default());
    client.expect(&[0x40, 2, 0, 1]).await;
}

#[tokio::test]
async fn a_failed_ticket_closes_with_0x83_and_nothing_at_or_behind_it_is_acknowledged() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler).await;
    let (mut old, mut new) = (running.v4("v4").await, running.v5("v5").await);
    for id in 1..=3 {
        old.send(&publish_v4(QOS1, "t/x", Some(id), b"4")).await;
        new.send(&publish_v5(QOS1, "t/x", Some(id), &[], b"5")).await;
    }
    let (mut v4, mut v5) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let (publish, ticket) = within("an offer", offers.recv()).await.unwrap();
        if publish.payload == "4" { v4.push(ticket) } else { v5.push(ticket) }
    }
    for tickets in [v4, v5] {
        let [first, second, third] = <[_; 3]>::try_from(tickets).unwrap();
        third.durable(Acknowledgement::default());
        // Silence is never success.
        drop(second);
        first.durable(Acknowledgement::default());
    }
    old.expect(&[0x40, 2, 0, 1]).await;
    old.expect_closed().await;
    new.expect(&[0x40, 2, 0, 1]).await;
    new.expect_disconnect(0x83).await;
    new.expect_closed().await;
}

#[tokio::test]
async fn rejects_are_told_to_v5_and_3_1_1_gets_its_puback() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler).await;
    let (mut old, mut new) = (running.v4("v4").await, running.v5("v5").await);
    let partly = Acknowledgement { rejected: 2, reason: Some("bad_imei"), nothing_accepted: false };
    let nothing =
        Acknowledgement { rejected: 1, reason: Some("truncated"), nothing_accepted: true };
    for (id, acknowledgement) in [(1, partly), (2, nothing)] {
        old.send(&publish_v4(QOS1, "t/x", Some(id), b"")).await;
        within("an offer", offers.recv()).await.unwrap().1.durable(acknowledgement);
        old.expect(&[0x40, 2, 0, id as u8]).await;
        new.send(&publish_v5(QOS1, "t/x", Some(id), &[], b"")).await;
        within("an offer", offers.recv()).await.unwrap().1.durable(acknowledgement);
    }
    let mut expected = vec![0x40, 37, 0, 1, 0x00, 33];
    expected.extend(b"\x26\x00\x08rejected\x00\x012\x26\x00\x06reason\x00\x08bad_imei");
    new.expect(&expected).await;
    let mut expected = vec![0x40, 38, 0, 2, 0x99, 34];
    expected.extend(b"\x26\x00\x08rejected\x00\x011\x26\x00\x06reason\x00\x09truncated");
    new.expect(&expected).await;
}

#[tokio::test]
async fn mqtt_4_3_3_a_qos_2_publish_is_handled_once_until_its_pubrel() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler).await;
    let mut client = running.v5("c").await;
    let publish = publish_v5(QOS2, "t/x", Some(7), &[], b"");
    client.send(&publish).await;
    let (_, ticket) = within("an offer", offers.recv()).await.unwrap();
    // Repeated while it waits: one PUBREC, when it is durable.
    client.send(&publish_v5(QOS2 | 8, "t/x", Some(7), &[], b"")).await;
    client.expect_silence().await;
    ticket.durable(Acknowledgement::default());
    client.expect(&[0x50, 2, 0, 7]).await;
    // Repeated after PUBREC: PUBREC again.
    client.send(&publish_v5(QOS2 | 8, "t/x", Some(7), &[], b"")).await;
    client.expect(&[0x50, 2, 0, 7]).await;
    assert!(offers.try_recv().is_err(), "a repetition was handled");
    client.send(&[0x62, 2, 0, 7]).await;
    client.expect(&[0x70, 2, 0, 7]).await;
    client.send(&[0x62, 2, 0, 7]).await;
    let unknown = client.packet().await;
    assert_eq!((unknown[0], &unknown[2..5]), (0x70, &[0, 7, 0x92][..]));
    // After PUBREL the id is another publish's.
    client.send(&publish).await;
    let (second, _ticket) = within("the second publish", offers.recv()).await.unwrap();
    assert_eq!(&*second.topic, "t/x");
}

#[tokio::test]
async fn mqtt_4_3_3_qos_2_ids_outlive_their_connection_in_a_kept_session() {
    let running = start(defaults(), Scripted::automatic()).await;
    let mut client = running.raw().await;
    client.send(&support::connect_v4("kept", false, 0)).await;
    client.expect(&[0x20, 2, 0, 0]).await;
    client.send(&publish_v4(QOS2, "t/x", Some(9), b"")).await;
    client.expect(&[0x50, 2, 0, 9]).await;
    drop(client);
    let mut client = running.raw().await;
    client.send(&support::connect_v4("kept", false, 0)).await;
    client.expect(&[0x20, 2, 1, 0]).await;
    client.send(&[0x62, 2, 0, 9]).await;
    client.expect(&[0x70, 2, 0, 9]).await;
}

#[tokio::test]
async fn mqtt_3_3_4_9_more_than_the_receive_maximum_is_refused_with_0x93() {
    let (handler, _offers) = Scripted::manual();
    let running = start(BrokerConfig { max_in_flight: 3, ..defaults() }, handler).await;
    let mut client = running.raw().await;
    client.send(&support::connect_v5("c", true, 0, &[])).await;
    let connack = client.packet().await;
    assert!(connack.windows(3).any(|w| w == [0x21, 0, 3]), "{connack:02x?}");
    for id in 1..=4 {
        client.send(&publish_v5(QOS1, "t/x", Some(id), &[], b"")).await;
    }
    client.expect_disconnect(0x93).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn a_busy_handler_gets_every_publish_later_and_in_order() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler.clone()).await;
    let mut client = running.v4("c").await;
    handler.set_busy(true);
    let mut burst = Vec::new();
    for id in 1..=20 {
        burst.extend(publish_v4(QOS1, "t/x", Some(id), &id.to_be_bytes()));
    }
    burst.extend([0xc0, 0]);
    client.send(&burst).await;
    within("a refusal", handler.refused.notified()).await;
    // What was read is served, the ping behind the publishes too.
    client.expect(&[0xd0, 0]).await;
    handler.set_busy(false);
    for id in 1..=20u16 {
        let (publish, ticket) = within("an offer", offers.recv()).await.unwrap();
        assert_eq!(publish.payload, id.to_be_bytes().as_slice());
        ticket.durable(Acknowledgement::default());
        client.expect(&[0x40, 2, 0, id as u8]).await;
    }
}

#[tokio::test]
async fn what_is_handed_over_is_what_was_published() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler).await;
    let mut client = running.v4("bs0001").await;
    client.send(&publish_v4(QOS1 | 1, "t/遵义", Some(1), b"payload")).await;
    let (publish, _ticket) = within("an offer", offers.recv()).await.unwrap();
    assert_eq!((&*publish.topic, &publish.payload[..]), ("t/遵义", &b"payload"[..]));
    assert_eq!((publish.qos, publish.retain), (QoS::AtLeastOnce, true));
    assert_eq!(publish.origin, Origin::Client("bs0001".into()));
}

#[tokio::test]
async fn a_shutdown_acknowledges_what_becomes_durable_in_time_and_counts_the_rest() {
    let (handler, mut offers) = Scripted::manual();
    let config = BrokerConfig { drain_timeout: PATIENCE / 20, ..defaults() };
    let running = start(config, handler).await;
    let (mut fast, mut slow) = (running.v5("fast").await, running.v4("slow").await);
    fast.send(&publish_v5(QOS1, "t/x", Some(1), &[], b"")).await;
    let (_, ticket) = within("an offer", offers.recv()).await.unwrap();
    slow.send(&publish_v4(QOS1, "t/x", Some(1), b"")).await;
    let (_, never) = within("an offer", offers.recv()).await.unwrap();
    running.stop.cancel();
    ticket.durable(Acknowledgement::default());
    fast.expect(&[0x40, 2, 0, 1]).await;
    fast.expect_disconnect(0x8b).await;
    fast.expect_closed().await;
    let report = within("the shutdown", running.served).await.unwrap();
    assert_eq!((report.unanswered_publishes, report.cut_connections), (1, 0));
    slow.expect_closed().await;
    drop(never);
}

#[tokio::test]
async fn every_acknowledgement_is_counted_by_its_class_and_timed() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let (handler, mut offers) = Scripted::manual();
    let broker = metrics::with_local_recorder(&recorder, || Broker::new(defaults(), handler));
    let running = support::serve(broker).await;
    let mut client = running.v5("c").await;
    let partly = Acknowledgement { rejected: 1, reason: Some("range"), nothing_accepted: false };
    let nothing = Acknowledgement { nothing_accepted: true, ..partly };
    for (id, acknowledgement) in [(1, Acknowledgement::default()), (2, partly), (3, nothing)] {
        client.send(&publish_v5(QOS1, "t/x", Some(id), &[], b"")).await;
        within("an offer", offers.recv()).await.unwrap().1.durable(acknowledgement);
        client.packet().await;
    }
    let (mut classes, mut received, mut timed) = (Vec::new(), 0, 0);
    for (key, _, _, value) in snapshots.snapshot().into_vec() {
        let label = key.key().labels().next().map(|label| label.value().to_owned());
        match (key.key().name(), value) {
            ("loushan_acks_sent_total", DebugValue::Counter(n)) => classes.push((label, n)),
            ("loushan_publishes_received_total", DebugValue::Counter(n)) => received = n,
            ("loushan_ack_latency_seconds", DebugValue::Histogram(times)) => timed = times.len(),
            _ => {}
        }
    }
    classes.sort();
    let once = |class: &str| (Some(class.to_owned()), 1);
    assert_eq!(classes, [once("partly_rejected"), once("rejected"), once("success")]);
    assert_eq!((received, timed), (3, 3));
}

#[tokio::test]
async fn what_is_not_the_handlers_does_not_wait_for_an_alarm_that_was_read_before_it() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler.clone()).await;
    let mut client = running.v4("c").await;
    handler.set_busy(true);
    let alarm = publish_v4(QOS1, "a/alarm", Some(1), b"");
    client.send(&[alarm, publish_v4(QOS1, "home/x", Some(2), b"")].concat()).await;
    within("a refusal", handler.refused.notified()).await;
    handler.set_busy(false);
    let (_, alarm) = within("the alarm", offers.recv()).await.unwrap();
    client.expect(&[0x40, 2, 0, 2]).await;
    alarm.durable(Acknowledgement::default());
    client.expect(&[0x40, 2, 0, 1]).await;
}

#[tokio::test]
async fn mqtt_3_4_2_3_user_properties_that_would_pass_the_clients_packet_size_are_left_out() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler).await;
    let partly = Acknowledgement { rejected: 2, reason: Some("bad_imei"), nothing_accepted: false };
    for (maximum, answer_len) in [(39, 39), (38, 4)] {
        let mut client = running.raw().await;
        client.send(&support::connect_v5("c", true, 0, &[0x27, 0, 0, 0, maximum])).await;
        client.packet().await;
        client.send(&publish_v5(QOS1, "t/x", Some(1), &[], b"")).await;
        within("an offer", offers.recv()).await.unwrap().1.durable(partly);
        let answer = client.packet().await;
        assert_eq!(answer.len(), answer_len, "{answer:02x?}");
    }
}

#[tokio::test]
async fn mqtt_4_3_3_a_qos_2_publish_repeated_while_its_turn_has_not_come_leaves_its_id_free() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(defaults(), handler).await;
    let mut subscriber = running.v4("s").await;
    subscriber.send(&support::subscribe_v4(1, "x", 1)).await;
    subscriber.expect(&[0x90, 3, 0, 1, 1]).await;
    let mut client = running.v4("c").await;
    client.send(&publish_v4(QOS1, "t/x", Some(1), b"")).await;
    let (_, ticket) = within("an offer", offers.recv()).await.unwrap();
    client.send(&publish_v4(QOS2, "x", Some(2), b"first")).await;
    client.send(&publish_v4(QOS2 | 8, "x", Some(2), b"first")).await;
    client.expect_silence().await;
    ticket.durable(Acknowledgement::default());
    client.expect(&[0x40, 2, 0, 1, 0x50, 2, 0, 2]).await;
    client.send(&[0x62, 2, 0, 2]).await;
    client.expect(&[0x70, 2, 0, 2]).await;
    client.send(&publish_v4(QOS2, "x", Some(2), b"second")).await;
    client.expect(&[0x50, 2, 0, 2]).await;
    subscriber.expect(&publish_v4(QOS1, "x", Some(1), b"first")).await;
    subscriber.expect(&publish_v4(QOS1, "x", Some(2), b"second")).await;
}
