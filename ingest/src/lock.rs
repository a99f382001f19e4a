//! The data folder's lock: one process at a time.
//!
//! The lock is the kernel's (`flock` on `<data>/lock`), so it ends with its process however that
//! ends; the file itself stays and holds the pid of whoever had it last, to name it to the next.
//! Two processes in one folder would both append to one log and delete each other's segments.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The file's name in the data folder.
pub const LOCK_FILE: &str = "lock";

/// The data folder is this process's until it is dropped.
#[derive(Debug)]
pub struct DataLock {
    // Held open, because closing it is what lets go of the lock.
    _file: File,
}

/// Why the data folder is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "the data folder {} is in use by process {}; stop it, or set data.dir to another folder",
        dir.display(),
        holder.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string())
    )]
    Held {
        /// The data folder.
        dir: PathBuf,
        /// The process, where the file says so.
        holder: Option<u32>,
    },
    /// The file system refuses.
    #[error("the data folder {} cannot be locked: {source}", dir.display())]
    Io {
        /// The data folder.
        dir: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

impl DataLock {
    /// Takes the lock of an existing data folder, without waiting.
    ///
    /// # Errors
    /// When another process has it, or the file system refuses.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { dir: dir.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(LOCK_FILE))
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockError::Held { dir: dir.to_owned(), holder: read_pid(&mut file) });
            }
            Err(e) => return Err(failed(e.into())),
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// A data folder that no process writes to as long as this is held.
#[derive(Debug)]
pub struct ReadLock {
    // Held open, because closing it is what lets go of the lock.
    _file: Option<File>,
}

impl ReadLock {
    /// Keeps writers out of a data folder, without waiting and without changing it. Readers do not
    /// keep each other out.
    ///
    /// # Errors
    /// When a process has the folder, or the file system refuses.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { dir: dir.to_owned(), source };
        let mut file = match File::open(dir.join(LOCK_FILE)) {
            Ok(file) => file,
            // Nobody ever had it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self { _file: None }),
            Err(e) => return Err(failed(e)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(Errno::WOULDBLOCK) => {
                Err(LockError::Held { dir: dir.to_owned(), holder: read_pid(&mut file) })
            }
            Err(e) => Err(failed(e.into())),
        }
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    // A pid has at most ten digits; whatever else the file holds is not worth reading.
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_with_the_first_ones_pid() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::take(dir.path()).unwrap();
        let refused = DataLock::take(dir.path()).unwrap_err();
        assert!(
            matches!(refused, LockError::Held { holder, .. } if holder == Some(std::process::id()))
        );
        assert!(refused.to_string().contains(&std::process::id().to_string()));
        drop(first);
        DataLock::take(dir.path()).unwrap();
    }

    #[test]
    fn readers_keep_writers_out_and_each_other_in_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let _never_locked = ReadLock::take(dir.path()).unwrap();
        assert!(!dir.path().join(LOCK_FILE).exists());
        let writer = DataLock::take(dir.path()).unwrap();
        assert!(matches!(ReadLock::take(dir.path()), Err(LockError::Held { .. })));
        drop(writer);
        let readers = [ReadLock::take(dir.path()).unwrap(), ReadLock::take(dir.path()).unwrap()];
        assert!(matches!(DataLock::take(dir.path()), Err(LockError::Held { .. })));
        drop(readers);
        DataLock::take(dir.path()).unwrap();
    }

    #[test]
    fn what_a_dead_process_left_in_the_file_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOCK_FILE), "not a pid, and rather long at that").unwrap();
        let _held = DataLock::take(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(LOCK_FILE)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let refused = DataLock::take(&missing).unwrap_err();
        assert!(refused.to_string().contains("missing"));
    }
}
