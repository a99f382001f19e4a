//! The InfluxDB v2 sink: durable readings as points of a server elsewhere.
//!
//! Frames come in order, are encoded at once ([`line_protocol`]) and wait in batches that end with
//! whole frames. Up to `connections` requests are on their way at a time; what is decided about them is
//! in `answer` and `delivery`. Batches may be stored in any order, as a point is its own key, but they are
//! *settled* in order: refused readings are kept (`refused/` below the sink's folder, as dead letters), then
//! the cursor file moves to the batch's end. So the cursor never passes what the server acknowledged or the
//! dead letter holds, and a refused reading is kept once: after a crash between the two, the letters'
//! own commit tells that they are there.
//!
//! **The server is away:** the sink holds up to `held_bytes`, then reads no further; the log keeps the
//! rest on disk, and nothing else waits. A server that accepts connections and never answers is
//! judged by `timeout`, and any server by the age of the oldest reading held (`late_after`), however
//! busy its connections look.
//!
//! **Again after a restart:** batches beyond the cursor are sent again; they are the same points,
//! so they count as stored and change nothing.
//!
//! **Stored** means acknowledged by the server. What it then does is its own promise: VictoriaMetrics
//! acknowledges from memory, and forgets the last seconds when it is killed.
//!
//! **Never done:** a reading is not dropped because the server is slow, nor because of its age.

pub mod line_protocol;

mod answer;
mod batch;
mod bucket;
mod config;
mod delivery;
mod flight;
pub(crate) mod http;
pub(crate) mod pace;
mod piece;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod trouble;

use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use self::batch::{Batch, Held, Limits};
use self::delivery::{Courier, Delivered};
use self::flight::Flying;
use self::trouble::Troubles;
use crate::io::Io;
use crate::sink::cursor_file::{CursorFile, CursorFileError, LogIdBytes};
use crate::sink::dead_letter::{
    DeadLetterConfig, DeadLetterError, DeadLetters, LetterFiles, NewLetter, Why, as_f64,
    station_of, write_letters,
};
use crate::sink::{Fed, Feed, FeedError, SinkStatus};

pub use self::config::{InfluxConfig, InfluxConfigError, Scheme, Token};

/// The sink's name, as metric label and in messages.
type Name = Arc<str>;

/// How much is taken from the feed at a time.
const FEED_BYTES: usize = 1024 * 1024;
/// How long to wait for frames before looking at the cursor.
const FEED_WAIT: Duration = Duration::from_secs(1);
/// How often the cursor file is written where no reading moves it.
const IDLE_CURSOR: Duration = Duration::from_secs(5);
/// Batches taken in hand per connection: while one is divided over many requests, or was overtaken,
/// the others find work.
const BATCHES_PER_CONNECTION: usize = 4;
/// How often the age of the oldest reading is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Pauses after a failed write of our own files, doubling from the first to the last.
const DISK_RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Refused readings are few, or somebody is told: a tenth of what rejects may take.
const REFUSED: DeadLetterConfig =
    DeadLetterConfig { total_bytes: 100 << 20, station_bytes: 100 << 20 };

