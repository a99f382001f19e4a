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

use serde::{Deserialize, Serialize};

use crate::wal::LogId;

mod block;
mod decode;
mod flush;
mod graves;
mod manifest;
mod memtable;
mod query;
mod scan;
mod schema;
mod sink;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use query::{
    Aggregate, Aggregated, Bins, Bounds, By, Cell, EXACT_VALUES, Function, Gap, Gaps, Group, Order,
    Page, Position, SKETCH_ERROR, Seen, Silence, Stop, Turns, Which, batch_of, field_of,
    is_numeric, rows_of, schema_of,
};
pub use schema::Table;
pub use sink::{EmbeddedSink, SinkError};
pub use store::{Store, StoreInfo, StoreStats, TableStats};
pub use write::{WaterInterval, encode_readings};

/// How the store gathers rows into files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// Rows in memory at which files are written.
    pub flush_rows: u64,
    /// Bytes of rows in memory at which files are written. While they are written as much again may
    /// gather; then the log is read no further.
    pub flush_bytes: usize,
    /// Age of the oldest row in memory at which files are written. Rows in memory are answered for
    /// like all others and are safe in the log, so a long age costs nothing but the log's segments,
    /// and a short one makes many small files.
    #[serde(with = "humantime_text")]
    pub flush_age: Duration,
    /// Bytes taken from the log at once.
    pub feed_bytes: usize,
    /// Bytes of file footers kept in memory.
    pub footer_cache_bytes: usize,
    /// Pause after a first failed write; each further one doubles it.
    #[serde(with = "humantime_text")]
    pub retry_first: Duration,
    /// Longest pause after failed writes.
    #[serde(with = "humantime_text")]
    pub retry_longest: Duration,
    /// How long an ordered stop waits for the last rows to be in files before they are left to the
    /// log, which gives them again at the next start.
    #[serde(with = "humantime_text")]
    pub stop_within: Duration,
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
        }
    }
}

/// Durations as text, `60s`.
mod humantime_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|e| D::Error::custom(format!("{text:?} is no duration such as 60s: {e}")))
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
