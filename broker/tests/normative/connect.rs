//! CONNECT (section 3.1).

use std::sync::Arc;

use loushan_broker::Broker;
use loushan_broker::auth::{Authority, Credentials, Grant, Refusal};
use loushan_broker::config::BrokerConfig;
use loushan_broker::handler::PublishHandler;

use super::client::Client;
use super::running;
use super::support::{Running, Scripted, serve};
use super::wire::{
    BOTH, Connect, DISCONNECT, PINGREQ, PUBACK, Packet, Publish, V4, V5, Version, property, raw,
    subscribe, text,
};

/// Sends what is no CONNECT that can be served: 3.1.1 gets no answer but the end, version 5 may get a
/// reason before it.
async fn unacceptable(running: &Running, version: Version, bytes: &[u8], why: &str) {
    let mut client = Client::silent(running, version).await;
    client.send(bytes).await;
    match client.packet_or_close().await {
        None => {}
        Some(Packet::ConnAck { present: false, code: 0x80.., .. }) if version == V5 => {
            client.closed(why).await;
        }
        other => panic!("{other:?} in answer to a CONNECT ({version:?}) with {why}"),
    }
}

// 3.1.1: [MQTT-3.1.0-1]
// 5: [MQTT-3.1.0-1] [MQTT-3.14.0-1]
#[tokio::test]
async fn whatever_comes_before_connect_ends_the_connection_without_a_word() {
    let running = running().await;
    let firsts = [
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
        Publish::new(0, "a", "x").bytes(V4),
        Publish::new(1, "a", "x").bytes(V5),
        subscribe(V4, 1, &[("#", 0)]),
        raw(0xf0, &[]),
    ];
    for first in firsts {
        let mut client = Client::silent(&running, V5).await;
        client.send(&first).await;
        client.closed("no CONNECT came first").await;
    }
}

// 3.1.1: [MQTT-3.1.0-2]
// 5: [MQTT-3.1.0-2] [MQTT-3.2.0-2] [MQTT-4.13.1-1]
#[tokio::test]
async fn a_second_connect_ends_the_connection_and_gets_no_second_connack() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        client.send(&Connect::clean("c").bytes(version)).await;
        client.refused(0x82, "a second CONNECT").await;
    }
}

// 3.1.1: [MQTT-3.1.2-1]
// 5: [MQTT-3.1.2-1]
#[tokio::test]
async fn what_does_not_call_itself_mqtt_is_not_served() {
    let running = running().await;
    for name in ["", "mqtt", "MQT", "MQTTX", "HTTP", "MQIsdp"] {
        for version in BOTH {
            let rest = &Connect::clean("c").bytes(version)[8..];
            let bytes = raw(0x10, &[&text(name), rest].concat());
            let mut client = Client::silent(&running, V4).await;
            client.send(&bytes).await;
            if name == "MQIsdp" {
                // MQTT 3.1: its clients are told that they are too old.
                let answer = client.packet().await;
                assert!(matches!(answer, Packet::ConnAck { code: 1, .. }), "{answer:?}");
            }
            client.closed(&format!("it calls itself {name:?}")).await;
        }
    }
}

// 3.1.1: [MQTT-3.1.2-2] [MQTT-3.2.2-5]
// 5: [MQTT-3.1.2-2] [MQTT-3.2.2-7]
#[tokio::test]
async fn a_protocol_level_that_is_not_served_is_refused_in_the_nearer_version_and_closed() {
    let running = running().await;
    for level in [0, 1, 2, 3, 6, 7, 0x84, 0xff] {
        let mut body = Connect::clean("c").bytes(V4)[2..].to_vec();
        body[6] = level;
        let mut client = Client::silent(&running, if level < 4 { V4 } else { V5 }).await;
        client.send(&raw(0x10, &body)).await;
        match client.packet().await {
            Packet::ConnAck { present: false, code, .. } => {
                assert_eq!(code, if level < 4 { 0x01 } else { 0x84 }, "level {level}");
            }
            other => panic!("{other:?} for level {level}"),
        }
        client.closed("the level is not served").await;
    }
}

// 3.1.1: [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.2-22] [MQTT-3.1.4-1] [MQTT-3.2.2-6]
// 5: [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13] [MQTT-3.1.4-1]
#[tokio::test]
async fn connect_flags_that_are_reserved_or_contradict_each_other_are_malformed() {
    let running = running().await;
    let plain = Connect::clean("c");
    let will = plain.clone().will(Publish::new(0, "w", "x"));
    for version in BOTH {
        for (connect, flags, why) in [
            (&plain, 0x03, "its reserved flag set"),
            (&plain, 0x0a, "a will's quality of service and no will"),
            (&plain, 0x12, "a will's quality of service and no will"),
            (&plain, 0x22, "a will's retain and no will"),
            (&will, 0x1e, "a will of quality of service 3"),
        ] {
            let bytes = Connect { flags: Some(flags), ..connect.clone() }.bytes(version);
            unacceptable(&running, version, &bytes, why).await;
        }
        let bytes = [&[0x11][..], &plain.bytes(version)[1..]].concat();
        unacceptable(&running, version, &bytes, "a flag of its fixed header set").await;
    }
    let password = Connect { password: Some(b"p".to_vec()), ..plain };
    unacceptable(&running, V4, &password.bytes(V4), "a password and no user name").await;
    // Which version 5 allows.
    Client::accepted(&running, V5, &password).await;
}

