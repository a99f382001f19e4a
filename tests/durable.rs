//! What the broker holds for absent clients, tried the hard way: the real binary, killed with SIGKILL
//! the moment it has acknowledged.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Packet, Publish, PublishProperties};
use rumqttc::v5::{Client, Connection, Event, MqttOptions, RecvTimeoutError};
use support::{DEADLINE, Service};

/// An MQTT 5 client that sees every packet.
struct Session {
    client: Client,
    connection: Connection,
    present: bool,
}

impl Session {
    /// Connects; the session outlives the connection by `expiry` seconds.
    fn connect(address: SocketAddr, id: &str, clean: bool, expiry: u32) -> Self {
        let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
        options.set_clean_start(clean).set_manual_acks(true);
        options.set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(expiry),
            ..ConnectProperties::new()
        });
        let (client, connection) = Client::new(options, 64);
        let mut session = Self { client, connection, present: false };
        session.present = session.until("CONNACK", |packet| match packet {
            Packet::ConnAck(ack) => Some(ack.session_present),
            _ => None,
        });
        session
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.client.subscribe(filter, qos).unwrap();
        self.until("SUBACK", |packet| matches!(packet, Packet::SubAck(_)).then_some(()));
    }

    /// Publishes and waits until the broker has taken responsibility.
    fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str) {
        self.client.publish(topic, qos, retain, payload.to_owned()).unwrap();
        self.until("PUBACK or PUBREC", |packet| {
            matches!(packet, Packet::PubAck(_) | Packet::PubRec(_)).then_some(())
        });
    }

    /// The next message; it is acknowledged if `ack`.
    fn message(&mut self, ack: bool) -> Publish {
        let publish = self.until("a message", |packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        });
        if ack {
            self.client.ack(&publish).unwrap();
        }
        publish
    }

    /// Topic and payload of the next message, which is acknowledged.
    fn text(&mut self) -> (String, String) {
        let publish = self.message(true);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&publish.topic), text(&publish.payload))
    }

    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Packet) -> Option<T>) -> T {
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            match self.connection.recv_timeout(Duration::from_millis(200)) {
                Ok(Ok(Event::Incoming(packet))) => {
                    if let Some(found) = wanted(&packet) {
                        return found;
                    }
                }
                Ok(Ok(Event::Outgoing(_))) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Err(error)) => panic!("waited for {what}: {error}"),
                Err(RecvTimeoutError::Disconnected) => panic!("waited for {what}: no connection"),
            }
        }
        panic!("waited {DEADLINE:?} for {what}");
    }
}

fn data() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    (dir, data)
}

#[test]
fn retained_messages_survive_a_kill_and_so_does_their_absence() {
    let (_dir, data) = data();
    let service = Service::start(&data);
    let mut publisher = Session::connect(service.mqtt, "p", true, 0);
    publisher.publish("city/a", QoS::AtLeastOnce, true, "old");
    publisher.publish("city/b", QoS::AtLeastOnce, true, "gone");
    publisher.publish("city/c", QoS::ExactlyOnce, true, "twice");
    publisher.publish("city/a", QoS::AtLeastOnce, true, "new");
    publisher.publish("city/b", QoS::AtLeastOnce, true, "");
    service.kill();
    let service = Service::start(&data);
    let mut reader = Session::connect(service.mqtt, "r", true, 0);
    reader.subscribe("city/#", QoS::AtLeastOnce);
    let mut got = [reader.text(), reader.text()];
    got.sort();
    let pair = |topic: &str, payload: &str| (topic.to_owned(), payload.to_owned());
    assert_eq!(got, [pair("city/a", "new"), pair("city/c", "twice")]);
    // What is published next is newer than what was there before.
    let mut publisher = Session::connect(service.mqtt, "p", true, 0);
    publisher.publish("city/a", QoS::AtLeastOnce, true, "newest");
    assert_eq!(reader.text(), pair("city/a", "newest"));
    let mut late = Session::connect(service.mqtt, "late", true, 0);
    late.subscribe("city/a", QoS::AtLeastOnce);
    assert_eq!(late.text(), pair("city/a", "newest"));
    assert!(service.terminate().success());
}

