//! Packets to bytes. A 3.1.1 client is never written a property or a reason code, whatever is asked.

use bytes::{BufMut, BytesMut};

use super::decode::TOPIC_ALIAS_MAXIMUM;
use super::packets;
use super::properties as property;
use super::reason::Reason;
use super::{PublishProperties, Version};
use crate::handler::QoS;

/// What CONNACK tells the client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ConnAck<'a> {
    pub(crate) session_present: bool,
    pub(crate) session_expiry: Option<u32>,
    pub(crate) assigned_client_id: Option<&'a str>,
    pub(crate) receive_maximum: u16,
    pub(crate) max_packet: u32,
    /// Seconds, if not those of CONNECT.
    pub(crate) keep_alive: Option<u16>,
    /// What topics for responses to this client begin with.
    pub(crate) response_information: Option<&'a str>,
}

/// A PUBLISH to a subscriber.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) id: u16,
    /// Empty if the client knows it by its alias.
    pub(crate) topic: &'a str,
    pub(crate) alias: Option<u16>,
    pub(crate) payload: &'a [u8],
    pub(crate) properties: &'a PublishProperties,
    pub(crate) subscription_ids: &'a [u32],
}

/// The four acknowledgements of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AckKind {
    /// PUBACK.
    Ack = packets::PUBACK << 4,
    /// PUBREC.
    Received = packets::PUBREC << 4,
    /// PUBREL.
    Release = packets::PUBREL << 4 | 2,
    /// PUBCOMP.
    Complete = packets::PUBCOMP << 4,
}

/// Bytes of a variable byte integer.
const fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.put_u8(byte);
            return;
        }
        out.put_u8(byte | 0x80);
    }
}

/// Appends `body` as a packet of `first` byte.
fn put_packet(out: &mut BytesMut, first: u8, body: &[u8]) {
    out.put_u8(first);
    put_varint(out, body.len());
    out.put_slice(body);
}

/// Appends a property block.
fn put_block(out: &mut BytesMut, block: &[u8]) {
    put_varint(out, block.len());
    out.put_slice(block);
}

/// An accepting CONNACK.
pub(crate) fn connack(out: &mut BytesMut, version: Version, ack: &ConnAck<'_>) {
    let mut body = BytesMut::new();
    body.put_slice(&[ack.session_present.into(), 0]);
    if version == Version::V5 {
        let mut block = BytesMut::new();
        if let Some(expiry) = ack.session_expiry {
            block.put_u8(property::SESSION_EXPIRY);
            block.put_u32(expiry);
        }
        block.put_u8(property::RECEIVE_MAXIMUM);
        block.put_u16(ack.receive_maximum);
        block.put_u8(property::MAXIMUM_PACKET_SIZE);
        block.put_u32(ack.max_packet);
        if let Some(id) = ack.assigned_client_id {
            block.put_u8(property::ASSIGNED_CLIENT_ID);
            property::put_binary(&mut block, id.as_bytes());
        }
        block.put_u8(property::TOPIC_ALIAS_MAXIMUM);
        block.put_u16(TOPIC_ALIAS_MAXIMUM);
        if let Some(seconds) = ack.keep_alive {
            block.put_u8(property::SERVER_KEEP_ALIVE);
            block.put_u16(seconds);
        }
        put_text(&mut block, property::RESPONSE_INFORMATION, ack.response_information);
        put_block(&mut body, &block);
    }
    put_packet(out, packets::CONNACK << 4, &body);
}

/// Appends a property that is a string, if there is one.
fn put_text(block: &mut BytesMut, id: u8, text: Option<&str>) {
    if let Some(text) = text {
        block.put_u8(id);
        property::put_binary(block, text.as_bytes());
    }
}

