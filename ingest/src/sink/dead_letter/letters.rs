//! From a frame's rejects to letters: which bytes each is about.

use std::ops::Range;

use loushan_schemas::ids::StationId;
use loushan_schemas::topic::ROOT;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::{NewLetter, Why};
use crate::pipeline::frame::DurableFrame;

/// Number of `readings` in `UplinkBatch`.
const READINGS: u32 = 7;
/// How a payload begins that is compressed (zstd, gzip): no reading can be pointed at in it.
const COMPRESSED: [&[u8]; 2] = [&[0x28, 0xb5, 0x2f, 0xfd], &[0x1f, 0x8b]];

/// A frame's letters, in the order of its rejects. A reading's letter is about that reading's bytes;
/// where they cannot be pointed at, the first letter of the frame keeps the whole payload and the
/// others its beginning, or one publish could fill the folder a thousandfold.
pub(super) fn letters_of(frame: &DurableFrame) -> Vec<NewLetter<'_>> {
    let spans = if frame.rejects.iter().any(|r| r.reading.is_some()) {
        reading_spans(&frame.payload).unwrap_or_default()
    } else {
        Vec::new()
    };
    let station = station_of(&frame.topic);
    let mut whole_kept = false;
    let letters = frame.rejects.iter().map(|reject| {
        let span = reject.reading.and_then(|i| spans.get(usize::try_from(i).ok()?).cloned());
        let reading = span.and_then(|span| frame.payload.get(span));
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
    letters.collect()
}

/// The station a topic names, also where the rest of the topic is malformed.
pub(crate) fn station_of(topic: &str) -> Option<&str> {
    let mut levels = topic.split('/');
    let station = levels.next().filter(|root| *root == ROOT).and_then(|_| levels.nth(1))?;
    StationId::new(station).is_ok().then_some(station)
}

/// Where the readings of a batch lie; `None` when the bytes are not a message.
fn reading_spans(payload: &[u8]) -> Option<Vec<Range<usize>>> {
    if COMPRESSED.iter().any(|magic| payload.starts_with(magic)) {
        return None;
    }
    let mut spans = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
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
            spans.push(start..start + len);
        }
    }
    Some(spans)
}
