//! Frames out of a segment's bytes, in bounded memory, whatever the bytes are.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::io;

use super::codec::{ALIGN, ALIGN_LEN, FRAME_HEADER_U64, FRAME_MAGIC, FrameHeader, Key};
use crate::io::{IoFile, read_exact_at};

/// One read: large enough that a spinning or network disk streams.
const CHUNK: u64 = 1 << 20;

/// What was found, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// A frame whose checksums hold; its body is [`Scanner::body`] until the next call.
    Frame { offset: u64, header: FrameHeader },
    /// Bytes that are no frame, up to the next frame or the end; from `used` on they are zero.
    Bad { from: u64, to: u64, used: u64 },
}

enum Candidate {
    Frame(FrameHeader),
    /// The header holds, so its length can be believed; the body does not.
    BadBody(FrameHeader),
    None,
}

/// Reads a segment from front to back.
#[derive(Debug)]
pub(super) struct Scanner {
    file: Box<dyn IoFile>,
    key: Key,
    segment: u64,
    at: u64,
    end: u64,
    /// The file's bytes from `buffer_at`.
    buffer: Vec<u8>,
    buffer_at: u64,
    body: std::ops::Range<u64>,
}

impl Scanner {
    /// Reads `file` between the offsets `at` (a multiple of [`ALIGN_LEN`]) and `end`.
    pub(super) fn new(file: Box<dyn IoFile>, key: Key, segment: u64, at: u64, end: u64) -> Self {
        Self { file, key, segment, at, end, buffer: Vec::new(), buffer_at: at, body: 0..0 }
    }

    /// The segment being read.
    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    /// Moves the end further back, as the segment grows.
    pub(super) fn extend(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// The body of the frame returned last.
    pub(super) fn body(&self) -> &[u8] {
        self.buffered(self.body.start, self.body.end).unwrap_or_default()
    }

    /// The next frame or stretch of bad bytes; `None` at the end. After an error the same place is
    /// tried again.
    ///
    /// # Errors
    /// What the file says.
    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        let from = self.at;
        let mut used = from;
        while self.at < self.end {
            let candidate = match self.candidate() {
                Ok(candidate) => candidate,
                Err(error) => {
                    self.at = from;
                    return Err(error);
                }
            };
            match candidate {
                Candidate::Frame(_) if self.at > from => break,
                Candidate::Frame(header) => {
                    self.at = from.saturating_add(header.frame_len());
                    let start = from.saturating_add(FRAME_HEADER_U64);
                    self.body = start..start.saturating_add(u64::from(header.len));
                    return Ok(Some(Item::Frame { offset: from, header }));
                }
                Candidate::BadBody(header) => {
                    self.at = self.at.saturating_add(header.frame_len());
                    used = self.at;
                }
                Candidate::None => used = self.skip().unwrap_or(used),
            }
        }
        Ok((self.at > from).then_some(Item::Bad { from, to: self.at, used }))
    }

    fn candidate(&mut self) -> io::Result<Candidate> {
        let room = self.end.saturating_sub(self.at);
        self.fill(FRAME_HEADER_U64.min(room))?;
        let header = self
            .buffered(self.at, self.at.saturating_add(FRAME_HEADER_U64))
            .and_then(|bytes| FrameHeader::decode(bytes, &self.key, self.segment))
            .filter(|header| header.frame_len() <= room);
        let Some(header) = header else { return Ok(Candidate::None) };
        self.fill(header.frame_len())?;
        let start = self.at.saturating_add(FRAME_HEADER_U64);
        let body = self.buffered(start, start.saturating_add(u64::from(header.len)));
        let sound = body.is_some_and(|body| crc32fast::hash(body) == header.body_crc);
        Ok(if sound { Candidate::Frame(header) } else { Candidate::BadBody(header) })
    }

    /// Goes on to the next place in the buffer where a frame could begin, at least one. Returns the
    /// offset behind the last of them that is not all zero.
    fn skip(&mut self) -> Option<u64> {
        let step = ALIGN_LEN;
        let buffer_end = self.buffer_at.saturating_add(self.buffer.len() as u64).min(self.end);
        let rest = self.buffered(self.at, buffer_end).unwrap_or_default();
        let steps = rest.chunks(step).skip(1).take_while(|c| !c.starts_with(&FRAME_MAGIC)).count();
        let passed = steps.saturating_add(1).saturating_mul(step).min(rest.len());
        let cells = rest
            .get(..passed)
            .unwrap_or_default()
            .chunks(step)
            .rposition(|c| c.iter().any(|b| *b != 0));
        let used = cells.map(|last| {
            self.at.saturating_add((last as u64).saturating_add(1).saturating_mul(ALIGN))
        });
        // Never zero, though it cannot be: a scanner that stands still would hang the start.
        self.at = self.at.saturating_add((passed as u64).max(1)).min(self.end);
        used.map(|used| used.min(self.at))
    }

    fn buffered(&self, from: u64, to: u64) -> Option<&[u8]> {
        let start = usize::try_from(from.checked_sub(self.buffer_at)?).ok()?;
        let end = usize::try_from(to.checked_sub(self.buffer_at)?).ok()?;
        self.buffer.get(start..end)
    }

    /// Has `len` bytes from `at` in the buffer; the caller knows that the file has them.
    fn fill(&mut self, len: u64) -> io::Result<()> {
        if self.buffered(self.at, self.at.saturating_add(len)).is_some() {
            return Ok(());
        }
        let len = len.max(CHUNK).min(self.end.saturating_sub(self.at));
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // What was read before is either behind us or read again: simpler than moving it, and a
        // chunk is large beside a frame.
        self.buffer.clear();
        self.buffer_at = self.at;
        self.buffer.resize(len, 0);
        let read = read_exact_at(&*self.file, &mut self.buffer, self.at);
        if read.is_err() {
            self.buffer.clear();
        }
        read
    }
}
