//! From a PUBLISH to a durable verdict.
//!
//! ```text
//!  connection's thread                          under one short lock          log thread
//! ┌─────────┐  ┌────────┐  ┌───────────┐  ┌─────────────────────────────┐  ┌──────────────┐
//! │ publish │─►│ decode │─►│ normalize │─►│ dedup, counters, verdict,   │─►│ write, sync, │
//! └─────────┘  └────────┘  └───────────┘  │ append, tail, ticket        │  │ publish      │
//!                                         └─────────────────────────────┘  └──────┬───────┘
//!                  tickets answered, frames visible to sinks ◄── durable(lsn) ────┤
//!                  ids removed, tickets failed, frames gone  ◄── failed(above) ───┘
//! ```
//!
//! # Contract
//!
//! * A ticket says *durable* after the sync that covers its frame, and after that of every frame its
//!   duplicates came with (invariant I1); under [`Promise::Appended`] once it was appended.
//! * Every publish that was taken is answered once; one that cannot become durable fails.
//! * A reading is accepted once: whatever is redelivered, in whatever batch, after whatever crash or
//!   failed sync, is a duplicate if and only if an accepted one with the same key is durable or on
//!   its way there.
//! * A failed frame leaves no trace.
//! * Everything that is held is bounded in bytes (invariant I7); over a bound, publishes are handed
//!   back as busy, and QoS 0 is shed.
//!
//! # Start and end
//!
//! [`Pipeline::open`] recovers the log and rebuilds the state from the last snapshot and the frames
//! after it. Then the sinks get their feeds, the [`keeper::Keeper`] its task, and the broker its
//! handler. The end, in this order: the broker takes no more publishes; [`Pipeline::close`] (blocks)
//! finishes the log and answers every ticket; the sinks and the keeper get what is left and end by
//! themselves; [`Pipeline::trim`] once more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use loushan_broker::handler::{AckTicket, Busy, Lane, Origin, Publish, PublishHandler, QoS};
use loushan_schemas::reject::RejectReason;
use loushan_schemas::time::ReceiveTime;
use loushan_schemas::topic::{Channel, ROOT, Topic};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::sink::{Feed, Lag, SinkStatus};
use crate::tail::LogSource;
use crate::wal::{CloseError, DeleteError, Log, Lsn, ReadError};

pub(crate) mod ages;
pub(crate) mod core;
pub mod counts;
pub mod decide;
pub mod decode;
pub mod dedup;
pub mod frame;
#[cfg(feature = "testing")]
pub(crate) mod fuzzing;
mod gate;
pub mod keeper;
mod lookup;
mod metrics;
pub mod normalize;
mod open;
mod prepare;
pub mod replay;
mod snapshot;
pub mod verdict;

#[cfg(test)]
mod tests;

pub use counts::Figures;
pub use open::{OpenError, Opened, Parts, PipelineOptions};

use self::core::{Core, Hindrance, Untaken};
pub use crate::ack::Promise;
use counts::Taken;
use decide::Answers;
use lookup::{Job, Lookup};
use prepare::{Content, Prepared};

/// Bytes that a queued lookup holds for each of its readings, about.
const LOOKUP_READING_BYTES: usize = 1024;

/// The acknowledged path.
pub struct Pipeline {
    core: Arc<Core>,
    log: Log,
    clock: Clock,
    ages: ages::Ages,
    lookup: Arc<Lookup>,
    lookup_thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("durable", &self.log.durable()).finish_non_exhaustive()
    }
}

/// What is held in memory between stages, in bytes unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Durable frames for the sinks.
    pub tail: usize,
    /// By which duplicates of devices' readings are known.
    pub devices: usize,
    /// By which duplicates of batches are known.
    pub batches: usize,
    /// Publishes that wait for an answer of the store.
    pub lookups: usize,
    /// Publishes that wait for their sync, in number.
    pub tickets_waiting: usize,
    /// Publishes that wait for an answer of the store, in number.
    pub lookups_waiting: usize,
}

