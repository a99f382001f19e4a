//! The bytes of MQTT as a test says and sees them, written from the standards and not from the broker's
//! codec: a mistake would have to be made twice to go unseen.
//!
//! What is read is checked as strictly as a receiver may: reserved flags, shortest lengths, properties
//! that do not belong or come twice, bytes left over. So every test here is a test of the packets'
//! form as well.

/// The version a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V4 = 4,
    V5 = 5,
}

pub use Version::{V4, V5};

/// For statements that both standards make.
pub const BOTH: [Version; 2] = [V4, V5];

pub mod property {
    //! Identifiers of properties (table 2-4 of version 5).
    pub const PAYLOAD_FORMAT: u8 = 1;
    pub const MESSAGE_EXPIRY: u8 = 2;
    pub const CONTENT_TYPE: u8 = 3;
    pub const RESPONSE_TOPIC: u8 = 8;
    pub const CORRELATION_DATA: u8 = 9;
    pub const SUBSCRIPTION_ID: u8 = 11;
    pub const SESSION_EXPIRY: u8 = 17;
    pub const ASSIGNED_CLIENT_ID: u8 = 18;
    pub const SERVER_KEEP_ALIVE: u8 = 19;
    pub const AUTHENTICATION_METHOD: u8 = 21;
    pub const AUTHENTICATION_DATA: u8 = 22;
    pub const REQUEST_PROBLEM: u8 = 23;
    pub const WILL_DELAY: u8 = 24;
    pub const REQUEST_RESPONSE: u8 = 25;
    pub const RESPONSE_INFORMATION: u8 = 26;
    pub const SERVER_REFERENCE: u8 = 28;
    pub const REASON_STRING: u8 = 31;
    pub const RECEIVE_MAXIMUM: u8 = 33;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 34;
    pub const TOPIC_ALIAS: u8 = 35;
    pub const MAXIMUM_QOS: u8 = 36;
    pub const RETAIN_AVAILABLE: u8 = 37;
    pub const USER_PROPERTY: u8 = 38;
    pub const MAXIMUM_PACKET_SIZE: u8 = 39;
    pub const WILDCARDS_AVAILABLE: u8 = 40;
    pub const SUBSCRIPTION_IDS_AVAILABLE: u8 = 41;
    pub const SHARED_AVAILABLE: u8 = 42;
}
use property as p;

