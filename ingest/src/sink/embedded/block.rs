//! The bytes of the store's files, block by block, none believed whose checksum is not right.
//!
//! The manifest knows the CRC-32 of every block of [`BLOCK_BYTES`] of every file; a file that is
//! written piece by piece has them reckoned on the way ([`BlockWriter`]). What the Parquet
//! decoder is given comes out of checked blocks only, footer included: a flipped bit, a torn or a
//! swapped file is an error that names the file, whatever the decoder would have made of it.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::QueryError;
use super::manifest::FileEntry;
use crate::io::{Io, IoFile, read_exact_at, write_all_at};

/// What is read and checked at once: about a page of a column, four bytes of checksum for it.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;
/// Blocks kept while a file is read (4 MiB): neighbouring columns share blocks.
const BLOCKS_KEPT: usize = 64;

/// The checksums of a file's blocks.
pub(super) fn checksums(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(BLOCK_BYTES).map(crc32fast::hash).collect()
}

/// A new file of the store, written from its start to its end in whole blocks.
#[derive(Debug)]
pub(super) struct BlockWriter {
    file: Arc<dyn IoFile>,
    /// Where the block at hand begins.
    at: u64,
    block: Vec<u8>,
    blocks: Vec<u32>,
}

impl BlockWriter {
    pub(super) fn new(file: Arc<dyn IoFile>) -> Self {
        Self { file, at: 0, block: Vec::with_capacity(BLOCK_BYTES), blocks: Vec::new() }
    }

    /// Writes what is left; gives the length and the checksums of the blocks.
    pub(super) fn finish(&mut self) -> io::Result<(u64, Vec<u32>)> {
        if !self.block.is_empty() {
            self.put_block()?;
        }
        Ok((self.at, std::mem::take(&mut self.blocks)))
    }

    fn put_block(&mut self) -> io::Result<()> {
        write_all_at(&*self.file, &self.block, self.at)?;
        self.blocks.push(crc32fast::hash(&self.block));
        self.at += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }
}

impl Write for BlockWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() >= BLOCK_BYTES {
            self.put_block()?;
        }
        let (now, _) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
        self.block.extend_from_slice(now);
        Ok(now.len())
    }

    /// A block is written when it is full, the last one by [`BlockWriter::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of the store, open for reading. A clone is another handle to the same.
#[derive(Clone)]
pub(super) struct BlockFile(Arc<Inner>);

struct Inner {
    file: Box<dyn IoFile>,
    path: PathBuf,
    entry: Arc<FileEntry>,
    /// The last blocks read, oldest first.
    kept: Mutex<Vec<(usize, Bytes)>>,
    /// What the disk said when a read failed.
    trouble: Mutex<Option<io::Error>>,
}

impl fmt::Debug for BlockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockFile").field(&self.0.path).finish()
    }
}

/// A block is not what the manifest says it is.
#[derive(Debug, thiserror::Error)]
#[error("block {block} at byte {offset} does not match its checksum")]
struct Damaged {
    block: usize,
    offset: u64,
}

impl BlockFile {
    pub(super) fn open(
        io: &dyn Io,
        dir: &Path,
        entry: &Arc<FileEntry>,
    ) -> Result<Self, QueryError> {
        let path = dir.join(entry.path());
        let file = match io.open_read(&path) {
            Ok(file) => file,
            Err(why) => return Err(QueryError::Io { path, why }),
        };
        let entry = Arc::clone(entry);
        let (kept, trouble) = (Mutex::new(Vec::new()), Mutex::new(None));
        Ok(Self(Arc::new(Inner { file, path, entry, kept, trouble })))
    }

    /// What a failed read of this file means: the disk's own error where there was one, however the
    /// decoder wrapped it. Of what is wrapped around damage only the core is told.
    pub(super) fn error(&self, why: &(dyn std::error::Error + 'static)) -> QueryError {
        let path = self.0.path.clone();
        match self.0.trouble.lock().take() {
            Some(why) => QueryError::Io { path, why },
            None => {
                let mut core = why;
                while let Some(inner) = core.source() {
                    core = inner;
                }
                QueryError::Corrupt { path, why: core.to_string() }
            }
        }
    }

    /// This file holds what it should not.
    pub(super) fn corrupt(&self, why: String) -> QueryError {
        QueryError::Corrupt { path: self.0.path.clone(), why }
    }

    fn block(&self, block: usize) -> Result<Bytes, ParquetError> {
        let inner = &*self.0;
        if let Some((_, bytes)) = inner.kept.lock().iter().find(|(kept, _)| *kept == block) {
            return Ok(bytes.clone());
        }
        let offset = block as u64 * BLOCK_BYTES as u64;
        let len = inner.entry.bytes.saturating_sub(offset).min(BLOCK_BYTES as u64);
        let mut bytes = BytesMut::zeroed(usize::try_from(len).unwrap_or(BLOCK_BYTES));
        match read_exact_at(&*inner.file, &mut bytes, offset) {
            // Shorter than the manifest says is damage, not trouble with the disk.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(external(Damaged { block, offset }));
            }
            Err(e) => {
                let text = e.to_string();
                *inner.trouble.lock() = Some(e);
                return Err(ParquetError::General(text));
            }
            Ok(()) => {}
        }
        if inner.entry.blocks.get(block) != Some(&crc32fast::hash(&bytes)) {
            return Err(external(Damaged { block, offset }));
        }
        let bytes = bytes.freeze();
        let mut kept = inner.kept.lock();
        if kept.len() >= BLOCKS_KEPT {
            kept.remove(0);
        }
        kept.push((block, bytes.clone()));
        Ok(bytes)
    }

    /// Some bytes from `start`, at most to the end of their block; none at the end of the file.
    fn some(&self, start: u64, most: usize) -> Result<Bytes, ParquetError> {
        if start >= self.0.entry.bytes || most == 0 {
            return Ok(Bytes::new());
        }
        let at = usize::try_from(start).map_err(external)?;
        let block = self.block(at / BLOCK_BYTES)?;
        let from = (at % BLOCK_BYTES).min(block.len());
        let to = from.saturating_add(most).min(block.len());
        Ok(block.slice(from..to))
    }
}

fn external(e: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(e))
}

impl Length for BlockFile {
    fn len(&self) -> u64 {
        self.0.entry.bytes
    }
}

impl ChunkReader for BlockFile {
    type T = BlockRead;

    fn get_read(&self, start: u64) -> Result<BlockRead, ParquetError> {
        Ok(BlockRead { file: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let first = self.some(start, length)?;
        if first.len() == length {
            return Ok(first);
        }
        // The length comes from a checked footer, but costs nothing to bound by the file's.
        let left = self.len().saturating_sub(start);
        if length as u64 > left {
            return Err(ParquetError::EOF(format!(
                "{length} bytes wanted at {start}, {left} left"
            )));
        }
        let mut all = BytesMut::with_capacity(length);
        all.extend_from_slice(&first);
        while all.len() < length {
            let next = self.some(start + all.len() as u64, length - all.len())?;
            if next.is_empty() {
                return Err(ParquetError::EOF(format!(
                    "the file ends within {length} bytes at {start}"
                )));
            }
            all.extend_from_slice(&next);
        }
        Ok(all.freeze())
    }
}

/// A place in a [`BlockFile`].
#[derive(Debug)]
pub(super) struct BlockRead {
    file: BlockFile,
    at: u64,
}

impl Read for BlockRead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.some(self.at, buf.len()).map_err(io::Error::other)?;
        let (to, _) = buf.split_at_mut(bytes.len());
        to.copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
