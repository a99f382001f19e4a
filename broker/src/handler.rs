//! The seam between the broker and whoever takes responsibility for what is published.
//!
//! The broker hands a claimed PUBLISH to the [`PublishHandler`] together with an [`AckTicket`].
//! Nothing is acknowledged to the client before that ticket says [`AckOutcome::Durable`]. A ticket
//! that is dropped means *failed*: silence is never success (invariant I8), and a failed ticket
//! closes its connection with no acknowledgement at or behind it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

/// Quality of service of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// At most once: nothing is acknowledged.
    AtMostOnce = 0,
    /// At least once: PUBACK.
    AtLeastOnce = 1,
    /// Exactly once: PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

/// Who publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A connected client, by its client id.
    Client(Arc<str>),
    /// The broker itself, publishing the will of the client with that id.
    Will(Arc<str>),
}

/// A PUBLISH, as it came.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Topic name, valid per MQTT (no wildcard, no U+0000, not empty).
    pub topic: Arc<str>,
    /// The payload, unopened.
    pub payload: Bytes,
    /// The publisher's quality of service.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// Who sent it.
    pub origin: Origin,
}

/// Which order of acknowledgements a publish belongs to. Within a lane PUBACKs leave in PUBLISH
/// order; lanes of one connection do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Telemetry, replay, status and everything else.
    Normal,
    /// Alarms: never behind a long replay.
    Priority,
}

/// What an acknowledged publish is acknowledged as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acknowledgement {
    /// Readings of the publish that were rejected (and kept in the dead letter).
    pub rejected: u32,
    /// The first reject's reason, from a closed list.
    pub reason: Option<&'static str>,
    /// Nothing of the publish was accepted: v5 clients get 0x99, payload format invalid.
    pub nothing_accepted: bool,
}

/// How a ticket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckOutcome {
    /// Decoded, checked and on disk.
    Durable(Acknowledgement),
    /// Not on disk, and it will not be: the connection closes unacknowledged and the client sends
    /// again.
    Failed,
}

/// Where a connection learns how its tickets ended. Called from any thread, never blocks.
pub trait AckReceiver: Send + Sync + 'static {
    /// The ticket that was made with `slot` ended so. Called once for each ticket.
    fn resolve(&self, slot: u64, outcome: AckOutcome);
}

/// The right, and the duty, to say how one publish ended.
#[must_use = "a ticket that is dropped counts as failed and closes its connection"]
pub struct AckTicket {
    receiver: Option<Arc<dyn AckReceiver>>,
    slot: u64,
}

impl AckTicket {
    /// A ticket that reports to `receiver` as `slot`.
    pub fn new(receiver: Arc<dyn AckReceiver>, slot: u64) -> Self {
        Self { receiver: Some(receiver), slot }
    }

    /// The publish is durable.
    pub fn durable(self, acknowledgement: Acknowledgement) {
        self.end(AckOutcome::Durable(acknowledgement));
    }

    /// The publish is lost to us: close the connection, so that the client sends it again.
    pub fn failed(self) {
        self.end(AckOutcome::Failed);
    }

    fn end(mut self, outcome: AckOutcome) {
        if let Some(receiver) = self.receiver.take() {
            receiver.resolve(self.slot, outcome);
        }
    }
}

impl Drop for AckTicket {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.resolve(self.slot, AckOutcome::Failed);
        }
    }
}

impl fmt::Debug for AckTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckTicket").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// The handler cannot take this now: everything is handed back, to be offered again once
/// [`PublishHandler::ready`] resolves. Meanwhile the socket is not read and its keep-alive timer
/// stands still.
#[derive(Debug)]
pub struct Busy {
    /// What was offered.
    pub publish: Publish,
    /// Its ticket, unanswered.
    pub ticket: AckTicket,
}

/// Takes responsibility for claimed publishes.
pub trait PublishHandler: Send + Sync + 'static {
    /// Whether publishes to this topic are the handler's, and in which order of acknowledgements.
    /// `None` leaves them to ordinary MQTT. A pure function of the topic, and cheap.
    fn claims(&self, topic: &str) -> Option<Lane>;

    /// Takes a claimed publish. Answers through the ticket, from any thread, in any order; the
    /// broker restores the order. Must not block beyond a short lock. For QoS 0 the ticket is
    /// answered as well, so that subscribers get it after durability; its failure closes nothing.
    ///
    /// # Errors
    /// [`Busy`] hands publish and ticket back.
    // The error is as large as the call's own arguments, and moves only when we are overloaded.
    #[allow(clippy::result_large_err)]
    fn handle(&self, publish: Publish, ticket: AckTicket) -> Result<(), Busy>;

    /// Resolves when [`PublishHandler::handle`] is worth another try. Cancel-safe.
    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
