//! A publish on its way to subscribers.

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
}

impl Message {
    pub(crate) fn from_publish(publish: wire::Publish, from: Arc<str>) -> Self {
        Self {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            from,
            expires: expires(&publish.properties),
            properties: publish.properties,
        }
    }

    pub(crate) fn from_will(will: Will, from: Arc<str>) -> Self {
        Self {
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            from,
            expires: expires(&will.properties),
            properties: will.properties,
        }
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
