//! The task that reads durable frames as they come.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Live;
use crate::pipeline::Pipeline;
use crate::pipeline::frame::DurableFrame;
use crate::sink::{Fed, SinkStatus};

/// Bytes of frames taken at once.
const FEED_BYTES: usize = 1 << 20;
/// The longest wait for frames.
const WAIT: Duration = Duration::from_secs(1);
/// Frames that it may be behind; then it goes on at the end. Some seconds of a storm: what is shown is
/// to be new, and reading the log again for it would take the disk from those who must.
const BEHIND: u64 = 8192;
/// The pause after the log could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads until the log is closed. Nobody waits for it, and it holds nothing.
pub(crate) async fn tap(live: Arc<Live>, pipeline: Arc<Pipeline>) {
    // A status of its own that nobody counts: it holds no segment of the log.
    let feed = |after| pipeline.feed(after, SinkStatus::new("live"));
    let begun = pipeline.log().durable().0;
    live.begin(begun);
    let mut next = feed(begun);
    loop {
        let behind = pipeline.log().durable().0.saturating_sub(next.position());
        if behind > BEHIND {
            live.skip(behind);
            next = feed(pipeline.log().durable().0);
        }
        match next.next(FEED_BYTES, WAIT).await {
            Ok(Fed::Closed) => return,
            Ok(Fed::Frames { frames, up_to }) => live.see(&frames, up_to),
            Err(error) => {
                let end = pipeline.log().durable().0;
                tracing::warn!(%error, "the live feed goes on at the end of the log");
                live.skip(end.saturating_sub(next.position()));
                next = feed(end);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Live {
    /// Frames up to here were durable before.
    pub(super) fn begin(&self, durable: u64) {
        let mut seen = self.seen.lock();
        seen.durable.begin(durable);
        seen.stored.begin(durable);
    }

    fn skip(&self, frames: u64) {
        self.skipped.fetch_add(frames, Ordering::Relaxed);
    }

    /// Frames are durable, all there are up to `up_to`.
    pub(super) fn see(&self, frames: &[Arc<DurableFrame>], up_to: u64) {
        let now = self.clock.now();
        {
            let mut seen = self.seen.lock();
            for frame in frames {
                seen.note(frame, now.ns());
            }
            seen.durable.note(up_to, now.ms());
        }
        for frame in frames {
            self.watches.show(frame, &self.registry);
        }
    }
}
