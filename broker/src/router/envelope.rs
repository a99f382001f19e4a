//! A message as it travels through the router.
//!
//! ```text
//! topic    "p/" or "s/" (for `$`-topics), then the topic
//! payload  the payload
//! correlation data:
//!   u8   QoS, and 0x80 if retained
//!   u64  milliseconds from the epoch (of this process) to its expiry, or u64::MAX
//!   u16  length of the publisher's client id, and the id
//!   ...  the v5 properties that are forwarded, as on the wire
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttd::protocol;
use tokio::time::Instant;

use crate::handler::QoS;
use crate::message::Message;
use crate::wire::PublishProperties;

const RETAINED: u8 = 0x80;
const NEVER: u64 = u64::MAX;

/// A topic or filter as the router knows it.
pub(super) fn prefixed(name: &str) -> String {
    let prefix = if name.starts_with('$') { "s/" } else { "p/" };
    [prefix, name].concat()
}

/// Packs a message; `epoch` is what its expiry is counted from.
pub(super) fn pack(message: &Message, epoch: Instant) -> protocol::Packet {
    let from = message.from.as_bytes();
    let mut envelope = BytesMut::with_capacity(11 + from.len());
    let retained = if message.retain { RETAINED } else { 0 };
    envelope.put_u8(message.qos as u8 | retained);
    let expires = message.expires.map_or(NEVER, |at| {
        u64::try_from(at.saturating_duration_since(epoch).as_millis()).unwrap_or(NEVER)
    });
    envelope.put_u64(expires);
    // A client id came in a CONNECT with its length in two bytes.
    envelope.put_u16(u16::try_from(from.len()).unwrap_or(u16::MAX));
    envelope.put_slice(from);
    envelope.put_slice(&message.properties.forwarded);
    let properties = protocol::PublishProperties {
        correlation_data: Some(envelope.freeze()),
        ..protocol::PublishProperties::default()
    };
    let topic = Bytes::from(prefixed(&message.topic));
    let publish = protocol::Publish::new(topic, message.payload.clone(), false);
    protocol::Packet::Publish(publish, Some(properties))
}

/// Unpacks what [`pack`] packed; `None` for anything else.
pub(super) fn unpack(
    topic: &Bytes,
    payload: Bytes,
    mut envelope: Bytes,
    epoch: Instant,
) -> Option<Message> {
    let topic = std::str::from_utf8(topic.get(2..)?).ok()?;
    let flags = envelope.try_get_u8().ok()?;
    let expires = envelope.try_get_u64().ok()?;
    let len = usize::from(envelope.try_get_u16().ok()?);
    if envelope.len() < len {
        return None;
    }
    let from = envelope.split_to(len);
    let qos = match flags & 0x03 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    Some(Message {
        topic: topic.into(),
        payload,
        qos,
        retain: flags & RETAINED != 0,
        from: std::str::from_utf8(&from).ok()?.into(),
        properties: PublishProperties { forwarded: envelope, expiry: None },
        order: 0,
        expires: if expires == NEVER {
            None
        } else {
            epoch.checked_add(Duration::from_millis(expires))
        },
    })
}

/// The message of a copy, and which filter brought it.
pub(super) fn open(forward: rumqttd::Forward, epoch: Instant) -> Option<(Arc<Message>, usize)> {
    let properties = forward.properties?;
    let key = *properties.subscription_identifiers.first()?;
    let publish = forward.publish;
    let message = unpack(&publish.topic, publish.payload, properties.correlation_data?, epoch)?;
    Some((Arc::new(message), key))
}
