//! The write-ahead log: what is in it, and durable, was promised to somebody.
//!
//! The log takes opaque bodies, gives each an lsn, writes them to segments, syncs, and says which
//! lsns are durable. Readers hand the bodies out again in order. What a body means is another
//! module's business.
//!
//! # Bytes
//!
//! All integers are little-endian. A segment is a file `segment-<id, 20 digits>.wal`:
//!
//! | offset | bytes | segment |
//! |---|---|---|
//! | 0 | 64 | header |
//! | 512 | 64 | the same header again, in another sector |
//! | 1024 | | frames, each at a multiple of 16; then zeros up to the preallocated length |
//!
//! | offset | bytes | segment header |
//! |---|---|---|
//! | 0 | 8 | `LoushWAL` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | zero |
//! | 16 | 16 | log id, random, the same in all segments of a log |
//! | 32 | 8 | segment id, ever increasing, never used twice; also in the file's name |
//! | 40 | 8 | base: the lsn of the first frame |
//! | 48 | 8 | prior: the greatest lsn that was durable when the segment was made |
//! | 56 | 4 | CRC-32 (IEEE) of bytes 0..56 |
//! | 60 | 4 | zero |
//!
//! | offset | bytes | frame |
//! |---|---|---|
//! | 0 | 4 | `LsFr` |
//! | 4 | 4 | length of the body |
//! | 8 | 8 | lsn |
//! | 16 | 8 | segment id |
//! | 24 | 8 | the greatest lsn that was durable when the frame was written |
//! | 32 | 4 | CRC-32 (IEEE) of the body |
//! | 36 | 4 | CRC-32 (IEEE) of the log id followed by bytes 0..36 |
//! | 40 | | the body, then zeros up to the next multiple of 16 |
//!
//! Within a segment lsns count up by one. Between segments there may be a gap: lsns that were given
//! out and failed. The first lsn is 1; none is ever given out twice by one log.
//!
//! # Life of a frame
//!
//! [`Log::append`] copies the body into a bounded buffer under a short lock and returns its lsn. One
//! thread swaps the buffer for an empty one, writes it, syncs once, and publishes: only now is the
//! lsn *durable*, [`LogEvents::durable`] called, and the frame visible to readers. Under
//! [`SyncPolicy::Interval`] the sync comes later, and everything else is the same.
//!
//! # Life of a segment
//!
//! Made as `….wal.new` with its header, synced, renamed, folder synced; then written from front to
//! back by the log thread alone; then, when the next frame does not fit, synced, and never written
//! again. So whatever precedes a segment is settled by its header: frames up to *prior* were synced,
//! frames above it are void. It is deleted by [`Log::delete_below`], oldest first, each deletion
//! durable before the next: a segment that is gone never leaves behind an older one whose void
//! frames it alone knew of.
//!
//! # A failed write or sync
//!
//! Linux may have marked the pages clean: a second sync would succeed and mean nothing. So the
//! segment is never touched again. The log refuses appends, tells [`LogEvents::failed`] which lsns
//! are void, makes a new segment whose *prior* says so durably (trying again with growing pauses),
//! and only then takes appends, with higher lsns. An append that raced with the failure was either
//! refused or is within the range of that call.
//!
//! If the process ends before the new segment is made, frames that failed may be recovered. That is
//! harmless: nobody acted on the failure yet but by answering nothing, exactly as if the process had
//! ended before the answer.
//!
//! # Room
//!
//! The log refuses appends while its disk has less free space than a floor, and while its segments
//! have come to a limit. Both are looked at with room to spare, so that everything that was taken is
//! written; both end by themselves when segments are deleted or room is made, and
//! [`LogEvents::writable`] says so.
//!
//! # Recovery
//!
//! Segments are read in the order of their ids. Bytes that are no valid frame are, in the region
//! proven durable (up to the next segment's *prior*; in the last segment up to the greatest durable
//! lsn any of its frames names), **corrupt**: copied to `corrupt/<segment>-<offset>.bin`, counted
//! by the gap in the lsns, reported, and passed over. Beyond it they are **torn**: nothing there was
//! acknowledged, unless it was the very last sync before a disk went bad, and reading ends.
//!
//! Valid frames beyond the proven region could have been acknowledged. Whether they are on the disk
//! or only in the page cache after a failed sync cannot be known, so they are written once more, to
//! a segment of their own that is complete and synced before it gets its name. Everything they leave
//! behind is void by that segment's *prior*: the old file is not cut, and not written. New frames go
//! to a fresh segment after it.
//!
//! A header is also bad that no log can have written: a segment that begins with what is durable, a
//! frame that was durable before it was written. Where a segment's header says that it begins before
//! its predecessor does, or knows less durable, the predecessor's word stands: so each lsn counts in
//! one segment at most, and what recovery counts and calls durable is what a reader gets.
//!
//! A segment both of whose headers are bad is read by its frames, which carry its id. If it has none
//! either, it is renamed to `….wal.corrupt`, but only when there is a new segment, and as many lsns as
//! it could have held are skipped: without either, a second start would give them out again. If no
//! segment has a readable header the log is refused: the key to its frames is gone. A file that
//! cannot be read at all is no corruption but an error, and the log is not opened.
//!
//! Reading is streaming, in chunks of a mebibyte and at most one frame more. Segments in which no
//! frame is valid are deleted once the new one is made.
//!
//! # What is never done
//!
//! * Writing to a segment after a failed write or sync, or after a restart.
//! * Syncing again what failed to sync.
//! * Handing out a frame that is not durable, or one that is void.
//! * Giving out an lsn twice, or one at or below a sink's cursor.
//! * Deleting anything but whole segments: those below the lsn the caller names, and at start those
//!   that are unfinished or without a valid frame.
//! * Skipping a missing frame without counting it.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::Duration;

