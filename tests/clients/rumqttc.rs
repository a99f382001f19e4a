//! rumqttc, in both versions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::support::{DEADLINE, Service, wait_for, wire};

/// One version's client: its types have the names of the other's and are others.
macro_rules! scenarios {
    ($version:ident, [$($uses:item)*], $will:expr, $kept:expr, $topic:expr) => {
        mod $version {
            use super::*;
            $($uses)*

            const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

            struct Peer {
                client: mqtt::Client,
                connection: mqtt::Connection,
                messages: VecDeque<(String, Vec<u8>, QoS, bool)>,
                present: bool,
            }

            impl Peer {
                fn connect(options: mqtt::MqttOptions) -> Self {
                    let (client, connection) = mqtt::Client::new(options, 16);
                    let messages = VecDeque::new();
                    let mut peer = Self { client, connection, messages, present: false };
                    peer.present = peer.until("CONNACK", |packet| match packet {
                        Packet::ConnAck(ack) => Some(ack.session_present),
                        _ => None,
                    });
                    peer
                }

                fn until<T>(&mut self, what: &str, wanted: impl Fn(&Packet) -> Option<T>) -> T {
                    let started = Instant::now();
                    while started.elapsed() < DEADLINE {
                        let next = self.connection.recv_timeout(Duration::from_millis(200));
                        let Ok(event) = next else { continue };
                        let event = event.unwrap_or_else(|e| panic!("{e} before {what}"));
                        let mqtt::Event::Incoming(packet) = event else { continue };
                        if let Packet::Publish(publish) = &packet {
                            let topic = $topic(&publish.topic);
                            let payload = publish.payload.to_vec();
                            self.messages.push_back((topic, payload, publish.qos, publish.retain));
                        }
                        if let Some(found) = wanted(&packet) {
                            return found;
                        }
                    }
                    panic!("waited {DEADLINE:?} for {what}");
                }

                fn subscribe(&mut self, filter: &str, qos: QoS) {
                    self.client.subscribe(filter, qos).unwrap();
                    self.until("SUBACK", |p| matches!(p, Packet::SubAck(_)).then_some(()));
                }

                fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) {
                    self.client.publish(topic, qos, retain, payload.to_vec()).unwrap();
                    match qos {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => {
                            self.until("PUBACK", |p| matches!(p, Packet::PubAck(_)).then_some(()));
                        }
                        QoS::ExactlyOnce => {
                            self.until("PUBCOMP", |p| matches!(p, Packet::PubComp(_)).then_some(()))
                        }
                    }
                }

                fn message(&mut self) -> (String, Vec<u8>, QoS, bool) {
                    if self.messages.is_empty() {
                        self.until("a message", |p| matches!(p, Packet::Publish(_)).then_some(()));
                    }
                    self.messages.pop_front().unwrap()
                }

                /// DISCONNECT, sent; a client that is dropped says nothing.
                fn leave(mut self) {
                    self.client.disconnect().unwrap();
                    let started = Instant::now();
                    while started.elapsed() < DEADLINE {
                        match self.connection.recv_timeout(Duration::from_millis(200)) {
                            Ok(Err(_)) => return,
                            Ok(Ok(_)) | Err(_) => {}
                        }
                    }
                    panic!("it does not end");
                }
            }

            pub(super) fn pass(service: &Service, name: &str, device: u64) {
                let options = |id: &str| {
                    let (host, port) = (service.mqtt.ip().to_string(), service.mqtt.port());
                    let mut options = mqtt::MqttOptions::new(format!("{name}-{id}"), host, port);
                    options.set_keep_alive(Duration::from_secs(30));
                    options
                };
                let topic = |rest: &str| format!("clients/{name}/{rest}");
                let mut publisher = Peer::connect(options("p"));
                // Every quality of service, both ways.
                let mut subscriber = Peer::connect(options("s"));
                subscriber.subscribe(&topic("qos/+"), QoS::ExactlyOnce);
                for qos in LEVELS {
                    let to = topic(&format!("qos/{}", qos as u8));
                    publisher.publish(&to, b"x", qos, false);
                    if qos == QoS::AtMostOnce {
                        // Sent by what is sent next.
                        publisher.publish(&topic("other"), b"", QoS::AtLeastOnce, false);
                    }
                    assert_eq!(subscriber.message(), (to, b"x".to_vec(), qos, false));
                }
                // Retained.
                let to = topic("retained");
                publisher.publish(&to, b"kept", QoS::AtLeastOnce, true);
                subscriber.subscribe(&to, QoS::AtLeastOnce);
                let kept = (to.clone(), b"kept".to_vec(), QoS::AtLeastOnce, true);
                assert_eq!(subscriber.message(), kept);
                publisher.publish(&to, b"", QoS::AtLeastOnce, true);
                assert_eq!(subscriber.message().1, b"");
                let mut late = Peer::connect(options("l"));
                late.subscribe(&to, QoS::AtLeastOnce);
                publisher.publish(&to, b"live", QoS::AtLeastOnce, false);
                assert_eq!(late.message().1, b"live");
                // A will, of a client that is gone without a word.
                late.subscribe(&topic("will"), QoS::AtLeastOnce);
                for leaves in [true, false] {
                    let mut options = options("c");
                    let said = if leaves { "leaves" } else { "lost" };
                    options.set_last_will($will(&topic("will"), said));
                    let peer = Peer::connect(options);
                    if leaves {
                        peer.leave();
                    }
                }
                assert_eq!(late.message().1, b"lost");
                // A session, with what came while its client was away.
                let kept = || {
                    let mut options = options("k");
                    $kept(&mut options);
                    options
                };
                let mut first = Peer::connect(kept());
                assert!(!first.present);
                first.subscribe(&topic("kept"), QoS::ExactlyOnce);
                first.leave();
                for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    publisher.publish(&topic("kept"), &[qos as u8], qos, false);
                }
                let mut second = Peer::connect(kept());
                assert!(second.present);
                for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    let message = (topic("kept"), vec![qos as u8], qos, false);
                    assert_eq!(second.message(), message);
                }
                // A batch of readings.
                let batch = wire::one(name, 1, 0, device);
                let to = format!("nb1/zunyi/{name}/u/t");
                publisher.publish(&to, &batch, QoS::AtLeastOnce, false);
            }
        }
    };
}

scenarios!(
    v4,
    [use ::rumqttc::{self as mqtt, Packet, QoS};],
    |topic: &str, said: &str| mqtt::LastWill::new(topic, said, QoS::AtLeastOnce, false),
    |options: &mut mqtt::MqttOptions| {
        options.set_clean_session(false);
    },
    |topic: &str| topic.to_owned()
);

scenarios!(
    v5,
    [
        use ::rumqttc::v5::{self as mqtt, mqttbytes::QoS, mqttbytes::v5::Packet};
    ],
    |topic: &str, said: &str| {
        ::rumqttc::v5::mqttbytes::v5::LastWill::new(
            topic,
            said.to_owned(),
            QoS::AtLeastOnce,
            false,
            None,
        )
    },
    |options: &mut mqtt::MqttOptions| {
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(600));
    },
    |topic: &bytes::Bytes| String::from_utf8(topic.to_vec()).unwrap()
);

#[test]
fn rumqttc_clients_of_both_versions_find_what_clients_expect() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    v4::pass(&service, "rumqttc-4", 904);
    v5::pass(&service, "rumqttc-5", 905);
    for device in [904, 905] {
        let imei = wire::imei(device);
        wait_for("the reading", || service.get(&format!("/api/v1/devices/{imei}/latest")).ok());
    }
    service.wait_until_quiet();
    assert_eq!(service.rows(), 2);
}
