//! The process's books (invariant I2), in readings:
//! `received = accepted + duplicate + rejected + shed + undecided`.
//!
//! A publish that cannot be decoded counts as one reading; births, deaths and results of commands
//! have none. *Received* is counted when a publish is taken, from its payload; the classes when its
//! ticket ends, from its verdict; *undecided* up and down by what was taken. So the books agree only
//! if every reading got exactly one verdict and every ticket ended once: the residue proves it. They
//! change under one lock, so that they agree at any moment they are read.

use std::sync::Arc;

use loushan_broker::handler::{AckTicket, Acknowledgement};
use loushan_schemas::reject::RejectReason;
use parking_lot::Mutex;

/// One more than the greatest number of a reject reason.
const REASONS: usize = RejectReason::ALL.len() + 1;

/// The books at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// Taken in.
    pub received: u64,
    /// Stored for the first time.
    pub accepted: u64,
    /// Stored before.
    pub duplicate: u64,
    /// Kept in the dead letter.
    pub rejected: u64,
    /// Taken in, and given up before any acknowledgement: the sender still has them (QoS 0: had).
    pub shed: u64,
    /// Taken in, not answered yet.
    pub undecided: u64,
    /// Publishes that came again, byte for byte.
    pub redelivered_batches: u64,
    /// Publishes with the name of an earlier one and other bytes.
    pub seq_reuse: u64,
    /// Accepted publishes with fields this build does not know.
    pub unknown_fields: u64,
    by_reason: [u64; REASONS],
}

impl Figures {
    /// What the books leave unexplained; zero (invariant I2).
    #[must_use]
    pub fn residue(&self) -> i64 {
        let explained = self.accepted + self.duplicate + self.rejected + self.shed + self.undecided;
        self.received.cast_signed().wrapping_sub(explained.cast_signed())
    }

    /// Readings rejected for this reason.
    #[must_use]
    pub fn rejected_for(&self, reason: RejectReason) -> u64 {
        self.by_reason.get(usize::from(reason.number())).copied().unwrap_or(0)
    }
}

/// The verdict on a publish, in readings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: u32,
    pub(crate) duplicate: u32,
    /// One entry per rejected reading.
    pub(crate) rejected: Vec<RejectReason>,
}

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<Figures>);

impl Counts {
    pub(crate) fn figures(&self) -> Figures {
        self.0.lock().clone()
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.0.lock());
    }
}

/// A ticket that was taken, with what it counts. Dropping it sheds its readings.
#[derive(Debug)]
pub(crate) struct Taken {
    counts: Arc<Counts>,
    ticket: Option<AckTicket>,
    readings: u64,
}

impl Taken {
    /// Takes a publish of so many readings in.
    pub(crate) fn new(counts: &Arc<Counts>, ticket: AckTicket, readings: u32) -> Self {
        let readings = u64::from(readings);
        counts.note(|figures| {
            figures.received += readings;
            figures.undecided += readings;
        });
        Self { counts: Arc::clone(counts), ticket: Some(ticket), readings }
    }

    /// The same, if it turned out to have another number of readings: what does not fit a frame is
    /// one undecodable thing.
    pub(crate) fn recounted(mut self, readings: u32) -> Self {
        let (old, new) = (self.readings, u64::from(readings));
        if old != new {
            self.readings = new;
            self.counts.note(|figures| {
                figures.received = figures.received - old + new;
                figures.undecided = figures.undecided - old + new;
            });
        }
        self
    }

    /// The promise is kept: counts the verdict and answers.
    pub(crate) fn durable(mut self, acknowledgement: Acknowledgement, tally: &Tally) {
        let Some(ticket) = self.ticket.take() else { return };
        let readings = self.readings;
        self.counts.note(|figures| {
            figures.undecided -= readings;
            figures.accepted += u64::from(tally.accepted);
            figures.duplicate += u64::from(tally.duplicate);
            figures.rejected += tally.rejected.len() as u64;
            for reason in &tally.rejected {
                if let Some(count) = figures.by_reason.get_mut(usize::from(reason.number())) {
                    *count += 1;
                }
            }
        });
        ticket.durable(acknowledgement);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let readings = self.readings;
            self.counts.note(|figures| {
                figures.undecided -= readings;
                figures.shed += readings;
            });
            ticket.failed();
        }
    }
}
