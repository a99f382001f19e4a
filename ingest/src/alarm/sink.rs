//! The sink: what takes frames out of the log, and tells the engine the time.
//!
//! It commits at once when something has happened that somebody must be told of, and otherwise when much
//! has changed, or after [`IDLE`]: what is read again after a crash costs only reading. Whatever is not
//! committed counts as pending. A disk that refuses is tried again and again, and nothing more is taken
//! from the log meanwhile: its cursor stands, and the devices notice nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::book::Book;
use super::config::AlarmConfig;
use super::db::AlarmError;
use super::engine::Sites;
use super::handle::Alarms;
use crate::clock::Clock;
use crate::io::Io;
use crate::pipeline::frame::DurableFrame;
use crate::sink::cursor_file::LogIdBytes;
use crate::sink::{Fed, Feed, SinkState, SinkStatus};

/// How much is taken from the feed at a time.
const FEED_BYTES: usize = 4 << 20;
/// How long to wait for frames before looking at the time.
const FEED_WAIT: Duration = Duration::from_millis(500);
/// How often is committed what nobody waits for.
const IDLE: Duration = Duration::from_secs(5);
/// How often the time alone is: how far a crash can set it back.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Devices and stations that have changed before it is committed sooner.
const MANY: usize = 20_000;
/// What was received before this is in the log by now, or the log refuses.
const MARGIN_MS: i64 = 2_000;
/// Pauses after a failed commit, doubling from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// How the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    /// Everything up to here is durable.
    pub durable: u64,
    /// What comes is taken, and not refused.
    pub hears: bool,
    /// Something is not durable yet.
    pub waits: bool,
}

/// Tells how the log is.
pub type Listen = Arc<dyn Fn() -> Hearing + Send + Sync>;

/// See the module. Made by [`AlarmSink::open`], then given its feed.
pub struct AlarmSink {
    alarms: Alarms,
    book: Arc<Mutex<Book>>,
    status: Arc<SinkStatus>,
    clock: Clock,
    listen: Listen,
}

impl std::fmt::Debug for AlarmSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlarmSink").finish_non_exhaustive()
    }
}

/// What the sink needs of others.
pub struct Parts {
    /// Files.
    pub io: Arc<dyn Io>,
    /// Time.
    pub clock: Clock,
    /// Whose frames they are.
    pub log_id: LogIdBytes,
    /// What stands where.
    pub sites: Sites,
    /// How the log is.
    pub listen: Listen,
    /// The sink's figures.
    pub status: Arc<SinkStatus>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl AlarmSink {
    /// Opens the folder `dir`, which is made if it is missing. Blocks.
    ///
    /// # Errors
    /// When it cannot be read or belongs to another log.
    pub fn open(dir: &Path, config: AlarmConfig, parts: Parts) -> Result<Self, AlarmError> {
        let Parts { io, clock, log_id, sites, listen, status } = parts;
        let (config, started) = (Arc::new(config), clock.now().ms());
        let book = Book::open(io, dir, log_id, &config, Arc::new(sites), started)?;
        let (alarms, book) = Alarms::new(book, &config, clock.clone());
        Ok(Self { alarms, book, status, clock, listen })
    }

    /// Where its feed must start.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.book.lock().cursor()
    }

    /// The alarms.
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Evaluates what the feed brings until it closes. May be dropped at any point.
    ///
    /// # Errors
    /// When the log cannot be read, or the runtime is torn down around it.
    pub async fn run(self, mut feed: Feed) -> Result<(), AlarmError> {
        let mut held: u64 = 0;
        let mut last_commit = Instant::now();
        loop {
            // Before the feed is asked: what was received by then is in what it gives, if it gives all.
            let now = self.clock.now().ms().saturating_sub(MARGIN_MS);
            let hearing = (self.listen)();
            let fed = feed.next(FEED_BYTES, FEED_WAIT).await?;
            let closed = matches!(fed, Fed::Closed);
            let (frames, up_to) = match fed {
                Fed::Frames { frames, up_to } => (frames, up_to),
                Fed::Closed => (Vec::new(), feed.position()),
            };
            let rows: usize = frames.iter().map(|frame| frame.rows.len()).sum();
            held += rows as u64;
            self.status.set_pending(held);
            let running = self.status.state() == SinkState::Running;
            let all = running && !closed && up_to >= hearing.durable;
            let since = last_commit.elapsed();
            let take = Take {
                frames,
                up_to,
                time: all.then_some(now),
                // Also while a sync hangs: what came is in nobody's hands yet.
                deaf: !hearing.hears || (hearing.waits && rows == 0),
                idle: closed || since >= IDLE,
                heartbeat: since >= HEARTBEAT,
            };
            let committed = match self.take(take).await? {
                None => false,
                Some(Ok(())) => true,
                Some(Err(error)) => {
                    if closed {
                        // The log has it, and gives it again.
                        self.status.give_back();
                        return Ok(());
                    }
                    self.keep_trying(error).await?;
                    true
                }
            };
            if committed {
                last_commit = Instant::now();
                self.status.set_trouble(None);
                self.status.stored(held);
                held = 0;
                self.status.set_pending(0);
                self.status.advance(self.cursor());
            }
            if closed {
                return Ok(());
            }
        }
    }

    /// Takes in, and commits if it is worth it.
    async fn take(&self, take: Take) -> Result<Option<Result<(), String>>, AlarmError> {
        let (book, sizes) = (Arc::clone(&self.book), Arc::clone(self.alarms.sizes()));
        let work = move || {
            let mut book = book.lock();
            book.apply(&take.frames, take.up_to);
            if let Some(time) = take.time {
                if take.deaf {
                    book.engine().deafen(time);
                }
                book.advance(time);
            }
            let (late, forgotten) = book.engine().take_counts();
            metrics::counter!("loushan_alarm_late_readings_total").increment(late);
            metrics::counter!("loushan_alarm_forgotten_total").increment(forgotten);
            let (devices, stations, bytes) = book.engine().size();
            sizes.devices.store(devices, Ordering::Relaxed);
            sizes.stations.store(stations, Ordering::Relaxed);
            sizes.bytes.store(bytes, Ordering::Relaxed);
            let worth = book.has_news()
                || book.changes() >= MANY
                || (take.idle && book.is_behind())
                || (take.heartbeat && take.time.is_some());
            worth.then(|| book.commit())
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| AlarmError::Interrupted)
    }

    async fn keep_trying(&self, mut error: String) -> Result<(), AlarmError> {
        let mut pause = RETRY.0;
        loop {
            tracing::error!(error, "alarms could not be written; trying again");
            self.status.set_trouble(Some(error));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
            let book = Arc::clone(&self.book);
            let committed = tokio::task::spawn_blocking(move || book.lock().commit()).await;
            match committed.map_err(|_| AlarmError::Interrupted)? {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
    }
}

/// One turn's work.
struct Take {
    frames: Vec<Arc<DurableFrame>>,
    up_to: u64,
    /// Nothing more is to come that was received before; `None` where that is not known.
    time: Option<i64>,
    deaf: bool,
    idle: bool,
    heartbeat: bool,
}
