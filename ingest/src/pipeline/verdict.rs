//! The body of a log frame: a publish as received, and the verdict on it.
//!
//! The bytes are those of `proto/loushan/log/v1/frame.proto`. `Encoder` writes them straight into
//! a buffer that is used again, as this stands on the path of every publish; [`decode`] reads them
//! through prost. A frame is decided once: whoever reads it later takes the verdict as it stands,
//! whatever this build's decoder and normalizer would say today.

use bytes::Bytes;
use loushan_schemas::quality::{Quality, QualityReason};
use loushan_schemas::reading::TimeSource;
use loushan_schemas::reject::RejectReason;
use loushan_schemas::time::{DeviceTime, ReceiveTime};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::normalize::{Judgement, NORMALIZER_VERSION};

/// The compiled messages.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub(crate) mod pb {
    include!(concat!(env!("OUT_DIR"), "/loushan.log.v1.rs"));
}

/// The version of the frame's body that is written.
const VERSION: u32 = 1;
const DUPLICATE: u8 = 0x00;
const REJECTED: u8 = 0xff;

/// What became of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, so judged.
    Accepted(Judgement),
    /// Stored before.
    Duplicate,
    /// Kept in the dead letter.
    Rejected(RejectReason),
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The whole publish is in the dead letter.
    Rejected(RejectReason),
    /// One outcome per reading, in the payload's order.
    Readings {
        /// The outcomes.
        outcomes: Vec<Outcome>,
        /// Unknown fields stood beside known bodies: the publish is in the dead letter as well.
        unknown_fields: bool,
    },
    /// Birth, death or a command's result: kept as it is.
    Recorded,
}

/// A log frame's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameBody {
    /// Topic as published.
    pub topic: String,
    /// Payload as received, or its beginning.
    pub payload: Bytes,
    /// When it was received.
    pub received: ReceiveTime,
    /// Version of the normalizer that decided.
    pub normalizer: u32,
    /// Length of the whole payload, where `payload` is only its beginning.
    pub cut_from: Option<u32>,
    /// What was decided.
    pub verdict: Verdict,
}

/// A frame's body that passed the log's checksum and still is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not the message at all.
    #[error("it is not a frame's body: {0}")]
    Message(String),
    /// Of a later build.
    #[error("its version is {0}, and this build reads {VERSION}: start the build that wrote it")]
    Version(u32),
    /// A number that this build's lists do not have, or counts that contradict each other.
    #[error("its verdict is unreadable: {0}")]
    Verdict(&'static str),
}

/// Writes frame bodies into one buffer, again and again.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    body: Vec<u8>,
    outcomes: Vec<u8>,
    deltas: Vec<u8>,
}

fn key(tag: u32, wire: WireType, out: &mut Vec<u8>) {
    encode_key(tag, wire, out);
}

