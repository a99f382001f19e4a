//! Bytes to packets and back, MQTT 3.1.1 and 5, into one internal form.
//!
//! Why a codec of our own. Three were at hand and none holds invariant I10 on a server:
//! * rumqttd's `protocol` keeps QoS and packet id of a PUBLISH private, and its 3.1.1 writer panics
//!   when it is given properties;
//! * rumqttc's `v5::mqttbytes` refuses the two-byte DISCONNECT that every v5 client sends, knows no
//!   AUTH, and lets a property run past the end of its property block;
//! * rumqttc's `mqttbytes::v4` and both others accept reserved flags, U+0000 in strings, wildcards
//!   in topic names and repeated properties, and copy every topic.
//!
//! What is decoded here is valid as far as one packet can tell: reserved bits, packet id 0, QoS 3,
//! UTF-8, U+0000, topic names and filters, properties that do not belong or come twice, and bytes
//! that are left over are all refused with the reason code that MQTT 5 gives them. What needs the
//! connection's state (a CONNECT that comes twice, the receive maximum) is `link`'s.
//!
//! Nothing here indexes, slices or allocates by a length that the sender only claims: a packet is
//! decoded when all of it is there, and its size was checked when its fixed header was.

pub(crate) mod decode;
pub(crate) mod encode;
mod packets;
pub(crate) mod properties;
mod reader;
pub(crate) mod reason;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::handler::QoS;
use reason::Reason;

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    /// Protocol level 4.
    V311,
    /// Protocol level 5.
    V5,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Packet {
    Connect(Box<Connect>),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    PingReq,
    Disconnect(Disconnect),
}

/// CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: Arc<str>,
    /// v3.1.1 Clean Session, v5 Clean Start.
    pub(crate) clean: bool,
    /// Seconds; 0 is none.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Will>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Bytes>,
    /// v5 only; `None` is absent.
    pub(crate) session_expiry: Option<u32>,
    /// How many QoS 1 and 2 publishes the client takes unacknowledged.
    pub(crate) receive_maximum: u16,
    /// The greatest packet the client takes.
    pub(crate) max_packet: Option<u32>,
    /// Topic aliases that the client takes.
    pub(crate) topic_alias_maximum: u16,
    /// The client asks what topics for responses to it begin with.
    pub(crate) response_information: bool,
    /// Whether acknowledgements may carry a reason string and user properties.
    pub(crate) problem_information: bool,
    /// An authentication method was named: we have none.
    pub(crate) authentication_method: bool,
}

/// A will, as CONNECT carries it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Will {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Seconds between the connection's end and the will.
    pub(crate) delay: u32,
    pub(crate) properties: PublishProperties,
}

/// PUBLISH, from a client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Publish {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// 0 at QoS 0 and never else.
    pub(crate) id: u16,
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) properties: PublishProperties,
}

/// The properties of a PUBLISH that concern its receivers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PublishProperties {
    /// Those that are forwarded unaltered and in order, as they are on the wire: payload format,
    /// content type, response topic, correlation data, user properties.
    pub(crate) forwarded: Bytes,
    /// Seconds that the message is of use.
    pub(crate) expiry: Option<u32>,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) id: u16,
    pub(crate) reason: Reason,
}

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Subscribe {
    pub(crate) id: u16,
    /// The v5 subscription identifier.
    pub(crate) subscription_id: Option<u32>,
    pub(crate) filters: Vec<SubscribeFilter>,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SubscribeFilter {
    pub(crate) filter: Arc<str>,
    pub(crate) options: SubscribeOptions,
}

/// How a filter is subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubscribeOptions {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: RetainHandling,
}

/// When a SUBSCRIBE brings retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetainHandling {
    Always,
    IfNew,
    Never,
}

/// UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unsubscribe {
    pub(crate) id: u16,
    pub(crate) filters: Vec<Arc<str>>,
}

/// DISCONNECT, from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disconnect {
    pub(crate) reason: Reason,
    pub(crate) session_expiry: Option<u32>,
}

/// Why bytes are not a packet that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} (reason code 0x{:02x})", .reason.0)]
pub(crate) struct WireError {
    /// What a v5 client is told.
    pub(crate) reason: Reason,
    /// What the log says.
    pub(crate) what: &'static str,
}

impl WireError {
    pub(crate) const fn malformed(what: &'static str) -> Self {
        Self { reason: Reason::MALFORMED_PACKET, what }
    }

    pub(crate) const fn protocol(what: &'static str) -> Self {
        Self { reason: Reason::PROTOCOL_ERROR, what }
    }
}
