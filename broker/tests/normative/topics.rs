//! Topic names and filters (section 4.7).

use loushan_broker::config::BrokerConfig;

use super::client::Client;
use super::wire::{BOTH, Packet, Publish, V5, subscribe};
use super::{running, with};

/// The code of a filter that is none.
fn invalid(version: super::wire::Version) -> u8 {
    if version == V5 { 0x8f } else { 0x80 }
}

// 3.1.1: [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1]
// 5: [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1]
#[tokio::test]
async fn wildcards_stand_for_whole_levels_and_the_great_one_comes_last() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        for good in ["#", "+", "/", "a", "+/+", "/#", "/+", "+/", "a/#", "a/+/b/#", "+/a/+", " "] {
            assert_eq!(client.subscribe(good, 1).await, 1, "{good:?}");
        }
        for bad in ["", "a#", "#a", "#/a", "a/#/b", "##", "a+", "+a", "a/b+/c", "++", "a/+#", "+#"]
        {
            assert_eq!(client.subscribe(bad, 1).await, invalid(version), "{bad:?}");
        }
        client.ping().await;
    }
}

// 3.1.1: [MQTT-3.3.2-3] [MQTT-4.7.2-1]
// 5: [MQTT-3.3.2-3] [MQTT-4.7.2-1]
#[tokio::test]
async fn filters_match_as_the_standard_s_examples_say() {
    let running = running().await;
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "sport/tennis/player1/#",
            &[
                "sport/tennis/player1",
                "sport/tennis/player1/ranking",
                "sport/tennis/player1/score/wimbledon",
            ],
            &["sport/tennis", "sport/tennis/player2", "sport/tennis/player10"],
        ),
        ("sport/#", &["sport", "sport/", "sport/x"], &["sports", "/sport"]),
        (
            "sport/tennis/+",
            &["sport/tennis/player1", "sport/tennis/"],
            &["sport/tennis", "sport/tennis/player1/ranking"],
        ),
        ("sport/+", &["sport/"], &["sport"]),
        ("+/+", &["/finance", "a/b", "/"], &["a", "a/b/c"]),
        ("/+", &["/finance", "/"], &["finance", "a/b"]),
        ("+", &["finance"], &["/finance", "$other"]),
        ("#", &["a", "/", "a/b/c", "//"], &["$other", "$other/x", "$"]),
        ("+/monitor/Clients", &["x/monitor/Clients"], &["$other/monitor/Clients"]),
        ("/#", &["/", "/$other"], &["$other/x", "a"]),
        ("$other/#", &["$other/x", "$other"], &["other/x"]),
        ("$other/monitor/+", &["$other/monitor/Clients"], &["$other/monitor/a/b"]),
        ("a//+", &["a//b", "a//"], &["a/b", "a/b/c"]),
    ];
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        for (filter, matching, others) in cases {
            let mut client = Client::new(&running, version, "c").await;
            client.subscribe(filter, 1).await;
            for topic in *others {
                publisher.deliver(&Publish::new(1, topic, "x")).await;
            }
            client.silence().await;
            for topic in *matching {
                publisher.deliver(&Publish::new(1, topic, "x")).await;
                let message = client.message().await;
                assert_eq!(message.topic, *topic, "by {filter}");
                client.take(&message).await;
            }
        }
    }
}

// 3.1.1: [MQTT-4.7.2-1]
// 5: [MQTT-4.7.2-1]
#[tokio::test]
async fn retained_messages_of_reserved_topics_do_not_come_by_a_leading_wildcard() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        publisher.deliver(&Publish::new(1, "$reserved/x", "x").retained()).await;
        for (filter, expected) in [("#", false), ("+/x", false), ("$reserved/+", true)] {
            let mut client = Client::new(&running, version, "c").await;
            client.subscribe(filter, 1).await;
            if expected {
                let message = client.message().await;
                assert_eq!(message.topic, "$reserved/x");
                client.take(&message).await;
            }
            client.silence().await;
        }
    }
}

// 3.1.1: [MQTT-4.7.3-3]
// 5: [MQTT-4.7.3-3]
#[tokio::test]
async fn topics_may_be_as_long_as_their_length_field_can_say() {
    let config = BrokerConfig { max_topic_bytes: 65_535, ..BrokerConfig::default() };
    let running = with(config).await;
    let longest = "x".repeat(65_535);
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        client.send(&subscribe(version, 1, &[(&longest, 1)])).await;
        assert!(
            matches!(client.packet().await, Packet::SubAck { id: 1, codes, .. } if codes == [1])
        );
        let mut publisher = Client::new(&running, version, "p").await;
        publisher.deliver(&Publish::new(1, &longest, "x")).await;
        assert_eq!(client.message().await.topic, longest);
    }
}