/// A property's value; how wide a number is follows from the identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Number(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Number(n)
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::Text(s.into())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<(&str, &str)> for Value {
    fn from((key, value): (&str, &str)) -> Self {
        Self::Pair(key.into(), value.into())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties(pub Vec<(u8, Value)>);

impl Properties {
    pub fn with(mut self, id: u8, value: impl Into<Value>) -> Self {
        self.0.push((id, value.into()));
        self
    }

    pub fn all(&self, id: u8) -> Vec<&Value> {
        self.0.iter().filter(|(other, _)| *other == id).map(|(_, value)| value).collect()
    }

    pub fn get(&self, id: u8) -> Option<&Value> {
        self.all(id).first().copied()
    }

    pub fn number(&self, id: u8) -> Option<u32> {
        match self.get(id) {
            Some(Value::Number(n)) => Some(*n),
            _ => None,
        }
    }

    pub fn text(&self, id: u8) -> Option<&str> {
        match self.get(id) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Numbers of a property that may come more than once, sorted.
    pub fn numbers(&self, id: u8) -> Vec<u32> {
        let mut numbers: Vec<_> = self
            .all(id)
            .into_iter()
            .map(|value| match value {
                Value::Number(n) => *n,
                other => panic!("{other:?}"),
            })
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// As they are in a packet, their length before them; nothing in 3.1.1.
    pub fn bytes(&self, version: Version) -> Vec<u8> {
        if version == V4 {
            assert!(self.0.is_empty(), "3.1.1 has no properties");
            return Vec::new();
        }
        let mut block = Vec::new();
        for (id, value) in &self.0 {
            block.push(*id);
            match value {
                Value::Number(n) => match width(*id) {
                    0 => block.extend(varint(*n as usize)),
                    width => block.extend(&n.to_be_bytes()[4 - width..]),
                },
                Value::Text(s) => block.extend(text(s)),
                Value::Binary(bytes) => block.extend(binary(bytes)),
                Value::Pair(key, value) => block.extend([text(key), text(value)].concat()),
            }
        }
        [varint(block.len()), block].concat()
    }
}

/// Bytes of a numeric property's value; 0 is a variable byte integer.
fn width(id: u8) -> usize {
    match id {
        p::SUBSCRIPTION_ID => 0,
        p::MESSAGE_EXPIRY | p::SESSION_EXPIRY | p::WILL_DELAY | p::MAXIMUM_PACKET_SIZE => 4,
        p::SERVER_KEEP_ALIVE | p::RECEIVE_MAXIMUM | p::TOPIC_ALIAS_MAXIMUM | p::TOPIC_ALIAS => 2,
        _ => 1,
    }
}

pub fn varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (n % 128) as u8;
        n /= 128;
        out.push(if n > 0 { byte + 128 } else { byte });
        if n == 0 {
            return out;
        }
    }
}

pub fn binary(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

pub fn text(s: &str) -> Vec<u8> {
    binary(s.as_bytes())
}

/// A packet of a first byte and what follows its length.
pub fn raw(first: u8, body: &[u8]) -> Vec<u8> {
    [vec![first], varint(body.len()), body.to_vec()].concat()
}

/// CONNECT.
#[derive(Debug, Clone, Default)]
pub struct Connect {
    pub id: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub will: Option<Publish>,
    pub will_properties: Properties,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub properties: Properties,
    /// For what no client should send.
    pub flags: Option<u8>,
}

impl Connect {
    /// With no former session, and none that stays.
    pub fn clean(id: &str) -> Self {
        Self { id: id.into(), clean: true, ..Self::default() }
    }

    /// With the former session if there is one; it is kept for an hour (version 5) or as long as the
    /// server keeps any (3.1.1).
    pub fn kept(version: Version, id: &str) -> Self {
        let connect = Self { id: id.into(), ..Self::default() };
        if version == V5 { connect.with(p::SESSION_EXPIRY, 3600) } else { connect }
    }

    pub fn with(mut self, id: u8, value: impl Into<Value>) -> Self {
        self.properties = self.properties.with(id, value);
        self
    }

    pub fn will(self, will: Publish) -> Self {
        Self { will: Some(will), ..self }
    }

    pub fn keep_alive(self, keep_alive: u16) -> Self {
        Self { keep_alive, ..self }
    }

    pub fn user(self, name: &str, password: &str) -> Self {
        Self { username: Some(name.into()), password: Some(password.into()), ..self }
    }

    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.password.is_some()) << 6 | u8::from(self.username.is_some()) << 7;
        let mut body = text("MQTT");
        body.extend([version as u8, self.flags.unwrap_or(flags)]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(self.properties.bytes(version));
        body.extend(text(&self.id));
        if let Some(will) = &self.will {
            body.extend(self.will_properties.bytes(version));
            body.extend(text(&will.topic));
            body.extend(binary(&will.payload));
        }
        body.extend(self.username.iter().flat_map(|name| text(name)));
        body.extend(self.password.iter().flat_map(|password| binary(password)));
        raw(0x10, &body)
    }
}

/// PUBLISH, in either direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    /// 0 at QoS 0.
    pub id: u16,
    pub topic: String,
    pub properties: Properties,
    pub payload: Vec<u8>,
}

impl Publish {
    pub fn new(qos: u8, topic: &str, payload: impl AsRef<[u8]>) -> Self {
        let id = u16::from(qos > 0);
        Self { qos, id, topic: topic.into(), payload: payload.as_ref().into(), ..Self::default() }
    }

    pub fn id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    pub fn dup(self) -> Self {
        Self { dup: true, ..self }
    }

    pub fn retained(self) -> Self {
        Self { retain: true, ..self }
    }

    pub fn with(mut self, id: u8, value: impl Into<Value>) -> Self {
        self.properties = self.properties.with(id, value);
        self
    }

    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let mut body = text(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        body.extend(self.properties.bytes(version));
        body.extend(&self.payload);
        raw(0x30 | flags, &body)
    }

    /// Payload as text, for messages of failed assertions.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(version, id, &Properties::default(), filters)
}

pub fn subscribe_with(
    version: Version,
    id: u16,
    properties: &Properties,
    filters: &[(&str, u8)],
) -> Vec<u8> {
    let mut body = [id.to_be_bytes().to_vec(), properties.bytes(version)].concat();
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    raw(0x82, &body)
}

pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = [id.to_be_bytes().to_vec(), Properties::default().bytes(version)].concat();
    body.extend(filters.iter().flat_map(|filter| text(filter)));
    raw(0xa2, &body)
}

pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;
pub const PINGREQ: [u8; 2] = [0xc0, 0];
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// PUBACK, PUBREC, PUBREL or PUBCOMP that says that all is well.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    raw(first, &id.to_be_bytes())
}

/// One that says a reason.
pub fn ack_reason(first: u8, id: u16, reason: u8) -> Vec<u8> {
    raw(first, &[&id.to_be_bytes()[..], &[reason]].concat())
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    ConnAck {
        present: bool,
        code: u8,
        properties: Properties,
    },
    Publish(Publish),
    /// `kind` is the first byte.
    Ack {
        kind: u8,
        id: u16,
        reason: u8,
        properties: Properties,
    },
    SubAck {
        id: u16,
        properties: Properties,
        codes: Vec<u8>,
    },
    UnsubAck {
        id: u16,
        properties: Properties,
        codes: Vec<u8>,
    },
    PingResp,
    Disconnect {
        reason: u8,
        properties: Properties,
    },
}

/// A packet of a server.
pub fn parse(version: Version, packet: &[u8]) -> Packet {
    let length_bytes = 1 + packet[1..].iter().position(|byte| byte & 0x80 == 0).unwrap();
    assert!(length_bytes < 5, "a remaining length has at most four bytes: {packet:02x?}");
    let shortest = length_bytes == 1 || packet[length_bytes] != 0;
    assert!(shortest, "a remaining length is as short as it can be: {packet:02x?}");
    let mut cursor = Cursor { version, rest: &packet[length_bytes + 1..] };
    let parsed = cursor.parse(packet[0]);
    assert!(cursor.rest.is_empty(), "bytes are left over in {packet:02x?}");
    parsed
}

struct Cursor<'a> {
    version: Version,
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn parse(&mut self, first: u8) -> Packet {
        let (kind, flags) = (first & 0xf0, first & 0x0f);
        let expected = if kind == 0x60 { 2 } else { 0 };
        assert!(kind == 0x30 || flags == expected, "flags of packet type {kind:#x}: {flags:#x}");
        let five = self.version == V5;
        match kind {
            0x20 => {
                let (present, code) = (self.take(1)[0], self.take(1)[0]);
                assert!(present < 2, "reserved flags of CONNACK: {present:#x}");
                let properties = self.properties(CONNACK);
                if self.version == V4 {
                    assert!(code < 6, "return code {code:#x} of a 3.1.1 CONNACK");
                } else {
                    assert!(CONNACK_CODES.contains(&code), "reason code {code:#x} of a CONNACK");
                }
                Packet::ConnAck { present: present == 1, code, properties }
            }
            0x30 => {
                let (dup, qos, retain) = (flags & 8 != 0, flags >> 1 & 3, flags & 1 != 0);
                assert!(qos < 3, "quality of service 3 of a PUBLISH");
                assert!(!(dup && qos == 0), "DUP of a PUBLISH of quality of service 0");
                let topic = self.text();
                assert!(!topic.contains(['+', '#']), "a wildcard in the topic name {topic:?}");
                let id = if qos > 0 { self.u16() } else { 0 };
                assert!(qos == 0 || id > 0, "a packet identifier of 0");
                let properties = self.properties(PUBLISH);
                let payload = std::mem::take(&mut self.rest).to_vec();
                Packet::Publish(Publish { dup, qos, retain, id, topic, properties, payload })
            }
            0x40..=0x70 => {
                let id = self.u16();
                let (mut reason, mut properties) = (0, Properties::default());
                if five && !self.rest.is_empty() {
                    reason = self.take(1)[0];
                    if !self.rest.is_empty() {
                        properties = self.properties(REASONS);
                    }
                }
                let codes: &[u8] = match kind {
                    0x40 | 0x50 => &PUBACK_CODES,
                    _ => &[0, 0x92],
                };
                assert!(codes.contains(&reason), "reason {reason:#x} of packet type {kind:#x}");
                Packet::Ack { kind: first, id, reason, properties }
            }
            0x90 => {
                let (id, properties) = (self.u16(), self.properties(REASONS));
                let codes = std::mem::take(&mut self.rest).to_vec();
                let known: &[u8] = if five { &SUBACK_CODES } else { &[0, 1, 2, 0x80] };
                assert!(codes.iter().all(|code| known.contains(code)), "SUBACK codes {codes:02x?}");
                Packet::SubAck { id, properties, codes }
            }
            0xb0 => {
                let (id, properties) = (self.u16(), self.properties(REASONS));
                let codes = if five { std::mem::take(&mut self.rest).to_vec() } else { Vec::new() };
                let known = [0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
                assert!(codes.iter().all(|code| known.contains(code)), "UNSUBACK {codes:02x?}");
                Packet::UnsubAck { id, properties, codes }
            }
            0xd0 => Packet::PingResp,
            0xe0 => {
                assert!(five, "a 3.1.1 server sends no DISCONNECT");
                let (mut reason, mut properties) = (0, Properties::default());
                if !self.rest.is_empty() {
                    reason = self.take(1)[0];
                    if !self.rest.is_empty() {
                        properties = self.properties(DISCONNECT_ALLOWED);
                    }
                }
                assert!(DISCONNECT_CODES.contains(&reason), "reason {reason:#x} of a DISCONNECT");
                Packet::Disconnect { reason, properties }
            }
            _ => panic!("a server sends no packet of type {kind:#x}"),
        }
    }

    fn take(&mut self, len: usize) -> &[u8] {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn binary(&mut self) -> Vec<u8> {
        let len = self.u16();
        self.take(len.into()).to_vec()
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8(self.binary()).unwrap();
        assert!(!text.contains('\0'), "U+0000 in {text:?}");
        text
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                assert!(byte != 0 || shift == 7, "a variable byte integer is not shortest");
                return value;
            }
        }
    }

    fn properties(&mut self, allowed: &[u8]) -> Properties {
        let mut properties = Properties::default();
        if self.version == V4 {
            return properties;
        }
        let len = self.varint();
        let mut block = Cursor { version: V5, rest: self.take(len) };
        while !block.rest.is_empty() {
            let id = block.take(1)[0];
            assert!(allowed.contains(&id), "property {id} does not belong in its packet");
            let many = id == p::USER_PROPERTY || id == p::SUBSCRIPTION_ID;
            assert!(many || properties.get(id).is_none(), "property {id} comes twice");
            let value = match id {
                p::CONTENT_TYPE
                | p::RESPONSE_TOPIC
                | p::ASSIGNED_CLIENT_ID
                | p::AUTHENTICATION_METHOD
                | p::RESPONSE_INFORMATION
                | p::SERVER_REFERENCE
                | p::REASON_STRING => Value::Text(block.text()),
                p::CORRELATION_DATA | p::AUTHENTICATION_DATA => Value::Binary(block.binary()),
                p::USER_PROPERTY => Value::Pair(block.text(), block.text()),
                _ => Value::Number(match width(id) {
                    0 => u32::try_from(block.varint()).unwrap(),
                    width => block.take(width).iter().fold(0, |n, byte| n << 8 | u32::from(*byte)),
                }),
            };
            properties = Properties([properties.0, vec![(id, value)]].concat());
        }
        properties
    }
}

