//! Everything about a publish that can be found out without knowing what came before it.
//!
//! Runs on the connection's own thread, outside the pipeline's lock.

use std::sync::Arc;

use bytes::Bytes;
use loushan_broker::handler::Acknowledgement;
use loushan_schemas::reject::RejectReason;
use loushan_schemas::row::Row;
use loushan_schemas::time::ReceiveTime;
use loushan_schemas::topic::Topic;
use xxhash_rust::xxh3::xxh3_128;

use super::counts::Tally;
use super::decode::{Decoded, decode};
use super::dedup::Key;
use super::dedup::batches::{Answer, BatchId, Stream};
use super::frame::{DurableFrame, Reject};
use super::normalize::{Judgement, normalize_batch, normalize_status};
use super::verdict::Outcome;

/// Bytes kept of a payload that does not fit a frame: enough to see what it was.
const CUT_BYTES: usize = 256;

/// A publish, decoded and normalized, and not yet decided.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) received: ReceiveTime,
    /// xxh3-128 of the payload as received.
    pub(crate) digest: u128,
    /// Length of the whole payload, where `payload` is only its beginning.
    pub(crate) cut_from: Option<u32>,
    pub(crate) content: Content,
}

/// What a publish has in it.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing that can be read.
    Rejected(RejectReason),
    /// A birth or death (which have no seq), or a command's result.
    Recorded(Option<BatchId>),
    /// Readings.
    Readings(Readings),
}

/// The readings of a publish.
#[derive(Debug)]
pub(crate) struct Readings {
    pub(crate) id: BatchId,
    /// How many there are.
    pub(crate) count: u32,
    /// The good ones, in order; their lsn is still missing.
    pub(crate) rows: Vec<Row>,
    /// One for each row.
    pub(crate) keys: Vec<Key>,
    /// The others, in order.
    pub(crate) rejects: Vec<Reject>,
    pub(crate) unknown_fields: bool,
}

impl Prepared {
    pub(crate) fn new(topic: Arc<str>, payload: Bytes, received: ReceiveTime) -> Self {
        let content = match Topic::parse(&topic) {
            Err(_) => Content::Rejected(RejectReason::MalformedTopic),
            Ok(parsed) => content(&parsed, &payload, received).unwrap_or_else(Content::Rejected),
        };
        let digest = xxh3_128(&payload);
        Self { topic, payload, received, digest, cut_from: None, content }
    }

    /// Readings in it, as the books count them.
    pub(crate) fn readings(&self) -> u32 {
        match &self.content {
            Content::Rejected(_) => 1,
            Content::Recorded(_) => 0,
            Content::Readings(readings) => readings.count,
        }
    }

    /// Its name, where it has one.
    pub(crate) fn id(&self) -> Option<&BatchId> {
        match &self.content {
            Content::Rejected(_) => None,
            Content::Recorded(id) => id.as_ref(),
            Content::Readings(readings) => Some(&readings.id),
        }
    }

    /// The same publish as one that is too large: only its beginning is kept.
    pub(crate) fn cut(&mut self) {
        let whole = self.payload.len();
        self.cut_from = Some(u32::try_from(whole).unwrap_or(u32::MAX));
        // A copy, so that the rest is freed.
        self.payload = Bytes::copy_from_slice(self.payload.get(..CUT_BYTES).unwrap_or_default());
        self.content = Content::Rejected(RejectReason::PayloadTooLarge);
    }

    /// The frame that the sinks get. `duplicate` has an entry for each row.
    pub(crate) fn into_frame(self, lsn: u64, duplicate: &[bool]) -> DurableFrame {
        let Self { topic, payload, received, content, .. } = self;
        let (rows, rejects, duplicates) = match content {
            Content::Recorded(_) => (Vec::new(), Vec::new(), 0),
            Content::Rejected(reason) => (Vec::new(), vec![Reject { reason, reading: None }], 0),
            Content::Readings(readings) => {
                let Readings { mut rows, mut rejects, unknown_fields, .. } = readings;
                let all = rows.len();
                let mut flags = duplicate.iter();
                rows.retain(|_| !flags.next().copied().unwrap_or(false));
                for row in &mut rows {
                    row.lsn = lsn;
                }
                if unknown_fields {
                    let reason = RejectReason::UnknownFields;
                    rejects.push(Reject { reason, reading: None });
                }
                let duplicates = u32::try_from(all - rows.len()).unwrap_or(u32::MAX);
                (rows, rejects, duplicates)
            }
        };
        DurableFrame { lsn, received, topic, payload, rows, rejects, duplicates }
    }
}

