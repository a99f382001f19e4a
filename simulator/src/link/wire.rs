//! Packets of MQTT 3.1.1 and 5 in one form, read and written by rumqttc.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes as v4;
use rumqttc::v5::mqttbytes as v5;

use super::{LinkError, LinkOptions, Message};
use crate::options::{MqttVersion, Qos};

/// What a server says, as far as a client has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Publishes that the server lets be unacknowledged.
    Accepted {
        receive_maximum: u16,
    },
    /// CONNACK with a code that is not success.
    Refused(String),
    /// PUBACK.
    Acknowledged {
        pkid: u16,
        refused: Option<&'static str>,
    },
    /// PUBREC.
    Received {
        pkid: u16,
        refused: Option<&'static str>,
    },
    /// PUBCOMP.
    Completed(u16),
    Published {
        pkid: u16,
        message: Message,
    },
    /// PUBREL.
    Released(u16),
    /// SUBACK: how many filters were refused.
    Subscribed {
        pkid: u16,
        refused: usize,
    },
    Pong,
    /// DISCONNECT.
    Ended(String),
    Other,
}

/// One of the two languages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire(pub(super) MqttVersion);

fn bad(error: impl std::fmt::Display) -> LinkError {
    LinkError(error.to_string())
}

const fn qos4(qos: Qos) -> v4::QoS {
    match qos {
        Qos::AtMostOnce => v4::QoS::AtMostOnce,
        Qos::AtLeastOnce => v4::QoS::AtLeastOnce,
        Qos::ExactlyOnce => v4::QoS::ExactlyOnce,
    }
}

const fn qos5(qos: Qos) -> v5::QoS {
    match qos {
        Qos::AtMostOnce => v5::QoS::AtMostOnce,
        Qos::AtLeastOnce => v5::QoS::AtLeastOnce,
        Qos::ExactlyOnce => v5::QoS::ExactlyOnce,
    }
}

impl Wire {
    /// The next packet, if it is there as a whole.
    pub(super) fn read(
        self,
        input: &mut BytesMut,
        most: usize,
    ) -> Result<Option<Heard>, LinkError> {
        match self.0 {
            MqttVersion::V311 => match v4::v4::Packet::read(input, most) {
                Ok(packet) => heard4(packet).map(Some),
                Err(v4::Error::InsufficientBytes(_)) => Ok(None),
                Err(error) => Err(bad(error)),
            },
            // rumqttc takes a DISCONNECT of two bytes for a packet that lacks its reason.
            MqttVersion::V5 if input.starts_with(&[0xe0, 0]) => {
                Ok(Some(Heard::Ended("the server said goodbye".to_owned())))
            }
            MqttVersion::V5 => {
                let most = u32::try_from(most).unwrap_or(u32::MAX);
                match v5::v5::Packet::read(input, Some(most)) {
                    Ok(packet) => heard5(packet).map(Some),
                    Err(v5::Error::InsufficientBytes(_)) => Ok(None),
                    Err(error) => Err(bad(error)),
                }
            }
        }
    }

