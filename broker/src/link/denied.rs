//! What a client may not do: counted, logged once a minute, and refused in its turn; and topics that
//! the broker does not take.
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
use crate::topic;
use crate::wire::Version;
use crate::wire::encode::{self, AckKind};
use crate::wire::reason::Reason;

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

/// Why a publish is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    reason: Reason,
    /// For people.
    said: &'static str,
}

impl Link {
    /// Why a publish to the topic is not taken, if it is not.
    pub(super) fn refusal(&mut self, topic: &str) -> Option<Refused> {
        if !self.shared.config.topic_limits().allow(topic) {
            self.shared.metrics.topics_refused.increment(1);
            let said = "a topic longer or deeper than this broker takes";
            return Some(Refused { reason: Reason::TOPIC_NAME_INVALID, said });
        }
        if !topic::is_brokers_own(topic) && self.rights.may_publish(topic) {
            return None;
        }
        self.shared.metrics.publishes_denied.increment(1);
        self.log_denial("publish", topic);
        let said = "a publish to a topic that the client may not use";
        Some(Refused { reason: Reason::NOT_AUTHORIZED, said })
    }

    /// Takes no publish, but its place among the others.
    pub(super) fn refuse(&mut self, lane: Lane, pending: Pending) {
        if pending.qos == QoS::AtMostOnce {
            return self.release(pending.bytes);
        }
        self.acks.resolved(lane, AckOutcome::Durable(Acknowledgement::default()));
        self.pend(lane, pending);
    }

    /// A filter that the client may not subscribe to.
    pub(super) fn deny_subscribe(&mut self, filter: &str) {
        self.shared.metrics.subscriptions_denied.increment(1);
        self.log_denial("subscribe", filter);
    }

    /// The turn of a refused publish has come.
    pub(super) fn send_refusal(
        &mut self,
        lane: usize,
        pending: &Pending,
        Refused { reason, said }: Refused,
        out: &mut BytesMut,
    ) -> Result<(), End> {
        let failed = self.failed.get_mut(lane);
        if failed.as_deref().is_some_and(|failed| *failed) {
            return Ok(());
        }
        let denied = reason == Reason::NOT_AUTHORIZED;
        match (self.client.version, self.shared.config.denied_publish) {
            (Version::V5, _) => {
                self.unacknowledged = self.unacknowledged.saturating_sub(1);
                let kind = match pending.qos {
                    // It ends the exchange: no PUBREL follows.
                    QoS::ExactlyOnce => AckKind::Received,
                    _ => AckKind::Ack,
                };
                self.shared.metrics.acks_rejected.increment(1);
                self.explain(out, Some(said), |out, said| {
                    encode::ack_said(out, Version::V5, kind, pending.id, reason, said);
                });
                Ok(())
            }
            (Version::V311, DeniedPublish::Acknowledge) if denied => {
                self.send_ack(pending.id, pending.qos, Acknowledgement::default(), out);
                Ok(())
            }
            (Version::V311, _) => {
                // Nothing behind it is acknowledged any more.
                if let Some(failed) = failed {
                    *failed = true;
                }
                Err(End::invalid(said, reason))
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
