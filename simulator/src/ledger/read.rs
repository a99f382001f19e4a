//! Reading a ledger, also while it is written.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{Base, Names, Record, decode};
use super::{BLOCK_BYTES, LedgerError, MAGIC, MAGIC_WITHOUT_VERSION, VERSION};
use crate::block::Blocks;
use crate::code::Bytes;

/// Reads a ledger from its beginning, in the memory of one block.
#[derive(Debug)]
pub struct LedgerReader {
    path: PathBuf,
    blocks: Blocks<BufReader<File>>,
    body: Vec<u8>,
    /// How much of the body has been given out.
    at: usize,
    base: Base,
    next_id: u64,
    names: Names,
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
            blocks: Blocks::new(reader, MAGIC.len() as u64, BLOCK_BYTES),
            body: Vec::new(),
            at: 0,
            base: Base::default(),
            next_id: 0,
            names: Names::default(),
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
        record.ok_or_else(|| LedgerError::Unknown {
            path: self.path.clone(),
            at: self.blocks.whole(),
        })
    }

    fn next_block(&mut self) -> Result<bool, LedgerError> {
        let before = self.blocks.whole();
        let next = self.blocks.next(&mut self.body);
        if !next.map_err(|source| LedgerError::Io { path: self.path.clone(), source })? {
            self.at = self.body.len();
            return Ok(false);
        }
        let mut rest = Bytes(&self.body);
        let Some(base) = Base::decode(&mut rest) else {
            self.at = self.body.len();
            self.blocks.tear(before);
            return Ok(false);
        };
        self.at = self.body.len() - rest.0.len();
        (self.base, self.next_id) = (base, base.id);
        Ok(true)
    }

    /// Whether something stood behind the last whole block.
    #[must_use]
    pub const fn torn(&self) -> bool {
        self.blocks.torn()
    }

    /// The faults' names, by the numbers of their marks, as far as was read.
    #[must_use]
    pub fn faults(&self) -> &[Arc<str>] {
        &self.names.faults
    }

    pub(super) const fn whole(&self) -> u64 {
        self.blocks.whole()
    }

    pub(super) fn into_names(self) -> Names {
        self.names
    }
}
