//! Bringing one batch to the server, until every reading in it is stored or refused for good.
//!
//! What is refused is divided until it is known which readings are meant. Where the server names
//! lines, those are set apart first: usually the rest is stored by the next request, instead of a
//! dozen halvings for each. A reading is refused only when it was alone in a request, or when *all* of a
//! request was named and each line repeated, as InfluxDB 3 does; then all of them are refused at
//! once. So numbers that count otherwise than we do, and
//! lines named for nothing, cost requests and never readings.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::Method;
use metrics::SharedString;
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use super::answer::{Answer, BadPoints, classify};
use super::batch::Batch;
use super::bucket::{self, Place};
use super::config::{InfluxConfig, InfluxConfigError};
use super::http::{Content, Http};
use super::pace::{Pace, Wait};
use super::piece::Piece;
use super::token::Credentials;
use super::trouble::Troubles;
use super::{InfluxError, Name};
use crate::clock::Clock;
use crate::io::Io;

/// When so many single readings in a row were refused and none was taken, at both ends of one batch or
/// over several, it is not the readings: a wrong organisation, or a proxy that answers 400 to
/// everything, must not empty the log into the dead letter. A server that speaks of its retention has
/// looked at readings, whatever their number.
const NOT_THE_READINGS: usize = 64;
/// How often in a batch lines that the server names are set apart; if that has not found the bad ones
/// by then, halving does.
const HINTS: usize = 8;
/// A request that broke off so often in a row is tried in halves.
const BROKE_OFF: u32 = 3;
/// But not if it is as small as this.
const SMALL: usize = 32 * 1024;

/// What is needed to deliver.
#[derive(Debug)]
pub(super) struct Courier {
    name: Name,
    http: Http,
    write: Url,
    place: Place,
    create_bucket: bool,
    credentials: Credentials,
    pace: Pace,
    max_backoff: Duration,
    troubles: Arc<Troubles>,
    clock: Clock,
    gzip: AtomicBool,
    /// The server refused the last token it was shown.
    denied: AtomicBool,
    /// Bodies that are longer are divided before they are sent.
    largest: AtomicUsize,
    /// Readings refused by the batches since the last one of which anything was taken.
    refused_in_a_row: Mutex<usize>,
}

/// A reading the server refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Its position in the batch.
    pub(super) unit: usize,
    /// What the server said.
    pub(super) words: String,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// In the order of the batch; all others are stored.
    pub(super) refused: Vec<Refusal>,
    /// Where bodies were too large: the longest that was not.
    pub(super) fits: Option<usize>,
}

/// Whether a server says that points are older than it keeps any (InfluxDB 2: "points beyond retention
/// policy dropped"; "partial write: dropped … outside retention policy").
fn is_of_retention(words: &str) -> bool {
    words.contains("retention policy") || words.contains("retention period")
}

impl Courier {
    pub(super) fn new(
        name: Name,
        io: &Arc<dyn Io>,
        config: &InfluxConfig,
        troubles: Arc<Troubles>,
    ) -> Result<Self, InfluxConfigError> {
        config.check()?;
        let http = Http::new(&**io, config)?;
        let query = [("org", &*config.org), ("bucket", &*config.bucket), ("precision", "ns")];
        Ok(Self {
            name,
            write: http.url(&["api", "v2", "write"], &query),
            http,
            place: Place { org: config.org.clone(), bucket: config.bucket.clone() },
            create_bucket: config.create_bucket,
            credentials: Credentials::new(io, config),
            pace: Pace::new(config.connections, config.max_backoff, config.max_retry_after),
            max_backoff: config.max_backoff,
            troubles,
            clock: Clock::System,
            gzip: AtomicBool::new(config.gzip),
            denied: AtomicBool::new(false),
            largest: AtomicUsize::new(usize::MAX),
            refused_in_a_row: Mutex::new(0),
        })
    }

    /// Delivers a batch, however long it takes. May be dropped at any point.
    pub(super) async fn deliver(&self, batch: &Batch) -> Result<Delivered, InfluxError> {
        loop {
            match self.attempt(batch).await? {
                Ok(delivered) => return Ok(delivered),
                Err(words) => {
                    self.troubles
                        .server(Some(format!("the server refuses every reading: {words}")));
                    tokio::time::sleep(self.max_backoff).await;
                }
            }
        }
    }

