//! A publish on its way to subscribers.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use crate::handler::QoS;
use crate::wire::{self, PublishProperties, Will};

/// What subscribers get, before each subscription makes its own of it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    /// The publisher's.
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// The publisher's client id (No Local).
    pub(crate) from: Arc<str>,
    /// Properties for v5 subscribers; `expiry` is as the publisher said it.
    pub(crate) properties: PublishProperties,
    /// When it stops being of use.
    pub(crate) expires: Option<Instant>,
    /// Of two retained messages of a topic the one with the greater number was published later. 0
    /// for all that are not retained.
    pub(crate) order: u64,
}

impl Message {
    pub(crate) fn from_publish(publish: wire::Publish, from: Arc<str>, order: u64) -> Self {
        Self {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            from,
            order,
            expires: expires(&publish.properties),
            properties: publish.properties,
        }
    }

    pub(crate) fn from_will(will: Will, from: Arc<str>, order: u64) -> Self {
        Self {
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            from,
            order,
            expires: expires(&will.properties),
            properties: will.properties,
        }
    }

    /// The same in memory of its own: a payload as read keeps a whole read buffer alive.
    pub(crate) fn detached(self) -> Self {
        Self {
            payload: Bytes::copy_from_slice(&self.payload),
            properties: PublishProperties {
                forwarded: Bytes::copy_from_slice(&self.properties.forwarded),
                ..self.properties
            },
            ..self
        }
    }

    /// The same for the same topic and payload, within this process.
    pub(crate) fn digest(&self) -> u64 {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        hasher.hash_one((&self.topic, &self.payload))
    }

    /// Bytes it counts as in a queue.
    pub(crate) fn cost(&self) -> usize {
        const OVERHEAD: usize = 128;
        self.topic.len() + self.payload.len() + self.properties.forwarded.len() + OVERHEAD
    }
}

fn expires(properties: &PublishProperties) -> Option<Instant> {
    let seconds = properties.expiry?;
    Instant::now().checked_add(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn message(topic: &str, payload: &str) -> Arc<Message> {
        Arc::new(Message {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos: QoS::AtLeastOnce,
            retain: true,
            from: "publisher".into(),
            properties: PublishProperties::default(),
            expires: None,
            order: 0,
        })
    }
}
