//! The log as its callers see it, and what they share with the log thread.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::codec::{self, FRAME_HEADER, Key, SegmentHeader};
use super::recovery::{self, Recovered, Recovery};
use super::segment::{self, Segment};
use super::writer::Writer;
use super::{
    AppendError, CloseError, DeleteError, LogEvents, LogId, LogOptions, Lsn, OpenError, Reader,
};
use crate::io::Io;

/// Frames on their way to the disk, laid out as in a segment. The headers are blank until the log
/// thread knows the segment.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) frames: Vec<Pending>,
    /// Of the first frame.
    pub(super) first: Lsn,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) len: u32,
    pub(super) body_crc: u32,
}

impl Batch {
    /// Of the whole size at once: growing would take up to twice the bound. Pages that are never
    /// used are never touched.
    pub(super) fn of(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Open,
    DiskFull,
    LimitReached,
    Failed,
    Closed,
}

impl Mode {
    const fn refusal(self) -> Option<AppendError> {
        match self {
            Self::Open => None,
            Self::DiskFull => Some(AppendError::DiskFull),
            Self::LimitReached => Some(AppendError::LimitReached),
            Self::Failed => Some(AppendError::Failed),
            Self::Closed => Some(AppendError::Closed),
        }
    }
}

/// Under the append lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) batch: Batch,
    pub(super) next: Lsn,
    pub(super) mode: Mode,
    /// Somebody was refused, and waits to be told.
    pub(super) refused: bool,
    pub(super) closing: bool,
    /// Segments were deleted: there may be room again.
    pub(super) look_again: bool,
}

pub(super) struct Shared {
    pub(super) io: Arc<dyn Io>,
    pub(super) dir: PathBuf,
    pub(super) options: LogOptions,
    pub(super) id: LogId,
    pub(super) key: Key,
    pub(super) state: Mutex<State>,
    /// Wakes the log thread.
    pub(super) wake: Condvar,
    pub(super) durable: watch::Sender<Lsn>,
    /// In the order of their ids; the last one is the active one.
    pub(super) segments: Mutex<VecDeque<Segment>>,
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) failures: AtomicU64,
    /// Held for a whole deletion, so that two callers keep the order.
    pub(super) deleting: Mutex<()>,
}

impl Shared {
    /// The state of a log that was recovered: nothing waits, everything in `segments` may be read.
    pub(super) fn new(
        io: Arc<dyn Io>,
        dir: PathBuf,
        options: LogOptions,
        recovered: &Recovered,
        segments: VecDeque<Segment>,
    ) -> Self {
        let id = recovered.report.log_id;
        let batch = Batch::of(options.buffer_bytes);
        Self {
            io,
            dir,
            options,
            id,
            key: Key::new(id),
            state: Mutex::new(State {
                batch,
                next: recovered.next,
                mode: Mode::Open,
                refused: false,
                closing: false,
                look_again: false,
            }),
            wake: Condvar::new(),
            durable: watch::Sender::new(recovered.durable),
            segments: Mutex::new(segments),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            deleting: Mutex::new(()),
        }
    }

    pub(super) fn durable(&self) -> Lsn {
        *self.durable.borrow()
    }
}

/// The open log. Clones share it; the last one dropped closes it.
#[derive(Clone)]
pub struct Log(Arc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<bool>>>,
}

/// A segment, from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The lsn of its first frame, whether there is one yet or not.
    pub base: Lsn,
    /// The last durable one; less than `base` where there is none.
    pub last: Lsn,
    /// Bytes up to the end of the last durable frame.
    pub used: u64,
    /// Bytes on disk.
    pub size: u64,
}

/// Figures of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStats {
    /// Segment files, the active one included.
    pub segments: usize,
    /// What they take on the disk, preallocated room included.
    pub disk_bytes: u64,
    /// What is in them, durable, headers included.
    pub used_bytes: u64,
    /// Frames made durable since the log was opened.
    pub frames: u64,
    /// Bytes made durable since the log was opened, frame headers and padding included.
    pub bytes: u64,
    /// Successful syncs since the log was opened.
    pub syncs: u64,
    /// Failed writes, syncs and segments since the log was opened.
    pub failures: u64,
    /// The lsn of the oldest frame that may still be read.
    pub first: Lsn,
    /// Every durable frame above this lsn is still here; those up to it may have been deleted. Less
    /// than the predecessor of `first` where the lsns between were never durable.
    pub begins_after: Lsn,
    /// The last durable lsn.
    pub durable: Lsn,
    /// The next lsn to be given out.
    pub next: Lsn,
    /// Why appends are refused now, if they are.
    pub refuses: Option<AppendError>,
    /// Bytes that wait to be written.
    pub buffered_bytes: usize,
}

