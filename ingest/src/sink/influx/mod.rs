//! The InfluxDB v2 sink: durable readings as points of a server elsewhere.
//!
//! Frames come in order, are encoded at once ([`line_protocol`]) and wait in batches that end with
//! whole frames. One request is on its way at a time; what is decided about it is in `retry`. When
//! a batch is decided, its refused readings are kept (`refused/` below the sink's folder, as dead
//! letters), then the cursor file moves to the batch's end. So the cursor never passes what the server
//! acknowledged or the dead letter holds, and a refused reading is kept once: after a crash between
//! the two, the letters' own commit tells that they are there.
//!
//! **The server is away:** the sink holds up to `held_bytes`, then reads no further; the log keeps the
//! rest on disk, and nothing else waits. A server that accepts connections and never answers is
//! judged by `timeout`, like one that is gone.
//!
//! **Again after a restart:** batches beyond the cursor are sent again; they are the same points,
//! so they count as stored and change nothing.
//!
//! **Stored** means acknowledged by the server. What it then does is its own promise: VictoriaMetrics
//! acknowledges from memory, and forgets the last seconds when it is killed.
//!
//! **Never done:** a reading is not dropped because the server is slow, nor because of its age.

pub mod line_protocol;

mod batch;
mod client;
mod config;
mod delivery;
mod retry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use self::batch::{Batch, Held, Limits};
use self::client::InfluxClient;
use self::delivery::{Courier, Delivered};
use crate::io::Io;
use crate::sink::cursor_file::{CursorFile, CursorFileError, LogIdBytes};
use crate::sink::dead_letter::{
    DeadLetterConfig, DeadLetterError, LetterFiles, NewLetter, Why, as_f64, station_of,
    write_letters,
};
use crate::sink::{Fed, Feed, FeedError, SinkStatus};

pub use self::config::{InfluxConfig, InfluxConfigError, Token};

/// How much is taken from the feed at a time.
const FEED_BYTES: usize = 1024 * 1024;
/// How long to wait for frames before looking at the cursor.
const FEED_WAIT: Duration = Duration::from_secs(1);
/// How often the cursor file is written where no reading moves it.
const IDLE_CURSOR: Duration = Duration::from_secs(5);
/// Pauses after a failed write of our own files, doubling from the first to the last.
const DISK_RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Refused readings are few, or somebody is told: a tenth of what rejects may take.
const REFUSED: DeadLetterConfig =
    DeadLetterConfig { total_bytes: 100 << 20, station_bytes: 100 << 20 };

/// The sink cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum InfluxError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] InfluxConfigError),
    /// The HTTP client could not be made or used.
    #[error("the HTTP client: {0}")]
    Client(String),
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
    #[error("the influx sink's work on another thread did not end")]
    Interrupted,
}

/// The sink. Made by [`InfluxSink::open`], then given its feed.
#[derive(Debug)]
pub struct InfluxSink {
    config: InfluxConfig,
    courier: Arc<Courier>,
    cursor: Arc<CursorFile>,
    refused: Arc<Mutex<LetterFiles>>,
    status: Arc<SinkStatus>,
}

type InFlight = Pin<Box<dyn Future<Output = (Batch, Result<Delivered, InfluxError>)> + Send>>;