fn bytes_field(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint_field(tag: u32, value: u64, out: &mut Vec<u8>) {
    key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

impl Encoder {
    fn head(&mut self, topic: &str, payload: &[u8], received: ReceiveTime) {
        self.body.clear();
        varint_field(1, u64::from(VERSION), &mut self.body);
        bytes_field(2, topic.as_bytes(), &mut self.body);
        bytes_field(3, payload, &mut self.body);
        key(4, WireType::SixtyFourBit, &mut self.body);
        self.body.extend_from_slice(&received.ns().to_le_bytes());
        varint_field(5, u64::from(NORMALIZER_VERSION), &mut self.body);
    }

    /// A publish that is rejected whole. `cut_from` is the payload's length where only its
    /// beginning is given.
    pub(crate) fn rejected(
        &mut self,
        topic: &str,
        payload: &[u8],
        received: ReceiveTime,
        cut_from: Option<u32>,
        reason: RejectReason,
    ) -> &[u8] {
        self.head(topic, payload, received);
        if let Some(whole) = cut_from {
            varint_field(6, u64::from(whole), &mut self.body);
        }
        varint_field(7, u64::from(reason.number()), &mut self.body);
        &self.body
    }

    /// A birth, a death or a command's result.
    pub(crate) fn recorded(&mut self, topic: &str, payload: &[u8], received: ReceiveTime) -> &[u8] {
        self.head(topic, payload, received);
        varint_field(9, 1, &mut self.body);
        &self.body
    }

    /// Readings, with the outcome of each in the payload's order.
    pub(crate) fn readings(
        &mut self,
        topic: &str,
        payload: &[u8],
        received: ReceiveTime,
        outcomes: impl Iterator<Item = Outcome>,
        unknown_fields: bool,
    ) -> &[u8] {
        self.outcomes.clear();
        self.deltas.clear();
        for outcome in outcomes {
            let pair = match outcome {
                Outcome::Duplicate => [DUPLICATE, 0],
                Outcome::Rejected(reason) => [REJECTED, reason.number()],
                Outcome::Accepted(judged) => {
                    let delta = judged.effective.ms() - received.ms();
                    encode_varint(zigzag(delta), &mut self.deltas);
                    let first = judged.quality.number() << 4 | judged.source as u8;
                    [first, judged.reason.map_or(0, QualityReason::number)]
                }
            };
            self.outcomes.extend_from_slice(&pair);
        }
        self.head(topic, payload, received);
        let mut length = part_len(&self.outcomes) + part_len(&self.deltas);
        if unknown_fields {
            length += 2;
        }
        key(8, WireType::LengthDelimited, &mut self.body);
        encode_varint(length as u64, &mut self.body);
        for (tag, part) in [(1, &self.outcomes), (2, &self.deltas)] {
            if !part.is_empty() {
                bytes_field(tag, part, &mut self.body);
            }
        }
        if unknown_fields {
            varint_field(3, 1, &mut self.body);
        }
        &self.body
    }
}

/// Bytes of a length-delimited field with a one-byte key; an empty one is left out.
fn part_len(part: &[u8]) -> usize {
    if part.is_empty() { 0 } else { 1 + encoded_len_varint(part.len() as u64) + part.len() }
}

/// Protobuf's mapping of signed numbers to unsigned ones.
#[allow(clippy::cast_sign_loss)] // the bits are meant
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Reads a frame's body.
///
/// # Errors
/// When the bytes are no body that this build can read. The caller must not pass over it.
pub fn decode(body: Bytes) -> Result<FrameBody, BodyError> {
    let frame = pb::LogFrame::decode(body).map_err(|e| BodyError::Message(e.to_string()))?;
    if frame.version != VERSION {
        return Err(BodyError::Version(frame.version));
    }
    let received = ReceiveTime::from_ns(frame.received_ns);
    let verdict = match frame.verdict {
        None => return Err(BodyError::Verdict("it has none")),
        Some(pb::log_frame::Verdict::Recorded(_)) => Verdict::Recorded,
        Some(pb::log_frame::Verdict::Rejected(number)) => Verdict::Rejected(
            u8::try_from(number)
                .ok()
                .and_then(RejectReason::from_number)
                .ok_or(BodyError::Verdict("unknown reject reason"))?,
        ),
        Some(pb::log_frame::Verdict::Readings(readings)) => Verdict::Readings {
            outcomes: outcomes(&readings, received)?,
            unknown_fields: readings.unknown_fields,
        },
    };
    Ok(FrameBody {
        topic: frame.topic,
        payload: frame.payload,
        received,
        normalizer: frame.normalizer,
        cut_from: (frame.payload_bytes > 0).then_some(frame.payload_bytes),
        verdict,
    })
}

fn outcomes(readings: &pb::Readings, received: ReceiveTime) -> Result<Vec<Outcome>, BodyError> {
    let (pairs, rest) = readings.outcomes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(BodyError::Verdict("half an outcome"));
    }
    let mut deltas = readings.effective_delta_ms.iter();
    let mut outcomes = Vec::with_capacity(pairs.len());
    for pair in pairs {
        outcomes.push(match *pair {
            [DUPLICATE, 0] => Outcome::Duplicate,
            [REJECTED, reason] => Outcome::Rejected(
                RejectReason::from_number(reason)
                    .ok_or(BodyError::Verdict("unknown reject reason"))?,
            ),
            [first, reason] => {
                let delta = deltas.next().ok_or(BodyError::Verdict("a time is missing"))?;
                Outcome::Accepted(Judgement {
                    effective: received
                        .ms()
                        .checked_add(*delta)
                        .and_then(DeviceTime::from_ms)
                        .ok_or(BodyError::Verdict("a time that is none"))?,
                    source: TimeSource::from_number(first & 0x0f)
                        .ok_or(BodyError::Verdict("unknown clock"))?,
                    quality: Quality::from_number(first >> 4)
                        .ok_or(BodyError::Verdict("unknown quality"))?,
                    reason: match reason {
                        0 => None,
                        number => Some(
                            QualityReason::from_number(number)
                                .ok_or(BodyError::Verdict("unknown quality reason"))?,
                        ),
                    },
                })
            }
        });
    }
    if deltas.next().is_some() {
        return Err(BodyError::Verdict("a time too many"));
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests;
