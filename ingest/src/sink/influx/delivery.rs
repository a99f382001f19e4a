//! Bringing one batch to the server, until every reading in it is stored or refused for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::InfluxError;
use super::batch::Batch;
use super::client::InfluxClient;
use super::retry::{Answer, Backoff};
use crate::sink::SinkStatus;

/// When so many single readings in a row were refused and none was taken, in one batch or over
/// several, it is not the readings: a wrong organisation, or a proxy that answers 400 to everything,
/// must not empty the log into the dead letter.
const NOT_THE_READINGS: usize = 64;

/// What is needed to deliver.
#[derive(Debug)]
pub(super) struct Courier {
    client: InfluxClient,
    status: Arc<SinkStatus>,
    max_backoff: Duration,
    /// Whether server and bucket have been looked at since the last time something was wrong there.
    prepared: AtomicBool,
    /// Readings refused by the batches since the last one of which anything was taken.
    refused_in_a_row: AtomicUsize,
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

impl Courier {
    pub(super) fn new(
        client: InfluxClient,
        status: Arc<SinkStatus>,
        max_backoff: Duration,
    ) -> Self {
        Self {
            client,
            status,
            max_backoff,
            prepared: AtomicBool::new(false),
            refused_in_a_row: AtomicUsize::new(0),
        }
    }

    /// Delivers a batch, however long it takes. May be dropped at any point.
    pub(super) async fn deliver(&self, batch: &Batch) -> Result<Delivered, InfluxError> {
        let mut backoff = Backoff::new(self.max_backoff);
        loop {
            match self.attempt(batch, &mut backoff).await? {
                Ok(delivered) => return Ok(delivered),
                Err(words) => {
                    self.trouble(format!("the server refuses every reading: {words}"));
                    tokio::time::sleep(backoff.longest()).await;
                }
            }
        }
    }

    /// Goes through the batch once, halving what is refused; gives the server's words when it seems
    /// to refuse everything.
    async fn attempt(
        &self,
        batch: &Batch,
        backoff: &mut Backoff,
    ) -> Result<Result<Delivered, String>, InfluxError> {
        let mut delivered = Delivered::default();
        let mut too_large = false;
        let mut taken = 0;
        let whole = 0..batch.len();
        let mut todo = vec![whole];
        while let Some(range) = todo.pop() {
            let lines = batch.lines(&range);
            let bytes = lines.len();
            let words = match self.decided(lines, backoff).await? {
                Decided::Stored => {
                    taken = taken.max(bytes);
                    continue;
                }
                Decided::TooLarge(words) => {
                    too_large = true;
                    words
                }
                Decided::BadPoints(words) => words,
            };
            if range.len() > 1 {
                let middle = range.start + range.len() / 2;
                todo.push(middle..range.end);
                todo.push(range.start..middle);
                continue;
            }
            if taken == 0 && delivered.refused.len() + 1 >= NOT_THE_READINGS {
                return Ok(Err(words));
            }
            delivered.refused.push(Refusal { unit: range.start, words });
        }
        let before = self.refused_in_a_row.load(Ordering::Relaxed);
        let in_a_row = if taken > 0 { 0 } else { before + delivered.refused.len() };
        if in_a_row >= NOT_THE_READINGS
            && let Some(last) = delivered.refused.pop()
        {
            return Ok(Err(last.words));
        }
        self.refused_in_a_row.store(in_a_row, Ordering::Relaxed);
        delivered.fits = (too_large && taken > 0).then_some(taken);
        Ok(Ok(delivered))
    }

    /// Sends lines until the answer is about them.
    async fn decided(&self, lines: Bytes, backoff: &mut Backoff) -> Result<Decided, InfluxError> {
        let body = self.client.body(lines).await?;
        loop {
            let pause = match self.send(&body).await {
                Answer::Again(why) => {
                    self.trouble(why);
                    backoff.pause()
                }
                Answer::Stop(why) => {
                    self.prepared.store(false, Ordering::Relaxed);
                    self.trouble(format!(
                        "{why} (check sink.influx url, org, bucket and token; nothing is passed over)"
                    ));
                    backoff.longest()
                }
                decided => {
                    backoff.reset();
                    self.status.set_trouble(None);
                    return Ok(match decided {
                        Answer::TooLarge(words) => Decided::TooLarge(words),
                        Answer::BadPoints(words) => Decided::BadPoints(words),
                        _ => Decided::Stored,
                    });
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn send(&self, body: &Bytes) -> Answer {
        if !self.prepared.load(Ordering::Relaxed) {
            if let Err(why) = self.client.prepare().await {
                return Answer::Again(why);
            }
            self.prepared.store(true, Ordering::Relaxed);
        }
        let start = Instant::now();
        let answer = self.client.write(body.clone()).await;
        metrics::histogram!("loushan_influx_request_seconds").record(start.elapsed().as_secs_f64());
        metrics::counter!("loushan_influx_requests_total", "answer" => answer.label()).increment(1);
        answer
    }

    fn trouble(&self, why: String) {
        tracing::warn!(why, "influx sink: nothing is stored there at the moment");
        self.status.set_trouble(Some(why));
    }
}

/// An answer about the lines themselves.
enum Decided {
    Stored,
    TooLarge(String),
    BadPoints(String),
}
