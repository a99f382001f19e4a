//! The bytes of MQTT as a test says and sees them, written from the standards and not from the broker's
//! codec: a mistake would have to be made twice to go unseen.

/// The version a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V4 = 4,
    V5 = 5,
}

pub use Version::{V4, V5};

pub use super::reader::{Packet, parse};

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
pub fn width(id: u8) -> usize {
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
