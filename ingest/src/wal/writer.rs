//! The log thread: swap, write, sync, publish; and what it does when one of these fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::codec::{FRAME_HEADER, FrameHeader, SEGMENT_DATA, SegmentHeader, frame_len};
use super::log::{Batch, Mode, Shared};
use super::segment::{self, Segment};
use super::{LogEvents, Lsn, SyncPolicy};
use crate::io::{IoFile, write_all_at};

/// Of the pause between two tries to make a segment, as a multiple of the first pause.
const MAX_PAUSE: u32 = 100;

pub(super) struct Writer {
    shared: Arc<Shared>,
    events: Arc<dyn LogEvents>,
    file: Box<dyn IoFile>,
    /// Of the active segment.
    segment: u64,
    at: u64,
    /// The last frame written, durable or not.
    written: Lsn,
    frames_unsynced: u64,
    bytes_unsynced: u64,
    /// When the oldest write that was not synced was made.
    unsynced_since: Option<Instant>,
    floor_checked: Instant,
    /// The room is to be looked at now.
    look: bool,
    /// The other of the two buffers.
    spare: Batch,
}

/// The thread's end, also by a panic of an event's receiver: appends are refused, not swallowed.
struct AtEnd(Arc<Shared>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.state.lock().mode = Mode::Closed;
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        events: Arc<dyn LogEvents>,
        file: Box<dyn IoFile>,
        active: &Segment,
    ) -> Self {
        Self {
            events,
            file,
            segment: active.id,
            at: active.end,
            written: shared.durable(),
            frames_unsynced: 0,
            bytes_unsynced: 0,
            unsynced_since: None,
            floor_checked: Instant::now(),
            look: false,
            spare: Batch::of(shared.options.buffer_bytes),
            shared,
        }
    }

    /// Until the log is closed; whether all that was taken is durable or was.
    pub(super) fn run(mut self) -> bool {
        let _at_end = AtEnd(Arc::clone(&self.shared));
        self.shared.gauges();
        self.check_floor();
        loop {
            let closing = self.swap();
            let mut batch = std::mem::take(&mut self.spare);
            let mut done = self.write(&mut batch);
            batch.clear();
            self.spare = batch;
            if done.is_ok() && (closing || self.sync_due()) {
                done = self.sync();
            }
            if let Err(error) = done {
                if !self.fail(&error) {
                    return false;
                }
            } else if closing {
                return true;
            }
            let look = std::mem::take(&mut self.look);
            if look || self.floor_checked.elapsed() >= self.shared.options.floor_check {
                self.check_floor();
            } else if self.shared.options.max_bytes.is_some() {
                // With each write, or a burst between two looks would pass the limit.
                self.set_room(None);
            }
        }
    }

    /// Waits for frames, or for something else that is due, and takes the full buffer for the empty
    /// one. Returns whether the log is to be closed.
    fn swap(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut until = self.floor_checked + shared.options.floor_check;
        if let (SyncPolicy::Interval(interval), Some(since)) =
            (shared.options.sync, self.unsynced_since)
        {
            until = until.min(since + interval);
        }
        let mut state = shared.state.lock();
        while state.batch.frames.is_empty() && !state.closing && !state.look_again {
            if shared.wake.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        std::mem::swap(&mut state.batch, &mut self.spare);
        let closing = state.closing;
        if std::mem::take(&mut state.look_again) {
            self.look = true;
        }
        let tell = state.refused && state.mode == Mode::Open;
        state.refused &= !tell;
        drop(state);
        if tell {
            self.events.writable();
        }
        closing
    }

    /// Writes a batch, over as many segments as it needs. Each segment is synced before the next is
    /// made, for the next one's header vouches for it.
    fn write(&mut self, batch: &mut Batch) -> io::Result<()> {
        let mut frames = batch.frames.as_slice();
        let mut bytes = batch.bytes.as_mut_slice();
        let mut lsn = batch.first;
        let size = self.shared.options.segment_bytes;
        while !frames.is_empty() {
            let durable = self.shared.durable();
            let start = self.at;
            let mut end = start;
            let mut count = 0;
            let mut rest = &mut *bytes;
            for frame in frames {
                let len = frame_len(frame.len);
                if end + len > size {
                    break;
                }
                let header = FrameHeader {
                    len: frame.len,
                    lsn,
                    segment: self.segment,
                    durable,
                    body_crc: frame.body_crc,
                };
                let len_here = usize::try_from(len).map_err(io::Error::other)?;
                let (this, others) =
                    rest.split_at_mut_checked(len_here).ok_or(io::ErrorKind::InvalidData)?;
                let blank = this.get_mut(..FRAME_HEADER).ok_or(io::ErrorKind::InvalidData)?;
                blank.copy_from_slice(&header.encode(&self.shared.key));
                rest = others;
                end += len;
                count += 1;
                lsn = lsn.next();
            }
            let run = usize::try_from(end - start).map_err(io::Error::other)?;
            let (run, others) =
                bytes.split_at_mut_checked(run).ok_or(io::ErrorKind::InvalidData)?;
            write_all_at(&*self.file, run, start)?;
            if count > 0 {
                self.at = end;
                self.written = lsn.prev();
                self.frames_unsynced += count as u64;
                self.bytes_unsynced += end - start;
                self.unsynced_since.get_or_insert_with(Instant::now);
            }
            bytes = others;
            frames = frames.get(count..).unwrap_or_default();
            if !frames.is_empty() {
                self.sync()?;
                self.next_segment(lsn)?;
                self.check_floor();
            }
        }
        Ok(())
    }

    fn sync_due(&self) -> bool {
        self.unsynced_since.is_some_and(|since| match self.shared.options.sync {
            SyncPolicy::Always => true,
            SyncPolicy::Interval(interval) => since.elapsed() >= interval,
        })
    }

    /// Syncs and publishes what was written.
    fn sync(&mut self) -> io::Result<()> {
        if self.unsynced_since.is_none() {
            return Ok(());
        }
        let begun = Instant::now();
        self.file.sync_data()?;
        metrics::histogram!("loushan_wal_sync_seconds").record(begun.elapsed());
        self.unsynced_since = None;
        let (frames, bytes) =
            (std::mem::take(&mut self.frames_unsynced), std::mem::take(&mut self.bytes_unsynced));
        let shared = &self.shared;
        shared.frames.fetch_add(frames, Ordering::Relaxed);
        shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        shared.syncs.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("loushan_wal_frames_total").increment(frames);
        metrics::counter!("loushan_wal_written_bytes_total").increment(bytes);
        // First where readers look, then the number that sends them there.
        if let Some(active) = shared.segments.lock().back_mut() {
            active.last = self.written;
            active.end = self.at;
        }
        shared.durable.send_replace(self.written);
        self.events.durable(self.written);
        Ok(())
    }

    /// Begins a segment whose first frame will be `base`.
    fn next_segment(&mut self, base: Lsn) -> io::Result<()> {
        let shared = &self.shared;
        // Also a failed try uses its id up: its file may come back after a power loss.
        self.segment += 1;
        let header =
            SegmentHeader { log: shared.id, segment: self.segment, base, prior: shared.durable() };
        let size = shared.options.segment_bytes;
        let (file, segment) = segment::create_empty(&*shared.io, &shared.dir, &header, size)?;
        shared.segments.lock().push_back(segment);
        self.file = file;
        self.at = SEGMENT_DATA;
        shared.gauges();
        Ok(())
    }

    /// Voids what is not durable and begins anew. `false` if the log was closed meanwhile.
    fn fail(&mut self, error: &io::Error) -> bool {
        let shared = Arc::clone(&self.shared);
        let last = {
            let mut state = shared.state.lock();
            state.mode = Mode::Failed;
            state.batch.clear();
            state.next.prev()
        };
        let durable = shared.durable();
        self.unsynced_since = None;
        self.frames_unsynced = 0;
        self.bytes_unsynced = 0;
        self.written = durable;
        self.note_failure(error);
        self.events.failed(durable, last, error);

        let first_pause = shared.options.retry_pause;
        let mut pause = first_pause;
        loop {
            if shared.state.lock().closing {
                return false;
            }
            match self.next_segment(last.next()) {
                Ok(()) => break,
                Err(error) => self.note_failure(&error),
            }
            self.pause(pause);
            pause = (pause * 2).min(first_pause * MAX_PAUSE);
        }
        tracing::info!(segment = self.segment, "log goes on in a new segment");
        {
            let mut state = shared.state.lock();
            state.mode = if state.closing { Mode::Closed } else { Mode::Open };
        }
        self.check_floor();
        self.tell_writable();
        true
    }

    fn note_failure(&self, error: &io::Error) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("loushan_wal_failures_total").increment(1);
        let durable = self.shared.durable().0;
        tracing::error!(%error, segment = self.segment, durable, "log cannot write");
    }

    /// At most this long; less if the log is to be closed.
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.shared.state.lock();
        while !state.closing && !self.shared.wake.wait_until(&mut state, until).timed_out() {}
    }

    /// Opens or closes the log by the free space and by its limit.
    fn check_floor(&mut self) {
        self.floor_checked = Instant::now();
        match self.shared.io.free_bytes(&self.shared.dir) {
            Ok(free) => self.set_room(Some(free)),
            // Not knowing is no reason to refuse: a write that finds no room fails on its own.
            Err(error) => {
                tracing::warn!(%error, "free disk space of the log is unknown");
                self.set_room(None);
            }
        }
    }

    /// Whether what both append buffers may hold still fits below the limit.
    fn fits_limit(&self) -> bool {
        let shared = &self.shared;
        let Some(max) = shared.options.max_bytes else { return true };
        let size = shared.options.segment_bytes;
        let used: u64 = shared.segments.lock().iter().map(|s| s.size).sum();
        let more = max.saturating_sub(used) / size.max(1);
        let room =
            size.saturating_sub(self.at) + more.saturating_mul(size.saturating_sub(SEGMENT_DATA));
        room >= 2 * shared.options.buffer_bytes as u64
    }

    /// Opens or closes the log; `free` bytes on its disk, where that was looked at.
    fn set_room(&mut self, free: Option<u64>) {
        let floor = self.shared.options.free_floor_bytes;
        let fits = self.fits_limit();
        let (before, now) = {
            let mut state = self.shared.state.lock();
            let before = state.mode;
            let below = free.map_or(before == Mode::DiskFull, |free| free < floor);
            state.mode = match before {
                Mode::Failed | Mode::Closed => before,
                _ if below => Mode::DiskFull,
                _ if !fits => Mode::LimitReached,
                _ => Mode::Open,
            };
            (before, state.mode)
        };
        if before == now {
            return;
        }
        let limit = self.shared.options.max_bytes;
        match now {
            Mode::DiskFull => {
                tracing::error!(free, floor, "log refuses appends: too little free disk space");
            }
            Mode::LimitReached => {
                tracing::error!(limit, "log refuses appends: it has reached its size limit");
            }
            Mode::Open => {
                tracing::info!(free, floor, limit, "log takes appends again");
                self.tell_writable();
            }
            Mode::Failed | Mode::Closed => {}
        }
    }

    fn tell_writable(&self) {
        let tell = {
            let mut state = self.shared.state.lock();
            let tell = state.refused && state.mode == Mode::Open;
            state.refused &= !tell;
            tell
        };
        if tell {
            self.events.writable();
        }
    }
}
