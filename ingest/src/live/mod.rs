//! The live feed: the city as it is now, once a second, for whoever watches.
//!
//! ```text
//!  log ──► tap ──► Seen ─┐                     ┌─► client ─► socket
//!                        ├─► tick (1/s) ─► watch ─► client ─► socket
//!  service ──► Sample ───┘                     └─► client ─► socket
//! ```
//!
//! It is a tap (MECHANISMS 6): it reads durable frames as a sink does, has no cursor, holds no segment
//! of the log and slows nobody down. When it falls behind it jumps to the end and counts what it passed
//! over. Once a second one task makes a [`Tick`] of what was seen and of the service's own figures; its
//! bytes are rendered once for all clients of one [`Scope`].
//!
//! A client holds the newest tick and no queue: one that reads slowly gets the newest state, with every
//! station in it, and sees by the gap in the ticks' numbers that it missed some. What it asked to see
//! reading by reading waits in a queue bounded in bytes; what does not fit is counted.
//!
//! Bounds: clients by `live.clients`, a client's readings by `live.reading_bytes`, payloads kept for the
//! station page by `live.batch_bytes`, figures by `live.history`, the rest by what the registry holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loushan_schemas::ids::StationId;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::registry::Registry;

mod client;
mod examples;
mod history;
mod marks;
mod render;
mod sample;
mod seen;
mod stations;
mod tap;
#[cfg(test)]
mod tests;
mod tick;
mod watching;

pub use client::{Client, Full};
pub use examples::Example;
pub use history::SERIES;
pub use sample::Sample;
pub use seen::Batch;
pub(crate) use stations::state_of;
pub(crate) use tap::tap;
pub use tick::Tick;
pub(crate) use tick::ticking;

use history::History;
use seen::Seen;
use watching::Watches;

/// The bounds of the live feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveLimits {
    /// Clients at a time.
    pub clients: usize,
    /// Seconds of figures that are kept.
    pub history: usize,
    /// Bytes of recent batches, for the stations' pages.
    pub batch_bytes: usize,
    /// Bytes of readings that wait for one client.
    pub reading_bytes: usize,
}

impl Default for LiveLimits {
    fn default() -> Self {
        Self { clients: 64, history: 180, batch_bytes: 32 << 20, reading_bytes: 256 << 10 }
    }
}

/// Whose figures somebody may see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole city's.
    City,
    /// Those of one project's stations.
    Project(Arc<str>),
}

impl Scope {
    /// The project, where it is one's.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        match self {
            Self::City => None,
            Self::Project(project) => Some(project),
        }
    }

    /// Whether what is of this project may be seen.
    #[must_use]
    pub fn covers(&self, project: Option<&str>) -> bool {
        self.project().is_none_or(|own| project == Some(own))
    }
}

/// What is live.
#[derive(Debug)]
pub struct Live {
    limits: LiveLimits,
    registry: Arc<Registry>,
    clock: Clock,
    started_ms: i64,
    seen: Mutex<Seen>,
    history: Mutex<History>,
    now: watch::Sender<Arc<Tick>>,
    watches: Watches,
    places: Arc<Semaphore>,
    /// Frames that the tap passed over since the start.
    skipped: AtomicU64,
    ended: CancellationToken,
}

impl Live {
    /// A feed that has seen nothing.
    #[must_use]
    pub fn new(limits: LiveLimits, registry: Arc<Registry>, clock: Clock) -> Self {
        let started_ms = clock.now().ms();
        Self {
            registry,
            started_ms,
            seen: Mutex::new(Seen::new(limits.batch_bytes)),
            history: Mutex::new(History::new(limits.history)),
            now: watch::Sender::new(Arc::new(Tick::empty(started_ms))),
            watches: Watches::new(limits.reading_bytes),
            places: Arc::new(Semaphore::new(limits.clients.min(Semaphore::MAX_PERMITS))),
            skipped: AtomicU64::new(0),
            ended: CancellationToken::new(),
            clock,
            limits,
        }
    }

    /// When it began, in Unix milliseconds: about the start of the process.
    #[must_use]
    pub fn started_ms(&self) -> i64 {
        self.started_ms
    }

    /// The newest tick.
    #[must_use]
    pub fn tick(&self) -> Arc<Tick> {
        Arc::clone(&self.now.borrow())
    }

    /// Clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.limits.clients.saturating_sub(self.places.available_permits())
    }

    /// Frames that the tap passed over since the start, because it was behind.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// The figures of the last seconds, as one JSON object.
    #[must_use]
    pub fn history(&self, scope: &Scope) -> serde_json::Value {
        self.history.lock().json(scope)
    }

    /// Accepted readings of a station in each of the last seconds, oldest first, and the bytes of the
    /// payloads that brought them.
    #[must_use]
    pub fn traffic(&self, station: &StationId) -> (Vec<u32>, Vec<u32>) {
        self.seen.lock().stations.traffic(station)
    }

    /// Accepted readings a second of a station, of the last ten seconds.
    #[must_use]
    pub fn rate(&self, station: &StationId) -> f64 {
        self.seen.lock().stations.rate(station)
    }

    /// What came of a station last, newest first; only since the start, and as far as there is room.
    #[must_use]
    pub fn batches(&self, station: &StationId) -> Vec<Batch> {
        self.seen.lock().recent.of(station)
    }

    /// What was rejected last, newest first, for each reason.
    #[must_use]
    pub fn examples(&self) -> Vec<Example> {
        self.seen.lock().examples.all()
    }

    /// When a frame was durable, in Unix milliseconds, to some hundredths of a second; `None` of one
    /// that became so before the start, or too long ago.
    #[must_use]
    pub fn durable_ms(&self, lsn: u64) -> Option<i64> {
        self.seen.lock().durable.reached(lsn)
    }

    /// When the embedded store had a frame in a file, in Unix milliseconds, to a second; `None` where
    /// it has not, or did so before the start or too long ago.
    #[must_use]
    pub fn stored_ms(&self, lsn: u64) -> Option<i64> {
        self.seen.lock().stored.reached(lsn)
    }

    /// Tells clients that no more will come, and lets them go.
    pub fn close(&self) {
        self.ended.cancel();
    }
}
