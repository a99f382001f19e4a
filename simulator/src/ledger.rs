//! The ledger: what was sent, what was meant by it, and what was acknowledged. The ground truth.
//!
//! # Format
//!
//! An append-only file: the magic `LSLEDG01`, then records
//!
//! ```text
//! u32 length of the body · u64 xxh3 of the body · body
//! ```
//!
//! little endian. A body begins with its type:
//!
//! | type | body |
//! |---|---|
//! | 1 run | seed u64 · start ms i64 · shape u64 |
//! | 2 batch | id u64 · station (u8 length, bytes) · session u32 · seq u64 · channel u8 · payload xxh3-128 u128 · count u32 · per reading: imei u64, boot epoch u32, seq u64, kind u8, digest u64, expectation u8 |
//! | 3 acknowledged | id u64 · Unix ms i64 · refused u8 |
//! | 4 sent again | id u64 |
//!
//! An id is the batch's ordinal in the file. An expectation is 0 for *stored* or the number of the
//! reject reason under which the reading must turn up in the dead letters.
//!
//! # Order
//!
//! A batch is handed to the operating system before its first byte is sent; acknowledgements are
//! written behind it, at the latest with the next batch. So a simulator that is killed leaves, at
//! worst, acknowledged batches that look unacknowledged, which the audit allows for; never a batch
//! that was sent and is not here. (The machine's power is not in question: it is the server's
//! durability that is tried.)
//!
//! # Reading
//!
//! The first record that is cut short or fails its checksum ends the file; what follows was never
//! written whole. `Ledger::open` cuts it off and goes on behind the last whole record.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

pub use crate::station::Meant;

mod record;

pub use record::{BatchRecord, Record, RunRecord};

const MAGIC: [u8; 8] = *b"LSLEDG01";
/// Length and checksum.
const HEAD_BYTES: usize = 12;
/// A thousand readings are 30 KB; a longer record is no record.
const RECORD_BYTES: usize = 1024 * 1024;
/// Acknowledgements wait for the next batch, but not beyond this many bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// What is wrong with a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file could not be opened, read or written.
    #[error("ledger {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a ledger of this program; give another --ledger file")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file already holds a run with this seed and start, but of another fleet: its keys would
    /// mean two things.
    #[error(
        "ledger {path} already holds a run with seed {seed} and start {start_ms} ms but with other \
         options; give another --start, or another --ledger file"
    )]
    Reused {
        /// The file.
        path: PathBuf,
        /// The run's seed.
        seed: u64,
        /// The run's start.
        start_ms: i64,
    },
}

/// An open ledger; shared by all stations.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    buffer: Vec<u8>,
    next_id: u64,
}

