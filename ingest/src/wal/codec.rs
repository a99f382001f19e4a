//! Segment headers and frame headers as bytes. The tables are in the [module's doc](super).

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::arithmetic_side_effects
)]

use crc32fast::Hasher;

use super::{LogId, Lsn};

/// Frames begin at multiples of this, so that a reader that lost its place can find the next one.
pub(super) const ALIGN: u64 = 16;
/// [`ALIGN`] as a length in memory.
pub(super) const ALIGN_LEN: usize = 16;
/// Bytes of a frame's header.
pub(super) const FRAME_HEADER: usize = 40;
/// [`FRAME_HEADER`] as a file offset.
pub(super) const FRAME_HEADER_U64: u64 = 40;
/// The first four bytes of every frame.
pub(super) const FRAME_MAGIC: [u8; 4] = *b"LsFr";
/// Bytes of one copy of a segment's header.
const SEGMENT_HEADER: usize = 64;
/// Where the second copy of the header lies: in another sector than the first.
const SECOND_COPY: usize = 512;
/// Bytes before the first frame of a segment.
pub(super) const SEGMENT_DATA: u64 = 1024;
/// [`SEGMENT_DATA`] as a length in memory.
pub(super) const SEGMENT_DATA_LEN: usize = 1024;
const SEGMENT_MAGIC: [u8; 8] = *b"LoushWAL";
/// Of the format; another is refused.
pub(super) const VERSION: u32 = 1;

/// Checks frame headers of one log. The log's id is part of every checksum: frames of another log
/// are no frames, and a client, who does not know the id, cannot write a payload in which a
/// reader that lost its place would find a frame.
#[derive(Debug, Clone)]
pub(super) struct Key(Hasher);

impl Key {
    pub(super) fn new(id: LogId) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&id.to_bytes());
        Self(hasher)
    }

    fn sum(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// What stands at the head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log: LogId,
    pub(super) segment: u64,
    /// The lsn of the first frame; the following ones count up by one.
    pub(super) base: Lsn,
    /// The greatest lsn that was durable when the segment was made.
    pub(super) prior: Lsn,
}

/// Why there is no segment header in some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadSegment {
    /// No copy has the right magic and checksum.
    Corrupt,
    /// A copy is sound and of this version.
    Version(u32),
}

impl SegmentHeader {
    /// The bytes before the first frame: both copies.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(SEGMENT_HEADER);
        copy.extend_from_slice(&SEGMENT_MAGIC);
        copy.extend_from_slice(&VERSION.to_le_bytes());
        copy.extend_from_slice(&[0; 4]);
        copy.extend_from_slice(&self.log.to_bytes());
        copy.extend_from_slice(&self.segment.to_le_bytes());
        copy.extend_from_slice(&self.base.0.to_le_bytes());
        copy.extend_from_slice(&self.prior.0.to_le_bytes());
        copy.extend_from_slice(&crc32fast::hash(&copy).to_le_bytes());
        let mut bytes = copy.clone();
        bytes.resize(SECOND_COPY, 0);
        bytes.extend_from_slice(&copy);
        bytes.resize(SEGMENT_DATA_LEN, 0);
        bytes
    }

    /// From the bytes before the first frame; either copy will do.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadSegment> {
        match Self::decode_copy(bytes) {
            Err(BadSegment::Corrupt) => {
                Self::decode_copy(bytes.get(SECOND_COPY..).unwrap_or_default())
            }
            done => done,
        }
    }

    fn decode_copy(bytes: &[u8]) -> Result<Self, BadSegment> {
        let mut fields = Fields(bytes);
        let parsed = (|| {
            let magic = fields.take::<8>()?;
            let version = fields.u32()?;
            fields.take::<4>()?;
            let log = LogId::from_bytes(fields.take()?);
            let header = Self {
                log,
                segment: fields.u64()?,
                base: Lsn(fields.u64()?),
                prior: Lsn(fields.u64()?),
            };
            let summed = bytes.get(..bytes.len().checked_sub(fields.0.len())?)?;
            // What is durable has been given out, and the first frame has not: a header that says
            // otherwise is no log's, whatever its sum. (Of another version we know the sum alone.)
            let possible = version != VERSION || header.prior < header.base;
            (magic == SEGMENT_MAGIC && fields.u32()? == crc32fast::hash(summed) && possible)
                .then_some((version, header))
        })();
        match parsed {
            Some((VERSION, header)) => Ok(header),
            Some((version, _)) => Err(BadSegment::Version(version)),
            None => Err(BadSegment::Corrupt),
        }
    }
}

/// What stands at the head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Bytes of the body.
    pub(super) len: u32,
    pub(super) lsn: Lsn,
    pub(super) segment: u64,
    /// The greatest lsn that was durable when the frame was written.
    pub(super) durable: Lsn,
    /// CRC-32 (IEEE) of the body.
    pub(super) body_crc: u32,
}

impl FrameHeader {
    pub(super) fn encode(&self, key: &Key) -> [u8; FRAME_HEADER] {
        let mut out = [0; FRAME_HEADER];
        out[..4].copy_from_slice(&FRAME_MAGIC);
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.segment.to_le_bytes());
        out[24..32].copy_from_slice(&self.durable.0.to_le_bytes());
        out[32..36].copy_from_slice(&self.body_crc.to_le_bytes());
        let sum = key.sum(&out[..36]);
        out[36..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`, if there is one of this log and `segment`.
    pub(super) fn decode(bytes: &[u8], key: &Key, segment: u64) -> Option<Self> {
        let mut fields = Fields(bytes);
        let magic = fields.take::<4>()?;
        let header = Self {
            len: fields.u32()?,
            lsn: Lsn(fields.u64()?),
            segment: fields.u64()?,
            durable: Lsn(fields.u64()?),
            body_crc: fields.u32()?,
        };
        // The sum last: most candidates fail on the magic. No frame is written when it, or a later
        // one, is durable already.
        (magic == FRAME_MAGIC
            && header.segment == segment
            && header.durable < header.lsn
            && fields.u32()? == key.sum(bytes.get(..36)?))
        .then_some(header)
    }

    /// Bytes from this frame's start to the next one's.
    pub(super) fn frame_len(&self) -> u64 {
        frame_len(self.len)
    }
}

/// Bytes that a frame with a body of `len` bytes takes in a segment.
pub(super) fn frame_len(len: u32) -> u64 {
    u64::from(len).saturating_add(FRAME_HEADER_U64).next_multiple_of(ALIGN)
}

/// Little-endian fields from the front of some bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