impl Log {
    /// Recovers the log in `dir`, or begins one, and starts its thread.
    ///
    /// No lsn at or below `floor` will be given out: it is the greatest that any cursor, manifest or
    /// snapshot names. The caller holds the lock of the data folder.
    ///
    /// # Errors
    /// If the folder cannot be read or written, is another version's or mixes two logs, or the
    /// options contradict each other.
    pub fn open(
        io: Arc<dyn Io>,
        dir: &Path,
        options: LogOptions,
        floor: Lsn,
        events: Arc<dyn LogEvents>,
    ) -> Result<(Self, Recovery), OpenError> {
        check(&options)?;
        let mut recovered = recovery::recover(&*io, dir, floor)?;
        let header = SegmentHeader {
            log: recovered.report.log_id,
            segment: recovered.next_segment,
            base: recovered.next,
            prior: recovered.durable,
        };
        let (file, active) = segment::create_empty(&*io, dir, &header, options.segment_bytes)
            .map_err(|source| OpenError::Io { path: segment::path(dir, header.segment), source })?;
        recovered.rename(&*io, dir)?;
        let mut segments = std::mem::take(&mut recovered.segments);
        if recovered.consistent
            && let Err(error) = drop_empty(&*io, dir, &mut segments)
        {
            tracing::warn!(%error, "empty log segments stay for now");
        }
        segments.push_back(active.clone());
        let shared = Shared::new(io, dir.to_owned(), options, &recovered, segments);
        let shared = Arc::new(shared);
        let writer = Writer::new(Arc::clone(&shared), events, file, &active);
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        Ok((Self(Arc::new(Owner { shared, thread: Mutex::new(Some(thread)) })), recovered.report))
    }

    /// Takes a frame. It is durable once [`Log::durable`] reaches the lsn returned, unless
    /// [`LogEvents::failed`] names it before.
    ///
    /// # Errors
    /// The body was not taken; each error says when to try again.
    pub fn append(&self, body: &[u8]) -> Result<Lsn, AppendError> {
        let shared = &self.0.shared;
        let max = shared.options.max_frame_bytes;
        let len = u32::try_from(body.len())
            .ok()
            .filter(|len| *len <= max)
            .ok_or(AppendError::TooLarge { len: body.len(), max })?;
        // Before the lock: it is most of the work.
        let body_crc = crc32fast::hash(body);
        let mut state = shared.state.lock();
        let refusal = state.mode.refusal();
        if refusal == Some(AppendError::Closed) {
            return Err(AppendError::Closed);
        }
        let end = state.batch.bytes.len() + FRAME_HEADER + body.len();
        let end = end.next_multiple_of(codec::ALIGN_LEN);
        let full = (end > shared.options.buffer_bytes).then_some(AppendError::Full);
        if let Some(error) = refusal.or(full) {
            state.refused = true;
            return Err(error);
        }
        let lsn = state.next;
        state.next = lsn.next();
        let batch = &mut state.batch;
        let first = batch.frames.is_empty();
        if first {
            batch.first = lsn;
        }
        batch.frames.push(Pending { len, body_crc });
        batch.bytes.resize(batch.bytes.len() + FRAME_HEADER, 0);
        batch.bytes.extend_from_slice(body);
        batch.bytes.resize(end, 0);
        drop(state);
        if first {
            shared.wake.notify_one();
        }
        Ok(lsn)
    }