impl Ledger {
    /// Opens a ledger for a run, making the file if there is none, and cutting a torn tail.
    ///
    /// # Errors
    /// When the file cannot be used, or holds a run whose keys this one would use again.
    pub(crate) fn open(path: &Path, run: RunRecord) -> Result<Self, LedgerError> {
        let io = |source| LedgerError::Io { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().create(true).read(true).append(true).open(path).map_err(io)?;
        let mut next_id = 0;
        let mut whole = 0;
        if file.metadata().map_err(io)?.len() > 0 {
            let mut reader = LedgerReader::open(path)?;
            while let Some(record) = reader.next_record()? {
                match record {
                    Record::Batch(batch) => next_id = batch.id + 1,
                    Record::Run(r)
                        if (r.seed, r.start_ms) == (run.seed, run.start_ms)
                            && r.shape != run.shape =>
                    {
                        return Err(LedgerError::Reused {
                            path: path.to_owned(),
                            seed: run.seed,
                            start_ms: run.start_ms,
                        });
                    }
                    _ => {}
                }
            }
            whole = reader.whole;
        }
        file.set_len(whole).map_err(io)?;
        if whole == 0 {
            file.write_all(&MAGIC).map_err(io)?;
        }
        let ledger = Self {
            path: path.to_owned(),
            inner: Mutex::new(Inner { file, buffer: Vec::new(), next_id }),
        };
        ledger.append(&Record::Run(run), true)?;
        Ok(ledger)
    }

    /// Writes a batch that will be sent now for the first time; returns its id.
    ///
    /// # Errors
    /// When it could not be written: the batch must not be sent.
    pub(crate) fn batch(&self, mut batch: BatchRecord) -> Result<u64, LedgerError> {
        let mut inner = self.inner.lock();
        let id = inner.next_id;
        batch.id = id;
        Record::Batch(batch).encode(&mut inner.buffer);
        self.flush_locked(&mut inner)?;
        inner.next_id += 1;
        Ok(id)
    }

    /// Notes that a batch was acknowledged, and whether the acknowledgement refused it.
    ///
    /// # Errors
    /// When the buffer was full and could not be written.
    pub(crate) fn acknowledged(
        &self,
        id: u64,
        at_ms: i64,
        refused: bool,
    ) -> Result<(), LedgerError> {
        self.append(&Record::Acknowledged { id, at_ms, refused }, false)
    }

    /// Notes that a batch is sent once more.
    ///
    /// # Errors
    /// When the buffer was full and could not be written.
    pub(crate) fn sent_again(&self, id: u64) -> Result<(), LedgerError> {
        self.append(&Record::SentAgain { id }, false)
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// When it could not be written.
    pub(crate) fn flush(&self) -> Result<(), LedgerError> {
        self.flush_locked(&mut self.inner.lock())
    }

    fn append(&self, record: &Record, now: bool) -> Result<(), LedgerError> {
        let mut inner = self.inner.lock();
        record.encode(&mut inner.buffer);
        if now || inner.buffer.len() >= BUFFER_BYTES {
            self.flush_locked(&mut inner)?;
        }
        Ok(())
    }

    fn flush_locked(&self, inner: &mut Inner) -> Result<(), LedgerError> {
        let Inner { file, buffer, .. } = inner;
        let written = file.write_all(buffer);
        // After a failed write the tail is torn and the run ends; writing the rest behind it would
        // hide all of it from readers.
        buffer.clear();
        written.map_err(|source| LedgerError::Io { path: self.path.clone(), source })
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::error!(%error, "the ledger's last acknowledgements could not be written");
        }
    }
}

/// Reads a ledger from its beginning.
#[derive(Debug)]
pub struct LedgerReader {
    path: PathBuf,
    reader: BufReader<File>,
    body: Vec<u8>,
    /// Bytes of the file up to the end of the last whole record.
    whole: u64,
    torn: bool,
}

impl LedgerReader {
    /// Opens a ledger.
    ///
    /// # Errors
    /// When the file cannot be read or is not a ledger.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let io = |source| LedgerError::Io { path: path.to_owned(), source };
        let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).map_err(io)?);
        let mut magic = [0; MAGIC.len()];
        match reader.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => return Err(io(e)),
            _ => return Err(LedgerError::Foreign { path: path.to_owned() }),
        }
        let whole = MAGIC.len() as u64;
        Ok(Self { path: path.to_owned(), reader, body: Vec::new(), whole, torn: false })
    }

    /// The next whole record; `None` at the end, torn or not.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_record(&mut self) -> Result<Option<Record>, LedgerError> {
        if self.torn {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let (length, sum) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        let sum = u64::from_le_bytes(sum.try_into().unwrap_or_default());
        if length > RECORD_BYTES {
            self.torn = true;
            return Ok(None);
        }
        let mut body = std::mem::take(&mut self.body);
        body.resize(length, 0);
        let filled = self.fill(&mut body)?;
        let record = (filled && xxh3_64(&body) == sum).then(|| Record::decode(&body)).flatten();
        self.body = body;
        match record {
            Some(_) => self.whole += (HEAD_BYTES + length) as u64,
            None => self.torn = true,
        }
        Ok(record)
    }

    /// Whether something stood behind the last whole record.
    #[must_use]
    pub const fn torn(&self) -> bool {
        self.torn
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<bool, LedgerError> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => {
                    self.torn = filled > 0;
                    return Ok(false);
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(LedgerError::Io { path: self.path.clone(), source }),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
