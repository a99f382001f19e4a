//! Reading a trace, also while it is written.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes as Shared;

use super::{
    BLOCK_BYTES, Entry, INTERRUPTION, MAGIC, MAGIC_WITHOUT_VERSION, MESSAGE, MESSAGE_BYTES,
    MOST_TOPICS, RECORDING, RETAINED, Seen, TOPIC, TOPICS, TYPE, TraceError, VERSION,
};
use crate::block::{Blocks, HEAD_BYTES};
use crate::code::Bytes;
use crate::options::Qos;

/// Reads a trace from its beginning, in the memory of one block.
#[derive(Debug)]
pub struct TraceReader<R> {
    path: PathBuf,
    blocks: Blocks<R>,
    body: Vec<u8>,
    /// How much of the body has been given out.
    at: usize,
    at_us: u64,
    topics: Vec<Arc<str>>,
    /// Where in the file the payload of the last message stands.
    payload_at: u64,
}

impl TraceReader<BufReader<File>> {
    /// Opens a trace.
    ///
    /// # Errors
    /// When the file cannot be read, is no trace, or one of another version.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let io = |source| TraceError::Io { path: path.to_owned(), source };
        Self::new(BufReader::with_capacity(256 * 1024, File::open(path).map_err(io)?), path)
    }
}

impl<R: Read> TraceReader<R> {
    /// Reads bytes that stand in the file `path`.
    ///
    /// # Errors
    /// As [`TraceReader::open`].
    pub fn new(mut reader: R, path: &Path) -> Result<Self, TraceError> {
        let path = path.to_owned();
        let mut magic = [0; MAGIC.len()];
        match reader.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) => {
                let version = magic.strip_prefix(MAGIC_WITHOUT_VERSION.as_slice());
                let version = version.and_then(|digits| std::str::from_utf8(digits).ok());
                return Err(match version.and_then(|digits| digits.parse().ok()) {
                    Some(found) if found != VERSION => TraceError::Version { path, found },
                    _ => TraceError::Foreign { path },
                });
            }
            Err(e) if e.kind() != ErrorKind::UnexpectedEof => {
                return Err(TraceError::Io { path, source: e });
            }
            Err(_) => return Err(TraceError::Foreign { path }),
        }
        Ok(Self {
            path,
            blocks: Blocks::new(reader, MAGIC.len() as u64, BLOCK_BYTES),
            body: Vec::new(),
            at: 0,
            at_us: 0,
            topics: Vec::new(),
            payload_at: 0,
        })
    }

    /// The next entry; `None` at the end of the last whole block, torn or not.
    ///
    /// # Errors
    /// When the file cannot be read, or holds what this build does not know.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TraceError> {
        loop {
            if let Some(entry) = self.entry_of_block()? {
                return Ok(Some(entry));
            }
            self.at = 0;
            let next = self.blocks.next(&mut self.body);
            if !next.map_err(|source| TraceError::Io { path: self.path.clone(), source })? {
                self.body.clear();
                return Ok(None);
            }
            let mut rest = Bytes(&self.body);
            let base = rest.number();
            self.at = self.body.len() - rest.0.len();
            self.at_us = base.ok_or_else(|| self.unknown())?;
        }
    }

    /// A block's checksum is right, so this is no tear: whoever wrote it knew more than we do.
    fn unknown(&self) -> TraceError {
        TraceError::Unknown { path: self.path.clone(), at: self.blocks.whole() }
    }

    fn entry_of_block(&mut self) -> Result<Option<Entry>, TraceError> {
        let mut rest = Bytes(self.body.get(self.at..).unwrap_or_default());
        let (mut at_us, mut payload) = (self.at_us, None);
        let entry = entry(&mut at_us, &mut self.topics, &mut rest, &mut payload);
        let left = rest.0.len();
        self.at = self.body.len() - left;
        self.at_us = at_us;
        let entry = entry.ok_or_else(|| self.unknown())?;
        if let Some(length) = payload {
            // A message ends with its payload.
            let body_at = self.blocks.whole() - self.body.len() as u64;
            self.payload_at = body_at + (self.at - length) as u64;
            debug_assert!(body_at >= (MAGIC.len() + HEAD_BYTES) as u64);
        }
        Ok(entry)
    }

    /// Whether something stood behind the last whole block.
    #[must_use]
    pub const fn torn(&self) -> bool {
        self.blocks.torn()
    }

    /// Where in the file the payload of the message that was given last begins.
    #[must_use]
    pub const fn payload_at(&self) -> u64 {
        self.payload_at
    }

    pub(super) const fn whole(&self) -> u64 {
        self.blocks.whole()
    }
}

/// The next entry of a block; none at its end, and no answer for what this build does not know.
fn entry(
    at_us: &mut u64,
    topics: &mut Vec<Arc<str>>,
    rest: &mut Bytes<'_>,
    payload: &mut Option<usize>,
) -> Option<Option<Entry>> {
    while !rest.0.is_empty() {
        let head = rest.u8()?;
        let entry = match head & TYPE {
            RECORDING => {
                (*at_us, *topics) = (0, Vec::new());
                Entry::Recording { at_ms: i64::from_le_bytes(rest.array()?) }
            }
            TOPIC => {
                let length = usize::try_from(rest.number()?).ok()?;
                let topic = std::str::from_utf8(rest.take(length)?).ok()?;
                if topics.len() >= MOST_TOPICS {
                    return None;
                }
                topics.push(topic.into());
                continue;
            }
            TOPICS => {
                topics.clear();
                continue;
            }
            MESSAGE => {
                *at_us = at_us.checked_add(rest.number()?)?;
                let topic = Arc::clone(topics.get(usize::try_from(rest.number()?).ok()?)?);
                let length = usize::try_from(rest.number()?).ok()?;
                if length > MESSAGE_BYTES {
                    return None;
                }
                let bytes = rest.take(length)?;
                *payload = Some(length);
                let qos = *Qos::ALL.get(usize::from(head >> 4 & 3))?;
                Entry::Message(Seen {
                    at_us: *at_us,
                    topic,
                    qos,
                    retain: head & RETAINED != 0,
                    payload: Shared::copy_from_slice(bytes),
                })
            }
            INTERRUPTION => {
                *at_us = at_us.checked_add(rest.number()?)?;
                Entry::Interruption { at_us: *at_us }
            }
            _ => return None,
        };
        return Some(Some(entry));
    }
    Some(None)
}
