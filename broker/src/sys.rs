//! `$SYS/broker/…`: the broker's own figures, for whoever subscribes to them.
//!
//! They are published at quality of service 0 every `sys_interval`, and the last ones are kept for
//! subscribers to come, like retained messages but in a store of their own: they take no room from
//! clients' messages and do not outlive the process. Topics are those that other brokers use; a
//! *message* is a PUBLISH. Clients may not publish there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::Shared;
use crate::handler::QoS;
use crate::message::Message;
use crate::retained::Retained;
use crate::wire::PublishProperties;

/// Room for the last figures: there are about a dozen.
const KEPT_BYTES: usize = 64 * 1024;

/// What went over all connections.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    messages_received: AtomicU64,
    messages_sent: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
}

/// What went over one connection and is not counted yet: the common counters are touched once in a
/// turn and not with every message.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_received: usize,
    pub(crate) bytes_sent: usize,
}

impl Traffic {
    /// Bytes received and sent so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.bytes_received), read(&self.bytes_sent))
    }

    /// Adds a connection's tally.
    pub(crate) fn count(&self, tally: &Tally) {
        let add = |counter: &AtomicU64, amount: u64| {
            if amount > 0 {
                counter.fetch_add(amount, Ordering::Relaxed);
            }
        };
        add(&self.messages_received, tally.messages_received);
        add(&self.messages_sent, tally.messages_sent);
        add(&self.bytes_received, tally.bytes_received as u64);
        add(&self.bytes_sent, tally.bytes_sent as u64);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sys {
    pub(crate) traffic: Traffic,
    pub(crate) last: Retained,
    started: Instant,
    /// `None`: figures are never published.
    next: Mutex<Option<Instant>>,
}

impl Sys {
    pub(crate) fn new(interval: Duration) -> Self {
        let now = Instant::now();
        Self {
            traffic: Traffic::default(),
            last: Retained::new(KEPT_BYTES, None),
            started: now,
            next: Mutex::new((!interval.is_zero()).then_some(now)),
        }
    }
}

impl Shared {
    /// Publishes the broker's figures if it is time.
    pub(crate) fn publish_figures(&self, now: Instant) {
        {
            let mut next = self.sys.next.lock();
            let Some(due) = next.as_mut().filter(|due| **due <= now) else { return };
            *due = now + self.config.sys_interval;
        }
        let from: Arc<str> = "".into();
        let order = self.next_order();
        for (name, value) in self.figures(now) {
            let message = Message {
                topic: ["$SYS/broker/", name].concat().into(),
                payload: Bytes::from(value),
                qos: QoS::AtMostOnce,
                retain: true,
                from: Arc::clone(&from),
                properties: PublishProperties::default(),
                expires: None,
                order,
            };
            self.sys.last.set(&Arc::new(message.clone()));
            self.fan_out(message);
        }
    }

    fn figures(&self, now: Instant) -> [(&'static str, String); 12] {
        let traffic = &self.sys.traffic;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        let (connected, away) = self.registry.counts();
        let uptime = now.saturating_duration_since(self.sys.started).as_secs();
        [
            ("version", concat!("loushan ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("uptime", format!("{uptime} seconds")),
            ("clients/connected", connected.to_string()),
            ("clients/disconnected", away.to_string()),
            ("clients/total", (connected + away).to_string()),
            ("messages/received", read(&traffic.messages_received)),
            ("messages/sent", read(&traffic.messages_sent)),
            ("bytes/received", read(&traffic.bytes_received)),
            ("bytes/sent", read(&traffic.bytes_sent)),
            ("subscriptions/count", self.subscriptions.count().to_string()),
            ("retained messages/count", self.retained.count().to_string()),
            ("retained messages/bytes", self.retained.bytes().to_string()),
        ]
    }
}