    pub(super) fn connect(
        self,
        options: &LinkOptions,
        keep_alive: Duration,
        out: &mut BytesMut,
    ) -> Result<(), LinkError> {
        let keep_alive = u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX);
        let client_id = options.client_id.clone();
        let login = options.access.login.as_ref();
        match self.0 {
            MqttVersion::V311 => {
                let will = |(topic, payload): &(String, Bytes)| v4::v4::LastWill {
                    topic: topic.clone(),
                    message: payload.clone(),
                    qos: v4::QoS::AtLeastOnce,
                    retain: true,
                };
                let connect = v4::v4::Connect {
                    keep_alive,
                    last_will: options.will.as_ref().map(will),
                    login: login
                        .map(|login| v4::v4::Login::new(&*login.user, login.password.word())),
                    ..v4::v4::Connect::new(client_id)
                };
                connect.write(out).map(drop).map_err(bad)
            }
            MqttVersion::V5 => {
                let will = options.will.as_ref().map(|(topic, payload)| v5::v5::LastWill {
                    topic: Bytes::copy_from_slice(topic.as_bytes()),
                    message: payload.clone(),
                    qos: v5::QoS::AtLeastOnce,
                    retain: true,
                    properties: None,
                });
                let login = login.map(|l| v5::v5::Login::new(&*l.user, l.password.word()));
                let properties = v5::v5::ConnectProperties {
                    max_packet_size: u32::try_from(options.most_bytes).ok(),
                    ..v5::v5::ConnectProperties::new()
                };
                let connect = v5::v5::Connect {
                    keep_alive,
                    client_id,
                    clean_start: true,
                    properties: Some(properties),
                };
                connect.write(&will, &login, out).map(drop).map_err(bad)
            }
        }
    }

    pub(super) fn publish(
        self,
        pkid: u16,
        message: Message,
        out: &mut BytesMut,
    ) -> Result<(), LinkError> {
        let Message { topic, payload, qos, retain } = message;
        match self.0 {
            MqttVersion::V311 => {
                let topic = std::str::from_utf8(&topic).map_err(bad)?.to_owned();
                let qos = qos4(qos);
                let publish = v4::v4::Publish { dup: false, qos, retain, topic, pkid, payload };
                publish.write(out).map(drop).map_err(bad)
            }
            MqttVersion::V5 => {
                let qos = qos5(qos);
                let properties = None;
                let dup = false;
                let publish =
                    v5::v5::Publish { dup, qos, retain, topic, pkid, payload, properties };
                publish.write(out).map(drop).map_err(bad)
            }
        }
    }

    pub(super) fn subscribe(
        self,
        pkid: u16,
        filters: &[String],
        qos: Qos,
        out: &mut BytesMut,
    ) -> Result<(), LinkError> {
        match self.0 {
            MqttVersion::V311 => {
                let filter = |path: &String| v4::v4::SubscribeFilter::new(path.clone(), qos4(qos));
                let filters = filters.iter().map(filter).collect();
                v4::v4::Subscribe { pkid, filters }.write(out).map(drop).map_err(bad)
            }
            MqttVersion::V5 => {
                let filter = |path: &String| v5::v5::Filter {
                    // What was retained says so, whoever published it.
                    preserve_retain: true,
                    ..v5::v5::Filter::new(path.clone(), qos5(qos))
                };
                let filters = filters.iter().map(filter).collect();
                let subscribe = v5::v5::Subscribe { pkid, filters, properties: None };
                subscribe.write(out).map(drop).map_err(bad)
            }
        }
    }

    /// The answer to a PUBLISH at QoS 1.
    pub(super) fn puback(self, pkid: u16, out: &mut BytesMut) -> Result<(), LinkError> {
        match self.0 {
            MqttVersion::V311 => v4::v4::PubAck::new(pkid).write(out).map(drop).map_err(bad),
            MqttVersion::V5 => v5::v5::PubAck::new(pkid, None).write(out).map(drop).map_err(bad),
        }
    }

    /// The answer to a PUBLISH at QoS 2.
    pub(super) fn pubrec(self, pkid: u16, out: &mut BytesMut) -> Result<(), LinkError> {
        match self.0 {
            MqttVersion::V311 => v4::v4::PubRec::new(pkid).write(out).map(drop).map_err(bad),
            MqttVersion::V5 => v5::v5::PubRec::new(pkid, None).write(out).map(drop).map_err(bad),
        }
    }

    pub(super) fn pubrel(self, pkid: u16, out: &mut BytesMut) -> Result<(), LinkError> {
        match self.0 {
            MqttVersion::V311 => v4::v4::PubRel::new(pkid).write(out).map(drop).map_err(bad),
            MqttVersion::V5 => v5::v5::PubRel::new(pkid, None).write(out).map(drop).map_err(bad),
        }
    }

    pub(super) fn pubcomp(self, pkid: u16, out: &mut BytesMut) -> Result<(), LinkError> {
        match self.0 {
            MqttVersion::V311 => v4::v4::PubComp::new(pkid).write(out).map(drop).map_err(bad),
            MqttVersion::V5 => v5::v5::PubComp::new(pkid, None).write(out).map(drop).map_err(bad),
        }
    }
}

