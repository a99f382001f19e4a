//! The values of the database, as bytes.
//!
//! Integers are little-endian; *text* and *bytes* are a `u32` of length and what it counts. A value
//! ends where its last field ends: bytes behind it make it unreadable, and so does everything that
//! could not have been written here. Golden bytes in the tests pin all of it.
//!
//! ```text
//! message       u8  QoS
//!               u8  1 if RETAIN
//!               u64 Unix ms of its expiry, or u64::MAX
//!               u64 order
//!               text topic, text publisher's client id
//!               bytes v5 properties that are forwarded, bytes payload
//! delivery      u8  QoS for this subscriber
//!               u8  1 if RETAIN for this subscriber
//!               u32 how many subscription identifiers, and each as u32
//!               u8  1 if it came by a shared subscription, and then its filter as text
//!               message
//! in flight     u16 packet id
//!               u8  1 if the client has the message, and PUBCOMP is what is missing
//! session       u64 number
//!               u32 seconds that it outlives a connection
//!               u64 Unix ms at which it ends, or u64::MAX while its client is connected
//!               u8  1 if a will follows
//!               text user whose session it is, behind the will; nothing, if it is nobody's
//! will          u64 Unix ms at which it is due
//!               u8 QoS, u8 1 if RETAIN, u32 delay in seconds
//!               u8 1 if an expiry follows, u32 expiry in seconds
//!               text topic, bytes v5 properties, bytes payload
//! subscription  u8  QoS
//!               u8  1 No Local, 2 Retain As Published, together with 4 if an identifier follows
//!               u8  retain handling, as in SUBSCRIBE
//!               u32 identifier, if there is one
//! parcel        u64 id, u64 Unix ms of sending, u64 Unix ms of its expiry
//!               u8  0 waiting, 1 delivered, 2 expired
//!               u64 Unix ms of its delivery, or 0
//!               u8  1 if an answer follows, bytes answer (empty if none)
//!               text client id, text topic, bytes payload
//! ```

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::handler::QoS;
use crate::message::Message;
use crate::parcel::{Parcel, State};
use crate::subscriptions::Subscription;
use crate::wire::{PublishProperties, RetainHandling, SubscribeOptions, Will};

/// In place of a time: there is none.
pub(super) const NEVER: u64 = u64::MAX;

/// Bytes that are no value of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value that was not written by this version: {0}")]
pub(crate) struct CodecError(&'static str);

/// A message and the moment at which it expires.
#[derive(Debug, Clone)]
pub(super) struct StoredMessage {
    /// Its own `expires` says nothing after a restart.
    pub(super) message: Arc<Message>,
    pub(super) expires_ms: u64,
}

/// A message that waits for a subscriber, or is in flight to it.
#[derive(Debug, Clone)]
pub(super) struct StoredDelivery {
    pub(super) message: StoredMessage,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) ids: Vec<u32>,
    pub(super) share: Option<Arc<str>>,
}

/// What was sent with which packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredInFlight {
    pub(super) id: u16,
    pub(super) released: bool,
}

/// A session's own record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StoredSession {
    pub(super) number: u64,
    pub(super) expiry_s: u32,
    /// [`NEVER`] while its client is connected.
    pub(super) ends_ms: u64,
    pub(super) will: Option<StoredWill>,
    /// The user whose session it is.
    pub(super) owner: Option<Arc<str>>,
}

/// A will that is to be published if its client does not come back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StoredWill {
    pub(super) due_ms: u64,
    pub(super) will: Will,
}

pub(super) fn message(stored: &StoredMessage) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, stored);
    out
}

fn put_message(out: &mut Vec<u8>, stored: &StoredMessage) {
    let message = &stored.message;
    out.put_u8(message.qos as u8);
    out.put_u8(message.retain.into());
    out.put_u64_le(stored.expires_ms);
    out.put_u64_le(message.order);
    put(out, message.topic.as_bytes());
    put(out, message.from.as_bytes());
    put(out, &message.properties.forwarded);
    put(out, &message.payload);
}

