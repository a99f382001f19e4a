//! A sink's cursor in a file of its own, for sinks whose store cannot hold it.
//!
//! ```text
//! magic "LSCURSOR" · version u32 = 1 · log id 16 bytes · cursor u64 · CRC-32 of what stands before
//! ```
//!
//! Little endian, 40 bytes. The file is only ever replaced whole ([`crate::io::replace_file`]): after
//! a power loss it holds the old cursor or the new one. A file that is neither is never guessed at:
//! a cursor that is too high would let the log delete what was not stored. A cursor goes back only
//! where somebody says so ([`CursorFile::rewind`]). The file names its log, as an lsn means nothing in another one.

use std::io as stdio;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::{Io, read_all, replace_file};

const MAGIC: [u8; 8] = *b"LSCURSOR";
const VERSION: u32 = 1;

/// The identity of a log, made when its data folder is made.
pub type LogIdBytes = [u8; 16];

/// A cursor file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CursorFileError {
    /// The file system failed.
    #[error("cursor file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: stdio::Error,
    },
    /// The bytes are not a cursor file's.
    #[error(
        "cursor file {path} is damaged ({why}); remove it to feed this sink from the start of the \
         log again: what it has stored already is stored over, not twice"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A later build wrote it.
    #[error(
        "cursor file {path} has version {found}, this build reads {VERSION}; use the newer build"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
    },
    /// It counts in another log.
    #[error(
        "cursor file {path} belongs to log {found}, the data folder holds log {ours}; bring the \
         matching data folder back, or remove the file to store this log from its start"
    )]
    ForeignLog {
        /// The file.
        path: PathBuf,
        /// The log in the file.
        found: String,
        /// The log that is open.
        ours: String,
    },
}

/// A durable cursor.
#[derive(Debug)]
pub struct CursorFile {
    io: Arc<dyn Io>,
    path: PathBuf,
    log_id: LogIdBytes,
    cursor: AtomicU64,
}

impl CursorFile {
    /// Reads the file; where there is none, the cursor is 0 and the first advance makes it. The
    /// folder must exist.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or belongs to another log.
    pub fn open(
        io: Arc<dyn Io>,
        path: PathBuf,
        log_id: LogIdBytes,
    ) -> Result<Self, CursorFileError> {
        let failed = |source| CursorFileError::Io { path: path.clone(), source };
        let cursor = if io.exists(&path).map_err(failed)? {
            let bytes = read_all(&*io, &path).map_err(failed)?;
            decode(&path, &bytes, log_id)?
        } else {
            0
        };
        Ok(Self { io, path, log_id, cursor: AtomicU64::new(cursor) })
    }

    /// The durable cursor.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Acquire)
    }

    /// Makes `cursor` durable; one that is not greater than the present one changes nothing. Blocks
    /// for two syncs. One caller at a time.
    ///
    /// # Errors
    /// When the file system fails; the old cursor then still stands.
    pub fn advance(&self, cursor: u64) -> Result<(), CursorFileError> {
        if cursor <= self.cursor() {
            return Ok(());
        }
        replace_file(&*self.io, &self.path, &encode(self.log_id, cursor))
            .map_err(|source| CursorFileError::Io { path: self.path.clone(), source })?;
        self.cursor.store(cursor, Ordering::Release);
        Ok(())
    }
}

impl CursorFile {
    /// Sets the cursor back, so that what lies above is stored again. Whoever calls it has seen to it
    /// that the log still has that, and that nobody advances the cursor meanwhile.
    ///
    /// # Errors
    /// When the file system fails; the old cursor or the new one then stands.
    pub fn rewind(&self, cursor: u64) -> Result<(), CursorFileError> {
        if cursor >= self.cursor() {
            return Ok(());
        }
        replace_file(&*self.io, &self.path, &encode(self.log_id, cursor))
            .map_err(|source| CursorFileError::Io { path: self.path.clone(), source })?;
        self.cursor.store(cursor, Ordering::Release);
        Ok(())
    }
}