impl Pipeline {
    /// The log below, for its figures and its id.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The books (invariant I2).
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.core.counts.figures()
    }

    /// What is held in memory between stages.
    #[must_use]
    pub fn held(&self) -> Held {
        let (devices, batches) = {
            let decider = self.core.decider.lock();
            (decider.state.devices.bytes(), decider.state.batches.bytes())
        };
        Held {
            tail: self.core.tail.bytes(),
            devices,
            batches,
            lookups: self.lookup.bytes(),
            tickets_waiting: self.core.acks.waiting(),
            lookups_waiting: self.lookup.waiting(),
        }
    }

    /// A sink's feed, from behind its cursor.
    #[must_use]
    pub fn feed(&self, cursor: u64, status: Arc<SinkStatus>) -> Feed {
        let source = LogSource::new(&self.core.tail, self.log.clone());
        Feed::new(Box::new(source), cursor, status)
    }

    /// Deletes the log's segments that lie below all cursors (invariant I4); the keeper's must be
    /// among them. Without cursors nothing is deleted. Blocks for the file system.
    ///
    /// # Errors
    /// When the file system refuses; the next call goes on.
    pub fn trim(&self, cursors: &[Arc<SinkStatus>]) -> Result<usize, DeleteError> {
        match cursors.iter().map(|status| status.cursor()).min() {
            Some(below) => self.log.delete_below(Lsn(below)),
            None => Ok(0),
        }
    }

    /// How far a cursor is behind. May read the beginning of a segment of the log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn lag(&self, cursor: u64) -> Result<Lag, ReadError> {
        let durable = self.log.durable().0;
        if cursor >= durable {
            return Ok(Lag::default());
        }
        let received = self.received(cursor.saturating_add(1))?;
        let ns = received.map_or(0, |at| self.clock.now().ns().saturating_sub(at).max(0));
        #[allow(clippy::cast_precision_loss)] // of a gauge
        let seconds = ns as f64 / 1e9;
        Ok(Lag { frames: durable - cursor, bytes: self.log.bytes_after(Lsn(cursor)), seconds })
    }

    /// About when a frame was received, in Unix ns; `None` where that is not known any more.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn received(&self, lsn: u64) -> Result<Option<i64>, ReadError> {
        self.ages.received(&self.log, &self.core.tail.marks, lsn)
    }

    /// The lsn behind which the log has everything that was received from `time_ns` on; `None` if it
    /// does not go back so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn lsn_before(&self, time_ns: i64) -> Result<Option<u64>, ReadError> {
        self.ages.before(&self.log, time_ns)
    }

    /// Ends: what was taken is decided, written, synced and answered; then everything that waits
    /// fails, and the feeds say that no more will come. Blocks for all that. Publishes that come
    /// later fail at once.
    ///
    /// # Errors
    /// When the log could not make durable what it had; those publishes were not acknowledged.
    pub fn close(&self) -> Result<(), CloseError> {
        self.lookup.close();
        if let Some(thread) = self.lookup_thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the lookup thread panicked; its publishes were not acknowledged");
        }
        let closed = self.log.close();
        // Whoever was between its append and the tail has got there after this.
        drop(self.core.decider.lock());
        self.core.acks.close();
        self.core.tail.close();
        // Whoever waits for room is let in, and told.
        self.core.gate.open();
        closed
    }

    /// Whether this build would take readings out of a publish, or record it; nothing happens.
    pub(crate) fn would_take(
        topic: &str,
        payload: &Bytes,
        received: ReceiveTime,
    ) -> Result<u32, RejectReason> {
        match Prepared::new(Arc::from(topic), payload.clone(), received).content {
            Content::Rejected(reason) => Err(reason),
            Content::Recorded(_) => Ok(0),
            Content::Readings(readings) => match (readings.rows.len(), readings.rejects.first()) {
                (0, Some(reject)) => Err(reject.reason),
                (rows, _) => Ok(u32::try_from(rows).unwrap_or(u32::MAX)),
            },
        }
    }

    /// Decides again what was published before: as any other publish, and as received then. A
    /// compressed payload is given as what is in it, as byte for byte the same is a redelivery, which
    /// is not looked into.
    #[allow(clippy::result_large_err)] // the trait's own
    pub(crate) fn resubmit(
        &self,
        topic: &str,
        payload: &Bytes,
        received: ReceiveTime,
        ticket: AckTicket,
    ) -> Result<(), Busy> {
        let publish = Publish {
            topic: Arc::from(topic),
            payload: decode::inflated(payload),
            qos: QoS::AtLeastOnce,
            retain: false,
            origin: Origin::Client("replay".into()),
        };
        self.take(publish, ticket, received)
    }

    #[allow(clippy::result_large_err)] // the trait's own
    fn take(&self, publish: Publish, ticket: AckTicket, received: ReceiveTime) -> Result<(), Busy> {
        let fleeting = publish.qos == QoS::AtMostOnce;
        let generation = self.core.gate.generation();
        if !fleeting && self.core.gate.shut() {
            return Err(Busy { publish, ticket });
        }
        let topic = Arc::clone(&publish.topic);
        let prepared = Prepared::new(topic, publish.payload.clone(), received);
        let mut ticket = Some(ticket);
        let counts = &self.core.counts;
        let mut take = |readings| ticket.take().map(|t| Taken::new(counts, t, readings));
        let attempt = self.core.attempt(&self.log, prepared, &Answers::new(), &mut take);
        let Err(untaken) = attempt else { return Ok(()) };
        let Untaken { publish: prepared, hindrance } = *untaken;
        let readings = prepared.readings();
        match hindrance {
            Hindrance::Ask(question, keys) => {
                let bytes = prepared.payload.len() + readings as usize * LOOKUP_READING_BYTES;
                match self.lookup.room(bytes) {
                    Some(room) => {
                        if let Some(taken) = take(readings) {
                            let question = Some(question);
                            let job = Job { publish: prepared, taken, question, keys };
                            self.lookup.push(room, job);
                        }
                        return Ok(());
                    }
                    None => self.core.answered(&question),
                }
                if self.lookup.closed() {
                    drop(take(readings));
                    return Ok(());
                }
            }
            Hindrance::Busy(why) => tracing::debug!(?why, "a publish was handed back"),
            Hindrance::Closed => {
                drop(take(readings));
                return Ok(());
            }
        }
        if fleeting {
            // Counted as received and shed.
            drop(take(readings));
            return Ok(());
        }
        self.core.gate.refused(generation);
        match ticket {
            Some(ticket) => Err(Busy { publish, ticket }),
            None => Ok(()),
        }
    }
}

impl PublishHandler for Pipeline {
    fn claims(&self, topic: &str) -> Option<Lane> {
        let below = topic.strip_prefix(ROOT)?.strip_prefix('/')?;
        // Commands go to the station. What the grammar does not know is claimed, and rejected to
        // the dead letter: a station with a mistyped topic would otherwise be acknowledged for
        // readings that nobody stores.
        if below.ends_with("/d")
            && Topic::parse(topic).is_ok_and(|topic| topic.channel == Channel::Command)
        {
            return None;
        }
        Some(if below.ends_with("/u/a") { Lane::Priority } else { Lane::Normal })
    }

    fn handle(&self, publish: Publish, ticket: AckTicket) -> Result<(), Busy> {
        self.take(publish, ticket, self.clock.now())
    }

    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.core.gate.ready())
    }
}
