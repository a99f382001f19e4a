//! The dead letter: what senders got wrong, kept with bytes, time and reason.
//!
//! A sink of the log like any other: it is fed durable frames, keeps their rejects in segment files
//! below its folder, and its cursor lets the log go on. A reject was acknowledged, so it
//! is kept as carefully as a reading, up to quotas:
//! * of one station at most [`DeadLetterConfig::station_bytes`] of payload are kept; past that a letter
//!   keeps reason, digest and the first 256 bytes, counted;
//! * past [`DeadLetterConfig::total_bytes`] on disk the oldest segment is deleted whole, counted.
//!
//! **Once, across crashes.** The letters of a feed are written as one group that ends in a commit
//! record, which is the cursor; one sync covers both. Letters without their commit do not count and
//! are cut at the next start; their frames come again. Where frames bring no letters the cursor moves in
//! a file of its own, now and then; it never says more than the segments hold. The sink's cursor is
//! the greater of the two.
//!
//! **Replay.** A reading's letter is kept with its batch's own fields, so that a mended decoder can be
//! given the reading again ([`DeadLetter::again`]) when the log has gone on long ago. That it was is
//! noted beside ([`Marks`]): letters are not changed.
//!
//! **Damage** in the middle (a sound commit follows) is left in place, counted and passed over; only
//! what follows the last commit is torn and cut.
//!
//! **Never done:** a segment is not written after a failed write or sync of it; letters are not
//! changed; a folder of another log is not touched.
//!
//! In [`SinkStatus`] figures, which count readings, this sink stores what it looked through:
//! an accepted reading needs no letter.

mod files;
mod letters;
mod marks;
mod read;
mod record;
#[cfg(test)]
mod tests;

use std::io as stdio;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loushan_schemas::reject::RejectReason;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

use crate::io::Io;
use crate::pipeline::frame::DurableFrame;
use crate::sink::cursor_file::{CursorFile, CursorFileError, LogIdBytes};
use crate::sink::{Fed, Feed, FeedError, SinkStatus};

pub(crate) use files::LetterFiles;
use letters::letters_of;
pub(crate) use letters::{batch_of_one, station_of};
pub use marks::Marks;
pub use read::DeadLetters;
pub(crate) use record::NewLetter;
pub use record::{Again, DeadLetter};

/// What is kept of a payload past a quota: enough for a header and the first fields.
pub const HEAD_BYTES: usize = 256;
/// The longest payload kept whole: what a sender may send at all. A longer one (its reject says so)
/// keeps its beginning.
pub const KEEP_BYTES: usize = loushan_schemas::limits::PAYLOAD_BYTES;
/// How much is taken from the feed at a time: one group, one sync.
const FEED_BYTES: usize = 4 * 1024 * 1024;
/// How long to wait for frames before looking at the cursor file.
const FEED_WAIT: Duration = Duration::from_secs(1);
/// How often the cursor moves where there are no letters: what is read again after a crash costs
/// only reading, a sync each second would cost the disk.
const IDLE_CURSOR: Duration = Duration::from_secs(5);
/// Pauses after a failed write, doubling from the first to the last: a full disk needs somebody.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterConfig {
    /// Bytes of all segment files; past it the oldest go.
    pub total_bytes: u64,
    /// Bytes of payload kept of one station; past it only the beginnings are.
    pub station_bytes: u64,
}

impl Default for DeadLetterConfig {
    /// 1 GiB in all, 16 MiB of one station.
    fn default() -> Self {
        Self { total_bytes: 1 << 30, station_bytes: 16 << 20 }
    }
}

/// The dead letter cannot go on, or a folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The file system failed.
    #[error("dead letter {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: stdio::Error,
    },
    /// A later build wrote it.
    #[error("dead letter segment {path} has version {found}; use the newer build, or move it away")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
    },
    /// The folder belongs to another log.
    #[error(
        "dead letter segment {path} belongs to log {found}, the data folder holds log {ours}; \
         bring the matching data folder back, or move the dead letter folder away"
    )]
    ForeignLog {
        /// The file.
        path: PathBuf,
        /// The log in the file.
        found: String,
        /// The log that is open.
        ours: String,
    },
    /// Its cursor file cannot be used.
    #[error(transparent)]
    Cursor(#[from] CursorFileError),
    /// The log cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The thread that writes ended early: the service is being torn down.
    #[error("the dead letter's write did not end")]
    Interrupted,
}