const CONNACK: &[u8] = &[
    p::SESSION_EXPIRY,
    p::ASSIGNED_CLIENT_ID,
    p::SERVER_KEEP_ALIVE,
    p::AUTHENTICATION_METHOD,
    p::AUTHENTICATION_DATA,
    p::RESPONSE_INFORMATION,
    p::SERVER_REFERENCE,
    p::REASON_STRING,
    p::RECEIVE_MAXIMUM,
    p::TOPIC_ALIAS_MAXIMUM,
    p::MAXIMUM_QOS,
    p::RETAIN_AVAILABLE,
    p::USER_PROPERTY,
    p::MAXIMUM_PACKET_SIZE,
    p::WILDCARDS_AVAILABLE,
    p::SUBSCRIPTION_IDS_AVAILABLE,
    p::SHARED_AVAILABLE,
];
const PUBLISH: &[u8] = &[
    p::PAYLOAD_FORMAT,
    p::MESSAGE_EXPIRY,
    p::CONTENT_TYPE,
    p::RESPONSE_TOPIC,
    p::CORRELATION_DATA,
    p::SUBSCRIPTION_ID,
    p::TOPIC_ALIAS,
    p::USER_PROPERTY,
];
const REASONS: &[u8] = &[p::REASON_STRING, p::USER_PROPERTY];
/// Without the session expiry, which only clients may send.
const DISCONNECT_ALLOWED: &[u8] = &[p::REASON_STRING, p::USER_PROPERTY, p::SERVER_REFERENCE];

const CONNACK_CODES: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
];
const PUBACK_CODES: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const SUBACK_CODES: [u8; 12] =
    [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2];
/// Those that a server may send.
const DISCONNECT_CODES: [u8; 28] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];
