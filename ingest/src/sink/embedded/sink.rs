//! The sink's task: from the feed into memory, from memory into files.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;

use super::EmbeddedConfig;
use super::flush::Flusher;
use super::store::Shared;
use super::upkeep::{self, Bell, Upkeep};
use crate::sink::{Fed, Feed, FeedError, SinkStatus};

/// The store's writers' side, to be run on a task of its own.
#[derive(Debug)]
pub struct EmbeddedSink {
    shared: Arc<Shared>,
    config: EmbeddedConfig,
    upkeep: Option<Upkeep>,
    bell: Arc<Bell>,
}

/// The sink had to stop. Whatever it held is in the log above its cursor.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The log cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The feed starts above the cursor: what lies between would never be stored.
    #[error("the log is fed after lsn {position}, the store has everything up to {cursor} only")]
    Gap {
        /// Where the feed starts.
        position: u64,
        /// The store's cursor.
        cursor: u64,
    },
    /// The last flush of an ordered stop did not succeed in time.
    #[error("{rows} readings are left to the log, they could not be written to files: {why}")]
    Unflushed {
        /// How many.
        rows: u64,
        /// What kept them.
        why: String,
    },
    /// The upkeep's thread cannot be started.
    #[error("the store's upkeep cannot be started: {0}")]
    Upkeep(std::io::Error),
    /// A flush died; a defect of this program.
    #[error("a flush died: {0}")]
    Died(JoinError),
}

/// Ends the upkeep when it is dropped.
struct StopUpkeep(Arc<Bell>);

impl Drop for StopUpkeep {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A flush under way; it ends when the rows are stored, however often it has to try.
type Flushing = Pin<Box<dyn Future<Output = Result<Flusher, SinkError>> + Send>>;

impl EmbeddedSink {
    pub(super) fn new(shared: Arc<Shared>, config: EmbeddedConfig) -> Self {
        Self { shared, config, upkeep: None, bell: Arc::default() }
    }

    /// Has files merged and what has expired removed while the sink runs. Without it files are only
    /// added.
    #[must_use]
    pub fn with_upkeep(mut self, upkeep: Upkeep) -> Self {
        self.upkeep = Some(upkeep);
        self
    }

    /// Where the feed has to start.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.shared.state.read().files.cursor
    }

    /// Stores what the feed gives until it is closed, then flushes. Dropping the future leaves a
    /// write under way to end by itself; nothing is lost by it.
    ///
    /// # Errors
    /// See [`SinkError`]. Trouble with the disk is no error: it is published in the feed's status
    /// and tried again.
    pub async fn run(mut self, feed: Feed) -> Result<(), SinkError> {
        let upkeep = match self.upkeep.take() {
            None => None,
            Some(outside) => {
                let (shared, bell) = (Arc::clone(&self.shared), Arc::clone(&self.bell));
                Some(
                    upkeep::start(shared, &self.config, outside, bell)
                        .map_err(SinkError::Upkeep)?,
                )
            }
        };
        // However the sink ends, also if it is dropped.
        let stop = StopUpkeep(Arc::clone(&self.bell));
        let done = self.store(feed).await;
        drop(stop);
        if let Some(thread) = upkeep {
            // It ends between two batches; whoever starts next must not find it at work.
            let ended = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            if !ended.is_ok_and(|ended| ended) {
                tracing::error!("the store's upkeep died");
            }
        }
        done
    }

    async fn store(self, mut feed: Feed) -> Result<(), SinkError> {
        let cursor = self.cursor();
        if feed.position() > cursor {
            return Err(SinkError::Gap { position: feed.position(), cursor });
        }
        let status = Arc::clone(feed.status());
        let age = self.config.flush_age.max(Duration::from_millis(1));
        let mut flusher = Some(Flusher::new(Arc::clone(&self.shared)));
        let mut flushing: Option<Flushing> = None;
        // When what is in memory, or the cursor that lags without rows, is due.
        let mut due: Option<Instant> = None;
        let mut stop_by: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let is_due = due.is_some_and(|due| stop_by.is_some() || due <= now) || self.full();
            if let Some(flusher) = flusher.take_if(|_| is_due) {
                flushing = Some(self.flush(flusher, Arc::clone(&status)));
                due = None;
            }
            if stop_by.is_some() && flushing.is_none() {
                return Ok(());
            }
            // With memory full and a flush under way the log waits.
            let open = stop_by.is_none() && !self.full();
            // While a flush is under way it is its end that wakes us, not what is due next.
            let wait = match due {
                Some(due) if flushing.is_none() => due.saturating_duration_since(now),
                _ => age,
            };
            tokio::select! {
                done = async { Some(flushing.as_mut()?.await) }, if flushing.is_some() => {
                    flusher = done.transpose()?;
                    flushing = None;
                    self.bell.ring();
                }
                fed = feed.next(self.config.feed_bytes, wait), if open => match fed? {
                    Fed::Frames { frames, up_to } => {
                        let taken = self.shared.take(&frames, up_to);
                        status.replayed(taken.replayed);
                        status.set_pending(taken.memory_rows);
                        if taken.moved {
                            due.get_or_insert_with(|| Instant::now() + age);
                        }
                    }
                    Fed::Closed => {
                        // The disk is the last flush's now.
                        self.bell.stop();
                        stop_by = Some(Instant::now() + self.config.stop_within);
                    }
                },
                () = at(stop_by), if stop_by.is_some() => {
                    let figures = status.figures();
                    let why = figures.trouble.unwrap_or_else(|| "it took too long".to_owned());
                    return Err(SinkError::Unflushed { rows: figures.pending, why });
                }
            }
        }
    }

    fn full(&self) -> bool {
        let state = self.shared.state.read();
        let (rows, bytes) = (state.active.rows(), state.active.bytes());
        rows > 0 && (rows >= self.config.flush_rows || bytes >= self.config.flush_bytes)
    }

    /// Makes the active memtable the flushing one and stores it.
    fn flush(&self, mut flusher: Flusher, status: Arc<SinkStatus>) -> Flushing {
        let shared = Arc::clone(&self.shared);
        let (rows, cursor) = shared.begin_flush();
        let (mut pause, longest) = (self.config.retry_first, self.config.retry_longest);
        Box::pin(async move {
            loop {
                let since = Instant::now();
                let memtable = Arc::clone(&rows);
                let write = tokio::task::spawn_blocking(move || {
                    let done = flusher.flush(&memtable, cursor);
                    (flusher, done)
                });
                let (back, done) = write.await.map_err(SinkError::Died)?;
                flusher = back;
                metrics::histogram!("loushan_store_flush_seconds").record(since.elapsed());
                match done {
                    Ok(()) => break,
                    Err(e) => {
                        metrics::counter!("loushan_store_flush_failures_total").increment(1);
                        tracing::warn!(error = %e, retry_in = ?pause, "a flush failed");
                        status.set_trouble(Some(e.to_string()));
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(longest);
                    }
                }
            }
            status.set_trouble(None);
            status.stored(rows.rows());
            status.set_pending(shared.state.read().memory_rows());
            status.advance(cursor);
            metrics::counter!("loushan_store_flushes_total").increment(1);
            Ok(flusher)
        })
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