/// The sink cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum InfluxError {
    /// The configuration cannot be used.
    #[error("sink.{sink}.{fault}")]
    Config {
        /// The sink's name.
        sink: String,
        /// What is wrong.
        fault: InfluxConfigError,
    },
    /// A request could not be compressed.
    #[error("gzip: {0}")]
    Compress(String),
    /// Its cursor file cannot be used.
    #[error(transparent)]
    Cursor(#[from] CursorFileError),
    /// Its refused readings' folder cannot be used.
    #[error(transparent)]
    Refused(#[from] DeadLetterError),
    /// The log cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A thread it waited for ended early: the service is being torn down.
    #[error("the sink's work on another thread did not end")]
    Interrupted,
}

/// The sink. Made by [`InfluxSink::open`], then given its feed.
#[derive(Debug)]
pub struct InfluxSink {
    name: Name,
    config: InfluxConfig,
    courier: Arc<Courier>,
    troubles: Arc<Troubles>,
    cursor: Arc<CursorFile>,
    refused: Arc<Mutex<LetterFiles>>,
    /// Readings above the cursor that were refused and kept before it was opened, by lsn and row: a
    /// crash came before the cursor moved, or it was rewound.
    kept: HashSet<(u64, u32)>,
    status: Arc<SinkStatus>,
}

/// The gauge of what a sink holds; nothing, once it has ended.
struct Gauges {
    held_bytes: metrics::Gauge,
}

impl Gauges {
    fn new(sink: &Name) -> Self {
        let sink = Arc::clone(sink);
        Self { held_bytes: metrics::gauge!("loushan_influx_held_bytes", "sink" => sink) }
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.held_bytes.set(0.0);
    }
}

impl InfluxSink {
    /// Opens the sink's folder `dir`, which is made if it is missing, and the files that the
    /// configuration names, but for the token's. The server is not asked yet: it may be away. The
    /// sink's name is its status's.
    ///
    /// # Errors
    /// When the configuration or the folder cannot be used, or belongs to another log.
    pub fn open(
        io: Arc<dyn Io>,
        dir: PathBuf,
        config: InfluxConfig,
        log_id: LogIdBytes,
        status: Arc<SinkStatus>,
    ) -> Result<Self, InfluxError> {
        let name = Name::from(status.name().to_string());
        let troubles = Arc::new(Troubles::new(Arc::clone(&name), Arc::clone(&status)));
        let courier = Courier::new(Arc::clone(&name), &io, &config, Arc::clone(&troubles))
            .map_err(|fault| InfluxError::Config { sink: name.to_string(), fault })?;
        // Makes `dir` as well.
        let refused = LetterFiles::open(Arc::clone(&io), dir.join("refused"), log_id, REFUSED)?;
        let cursor = CursorFile::open(Arc::clone(&io), dir.join("cursor"), log_id)?;
        let mut kept = HashSet::new();
        // Where none can be above the cursor, which is nearly always, none is read.
        if refused.cursor() > cursor.cursor() {
            for letter in DeadLetters::open_read(io, &dir.join("refused"))? {
                let letter = letter?;
                if letter.lsn > cursor.cursor() {
                    kept.extend(letter.reading.map(|row| (letter.lsn, row)));
                }
            }
        }
        Ok(Self {
            name,
            courier: Arc::new(courier),
            troubles,
            cursor: Arc::new(cursor),
            refused: Arc::new(Mutex::new(refused)),
            kept,
            status,
            config,
        })
    }

    /// Where its feed must start.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor.cursor()
    }

    /// Writes what the feed brings until it closes, then what is held, for at most `flush_within`; the
    /// rest is written after the next start. May be dropped at any point: what is on its way is broken
    /// off, and a sink opened anew goes on from the cursor file.
    ///
    /// # Errors
    /// When the log cannot be read, or the runtime is torn down around it.
    pub async fn run(self, mut feed: Feed) -> Result<(), InfluxError> {
        let mut held = Held::new(Limits {
            readings: self.config.batch_points,
            bytes: self.config.batch_bytes,
            age: self.config.batch_age,
        });
        let mut flying = Flying::default();
        let mut closing: Option<Instant> = None;
        let mut next_idle = Instant::now();
        let mut look = tokio::time::interval(LOOK.min(self.config.late_after));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let gauges = Gauges::new(&self.name);
        let mut feed_closing = pin!(feed.closing());
        loop {
            while flying.len() < self.config.connections * BATCHES_PER_CONNECTION
                && let Some(batch) = held.pop()
            {
                flying.start(&self.courier, batch);
            }
            self.status.set_pending((held.readings() + flying.readings()) as u64);
            if flying.is_empty() && held.readings() == 0 {
                if closing.is_some() || Instant::now() >= next_idle {
                    self.advance(feed.position()).await?;
                    next_idle = Instant::now() + IDLE_CURSOR;
                }
                if closing.is_some() {
                    return Ok(());
                }
            }
            let bytes = held.memory_bytes() + flying.bytes();
            gauges.held_bytes.set(as_f64(bytes as u64));
            let hungry = closing.is_none() && bytes < self.config.held_bytes;
            // While all connections have work the next batch may grow: it could not be sent yet.
            let idle = flying.len() < self.config.connections;
            tokio::select! {
                landed = flying.landed() => self.settle(landed?, &mut held).await?,
                fed = feed.next(FEED_BYTES, FEED_WAIT), if hungry => match fed? {
                    Fed::Frames { frames, up_to } => held.add(&frames, up_to, Instant::now()),
                    Fed::Closed => {
                        held.finish();
                        closing = Some(Instant::now() + self.config.flush_within);
                    }
                },
                () = &mut feed_closing, if closing.is_none() && !hungry => {
                    held.finish();
                    closing = Some(Instant::now() + self.config.flush_within);
                }
                () = sleep_until(held.due()), if idle => held.finish(),
                _ = look.tick() => {
                    let oldest = flying.oldest().or(held.oldest());
                    let age = oldest.map(|since| since.elapsed()).unwrap_or_default();
                    let after = self.config.late_after;
                    self.troubles.late((age >= after).then_some(after));
                }
                () = sleep_until(closing) => {
                    let (sink, readings) = (&*self.name, held.readings() + flying.readings());
                    tracing::warn!(sink, readings, "sink: not written before the stop; they are after the next start");
                    return Ok(());
                }
            }
        }
    }

    /// Keeps what was refused, moves the cursor, counts.
    async fn settle(
        &self,
        landed: Vec<(Batch, Delivered)>,
        held: &mut Held,
    ) -> Result<(), InfluxError> {
        let mut counts = Vec::with_capacity(landed.len());
        let mut up_to = 0;
        for (batch, delivered) in landed {
            if let Some(bytes) = delivered.fits {
                held.shrink(bytes);
            }
            let refused = delivered.refused.len() as u64;
            if refused > 0 {
                self.keep_refused(&batch, delivered).await?;
            }
            up_to = batch.up_to;
            counts.push(((batch.len() as u64).saturating_sub(refused), refused));
        }
        self.advance(up_to).await?;
        for (stored, refused) in counts {
            self.status.stored(stored);
            self.status.refused(refused);
        }
        Ok(())
    }

    async fn keep_refused(&self, batch: &Batch, delivered: Delivered) -> Result<(), InfluxError> {
        let mut letters = Vec::new();
        // After a rewind the letters' cursor is ahead; it never goes back.
        let mut last = self.refused.lock().cursor();
        for refusal in delivered.refused {
            let Some((unit, frame)) = batch.unit(refusal.unit) else { continue };
            if self.kept.contains(&(frame.lsn, unit.row)) {
                continue;
            }
            if letters.is_empty() {
                tracing::error!(
                    sink = &*self.name,
                    lsn = frame.lsn,
                    words = refusal.words,
                    "sink: readings refused for good; they are kept under refused/"
                );
            }
            last = last.max(frame.lsn);
            let lines = batch.lines(&(refusal.unit..refusal.unit + 1));
            letters.push((unit.row, frame.clone(), lines, refusal.words));
        }
        if letters.is_empty() {
            return Ok(());
        }
        let letters = Arc::new(letters);
        self.on_disk("refused readings", |refused, _| {
            let letters = Arc::clone(&letters);
            move || {
                let letters: Vec<NewLetter<'_>> = letters
                    .iter()
                    .map(|(row, frame, lines, words)| NewLetter {
                        lsn: frame.lsn,
                        received_ns: frame.received_ns,
                        topic: &frame.topic,
                        station: station_of(&frame.topic),
                        why: Why::RefusedByServer,
                        reading: Some(*row),
                        subject: lines,
                        keep_whole: true,
                        detail: words,
                    })
                    .collect();
                write_letters(&mut refused.lock(), &letters, last).map_err(|e| e.to_string())
            }
        })
        .await
    }

    async fn advance(&self, up_to: u64) -> Result<(), InfluxError> {
        if up_to > self.cursor() {
            self.on_disk("cursor", |_, cursor| {
                move || cursor.advance(up_to).map_err(|e| e.to_string())
            })
            .await?;
            self.status.advance(up_to);
        }
        Ok(())
    }

    /// Does something that blocks until it works; our own disk is the trouble then.
    async fn on_disk<W>(
        &self,
        what: &'static str,
        mut work: impl FnMut(Arc<Mutex<LetterFiles>>, Arc<CursorFile>) -> W,
    ) -> Result<(), InfluxError>
    where
        W: FnOnce() -> Result<(), String> + Send + 'static,
    {
        let mut pause = DISK_RETRY.0;
        loop {
            let work = work(Arc::clone(&self.refused), Arc::clone(&self.cursor));
            let done = tokio::task::spawn_blocking(work).await;
            let Err(error) = done.map_err(|_| InfluxError::Interrupted)? else {
                if pause > DISK_RETRY.0 {
                    self.troubles.disk(None);
                }
                return Ok(());
            };
            tracing::error!(
                sink = &*self.name,
                error,
                what,
                "sink: could not write to our own disk; trying again"
            );
            self.troubles.disk(Some(format!("{what}: {error}")));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(DISK_RETRY.1);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
