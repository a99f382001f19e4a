//! What the connections' threads, the log's thread and the sinks share.
//!
//! One lock, the decider's, makes a decision, its lsn, its place in the tail and its waiting ticket
//! one step. The log's thread takes it only to undo a failed sync. Locks are taken in this order:
//! decider → log (within `append`) → tail, queue of tickets, books; none of the latter is held while
//! another is taken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::counts::{Counts, Taken};
use super::decide::{Answers, Decider, Decision, State};
use super::dedup::devices::Question;
use super::dedup::{ReadingKey, StoredKeys};
use super::gate::Gate;
use super::prepare::Prepared;
use crate::ack::{Acks, Waiting};
use crate::tail::Tail;
use crate::wal::{AppendError, Log, LogEvents, Lsn};

pub(crate) struct Core {
    pub(crate) decider: Mutex<Decider>,
    pub(crate) acks: Acks,
    pub(crate) tail: Arc<Tail>,
    pub(crate) gate: Gate,
    pub(crate) counts: Arc<Counts>,
    pub(crate) stored: Arc<dyn StoredKeys>,
    pub(crate) durable: AtomicU64,
}

/// A publish that was not taken. Nothing has happened, but its readings' quality may have been
/// lowered: to be decided again later it must be prepared anew.
#[derive(Debug)]
pub(crate) struct Untaken {
    pub(crate) publish: Prepared,
    pub(crate) hindrance: Hindrance,
}

/// Why a publish was not taken.
#[derive(Debug)]
pub(crate) enum Hindrance {
    /// The store must be asked first.
    Ask(Question, Vec<(u64, ReadingKey)>),
    /// Try again when the gate opens.
    Busy(Why),
    /// Never try again.
    Closed,
}

/// What a busy pipeline waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    LogFull,
    DiskFull,
    LogFailed,
    StoreBehind,
}

impl Core {
    /// Decides a publish. `take` makes the ticket that will be answered; it is called once, and
    /// only if the publish is taken.
    pub(crate) fn attempt(
        &self,
        log: &Log,
        mut publish: Prepared,
        answers: &Answers,
        take: impl FnOnce(u32) -> Option<Taken>,
    ) -> Result<(), Box<Untaken>> {
        let untaken = |publish, hindrance| Err(Box::new(Untaken { publish, hindrance }));
        let mut decider = self.decider.lock();
        decider.state.devices.settle(self.durable.load(Ordering::Acquire));
        decider.state.devices.stored(self.stored.cursor());
        let mut decision = decider.decide(log, &mut publish, answers);
        if matches!(decision, Decision::Refused(AppendError::TooLarge { .. })) {
            publish.cut();
            decision = decider.decide(log, &mut publish, answers);
        }
        let readings = publish.readings();
        let (lsn, answer, tally) = match decision {
            Decision::Known { lsn, answer, tally, redelivered } => {
                if redelivered {
                    self.counts.note(|figures| figures.redelivered_batches += 1);
                }
                (lsn, answer, tally)
            }
            Decision::Appended { lsn, answer, tally, reused, unknown_fields } => {
                let frame = publish.into_frame(lsn, decider.duplicates());
                self.tail.push(Arc::new(frame));
                if reused || unknown_fields {
                    self.counts.note(|figures| {
                        figures.seq_reuse += u64::from(reused);
                        figures.unknown_fields += u64::from(unknown_fields);
                    });
                }
                (lsn, answer, tally)
            }
            Decision::Ask(question, keys) => {
                return untaken(publish, Hindrance::Ask(question, keys));
            }
            Decision::Full => return untaken(publish, Hindrance::Busy(Why::StoreBehind)),
            Decision::Refused(error) => {
                let hindrance = match error {
                    AppendError::Full => Hindrance::Busy(Why::LogFull),
                    AppendError::DiskFull | AppendError::LimitReached => {
                        Hindrance::Busy(Why::DiskFull)
                    }
                    AppendError::Failed => Hindrance::Busy(Why::LogFailed),
                    // Too large even when cut: the log's limit is below a few hundred bytes.
                    AppendError::TooLarge { .. } | AppendError::Closed => Hindrance::Closed,
                };
                return untaken(publish, hindrance);
            }
        };
        let Some(taken) = take(readings) else { return Ok(()) };
        let acknowledgement = answer.acknowledgement();
        // Still under the decider's lock: a failed sync either sees this ticket or comes first.
        let answered = self.acks.enter(Waiting { lsn, taken, acknowledgement, tally });
        drop(decider);
        answered.settle();
        Ok(())
    }

    /// A question to the store was answered, and the answer used or given up.
    pub(crate) fn answered(&self, question: &Question) {
        self.decider.lock().state.devices.answered(question);
    }

    /// Starts with what was recovered.
    pub(crate) fn recovered(&self, state: State, durable: u64) {
        self.decider.lock().state = state;
        self.durable.store(durable, Ordering::Release);
        self.acks.durable(durable);
        self.tail.recovered(durable);
    }
}

impl LogEvents for Core {
    fn durable(&self, up_to: Lsn) {
        self.durable.store(up_to.0, Ordering::Release);
        // Tickets first: somebody waits for them.
        self.acks.durable(up_to.0);
        self.tail.durable(up_to.0);
    }

    fn failed(&self, above: Lsn, up_to: Lsn, error: &io::Error) {
        tracing::error!(above = above.0, up_to = up_to.0, %error, "a sync of the log failed: what it covered is not acknowledged");
        {
            let mut decider = self.decider.lock();
            decider.state.devices.roll_back(above.0);
            decider.state.batches.roll_back(above.0);
            self.tail.roll_back(above.0);
        }
        // Nothing is appended before this returns, so what waits above has failed.
        self.acks.failed(above.0);
    }

    fn writable(&self) {
        self.gate.open();
    }
}
