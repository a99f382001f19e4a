//! The ledger: what was sent, what was meant by it, and what was acknowledged. The ground truth.
//!
//! # Format
//!
//! An append-only file: the magic `LSLEDG` and the format's version in two digits, `02`; then blocks
//!
//! ```text
//! u32 length of the body · u64 xxh3 of the body · body
//! ```
//!
//! little endian. A body begins with what its numbers are reckoned from, a time in Unix ms and the id
//! of its first batch; then come records, each begun by its type. *n* is a number of as few bytes as
//! it needs (seven bits a byte), *d* the difference to what stands behind it, zigzag, as such a number:
//!
//! | type | record |
//! |---|---|
//! | 1 run | seed u64 · start ms i64 · shape u64 |
//! | 2 batch | station n · session u32 · seq n · channel u8 (+ 128 at QoS 0) · payload xxh3-128 u128 · due ms d(block) · sent ms d(block) · count n · readings |
//! | 3 acknowledged, 4 refused | id d(block) · Unix ms d(block) |
//! | 5 sent again | id d(block) |
//! | 6 station, 7 fault | length u8 · name |
//!
//! and a batch's readings
//!
//! ```text
//! head u8 · imei d(reading before) · [boot epoch n] · seq d(reading before) · [measured ms d(due)]
//!   · digest u64 · [reject reason u8] · [faults n]
//! ```
//!
//! with the kind in the head's low four bits and a bit for each part in brackets. A batch's id is its
//! ordinal in the file; stations and faults are known by the ordinals of their names. A reading takes
//! about 21 bytes, eight of them the digest, which cannot be made less.
//!
//! # Order
//!
//! A batch is handed to the operating system before its first byte is sent; acknowledgements are
//! written behind it, at the latest with the next batch. So a simulator that is killed leaves, at
//! worst, acknowledged batches that look unacknowledged, which the audit allows for; never a batch
//! that was sent and is not here. The end of a run is synced; while it goes on the machine's power is
//! not in question: it is the server's durability that is tried.
//!
//! # Reading
//!
//! The first block that is cut short or fails its checksum ends the file; what follows was never
//! written whole. `Ledger::open` cuts it off and goes on behind the last whole block. A ledger of
//! another version is refused, and so is a record this build does not know: nothing is passed over.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block;
pub use crate::station::Meant;
use hashbrown::HashMap;
use parking_lot::Mutex;

mod read;
mod record;

pub use read::LedgerReader;
pub use record::{BatchRecord, LedgerReading, Marks, Record, RunRecord};

use record::{Base, MARKS};

