//! What can go wrong, classed by what the caller does next.

use std::io;
use std::path::PathBuf;

use super::codec::VERSION;
use super::{LogId, Lsn};

/// Why an append was refused; the body was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Try again after [`LogEvents::writable`](super::LogEvents::writable).
    #[error("the log's append buffer is full")]
    Full,
    /// Try again after [`LogEvents::writable`](super::LogEvents::writable).
    #[error("the disk has less free space than the log's floor")]
    DiskFull,
    /// Try again after [`LogEvents::writable`](super::LogEvents::writable).
    #[error("the log has reached its size limit")]
    LimitReached,
    /// The last write or sync failed. Try again after [`LogEvents::writable`](super::LogEvents::writable).
    #[error("the log is recovering from a failed write")]
    Failed,
    /// Never try again.
    #[error("a frame of {len} bytes is larger than the log's limit of {max}")]
    TooLarge {
        /// Of the body, in bytes.
        len: usize,
        /// The greatest allowed.
        max: u32,
    },
    /// Never try again.
    #[error("the log is closed")]
    Closed,
}

/// What could not be written before the log was closed.
#[derive(Debug, thiserror::Error)]
#[error("the log was closed with frames above lsn {durable} void")]
pub struct CloseError {
    /// The last durable lsn.
    pub durable: Lsn,
}

/// Why no segments were deleted, or not all that could have been.
#[derive(Debug, thiserror::Error)]
#[error("cannot delete the log segment {}", path.display())]
pub struct DeleteError {
    /// Of the segment.
    pub path: PathBuf,
    /// What the file system said.
    #[source]
    pub source: io::Error,
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operator mends the disk.
    #[error("cannot open the log at {}", path.display())]
    Io {
        /// Of the folder or file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The operator runs the right version.
    #[error(
        "{} is in log format {version}, and this program reads {}: start the version that wrote it",
        path.display(), VERSION
    )]
    Version {
        /// Of the segment.
        path: PathBuf,
        /// Of its format.
        version: u32,
    },
    /// The operator sorts the files.
    #[error("{} belongs to log {found}, the folder to log {log}: move it away", path.display())]
    Foreign {
        /// Of the segment.
        path: PathBuf,
        /// Of the other segments.
        log: LogId,
        /// Of this one.
        found: LogId,
    },
    /// The operator sorts the files.
    #[error("{} says that it is segment {id}: give the file its own name", path.display())]
    Misnamed {
        /// Of the segment.
        path: PathBuf,
        /// In its header.
        id: u64,
    },
    /// The operator restores the folder, or begins a new log.
    #[error(
        "no segment in {} has a readable header: restore the folder, or move it away to begin anew",
        dir.display()
    )]
    Unreadable {
        /// The log's folder.
        dir: PathBuf,
    },
    /// The operator mends the configuration.
    #[error("log options: {0}")]
    Options(&'static str),
}
