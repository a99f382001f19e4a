//! What client and broker agree on in CONNECT and CONNACK, and what holds for the connection then.
#![allow(clippy::unwrap_used)]

mod support;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use loushan_broker::Broker;
use loushan_broker::auth::{AllowAll, Authority, Credentials, Grant, Refusal, Rights};
use loushan_broker::config::BrokerConfig;
use support::{
    Raw, Running, Scripted, connect_v4, connect_v5, packet, publish_v4, publish_v5, serve, start,
    subscribe_v4, subscribe_v5, text,
};

async fn running(config: BrokerConfig) -> Running {
    start(config, Scripted::automatic()).await
}

/// A v5 client with these CONNECT properties, and its CONNACK.
async fn connected(running: &Running, keep_alive: u16, properties: &[u8]) -> (Raw, Vec<u8>) {
    let mut client = running.raw().await;
    client.send(&connect_v5("c", true, keep_alive, properties)).await;
    let connack = client.packet().await;
    (client, connack)
}

fn holds(packet: &[u8], bytes: &[u8]) -> bool {
    packet.windows(bytes.len()).any(|window| window == bytes)
}

#[tokio::test]
async fn mqtt_3_3_2_12_a_client_that_takes_aliases_is_sent_a_topic_once() {
    let running = running(BrokerConfig::default()).await;
    // Topic Alias Maximum 1.
    let (mut client, _) = connected(&running, 0, &[0x22, 0, 1]).await;
    client.send(&subscribe_v5(1, &[], &[("home/+", 1)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    let mut publisher = running.v4("p").await;
    for (id, topic) in [(1, "home/a"), (2, "home/b"), (3, "home/a")] {
        publisher.send(&publish_v4(2, topic, Some(id), b"x")).await;
        publisher.expect(&[0x40, 2, 0, id as u8]).await;
    }
    client.expect(&publish_v5(2, "home/a", Some(1), &[0x23, 0, 1], b"x")).await;
    client.expect(&publish_v5(2, "home/b", Some(2), &[], b"x")).await;
    client.expect(&publish_v5(2, "", Some(3), &[0x23, 0, 1], b"x")).await;
}

#[tokio::test]
async fn an_alias_that_was_in_a_packet_too_long_to_send_is_not_taken_as_known() {
    let running = running(BrokerConfig::default()).await;
    let (mut client, _) = connected(&running, 0, &[0x22, 0, 9, 0x27, 0, 0, 0, 30]).await;
    client.send(&subscribe_v5(1, &[], &[("home/+", 1)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    let mut publisher = running.v4("p").await;
    for (id, payload) in [(1, &[b'x'; 30][..]), (2, b"y")] {
        publisher.send(&publish_v4(2, "home/a", Some(id), payload)).await;
        publisher.expect(&[0x40, 2, 0, id as u8]).await;
    }
    client.expect(&publish_v5(2, "home/a", Some(2), &[0x23, 0, 1], b"y")).await;
}

#[tokio::test]
async fn mqtt_3_1_2_21_a_keep_alive_longer_than_the_longest_is_replaced_and_the_client_told() {
    let config =
        BrokerConfig { max_keep_alive: Duration::from_secs(60), ..BrokerConfig::default() };
    let running = running(config).await;
    for (asked, replaced) in [(0, true), (61, true), (60, false), (5, false)] {
        let (_, connack) = connected(&running, asked, &[]).await;
        assert_eq!(holds(&connack, &[0x13, 0, 60]), replaced, "{asked}: {connack:02x?}");
    }
}

#[tokio::test]
async fn a_keep_alive_that_was_replaced_is_the_one_that_holds() {
    let config = BrokerConfig { max_keep_alive: Duration::from_secs(1), ..BrokerConfig::default() };
    let running = running(config).await;
    let (mut client, _) = connected(&running, 0, &[]).await;
    client.expect_disconnect(0x8d).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn response_information_is_given_to_who_asks() {
    let running = running(BrokerConfig::default()).await;
    let (_, connack) = connected(&running, 0, &[0x19, 1]).await;
    assert!(holds(&connack, b"\x1a\x00\x0cresponses/c/"), "{connack:02x?}");
    let (_, connack) = connected(&running, 0, &[]).await;
    assert!(!holds(&connack, b"responses"), "{connack:02x?}");
}

#[tokio::test]
async fn mqtt_3_1_2_29_who_wants_no_problem_information_gets_codes_alone() {
    let running = running(BrokerConfig::default()).await;
    let (mut client, _) = connected(&running, 0, &[0x17, 0]).await;
    client.send(&[0x62, 2, 0, 7]).await;
    client.expect(&[0x70, 3, 0, 7, 0x92]).await;
    client.send(&subscribe_v5(1, &[], &[("#/a", 0)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 0x8f]).await;
    // Save in DISCONNECT.
    client.send(&[0xc1, 0]).await;
    client.expect_disconnect(0x81).await;
}

#[tokio::test]
async fn mqtt_3_1_2_24_reasons_make_no_packet_longer_than_the_client_takes() {
    let running = running(BrokerConfig::default()).await;
    let (mut client, _) = connected(&running, 0, &[0x27, 0, 0, 0, 30]).await;
    client.send(&[0x62, 2, 0, 7]).await;
    client.expect(&[0x70, 3, 0, 7, 0x92]).await;
    client.send(&[0xc1, 0]).await;
    client.expect(&[0xe0, 1, 0x81]).await;
    client.expect_closed().await;
    // Not even CONNACK has room.
    let (mut client, refused) = connected(&running, 0, &[0x27, 0, 0, 0, 10]).await;
    assert_eq!(refused, [0x20, 3, 0, 0x95, 0]);
    client.expect_closed().await;
}

#[tokio::test]
async fn mqtt_4_13_1_1_a_malformed_connect_of_v5_is_answered_with_its_reason_and_one_of_3_1_1_not()
{
    let running = running(BrokerConfig::default()).await;
    let reserved_flag = |level| {
        let mut body = text("MQTT");
        body.extend([level, 1, 0, 0]);
        body.extend([&[0][..], &text("c")].concat());
        packet(0x10, &body)
    };
    for (bytes, reason) in [
        (reserved_flag(5), 0x81),
        // A receive maximum of 0, and a property that does not belong.
        (connect_v5("c", true, 0, &[0x21, 0, 0]), 0x82),
        (connect_v5("c", true, 0, &[0x23, 0, 1]), 0x82),
    ] {
        let mut client = running.raw().await;
        client.send(&bytes).await;
        let refused = client.packet().await;
        assert_eq!(refused[0], 0x20);
        assert_eq!(&refused[2..4], [0, reason], "{refused:02x?}");
        assert_eq!(refused[5], 0x1f, "it says why");
        client.expect_closed().await;
    }
    let mut client = running.raw().await;
    client.send(&reserved_flag(4)).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn topics_and_filters_beyond_the_limits_are_refused_and_the_others_are_not() {
    let config =
        BrokerConfig { max_topic_levels: 3, max_topic_bytes: 20, ..BrokerConfig::default() };
    let running = running(config).await;
    let (mut client, _) = connected(&running, 0, &[]).await;
    let long = "123456789012345678901";
    for (id, topic, reason) in [(1, "a/b/c/d", 0x90), (2, long, 0x90), (3, "a/b/c", 0)] {
        client.send(&publish_v5(2, topic, Some(id), &[], b"")).await;
        let puback = client.packet().await;
        assert_eq!((puback[0], puback.get(4).copied().unwrap_or(0)), (0x40, reason), "{topic}");
        client.send(&publish_v5(0, topic, None, &[], b"")).await;
    }
    let filters = [("a/b/c/#", 0), (long, 0), ("a/+/#", 0), ("$share/g/a/+/#", 0)];
    client.send(&subscribe_v5(4, &[], &filters)).await;
    let suback = client.packet().await;
    assert!(suback.ends_with(&[0x8f, 0x8f, 0, 0]), "{suback:02x?}");
    let mut old = running.v4("old").await;
    old.send(&publish_v4(2, "a/b/c/d", Some(1), b"")).await;
    old.expect_closed().await;
    let mut body = [&text("MQTT")[..], &[5, 2 | 4, 0, 0, 0], &text("w"), &[0]].concat();
    body.extend([text("a/b/c/d"), text("gone")].concat());
    let mut client = running.raw().await;
    client.send(&packet(0x10, &body)).await;
    assert_eq!(client.packet().await[2..4], [0, 0x90]);
}

#[tokio::test]
async fn the_brokers_figures_are_its_own_and_for_who_asks_by_name() {
    let config = BrokerConfig { sys_interval: Duration::from_secs(1), ..BrokerConfig::default() };
    let running = running(config).await;
    let (mut everything, mut figures) = (running.v4("all").await, running.v4("figures").await);
    everything.send(&subscribe_v4(1, "#", 0)).await;
    everything.expect(&[0x90, 3, 0, 1, 0]).await;
    for (id, topic, value) in
        [(1, "$SYS/broker/clients/connected", "2"), (2, "$SYS/broker/subscriptions/count", "3")]
    {
        figures.send(&subscribe_v4(id, topic, 0)).await;
        figures.expect(&[0x90, 3, 0, id as u8, 0]).await;
        support::within("the figure", async {
            while figures.packet().await[1..] != publish_v4(0, topic, None, value.as_bytes())[1..] {
            }
        })
        .await;
    }
    let (mut client, _) = connected(&running, 0, &[]).await;
    client.send(&publish_v5(2, "$SYS/broker/uptime", Some(1), &[], b"forged")).await;
    assert_eq!(client.packet().await[2..5], [0, 1, 0x87]);
    everything.expect_silence().await;
}

#[tokio::test]
async fn there_are_no_figures_where_there_is_no_interval() {
    let config = BrokerConfig { sys_interval: Duration::ZERO, ..BrokerConfig::default() };
    let running = running(config).await;
    let mut client = running.v4("c").await;
    client.send(&subscribe_v4(1, "$SYS/#", 0)).await;
    client.expect(&[0x90, 3, 0, 1, 0]).await;
    client.expect_silence().await;
}

/// Nobody may subscribe to `no`.
struct Deny;

impl Authority for Deny {
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>> {
        Box::pin(async move {
            let grant = AllowAll.authenticate(credentials).await?;
            Ok(Grant { rights: Arc::new(Self), ..grant })
        })
    }
}

impl Rights for Deny {
    fn may_publish(&self, _: &str) -> bool {
        true
    }

    fn may_subscribe(&self, filter: &str) -> bool {
        filter != "no"
    }
}

#[tokio::test]
async fn a_denied_subscription_is_told_as_configured_and_sharing_is_no_way_around() {
    for (tell_denied, reason) in [(true, 0x87), (false, 0x80)] {
        let config = BrokerConfig { tell_denied, ..BrokerConfig::default() };
        let broker = Broker::with_authority(config, Scripted::automatic(), Arc::new(Deny));
        let running = serve(broker).await;
        let (mut new, _) = connected(&running, 0, &[]).await;
        new.send(&subscribe_v5(1, &[], &[("no", 1), ("$share/g/no", 1), ("yes", 1)])).await;
        let suback = new.packet().await;
        assert!(suback.ends_with(&[reason, reason, 1]), "{suback:02x?}");
        let mut old = running.raw().await;
        old.send(&connect_v4("old", true, 0)).await;
        old.expect(&[0x20, 2, 0, 0]).await;
        old.send(&subscribe_v4(1, "no", 1)).await;
        old.expect(&[0x90, 3, 0, 1, 0x80]).await;
    }
}
