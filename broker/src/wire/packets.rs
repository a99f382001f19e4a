//! One packet's bytes, packet type by packet type (sections 3.1 to 3.15 of both standards).

use bytes::Bytes;

use super::decode::Topics;
use super::properties::{self as property, Collector};
use super::reader::{Reader, qos};
use super::reason::Reason;
use super::{
    Ack, Connect, Disconnect, Packet, Publish, PublishProperties, RetainHandling, Subscribe,
    SubscribeFilter, SubscribeOptions, Unsubscribe, Version, Will, WireError,
};
use crate::handler::QoS;
use crate::topic;

/// Packet types, the upper half of a packet's first byte.
pub(super) const CONNECT: u8 = 1;
pub(super) const CONNACK: u8 = 2;
pub(super) const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;
pub(super) const PUBREC: u8 = 5;
pub(super) const PUBREL: u8 = 6;
pub(super) const PUBCOMP: u8 = 7;
pub(super) const SUBSCRIBE: u8 = 8;
pub(super) const SUBACK: u8 = 9;
pub(super) const UNSUBSCRIBE: u8 = 10;
pub(super) const UNSUBACK: u8 = 11;
pub(super) const PINGREQ: u8 = 12;
pub(super) const PINGRESP: u8 = 13;
pub(super) const DISCONNECT: u8 = 14;

const PUBLISH_PROPERTIES: &[u8] = &[
    property::PAYLOAD_FORMAT,
    property::MESSAGE_EXPIRY,
    property::CONTENT_TYPE,
    property::RESPONSE_TOPIC,
    property::CORRELATION_DATA,
    property::TOPIC_ALIAS,
    property::USER_PROPERTY,
];
const WILL_PROPERTIES: &[u8] = &[
    property::PAYLOAD_FORMAT,
    property::MESSAGE_EXPIRY,
    property::CONTENT_TYPE,
    property::RESPONSE_TOPIC,
    property::CORRELATION_DATA,
    property::WILL_DELAY,
    property::USER_PROPERTY,
];
const CONNECT_PROPERTIES: &[u8] = &[
    property::SESSION_EXPIRY,
    property::AUTHENTICATION_METHOD,
    property::AUTHENTICATION_DATA,
    property::REQUEST_PROBLEM,
    property::REQUEST_RESPONSE,
    property::RECEIVE_MAXIMUM,
    property::TOPIC_ALIAS_MAXIMUM,
    property::USER_PROPERTY,
    property::MAXIMUM_PACKET_SIZE,
];
const ACK_PROPERTIES: &[u8] = &[property::REASON_STRING, property::USER_PROPERTY];
const DISCONNECT_PROPERTIES: &[u8] =
    &[property::SESSION_EXPIRY, property::REASON_STRING, property::USER_PROPERTY];
const SUBSCRIBE_PROPERTIES: &[u8] = &[property::SUBSCRIPTION_ID, property::USER_PROPERTY];

const BAD_FLAGS: WireError = WireError::malformed("reserved flags of the fixed header");

/// Any packet but the first.
pub(super) fn read(
    version: Version,
    topics: &mut Topics,
    first: u8,
    body: Bytes,
) -> Result<Packet, WireError> {
    let (kind, flags) = (first >> 4, first & 0x0f);
    if kind == PUBLISH {
        return publish(version, topics, flags, body).map(Packet::Publish);
    }
    let expected = if matches!(kind, PUBREL | SUBSCRIBE | UNSUBSCRIBE) { 2 } else { 0 };
    if flags != expected {
        return Err(BAD_FLAGS);
    }
    match kind {
        CONNECT => Err(WireError::protocol("a second CONNECT")),
        PUBACK => ack(version, body).map(Packet::PubAck),
        PUBREC => ack(version, body).map(Packet::PubRec),
        PUBREL => ack(version, body).map(Packet::PubRel),
        PUBCOMP => ack(version, body).map(Packet::PubComp),
        SUBSCRIBE => subscribe(version, body).map(Packet::Subscribe),
        UNSUBSCRIBE => unsubscribe(version, body).map(Packet::Unsubscribe),
        PINGREQ => Reader::new(body).finish().map(|()| Packet::PingReq),
        DISCONNECT => disconnect(version, body).map(Packet::Disconnect),
        _ => Err(WireError::protocol("a packet type that a client does not send")),
    }
}

