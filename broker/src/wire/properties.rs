//! The property blocks of MQTT 5 (section 2.2.2).

use bytes::{BufMut, Bytes, BytesMut};

use super::reader::{Reader, checked_utf8};
use super::reason::Reason;
use super::{PublishProperties, WireError};
use crate::topic;

pub(super) const PAYLOAD_FORMAT: u8 = 1;
pub(super) const MESSAGE_EXPIRY: u8 = 2;
pub(super) const CONTENT_TYPE: u8 = 3;
pub(super) const RESPONSE_TOPIC: u8 = 8;
pub(super) const CORRELATION_DATA: u8 = 9;
pub(super) const SUBSCRIPTION_ID: u8 = 11;
pub(super) const SESSION_EXPIRY: u8 = 17;
pub(super) const ASSIGNED_CLIENT_ID: u8 = 18;
pub(super) const SERVER_KEEP_ALIVE: u8 = 19;
pub(super) const AUTHENTICATION_METHOD: u8 = 21;
pub(super) const AUTHENTICATION_DATA: u8 = 22;
pub(super) const REQUEST_PROBLEM: u8 = 23;
pub(super) const WILL_DELAY: u8 = 24;
pub(super) const REQUEST_RESPONSE: u8 = 25;
pub(super) const RESPONSE_INFORMATION: u8 = 26;
pub(super) const REASON_STRING: u8 = 31;
pub(super) const RECEIVE_MAXIMUM: u8 = 33;
pub(super) const TOPIC_ALIAS_MAXIMUM: u8 = 34;
pub(super) const TOPIC_ALIAS: u8 = 35;
pub(super) const USER_PROPERTY: u8 = 38;
pub(super) const MAXIMUM_PACKET_SIZE: u8 = 39;

/// A property's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Variable(u32),
    Text(Bytes),
    Binary(Bytes),
    Pair(Bytes, Bytes),
}

impl Value {
    /// The value of a numeric property; 0 for the others, which are never asked.
    pub(super) fn number(&self) -> u32 {
        match *self {
            Self::Byte(n) => n.into(),
            Self::Two(n) => n.into(),
            Self::Four(n) | Self::Variable(n) => n,
            Self::Text(_) | Self::Binary(_) | Self::Pair(..) => 0,
        }
    }

    /// A flag that may only be 0 or 1.
    pub(super) fn flag(&self) -> Result<bool, WireError> {
        match self.number() {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::protocol("a flag property is neither 0 nor 1")),
        }
    }
}

/// Reads a property block, calling `each` with what it holds. Only `allowed` ones may be there, and
/// each once, save user properties.
pub(super) fn read(
    reader: &mut Reader,
    allowed: &[u8],
    mut each: impl FnMut(u8, Value) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let len = reader.varint()?;
    // A length that does not fit usize is longer than any packet.
    let block = reader.take(usize::try_from(len).unwrap_or(usize::MAX))?;
    let mut reader = Reader::new(block);
    let mut seen = 0u64;
    while !reader.is_empty() {
        let id = reader.u8()?;
        if !allowed.contains(&id) {
            return Err(WireError::protocol("a property that does not belong in its packet"));
        }
        let bit = 1u64.checked_shl(id.into()).unwrap_or(0);
        if seen & bit != 0 && id != USER_PROPERTY {
            return Err(WireError::protocol("a property comes twice"));
        }
        seen |= bit;
        each(id, value(&mut reader, id)?)?;
    }
    Ok(())
}

fn value(reader: &mut Reader, id: u8) -> Result<Value, WireError> {
    Ok(match id {
        PAYLOAD_FORMAT | REQUEST_PROBLEM | REQUEST_RESPONSE => Value::Byte(reader.u8()?),
        RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => Value::Two(reader.u16()?),
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY | MAXIMUM_PACKET_SIZE => {
            Value::Four(reader.u32()?)
        }
        SUBSCRIPTION_ID => Value::Variable(reader.varint()?),
        CONTENT_TYPE | RESPONSE_TOPIC | AUTHENTICATION_METHOD | REASON_STRING => {
            Value::Text(reader.utf8()?)
        }
        CORRELATION_DATA | AUTHENTICATION_DATA => Value::Binary(reader.binary()?),
        USER_PROPERTY => Value::Pair(reader.utf8()?, reader.utf8()?),
        _ => return Err(WireError::malformed("an unknown property")),
    })
}

/// Collects the properties of a PUBLISH or of a will.
#[derive(Debug, Default)]
pub(super) struct Collector {
    forwarded: BytesMut,
    expiry: Option<u32>,
}

impl Collector {
    /// Takes the property if it is one of those that concern receivers.
    pub(super) fn take(&mut self, id: u8, value: &Value) -> Result<(), WireError> {
        match (id, value) {
            (MESSAGE_EXPIRY, value) => self.expiry = Some(value.number()),
            (PAYLOAD_FORMAT, value) => {
                let flag = value.flag()?;
                self.forwarded.put_slice(&[id, flag.into()]);
            }
            (RESPONSE_TOPIC, Value::Text(text)) => {
                if !topic::is_valid_name(checked_utf8(text)?) {
                    return Err(WireError::protocol("the response topic is not a topic name"));
                }
                self.put(id, &[text]);
            }
            (CONTENT_TYPE, Value::Text(bytes)) | (CORRELATION_DATA, Value::Binary(bytes)) => {
                self.put(id, &[bytes]);
            }
            (USER_PROPERTY, Value::Pair(key, value)) => self.put(id, &[key, value]),
            _ => {}
        }
        Ok(())
    }

    fn put(&mut self, id: u8, fields: &[&Bytes]) {
        self.forwarded.put_u8(id);
        for field in fields {
            put_binary(&mut self.forwarded, field);
        }
    }

    pub(super) fn finish(self) -> PublishProperties {
        PublishProperties { forwarded: self.forwarded.freeze(), expiry: self.expiry }
    }
}

/// Appends two bytes of length and the field, cut to what two bytes can say.
pub(super) fn put_binary(out: &mut BytesMut, field: &[u8]) {
    let len = u16::try_from(field.len()).unwrap_or(u16::MAX);
    out.put_u16(len);
    out.extend(field.iter().take(len.into()));
}

/// The two alias errors share their reason code.
pub(super) const BAD_ALIAS: WireError =
    WireError { reason: Reason::TOPIC_ALIAS_INVALID, what: "a topic alias that was never agreed" };
