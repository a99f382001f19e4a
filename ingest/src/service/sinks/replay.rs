//! Readings of the past given to a sink again, beside what comes: from the log's retained past or from
//! the embedded store.
//!
//! A second writer of the same sink, with a cursor and refused readings of its own below the sink's
//! folder, is fed like any: it batches, retries and waits as the live one does, and holds no more.
//! The points are the same ones, whichever way they come, because all of a point comes out of the row:
//! a replay that was broken off is begun again, and what was stored already changes nothing.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use loushan_schemas::time::DeviceTime;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::supervise::open;
use crate::causes::Chain;
use crate::config::SinkConfig;
use crate::io::Io;
use crate::pipeline::frame::DurableFrame;
use crate::pipeline::{Pipeline, replay};
use crate::sink::dead_letter::{DeadLetterConfig, LetterFiles};
use crate::sink::embedded::{Bounds, Stop, Store, Which, rows_of};
use crate::sink::{
    Fed, Feed, FeedError, FrameSource, ReplayFigures, ReplayOf, ReplayState, SinkStatus,
};
use crate::wal::{Log, Lsn};

/// Rows of one frame at most.
const FRAME_ROWS: usize = 500;
/// Frames between whoever reads and the sink.
const FRAMES: usize = 8;
/// How often the end of the writing is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// A replay, running or done.
#[derive(Debug)]
pub(super) struct Replay {
    status: Arc<SinkStatus>,
    of: ReplayOf,
    /// The last frame of the log that was read.
    read: Arc<AtomicU64>,
    ended: Mutex<Option<Result<(), String>>>,
    pub(super) stop: CancellationToken,
}

/// What a replay is made of.
pub(super) struct Making {
    pub(super) io: Arc<dyn Io>,
    /// The sink's folder.
    pub(super) dir: std::path::PathBuf,
    pub(super) config: SinkConfig,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) store: Store,
    pub(super) from: DeviceTime,
    pub(super) to: DeviceTime,
}

impl Replay {
    pub(super) fn new(name: &Arc<str>, of: ReplayOf, stop: CancellationToken) -> Arc<Self> {
        let status = SinkStatus::new(Arc::clone(name));
        let after = match of {
            ReplayOf::Log { after } => after,
            ReplayOf::Store => 0,
        };
        let read = Arc::new(AtomicU64::new(after));
        Arc::new(Self { status, of, read, ended: Mutex::new(None), stop })
    }

    pub(super) fn is_running(&self) -> bool {
        self.ended.lock().is_none()
    }

    /// Behind which lsn it still wants the log, while it reads that.
    pub(super) fn wants_after(&self) -> Option<u64> {
        let reads = matches!(self.of, ReplayOf::Log { .. }) && self.is_running();
        reads.then(|| self.read.load(Ordering::Relaxed))
    }

    pub(super) fn figures(&self) -> ReplayFigures {
        let figures = self.status.figures();
        let (state, error) = match &*self.ended.lock() {
            None => (ReplayState::Running, None),
            Some(Ok(())) => (ReplayState::Done, None),
            Some(Err(why)) => (ReplayState::Failed, Some(why.clone())),
        };
        ReplayFigures {
            state,
            of: self.of,
            given: figures.fed,
            stored: figures.stored,
            refused: figures.refused,
            pending: figures.pending,
            trouble: error.or(figures.trouble),
        }
    }

    /// Runs it to its end.
    pub(super) async fn run(self: Arc<Self>, making: Making) {
        let ended = self.go(making).await;
        match &ended {
            Ok(()) => tracing::info!(
                sink = &**self.status.name(),
                readings = self.status.figures().fed,
                "a replay is done"
            ),
            Err(why) => {
                tracing::error!(sink = &**self.status.name(), why, "a replay was broken off");
            }
        }
        *self.ended.lock() = Some(ended);
    }

    async fn go(&self, making: Making) -> Result<(), String> {
        let Making { io, dir, config, pipeline, store, from, to } = making;
        let status = Arc::clone(&self.status);
        let log_id = pipeline.log().id().to_bytes();
        let opening = tokio::task::spawn_blocking(move || {
            let dir = dir.join("replay");
            // Numbers of frames go on where the refused readings of earlier replays end, by which a
            // sink knows which ones it has kept.
            let quota = DeadLetterConfig::default();
            let kept = LetterFiles::open(Arc::clone(&io), dir.join("refused"), log_id, quota);
            let begin = kept.map_err(|e| Chain(&e).to_string())?.cursor();
            let cursor = dir.join("cursor");
            let forget = || {
                if io.exists(&cursor)? {
                    io.remove_file(&cursor)?;
                }
                io.sync_dir(&dir)
            };
            forget().map_err(|e| format!("{}: {e}", cursor.display()))?;
            let sink = open(&io, &dir, &config, log_id, &status);
            sink.map(|sink| (sink, begin)).map_err(|e| Chain(&e).to_string())
        });
        let (sink, begin) = opening.await.map_err(|e| e.to_string())??;
        let (sender, frames) = mpsc::channel(FRAMES);
        let (of, read) = (self.of, Arc::clone(&self.read));
        let give = Give { sender, next: begin, stop: self.stop.clone() };
        let reading = tokio::task::spawn_blocking(move || match of {
            ReplayOf::Log { .. } => from_log(pipeline.log(), &read, to, give),
            ReplayOf::Store => from_store(&store, from, to, give),
        });
        let source = Given { frames, status: Arc::clone(&self.status), last: begin };
        let feed = Feed::new(Box::new(source), begin, Arc::clone(&self.status));
        let written = sink.run(feed.until(self.stop.clone())).await;
        // Whoever reads has nobody to give to any more.
        let read = reading.await.map_err(|e| e.to_string())?;
        if self.stop.is_cancelled() {
            return Err("it was stopped; it may be begun again".to_owned());
        }
        written.map_err(|e| Chain(&e).to_string())?;
        read
    }
}