/// A refusing CONNACK; `said` tells a person why.
pub(crate) fn connack_refused(
    out: &mut BytesMut,
    version: Version,
    reason: Reason,
    said: Option<&str>,
) {
    match version {
        Version::V311 => {
            let code = match reason {
                Reason::TOO_OLD => 1,
                Reason::CLIENT_ID_NOT_VALID => 2,
                Reason::BAD_CREDENTIALS => 4,
                Reason::NOT_AUTHORIZED => 5,
                _ => 3,
            };
            put_packet(out, packets::CONNACK << 4, &[0, code]);
        }
        Version::V5 => {
            let (mut body, mut block) = (BytesMut::new(), BytesMut::new());
            body.put_slice(&[0, reason.0]);
            put_text(&mut block, property::REASON_STRING, said);
            put_block(&mut body, &block);
            put_packet(out, packets::CONNACK << 4, &body);
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with a reason that `said` explains.
pub(crate) fn ack_said(
    out: &mut BytesMut,
    version: Version,
    kind: AckKind,
    id: u16,
    reason: Reason,
    said: Option<&str>,
) {
    let (Version::V5, Some(said)) = (version, said) else {
        return ack(out, version, kind, id, reason, &[]);
    };
    let (mut body, mut block) = (BytesMut::new(), BytesMut::new());
    body.put_u16(id);
    body.put_u8(reason.0);
    put_text(&mut block, property::REASON_STRING, Some(said));
    put_block(&mut body, &block);
    put_packet(out, kind as u8, &body);
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP. `user_properties` are pairs.
pub(crate) fn ack(
    out: &mut BytesMut,
    version: Version,
    kind: AckKind,
    id: u16,
    reason: Reason,
    user_properties: &[(&str, &str)],
) {
    let [high, low] = id.to_be_bytes();
    if version == Version::V311 || reason == Reason::SUCCESS && user_properties.is_empty() {
        out.put_slice(&[kind as u8, 2, high, low]);
    } else if user_properties.is_empty() {
        out.put_slice(&[kind as u8, 3, high, low, reason.0]);
    } else {
        let mut body = BytesMut::new();
        body.put_slice(&[high, low, reason.0]);
        let mut block = BytesMut::new();
        for (key, value) in user_properties {
            block.put_u8(property::USER_PROPERTY);
            property::put_binary(&mut block, key.as_bytes());
            property::put_binary(&mut block, value.as_bytes());
        }
        put_block(&mut body, &block);
        put_packet(out, kind as u8, &body);
    }
}

/// SUBACK, one code for each filter. 3.1.1 knows one failure only, 0x80.
pub(crate) fn suback(
    out: &mut BytesMut,
    version: Version,
    id: u16,
    codes: &[Reason],
    said: Option<&str>,
) {
    let mut body = BytesMut::new();
    body.put_u16(id);
    if version == Version::V5 {
        let mut block = BytesMut::new();
        put_text(&mut block, property::REASON_STRING, said);
        put_block(&mut body, &block);
    }
    for code in codes {
        let plain = version == Version::V311 && code.is_error();
        body.put_u8(if plain { 0x80 } else { code.0 });
    }
    put_packet(out, packets::SUBACK << 4, &body);
}

/// UNSUBACK; 3.1.1 has no codes.
pub(crate) fn unsuback(out: &mut BytesMut, version: Version, id: u16, codes: &[Reason]) {
    let mut body = BytesMut::new();
    body.put_u16(id);
    if version == Version::V5 {
        body.put_u8(0);
        body.extend(codes.iter().map(|code| code.0));
    }
    put_packet(out, packets::UNSUBACK << 4, &body);
}

/// PINGRESP.
pub(crate) fn pingresp(out: &mut BytesMut) {
    out.put_slice(&[packets::PINGRESP << 4, 0]);
}

/// DISCONNECT. 3.1.1 servers send none: they close.
pub(crate) fn disconnect(out: &mut BytesMut, version: Version, reason: Reason, said: Option<&str>) {
    if version == Version::V5 {
        let mut body = BytesMut::new();
        body.put_u8(reason.0);
        if said.is_some() {
            let mut block = BytesMut::new();
            put_text(&mut block, property::REASON_STRING, said);
            put_block(&mut body, &block);
        }
        put_packet(out, packets::DISCONNECT << 4, &body);
    }
}

/// How many bytes [`publish`] would append.
pub(crate) fn publish_len(version: Version, publish: &Outgoing<'_>) -> usize {
    let body = publish_body_len(version, publish);
    1 + varint_len(body) + body
}

fn publish_body_len(version: Version, publish: &Outgoing<'_>) -> usize {
    let id = if publish.qos == QoS::AtMostOnce { 0 } else { 2 };
    let block = match version {
        Version::V311 => 0,
        Version::V5 => {
            let block = block_len(publish);
            varint_len(block) + block
        }
    };
    2 + publish.topic.len() + id + block + publish.payload.len()
}

fn block_len(publish: &Outgoing<'_>) -> usize {
    let ids: usize = publish.subscription_ids.iter().map(|id| 1 + varint_len(*id as usize)).sum();
    let expiry = if publish.properties.expiry.is_some() { 5 } else { 0 };
    let alias = if publish.alias.is_some() { 3 } else { 0 };
    publish.properties.forwarded.len() + expiry + ids + alias
}

/// PUBLISH.
pub(crate) fn publish(out: &mut BytesMut, version: Version, publish: &Outgoing<'_>) {
    let flags = u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
    out.reserve(publish_len(version, publish));
    out.put_u8(packets::PUBLISH << 4 | flags);
    put_varint(out, publish_body_len(version, publish));
    property::put_binary(out, publish.topic.as_bytes());
    if publish.qos != QoS::AtMostOnce {
        out.put_u16(publish.id);
    }
    if version == Version::V5 {
        put_varint(out, block_len(publish));
        if let Some(alias) = publish.alias {
            out.put_u8(property::TOPIC_ALIAS);
            out.put_u16(alias);
        }
        out.put_slice(&publish.properties.forwarded);
        if let Some(expiry) = publish.properties.expiry {
            out.put_u8(property::MESSAGE_EXPIRY);
            out.put_u32(expiry);
        }
        for id in publish.subscription_ids {
            out.put_u8(property::SUBSCRIPTION_ID);
            put_varint(out, *id as usize);
        }
    }
    out.put_slice(publish.payload);
}
