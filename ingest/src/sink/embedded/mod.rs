//! The embedded store: the default sink, and the answer to every question about stored readings.
//!
//! # On disk
//! ```text
//! store/MANIFEST                                      which files there are; the sink's cursor
//! store/kind=water/date=2026-11-24/0000000007.parquet rows of a kind whose effective time (UTC)
//!                                                     lies on that date, sorted by device and time
//! ```
//! One table per kind and one of derived rows, [`Table`]; any Parquet reader opens the
//! folder (`read_parquet('store/kind=water/*/*.parquet', hive_partitioning = true)`). A reader from
//! outside may meet a file that is no longer, or not yet, the store's; inside, only files of one
//! version of the `manifest` are read.
//!
//! # Life of a row
//! The sink's task puts durable frames into the active `memtable`. When that is full or old it
//! becomes the flushing one; its rows are written to files of their dates, aside, synced, renamed,
//! the folders synced; then **one record of the manifest adds the files and moves the cursor**, and
//! in the same moment, under one lock, the files replace the memtable in what queries see. A row is
//! thus in exactly one place for every query at every moment, and after a crash it is in a file
//! below the cursor or comes out of the log again above it (invariants I3 and I6).
//!
//! # Life of a file
//! A thread of low priority (`upkeep`) merges small files of a day into larger ones while the day is
//! live and into few when it is quiet (`compact`), and removes days that are kept no longer
//! (`retain`). Each step is **one record of the manifest** that adds and takes out files and leaves
//! the cursor where it is. A file that was taken out is deleted when no question holds a version that
//! names it (`graves`); a copy of one version for others is a [`Snapshot`].
//!
//! # What is never done
//! * A file is never changed after its rename, and its number never used again.
//! * The cursor never moves but by the record that adds the rows below it.
//! * A failed write loses nothing: the rows stay in memory, bounded, the feed is read no further, and
//!   the flush is tried again; a file whose writing failed is never written again, its rows go into
//!   a new one.
//! * A block whose checksum is wrong is never decoded (`block`).
//! * Files the manifest does not name are deleted at the start, and only if it could be read.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::wal::LogId;

mod block;
mod compact;
mod decode;
mod flush;
mod graves;
mod manifest;
mod memtable;
mod query;
mod retain;
mod scan;
mod schema;
mod sink;
mod snapshot;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod upkeep;
mod write;

pub use query::{
    Aggregate, Aggregated, Among, Bins, Bounds, By, Cell, EXACT_VALUES, Function, Gap, Gaps, Group,
    Order, Page, Position, SKETCH_ERROR, Seen, Silence, Stop, Turns, Which, batch_of, field_of,
    is_numeric, rows_of, schema_of,
};
pub use retain::{Expired, KindRetention, Removal, RetentionConfig};
pub use schema::Table;
pub use sink::{EmbeddedSink, SinkError};
pub use snapshot::{Snapshot, SnapshotError};
pub use store::{Store, StoreInfo, StoreStats, TableStats};
pub use upkeep::Upkeep;
pub use write::{WaterInterval, encode_readings};

/// How the store gathers rows into files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Rows in memory at which files are written.
    pub flush_rows: u64,
    /// Bytes of rows in memory at which files are written. While they are written as much again may
    /// gather; then the log is read no further.
    pub flush_bytes: usize,
    /// Age of the oldest row in memory at which files are written. Rows in memory are answered for
    /// like all others and are safe in the log, so a long age costs nothing but the log's segments,
    /// and a short one makes many small files.
    pub flush_age: Duration,
    /// Bytes taken from the log at once.
    pub feed_bytes: usize,
    /// Bytes of file footers kept in memory.
    pub footer_cache_bytes: usize,
    /// Pause after a first failed write; each further one doubles it.
    pub retry_first: Duration,
    /// Longest pause after failed writes.
    pub retry_longest: Duration,
    /// How long an ordered stop waits for the last rows to be in files before they are left to the
    /// log, which gives them again at the next start.
    pub stop_within: Duration,
    /// How files are merged.
    pub compaction: CompactionConfig,
    /// How long what is stored is kept.
    pub retention: RetentionConfig,
}

/// How the store merges its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionConfig {
    /// Whether it does.
    pub enabled: bool,
    /// Files of about one size that are merged into one.
    pub min_files: usize,
    /// Bytes that a merged file should have.
    pub target_bytes: u64,
    /// Memory for the files that are read at once.
    pub memory_bytes: u64,
    /// How long nothing must have come to a day that is over before its last merge.
    pub quiet: Duration,
    /// The share of the time that is spent merging, in percent.
    pub share_percent: u32,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            min_files: 8,
            target_bytes: 128 * 1024 * 1024,
            memory_bytes: 256 * 1024 * 1024,
            quiet: Duration::from_secs(600),
            share_percent: 50,
        }
    }
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            flush_rows: 200_000,
            flush_bytes: 128 * 1024 * 1024,
            flush_age: Duration::from_secs(60),
            feed_bytes: 4 * 1024 * 1024,
            footer_cache_bytes: 64 * 1024 * 1024,
            retry_first: Duration::from_millis(200),
            retry_longest: Duration::from_secs(10),
            stop_within: Duration::from_secs(30),
            compaction: CompactionConfig::default(),
            retention: RetentionConfig::default(),
        }
    }
}

/// The store cannot be opened. Nothing that was stored has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused.
    #[error("{path}: {why}", path = path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        why: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is damaged: {why}; restore the store's folder from a backup, or move it away to \
             start an empty one", path = path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The store was filled from another log: its cursor means nothing in this one.
    #[error("{path}: the store belongs to log {store}, not to log {log}; store and log are \
             moved, restored and deleted together", path = path.display())]
    ForeignLog {
        /// The manifest.
        path: PathBuf,
        /// The store's log.
        store: LogId,
        /// The log at hand.
        log: LogId,
    },
    /// There are data files but no manifest that names them: deleting them as strays would be wrong.
    #[error("{path} is there but the store has no MANIFEST; restore it from a backup, or move the \
             folder away to start an empty store", path = path.display())]
    NoManifest {
        /// The first such file.
        path: PathBuf,
    },
}

/// A query cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A file cannot be read now.
    #[error("{path}: {why}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        why: io::Error,
    },
    /// A file is damaged; it will stay so.
    #[error("{path} is damaged: {why}; restore it from a backup", path = path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The answer would take more memory than one may.
    #[error("the answer takes more than the {limit} bytes of memory one may have; {remedy}")]
    TooLarge {
        /// How much it may take.
        limit: usize,
        /// How to ask for less.
        remedy: &'static str,
    },
    /// The answer took longer than one may.
    #[error("the answer took too long; ask for a shorter span of time, or for fewer devices")]
    Expired,
    /// Rows and columns do not go together; a defect of this program.
    #[error("rows cannot be turned into columns: {0}")]
    Encode(String),
    /// Whoever asked does not wait for the answer.
    #[error("the question was taken back")]
    Cancelled,
}
