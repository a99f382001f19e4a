//! Shortening the log: what every sink has stored goes, but for what is kept for replay; when there
//! is no more room, that as well, and then what lagging sinks let go that are configured to.
//!
//! *No more room* is when the log's limit has none for another segment, or its disk's free space is
//! less than a segment above the floor: a moment before appends are refused.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::{Role, Sinks, Told};
use crate::causes::Chain;
use crate::clock::Clock;
use crate::config::Keep;
use crate::io::Io;
use crate::pipeline::Pipeline;
use crate::wal::{DeleteError, LogOptions, Span};

/// How often the log is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Shortens the log.
#[derive(Debug)]
pub(in crate::service) struct Trimmer {
    pipeline: Arc<Pipeline>,
    sinks: Arc<Sinks>,
    io: Arc<dyn Io>,
    dir: std::path::PathBuf,
    clock: Clock,
    options: LogOptions,
    keep: Keep,
    /// Held from the look at the cursors until what lies below them is deleted.
    still: Mutex<()>,
}

impl Trimmer {
    pub(in crate::service) fn new(
        pipeline: Arc<Pipeline>,
        sinks: Arc<Sinks>,
        io: Arc<dyn Io>,
        dir: std::path::PathBuf,
        clock: Clock,
        options: LogOptions,
        keep: Keep,
    ) -> Self {
        Self { pipeline, sinks, io, dir, clock, options, keep, still: Mutex::new(()) }
    }

    pub(in crate::service) fn sinks(&self) -> &Arc<Sinks> {
        &self.sinks
    }

    /// Nothing is deleted from the log while this is held.
    pub(super) fn still(&self) -> MutexGuard<'_, ()> {
        self.still.lock()
    }

    /// Deletes what may go. Blocks for the file system.
    fn trim(&self) -> Result<usize, DeleteError> {
        let still = self.still.lock();
        let Some(below) = self.sinks.holding().map(|entry| entry.status.cursor()).min() else {
            return Ok(0);
        };
        let spans = self.pipeline.log().spans();
        let Some((_active, old)) = spans.split_last() else { return Ok(0) };
        let free: Vec<&Span> = old.iter().take_while(|span| span.last.0 <= below).collect();
        let mut kept = self.kept(&free, &spans);
        if let Some(after) = self.sinks.replays_want_after() {
            let read = free.iter().take_while(|span| span.last.0 <= after).count();
            kept = kept.max(free.len() - read);
        }
        let mut go = free.len().saturating_sub(kept);
        let pressed = self.pressed(&spans, free.iter().take(go).map(|span| span.size).sum());
        // What is kept for replay, or is being replayed, gives way first, the oldest of it.
        go = free.len().min(go + pressed);
        let deleted = match go.checked_sub(1).and_then(|last| free.get(last)) {
            Some(span) => self.pipeline.log().delete_below(span.last)?,
            None => 0,
        };
        drop(still);
        if pressed > 0 && deleted == 0 {
            self.let_go(&spans);
        }
        Ok(deleted)
    }

    /// How many of the segments that nobody needs are kept for replay, the youngest.
    fn kept(&self, free: &[&Span], all: &[Span]) -> usize {
        if self.keep == Keep::default() {
            return 0;
        }
        let now = self.clock.now().ns();
        let (mut kept, mut bytes) = (0, 0_u64);
        for (at, span) in free.iter().enumerate().rev() {
            bytes = bytes.saturating_add(span.size);
            if self.keep.bytes.is_some_and(|most| bytes > most) {
                break;
            }
            if let Some(age) = self.keep.age {
                // It ended when the next one began.
                let next = all.get(at + 1).map_or(span.last.0, |next| next.base.0);
                // Unknown is no reason to delete what somebody may want back. Nor is a time before it
                // began: a replayed dead letter's, or the clock was set back.
                let ended = self.pipeline.received(next).ok().flatten().unwrap_or(now);
                let began = self.pipeline.received(span.base.0).ok().flatten().unwrap_or(ended);
                if began <= ended && u128::try_from(now - ended).unwrap_or(0) >= age.as_nanos() {
                    break;
                }
            }
            kept += 1;
        }
        kept
    }

    /// How many segments more have to go than those of `going` bytes.
    fn pressed(&self, spans: &[Span], going: u64) -> usize {
        let segment = self.options.segment_bytes.max(1);
        let used: u64 = spans.iter().map(|span| span.size).sum::<u64>().saturating_sub(going);
        let over_limit = self.options.max_bytes.map_or(0, |max| {
            // As many as both append buffers may need, and one at least: with less, appends are refused
            // once the active segment is full.
            let wanted = segment.saturating_mul(self.options.segments_for_buffers());
            used.saturating_add(wanted).saturating_sub(max)
        });
        let below_floor = self.io.free_bytes(&self.dir).map_or(0, |free| {
            (self.options.free_floor_bytes + segment).saturating_sub(free.saturating_add(going))
        });
        let short = over_limit.max(below_floor);
        usize::try_from(short.div_ceil(segment)).unwrap_or(usize::MAX)
    }

    /// Has sinks that are configured so let the oldest segment go, if they alone hold it.
    fn let_go(&self, spans: &[Span]) {
        let Some(oldest) = spans.first().filter(|_| spans.len() > 1) else { return };
        let holding = || self.sinks.holding().filter(|it| it.status.cursor() < oldest.last.0);
        if holding().any(|entry| !entry.role.lets_go()) {
            return;
        }
        for entry in holding() {
            if let Role::Server { told, .. } = &entry.role {
                // A full queue: it has been told already.
                drop(told.try_send(Told::LetGo(oldest.last.0)));
            }
        }
    }
}

/// Shortens the log once.
pub(in crate::service) async fn trim_now(trimmer: &Arc<Trimmer>) {
    let trimmer = Arc::clone(trimmer);
    let trimmed = tokio::task::spawn_blocking(move || trimmer.trim()).await;
    match trimmed {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(segments)) => tracing::debug!(segments, "log segments were deleted"),
        // Disk that is not freed; the next look tries again.
        Ok(Err(e)) => tracing::warn!(error = %Chain(&e), "the log cannot be shortened"),
    }
}

/// Shortens it again and again.
pub(in crate::service) async fn trimming(trimmer: Arc<Trimmer>) {
    loop {
        tokio::time::sleep(LOOK).await;
        trim_now(&trimmer).await;
    }
}
