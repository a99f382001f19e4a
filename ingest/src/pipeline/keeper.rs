//! The task that keeps the registry up to date and takes snapshots of the pipeline's state.
//!
//! It is fed like any sink, with durable frames, and applies them to a state of its own, by the same
//! code that rebuilds the state at start. So a snapshot is exactly the state after one durable lsn,
//! taking it stops nobody, and the way by which a restart will come to its state is walked all the
//! time. The price is a second state in memory; the alternatives cost more: copying the live state
//! under its lock stops every publish, and copying it piece by piece gives a state that never was,
//! with readings in it whose sync may yet fail.
//!
//! The snapshot's lsn is a cursor of the log like any sink's.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::core::Core;
use super::decide::State;
use super::frame::DurableFrame;
use super::snapshot;
use crate::io::{Io, replace_file};
use crate::registry::Registry;
use crate::sink::{Fed, Feed, FeedError, SinkStatus};
use crate::wal::{AppendError, Log};

/// Bytes of frames taken at once.
const FEED_BYTES: usize = 1 << 20;
/// The longest time without a look at the clock, and the shortest between two openings of the gate.
const LOOK: Duration = Duration::from_millis(200);

/// The shortest time between two snapshots while the log waits for the first of them.
const PRESSED: Duration = Duration::from_secs(1);

/// Why the keeper ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The log could not be read: the service must stop.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The last snapshot could not be written. The one before still stands, and the log still has
    /// the frames after it.
    #[error("the last snapshot of the pipeline's state could not be written")]
    Snapshot(#[source] io::Error),
}

/// Keeps registry and snapshots.
pub struct Keeper {
    pub(super) feed: Feed,
    /// Only ever locked by this task and by what it waits for.
    pub(super) state: Arc<Mutex<State>>,
    pub(super) registry: Arc<Registry>,
    pub(super) core: Arc<Core>,
    pub(super) io: Arc<dyn Io>,
    pub(super) path: PathBuf,
    pub(super) log: Log,
    pub(super) every_bytes: u64,
    pub(super) every: Duration,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("feed", &self.feed).finish_non_exhaustive()
    }
}

/// What came since the last snapshot.
struct Since {
    bytes: u64,
    readings: u64,
    at: Instant,
    /// When the gate was opened last.
    opened: Instant,
}

impl Keeper {
    /// The snapshot's figures; its cursor belongs among those given to [`super::Pipeline::trim`].
    #[must_use]
    pub fn status(&self) -> Arc<SinkStatus> {
        Arc::clone(self.feed.status())
    }

    /// Runs until the pipeline is closed and everything durable was taken, and takes a last
    /// snapshot. Not to be cancelled, but nothing is lost if it is.
    ///
    /// # Errors
    /// When the log cannot be read, or the last snapshot not be written. A snapshot that fails on
    /// the way is tried again.
    pub async fn run(mut self) -> Result<(), KeeperError> {
        let now = Instant::now();
        let mut since = Since { bytes: 0, readings: 0, at: now, opened: now };
        loop {
            match self.feed.next(FEED_BYTES, LOOK).await? {
                Fed::Closed => break,
                Fed::Frames { frames, .. } => {
                    self.take(&frames, &mut since);
                    if !frames.is_empty() {
                        self.feed.status().set_pending(since.readings);
                    }
                }
            }
            if since.opened.elapsed() >= LOOK && self.core.gate.shut() {
                // The store may have caught up, so that there is something to forget again. The log
                // opens the gate itself.
                since.opened = Instant::now();
                self.core.gate.open();
            }
            let due = since.bytes >= self.every_bytes
                || since.at.elapsed() >= self.every
                || since.at.elapsed() >= PRESSED && self.is_waited_for();
            if due && self.behind() {
                // Logged and shown; the next one may succeed.
                let _tried = self.snapshot(&mut since).await;
            } else if due {
                since.at = Instant::now();
            }
        }
        if !self.behind() {
            return Ok(());
        }
        self.snapshot(&mut since).await.map_err(KeeperError::Snapshot)
    }

    /// The log has no room, and may have some once there is a snapshot.
    fn is_waited_for(&self) -> bool {
        let refuses = || self.log.stats().refuses;
        self.core.gate.shut()
            && matches!(refuses(), Some(AppendError::DiskFull | AppendError::LimitReached))
    }

    fn behind(&self) -> bool {
        self.feed.position() > self.feed.status().cursor()
    }

    fn take(&self, frames: &[Arc<DurableFrame>], since: &mut Since) {
        let mut state = self.state.lock();
        state.devices.stored(self.core.stored.cursor());
        for frame in frames {
            state.apply(frame);
            self.registry.apply(frame);
            since.bytes += frame.payload.len() as u64;
            since.readings += frame.rows.len() as u64;
        }
    }

    /// Takes a snapshot, on a thread that may block.
    async fn snapshot(&mut self, since: &mut Since) -> io::Result<()> {
        let lsn = self.feed.position();
        let (state, registry) = (Arc::clone(&self.state), Arc::clone(&self.registry));
        let (io, path, log_id) = (Arc::clone(&self.io), self.path.clone(), self.log.id());
        let written = tokio::task::spawn_blocking(move || {
            let bytes = snapshot::encode(lsn, log_id, &state.lock(), &registry);
            replace_file(&*io, &path, &bytes)
        });
        let written = written.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        let status = self.feed.status();
        match &written {
            Ok(()) => {
                status.advance(lsn);
                status.stored(since.readings);
                status.set_pending(0);
                status.set_trouble(None);
                since.readings = 0;
            }
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%error, %path, "no snapshot of the pipeline's state could be written: the log is not shortened");
                status.set_trouble(Some(format!("cannot write {path}: {error}")));
            }
        }
        // After a failure as well: the next try comes in its time.
        since.bytes = 0;
        since.at = Instant::now();
        written
    }
}
