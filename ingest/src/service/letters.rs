//! Dead letters decided again, after a decoder was mended.
//!
//! What a letter was about goes the way of every publish: decided, appended, synced, counted, given to
//! the sinks; only topic and receive time are those of then. So a reading that is accepted now is
//! stored like any other, and one that had been stored is a duplicate. What would be rejected again
//! is not submitted: it would only write the same letter once more.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use loushan_broker::handler::{AckOutcome, AckReceiver, AckTicket, PublishHandler as _};
use loushan_schemas::time::ReceiveTime;

use crate::causes::Chain;
use crate::io::Io;
use crate::pipeline::{Pipeline, verdict};
use crate::sink::dead_letter::{Again, DeadLetter, DeadLetters, Marks, batch_of_one};
use crate::wal::Lsn;

/// How long one publish may take: the log may be waiting for room.
const WAIT: Duration = Duration::from_secs(10);
/// Marks are made durable after so many letters, and at the end.
const SAVE: u64 = 1000;

/// Which letters, and what is to be done with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Of this reason.
    pub reason: Option<String>,
    /// Of this station.
    pub station: Option<String>,
    /// From this lsn on.
    pub from_lsn: u64,
    /// Up to this lsn.
    pub to_lsn: Option<u64>,
    /// So many at most.
    pub limit: u64,
    /// Only look what would become of them.
    pub dry_run: bool,
}

/// What became, or would become, of letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterReplay {
    /// Letters looked at.
    pub letters: u64,
    /// Of these, those that were submitted and are durable, or would be submitted.
    pub submitted: u64,
    /// Readings in them: accepted, or duplicates of what was stored before.
    pub readings: u64,
    /// Those this build rejects as well.
    pub still_rejected: u64,
    /// Those of which not all bytes are left, here or in the log.
    pub incomplete: u64,
    /// Those that were replayed before.
    pub replayed_before: u64,
    /// The last letter's lsn, where the limit ended it: the next call goes on from there.
    pub more_from_lsn: Option<u64>,
    /// Why it ended early, if it did.
    pub failed: Option<String>,
}

struct Answer(SyncSender<bool>);

impl AckReceiver for Answer {
    fn resolve(&self, _: u64, outcome: AckOutcome) {
        // Whoever waited too long has gone.
        let _late = self.0.try_send(matches!(outcome, AckOutcome::Durable(_)));
    }
}

/// Decides the letters of a folder again. Blocks.
pub(super) fn replay(
    io: &Arc<dyn Io>,
    dir: &Path,
    pipeline: &Pipeline,
    filter: &LetterFilter,
) -> Result<LetterReplay, String> {
    let told = |error: &dyn std::error::Error| Chain(error).to_string();
    let mut marks = Marks::read(Arc::clone(io), dir).map_err(|e| told(&e))?;
    let log_id = pipeline.log().id().to_bytes();
    let mut done = LetterReplay::default();
    let mut unsaved = 0;
    let mut oldest = None;
    for letter in DeadLetters::open_read(Arc::clone(io), dir).map_err(|e| told(&e))? {
        let letter = letter.map_err(|e| told(&e))?;
        oldest.get_or_insert(letter.lsn);
        if !filter.takes(&letter) {
            continue;
        }
        if done.letters >= filter.limit {
            done.more_from_lsn = Some(letter.lsn);
            break;
        }
        done.letters += 1;
        if marks.has(&letter) {
            done.replayed_before += 1;
            continue;
        }
        let Some(payload) = payload(pipeline, &letter) else {
            done.incomplete += 1;
            continue;
        };
        let received = ReceiveTime::from_ns(letter.received_ns);
        let Ok(readings) = Pipeline::would_take(&letter.topic, &payload, received) else {
            done.still_rejected += 1;
            continue;
        };
        if !filter.dry_run {
            if let Err(why) = submit(pipeline, &letter.topic, &payload, received) {
                done.failed = Some(why);
                break;
            }
            marks.add(&letter);
            unsaved += 1;
            metrics::counter!("loushan_dead_letters_replayed_total").increment(1);
        }
        done.submitted += 1;
        done.readings += u64::from(readings);
        if unsaved >= SAVE {
            marks.save(log_id).map_err(|e| told(&e))?;
            unsaved = 0;
        }
    }
    if unsaved > 0 {
        // Letters that the quota deleted.
        marks.forget_below(oldest.unwrap_or(0));
        marks.save(log_id).map_err(|e| told(&e))?;
    }
    Ok(done)
}

impl LetterFilter {
    fn takes(&self, letter: &DeadLetter) -> bool {
        self.reason.as_ref().is_none_or(|reason| letter.why.as_str() == reason)
            && self.station.as_ref().is_none_or(|station| letter.station.as_ref() == Some(station))
            && letter.lsn >= self.from_lsn
            && self.to_lsn.is_none_or(|to| letter.lsn <= to)
    }
}

/// The publish by which a letter is decided again, from its own bytes or from the log's.
fn payload(pipeline: &Pipeline, letter: &DeadLetter) -> Option<Bytes> {
    match letter.again() {
        Again::Publish(payload) => Some(payload),
        Again::Incomplete => {
            let frame = pipeline.log().reader(Lsn(letter.lsn.saturating_sub(1))).next().ok()??;
            let body = (frame.lsn.0 == letter.lsn).then(|| verdict::decode(frame.body).ok())??;
            // A topic that was cut is found again, too, and is not the letter's.
            if body.cut_from.is_some() || body.topic != letter.topic {
                return None;
            }
            match letter.reading {
                None => Some(body.payload),
                Some(reading) => batch_of_one(&body.payload, reading).map(Bytes::from),
            }
        }
    }
}

/// Submits a publish and waits until it is durable.
fn submit(
    pipeline: &Pipeline,
    topic: &str,
    payload: &Bytes,
    received: ReceiveTime,
) -> Result<(), String> {
    let deadline = Instant::now() + WAIT;
    loop {
        let (sender, answer) = sync_channel(1);
        let ticket = AckTicket::new(Arc::new(Answer(sender)), 0);
        if let Err(busy) = pipeline.resubmit(topic, payload, received, ticket) {
            drop(busy);
            if Instant::now() >= deadline {
                return Err("the service takes nothing at the moment; try again later".to_owned());
            }
            let ready = tokio::time::timeout(WAIT, pipeline.ready());
            // Over or not: the next try tells.
            drop(tokio::runtime::Handle::current().block_on(ready));
            continue;
        }
        return match answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(true) => Ok(()),
            Ok(false) | Err(RecvTimeoutError::Disconnected) => {
                Err("a sync of the log failed; try again later".to_owned())
            }
            Err(RecvTimeoutError::Timeout) => {
                Err("a publish was not durable in time; try again later".to_owned())
            }
        };
    }
}