// 3.1.1: [MQTT-3.1.2-9] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.3-1] [MQTT-3.1.3-3]
// 5: [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-1] [MQTT-3.1.3-3]
#[tokio::test]
async fn the_payload_holds_the_fields_that_the_flags_name_and_no_others() {
    let running = running().await;
    let plain = Connect::clean("c");
    let all = plain.clone().will(Publish::new(0, "w", "x")).user("name", "word");
    for version in BOTH {
        // Everything there, in its order.
        Client::accepted(&running, version, &all).await.leave().await;
        for (connect, flags, why) in [
            (&plain, 0x06, "a will promised and not there"),
            (&plain, 0x82, "a user name promised and not there"),
            (&plain.clone().user("name", "word"), 0x02, "fields of which no flag speaks"),
            (&plain.clone().user("name", "word"), 0x82, "a password of which no flag speaks"),
            (&all, 0xc2, "a will of which no flag speaks"),
        ] {
            let bytes = Connect { flags: Some(flags), ..connect.clone() }.bytes(version);
            unacceptable(&running, version, &bytes, why).await;
        }
        let named = Connect { username: Some("name".into()), ..plain.clone() };
        let bytes = Connect { flags: Some(0xc2), ..named }.bytes(version);
        unacceptable(&running, version, &bytes, "a password promised and not there").await;
        // No client identifier at all.
        let mut body = text("MQTT");
        body.extend([version as u8, 2, 0, 0]);
        body.extend(if version == V5 { &[0][..] } else { &[] });
        unacceptable(&running, version, &raw(0x10, &body), "no client identifier").await;
    }
}

// 3.1.1: [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11]
// 5: [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12]
#[tokio::test]
async fn names_in_connect_must_be_utf_8() {
    let running = running().await;
    // Latin-1, an overlong form, a surrogate, U+0000, beyond U+10FFFF.
    let bad = [&b"caf\xe9"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"a\0b", b"\xf4\x90\x80\x80"];
    for version in BOTH {
        let placeholder = "~~~~~";
        for (connect, what) in [
            (Connect::clean(placeholder), "client identifier"),
            (Connect::clean("c").will(Publish::new(0, placeholder, "x")), "will topic"),
            (Connect::clean("c").user(placeholder, "word"), "user name"),
        ] {
            for bad in bad {
                let padded = [bad, &b"zzzzz"[..5 - bad.len()]].concat();
                let mut bytes = connect.bytes(version);
                let at = bytes.windows(5).position(|w| w == placeholder.as_bytes()).unwrap();
                bytes[at..at + 5].copy_from_slice(&padded);
                let why = format!("a {what} of {padded:02x?}");
                unacceptable(&running, version, &bytes, &why).await;
            }
        }
    }
}

// 3.1.1: [MQTT-3.1.3-5]
// 5: [MQTT-3.1.3-5]
#[tokio::test]
async fn client_identifiers_of_letters_and_digits_up_to_23_are_allowed() {
    let running = running().await;
    for version in BOTH {
        for id in ["0", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"] {
            Client::new(&running, version, id).await;
        }
    }
}

// 3.1.1: [MQTT-3.1.3-6]
// 5: [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
#[tokio::test]
async fn a_client_without_an_identifier_is_given_one_of_its_own() {
    let running = running().await;
    // Were two given one identifier, the second would end the first.
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(Client::new(&running, V4, "").await);
    }
    for client in &mut old {
        client.ping().await;
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (client, said) = Client::connect(&running, V5, &Connect::clean("")).await;
        let id = said.properties.text(property::ASSIGNED_CLIENT_ID).unwrap().to_owned();
        assert!(!id.is_empty() && !seen.contains(&id), "{id:?} after {seen:?}");
        seen.push(id.clone());
        // It is the client's identifier from here on, as if it had said it.
        let (mut first, id_again) = (client, id);
        let second = Client::new(&running, V5, &id_again).await;
        first.refused(0x8e, "another came with the identifier given to it").await;
        second.leave().await;
    }
}

// 5: [MQTT-3.1.3-7] [MQTT-3.1.3-2]
#[tokio::test]
async fn a_session_begun_without_an_identifier_is_resumed_by_the_one_that_was_given() {
    let running = running().await;
    let (client, said) = Client::connect(&running, V5, &Connect::kept(V5, "")).await;
    let id = said.properties.text(property::ASSIGNED_CLIENT_ID).unwrap().to_owned();
    client.leave().await;
    let (_client, present) = Client::kept(&running, V5, &id).await;
    assert!(present, "the session of {id:?}");
}

