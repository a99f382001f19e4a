//! What the broker holds for absent clients, kept across a restart: retained messages, sessions, their
//! subscriptions and the messages that wait for them.
//!
//! # What is promised
//!
//! * A PUBACK or PUBREC of an ordinary publish that is retained, or that waits for a session that
//!   outlives its connection, leaves after the commit that has it; a publish that touches neither is
//!   acknowledged at once. A SUBACK or UNSUBACK of such a session leaves after its commit, too.
//! * What was committed is there after a kill or a power loss, all of a commit or nothing.
//! * At quality of service 2 nothing is lost, and nothing comes twice as long as the broker runs or was
//!   stopped in order. A kill may repeat a message whose last commit had not come: which packet ids of a
//!   *publisher* wait for PUBREL is not kept.
//!
//! # What is not
//!
//! * Copies of claimed publishes (the uplinks of stations) are written behind: the reading itself is
//!   durable in the log before it is fanned out, and no station's PUBACK waits for this database. A
//!   kill may take the copies of the last moments.
//! * The retained messages that a SUBSCRIBE brings are its connection's: after a kill a client gets
//!   them by subscribing again.
//! * The will of a client that was connected when the broker was killed is not published: as with an
//!   ordered stop its client is well, and we were the cause. A will that was already waiting for its
//!   delay is kept, and published when it is due. The session of such a client begins to expire with
//!   the restart.
//! * Sessions that end with their connection cost nothing and leave no trace.
//!
//! * A [parcel](crate::parcel) is on disk before its sender hears that it was taken, and in the database
//!   until a day after it was delivered or expired.
//!
//! # How
//!
//! One thread owns the database ([redb], one file, copy on write). Whoever changes something notes it
//! in [`pending`], under a short lock, and goes on; the thread takes all that has gathered, writes it
//! in one transaction with one sync, and answers the tickets of those who wait. A commit without
//! tickets is put off a little, so that what comes and goes meanwhile is never written.
//!
//! A commit that fails fails its tickets (their connections close unacknowledged), is shown by
//! [`Store::trouble`], and is tried again with everything that has come since, on the database opened
//! anew, until the disk takes it: what memory holds and what the database holds agree again then.
//!
//! # What bounds it
//!
//! The file holds what the broker holds: `retained_bytes`, `total_queue_bytes` (every session's copy of
//! a message counts), `max_sessions` with `max_subscriptions` and at most one will each, and the parcels.
//! Pages that are free are used again; a file that is mostly free is compacted when it is opened. While
//! a disk refuses, what would have to be removed from it is remembered by its key.
//!
//! A disk that does not answer holds up its own thread and who waits for a commit: what they wait with
//! takes no room of the publishes that wait for the log, and an ordered stop leaves it.
//!
//! Times are kept in Unix milliseconds, by the clock that [`StoreOptions`] brings.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::{Duration, Instant};

mod codec;
mod kept;
mod open;
mod pending;
mod restore;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub(crate) use kept::Kept;
pub use open::OpenError;
use tables::Loaded;
pub(crate) use writer::Store;

/// Unix milliseconds now.
pub type ClockMs = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Where the database is and what time it is.
#[derive(Clone)]
pub struct StoreOptions {
    /// The folder of its own that the database's file is in; it is made. `None` keeps it in memory,
    /// where it outlives nothing: for tests.
    pub folder: Option<PathBuf>,
    /// The time.
    pub clock: ClockMs,
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The database, opened and read; a broker is made with it.
#[derive(Debug)]
pub struct Opened {
    pub(crate) store: Arc<Store>,
    loaded: Loaded,
}

impl Opened {
    /// Opens the database, makes it if there is none, and reads what it holds. Blocks.
    ///
    /// # Errors
    /// When it cannot be read: it is never taken for an empty one.
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let (database, reopen, loaded) = open::open(options.folder.as_deref())?;
        let first_number =
            loaded.sessions.iter().map(|session| session.record.number).max().unwrap_or(0) + 1;
        let store = Store::start(database, reopen, options.clock, first_number)
            .map_err(OpenError::Thread)?;
        Ok(Self { store, loaded })
    }

    #[cfg(test)]
    pub(crate) fn parcels(self) -> Vec<(u64, crate::parcel::Parcel)> {
        self.loaded.parcels
    }
}

/// A moment of this process as Unix ms; what lies behind us is now.
fn to_ms(at: Instant, now_ms: u64) -> u64 {
    let ahead = at.saturating_duration_since(Instant::now()).as_millis();
    now_ms.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX)).min(codec::NEVER - 1)
}

/// Unix ms as a moment of this process; what lies behind us is now.
pub(crate) fn from_ms(at_ms: u64, now_ms: u64) -> Instant {
    let now = Instant::now();
    // A year, when the sum does not exist: longer than any process of ours runs.
    now.checked_add(Duration::from_millis(at_ms.saturating_sub(now_ms)))
        .unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600))
}
