//! Tickets that wait for their lsn to become durable.
//!
//! They wait in the order of the lsn they need, which is nearly the order in which they come: only a
//! publish that is wholly a duplicate needs an earlier one than the publishes before it. The order
//! towards a client is the broker's business.
//!
//! Tickets enter under the pipeline's lock, which [`Acks::failed`]'s caller holds as well: so no
//! ticket can enter for an lsn that has failed already.

use std::collections::VecDeque;

use loushan_broker::handler::Acknowledgement;
use parking_lot::Mutex;

use crate::pipeline::counts::{Taken, Tally};

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// It leaves after the sync that covers its frame (invariant I1).
    Durable,
    /// It leaves once the frame was appended: what is acknowledged within one sync interval before
    /// a crash, or before a failed sync, is lost. Only for [`crate::wal::SyncPolicy::Interval`].
    Appended,
}

/// A ticket and how it will be answered.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The lsn that must be durable.
    pub(crate) lsn: u64,
    pub(crate) taken: Taken,
    pub(crate) acknowledgement: Acknowledgement,
    pub(crate) tally: Tally,
}

impl Waiting {
    fn answer(self) {
        self.taken.durable(self.acknowledgement, &self.tally);
    }
}

/// What became of a ticket that entered.
#[derive(Debug)]
#[must_use = "a ticket that need not wait is still to be answered"]
pub(crate) enum Entered {
    /// It waits.
    Waits,
    /// It need not wait.
    Answer(Waiting),
    /// It would wait in vain.
    Fail(Waiting),
}

impl Entered {
    /// Tells whoever waits. Not under a lock: whom it tells may call back.
    pub(crate) fn settle(self) {
        match self {
            Self::Waits => {}
            Self::Answer(waiting) => waiting.answer(),
            Self::Fail(waiting) => drop(waiting),
        }
    }
}

#[derive(Debug)]
struct Queue {
    /// In rising order of lsn.
    waiting: VecDeque<Waiting>,
    durable: u64,
    closed: bool,
}

/// The waiting tickets.
#[derive(Debug)]
pub(crate) struct Acks {
    queue: Mutex<Queue>,
    promise: Promise,
}

impl Acks {
    pub(crate) fn new(promise: Promise) -> Self {
        let queue = Queue { waiting: VecDeque::new(), durable: 0, closed: false };
        Self { queue: Mutex::new(queue), promise }
    }

    /// Answers once the ticket's lsn is durable. What need not wait is handed back.
    pub(crate) fn enter(&self, waiting: Waiting) -> Entered {
        let mut queue = self.queue.lock();
        if waiting.lsn <= queue.durable || self.promise == Promise::Appended {
            return Entered::Answer(waiting);
        }
        if queue.closed {
            return Entered::Fail(waiting);
        }
        if queue.waiting.back().is_none_or(|last| last.lsn <= waiting.lsn) {
            queue.waiting.push_back(waiting);
        } else {
            let at = queue.waiting.partition_point(|other| other.lsn <= waiting.lsn);
            queue.waiting.insert(at, waiting);
        }
        Entered::Waits
    }

    /// Everything up to `up_to` is durable.
    pub(crate) fn durable(&self, up_to: u64) {
        let released: Vec<Waiting> = {
            let mut queue = self.queue.lock();
            queue.durable = queue.durable.max(up_to);
            let end = queue.waiting.partition_point(|waiting| waiting.lsn <= up_to);
            queue.waiting.drain(..end).collect()
        };
        released.into_iter().for_each(Waiting::answer);
    }

    /// Nothing above `above` will be durable.
    pub(crate) fn failed(&self, above: u64) {
        let failed: Vec<Waiting> = {
            let mut queue = self.queue.lock();
            let start = queue.waiting.partition_point(|waiting| waiting.lsn <= above);
            queue.waiting.drain(start..).collect()
        };
        drop(failed);
    }

    /// Nothing more will be durable: whatever waits, and whatever comes, fails.
    pub(crate) fn close(&self) {
        let failed: VecDeque<Waiting> = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.waiting)
        };
        drop(failed);
    }

    /// Tickets that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }
}