/// Why a letter is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The sender's fault.
    Rejected(RejectReason),
    /// A sink's server refused the point for good; `detail` has its words.
    RefusedByServer,
}

impl Why {
    /// Above all numbers of reject reasons.
    const REFUSED: u8 = 255;

    /// The number on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Rejected(reason) => reason.number(),
            Self::RefusedByServer => Self::REFUSED,
        }
    }

    /// What has that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            Self::REFUSED => Some(Self::RefusedByServer),
            n => RejectReason::from_number(n).map(Self::Rejected),
        }
    }

    /// The words for all of them.
    #[must_use]
    pub fn words() -> Vec<&'static str> {
        let rejected = RejectReason::ALL.iter().map(|reason| reason.as_str());
        rejected.chain([Self::RefusedByServer.as_str()]).collect()
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected(reason) => reason.as_str(),
            Self::RefusedByServer => "refused_by_server",
        }
    }
}

/// The sink. Made by [`DeadLetterSink::open`], then given its feed.
#[derive(Debug)]
pub struct DeadLetterSink {
    files: Arc<Mutex<LetterFiles>>,
    idle: Arc<CursorFile>,
    status: Arc<SinkStatus>,
}

impl DeadLetterSink {
    /// Opens the folder `dir`, which is made if it is missing, and recovers what is in it.
    ///
    /// # Errors
    /// When it cannot be read or belongs to another log.
    pub fn open(
        io: Arc<dyn Io>,
        dir: PathBuf,
        config: DeadLetterConfig,
        log_id: LogIdBytes,
        status: Arc<SinkStatus>,
    ) -> Result<Self, DeadLetterError> {
        let files = LetterFiles::open(Arc::clone(&io), dir.clone(), log_id, config)?;
        let idle = Arc::new(CursorFile::open(io, dir.join("cursor"), log_id)?);
        metrics::counter!("loushan_dead_letter_corrupt_total").increment(files.corrupt());
        metrics::gauge!("loushan_dead_letter_bytes").set(as_f64(files.bytes()));
        Ok(Self { files: Arc::new(Mutex::new(files)), idle, status })
    }