/// Hands frames on.
struct Give {
    sender: mpsc::Sender<Arc<DurableFrame>>,
    next: u64,
    stop: CancellationToken,
}

impl Give {
    /// Whether anybody wants more.
    fn give(&mut self, mut frame: DurableFrame) -> bool {
        self.next += 1;
        frame.lsn = self.next;
        self.sender.blocking_send(Arc::new(frame)).is_ok() && !self.stop.is_cancelled()
    }

    /// Rows out of the store, as a frame that never was.
    fn rows(&mut self, rows: Vec<Row>) -> bool {
        let Some(first) = rows.first() else { return true };
        let topic = format!("nb1/{}/{}/u/t", first.region, first.station);
        let received = first.reading.times.received;
        self.give(DurableFrame {
            lsn: 0,
            received,
            topic: topic.into(),
            payload: Bytes::new(),
            rows,
            rejects: Vec::new(),
            duplicates: 0,
        })
    }
}

/// What was received before `to`, above the lsn that was `read` last.
fn from_log(log: &Log, read: &AtomicU64, to: DeviceTime, mut give: Give) -> Result<(), String> {
    let end = log.durable();
    let to_ns = to.ms().saturating_mul(1_000_000);
    let mut reader = log.reader(Lsn(read.load(Ordering::Relaxed)));
    loop {
        let frame = reader.next().map_err(|e| Chain(&e).to_string())?;
        let last = read.load(Ordering::Relaxed);
        let begins_after = log.stats().begins_after.0.min(end.0);
        let is_next = frame.as_ref().is_some_and(|frame| frame.lsn.0 == last + 1);
        if begins_after > last && !is_next {
            return Err(format!(
                "the log gave up what was to be read next, up to lsn {begins_after}, as it had no more \
                 room; replay the rest out of the store (--source store), or with a larger log.max_bytes"
            ));
        }
        let Some(frame) = frame.filter(|frame| frame.lsn <= end) else { return Ok(()) };
        let lsn = frame.lsn.0;
        let frame = replay::frame(lsn, frame.body).map_err(|e| e.to_string())?;
        // Clocks are set back, and replayed dead letters have the time they first came: what is
        // behind this one may be earlier.
        let wanted = frame.received.ns() < to_ns && !frame.rows.is_empty();
        if wanted && !give.give(frame) {
            return Ok(());
        }
        read.store(lsn, Ordering::Relaxed);
    }
}

/// What has an effective time in the span.
fn from_store(
    store: &Store,
    from: DeviceTime,
    to: DeviceTime,
    mut give: Give,
) -> Result<(), String> {
    let which = Which { from_ms: from.ms(), to_ms: to.ms(), ..Which::default() };
    let bounds = Bounds { stop: Stop::default(), ..Bounds::default() };
    for kind in Kind::ALL {
        let mut failed = None;
        let mut wanted = true;
        let read = store.stream(kind, &which, &bounds, &mut |batch| {
            let mut rows = match rows_of(kind, &batch) {
                Ok(rows) => rows.into_iter().peekable(),
                Err(error) => {
                    failed = Some(error.to_string());
                    return ControlFlow::Break(());
                }
            };
            while wanted && rows.peek().is_some() {
                wanted = give.rows(rows.by_ref().take(FRAME_ROWS).collect());
            }
            if wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        read.map_err(|e| Chain(&e).to_string())?;
        if let Some(why) = failed {
            return Err(why);
        }
        if !wanted {
            break;
        }
    }
    Ok(())
}

/// What a replay's sink reads from.
struct Given {
    frames: mpsc::Receiver<Arc<DurableFrame>>,
    status: Arc<SinkStatus>,
    last: u64,
}

impl Given {
    async fn take(&mut self, after: u64, max_bytes: usize, wait: Duration) -> Fed {
        let nothing = |up_to| Fed::Frames { frames: Vec::new(), up_to };
        let first = match tokio::time::timeout(wait, self.frames.recv()).await {
            Err(_) => return nothing(after),
            Ok(Some(frame)) => frame,
            // A stop waits for a server only so long; the end of a replay waits until all is stored.
            Ok(None) if self.status.cursor() < self.last => {
                tokio::time::sleep(LOOK.min(wait)).await;
                return nothing(after);
            }
            Ok(None) => return Fed::Closed,
        };
        let mut bytes = first.memory_bytes();
        let mut frames = vec![first];
        while bytes < max_bytes
            && let Ok(frame) = self.frames.try_recv()
        {
            bytes += frame.memory_bytes();
            frames.push(frame);
        }
        self.last = frames.last().map_or(after, |frame| frame.lsn);
        Fed::Frames { frames, up_to: self.last }
    }
}

impl FrameSource for Given {
    fn next(
        &mut self,
        after: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Fed, FeedError>> + Send + '_>> {
        Box::pin(async move { Ok(self.take(after, max_bytes, wait).await) })
    }
}
