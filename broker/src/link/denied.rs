//! What a client may not do: counted, logged once a minute, and refused in its turn.
//!
//! A refused publish waits in its lane like any other, so that no acknowledgement overtakes one before
//! it. An MQTT 5 client is then told (0x87). A 3.1.1 client can be told nothing: it is disconnected, or
//! acknowledged as if all were well, as `denied_publish` has it [MQTT-3.3.5-2]. At QoS 0 there is nothing
//! to answer in either version; the publish is dropped.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{End, Link, Pending};
use crate::config::DeniedPublish;
use crate::handler::{AckOutcome, Acknowledgement, Lane, QoS};
use crate::wire::encode::{self, AckKind};
use crate::wire::reason::Reason;
use crate::wire::{self, Version};

/// How often one client's refusals are logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Refusals of one client since they were logged.
#[derive(Debug, Default)]
pub(super) struct Denials {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Denials {
    /// Counts a refusal; how many there were since the last one that was logged, if this one is.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        let due = self.logged.is_none_or(|logged| now.duration_since(logged) >= LOG_EVERY);
        due.then(|| {
            self.logged = Some(now);
            std::mem::take(&mut self.unlogged)
        })
    }
}

impl Link {
    /// A publish that the client may not make.
    pub(super) fn deny_publish(
        &mut self,
        publish: &wire::Publish,
        lane: Lane,
        received: Instant,
        bytes: usize,
    ) {
        self.shared.metrics.publishes_denied.increment(1);
        self.log_denial("publish", &publish.topic);
        let (id, qos) = (publish.id, publish.qos);
        if qos == QoS::AtMostOnce {
            return self.release(bytes);
        }
        self.acks.resolved(lane, AckOutcome::Durable(Acknowledgement::default()));
        self.pend(lane, Pending { id, qos, received, bytes, message: None, denied: true });
    }

    /// A filter that the client may not subscribe to.
    pub(super) fn deny_subscribe(&mut self, filter: &str) {
        self.shared.metrics.subscriptions_denied.increment(1);
        self.log_denial("subscribe", filter);
    }

    /// The turn of a refused publish has come.
    pub(super) fn send_denial(
        &mut self,
        lane: usize,
        pending: &Pending,
        out: &mut BytesMut,
    ) -> Result<(), End> {
        let failed = self.failed.get_mut(lane);
        if failed.as_deref().is_some_and(|failed| *failed) {
            return Ok(());
        }
        match (self.client.version, self.shared.config.denied_publish) {
            (Version::V5, _) => {
                self.unacknowledged = self.unacknowledged.saturating_sub(1);
                let kind = match pending.qos {
                    // It ends the exchange: no PUBREL follows.
                    QoS::ExactlyOnce => AckKind::Received,
                    _ => AckKind::Ack,
                };
                self.shared.metrics.acks_rejected.increment(1);
                encode::ack(out, Version::V5, kind, pending.id, Reason::NOT_AUTHORIZED, &[]);
                Ok(())
            }
            (Version::V311, DeniedPublish::Acknowledge) => {
                self.send_ack(pending.id, pending.qos, Acknowledgement::default(), out);
                Ok(())
            }
            (Version::V311, DeniedPublish::Disconnect) => {
                // Nothing behind it is acknowledged any more.
                if let Some(failed) = failed {
                    *failed = true;
                }
                Err(End::invalid(
                    "a publish to a topic that the client may not use",
                    Reason::NOT_AUTHORIZED,
                ))
            }
        }
    }

    fn log_denial(&mut self, what: &'static str, topic: &str) {
        if let Some(count) = self.denials.count(Instant::now()) {
            let topic: String = topic.chars().take(120).collect();
            tracing::warn!(client = %self.client.id, what, ?topic, count,
                "a client does what it may not; not logged again for a minute");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_logged_once_a_minute_with_how_many_there_were() {
        let mut denials = Denials::default();
        let start = Instant::now();
        assert_eq!(denials.count(start), Some(1));
        assert_eq!(denials.count(start + LOG_EVERY / 2), None);
        assert_eq!(denials.count(start + LOG_EVERY), Some(2));
    }
}
