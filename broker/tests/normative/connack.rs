//! CONNACK (section 3.2): what the server tells of the session and of itself.

use loushan_broker::config::BrokerConfig;

use super::client::Client;
use super::wire::{
    BOTH, Connect, PINGREQ, PUBREC, PUBREL, Packet, Publish, V5, ack, property, subscribe,
    unsubscribe,
};
use super::{running, with};

// 3.1.1: [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-4] [MQTT-3.1.2-6] [MQTT-3.1.4-3]
// 5: [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.4-4]
#[tokio::test]
async fn session_present_says_whether_there_is_one_and_a_clean_start_never_has_one() {
    let running = running().await;
    for version in BOTH {
        let id = format!("{version:?}");
        let kept = Connect::kept(version, &id);
        let clean = Connect { clean: true, ..kept.clone() };
        for (connect, expected) in [
            (&kept, false),
            (&kept, true),
            (&kept, true),
            (&clean, false),
            // In 3.1.1 a clean session is not kept; in 5 this one is, by its expiry.
            (&kept, version == V5),
            (&Connect::clean(&id), false),
            (&kept, false),
        ] {
            let (client, said) = Client::connect(&running, version, connect).await;
            assert_eq!((said.code, said.present), (0, expected), "{connect:?}");
            client.leave().await;
        }
    }
}

// 5: [MQTT-3.2.2-9]
#[tokio::test]
async fn a_server_that_takes_every_quality_of_service_and_retains_says_nothing_against_it() {
    let running = running().await;
    let (_client, said) = Client::connect(&running, V5, &Connect::clean("c")).await;
    assert!(said.properties.get(property::MAXIMUM_QOS).is_none(), "{said:?}");
    for available in [
        property::RETAIN_AVAILABLE,
        property::WILDCARDS_AVAILABLE,
        property::SUBSCRIPTION_IDS_AVAILABLE,
    ] {
        assert!(matches!(said.properties.number(available), None | Some(1)), "{said:?}");
    }
    assert_ne!(said.properties.number(property::RECEIVE_MAXIMUM), Some(0));
    assert_ne!(said.properties.number(property::MAXIMUM_PACKET_SIZE), Some(0));
}

// 5: [MQTT-3.1.2-28]
#[tokio::test]
async fn response_information_is_only_sent_to_who_asks_for_it() {
    let running = running().await;
    for connect in [Connect::clean("c"), Connect::clean("c").with(property::REQUEST_RESPONSE, 0)] {
        let (_client, said) = Client::connect(&running, V5, &connect).await;
        assert!(said.properties.get(property::RESPONSE_INFORMATION).is_none(), "{said:?}");
    }
    let asks = Connect::clean("c").with(property::REQUEST_RESPONSE, 1);
    Client::accepted(&running, V5, &asks).await;
}

// 5: [MQTT-4.12.0-1] [MQTT-4.12.0-4] [MQTT-4.12.0-6] [MQTT-3.2.2-7]
#[tokio::test]
async fn an_authentication_method_that_is_not_supported_is_refused_and_none_is_named_unasked() {
    let running = running().await;
    let connect = Connect::clean("c")
        .with(property::AUTHENTICATION_METHOD, "SCRAM-SHA-1")
        .with(property::AUTHENTICATION_DATA, &b"n,,n=user"[..]);
    let (mut client, said) = Client::connect(&running, V5, &connect).await;
    assert_eq!((said.code, said.present), (0x8c, false));
    client.closed("its method is not supported").await;
    let (_client, said) = Client::connect(&running, V5, &Connect::clean("c")).await;
    assert!(said.properties.get(property::AUTHENTICATION_METHOD).is_none());
    assert!(said.properties.get(property::AUTHENTICATION_DATA).is_none());
}