    /// Goes through the batch once, dividing what is refused; gives the server's words when it seems
    /// to refuse everything.
    async fn attempt(&self, batch: &Batch) -> Result<Result<Delivered, String>, InfluxError> {
        let mut refused: Vec<Refusal> = Vec::new();
        let mut too_large = false;
        let mut taken = 0;
        let mut hints = HINTS;
        // After so many at the beginning it is tried from the end: the beginning may be a backlog that
        // is all of one kind.
        let mut backwards = false;
        // It has looked at readings, if not to take them.
        let mut of_retention = false;
        let mut todo = vec![Piece::whole(batch)];
        while let Some(piece) = todo.pop() {
            let lines = piece.lines(batch);
            let bytes = lines.len();
            let decided = if bytes > self.largest.load(Ordering::Relaxed) && piece.len() > 1 {
                Decided::Divide
            } else {
                self.decided(lines, piece.len() > 1).await?
            };
            let mut all_named = None;
            let words = match decided {
                Decided::Stored => {
                    taken = taken.max(bytes);
                    continue;
                }
                Decided::Divide => String::new(),
                Decided::TooLarge(words) => {
                    too_large = true;
                    words
                }
                Decided::BadPoints(BadPoints { words, lines }) => {
                    let named = piece.named(batch, &lines);
                    let certain = named.values().all(|unit| unit.repeated);
                    if piece.suspects && certain && named.len() == piece.len() {
                        all_named = Some(named);
                    } else if !named.is_empty() && named.len() < piece.len() && hints > 0 {
                        hints -= 1;
                        let (suspects, rest) = piece.divided(&named);
                        todo.push(suspects);
                        todo.push(rest);
                        continue;
                    }
                    words
                }
            };
            if all_named.is_none() && piece.len() > 1 {
                let (first, second) = piece.halves();
                todo.extend(if backwards { [first, second] } else { [second, first] });
                continue;
            }
            of_retention |= is_of_retention(&words);
            let is_believed = taken > 0 || of_retention;
            let in_a_row = refused.len() + piece.len();
            if !is_believed && in_a_row >= NOT_THE_READINGS * (1 + usize::from(backwards)) {
                if backwards || todo.is_empty() {
                    return Ok(Err(words));
                }
                backwards = true;
                todo.reverse();
            }
            let named = all_named.unwrap_or_default();
            refused.extend(piece.units().map(|unit| Refusal {
                unit,
                words: match named.get(&unit) {
                    Some(own) if !own.words.is_empty() => format!("{words}: {}", own.words),
                    _ => words.clone(),
                },
            }));
        }
        refused.sort_unstable_by_key(|refusal| refusal.unit);
        {
            let mut in_a_row = self.refused_in_a_row.lock();
            let is_believed = taken > 0 || of_retention;
            let with_these = if is_believed { 0 } else { *in_a_row + refused.len() };
            if with_these >= NOT_THE_READINGS
                && let Some(last) = refused.pop()
            {
                return Ok(Err(last.words));
            }
            *in_a_row = with_these;
        }
        self.troubles.server(None);
        let fits = (too_large && taken > 0).then_some(taken);
        if let Some(fits) = fits {
            self.largest.fetch_min(fits, Ordering::Relaxed);
        }
        Ok(Ok(Delivered { refused, fits }))
    }