#[test]
fn a_session_its_subscriptions_and_what_waits_for_it_survive_kills_at_any_moment() {
    let (_dir, data) = data();
    let service = Service::start(&data);
    let mut reader = Session::connect(service.mqtt, "reader", true, 3600);
    reader.subscribe("work/+", QoS::ExactlyOnce);
    drop(reader);
    service.kill();

    // Only the subscription was there.
    let service = Service::start(&data);
    let mut publisher = Session::connect(service.mqtt, "p", true, 0);
    for n in 1..=3 {
        publisher.publish("work/one", QoS::AtLeastOnce, false, &n.to_string());
        publisher.publish("work/two", QoS::ExactlyOnce, false, &n.to_string());
    }
    service.kill();

    let service = Service::start(&data);
    let mut reader = Session::connect(service.mqtt, "reader", false, 3600);
    assert!(reader.present);
    let first = reader.message(false);
    assert_eq!((&*first.topic, &*first.payload, first.dup), (&b"work/one"[..], &b"1"[..], false));
    let (first_id, second) = (first.pkid, reader.text());
    assert_eq!(second, ("work/two".to_owned(), "1".to_owned()));
    // That it was sent is written behind: the next thing that is acknowledged comes after it.
    let mut publisher = Session::connect(service.mqtt, "p", true, 0);
    publisher.publish("work/last", QoS::AtLeastOnce, false, "");
    service.kill();

    let service = Service::start(&data);
    let mut reader = Session::connect(service.mqtt, "reader", false, 3600);
    assert!(reader.present);
    let again = reader.message(true);
    assert_eq!((&*again.topic, &*again.payload), (&b"work/one"[..], &b"1"[..]));
    assert!(again.dup && again.pkid == first_id, "{again:?}");
    let mut rest = Vec::new();
    while rest.last().is_none_or(|(topic, _)| topic != "work/last") {
        rest.push(reader.text());
    }
    let whole: Vec<_> = rest.iter().map(|(topic, payload)| format!("{topic} {payload}")).collect();
    let expected =
        ["work/one 2", "work/two 2", "work/one 3", "work/two 3", "work/last "].map(str::to_owned);
    // The one of QoS 2 whose PUBREC had not been written may come again, and nothing else may.
    let extra = whole.len() - expected.len();
    assert!(extra <= 1 && whole.ends_with(&expected), "{whole:?}");
    assert!(service.terminate().success());
}

#[test]
fn what_expired_while_the_service_was_down_is_gone_and_clean_sessions_leave_nothing() {
    let (_dir, data) = data();
    let service = Service::start(&data);
    for (id, expiry) in [("short", 1), ("long", 3600), ("none", 0)] {
        let mut reader = Session::connect(service.mqtt, id, true, expiry);
        reader.subscribe("e/#", QoS::AtLeastOnce);
    }
    let mut publisher = Session::connect(service.mqtt, "p", true, 0);
    for (topic, expiry) in [("e/short", Some(1)), ("e/long", Some(3600)), ("e/never", None)] {
        let properties =
            PublishProperties { message_expiry_interval: expiry, ..PublishProperties::default() };
        let retain = true;
        publisher
            .client
            .publish_with_properties(topic, QoS::AtLeastOnce, retain, "x", properties)
            .unwrap();
        publisher.until("PUBACK", |packet| matches!(packet, Packet::PubAck(_)).then_some(()));
    }
    service.kill();
    // Nothing here is waited for but the time itself.
    let killed = Instant::now();
    support::wait_for("what is short to be over", || {
        (killed.elapsed() > Duration::from_millis(1100)).then_some(())
    });

    let service = Service::start(&data);
    let mut reader = Session::connect(service.mqtt, "long", false, 3600);
    assert!(reader.present);
    let long = reader.message(true);
    let left = long.properties.as_ref().unwrap().message_expiry_interval.unwrap();
    assert!(&*long.topic == b"e/long" && (3500..3600).contains(&left), "{long:?}");
    assert_eq!(reader.text().0, "e/never");
    assert!(!Session::connect(service.mqtt, "none", false, 0).present);
    let mut late = Session::connect(service.mqtt, "late", true, 0);
    late.subscribe("e/#", QoS::AtLeastOnce);
    let mut topics = [late.text().0, late.text().0];
    topics.sort();
    assert_eq!(topics, ["e/long", "e/never"]);
    assert!(service.terminate().success());
}

#[test]
fn a_database_that_cannot_be_read_refuses_the_start_by_name_and_remedy() {
    let (_dir, data) = data();
    assert!(Service::start(&data).terminate().success());
    let file = data.join("broker/sessions.redb");
    let whole = std::fs::read(&file).unwrap();
    for damaged in [&b""[..], b"not a database", &whole[..whole.len() / 2]] {
        std::fs::write(&file, damaged).unwrap();
        let output = support::loushan()
            .arg("serve")
            .env("LOUSHAN__DATA__DIR", &data)
            .env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0")
            .env("LOUSHAN__HTTP__LISTEN", "127.0.0.1:0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("sessions.redb") && said.contains("move it away"), "{said}");
        assert_eq!(std::fs::read(&file).unwrap(), damaged, "it was left alone");
    }
}