fn encode(log_id: LogIdBytes, cursor: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&log_id);
    bytes.extend_from_slice(&cursor.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn decode(path: &Path, bytes: &[u8], ours: LogIdBytes) -> Result<u64, CursorFileError> {
    let corrupt = |why| CursorFileError::Corrupt { path: path.to_owned(), why };
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(corrupt("too short"))?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
        return Err(corrupt("its checksum does not match"));
    }
    let (magic, rest) = body.split_first_chunk::<8>().ok_or(corrupt("too short"))?;
    if *magic != MAGIC {
        return Err(corrupt("it is no cursor file"));
    }
    let (version, rest) = rest.split_first_chunk::<4>().ok_or(corrupt("too short"))?;
    let found = u32::from_le_bytes(*version);
    if found != VERSION {
        return Err(CursorFileError::Version { path: path.to_owned(), found });
    }
    let (log_id, rest) = rest.split_first_chunk::<16>().ok_or(corrupt("too short"))?;
    let cursor: [u8; 8] = rest.try_into().map_err(|_| corrupt("its length is wrong"))?;
    if *log_id != ours {
        return Err(CursorFileError::ForeignLog {
            path: path.to_owned(),
            found: shown(*log_id),
            ours: shown(ours),
        });
    }
    Ok(u64::from_le_bytes(cursor))
}

/// A log's identity as messages show it.
pub(crate) fn shown(log_id: LogIdBytes) -> String {
    format!("{:032x}", u128::from_be_bytes(log_id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::io::real::RealIo;

    const LOG: LogIdBytes = *b"sixteen byte id.";

    fn open(dir: &Path, log: LogIdBytes) -> Result<CursorFile, CursorFileError> {
        CursorFile::open(Arc::new(RealIo), dir.join("cursor"), log)
    }

    #[test]
    fn the_bytes_on_disk_are_these() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), LOG).unwrap().advance(0x0102_0304).unwrap();
        let bytes = std::fs::read(dir.path().join("cursor")).unwrap();
        let mut golden = b"LSCURSOR\x01\0\0\0sixteen byte id.\x04\x03\x02\x01\0\0\0\0".to_vec();
        golden.extend_from_slice(&0xefd9_2d34_u32.to_le_bytes());
        assert_eq!(bytes, golden);
    }

    #[test]
    fn a_cursor_survives_a_restart_and_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = open(dir.path(), LOG).unwrap();
        assert_eq!(file.cursor(), 0);
        file.advance(7).unwrap();
        file.advance(5).unwrap();
        assert_eq!(open(dir.path(), LOG).unwrap().cursor(), 7);
    }

    #[test]
    fn a_replacement_left_half_done_does_not_stand_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), LOG).unwrap().advance(3).unwrap();
        std::fs::write(dir.path().join("cursor.tmp"), b"half").unwrap();
        let file = open(dir.path(), LOG).unwrap();
        assert_eq!(file.cursor(), 3);
        file.advance(4).unwrap();
        assert_eq!(open(dir.path(), LOG).unwrap().cursor(), 4);
    }

    #[test]
    fn another_logs_cursor_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), LOG).unwrap().advance(3).unwrap();
        let error = open(dir.path(), *b"another log's id").unwrap_err();
        assert!(matches!(error, CursorFileError::ForeignLog { .. }));
        assert!(error.to_string().contains("7369787465656e206279746520696"), "{error}");
    }

    #[test]
    fn every_damaged_bit_and_every_shorter_length_is_seen_and_the_remedy_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        open(dir.path(), LOG).unwrap().advance(3).unwrap();
        let sound = std::fs::read(&path).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let error = open(dir.path(), LOG).unwrap_err();
            assert!(matches!(error, CursorFileError::Corrupt { .. }), "bit {bit}: {error}");
            assert!(error.to_string().contains("remove it"), "{error}");
        }
        for len in 0..sound.len() {
            std::fs::write(&path, &sound[..len]).unwrap();
            assert!(open(dir.path(), LOG).is_err(), "length {len}");
        }
    }

    #[test]
    fn a_newer_version_is_not_taken_for_damage() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = encode(LOG, 3);
        bytes.truncate(36);
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        std::fs::write(dir.path().join("cursor"), bytes).unwrap();
        assert!(matches!(
            open(dir.path(), LOG).unwrap_err(),
            CursorFileError::Version { found: 2, .. }
        ));
    }
}
