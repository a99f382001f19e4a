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
//!
//! There may be any number of them, and none waits for another. Those that write to a server can be
//! paused, rewound and removed while the service runs (`service::sinks`): they are ended by their
//! feed, as at a stop of the service, and begun anew.

pub mod cursor_file;
pub mod dead_letter;
pub mod influx;
mod order;
mod status;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pipeline::frame::DurableFrame;

pub mod embedded;

pub use order::{
    ReplayFigures, ReplayFrom, ReplayOf, ReplayState, RewindTo, SinkOrder, SinkOrderError,
};
pub use status::{Lag, SinkFigures, SinkState, SinkStatus};

/// The pause after the log could not be read. Disks in trouble are not helped by haste.
const READ_RETRY: Duration = Duration::from_secs(1);

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

    /// Ends when nothing new will come any more; never, where only [`FrameSource::next`] knows.
    fn closing(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
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
    /// The file system failed, and may be well again later: a [`Feed`] tries again and does not give
    /// the error out.
    pub passing: bool,
}

/// A sink's view of the log.
pub struct Feed {
    source: Box<dyn FrameSource>,
    position: u64,
    status: Arc<SinkStatus>,
    /// Ends the feed, as if the service stopped.
    end: CancellationToken,
    /// While it says so nothing is given out.
    paused: Option<watch::Receiver<bool>>,
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
        status.hold_from(cursor);
        status.position.store(position, Ordering::Release);
        Self { source, position, status, end: CancellationToken::new(), paused: None }
    }

    /// The same, and closed when `end` is cancelled; one that can be paused, only if it is then.
    #[must_use]
    pub fn until(self, end: CancellationToken) -> Self {
        Self { end, ..self }
    }

    /// The same, and giving nothing while `paused` says so.
    #[must_use]
    pub(crate) fn pausing(self, paused: watch::Receiver<bool>) -> Self {
        Self { paused: Some(paused), ..self }
    }

    /// The next frames, see [`FrameSource::next`]. Counts their readings as pending. Where the file
    /// system does not let the log be read, nothing comes, and the sink's trouble says why.
    ///
    /// # Errors
    /// When the log can be read and its frames cannot be given back.
    pub async fn next(&mut self, max_bytes: usize, wait: Duration) -> Result<Fed, FeedError> {
        // Who asks for more has taken in what there was: it can be found in the sink now.
        self.status.position.store(self.position, Ordering::Release);
        let nothing = Fed::Frames { frames: Vec::new(), up_to: self.position };
        if let Some(paused) = self.paused.as_mut().filter(|paused| *paused.borrow()) {
            tokio::select! {
                biased;
                () = self.end.cancelled() => return Ok(Fed::Closed),
                // A sender that is gone will not pause anybody any more.
                _changed = paused.wait_for(|paused| !paused) => {}
                () = tokio::time::sleep(wait) => {}
            }
            return Ok(nothing);
        }
        let fed = tokio::select! {
            biased;
            () = self.end.cancelled(), if self.paused.is_none() => return Ok(Fed::Closed),
            fed = self.source.next(self.position, max_bytes, wait) => fed,
        };
        match fed {
            Err(error) if error.passing => {
                tracing::error!(sink = &**self.status.name(), %error, "the log could not be read; trying again");
                self.status.set_feed_trouble(Some(error.to_string()));
                tokio::select! {
                    () = self.end.cancelled() => {}
                    () = tokio::time::sleep(READ_RETRY) => {}
                }
                Ok(nothing)
            }
            Err(error) => Err(error),
            Ok(fed) => {
                self.status.set_feed_trouble(None);
                if let Fed::Frames { frames, up_to } = &fed {
                    self.status.fed(frames);
                    self.position = self.position.max(*up_to);
                }
                Ok(fed)
            }
        }
    }

    /// Ends when the feed is about to be closed. For a sink that can hold no more, and so does not ask
    /// for what comes next, and is to end all the same.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let (end, source) = (self.end.clone(), self.source.closing());
        async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = source => {}
            }
        }
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
