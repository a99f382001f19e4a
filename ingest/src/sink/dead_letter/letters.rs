//! From a frame's rejects to letters: which bytes each is about.

use std::ops::Range;

use loushan_schemas::ids::StationId;
use loushan_schemas::topic::ROOT;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use super::{NewLetter, Why};
use crate::pipeline::frame::DurableFrame;

/// Number of `readings` in `UplinkBatch`.
const READINGS: u32 = 7;
/// How a payload begins that is compressed (zstd, gzip): no reading can be pointed at in it.
const COMPRESSED: [&[u8]; 2] = [&[0x28, 0xb5, 0x2f, 0xfd], &[0x1f, 0x8b]];

/// Bytes of a batch's own fields that are kept with a reading of it: all that a sender needs.
const CONTEXT_BYTES: usize = 256;

/// A frame's letters, in the order of its rejects.
#[derive(Debug, Default)]
pub(super) struct Letters<'a> {
    pub(super) letters: Vec<NewLetter<'a>>,
    /// What the readings' letters are kept with; empty where it is not known, or too long.
    pub(super) context: Vec<u8>,
}

/// A frame's letters. A reading's letter is about that reading's bytes; where they cannot be pointed
/// at, the first letter of the frame keeps the whole payload and the others its beginning, or one
/// publish could fill the folder a thousandfold.
pub(super) fn letters_of(frame: &DurableFrame) -> Letters<'_> {
    let parts = if frame.rejects.iter().any(|r| r.reading.is_some()) {
        parts(&frame.payload).unwrap_or_default()
    } else {
        Parts::default()
    };
    let station = station_of(&frame.topic);
    let mut whole_kept = false;
    let letters = frame.rejects.iter().map(|reject| {
        let span = reject.reading.and_then(|i| parts.readings.get(usize::try_from(i).ok()?));
        let reading = span.and_then(|span| frame.payload.get(span.clone()));
        let keep_whole = reading.is_some() || !std::mem::replace(&mut whole_kept, true);
        NewLetter {
            lsn: frame.lsn,
            received_ns: frame.received.ns(),
            topic: &frame.topic,
            station,
            why: Why::Rejected(reject.reason),
            reading: reject.reading,
            subject: reading.unwrap_or(&frame.payload),
            keep_whole,
            detail: "",
        }
    });
    let letters = letters.collect();
    let context = if parts.context.len() <= CONTEXT_BYTES { parts.context } else { Vec::new() };
    Letters { letters, context }
}

/// A batch that has the reading of a payload at that place only; `None` when there is none.
pub(crate) fn batch_of_one(payload: &[u8], reading: u32) -> Option<Vec<u8>> {
    let parts = parts(payload)?;
    let span = parts.readings.get(usize::try_from(reading).ok()?)?;
    Some(one(&parts.context, payload.get(span.clone())?))
}

/// A batch's own fields and one reading.
pub(super) fn one(context: &[u8], reading: &[u8]) -> Vec<u8> {
    let mut batch = Vec::with_capacity(context.len() + reading.len() + 8);
    batch.extend_from_slice(context);
    encode_key(READINGS, WireType::LengthDelimited, &mut batch);
    encode_varint(reading.len() as u64, &mut batch);
    batch.extend_from_slice(reading);
    batch
}

/// Whether at these bytes no reading can be pointed.
pub(super) fn is_compressed(payload: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| payload.starts_with(magic))
}

/// The station a topic names, also where the rest of the topic is malformed.
pub(crate) fn station_of(topic: &str) -> Option<&str> {
    let mut levels = topic.split('/');
    let station = levels.next().filter(|root| *root == ROOT).and_then(|_| levels.nth(1))?;
    StationId::new(station).is_ok().then_some(station)
}

/// What a batch is made of.
#[derive(Debug, Default)]
struct Parts {
    /// Where its readings lie.
    readings: Vec<Range<usize>>,
    /// All its other fields.
    context: Vec<u8>,
}

/// The parts of a batch; `None` when the bytes are not a message.
fn parts(payload: &[u8]) -> Option<Parts> {
    if is_compressed(payload) {
        return None;
    }
    let mut parts = Parts::default();
    let mut rest = payload;
    while !rest.is_empty() {
        let begin = payload.len() - rest.len();
        let (field, wire_type) = decode_key(&mut rest).ok()?;
        let len = match wire_type {
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                0
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let start = payload.len() - rest.len();
        rest = rest.get(len..)?;
        if field == READINGS && wire_type == WireType::LengthDelimited {
            parts.readings.push(start..start + len);
        } else {
            parts.context.extend_from_slice(payload.get(begin..start + len)?);
        }
    }
    Some(parts)
}
