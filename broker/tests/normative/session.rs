//! What the server keeps of a client between connections (sections 3.1.2.4, 3.1.2.11.2 and 4.1).

use super::client::Client;
use super::wire::{BOTH, Connect, DISCONNECT, Packet, Properties, Publish, V4, V5, property, raw};
use super::{expired, running};

// 3.1.1: [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-4.1.0-1] [MQTT-4.5.0-1]
// 5: [MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-4.5.0-1]
#[tokio::test]
async fn a_kept_session_has_its_subscriptions_and_what_came_while_its_client_was_away() {
    let running = running().await;
    for version in BOTH {
        for graceful in [true, false] {
            let (mut client, _) = Client::kept(&running, version, "c").await;
            client.subscribe("k/+", 2).await;
            if graceful {
                client.leave().await;
            } else {
                client.vanish();
            }
            let mut publisher = Client::new(&running, version, "p").await;
            for qos in [1, 2, 1, 2] {
                publisher.deliver(&Publish::new(qos, &format!("k/{qos}"), [qos])).await;
            }
            let (mut client, present) = Client::kept(&running, version, "c").await;
            assert!(present);
            for qos in [1, 2, 1, 2] {
                let message = client.message().await;
                assert_eq!((message.qos, &*message.topic), (qos, &*format!("k/{qos}")));
                client.take(&message).await;
            }
            // The subscription is there without a SUBSCRIBE.
            publisher.deliver(&Publish::new(1, "k/live", "x")).await;
            let message = client.message().await;
            assert_eq!(message.topic, "k/live");
            client.take(&message).await;
            client.silence().await;
            Client::new(&running, version, "c").await.leave().await;
        }
    }
}

// 3.1.1: [MQTT-3.1.2-6]
// 5: [MQTT-3.1.2-4] [MQTT-4.1.0-2]
#[tokio::test]
async fn nothing_of_a_session_that_ended_is_in_the_next_one() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        let clean = Connect { clean: true, ..Connect::kept(version, "c") };
        // Ended by a clean start, or (3.1.1: for having been clean) by the connection's end.
        for (first, second) in [
            (Connect::kept(version, "c"), clean),
            (Connect::clean("c"), Connect::kept(version, "c")),
        ] {
            let mut client = Client::accepted(&running, version, &first).await;
            client.subscribe("t", 2).await;
            publisher.deliver(&Publish::new(1, "t", "in flight")).await;
            client.message().await;
            // Half of an exchange of quality of service 2, which the next session knows nothing of.
            client.publish(&Publish::new(2, "other", "x").id(9)).await;
            assert_eq!(client.acked(super::wire::PUBREC, 9).await, 0);
            client.vanish();
            let (mut client, said) = Client::connect(&running, version, &second).await;
            assert_eq!((said.code, said.present), (0, false));
            publisher.deliver(&Publish::new(1, "t", "nobody's")).await;
            client.silence().await;
            let mut watcher = Client::new(&running, version, "w").await;
            watcher.subscribe("other", 0).await;
            client.deliver(&Publish::new(2, "other", "new").id(9)).await;
            assert_eq!(watcher.message().await.text(), "new");
            client.leave().await;
            Client::new(&running, version, "c").await.leave().await;
        }
    }
}

// 3.1.1: [MQTT-4.1.0-2]
// 5: [MQTT-4.1.0-1]
#[tokio::test]
async fn a_session_lasts_as_long_as_its_connection() {
    let running = running().await;
    for version in BOTH {
        let mut client = Client::new(&running, version, "c").await;
        client.subscribe("t", 1).await;
        let mut publisher = Client::new(&running, version, "p").await;
        for n in 0..20 {
            publisher.deliver(&Publish::new(1, "t", [n])).await;
            let message = client.message().await;
            client.take(&message).await;
            client.ping().await;
        }
    }
}