impl InfluxSink {
    /// Opens the sink's folder `dir`, which is made if it is missing. The server is not asked yet: it
    /// may be away.
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
        let client = InfluxClient::new(&config)?;
        // Makes `dir` as well.
        let refused = LetterFiles::open(Arc::clone(&io), dir.join("refused"), log_id, REFUSED)?;
        let cursor = CursorFile::open(io, dir.join("cursor"), log_id)?;
        Ok(Self {
            courier: Arc::new(Courier::new(client, Arc::clone(&status), config.max_backoff)),
            cursor: Arc::new(cursor),
            refused: Arc::new(Mutex::new(refused)),
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
    /// rest is written after the next start. May be dropped at any point.
    ///
    /// # Errors
    /// When the log cannot be read, or the runtime is torn down around it.
    pub async fn run(self, mut feed: Feed) -> Result<(), InfluxError> {
        let mut held = Held::new(Limits {
            readings: self.config.batch_points,
            bytes: self.config.batch_bytes,
            age: self.config.batch_age,
        });
        let mut flying: Option<InFlight> = None;
        let (mut flying_bytes, mut flying_readings) = (0, 0);
        let mut closing: Option<Instant> = None;
        let mut next_idle = Instant::now();
        loop {
            if flying.is_none() {
                if let Some(batch) = held.pop() {
                    (flying_bytes, flying_readings) = (batch.memory_bytes(), batch.len());
                    flying = Some(Box::pin(fly(Arc::clone(&self.courier), batch)));
                } else if held.readings() == 0 {
                    if closing.is_some() || Instant::now() >= next_idle {
                        self.advance(feed.position()).await?;
                        next_idle = Instant::now() + IDLE_CURSOR;
                    }
                    if closing.is_some() {
                        return Ok(());
                    }
                }
            }
            let bytes = held.memory_bytes() + flying_bytes;
            metrics::gauge!("loushan_influx_held_bytes").set(as_f64(bytes as u64));
            let hungry = closing.is_none() && bytes < self.config.held_bytes;
            tokio::select! {
                (batch, delivered) = landed(&mut flying) => {
                    flying = None;
                    let delivered = delivered?;
                    if let Some(bytes) = delivered.fits {
                        held.shrink(bytes);
                    }
                    self.settle(&batch, delivered).await?;
                    (flying_bytes, flying_readings) = (0, 0);
                }
                fed = feed.next(FEED_BYTES, FEED_WAIT), if hungry => match fed? {
                    Fed::Frames { frames, up_to } => held.add(&frames, up_to, Instant::now()),
                    Fed::Closed => {
                        held.finish();
                        closing = Some(Instant::now() + self.config.flush_within);
                    }
                },
                // While one is on its way the next may grow: it could not be sent yet.
                () = sleep_until(held.due()), if flying.is_none() => held.finish(),
                () = sleep_until(closing) => {
                    let readings = held.readings() + flying_readings;
                    tracing::warn!(readings, "influx sink: not written before the stop; they are after the next start");
                    return Ok(());
                }
            }
            self.status.set_pending((held.readings() + flying_readings) as u64);
        }
    }

    /// Keeps what was refused, moves the cursor, counts.
    async fn settle(&self, batch: &Batch, delivered: Delivered) -> Result<(), InfluxError> {
        let refused = delivered.refused.len() as u64;
        if refused > 0 {
            self.keep_refused(batch, delivered).await?;
        }
        self.advance(batch.up_to).await?;
        self.status.stored((batch.len() as u64).saturating_sub(refused));
        self.status.refused(refused);
        Ok(())
    }

    async fn keep_refused(&self, batch: &Batch, delivered: Delivered) -> Result<(), InfluxError> {
        let kept_up_to = self.refused.lock().cursor();
        let mut letters = Vec::new();
        let mut last = kept_up_to;
        for refusal in delivered.refused {
            let Some((unit, frame)) = batch.unit(refusal.unit) else { continue };
            // Kept before a crash that came before the cursor moved.
            if frame.lsn <= kept_up_to {
                continue;
            }
            if letters.is_empty() {
                tracing::error!(
                    lsn = frame.lsn,
                    words = refusal.words,
                    "influx sink: readings refused for good; they are kept under refused/"
                );
            }
            last = frame.lsn;
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
                    self.status.set_trouble(None);
                }
                return Ok(());
            };
            tracing::error!(
                error,
                what,
                "influx sink: could not write to our own disk; trying again"
            );
            self.status.set_trouble(Some(format!("{what}: {error}")));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(DISK_RETRY.1);
        }
    }
}

/// Delivers a batch and gives it back.
async fn fly(courier: Arc<Courier>, batch: Batch) -> (Batch, Result<Delivered, InfluxError>) {
    let delivered = courier.deliver(&batch).await;
    (batch, delivered)
}

/// The end of the delivery, if there is one on its way.
async fn landed(flying: &mut Option<InFlight>) -> (Batch, Result<Delivered, InfluxError>) {
    match flying {
        Some(delivery) => delivery.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