fn heard4(packet: v4::v4::Packet) -> Result<Heard, LinkError> {
    use v4::v4::{ConnectReturnCode, Packet, SubscribeReasonCode};
    Ok(match packet {
        Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => {
            Heard::Accepted { receive_maximum: u16::MAX }
        }
        Packet::ConnAck(ack) => Heard::Refused(format!("connection refused: {:?}", ack.code)),
        Packet::PubAck(ack) => Heard::Acknowledged { pkid: ack.pkid, refused: None },
        Packet::PubRec(ack) => Heard::Received { pkid: ack.pkid, refused: None },
        Packet::PubComp(ack) => Heard::Completed(ack.pkid),
        Packet::PubRel(release) => Heard::Released(release.pkid),
        Packet::Publish(publish) => Heard::Published {
            pkid: publish.pkid,
            message: Message {
                topic: Bytes::from(publish.topic),
                payload: publish.payload,
                qos: Qos::of(publish.qos as u8),
                retain: publish.retain,
            },
        },
        Packet::SubAck(ack) => {
            let failed = |code: &&SubscribeReasonCode| **code == SubscribeReasonCode::Failure;
            let refused = ack.return_codes.iter().filter(failed).count();
            Heard::Subscribed { pkid: ack.pkid, refused }
        }
        Packet::PingResp => Heard::Pong,
        _ => Heard::Other,
    })
}

fn heard5(packet: v5::v5::Packet) -> Result<Heard, LinkError> {
    use v5::v5::{ConnectReturnCode, Packet, SubscribeReasonCode};
    Ok(match packet {
        Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => {
            let receive_maximum = ack.properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX);
            Heard::Accepted { receive_maximum }
        }
        Packet::ConnAck(ack) => Heard::Refused(format!("connection refused: {:?}", ack.code)),
        Packet::PubAck(ack) => {
            Heard::Acknowledged { pkid: ack.pkid, refused: refusal(ack.reason as u8) }
        }
        Packet::PubRec(ack) => {
            // The same list of reasons as PUBACK's, in the same order.
            Heard::Received { pkid: ack.pkid, refused: refusal(ack.reason as u8) }
        }
        Packet::PubComp(ack) => Heard::Completed(ack.pkid),
        Packet::PubRel(release) => Heard::Released(release.pkid),
        Packet::Publish(publish) => Heard::Published {
            pkid: publish.pkid,
            message: Message {
                topic: publish.topic,
                payload: publish.payload,
                qos: Qos::of(publish.qos as u8),
                retain: publish.retain,
            },
        },
        Packet::SubAck(ack) => {
            let failed =
                |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
            let refused = ack.return_codes.iter().filter(failed).count();
            Heard::Subscribed { pkid: ack.pkid, refused }
        }
        Packet::PingResp(_) => Heard::Pong,
        Packet::Disconnect(end) => {
            let why = end.properties.and_then(|p| p.reason_string).unwrap_or_default();
            let colon = if why.is_empty() { "" } else { ": " };
            Heard::Ended(format!("the server disconnected: {:?}{colon}{why}", end.reason_code))
        }
        _ => Heard::Other,
    })
}

/// A reason of 0x80 or above, by its place in rumqttc's list.
const fn refusal(place: u8) -> Option<&'static str> {
    match place {
        0 | 1 => None,
        2 => Some("unspecified error"),
        3 => Some("implementation specific error"),
        4 => Some("not authorized"),
        5 => Some("topic name invalid"),
        6 => Some("packet identifier in use"),
        7 => Some("quota exceeded"),
        _ => Some("payload format invalid"),
    }
}
