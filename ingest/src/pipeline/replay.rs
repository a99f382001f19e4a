//! From a frame of the log back to what the sinks were, or will be, given.
//!
//! The payload is decoded and converted again, and the frame's verdict is laid over it. Nothing is
//! decided anew: a reading that was rejected stays so even if this build could read it, and one that
//! was accepted keeps the time and quality it got. If this build cannot convert what an earlier one
//! accepted, that is an error with the frame's name in it, and the service must stop: passing over
//! it would lose an acknowledged reading.

use std::sync::Arc;

use bytes::Bytes;
use loushan_schemas::pb;
use loushan_schemas::reading::Reading;
use loushan_schemas::reject::RejectReason;
use loushan_schemas::row::Row;
use loushan_schemas::time::ReceiveTime;
use loushan_schemas::topic::{Topic, TopicError};

use super::decode::{Decoded, decode};
use super::frame::{DurableFrame, Reject};
use super::normalize::{Judgement, apply, apply_status};
use super::verdict::{self, BodyError, Outcome, Verdict};

/// A frame of the log that this build cannot give back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "frame {lsn} of the log cannot be replayed: {why}; nothing was skipped, start the build that wrote it"
)]
pub struct ReplayError {
    /// Which frame.
    pub lsn: u64,
    /// Why.
    #[source]
    pub why: Why,
}

/// Why a frame cannot be given back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Its body is unreadable.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Readings were accepted under a topic that is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The whole payload was accepted and cannot be decoded.
    #[error("its payload was accepted and is now {0}")]
    Payload(RejectReason),
    /// A reading was accepted and cannot be converted.
    #[error("its reading {position} was accepted and is now {reason}")]
    Reading {
        /// Which.
        position: usize,
        /// What this build says.
        reason: RejectReason,
    },
    /// The verdict has another number of readings than the payload.
    #[error("its verdict has {verdict} readings, its payload {payload}")]
    Count {
        /// In the verdict.
        verdict: usize,
        /// In the payload.
        payload: usize,
    },
    /// The topic's payload has no readings.
    #[error("its verdict has readings, its topic has none")]
    NoReadings,
}

/// The frame with that lsn and body, as the sinks get it.
///
/// # Errors
/// When this build cannot give back what was promised.
pub fn frame(lsn: u64, body: Bytes) -> Result<DurableFrame, ReplayError> {
    rebuild(lsn, body).map_err(|why| ReplayError { lsn, why })
}

fn rebuild(lsn: u64, body: Bytes) -> Result<DurableFrame, Why> {
    let body = verdict::decode(body)?;
    let mut frame = DurableFrame {
        lsn,
        received: body.received,
        topic: Arc::from(body.topic),
        payload: body.payload,
        rows: Vec::new(),
        rejects: Vec::new(),
        duplicates: 0,
    };
    match body.verdict {
        Verdict::Recorded => {}
        Verdict::Rejected(reason) => frame.rejects.push(Reject { reason, reading: None }),
        Verdict::Readings { outcomes, unknown_fields } => {
            readings(&mut frame, &outcomes)?;
            if unknown_fields {
                let reason = RejectReason::UnknownFields;
                frame.rejects.push(Reject { reason, reading: None });
            }
        }
    }
    Ok(frame)
}

fn readings(frame: &mut DurableFrame, outcomes: &[Outcome]) -> Result<(), Why> {
    let topic = Topic::parse(&frame.topic)?;
    let source = match decode(&topic, &frame.payload).map_err(Why::Payload)? {
        Decoded::Batch(batch) => Source {
            session: batch.session,
            seq: batch.seq,
            replay: batch.replay,
            content: Content::Batch { base_time_ms: batch.base_time_ms, readings: batch.readings },
        },
        Decoded::Status(status) => Source {
            session: status.session,
            seq: status.seq,
            replay: false,
            content: Content::Status(status),
        },
        Decoded::State(_) | Decoded::CommandResult(_) => return Err(Why::NoReadings),
    };
    let payload = source.content.len();
    if payload != outcomes.len() {
        return Err(Why::Count { verdict: outcomes.len(), payload });
    }
    for (position, outcome) in outcomes.iter().enumerate() {
        match *outcome {
            Outcome::Duplicate => frame.duplicates += 1,
            Outcome::Rejected(reason) => frame.rejects.push(Reject {
                reason,
                // A batch has at most a thousand.
                reading: Some(u32::try_from(position).unwrap_or(u32::MAX)),
            }),
            Outcome::Accepted(judgement) => {
                let reading = source
                    .content
                    .reading(position, frame.received, judgement)
                    .map_err(|reason| Why::Reading { position, reason })?;
                frame.rows.push(Row {
                    lsn: frame.lsn,
                    region: topic.region.clone(),
                    station: topic.station.clone(),
                    session: source.session,
                    batch_seq: source.seq,
                    replay: source.replay,
                    reading,
                });
            }
        }
    }
    Ok(())
}

struct Source {
    session: u32,
    seq: u64,
    replay: bool,
    content: Content,
}

enum Content {
    Batch { base_time_ms: u64, readings: Vec<Result<pb::Reading, RejectReason>> },
    Status(pb::StationStatus),
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Batch { readings, .. } => readings.len(),
            Self::Status(_) => 1,
        }
    }

    fn reading(
        &self,
        position: usize,
        received: ReceiveTime,
        judgement: Judgement,
    ) -> Result<Reading, RejectReason> {
        match self {
            Self::Status(status) => apply_status(status, received, judgement),
            Self::Batch { base_time_ms, readings } => match readings.get(position) {
                Some(Ok(reading)) => apply(*base_time_ms, reading, received, judgement),
                Some(Err(reason)) => Err(*reason),
                None => Err(RejectReason::NoReadings),
            },
        }
    }
}