// 3.1.1: [MQTT-3.1.3-8] [MQTT-3.1.3-9]
#[tokio::test]
async fn a_3_1_1_client_with_no_identifier_and_a_session_to_keep_is_refused() {
    let running = running().await;
    let (mut client, said) = Client::connect(&running, V4, &Connect::kept(V4, "")).await;
    assert_eq!((said.code, said.present), (2, false));
    client.closed("its identifier was refused").await;
}

/// Lets in whoever says the word.
struct Password;

impl Authority for Password {
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials<'a>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>> {
        if credentials.password == Some(b"word") {
            return loushan_broker::auth::AllowAll.authenticate(credentials);
        }
        Box::pin(std::future::ready(Err(Refusal::BadCredentials)))
    }
}

fn guarded(handler: Arc<dyn PublishHandler>) -> Broker {
    Broker::with_authority(BrokerConfig::default(), handler, Arc::new(Password))
}

// 3.1.1: [MQTT-3.1.4-5] [MQTT-3.2.2-4] [MQTT-3.2.2-5] [MQTT-3.2.0-1]
// 5: [MQTT-3.1.4-2] [MQTT-3.1.4-6] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.14.0-1] [MQTT-4.13.2-1]
#[tokio::test]
async fn a_refused_client_is_told_so_and_closed_and_what_it_sent_behind_connect_is_not_done() {
    let running = serve(guarded(Scripted::automatic())).await;
    for version in BOTH {
        let mut watcher =
            Client::accepted(&running, version, &Connect::clean("w").user("w", "word")).await;
        watcher.subscribe("#", 1).await;
        // It has a session, of which a refusal must not tell.
        let kept = Connect::kept(version, "c");
        Client::accepted(&running, version, &kept.clone().user("c", "word")).await.leave().await;
        let wrong = kept.user("c", "guess").bytes(version);
        let publish = Publish::new(1, "smuggled", "x").bytes(version);
        let mut client = Client::silent(&running, version).await;
        client.send(&[wrong, publish].concat()).await;
        match client.packet().await {
            Packet::ConnAck { present: false, code, .. } => {
                assert_eq!(code, if version == V5 { 0x86 } else { 4 });
            }
            other => panic!("{other:?}"),
        }
        client.closed("it was refused").await;
        watcher.silence().await;
    }
}

// 3.1.1: [MQTT-3.1.4-2]
// 5: [MQTT-3.1.4-3]
#[tokio::test]
async fn a_connection_ends_when_another_comes_with_its_client_identifier() {
    let running = running().await;
    for (older, newer) in [(V4, V4), (V4, V5), (V5, V4), (V5, V5)] {
        let mut first = Client::new(&running, older, "c").await;
        let mut second = Client::new(&running, newer, "c").await;
        first.refused(0x8e, "another came with its identifier").await;
        second.ping().await;
        second.leave().await;
    }
}

// 3.1.1: [MQTT-3.1.4-4] [MQTT-3.2.0-1]
// 5: [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2]
#[tokio::test]
async fn what_comes_with_connect_is_answered_after_the_one_connack() {
    let running = running().await;
    for version in BOTH {
        let publisher = Client::new(&running, version, "p");
        publisher.await.deliver(&Publish::new(1, "r", "kept").retained()).await;
        let mut client = Client::silent(&running, version).await;
        let together = [
            Connect::clean("c").bytes(version),
            subscribe(version, 1, &[("r", 0)]),
            Publish::new(1, "x", "").bytes(version),
            PINGREQ.to_vec(),
        ];
        client.send(&together.concat()).await;
        assert!(matches!(client.packet().await, Packet::ConnAck { code: 0, .. }));
        let mut rest = Vec::new();
        for _ in 0..4 {
            rest.push(client.packet().await);
        }
        assert!(!rest.iter().any(|packet| matches!(packet, Packet::ConnAck { .. })), "{rest:?}");
        assert!(rest.contains(&Packet::PingResp), "{rest:?}");
        assert!(
            rest.iter().any(|packet| matches!(packet, Packet::Ack { kind: PUBACK, id: 1, .. })),
            "{rest:?}"
        );
    }
}

// 3.1.1: [MQTT-3.1.2-24]
// 5: [MQTT-3.1.2-22] [MQTT-3.2.2-22]
#[tokio::test]
async fn a_client_unheard_for_one_and_a_half_keep_alives_is_lost_and_its_will_published() {
    let running = running().await;
    let mut watcher = Client::new(&running, V5, "w").await;
    watcher.subscribe("lost/+", 1).await;
    for version in BOTH {
        let topic = format!("lost/{version:?}");
        let connect = Connect::clean("c").keep_alive(1).will(Publish::new(1, &topic, "x"));
        let mut client = Client::accepted(&running, version, &connect).await;
        let since = std::time::Instant::now();
        client.refused(0x8d, "its keep-alive").await;
        let waited = since.elapsed();
        assert!(waited.as_millis() >= 1000, "closed after {waited:?}");
        let will = watcher.message().await;
        assert_eq!(will.topic, topic);
        watcher.take(&will).await;
    }
}
