//! Files of blocks, each with its length and a checksum: the frame of ledgers and traces.
//!
//! ```text
//! u32 length of the body · u64 xxh3 of the body · body
//! ```
//!
//! little endian. Reading ends at the first block that is cut short or fails its checksum: what follows was
//! never written whole.

use std::io::{self, ErrorKind, Read};

use xxhash_rust::xxh3::xxh3_64;

/// Length and checksum.
pub(crate) const HEAD_BYTES: usize = 12;

/// Begins a block: room for its head.
pub(crate) fn begin(block: &mut Vec<u8>) {
    block.extend_from_slice(&[0; HEAD_BYTES]);
}

/// Fills in the head of a block that was begun.
pub(crate) fn seal(block: &mut [u8]) {
    let Some((head, body)) = block.split_at_mut_checked(HEAD_BYTES) else { return };
    let (length, sum) = head.split_at_mut(4);
    length.copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    sum.copy_from_slice(&xxh3_64(body).to_le_bytes());
}

/// Reads blocks in turn, in the memory of one.
#[derive(Debug)]
pub(crate) struct Blocks<R> {
    reader: R,
    /// The longest body that there can be.
    most: usize,
    /// Bytes up to the end of the last whole block.
    whole: u64,
    torn: bool,
}

impl<R: Read> Blocks<R> {
    /// What follows the first `from` bytes of a file, which were read.
    pub(crate) const fn new(reader: R, from: u64, most: usize) -> Self {
        Self { reader, most, whole: from, torn: false }
    }

    /// Bytes up to the end of the last whole block.
    pub(crate) const fn whole(&self) -> u64 {
        self.whole
    }

    /// Whether something stood behind the last whole block.
    pub(crate) const fn torn(&self) -> bool {
        self.torn
    }

    /// What `whole` was not, after all.
    pub(crate) const fn tear(&mut self, whole: u64) {
        self.whole = whole;
        self.torn = true;
    }

    /// The next body; whether there is one.
    pub(crate) fn next(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
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
        body.clear();
        // The length may be anything: memory is taken for what is there.
        let whole = length <= self.most && {
            let read = (&mut self.reader).take(length as u64).read_to_end(body)?;
            read == length && xxh3_64(body) == sum
        };
        if whole {
            self.whole += (HEAD_BYTES + length) as u64;
        } else {
            self.torn = true;
        }
        Ok(whole)
    }

    fn fill(&mut self, into: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => {
                    self.torn = filled > 0;
                    return Ok(false);
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}