mod aside;
mod codec;
mod error;
#[cfg(feature = "testing")]
pub(crate) mod fuzzing;
mod log;
mod reader;
mod recovery;
mod scan;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{AppendError, CloseError, DeleteError, OpenError};
pub use log::{Log, LogStats, Span};
pub use reader::{Frame, ReadError, Reader};
pub use recovery::Recovery;

/// A frame's place in the log: log sequence number. The first is 1; 0 stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first frame.
    pub const ZERO: Self = Self(0);

    /// The following one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tells one log from another, so that a store is never fed from a foreign one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(u64, u64);

impl LogId {
    fn random() -> Self {
        // The hasher's keys come from the operating system's random numbers.
        let draw = || RandomState::new().build_hasher().finish();
        Self(draw(), draw())
    }

    /// As it stands in files.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..].copy_from_slice(&self.1.to_le_bytes());
        bytes
    }

    /// From [`Self::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(rest))
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0, self.1)
    }
}

/// When the log thread syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// After each write, before anything more is written.
    Always,
    /// This long after the first write that was not synced. Readers see durable frames only, as
    /// ever; a caller that acknowledges an append at once may lose what was appended within one
    /// interval and the time of one sync.
    Interval(Duration),
}

/// How a log behaves. [`Default`] is what `serve` uses when nothing is configured.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Length to which a segment is preallocated.
    pub segment_bytes: u64,
    /// Bound of the append buffer. There are two: one being filled, one being written.
    pub buffer_bytes: usize,
    /// Greatest body. A frame must fit an empty segment and an empty buffer.
    pub max_frame_bytes: u32,
    /// When to sync.
    pub sync: SyncPolicy,
    /// Appends are refused while the file system has less room than this: sinks need some to write
    /// what allows segments to be deleted.
    pub free_floor_bytes: u64,
    /// Bytes of all segments together, preallocated room included, beyond which appends are refused:
    /// what was taken before still fits. A segment made after a failure may exceed it by itself.
    pub max_bytes: Option<u64>,
    /// How often the free space is looked at, beside at each new segment.
    pub floor_check: Duration,
    /// The first pause before a failed making of a segment is tried again; each further one is
    /// twice as long, up to a hundred times.
    pub retry_pause: Duration,
}

impl LogOptions {
    /// How many empty segments hold what both append buffers may.
    pub(crate) fn segments_for_buffers(&self) -> u64 {
        let usable = self.segment_bytes.saturating_sub(codec::SEGMENT_DATA).max(1);
        (2 * self.buffer_bytes as u64).div_ceil(usable)
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            buffer_bytes: 16 << 20,
            max_frame_bytes: 4 << 20,
            sync: SyncPolicy::Always,
            free_floor_bytes: 512 << 20,
            max_bytes: None,
            floor_check: Duration::from_secs(1),
            retry_pause: Duration::from_millis(50),
        }
    }
}

/// What the log tells its owner. Called on the log thread, one at a time, with no lock of the log
/// held: an implementation may call the log, but whatever it waits for, the log waits for.
pub trait LogEvents: Send + Sync + 'static {
    /// Every frame up to this one that did not fail is durable. Never goes back.
    fn durable(&self, up_to: Lsn);
    /// Every lsn above `above` up to `up_to` is void: it will not be durable, and not be read. Until
    /// this returns, and a new segment is synced, no append is taken. What failed before may be
    /// within the range again.
    fn failed(&self, above: Lsn, up_to: Lsn, error: &io::Error);
    /// An append was refused, and one may now succeed.
    fn writable(&self);
}