/// CONNECT.
pub(super) fn connect(first: u8, body: Bytes) -> Result<Connect, WireError> {
    if first & 0x0f != 0 {
        return Err(BAD_FLAGS);
    }
    let mut reader = Reader::new(body);
    let name = reader.binary()?;
    if name.as_ref() != b"MQTT" && name.as_ref() != b"MQIsdp" {
        return Err(WireError::malformed("the protocol name is not MQTT"));
    }
    let version = match reader.u8()? {
        4 if name.len() == 4 => Version::V311,
        5 if name.len() == 4 => Version::V5,
        level => {
            let reason = if level > 5 { Reason::UNSUPPORTED_VERSION } else { Reason::TOO_OLD };
            return Err(WireError { reason, what: "a protocol level that is neither 4 nor 5" });
        }
    };
    let flags = reader.u8()?;
    let (will_flag, will_qos, will_retain) =
        (flags & 0x04 != 0, qos(flags >> 3 & 3)?, flags & 0x20 != 0);
    let (has_password, has_username) = (flags & 0x40 != 0, flags & 0x80 != 0);
    if flags & 1 != 0
        || !will_flag && (will_qos != QoS::AtMostOnce || will_retain)
        || version == Version::V311 && has_password && !has_username
    {
        return Err(WireError::malformed("flags of CONNECT that contradict each other"));
    }
    let mut connect = Connect {
        version,
        client_id: "".into(),
        clean: flags & 0x02 != 0,
        keep_alive: reader.u16()?,
        will: None,
        username: None,
        password: None,
        session_expiry: None,
        receive_maximum: u16::MAX,
        max_packet: None,
        topic_alias_maximum: 0,
        response_information: false,
        problem_information: true,
        authentication_method: false,
    };
    if version == Version::V5 {
        connect_properties(&mut reader, &mut connect)?;
    }
    connect.client_id = reader.shared_string()?;
    if will_flag {
        connect.will = Some(will(version, &mut reader, will_qos, will_retain)?);
    }
    if has_username {
        connect.username = Some(reader.string()?);
    }
    if has_password {
        connect.password = Some(reader.binary()?);
    }
    reader.finish()?;
    Ok(connect)
}

fn connect_properties(reader: &mut Reader, connect: &mut Connect) -> Result<(), WireError> {
    let mut data = false;
    property::read(reader, CONNECT_PROPERTIES, |id, value| {
        match id {
            property::SESSION_EXPIRY => connect.session_expiry = Some(value.number()),
            property::RECEIVE_MAXIMUM => match u16::try_from(value.number()).unwrap_or(0) {
                0 => return Err(WireError::protocol("a receive maximum of 0")),
                maximum => connect.receive_maximum = maximum,
            },
            property::MAXIMUM_PACKET_SIZE => match value.number() {
                0 => return Err(WireError::protocol("a maximum packet size of 0")),
                maximum => connect.max_packet = Some(maximum),
            },
            property::REQUEST_PROBLEM => connect.problem_information = value.flag()?,
            property::REQUEST_RESPONSE => connect.response_information = value.flag()?,
            property::TOPIC_ALIAS_MAXIMUM => {
                connect.topic_alias_maximum = u16::try_from(value.number()).unwrap_or(u16::MAX);
            }
            property::AUTHENTICATION_METHOD => connect.authentication_method = true,
            property::AUTHENTICATION_DATA => data = true,
            _ => {}
        }
        Ok(())
    })?;
    if data && !connect.authentication_method {
        return Err(WireError::protocol("authentication data without a method"));
    }
    Ok(())
}

fn will(version: Version, reader: &mut Reader, qos: QoS, retain: bool) -> Result<Will, WireError> {
    let (mut collector, mut delay) = (Collector::default(), 0);
    if version == Version::V5 {
        property::read(reader, WILL_PROPERTIES, |id, value| {
            if id == property::WILL_DELAY {
                delay = value.number();
            }
            collector.take(id, &value)
        })?;
    }
    let topic = reader.shared_string()?;
    if !topic::is_valid_name(&topic) {
        return Err(WireError {
            reason: Reason::TOPIC_NAME_INVALID,
            what: "the will's topic name is empty or holds a wildcard",
        });
    }
    let payload = reader.binary()?;
    Ok(Will { topic, payload, qos, retain, delay, properties: collector.finish() })
}

