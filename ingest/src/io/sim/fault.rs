//! What can be made to go wrong.

/// What survives a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerLoss {
    /// Only what was synced.
    ForgetAll,
    /// Also a random part of what was not: writes whole, torn between sectors or not at all; lengths
    /// and names in any combination.
    RandomPart,
}

/// The calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// [`Io::create_new`](crate::io::Io::create_new).
    Create,
    /// [`IoFile::read_at`](crate::io::IoFile::read_at).
    Read,
    /// [`IoFile::write_at`](crate::io::IoFile::write_at).
    Write,
    /// [`IoFile::sync_data`](crate::io::IoFile::sync_data).
    Sync,
    /// [`Io::sync_dir`](crate::io::Io::sync_dir).
    SyncDir,
    /// [`Io::rename`](crate::io::Io::rename).
    Rename,
    /// [`Io::remove_file`](crate::io::Io::remove_file).
    Remove,
    /// [`IoFile::allocate`](crate::io::IoFile::allocate).
    Allocate,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// With this error number, and without effect.
    Errno(i32),
    /// A write takes at most this many bytes.
    Short(usize),
    /// A sync fails and its pages are marked clean, as Linux does: the program still reads what it
    /// wrote, later syncs succeed, and the disk never gets it.
    SyncLosesPages,
    /// A sync fails after all the data reached the disk.
    SyncKeepsPages,
}

/// A planned failure.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Of which calls.
    pub op: Op,
    /// Only of files whose path contains this; empty for all.
    pub path: String,
    /// So many calls succeed before.
    pub after: u64,
    /// So many calls fail.
    pub times: u64,
    /// How.
    pub failure: Failure,
}

impl Fault {
    /// The next call of this kind, on any file.
    #[must_use]
    pub fn next(op: Op, failure: Failure) -> Self {
        Self { op, path: String::new(), after: 0, times: 1, failure }
    }
}