pub(super) fn delivery(stored: &StoredDelivery) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u8(stored.qos as u8);
    out.put_u8(stored.retain.into());
    // As many as a client has subscriptions: far fewer than four billion.
    out.put_u32_le(u32::try_from(stored.ids.len()).unwrap_or(u32::MAX));
    stored.ids.iter().for_each(|id| out.put_u32_le(*id));
    out.put_u8(stored.share.is_some().into());
    if let Some(filter) = &stored.share {
        put(&mut out, filter.as_bytes());
    }
    put_message(&mut out, &stored.message);
    out
}

pub(super) fn in_flight(stored: StoredInFlight) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16_le(stored.id);
    out.put_u8(stored.released.into());
    out
}

pub(super) fn session(stored: &StoredSession) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64_le(stored.number);
    out.put_u32_le(stored.expiry_s);
    out.put_u64_le(stored.ends_ms);
    out.put_u8(stored.will.is_some().into());
    if let Some(StoredWill { due_ms, will }) = &stored.will {
        out.put_u64_le(*due_ms);
        out.put_u8(will.qos as u8);
        out.put_u8(will.retain.into());
        out.put_u32_le(will.delay);
        out.put_u8(will.properties.expiry.is_some().into());
        out.put_u32_le(will.properties.expiry.unwrap_or(0));
        put(&mut out, will.topic.as_bytes());
        put(&mut out, &will.properties.forwarded);
        put(&mut out, &will.payload);
    }
    if let Some(owner) = &stored.owner {
        put(&mut out, owner.as_bytes());
    }
    out
}

pub(super) fn parcel(parcel: &Parcel) -> Vec<u8> {
    let (state, at_ms) = match parcel.state {
        State::Waiting => (0, 0),
        State::Delivered { at_ms } => (1, at_ms),
        State::Expired => (2, 0),
    };
    let mut out = Vec::new();
    out.put_u64_le(parcel.id);
    out.put_u64_le(parcel.sent_ms);
    out.put_u64_le(parcel.expires_ms);
    out.put_u8(state);
    out.put_u64_le(at_ms);
    out.put_u8(parcel.answer.is_some().into());
    put(&mut out, parcel.answer.as_deref().unwrap_or_default());
    put(&mut out, parcel.client.as_bytes());
    put(&mut out, parcel.topic.as_bytes());
    put(&mut out, &parcel.payload);
    out
}

const NO_LOCAL: u8 = 1;
const RETAIN_AS_PUBLISHED: u8 = 2;
const HAS_ID: u8 = 4;

pub(super) fn subscription(subscription: &Subscription) -> Vec<u8> {
    let SubscribeOptions { qos, no_local, retain_as_published, retain_handling } =
        subscription.options;
    let mut out = Vec::new();
    out.put_u8(qos as u8);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.put_u8(
        flag(no_local, NO_LOCAL)
            | flag(retain_as_published, RETAIN_AS_PUBLISHED)
            | flag(subscription.id.is_some(), HAS_ID),
    );
    out.put_u8(match retain_handling {
        RetainHandling::Always => 0,
        RetainHandling::IfNew => 1,
        RetainHandling::Never => 2,
    });
    out.extend(subscription.id.into_iter().flat_map(u32::to_le_bytes));
    out
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    // Every field came in a packet, and the longest packet has 2^28 bytes.
    out.put_u32_le(u32::try_from(field.len()).unwrap_or(u32::MAX));
    out.put_slice(field);
}

/// A message; `expires` is left to the reader, who knows what time it is.
pub(super) fn read_message(bytes: &[u8]) -> Result<StoredMessage, CodecError> {
    let mut reader = Reader(bytes);
    let message = reader.message()?;
    reader.end(message)
}

pub(super) fn read_delivery(bytes: &[u8]) -> Result<StoredDelivery, CodecError> {
    let mut reader = Reader(bytes);
    let (qos, retain) = (reader.qos()?, reader.flag()?);
    let count = reader.u32()?;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(reader.u32()?);
    }
    let share = if reader.flag()? { Some(reader.text()?) } else { None };
    let message = reader.message()?;
    reader.end(StoredDelivery { message, qos, retain, ids, share })
}

pub(super) fn read_in_flight(bytes: &[u8]) -> Result<StoredInFlight, CodecError> {
    let mut reader = Reader(bytes);
    let stored = StoredInFlight { id: reader.u16()?, released: reader.flag()? };
    if stored.id == 0 {
        return Err(CodecError("packet id 0"));
    }
    reader.end(stored)
}