// 5: [MQTT-3.1.2-23] [MQTT-4.1.0-2]
#[tokio::test]
async fn a_version_5_session_is_kept_for_its_expiry_and_then_gone() {
    let running = running().await;
    // None, which is 0; 0; a second; an hour.
    for (expiry, kept) in [(None, false), (Some(0), false), (Some(1), false), (Some(3600), true)] {
        let mut connect = Connect { clean: false, ..Connect::clean("e") };
        if let Some(expiry) = expiry {
            connect = connect.with(property::SESSION_EXPIRY, expiry);
        }
        let mut client = Client::accepted(&running, V5, &connect).await;
        client.subscribe("t", 1).await;
        client.leave().await;
        if expiry == Some(1) {
            expired(&running).await;
        }
        let plain = Connect { clean: false, ..Connect::clean("e") };
        let (client, said) = Client::connect(&running, V5, &plain).await;
        assert_eq!(said.present, kept, "after {expiry:?}");
        client.leave().await;
    }
}

// 5: [MQTT-3.1.2-23]
#[tokio::test]
async fn disconnect_may_set_the_session_s_expiry_anew_but_not_begin_one() {
    let running = running().await;
    let disconnect = |expiry: u32| {
        let properties = Properties::default().with(property::SESSION_EXPIRY, expiry);
        raw(0xe0, &[vec![0], properties.bytes(V5)].concat())
    };
    for (connected, said, kept) in [(3600, 0, false), (1, 3600, true), (0, 0, false)] {
        let connect = Connect { clean: true, ..Connect::clean("d") }
            .with(property::SESSION_EXPIRY, connected);
        let mut client = Client::accepted(&running, V5, &connect).await;
        client.send(&disconnect(said)).await;
        client.closed("it left").await;
        let plain = Connect { clean: false, ..Connect::clean("d") };
        let (client, accepted) = Client::connect(&running, V5, &plain).await;
        assert_eq!(accepted.present, kept, "{connected}, then {said}");
        client.leave().await;
    }
    let mut client = Client::new(&running, V5, "d").await;
    client.send(&disconnect(60)).await;
    client.refused(0x82, "an expiry where CONNECT had none").await;
}

// 3.1.1: [MQTT-3.1.2-4]
// 5: [MQTT-3.1.2-5] [MQTT-3.1.3-2]
#[tokio::test]
async fn a_session_passes_to_the_connection_that_takes_it_over() {
    let running = running().await;
    for version in BOTH {
        let mut publisher = Client::new(&running, version, "p").await;
        let (mut first, _) = Client::kept(&running, version, "c").await;
        first.subscribe("t", 1).await;
        publisher.deliver(&Publish::new(1, "t", "1")).await;
        let unacknowledged = first.message().await;
        let (mut second, present) = Client::kept(&running, version, "c").await;
        assert!(present);
        let again = second.message().await;
        assert_eq!(again, Publish { dup: true, ..unacknowledged });
        second.take(&again).await;
        publisher.deliver(&Publish::new(1, "t", "2")).await;
        let next = second.message().await;
        assert_eq!(next.text(), "2");
        second.take(&next).await;
        first.refused(0x8e, "its session was taken over").await;
        second.send(&DISCONNECT).await;
        second.closed("it left").await;
        Client::new(&running, version, "c").await.leave().await;
    }
}

// 3.1.1: [MQTT-3.1.2-5]
#[tokio::test]
async fn a_session_serves_a_client_that_returns_in_the_other_version() {
    let running = running().await;
    let mut publisher = Client::new(&running, V5, "p").await;
    for (away, back) in [(V4, V5), (V5, V4)] {
        let (mut client, _) = Client::kept(&running, away, "c").await;
        client.subscribe("t", 1).await;
        client.leave().await;
        let message = Publish::new(1, "t", "x").with(property::CONTENT_TYPE, "text/plain");
        publisher.deliver(&message).await;
        let (mut client, present) = Client::kept(&running, back, "c").await;
        assert!(present);
        let Packet::Publish(message) = client.packet().await else { panic!("no message") };
        assert_eq!(message.text(), "x");
        client.take(&message).await;
        Client::new(&running, back, "c").await.leave().await;
    }
}
