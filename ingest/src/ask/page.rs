//! Where a page ends, as a word: base64 of a version, the question's fingerprint, its span, the lsn it
//! is as of, and the position, with a checksum. It is given back as it came; what is inside is nobody
//! else's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::sink::embedded::{Order, Position, Which};

const VERSION: u8 = 1;
const BYTES: usize = 1 + 4 + 3 * 8 + 8 + 8 + 1 + 8 + 4 + 8 + 8;

/// The next page of a question.
pub(super) fn word(which: &Which, order: Order, at: &Position) -> String {
    let mut bytes = Vec::with_capacity(BYTES + 4);
    bytes.push(VERSION);
    bytes.extend(fingerprint(which, order).to_le_bytes());
    bytes.extend(which.from_ms.to_le_bytes());
    bytes.extend(which.to_ms.to_le_bytes());
    bytes.extend(which.up_to_lsn.to_le_bytes());
    bytes.extend(at.effective_ms.to_le_bytes());
    bytes.extend(at.lsn.to_le_bytes());
    bytes.push(at.kind);
    bytes.extend(at.imei.to_le_bytes());
    bytes.extend(at.boot_epoch.to_le_bytes());
    bytes.extend(at.seq.to_le_bytes());
    bytes.extend(at.measured_ms.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a word says, if it is one of ours and of this question: the span and the lsn of its first
/// page go into `which`.
pub(super) fn read(word: &str, which: &mut Which, order: Order) -> Option<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(word).ok()?;
    let (bytes, crc) = bytes.split_last_chunk::<4>()?;
    if bytes.len() != BYTES || crc32fast::hash(bytes) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (version, mut rest) = bytes.split_first()?;
    let print = u32::from_le_bytes(take(&mut rest)?);
    if *version != VERSION || print != fingerprint(which, order) {
        return None;
    }
    which.from_ms = i64::from_le_bytes(take(&mut rest)?);
    which.to_ms = i64::from_le_bytes(take(&mut rest)?);
    which.up_to_lsn = u64::from_le_bytes(take(&mut rest)?);
    Some(Position {
        effective_ms: i64::from_le_bytes(take(&mut rest)?),
        lsn: u64::from_le_bytes(take(&mut rest)?),
        kind: u8::from_le_bytes(take(&mut rest)?),
        imei: u64::from_le_bytes(take(&mut rest)?),
        boot_epoch: u32::from_le_bytes(take(&mut rest)?),
        seq: u64::from_le_bytes(take(&mut rest)?),
        measured_ms: i64::from_le_bytes(take(&mut rest)?),
    })
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*taken)
}

/// Of everything but the span, which may have been told against now, and the limit.
fn fingerprint(which: &Which, order: Order) -> u32 {
    let Which { device, station, among, kind, min_quality, .. } = which;
    let mut text = format!("{device:?} {station:?} {kind:?} {min_quality:?} {order:?}");
    // As it was before there were projects, where there is none.
    if let Some(among) = among {
        among.iter().for_each(|name| text.extend([" ", name]));
    }
    crc32fast::hash(text.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use loushan_schemas::kind::Kind;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_means_the_position_it_was_made_of_to_its_question_and_nothing_to_others(
            at in any::<(i64, u64, u8, u64, u32, u64, i64)>(),
            span in any::<(i64, i64, u64)>(),
            flip in any::<(prop::sample::Index, u8)>(),
        ) {
            let at = Position {
                effective_ms: at.0, lsn: at.1, kind: at.2, imei: at.3, boot_epoch: at.4, seq: at.5,
                measured_ms: at.6,
            };
            let of = |kind| Which { kind, ..Which::default() };
            let which = Which { from_ms: span.0, to_ms: span.1, up_to_lsn: span.2, ..of(None) };
            let word = word(&which, Order::OldestFirst, &at);
            let mut later = of(None);
            prop_assert_eq!(read(&word, &mut later, Order::OldestFirst), Some(at));
            prop_assert_eq!(&later, &which);
            prop_assert_eq!(read(&word, &mut of(Some(Kind::Water)), Order::OldestFirst), None);
            prop_assert_eq!(read(&word, &mut of(None), Order::NewestFirst), None);
            let mut bytes = word.clone().into_bytes();
            let place = flip.0.index(bytes.len());
            bytes[place] = flip.1;
            let other = String::from_utf8_lossy(&bytes).into_owned();
            if other != word {
                // The last character holds bits that are no byte's.
                let read = read(&other, &mut of(None), Order::OldestFirst);
                prop_assert!(read.is_none() || place == bytes.len() - 1);
            }
        }
    }
}
