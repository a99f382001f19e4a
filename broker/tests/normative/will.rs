//! Wills (section 3.1.2.5).

use super::client::Client;
use super::running;
use super::wire::{BOTH, Connect, Properties, Publish, V5, property, raw};

// 3.1.1: [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.2-12] [MQTT-3.14.4-3]
// 5: [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]
#[tokio::test]
async fn a_will_is_published_once_when_its_client_is_lost_and_never_when_it_leaves() {
    let running = running().await;
    for version in BOTH {
        let mut watcher = Client::new(&running, version, "w").await;
        watcher.subscribe("will/+", 2).await;
        for qos in [0, 1, 2] {
            let connect = Connect::clean("c").will(Publish::new(qos, "will/c", "gone"));
            Client::accepted(&running, version, &connect).await.leave().await;
            // One with a will of its own, and one with none.
            Client::accepted(&running, version, &connect).await.vanish();
            let will = watcher.message().await;
            assert_eq!((will.text(), will.qos, will.retain), ("gone", qos, false));
            watcher.take(&will).await;
            Client::new(&running, version, "c").await.vanish();
            watcher.silence().await;
        }
    }
}

// 3.1.1: [MQTT-3.1.2-8]
// 5: [MQTT-3.1.2-8]
#[tokio::test]
async fn every_end_but_a_normal_disconnection_publishes_the_will() {
    let running = running().await;
    for version in BOTH {
        let mut watcher = Client::new(&running, version, "w").await;
        watcher.subscribe("will/+", 1).await;
        let mut ends = vec![
            ("a malformed packet", vec![0xff, 0]),
            ("a protocol error", Connect::clean("c").bytes(version)),
        ];
        if version == V5 {
            ends.push(("DISCONNECT with will", raw(0xe0, &[4])));
            ends.push(("DISCONNECT with an error", raw(0xe0, &[0x80])));
            ends.push(("DISCONNECT with an error and properties", raw(0xe0, &[0x83, 0])));
        }
        for (why, bytes) in ends {
            let connect = Connect::clean("c").will(Publish::new(1, "will/c", why));
            let mut client = Client::accepted(&running, version, &connect).await;
            client.send(&bytes).await;
            let will = watcher.message().await;
            assert_eq!(will.text(), why);
            watcher.take(&will).await;
        }
        // And a connection that takes over.
        let connect = Connect::clean("c").will(Publish::new(1, "will/c", "taken over"));
        let _first = Client::accepted(&running, version, &connect).await;
        let _second = Client::new(&running, version, "c").await;
        let will = watcher.message().await;
        assert_eq!(will.text(), "taken over");
        watcher.take(&will).await;
        watcher.silence().await;
    }
}

// 3.1.1: [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17]
// 5: [MQTT-3.1.2-14] [MQTT-3.1.2-15]
#[tokio::test]
async fn a_will_is_retained_exactly_if_it_says_so() {
    let running = running().await;
    for version in BOTH {
        for retain in [false, true] {
            let topic = format!("will/{version:?}/{retain}");
            let mut watcher = Client::new(&running, version, "w").await;
            watcher.subscribe(&topic, 1).await;
            let will = Publish { retain, ..Publish::new(1, &topic, "gone") };
            Client::accepted(&running, version, &Connect::clean("c").will(will)).await.vanish();
            let live = watcher.message().await;
            watcher.take(&live).await;
            let mut late = Client::new(&running, version, "late").await;
            late.subscribe(&topic, 1).await;
            if retain {
                let kept = late.message().await;
                assert_eq!((kept.text(), kept.retain), ("gone", true));
                late.take(&kept).await;
            }
            late.silence().await;
        }
    }
}

// 5: [MQTT-3.1.3-10] [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
#[tokio::test]
async fn a_will_s_properties_are_published_with_it_and_in_their_order() {
    let running = running().await;
    let mut watcher = Client::new(&running, V5, "w").await;
    watcher.subscribe("will", 1).await;
    let properties = Properties::default()
        .with(property::USER_PROPERTY, ("b", "1"))
        .with(property::PAYLOAD_FORMAT, 1)
        .with(property::USER_PROPERTY, ("a", "2"))
        .with(property::CONTENT_TYPE, "text/plain")
        .with(property::RESPONSE_TOPIC, "answer/here")
        .with(property::CORRELATION_DATA, &b"\0\xff"[..])
        .with(property::USER_PROPERTY, ("b", "0"));
    let connect = Connect {
        will_properties: properties.clone().with(property::WILL_DELAY, 0),
        ..Connect::clean("c").will(Publish::new(1, "will", "gone"))
    };
    Client::accepted(&running, V5, &connect).await.vanish();
    let will = watcher.message().await;
    for id in [
        property::USER_PROPERTY,
        property::PAYLOAD_FORMAT,
        property::CONTENT_TYPE,
        property::RESPONSE_TOPIC,
        property::CORRELATION_DATA,
    ] {
        assert_eq!(will.properties.all(id), properties.all(id));
    }
    assert_eq!(will.properties.0.len(), properties.0.len(), "{will:?}");
}

fn delayed(id: &str, delay: u32, expiry: u32) -> Connect {
    let connect = Connect::clean(id).will(Publish::new(1, "will", id));
    Connect {
        will_properties: Properties::default().with(property::WILL_DELAY, delay),
        ..connect.with(property::SESSION_EXPIRY, expiry)
    }
}

// 5: [MQTT-3.1.2-8] [MQTT-3.1.3-9]
#[tokio::test]
async fn a_delayed_will_waits_for_its_delay_or_the_session_s_end_and_not_if_its_client_returns() {
    let running = running().await;
    let mut watcher = Client::new(&running, V5, "w").await;
    watcher.subscribe("will", 1).await;
    let begun = std::time::Instant::now();
    // Its session ends with its connection, so its will does not wait.
    Client::accepted(&running, V5, &delayed("ends", 3600, 0)).await.vanish();
    let will = watcher.message().await;
    assert_eq!(will.text(), "ends");
    watcher.take(&will).await;
    for connect in [delayed("delay", 1, 3600), delayed("returns", 1, 3600)] {
        Client::accepted(&running, V5, &connect).await.vanish();
    }
    let (_client, present) = Client::kept(&running, V5, "returns").await;
    assert!(present);
    // A clean start ends the session that was kept, and so its will is due.
    Client::accepted(&running, V5, &delayed("cleared", 3600, 3600)).await.vanish();
    let _fresh = Client::new(&running, V5, "cleared").await;
    let will = watcher.message().await;
    assert_eq!(will.text(), "cleared");
    watcher.take(&will).await;
    assert!(begun.elapsed().as_millis() < 1000, "the others have waited for nothing");
    let will = watcher.message().await;
    assert_eq!(will.text(), "delay");
    watcher.take(&will).await;
    assert!(begun.elapsed().as_millis() >= 1000, "after {:?}", begun.elapsed());
    // The will of a session that runs out comes with its end.
    Client::accepted(&running, V5, &delayed("expires", 3600, 1)).await.vanish();
    let will = watcher.message().await;
    assert_eq!(will.text(), "expires");
    watcher.take(&will).await;
    watcher.silence().await;
}
