//! Reading a ledger, also while it is written.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::code::Bytes;
use super::record::{Base, Names, Record, decode};
use super::{BLOCK_BYTES, HEAD_BYTES, LedgerError, MAGIC, MAGIC_WITHOUT_VERSION, VERSION};

/// Reads a ledger from its beginning, in the memory of one block.
#[derive(Debug)]
pub struct LedgerReader {
    path: PathBuf,
    reader: BufReader<File>,
    body: Vec<u8>,
    /// How much of the body has been given out.
    at: usize,
    base: Base,
    next_id: u64,
    names: Names,
    /// Bytes of the file up to the end of the last whole block.
    whole: u64,
    torn: bool,
}

impl LedgerReader {
    /// Opens a ledger.
    ///
    /// # Errors
    /// When the file cannot be read, is not a ledger, or is one of another version.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let io = |source| LedgerError::Io { path: path.to_owned(), source };
        let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).map_err(io)?);
        let mut magic = [0; MAGIC.len()];
        match reader.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) => {
                let version = magic.strip_prefix(MAGIC_WITHOUT_VERSION.as_slice());
                let version = version.and_then(|digits| std::str::from_utf8(digits).ok());
                return Err(match version.and_then(|digits| digits.parse().ok()) {
                    Some(found) => {
                        LedgerError::Version { path: path.to_owned(), found, read: VERSION }
                    }
                    None => LedgerError::Foreign { path: path.to_owned() },
                });
            }
            Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => return Err(io(e)),
            Err(_) => return Err(LedgerError::Foreign { path: path.to_owned() }),
        }
        Ok(Self {
            path: path.to_owned(),
            reader,
            body: Vec::new(),
            at: 0,
            base: Base::default(),
            next_id: 0,
            names: Names::default(),
            whole: MAGIC.len() as u64,
            torn: false,
        })
    }

    /// The next record; `None` at the end of the last whole block, torn or not.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_record(&mut self) -> Result<Option<Record>, LedgerError> {
        loop {
            if let Some(record) = self.record_of_block()? {
                return Ok(Some(record));
            }
            if !self.next_block()? {
                return Ok(None);
            }
        }
    }

    fn record_of_block(&mut self) -> Result<Option<Record>, LedgerError> {
        let mut rest = Bytes(self.body.get(self.at..).unwrap_or_default());
        let record = decode(self.base, &mut self.next_id, &mut self.names, &mut rest);
        self.at = self.body.len() - rest.0.len();
        // The block's checksum is right, so this is no tear: whoever wrote it knew more than we do.
        record.ok_or_else(|| LedgerError::Unknown { path: self.path.clone(), at: self.whole })
    }

    fn next_block(&mut self) -> Result<bool, LedgerError> {
        if self.torn {
            return Ok(false);
        }
        let mut head = [0; HEAD_BYTES];
        if !self.fill(&mut head)? {
            return Ok(false);
        }
        let (length, sum) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        let sum = u64::from_le_bytes(sum.try_into().unwrap_or_default());
        let mut body = std::mem::take(&mut self.body);
        let whole = length <= BLOCK_BYTES && {
            body.resize(length, 0);
            self.fill(&mut body)? && xxh3_64(&body) == sum
        };
        let mut rest = Bytes(&body);
        let base = if whole { Base::decode(&mut rest) } else { None };
        let Some(base) = base else {
            self.torn = true;
            return Ok(false);
        };
        self.at = body.len() - rest.0.len();
        (self.base, self.next_id) = (base, base.id);
        self.whole += (HEAD_BYTES + length) as u64;
        self.body = body;
        Ok(true)
    }

    /// Whether something stood behind the last whole block.
    #[must_use]
    pub const fn torn(&self) -> bool {
        self.torn
    }

    /// The faults' names, by the numbers of their marks, as far as was read.
    #[must_use]
    pub fn faults(&self) -> &[Arc<str>] {
        &self.names.faults
    }

    pub(super) const fn whole(&self) -> u64 {
        self.whole
    }

    pub(super) fn into_names(self) -> Names {
        self.names
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
