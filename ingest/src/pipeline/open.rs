//! Opening the pipeline: log, snapshot, replay.
//!
//! The state is that of the last snapshot and of every frame after it. A snapshot that is missing,
//! unreadable, of another log, or older than the log's oldest frame cannot lose or double a reading:
//! frames are deleted only below the embedded store's cursor, so whatever the state has forgotten
//! the store knows. Only the price changes: every reading that is not in the state must be asked for,
//! so such a start is slower from then on, is logged as an error, and [`Opened::distrusts`] says so.
//! Counters, and what the registry knew, begin anew.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;

use super::core::Core;
use super::counts::Counts;
use super::decide::{Decider, State, StateLimits};
use super::dedup::StoredKeys;
use super::dedup::devices::{EVERYTHING, NOTHING};
use super::gate::Gate;
use super::keeper::Keeper;
use super::lookup::Lookup;
use super::replay::{self, ReplayError};
use super::snapshot::{self, Snapshot};
use super::{Pipeline, Promise};
use crate::ack::Acks;
use crate::clock::Clock;
use crate::io::Io;
use crate::registry::Registry;
use crate::sink::{Feed, SinkStatus};
use crate::tail::{LogSource, Tail};
use crate::wal::{self, Log, LogOptions, Lsn, ReadError, Recovery, SyncPolicy};

/// How the pipeline behaves. [`Default`] is what `serve` uses when nothing is configured.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// The log's.
    pub log: LogOptions,
    /// Bounds of the dedup state. It is held twice: live, and by the keeper.
    pub state: StateLimits,
    /// Bound of the tail that sinks read from memory.
    pub tail_bytes: usize,
    /// Bound of the publishes that wait for an answer of the store.
    pub lookup_bytes: usize,
    /// A snapshot is taken after so many bytes of payload…
    pub snapshot_bytes: u64,
    /// …or after so long, if anything came.
    pub snapshot_interval: Duration,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            state: StateLimits::default(),
            tail_bytes: 128 << 20,
            lookup_bytes: 32 << 20,
            // Four segments: a start then replays a second or two.
            snapshot_bytes: 256 << 20,
            snapshot_interval: Duration::from_secs(300),
        }
    }
}

/// What the pipeline is made of.
#[derive(Clone)]
pub struct Parts {
    /// The file system.
    pub io: Arc<dyn Io>,
    /// The data folder, which exists and whose lock the caller holds. The log lies in `log/`, the
    /// snapshot in `pipeline.snapshot`.
    pub dir: PathBuf,
    /// The clock.
    pub clock: Clock,
    /// What the embedded store knows.
    pub stored: Arc<dyn StoredKeys>,
    /// The greatest lsn that any sink's cursor or manifest names: none at or below is given out.
    pub floor: u64,
    /// Where stations and latest readings are kept.
    pub registry: Arc<Registry>,
}

/// An open pipeline.
#[derive(Debug)]
pub struct Opened {
    /// The handler.
    pub pipeline: Arc<Pipeline>,
    /// To be run as a task.
    pub keeper: Keeper,
    /// What was found in the log.
    pub recovery: Recovery,
    /// Frames that were replayed into the state.
    pub replayed: u64,
    /// There was no snapshot to go on from, though frames are gone: the store is asked for everything.
    pub distrusts: bool,
}

/// Why the pipeline was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log was not opened.
    #[error("the log cannot be opened")]
    Log(#[from] wal::OpenError),
    /// The log could not be read again.
    #[error("the log cannot be replayed")]
    Read(#[from] ReadError),
    /// A frame of it cannot be given back.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A thread could not be started, or the snapshot's file not be read.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl Pipeline {
    /// Recovers the log and rebuilds the state. Blocks for that.
    ///
    /// # Errors
    /// When the log, or a frame of it, cannot be read. Nothing was changed that a later try needs.
    pub fn open(parts: Parts, options: PipelineOptions) -> Result<Opened, OpenError> {
        let Parts { io, dir, clock, stored, floor, registry } = parts;
        let path = dir.join(snapshot::FILE);
        let found = snapshot::read(&*io, &path).map_err(|source| OpenError::Io {
            what: "the pipeline's snapshot cannot be read",
            source,
        })?;
        let snapshot_lsn = found.as_ref().map_or(0, Snapshot::lsn);
        let promise = match options.log.sync {
            SyncPolicy::Always => Promise::Durable,
            SyncPolicy::Interval(_) => Promise::Appended,
        };
        let core = Arc::new(Core {
            decider: Mutex::new(Decider::new(State::new(options.state, NOTHING))),
            acks: Acks::new(promise),
            tail: Arc::new(Tail::new(0, options.tail_bytes)),
            gate: Gate::new(),
            counts: Arc::new(Counts::default()),
            stored: Arc::clone(&stored),
            durable: AtomicU64::new(0),
        });
        let floor = Lsn(floor.max(snapshot_lsn).max(stored.cursor()));
        let events = Arc::clone(&core);
        let log_dir = dir.join("log");
        let (log, recovery) = Log::open(Arc::clone(&io), &log_dir, options.log, floor, events)?;

        let begins_after = log.stats().begins_after.0;
        let usable = found.filter(|found| found.fits(log.id(), begins_after));
        let cursor = usable.as_ref().map_or(0, Snapshot::lsn);
        let distrusts = usable.is_none() && begins_after > 0;
        if distrusts {
            tracing::error!(
                begins_after,
                "no snapshot of the pipeline's state goes with the log: the store is asked for every reading"
            );
        }
        let mark = if distrusts { EVERYTHING } else { NOTHING };
        let mut state = State::new(options.state, mark);
        state.devices.stored(stored.cursor());
        if let Some(usable) = usable {
            usable.restore(&mut state, &registry);
        }
        let mut reader = log.reader(Lsn(cursor));
        let mut replayed = 0;
        while let Some(frame) = reader.next()? {
            let frame = replay::frame(frame.lsn.0, frame.body)?;
            state.apply(&frame);
            registry.apply(&frame);
            replayed += 1;
        }
        let position = reader.position().0.max(cursor);
        core.recovered(state.clone(), log.durable().0);

        let (lookup, thread) = Lookup::start(Arc::clone(&core), log.clone(), options.lookup_bytes)
            .map_err(|source| OpenError::Io { what: "no thread for lookups", source })?;
        let source = LogSource::new(&core.tail, log.clone());
        let status = SinkStatus::new("snapshot");
        let keeper = Keeper {
            feed: Feed::resume(Box::new(source), cursor, position, status),
            state: Arc::new(Mutex::new(state)),
            registry,
            core: Arc::clone(&core),
            io,
            path,
            log: log.clone(),
            every_bytes: options.snapshot_bytes,
            every: options.snapshot_interval,
        };
        let lookup_thread = Mutex::new(Some(thread));
        let pipeline = {
            let ages = super::ages::Ages::default();
            Arc::new(Self { core, log, clock, ages, lookup, lookup_thread })
        };
        Ok(Opened { pipeline, keeper, recovery, replayed, distrusts })
    }
}