    /// The lsn of the next frame.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.0.shared.state.lock().next
    }

    /// The last durable lsn.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.0.shared.durable()
    }

    /// Follows [`Self::durable`].
    #[must_use]
    pub fn watch_durable(&self) -> watch::Receiver<Lsn> {
        self.0.shared.durable.subscribe()
    }

    /// Which log this is.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.0.shared.id
    }

    /// Reads the durable frames above `after`, and those that become durable later.
    #[must_use]
    pub fn reader(&self, after: Lsn) -> Reader {
        Reader::new(Arc::clone(&self.0.shared), after)
    }

    /// Deletes, oldest first, the segments that hold nothing above `lsn`; never the active one.
    /// Blocks for a folder sync for each. Returns how many.
    ///
    /// # Errors
    /// If the file system refuses; what was deleted before stays deleted, and the next call goes on.
    pub fn delete_below(&self, lsn: Lsn) -> Result<usize, DeleteError> {
        let shared = &self.0.shared;
        let _order = shared.deleting.lock();
        let mut deleted = 0;
        loop {
            let oldest = {
                let segments = shared.segments.lock();
                segments.front().filter(|s| segments.len() > 1 && s.last <= lsn).cloned()
            };
            let Some(Segment { path, .. }) = oldest else { break };
            let removed = match shared.io.remove_file(&path) {
                // An earlier try got this far.
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
            removed
                .and_then(|()| shared.io.sync_dir(&shared.dir))
                .map_err(|source| DeleteError { path, source })?;
            shared.segments.lock().pop_front();
            deleted += 1;
        }
        shared.gauges();
        if deleted > 0 {
            shared.state.lock().look_again = true;
            shared.wake.notify_one();
        }
        Ok(deleted)
    }

    /// What is in each segment, oldest first; the last one is being written.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let segments = self.0.shared.segments.lock();
        let span = |s: &Segment| Span { base: s.base, last: s.last, used: s.end, size: s.size };
        segments.iter().map(span).collect()
    }

    /// Bytes of the durable frames above `lsn`: exact to a segment, and within one as if all its
    /// frames were as long.
    #[must_use]
    pub fn bytes_after(&self, lsn: Lsn) -> u64 {
        let of = |span: &Span| {
            let used = span.used.saturating_sub(codec::SEGMENT_DATA);
            let frames = span.last.0.saturating_sub(span.base.prev().0);
            let above = span.last.0.saturating_sub(lsn.max(span.base.prev()).0);
            // Of products of two u64.
            let share = u128::from(used) * u128::from(above) / u128::from(frames.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        self.spans().iter().map(of).sum()
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let shared = &self.0.shared;
        let (next, refuses, buffered_bytes) = {
            let state = shared.state.lock();
            (state.next, state.mode.refusal(), state.batch.bytes.len())
        };
        let segments = shared.segments.lock();
        LogStats {
            segments: segments.len(),
            disk_bytes: segments.iter().map(|s| s.size).sum(),
            used_bytes: segments.iter().map(|s| s.end).sum(),
            frames: shared.frames.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
            syncs: shared.syncs.load(Ordering::Relaxed),
            failures: shared.failures.load(Ordering::Relaxed),
            first: segments.front().map_or(next, |s| s.base),
            begins_after: segments.front().map_or(Lsn::ZERO, |s| s.prior),
            durable: shared.durable(),
            next,
            refuses,
            buffered_bytes,
        }
    }

    /// Takes no more frames, writes and syncs what it has, and ends the thread. Blocks for that, and
    /// must not be called on the log thread. Further calls do nothing.
    ///
    /// # Errors
    /// If frames that were taken could not be made durable; they were reported as failed.
    pub fn close(&self) -> Result<(), CloseError> {
        self.0.close()
    }
}

impl Shared {
    pub(super) fn gauges(&self) {
        let segments = self.segments.lock();
        let bytes: u64 = segments.iter().map(|s| s.size).sum();
        #[allow(clippy::cast_precision_loss)] // exact up to 8 PiB
        metrics::gauge!("loushan_wal_disk_bytes").set(bytes as f64);
        #[allow(clippy::cast_precision_loss)]
        metrics::gauge!("loushan_wal_segments").set(segments.len() as f64);
    }
}

impl Owner {
    fn close(&self) -> Result<(), CloseError> {
        {
            let mut state = self.shared.state.lock();
            state.closing = true;
            // What fails meanwhile stays in its own mode: the thread sets this one at its end.
            if state.mode != Mode::Failed {
                state.mode = Mode::Closed;
            }
            self.shared.wake.notify_one();
        }
        let clean = match self.thread.lock().take() {
            // A thread that panicked wrote what it wrote; what it did not is not durable.
            Some(thread) => thread.join().unwrap_or(false),
            None => true,
        };
        if clean { Ok(()) } else { Err(CloseError { durable: self.shared.durable() }) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "log closed");
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.0.shared.dir).finish_non_exhaustive()
    }
}

/// Deletes segments without a valid frame, each of which holds a whole segment's room. Out of order,
/// and yet safe: nothing became durable in them, so their successor's *prior* is the same as theirs,
/// and voids the same frames before them. (Where it is not, a header was lost; they stay until their
/// turn comes.)
pub(super) fn drop_empty(
    io: &dyn Io,
    dir: &Path,
    segments: &mut VecDeque<Segment>,
) -> io::Result<()> {
    let empty = |segment: &Segment| segment.last < segment.base && segment.last == segment.prior;
    for segment in segments.iter().filter(|segment| empty(segment)) {
        io.remove_file(&segment.path)?;
    }
    segments.retain(|segment| !empty(segment));
    io.sync_dir(dir)
}

fn check(options: &LogOptions) -> Result<(), OpenError> {
    let frame = codec::frame_len(options.max_frame_bytes);
    let segment = options.segment_bytes.saturating_sub(codec::SEGMENT_DATA);
    if frame > segment {
        return Err(OpenError::Options(
            "max_frame_bytes does not fit segment_bytes: raise the latter",
        ));
    }
    if options.floor_check.is_zero() || options.retry_pause.is_zero() {
        return Err(OpenError::Options(
            "floor_check and retry_pause of zero would spin: raise them",
        ));
    }
    if frame > options.buffer_bytes as u64 {
        return Err(OpenError::Options(
            "max_frame_bytes does not fit buffer_bytes: raise the latter",
        ));
    }
    Ok(())
}
