//! What a question may take: memory, time, and turns of one core.
//!
//! A question looks at its [`Stop`] before every batch of rows, so that it ends within milliseconds of
//! whoever asked going away or of its time being up. What it keeps it first asks its [`Budget`] for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::{FairMutex, FairMutexGuard};

use super::super::QueryError;

const RUNNING: u8 = 0;
const CANCELLED: u8 = 1;
const EXPIRED: u8 = 2;

/// Ends a question from outside. Clones end the same one.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Nobody waits for the answer any more.
    pub fn cancel(&self) {
        self.end(CANCELLED);
    }

    /// The time for the answer is up.
    pub fn expire(&self) {
        self.end(EXPIRED);
    }

    fn end(&self, why: u8) {
        // What came first stands; it is what is told.
        let _ended_before =
            self.0.compare_exchange(RUNNING, why, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// An error once the question is to end.
    ///
    /// # Errors
    /// [`QueryError::Cancelled`] or [`QueryError::Expired`].
    pub fn check(&self) -> Result<(), QueryError> {
        match self.0.load(Ordering::Relaxed) {
            RUNNING => Ok(()),
            CANCELLED => Err(QueryError::Cancelled),
            _ => Err(QueryError::Expired),
        }
    }
}

/// Turns of one core. Questions that read much take one for every batch of rows, in the order they
/// came: however many there are, they keep one core busy and leave the others to the devices.
#[derive(Debug, Default)]
pub struct Turns(FairMutex<()>);

/// The bounds of one question.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Ends it from outside.
    pub stop: Stop,
    /// Bytes it may keep; 0 bounds nothing.
    pub memory: usize,
    /// Whose turns it takes, if it does.
    pub turns: Option<Arc<Turns>>,
}

impl Bounds {
    /// A turn for one batch of rows, unless the question is to end.
    pub(super) fn turn(&self) -> Result<Option<FairMutexGuard<'_, ()>>, QueryError> {
        let turn = self.turns.as_deref().map(|turns| turns.0.lock());
        self.stop.check()?;
        Ok(turn)
    }

    /// Its memory, none of it taken yet. `remedy` tells whoever asked how to need less.
    pub(super) fn budget(&self, remedy: &'static str) -> Budget {
        let limit = if self.memory == 0 { usize::MAX } else { self.memory };
        Budget { limit, used: 0, remedy }
    }
}

/// Memory of a question, bounded.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: usize,
    remedy: &'static str,
}

impl Budget {
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), QueryError> {
        if bytes > self.left() {
            return Err(self.exceeded());
        }
        self.used += bytes;
        Ok(())
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    pub(super) fn left(&self) -> usize {
        self.limit - self.used
    }

    pub(super) fn exceeded(&self) -> QueryError {
        QueryError::TooLarge { limit: self.limit, remedy: self.remedy }
    }
}
