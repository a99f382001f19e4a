use std::time::Duration;

use super::*;
use crate::handler::QoS;
use crate::message::tests::message;
use crate::session::{Next, tests::session};
use crate::subscriptions::Subscription;
use crate::wire::{RetainHandling, SubscribeOptions};

struct Fixture {
    router: Router,
    session: Arc<Session>,
}

impl Fixture {
    fn new(config: &BrokerConfig) -> Self {
        let session = session("s");
        session.connect();
        Self { router: Router::new(config, Metrics::new()), session }
    }

    fn subscribe(&self, filter: &str) {
        let options = SubscribeOptions {
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
        };
        let filter = Arc::<str>::from(filter);
        let subscription = Subscription { filter: filter.clone(), options, id: None };
        self.session.lock().subscriptions.insert(filter.clone(), subscription);
        self.router.subscribe(&self.session, &filter);
    }

    fn unsubscribe(&self, filter: &str) {
        let filter = Arc::<str>::from(filter);
        self.session.lock().subscriptions.remove(&filter);
        self.router.unsubscribe(&self.session, &filter);
    }

    async fn next(&self) -> (String, String) {
        let next = async {
            loop {
                if let Some(Next::Publish { delivery, .. }) = self.session.next(10) {
                    let payload = String::from_utf8(delivery.message.payload.to_vec()).unwrap();
                    return (delivery.message.topic.to_string(), payload);
                }
                self.session.wake.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), next).await.expect("a message")
    }

    /// Publishes until one arrives: for the time in which the router is being replaced.
    async fn until_live(&self, topic: &str) {
        let live = async {
            loop {
                self.router.publish(message(topic, "?"));
                let next = tokio::time::timeout(Duration::from_millis(20), self.next());
                if next.await.is_ok() {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), live).await.expect("the live feed");
        self.router.publish(message(topic, "!"));
        while self.next().await.1 != "!" {}
    }
}

#[test]
fn a_message_comes_out_of_its_envelope_as_it_went_in() {
    let epoch = tokio::time::Instant::now();
    let mut sent = Message::clone(&message("遵义/1", "payload"));
    sent.expires = Some(epoch + Duration::from_millis(1500));
    sent.properties.forwarded = bytes::Bytes::from_static(b"\x03\x00\x01c");
    let rumqttd::protocol::Packet::Publish(publish, Some(properties)) =
        envelope::pack(&sent, epoch)
    else {
        panic!("a PUBLISH")
    };
    assert_eq!(publish.topic, "p/遵义/1");
    let envelope = properties.correlation_data.unwrap();
    let got = envelope::unpack(&publish.topic, publish.payload, envelope.clone(), epoch).unwrap();
    assert_eq!((&got.topic, &got.payload, got.qos), (&sent.topic, &sent.payload, sent.qos));
    assert_eq!((got.retain, &got.from, got.expires), (true, &sent.from, sent.expires));
    assert_eq!(got.properties.forwarded, sent.properties.forwarded);
    for cut in 0..20 {
        let short = envelope.slice(..cut);
        assert!(envelope::unpack(&publish.topic, bytes::Bytes::new(), short, epoch).is_none());
    }
}

#[tokio::test]
async fn a_router_that_panics_is_replaced_and_its_subscribers_hear_on() {
    let fixture = Fixture::new(&BrokerConfig::default());
    fixture.subscribe("遵义/#");
    fixture.router.publish(message("遵义/1", "before"));
    assert_eq!(fixture.next().await, ("遵义/1".to_owned(), "before".to_owned()));
    assert_eq!(fixture.router.health(), (true, 0));
    drop(fixture.router.crash());
    fixture.until_live("遵义/2").await;
    assert_eq!(fixture.router.health(), (true, 1));
}

#[tokio::test]
async fn a_router_that_has_seen_too_many_topics_or_filters_is_replaced_and_nothing_is_missed() {
    let config = BrokerConfig { router_max_topics: 50, ..BrokerConfig::default() };
    let fixture = Fixture::new(&config);
    fixture.subscribe("a/#");
    for n in 0..300 {
        let topic = format!("a/{n}");
        fixture.router.publish(message(&topic, "x"));
        assert_eq!(fixture.next().await.0, topic);
    }
    for n in 0..200 {
        let filter = format!("b/{n}");
        fixture.subscribe(&filter);
        fixture.router.publish(message(&filter, "x"));
        assert_eq!(fixture.next().await.0, filter);
        fixture.unsubscribe(&filter);
    }
    assert!(fixture.router.state.replaced.load(Ordering::Acquire) > 5);
    let fixture = Fixture::new(&BrokerConfig::default());
    for n in 0..600 {
        let filter = format!("c/{n}");
        fixture.subscribe(&filter);
        fixture.unsubscribe(&filter);
    }
    fixture.subscribe("c/#");
    fixture.until_live("c/x").await;
    assert!(fixture.router.state.replaced.load(Ordering::Acquire) > 0);
    // None of that was a failure.
    assert_eq!(fixture.router.health(), (true, 0));
}

#[tokio::test]
async fn thousands_of_messages_at_once_arrive_in_order() {
    let fixture = Fixture::new(&BrokerConfig::default());
    fixture.subscribe("t");
    for n in 0..60 {
        fixture.router.publish(message("t", &n.to_string()));
    }
    for n in 0..60 {
        assert_eq!(fixture.next().await.1, n.to_string());
    }
    for _ in 0..20 {
        for n in 0..60 {
            fixture.router.publish(message("t", &n.to_string()));
        }
        for n in 0..60 {
            assert_eq!(fixture.next().await.1, n.to_string());
        }
    }
}

#[tokio::test]
async fn a_closed_session_gets_nothing_more_and_another_gets_its_place() {
    let fixture = Fixture::new(&BrokerConfig::default());
    for round in 0..50 {
        fixture.subscribe("t");
        fixture.router.publish(message("t", &round.to_string()));
        assert_eq!(fixture.next().await.1, round.to_string());
        fixture.router.close(&fixture.session);
    }
    assert_eq!(fixture.router.health(), (true, 0));
}