// 5: [MQTT-3.2.2-15]
#[tokio::test]
async fn what_is_longer_than_the_server_said_it_takes_ends_the_connection() {
    let running = with(BrokerConfig { max_packet_bytes: 200, ..BrokerConfig::default() }).await;
    for version in BOTH {
        let (mut client, said) = Client::connect(&running, version, &Connect::clean("c")).await;
        if version == V5 {
            assert_eq!(said.properties.number(property::MAXIMUM_PACKET_SIZE), Some(200));
        }
        let fixed = Publish::new(1, "t", "").bytes(version).len() + 1;
        client.deliver(&Publish::new(1, "t", vec![0; 200 - fixed])).await;
        client.publish(&Publish::new(1, "t", vec![0; 201 - fixed]).id(2)).await;
        client.refused(0x95, "a packet of 201 bytes").await;
    }
}

// 5: [MQTT-3.1.2-24]
#[tokio::test]
async fn not_even_connack_is_longer_than_the_client_takes() {
    let running = running().await;
    for limit in [1, 4, 8, 16, 20] {
        // Without an identifier, so that there is more to say.
        let connect = Connect::clean("").with(property::MAXIMUM_PACKET_SIZE, limit);
        let mut client = Client::silent(&running, V5).await;
        client.send(&connect.bytes(V5)).await;
        // There is no telling it all that it must know, so it ends here, with a word or without.
        if let Some(length) = client.length_or_close().await {
            assert!(length <= limit as usize, "{length} bytes to a client that takes {limit}");
        }
    }
}

// 5: [MQTT-3.1.2-24] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
#[tokio::test]
async fn no_acknowledgement_is_made_longer_than_the_client_takes_by_its_reasons() {
    let running = running().await;
    let limit = 30;
    let connect = Connect::clean("c").with(property::MAXIMUM_PACKET_SIZE, limit);
    let mut client = Client::accepted(&running, V5, &connect).await;
    let deep = "/".repeat(200);
    // Whatever there would be something to say about.
    for packet in [
        subscribe(V5, 2, &[("a/#/b", 0)]),
        unsubscribe(V5, 3, &["never/there"]),
        ack(PUBREL, 9),
        ack(PUBREC, 9),
        Publish::new(1, &deep, "").bytes(V5),
        Publish::new(2, &deep, "").bytes(V5),
    ] {
        client.send(&packet).await;
        let answer = client.next_within(limit as usize).await;
        assert!(!matches!(answer, Packet::Disconnect { .. }), "{answer:?}");
    }
    // One that cannot be short is not sent.
    let filters: Vec<_> = (0..100).map(|n| format!("f/{n}")).collect();
    let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
    client.send(&subscribe(V5, 1, &filters)).await;
    client.send(&PINGREQ).await;
    assert_eq!(client.next_within(limit as usize).await, Packet::PingResp);
}

// 5: [MQTT-3.1.2-24] [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
#[tokio::test]
async fn nor_are_the_last_words_to_a_client() {
    let running = running().await;
    let refused = Connect::clean("c")
        .with(property::MAXIMUM_PACKET_SIZE, 5)
        .with(property::AUTHENTICATION_METHOD, "x");
    let mut client = Client::silent(&running, V5).await;
    client.send(&refused.bytes(V5)).await;
    assert!(matches!(client.next_within(5).await, Packet::ConnAck { code: 0x80.., .. }));
    let connect = Connect::clean("c").with(property::MAXIMUM_PACKET_SIZE, 20);
    let mut client = Client::accepted(&running, V5, &connect).await;
    client.publish(&Publish::new(1, "a/+", "x")).await;
    assert!(matches!(client.next_within(20).await, Packet::Disconnect { reason: 0x90, .. }));
}

// 3.1.1: [MQTT-3.1.3-2]
// 5: [MQTT-3.1.3-2]
#[tokio::test]
async fn sessions_are_told_apart_by_client_identifier_to_the_byte() {
    let running = running().await;
    for version in BOTH {
        let name = format!("Case{version:?}");
        let (client, _) = Client::kept(&running, version, &name).await;
        client.leave().await;
        for (id, expected) in [
            (name.to_lowercase(), false),
            (format!("{name} "), false),
            (format!("\u{feff}{name}"), false),
            (name, true),
        ] {
            let (client, present) = Client::kept(&running, version, &id).await;
            assert_eq!(present, expected, "{id:?}");
            client.leave().await;
        }
    }
}