    /// Sends lines until the answer is about them.
    async fn decided(&self, lines: Bytes, divisible: bool) -> Result<Decided, InfluxError> {
        let mut gzip = self.gzip.load(Ordering::Relaxed);
        let mut content = content(lines.clone(), gzip).await?;
        let mut broke_off = 0;
        let mut made_bucket = false;
        loop {
            if gzip && !self.gzip.load(Ordering::Relaxed) {
                gzip = false;
                content = self::content(lines.clone(), gzip).await?;
            }
            let turn = self.pace.turn(|| self.repaired()).await;
            let answer = self.send(content.clone()).await;
            let (why, wait) = match answer {
                Answer::Stored => return Ok(self.judged(Decided::Stored)),
                Answer::TooLarge(words) => return Ok(self.judged(Decided::TooLarge(words))),
                Answer::BadPoints(bad) => return Ok(self.judged(Decided::BadPoints(bad))),
                Answer::Uncompressed(words) if gzip => {
                    tracing::warn!(
                        sink = &*self.name,
                        words,
                        "sink: the server takes no gzip; sending uncompressed from now on"
                    );
                    self.gzip.store(false, Ordering::Relaxed);
                    continue;
                }
                Answer::Again(why, told) => (why, told.map_or(Wait::Doubling, Wait::Told)),
                Answer::BrokeOff(why) => {
                    broke_off += 1;
                    if broke_off >= BROKE_OFF && divisible && lines.len() > SMALL {
                        self.troubles.server(Some(why));
                        return Ok(Decided::Divide);
                    }
                    (why, Wait::Doubling)
                }
                Answer::Denied(why) => {
                    if self.credentials.renewed().await {
                        continue;
                    }
                    self.denied.store(true, Ordering::Relaxed);
                    (self.check(&why), Wait::Longest)
                }
                Answer::Missing(why) => match self.make_bucket().await {
                    Ok(true) if !made_bucket => {
                        made_bucket = true;
                        continue;
                    }
                    Ok(true) => (self.check(&why), Wait::Longest),
                    Ok(false) => (self.check(&why), Wait::Longest),
                    Err(reason) => (self.check(&format!("{why}: {reason}")), Wait::Longest),
                },
                Answer::Uncompressed(why) | Answer::Stop(why) => (self.check(&why), Wait::Longest),
            };
            let (pause, capped) = self.pace.failed(&turn, wait);
            self.troubles.server(Some(match wait {
                Wait::Told(told) if capped => format!(
                    "{why} (it wants {} s; we ask again in {} s, by max_retry_after)",
                    told.as_secs(),
                    pause.as_secs()
                ),
                _ => why,
            }));
        }
    }

    /// The server took a look at the lines: it can be reached, and we may write.
    fn judged(&self, decided: Decided) -> Decided {
        self.denied.store(false, Ordering::Relaxed);
        self.pace.well();
        // One that refuses everything is in trouble all the same (`deliver`).
        if !matches!(decided, Decided::BadPoints(_)) {
            self.troubles.server(None);
        }
        decided
    }

    fn check(&self, why: &str) -> String {
        format!(
            "{why} (check url, org, bucket and token of sink.{}; nothing is passed over)",
            self.name
        )
    }

    /// A pause ends early when a refused token was replaced.
    async fn repaired(&self) {
        if self.denied.load(Ordering::Relaxed) {
            self.credentials.wait_for_another().await;
        } else {
            std::future::pending().await
        }
    }

    /// Whether the bucket was missing and was made.
    async fn make_bucket(&self) -> Result<bool, String> {
        if !self.create_bucket {
            return Ok(false);
        }
        let made = bucket::make_missing(&self.http, &self.credentials, &self.place).await?;
        if made {
            let Place { org, bucket } = &self.place;
            tracing::info!(sink = &*self.name, bucket, org, "sink: bucket made");
        }
        Ok(made)
    }

    async fn send(&self, content: Content) -> Answer {
        let authorization = match self.credentials.header().await {
            Ok(authorization) => authorization,
            Err(why) => return Answer::Denied(why),
        };
        let start = Instant::now();
        let ended = self.http.exchange(Method::POST, &self.write, authorization, content).await;
        let answer = classify(ended, self.now());
        let sink = SharedString::from(Arc::clone(&self.name));
        metrics::histogram!("loushan_influx_request_seconds", "sink" => sink.clone())
            .record(start.elapsed().as_secs_f64());
        let labels = [("sink", sink), ("answer", answer.label().into())];
        metrics::counter!("loushan_influx_requests_total", &labels).increment(1);
        answer
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.clock.now().ns()).unwrap_or(0))
    }
}

/// An answer about the lines themselves.
enum Decided {
    Stored,
    /// Nothing was said of it; it is tried in halves.
    Divide,
    TooLarge(String),
    BadPoints(BadPoints),
}

/// Lines as they are sent, made once for all attempts.
async fn content(lines: Bytes, gzip: bool) -> Result<Content, InfluxError> {
    let bytes = if gzip {
        let compressed = tokio::task::spawn_blocking(move || compress(&lines)).await;
        compressed
            .map_err(|_| InfluxError::Interrupted)?
            .map_err(|error| InfluxError::Compress(error.to_string()))?
    } else {
        lines
    };
    Ok(Content { bytes, kind: Some("text/plain; charset=utf-8"), gzip, ..Content::default() })
}

/// gzip 1: level 6 costs three times the time for a third of the bytes.
fn compress(lines: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 8), Compression::fast());
    encoder.write_all(lines)?;
    Ok(encoder.finish()?.into())
}
