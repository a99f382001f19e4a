//! Clients of another make: rumqttc, in both versions.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use loushan_broker::config::BrokerConfig;
use loushan_broker::handler::Acknowledgement;
use support::{Scripted, start, within};

#[tokio::test]
async fn a_rumqttc_client_publishes_and_another_of_the_other_version_hears_it() {
    let running = start(BrokerConfig::default(), Scripted::automatic()).await;
    let port = running.address.port();
    let mut options = rumqttc::v5::MqttOptions::new("five", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5));
    let (five, mut five_events) = rumqttc::v5::AsyncClient::new(options, 200);
    let mut options = rumqttc::MqttOptions::new("four", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5));
    let (four, mut four_events) = rumqttc::AsyncClient::new(options, 200);
    four.subscribe("up/#", rumqttc::QoS::ExactlyOnce).await.unwrap();
    within("SUBACK", async {
        while !matches!(
            four_events.poll().await.unwrap(),
            rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_))
        ) {}
    })
    .await;
    let mut sent = HashSet::new();
    for n in 0..60u32 {
        let qos = [
            rumqttc::v5::mqttbytes::QoS::AtMostOnce,
            rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
            rumqttc::v5::mqttbytes::QoS::ExactlyOnce,
        ][(n % 3) as usize];
        five.publish(format!("up/{n}"), qos, false, n.to_string()).await.unwrap();
        sent.insert(n.to_string());
    }
    let publisher = tokio::spawn(async move {
        loop {
            five_events.poll().await.unwrap();
        }
    });
    within("all messages", async {
        while !sent.is_empty() {
            if let rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) =
                four_events.poll().await.unwrap()
            {
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                assert_eq!(publish.topic, format!("up/{payload}"));
                assert!(sent.remove(&payload), "{payload} came twice");
            }
        }
    })
    .await;
    publisher.abort();
}

#[tokio::test]
async fn rumqttc_takes_its_acknowledgements_in_order_from_tickets_answered_in_reverse() {
    let (handler, mut offers) = Scripted::manual();
    let running = start(BrokerConfig::default(), handler).await;
    let options = rumqttc::MqttOptions::new("bs0001", "127.0.0.1", running.address.port());
    let (client, mut events) = rumqttc::AsyncClient::new(options, 200);
    for n in 0..50 {
        client.publish("t/x", rumqttc::QoS::AtLeastOnce, false, n.to_string()).await.unwrap();
    }
    let answers = tokio::spawn(async move {
        let mut tickets = Vec::new();
        for _ in 0..50 {
            tickets.push(offers.recv().await.unwrap().1);
        }
        for ticket in tickets.into_iter().rev() {
            ticket.durable(Acknowledgement::default());
        }
    });
    let mut acked = Vec::new();
    within("50 acknowledgements", async {
        while acked.len() < 50 {
            if let rumqttc::Event::Incoming(rumqttc::Packet::PubAck(ack)) =
                events.poll().await.unwrap()
            {
                acked.push(ack.pkid);
            }
        }
    })
    .await;
    assert!(acked.is_sorted(), "{acked:?}");
    answers.await.unwrap();
}