    /// Where its feed must start.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.files.lock().cursor().max(self.idle.cursor())
    }

    /// Keeps what the feed brings until it closes. A disk that refuses is tried again and again and
    /// named as the sink's trouble; nothing is passed over. May be dropped at any point: what had
    /// not been committed comes again.
    ///
    /// # Errors
    /// When the log cannot be read, or the runtime is torn down around it.
    pub async fn run(self, mut feed: Feed) -> Result<(), DeadLetterError> {
        let mut next_idle = Instant::now() + IDLE_CURSOR;
        loop {
            let (frames, up_to) = match feed.next(FEED_BYTES, FEED_WAIT).await? {
                Fed::Frames { frames, up_to } => (frames, up_to),
                Fed::Closed => return self.move_idle_cursor(feed.position()).await,
            };
            let rows = frames.iter().map(|f| f.rows.len() as u64).sum();
            self.status.set_pending(rows);
            if frames.iter().any(|frame| !frame.rejects.is_empty()) {
                self.keep(frames, up_to).await?;
                self.status.advance(self.cursor());
            }
            self.status.stored(rows);
            self.status.set_pending(0);
            if Instant::now() >= next_idle {
                self.move_idle_cursor(up_to).await?;
                next_idle = Instant::now() + IDLE_CURSOR;
            }
        }
    }

    async fn move_idle_cursor(&self, up_to: u64) -> Result<(), DeadLetterError> {
        if up_to <= self.cursor() {
            return Ok(());
        }
        let idle = Arc::clone(&self.idle);
        let moved = tokio::task::spawn_blocking(move || idle.advance(up_to)).await;
        match moved.map_err(|_| DeadLetterError::Interrupted)? {
            Ok(()) => self.status.set_trouble(None),
            // The old cursor stands, so the frames would only be looked through again.
            Err(error) => self.status.set_trouble(Some(error.to_string())),
        }
        self.status.advance(self.cursor());
        Ok(())
    }

    /// Tries until the letters are on disk.
    async fn keep(
        &self,
        frames: Vec<Arc<DurableFrame>>,
        up_to: u64,
    ) -> Result<(), DeadLetterError> {
        let frames = Arc::new(frames);
        let mut pause = RETRY.0;
        loop {
            match self.try_keep(&frames, up_to).await? {
                Ok(()) => {
                    self.status.set_trouble(None);
                    return Ok(());
                }
                Err(error) => {
                    tracing::error!(%error, "dead letters could not be written; trying again");
                    self.status.set_trouble(Some(format!("dead letters: {error}")));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }

    /// One attempt, on a thread that may block.
    async fn try_keep(
        &self,
        frames: &Arc<Vec<Arc<DurableFrame>>>,
        cursor: u64,
    ) -> Result<stdio::Result<()>, DeadLetterError> {
        let (files, frames) = (Arc::clone(&self.files), Arc::clone(frames));
        let write = move || {
            let of_frames: Vec<_> = frames.iter().map(|frame| letters_of(frame)).collect();
            let mut letters: Vec<NewLetter<'_>> = Vec::new();
            let mut contexts: Vec<&[u8]> = Vec::new();
            for of_frame in &of_frames {
                for letter in &of_frame.letters {
                    letters.push(*letter);
                    let context = letter.reading.map_or(&[][..], |_| of_frame.context.as_slice());
                    contexts.push(context);
                }
            }
            let mut files = files.lock();
            write_letters_with(&mut files, &letters, &contexts, cursor)?;
            metrics::gauge!("loushan_dead_letter_bytes").set(as_f64(files.bytes()));
            Ok(())
        };
        tokio::task::spawn_blocking(write).await.map_err(|_| DeadLetterError::Interrupted)
    }
}

/// Writes a group and says so in the metrics.
pub(crate) fn write_letters(
    files: &mut LetterFiles,
    letters: &[NewLetter<'_>],
    cursor: u64,
) -> stdio::Result<()> {
    write_letters_with(files, letters, &[], cursor)
}

/// The same, with what the readings' letters are kept with.
fn write_letters_with(
    files: &mut LetterFiles,
    letters: &[NewLetter<'_>],
    contexts: &[&[u8]],
    cursor: u64,
) -> stdio::Result<()> {
    let cut = files.append_with(letters, contexts, cursor)?;
    for letter in letters {
        metrics::counter!("loushan_dead_letters_total", "reason" => letter.why.as_str())
            .increment(1);
    }
    metrics::counter!("loushan_dead_letters_cut_short_total").increment(cut);
    match files.enforce_quota() {
        Ok(gone) => metrics::counter!("loushan_dead_letters_deleted_total").increment(gone),
        // The letters are kept; the room is taken back with the next ones.
        Err(error) => tracing::error!(%error, "dead letters over quota were not deleted"),
    }
    Ok(())
}

/// Bytes as a gauge wants them.
#[allow(clippy::cast_precision_loss)] // far below 2^53
pub(crate) fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

/// For tests: letters as an earlier build could have left them.
#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;
    use loushan_schemas::time::ReceiveTime;

    use super::*;
    use crate::pipeline::frame::Reject;

    /// A publish of which this is rejected.
    pub(crate) struct Letter {
        pub(crate) lsn: u64,
        pub(crate) received_ns: i64,
        pub(crate) topic: String,
        pub(crate) reading: Option<u32>,
        pub(crate) payload: Vec<u8>,
    }

    /// Appends letters to a folder whose sink is not writing.
    pub(crate) fn write(io: Arc<dyn Io>, dir: &Path, log_id: LogIdBytes, letters: &[Letter]) {
        let config = DeadLetterConfig::default();
        let mut files = LetterFiles::open(io, dir.to_owned(), log_id, config).unwrap();
        // The sink's own cursor is not to move.
        let cursor = files.cursor();
        for letter in letters {
            let frame = DurableFrame {
                lsn: letter.lsn,
                received: ReceiveTime::from_ns(letter.received_ns),
                topic: letter.topic.as_str().into(),
                payload: Bytes::copy_from_slice(&letter.payload),
                rows: Vec::new(),
                rejects: vec![Reject {
                    reason: RejectReason::Undecodable,
                    reading: letter.reading,
                }],
                duplicates: 0,
            };
            let of_frame = letters_of(&frame);
            let contexts = vec![of_frame.context.as_slice(); of_frame.letters.len()];
            files.append_with(&of_frame.letters, &contexts, cursor).unwrap();
        }
    }
}