pub(super) fn read_session(bytes: &[u8]) -> Result<StoredSession, CodecError> {
    let mut reader = Reader(bytes);
    let (number, expiry_s, ends_ms) = (reader.u64()?, reader.u32()?, reader.u64()?);
    let will = if reader.flag()? { Some(reader.will()?) } else { None };
    let owner = if reader.0.is_empty() { None } else { Some(reader.text()?) };
    reader.end(StoredSession { number, expiry_s, ends_ms, will, owner })
}

pub(super) fn read_subscription(filter: &str, bytes: &[u8]) -> Result<Subscription, CodecError> {
    let mut reader = Reader(bytes);
    let qos = reader.qos()?;
    let flags = reader.u8()?;
    if flags & !(NO_LOCAL | RETAIN_AS_PUBLISHED | HAS_ID) != 0 {
        return Err(CodecError("unknown flags of a subscription"));
    }
    let retain_handling = match reader.u8()? {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(CodecError("unknown retain handling")),
    };
    let id = if flags & HAS_ID != 0 { Some(reader.u32()?) } else { None };
    let options = SubscribeOptions {
        qos,
        no_local: flags & NO_LOCAL != 0,
        retain_as_published: flags & RETAIN_AS_PUBLISHED != 0,
        retain_handling,
    };
    reader.end(Subscription { filter: filter.into(), options, id })
}

pub(super) fn read_parcel(bytes: &[u8]) -> Result<Parcel, CodecError> {
    let mut reader = Reader(bytes);
    let (id, sent_ms, expires_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let state = match (reader.u8()?, reader.u64()?) {
        (0, 0) => State::Waiting,
        (1, at_ms) => State::Delivered { at_ms },
        (2, 0) => State::Expired,
        _ => return Err(CodecError("an unknown state of a parcel")),
    };
    let has_answer = reader.flag()?;
    let answer = Some(reader.bytes()?).filter(|_| has_answer);
    let (client, topic, payload) = (reader.text()?, reader.text()?, reader.bytes()?);
    reader.end(Parcel { id, client, topic, payload, sent_ms, expires_ms, state, answer })
}

/// What is left of a value.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(CodecError("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        self.take(N)?.try_into().map_err(|_| CodecError("it ends too early"))
    }

    fn u8(&mut self) -> Result<u8, CodecError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError("a flag that is neither 0 nor 1")),
        }
    }

    fn qos(&mut self) -> Result<QoS, CodecError> {
        match self.u8()? {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            _ => Err(CodecError("a quality of service above 2")),
        }
    }

    fn bytes(&mut self) -> Result<Bytes, CodecError> {
        let len = self.u32()?;
        // A length that does not fit usize is longer than any value.
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn text(&mut self) -> Result<Arc<str>, CodecError> {
        let len = self.u32()?;
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        std::str::from_utf8(bytes).map(Arc::from).map_err(|_| CodecError("text is not UTF-8"))
    }

    fn message(&mut self) -> Result<StoredMessage, CodecError> {
        let (qos, retain) = (self.qos()?, self.flag()?);
        let (expires_ms, order) = (self.u64()?, self.u64()?);
        let (topic, from) = (self.text()?, self.text()?);
        let properties = PublishProperties { forwarded: self.bytes()?, expiry: None };
        let payload = self.bytes()?;
        let message =
            Message { topic, payload, qos, retain, from, properties, expires: None, order };
        Ok(StoredMessage { message: Arc::new(message), expires_ms })
    }

    fn will(&mut self) -> Result<StoredWill, CodecError> {
        let due_ms = self.u64()?;
        let (qos, retain, delay) = (self.qos()?, self.flag()?, self.u32()?);
        let (has_expiry, expiry) = (self.flag()?, self.u32()?);
        let topic = self.text()?;
        let properties =
            PublishProperties { forwarded: self.bytes()?, expiry: has_expiry.then_some(expiry) };
        let payload = self.bytes()?;
        Ok(StoredWill { due_ms, will: Will { topic, payload, qos, retain, delay, properties } })
    }

    fn end<T>(self, value: T) -> Result<T, CodecError> {
        if self.0.is_empty() { Ok(value) } else { Err(CodecError("bytes are left over")) }
    }
}