fn publish(
    version: Version,
    topics: &mut Topics,
    flags: u8,
    body: Bytes,
) -> Result<Publish, WireError> {
    let (dup, qos, retain) = (flags & 0x08 != 0, qos(flags >> 1 & 3)?, flags & 1 != 0);
    if dup && qos == QoS::AtMostOnce {
        return Err(WireError::malformed("DUP at quality of service 0"));
    }
    let mut reader = Reader::new(body);
    let name = reader.binary()?;
    let id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
    let (mut properties, mut alias) = (PublishProperties::default(), None);
    if version == Version::V5 {
        let mut collector = Collector::default();
        property::read(&mut reader, PUBLISH_PROPERTIES, |id, value| {
            if id == property::TOPIC_ALIAS {
                alias = u16::try_from(value.number()).ok();
            }
            collector.take(id, &value)
        })?;
        properties = collector.finish();
    }
    let topic = match alias {
        None => topics.name(&name)?,
        Some(alias) if name.is_empty() => {
            topics.alias(alias).and_then(|slot| slot.clone()).ok_or(property::BAD_ALIAS)?
        }
        Some(alias) => {
            let topic = topics.name(&name)?;
            *topics.alias(alias).ok_or(property::BAD_ALIAS)? = Some(topic.clone());
            topic
        }
    };
    Ok(Publish { dup, qos, retain, id, topic, payload: reader.rest(), properties })
}

fn ack(version: Version, body: Bytes) -> Result<Ack, WireError> {
    let mut reader = Reader::new(body);
    let mut ack = Ack { id: reader.packet_id()?, reason: Reason::SUCCESS };
    if version == Version::V5 && !reader.is_empty() {
        ack.reason = Reason(reader.u8()?);
        if !reader.is_empty() {
            property::read(&mut reader, ACK_PROPERTIES, |_, _| Ok(()))?;
        }
    }
    reader.finish()?;
    Ok(ack)
}

fn disconnect(version: Version, body: Bytes) -> Result<Disconnect, WireError> {
    let mut reader = Reader::new(body);
    let mut disconnect = Disconnect { reason: Reason::SUCCESS, session_expiry: None };
    if version == Version::V5 && !reader.is_empty() {
        disconnect.reason = Reason(reader.u8()?);
        if !reader.is_empty() {
            property::read(&mut reader, DISCONNECT_PROPERTIES, |id, value| {
                if id == property::SESSION_EXPIRY {
                    disconnect.session_expiry = Some(value.number());
                }
                Ok(())
            })?;
        }
    }
    reader.finish()?;
    Ok(disconnect)
}

fn subscribe(version: Version, body: Bytes) -> Result<Subscribe, WireError> {
    let mut reader = Reader::new(body);
    let mut subscribe =
        Subscribe { id: reader.packet_id()?, subscription_id: None, filters: Vec::new() };
    if version == Version::V5 {
        property::read(&mut reader, SUBSCRIBE_PROPERTIES, |id, value| {
            if id == property::SUBSCRIPTION_ID {
                if value.number() == 0 {
                    return Err(WireError::protocol("a subscription identifier of 0"));
                }
                subscribe.subscription_id = Some(value.number());
            }
            Ok(())
        })?;
    }
    while !reader.is_empty() {
        let filter = reader.shared_string()?;
        let options = options(version, reader.u8()?)?;
        if options.no_local && topic::is_shared(&filter) {
            // [MQTT-3.8.3-4]
            return Err(WireError::protocol("No Local on a shared subscription"));
        }
        subscribe.filters.push(SubscribeFilter { filter, options });
    }
    if subscribe.filters.is_empty() {
        return Err(WireError::protocol("a SUBSCRIBE without a filter"));
    }
    Ok(subscribe)
}

fn options(version: Version, byte: u8) -> Result<SubscribeOptions, WireError> {
    let reserved = if version == Version::V5 { 0xc0 } else { 0xfc };
    if byte & reserved != 0 {
        return Err(WireError::malformed("reserved bits of the subscription options"));
    }
    Ok(SubscribeOptions {
        qos: qos(byte & 3)?,
        no_local: byte & 0x04 != 0,
        retain_as_published: byte & 0x08 != 0,
        retain_handling: match byte >> 4 & 3 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(WireError::protocol("retain handling 3")),
        },
    })
}

fn unsubscribe(version: Version, body: Bytes) -> Result<Unsubscribe, WireError> {
    let mut reader = Reader::new(body);
    let mut unsubscribe = Unsubscribe { id: reader.packet_id()?, filters: Vec::new() };
    if version == Version::V5 {
        property::read(&mut reader, &[property::USER_PROPERTY], |_, _| Ok(()))?;
    }
    while reader.remaining() > 0 {
        unsubscribe.filters.push(reader.shared_string()?);
    }
    if unsubscribe.filters.is_empty() {
        return Err(WireError::protocol("an UNSUBSCRIBE without a filter"));
    }
    Ok(unsubscribe)
}
