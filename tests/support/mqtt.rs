//! A client that says what the broker answered to each publish.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Connection, Event, MqttOptions, RecvTimeoutError};

use super::DEADLINE;

/// How a publish ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A PUBACK with this reason code's name and these user properties.
    PubAck { reason: String, user_properties: Vec<(String, String)> },
    /// The connection ended first.
    Closed,
}

impl Answer {
    /// The reason code's name.
    pub fn reason(&self) -> &str {
        match self {
            Self::PubAck { reason, .. } => reason,
            Self::Closed => "closed",
        }
    }

    /// A user property's value.
    pub fn property(&self, key: &str) -> Option<&str> {
        match self {
            Self::PubAck { user_properties, .. } => {
                user_properties.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
            }
            Self::Closed => None,
        }
    }
}

/// An MQTT 5 client that publishes one at a time.
pub struct Publisher {
    client: Client,
    connection: Connection,
}

impl Publisher {
    /// Connects as `client_id` and waits for CONNACK.
    pub fn connect(address: SocketAddr, client_id: &str) -> Self {
        let mut options = MqttOptions::new(client_id, address.ip().to_string(), address.port());
        options.set_keep_alive(Duration::from_secs(30));
        options.set_max_packet_size(Some(4 * 1024 * 1024));
        let (client, connection) = Client::new(options, 16);
        let mut publisher = Self { client, connection };
        publisher.until("CONNACK", |packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        publisher
    }

    /// Publishes at QoS 1 and waits for the answer.
    pub fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Answer {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).unwrap();
        let answer = self.until("PUBACK", |packet| match packet {
            Packet::PubAck(ack) => Some(Answer::PubAck {
                reason: format!("{:?}", ack.reason),
                user_properties: ack
                    .properties
                    .as_ref()
                    .map(|p| p.user_properties.clone())
                    .unwrap_or_default(),
            }),
            Packet::Disconnect(_) => Some(Answer::Closed),
            _ => None,
        });
        answer.unwrap_or(Answer::Closed)
    }

    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Packet) -> Option<T>) -> Option<T> {
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            match self.connection.recv_timeout(Duration::from_millis(200)) {
                Ok(Ok(Event::Incoming(packet))) => {
                    if let Some(found) = wanted(&packet) {
                        return Some(found);
                    }
                }
                Ok(Ok(Event::Outgoing(_))) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        panic!("waited {DEADLINE:?} for {what}");
    }
}
