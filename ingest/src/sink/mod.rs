//! Sinks: whoever takes durable frames out of the log and stores them elsewhere.
//!
//! Every sink runs on a task of its own, reads the frames in order through its [`Feed`] and keeps
//! a **cursor**: the greatest lsn up to which everything it was given is durably stored, or durably
//! known to need no storing (invariant I3). The cursor is the sink's own durable fact (a record of
//! the manifest, a cursor file); through [`SinkStatus`] it is published, so that the log can delete
//! what lies below all cursors, and so that metrics and `/readyz` can tell how far behind a sink is.
//!
//! After a start a sink is fed from its own cursor again. What it had stored beyond that cursor
//! comes a second time; storing twice equals storing once (invariant I6).

pub mod cursor_file;
pub mod dead_letter;
pub mod influx;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::pipeline::frame::DurableFrame;

pub mod embedded;

/// What a sink reads from.
pub trait FrameSource: Send + 'static {
    /// Waits until a frame above `after` is durable and gives the next ones in order, together at
    /// most about `max_bytes` of memory but at least one. An empty list means that nothing came
    /// within `wait`. Cancel-safe.
    fn next(
        &mut self,
        after: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Fed, FeedError>> + Send + '_>>;
}

/// What came out of a [`FrameSource`].
#[derive(Debug)]
pub enum Fed {
    /// The next frames, perhaps none.
    Frames {
        /// In rising order of lsn.
        frames: Vec<Arc<DurableFrame>>,
        /// Everything up to here has now been given out. Gaps make it greater than the last
        /// frame's lsn; a sink with nothing pending may move its cursor to it.
        up_to: u64,
    },
    /// The service stops and everything durable has been given out: flush and end.
    Closed,
}

/// The log could not be read; the sink must stop rather than skip.
#[derive(Debug, thiserror::Error)]
#[error("the log could not be read after lsn {after}: {why}")]
pub struct FeedError {
    /// Where the sink was.
    pub after: u64,
    /// What the log said.
    pub why: String,
}

/// A sink's view of the log.
pub struct Feed {
    source: Box<dyn FrameSource>,
    position: u64,
    status: Arc<SinkStatus>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed that starts behind `cursor`.
    pub fn new(source: Box<dyn FrameSource>, cursor: u64, status: Arc<SinkStatus>) -> Self {
        Self::resume(source, cursor, cursor, status)
    }

    /// A feed that starts behind `position`, for a sink that has been given everything up to there
    /// by other means and has stored everything up to `cursor`.
    pub fn resume(
        source: Box<dyn FrameSource>,
        cursor: u64,
        position: u64,
        status: Arc<SinkStatus>,
    ) -> Self {
        status.cursor.store(cursor, Ordering::Release);
        status.position.store(position, Ordering::Release);
        Self { source, position, status }
    }

    /// The next frames, see [`FrameSource::next`]. Counts their readings as pending.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next(&mut self, max_bytes: usize, wait: Duration) -> Result<Fed, FeedError> {
        // Who asks for more has taken in what there was: it can be found in the sink now.
        self.status.position.store(self.position, Ordering::Release);
        let fed = self.source.next(self.position, max_bytes, wait).await?;
        if let Fed::Frames { frames, up_to } = &fed {
            self.status.fed(frames);
            self.position = self.position.max(*up_to);
        }
        Ok(fed)
    }

    /// Everything up to here has been given out.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The sink's public figures.
    #[must_use]
    pub fn status(&self) -> &Arc<SinkStatus> {
        &self.status
    }
}

/// A sink's public figures, in readings unless said otherwise:
/// `fed = stored + replayed + refused + let_go + pending`.
#[derive(Debug)]
pub struct SinkStatus {
    name: &'static str,
    cursor: AtomicU64,
    position: AtomicU64,
    fed: AtomicU64,
    stored: AtomicU64,
    replayed: AtomicU64,
    refused: AtomicU64,
    let_go: AtomicU64,
    pending: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// A moment's figures of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkFigures {
    /// The sink's name.
    pub name: &'static str,
    /// Everything up to this lsn is durably stored.
    pub cursor: u64,
    /// Everything up to this lsn was given to it and taken in: what is not stored yet it holds, and
    /// what it answers for can be asked of it.
    pub position: u64,
    /// Readings given to it since the start.
    pub fed: u64,
    /// Readings it stored.
    pub stored: u64,
    /// Readings it found stored already (a replay after a start).
    pub replayed: u64,
    /// Readings the far side refused for good; they are in the dead letter.
    pub refused: u64,
    /// Readings given up on purpose, where the configuration allows it.
    pub let_go: u64,
    /// Readings it holds and has not yet stored.
    pub pending: u64,
    /// What keeps it from storing, if anything does.
    pub trouble: Option<String>,
}

impl SinkFigures {
    /// What the figures leave unexplained; zero (invariant I2).
    #[must_use]
    pub fn residue(&self) -> i64 {
        let explained = self.stored + self.replayed + self.refused + self.let_go + self.pending;
        i64::try_from(self.fed).unwrap_or(i64::MAX) - i64::try_from(explained).unwrap_or(i64::MAX)
    }
}

impl SinkStatus {
    /// Figures of a sink that has done nothing yet. The name is a metric label.
    #[must_use]
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            cursor: AtomicU64::new(0),
            position: AtomicU64::new(0),
            fed: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            replayed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            let_go: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            trouble: Mutex::new(None),
        })
    }

    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The published cursor.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Acquire)
    }

    /// Publishes the cursor. Call it only after the cursor itself is durable.
    pub fn advance(&self, cursor: u64) {
        self.cursor.fetch_max(cursor, Ordering::AcqRel);
    }

    fn fed(&self, frames: &[Arc<DurableFrame>]) {
        let readings: usize = frames.iter().map(|f| f.rows.len()).sum();
        self.fed.fetch_add(readings as u64, Ordering::Relaxed);
    }

    /// Readings were durably stored.
    pub fn stored(&self, readings: u64) {
        self.stored.fetch_add(readings, Ordering::Relaxed);
    }

    /// Readings were found stored already.
    pub fn replayed(&self, readings: u64) {
        self.replayed.fetch_add(readings, Ordering::Relaxed);
    }

    /// Readings were refused for good.
    pub fn refused(&self, readings: u64) {
        self.refused.fetch_add(readings, Ordering::Relaxed);
    }

    /// Readings were given up on purpose.
    pub fn let_go(&self, readings: u64) {
        self.let_go.fetch_add(readings, Ordering::Relaxed);
    }

    /// How many readings the sink holds now, counted by the sink from what it holds (never by
    /// subtraction, or the residue would prove nothing).
    pub fn set_pending(&self, readings: u64) {
        self.pending.store(readings, Ordering::Relaxed);
    }

    /// What keeps the sink from storing; `None` when nothing does any more.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }

    /// The figures now. While the sink is at work they may be a moment apart.
    #[must_use]
    pub fn figures(&self) -> SinkFigures {
        SinkFigures {
            name: self.name,
            cursor: self.cursor(),
            position: self.position.load(Ordering::Acquire),
            fed: self.fed.load(Ordering::Relaxed),
            stored: self.stored.load(Ordering::Relaxed),
            replayed: self.replayed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            let_go: self.let_go.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            trouble: self.trouble.lock().clone(),
        }
    }
}