const MAGIC_WITHOUT_VERSION: [u8; 6] = *b"LSLEDG";
const MAGIC: [u8; 8] = *b"LSLEDG02";
const VERSION: u32 = 2;
/// Behind a full buffer comes one batch at most, and a thousand readings are 60 KB at the worst; a
/// longer block is no block.
const BLOCK_BYTES: usize = 1024 * 1024;
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
    /// The file is a ledger of another time.
    #[error(
        "ledger {path} is of version {found}, this program reads and writes version {read}; audit it \
         with the release that wrote it, and give new runs another --ledger file"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        read: u32,
    },
    /// A block that is whole holds what this build does not know.
    #[error(
        "ledger {path}: the block before byte {at} holds a record this program does not know; use \
         the release that wrote it"
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Where that block ends.
        at: u64,
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
    /// A write failed before; what came behind it could not be read.
    #[error("ledger {path}: an earlier write failed, so nothing more is written to it")]
    Failed {
        /// The file.
        path: PathBuf,
    },
    /// More faults than a ledger can tell apart.
    #[error("ledger {path} knows {MARKS} faults already and has no number for {fault:?}")]
    Faults {
        /// The file.
        path: PathBuf,
        /// The one too many.
        fault: String,
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
    /// The block that is being filled: its head, its base, records. Empty if it has none.
    block: Vec<u8>,
    base: Base,
    next_id: u64,
    stations: HashMap<Arc<str>, u64>,
    faults: Vec<Arc<str>>,
    failed: bool,
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
        let (mut next_id, mut whole, mut names) = (0, 0, record::Names::default());
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
            whole = reader.whole();
            names = reader.into_names();
        }
        file.set_len(whole).map_err(io)?;
        if whole == 0 {
            file.write_all(&MAGIC).map_err(io)?;
        }
        let ledger = Self {
            path: path.to_owned(),
            inner: Mutex::new(Inner {
                file,
                block: Vec::new(),
                base: Base::default(),
                next_id,
                stations: names.stations.into_iter().zip(0..).collect(),
                faults: names.faults,
                failed: false,
            }),
        };
        let mut inner = ledger.inner.lock();
        inner.begin(run.start_ms);
        record::encode_run(&run, &mut inner.block);
        ledger.write(&mut inner)?;
        drop(inner);
        Ok(ledger)
    }

    /// The marks of faults by their names, which are words of closed lists. A name's number is
    /// written with the next batch.
    ///
    /// # Errors
    /// When there are more than a ledger can tell apart.
    pub fn marks(&self, faults: &[&str]) -> Result<Marks, LedgerError> {
        let mut marks = Marks::default();
        if faults.is_empty() {
            return Ok(marks);
        }
        let mut inner = self.inner.lock();
        for fault in faults {
            let number = match inner.faults.iter().position(|known| &**known == *fault) {
                Some(number) => number,
                None if inner.faults.len() < MARKS => {
                    let ms = inner.base.ms;
                    inner.begin(ms);
                    record::encode_fault(fault, &mut inner.block);
                    inner.faults.push(Arc::from(*fault));
                    inner.faults.len() - 1
                }
                None => {
                    let (path, fault) = (self.path.clone(), (*fault).to_owned());
                    return Err(LedgerError::Faults { path, fault });
                }
            };
            marks.0 |= 1 << number;
        }
        Ok(marks)
    }

    /// Writes a batch that will be sent now for the first time; returns its id.
    ///
    /// # Errors
    /// When it could not be written: the batch must not be sent.
    pub(crate) fn batch(&self, batch: &BatchRecord) -> Result<u64, LedgerError> {
        let mut inner = self.inner.lock();
        let id = inner.next_id;
        inner.begin(batch.sent_ms);
        let station = inner.station(&batch.station);
        let Inner { base, block, .. } = &mut *inner;
        record::encode_batch(*base, station, batch, block);
        inner.next_id += 1;
        self.write(&mut inner)?;
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
        let mut inner = self.inner.lock();
        inner.begin(at_ms);
        let Inner { base, block, .. } = &mut *inner;
        record::encode_acknowledged(*base, id, at_ms, refused, block);
        self.write_if_full(&mut inner)
    }

    /// Notes that a batch is sent once more.
    ///
    /// # Errors
    /// When the buffer was full and could not be written.
    pub(crate) fn sent_again(&self, id: u64) -> Result<(), LedgerError> {
        let mut inner = self.inner.lock();
        let ms = inner.base.ms;
        inner.begin(ms);
        let Inner { base, block, .. } = &mut *inner;
        record::encode_sent_again(*base, id, block);
        self.write_if_full(&mut inner)
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// When it could not be written.
    pub(crate) fn flush(&self) -> Result<(), LedgerError> {
        let mut inner = self.inner.lock();
        self.write(&mut inner)?;
        inner.file.sync_data().map_err(|source| {
            inner.failed = true;
            LedgerError::Io { path: self.path.clone(), source }
        })
    }

    fn write_if_full(&self, inner: &mut Inner) -> Result<(), LedgerError> {
        if inner.block.len() < BUFFER_BYTES { Ok(()) } else { self.write(inner) }
    }

    /// Hands the block to the operating system.
    fn write(&self, inner: &mut Inner) -> Result<(), LedgerError> {
        if inner.failed {
            // The tail may be torn; writing behind it would hide all of that from readers.
            inner.block.clear();
            return Err(LedgerError::Failed { path: self.path.clone() });
        }
        if inner.block.is_empty() {
            return Ok(());
        }
        block::seal(&mut inner.block);
        let written = inner.file.write_all(&inner.block);
        inner.block.clear();
        written.map_err(|source| {
            inner.failed = true;
            LedgerError::Io { path: self.path.clone(), source }
        })
    }
}

impl Inner {
    /// Begins a block, if none is begun.
    fn begin(&mut self, ms: i64) {
        if self.block.is_empty() {
            self.base = Base { ms, id: self.next_id };
            block::begin(&mut self.block);
            self.base.encode(&mut self.block);
        }
    }

    /// The number of a station, which is named before it is first used.
    fn station(&mut self, name: &Arc<str>) -> u64 {
        if let Some(number) = self.stations.get(name) {
            return *number;
        }
        let number = self.stations.len() as u64;
        record::encode_station(name, &mut self.block);
        self.stations.insert(Arc::clone(name), number);
        number
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        match self.flush() {
            // Whoever had the first error has it.
            Ok(()) | Err(LedgerError::Failed { .. }) => {}
            Err(error) => {
                tracing::error!(%error, "the ledger's last acknowledgements could not be written");
            }
        }
    }
}

#[cfg(test)]
mod tests;