fn content(topic: &Topic, payload: &Bytes, received: ReceiveTime) -> Result<Content, RejectReason> {
    let id =
        |stream, session, seq| BatchId { station: topic.station.clone(), stream, session, seq };
    let readings = |id: BatchId, replay, readings: Vec<Result<_, RejectReason>>, unknown_fields| {
        let count = u32::try_from(readings.len()).unwrap_or(u32::MAX);
        let mut rows = Vec::with_capacity(readings.len());
        let mut rejects = Vec::new();
        for (position, reading) in (0..).zip(readings) {
            match reading {
                Err(reason) => rejects.push(Reject { reason, reading: Some(position) }),
                Ok(reading) => rows.push(Row {
                    lsn: 0,
                    region: topic.region.clone(),
                    station: topic.station.clone(),
                    session: id.session,
                    batch_seq: id.seq,
                    replay,
                    reading,
                }),
            }
        }
        let keys = rows.iter().map(Key::of).collect();
        Content::Readings(Readings { id, count, rows, keys, rejects, unknown_fields })
    };
    Ok(match decode(topic, payload)? {
        Decoded::State(_) => Content::Recorded(None),
        Decoded::CommandResult(result) => {
            Content::Recorded(Some(id(Stream::Commands, result.session, result.seq)))
        }
        Decoded::Status(status) => {
            let id = id(Stream::Status, status.session, status.seq);
            readings(id, false, vec![normalize_status(&status, received)], false)
        }
        Decoded::Batch(batch) => {
            let id = id(Stream::Batches, batch.session, batch.seq);
            let (replay, unknown_fields) = (batch.replay, batch.unknown_fields);
            let normalized = normalize_batch(batch, topic.channel, received);
            readings(id, replay, normalized.readings, unknown_fields)
        }
    })
}

impl Readings {
    /// The outcome of each reading, in the payload's order.
    pub(crate) fn outcomes<'a>(
        &'a self,
        duplicate: &'a [bool],
    ) -> impl Iterator<Item = Outcome> + 'a {
        let mut rows = self.rows.iter().zip(duplicate);
        let mut rejects = self.rejects.iter().peekable();
        (0..self.count).map_while(move |position| {
            if let Some(reject) = rejects.next_if(|reject| reject.reading == Some(position)) {
                return Some(Outcome::Rejected(reject.reason));
            }
            rows.next().map(|(row, duplicate)| match duplicate {
                true => Outcome::Duplicate,
                false => Outcome::Accepted(Judgement::of(&row.reading)),
            })
        })
    }

    /// The verdict in numbers.
    pub(crate) fn tally(&self, duplicate: &[bool]) -> Tally {
        let duplicates = duplicate.iter().filter(|d| **d).count();
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Tally {
            accepted: small(self.rows.len() - duplicates),
            duplicate: small(duplicates),
            rejected: self.rejects.iter().map(|reject| reject.reason).collect(),
        }
    }
}

impl Answer {
    /// What a verdict is answered as.
    pub(crate) fn of(tally: &Tally) -> Self {
        let rejected = u32::try_from(tally.rejected.len()).unwrap_or(u32::MAX);
        Self {
            readings: tally.accepted + tally.duplicate + rejected,
            rejected,
            reason: tally.rejected.first().copied(),
            nothing_accepted: rejected > 0 && tally.accepted + tally.duplicate == 0,
        }
    }

    /// For the client: a sender's faults are acknowledged, as sending again cannot help.
    pub(crate) fn acknowledgement(self) -> Acknowledgement {
        Acknowledgement {
            rejected: self.rejected,
            reason: self.reason.map(RejectReason::as_str),
            nothing_accepted: self.nothing_accepted,
        }
    }
}
