//! DISCONNECT (section 3.14) and PINGREQ (3.12).

use super::client::Client;
use super::running;
use super::wire::{BOTH, DISCONNECT, PINGREQ, Publish, V5, raw};

// 3.1.1: [MQTT-3.12.4-1]
// 5: [MQTT-3.12.4-1]
#[tokio::test]
async fn every_ping_is_answered() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        client.ping().await;
        client.send(&PINGREQ.repeat(100)).await;
        for _ in 0..100 {
            assert_eq!(client.packet().await, super::wire::Packet::PingResp);
        }
        client.silence().await;
    }
}

// 3.1.1: [MQTT-3.14.1-1] [MQTT-2.2.2-2]
// 5: [MQTT-3.14.1-1]
#[tokio::test]
async fn a_disconnect_with_flags_is_malformed() {
    let running = running().await;
    for version in BOTH {
        for flags in [1, 2, 4, 8, 0xf] {
            let mut client = Client::new(&running, version, "c").await;
            client.send(&raw(0xe0 | flags, &[])).await;
            client.refused(0x81, &format!("flags {flags:04b} of a DISCONNECT")).await;
        }
    }
}

// 5: [MQTT-3.14.4-1] [MQTT-3.14.4-2]
#[tokio::test]
async fn what_comes_behind_disconnect_is_not_done_and_the_server_closes() {
    let running = running().await;
    for version in BOTH {
        let mut watcher = Client::new(&running, version, "w").await;
        watcher.subscribe("#", 1).await;
        let mut client = Client::new(&running, version, "c").await;
        let behind = Publish::new(1, "behind", "x").bytes(version);
        client.send(&[&DISCONNECT[..], &behind, &PINGREQ].concat()).await;
        client.closed("it said DISCONNECT").await;
        watcher.silence().await;
    }
}

// 5: [MQTT-3.14.2-1] [MQTT-3.14.2-2] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.1-1] [MQTT-4.13.2-1]
#[tokio::test]
async fn a_server_s_disconnect_says_a_code_that_is_its_own_and_is_the_last_it_says() {
    let running = running().await;
    for (bytes, reason) in [
        (raw(0x00, &[]), 0x81),
        (raw(0xd0, &[]), 0x82),
        (raw(0x20, &[0, 0, 0]), 0x82),
        (raw(0xf0, &[]), 0x82),
    ] {
        let mut client = Client::new(&running, V5, "c").await;
        client.send(&[bytes, PINGREQ.to_vec()].concat()).await;
        let last = client.packet_or_close().await;
        let super::wire::Packet::Disconnect { reason: r, .. } = last.clone().unwrap() else {
            panic!("{last:?}")
        };
        assert!(r == reason || (0x81..=0x82).contains(&r), "{last:?}");
        client.closed("it was sent DISCONNECT").await;
    }
}
