//! The bytes of dead letter files: encoding, and the scan that everybody who reads them uses.
//!
//! ```text
//! segment  = header record*
//! header   = "LSDEADLT" · version u32 = 1 · log id 16 bytes · after u64 · crc u32
//! record   = "LDLR" · body length u32 · crc u32 · body
//! letter   = 1 u8 · lsn u64 · received i64 (Unix ns) · why u8 · flags u8 · reading u32
//!          · digest u128 (xxh3) · subject length u64 · topic · station · detail · payload · context
//! commit   = 2 u8 · cursor u64
//! ```
//!
//! Little endian. `topic`, `station`, `detail` are a u16 length and bytes, `payload` a u32 length and
//! bytes. Flag 1: `reading` is meant (else the letter is about the whole publish); flag 2: `payload`
//! is only the beginning; flag 4: `context` follows, a u32 length and bytes, which earlier builds neither
//! wrote nor read. A record's CRC-32 runs over the log id, the length and the body: without
//! the log id, a sender could put whole records into a payload for a scan that has lost its place.

use std::ops::Range;

use bytes::Bytes;

use super::Why;
use crate::sink::cursor_file::LogIdBytes;

pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"LSDEADLT";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 8 + 4 + 16 + 8 + 4;
const RECORD_MAGIC: [u8; 4] = *b"LDLR";
const RECORD_HEADER_BYTES: usize = 12;
/// A payload kept whole, its topic and words, and room to spare: a greater length is damage.
const BODY_BYTES: usize = super::KEEP_BYTES + 64 * 1024;
/// A topic is at most 65,535 bytes long; a thousand tell what was meant.
const TOPIC_BYTES: usize = 1_000;
/// A server's words about one point: enough to find the fault.
const DETAIL_BYTES: usize = 500;

const LETTER: u8 = 1;
const COMMIT: u8 = 2;
const HAS_READING: u8 = 1;
const TRUNCATED: u8 = 2;
const HAS_CONTEXT: u8 = 4;

/// What stands at the head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log_id: LogIdBytes,
    /// The cursor when the segment was made. Groups of earlier segments above it do not count: their
    /// sync failed, and they were written again here.
    pub(super) after: u64,
}

/// Why there is no header in some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    Corrupt,
    Version(u32),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.log_id);
        out.extend_from_slice(&self.after.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let header = bytes.get(..HEADER_BYTES).ok_or(BadHeader::Corrupt)?;
        let mut at = Fields(header);
        let mut read = || {
            let magic = at.array::<8>()?;
            let version = at.u32()?;
            let header = Self { log_id: at.array()?, after: at.u64()? };
            Some((magic, version, header, at.u32()?))
        };
        let (magic, version, header, crc) = read().ok_or(BadHeader::Corrupt)?;
        let summed = bytes.get(..HEADER_BYTES - 4).unwrap_or_default();
        if magic != SEGMENT_MAGIC || crc != crc32fast::hash(summed) {
            return Err(BadHeader::Corrupt);
        }
        if version == VERSION { Ok(header) } else { Err(BadHeader::Version(version)) }
    }
}

/// A letter to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewLetter<'a> {
    pub(crate) lsn: u64,
    pub(crate) received_ns: i64,
    pub(crate) topic: &'a str,
    pub(crate) station: Option<&'a str>,
    pub(crate) why: Why,
    pub(crate) reading: Option<u32>,
    /// The bytes the letter is about, whole.
    pub(crate) subject: &'a [u8],
    /// Whether to keep the subject whole, quotas allowing.
    pub(crate) keep_whole: bool,
    /// Words about it, perhaps none.
    pub(crate) detail: &'a str,
}

/// A letter as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The log sequence number of the frame it was in.
    pub lsn: u64,
    /// When we received it, Unix nanoseconds.
    pub received_ns: i64,
    /// The topic it was published to (its first thousand bytes).
    pub topic: String,
    /// The station, where the topic names one.
    pub station: Option<String>,
    /// Why it is here.
    pub why: Why,
    /// Which reading of the batch; `None` for the whole publish.
    pub reading: Option<u32>,
    /// xxh3-128 of the bytes it is about, all of them.
    pub digest: u128,
    /// How many bytes these are.
    pub subject_bytes: u64,
    /// These bytes, or the first of them.
    pub payload: Bytes,
    /// Whether `payload` is only their beginning.
    pub truncated: bool,
    /// What a server said of it; often empty.
    pub detail: String,
    /// Of a reading's letter: the fields of the batch that it was in, without its readings; empty where
    /// they were not kept.
    pub context: Bytes,
}

/// What a letter's bytes can be given to a decoder as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// As they are.
    Publish(Bytes),
    /// They are not all here: the log may still have them, at the letter's lsn.
    Incomplete,
}

impl DeadLetter {
    /// The publish by which what the letter is about is decided again: the whole one, or a batch of one
    /// reading with the name of the one that it was in.
    #[must_use]
    pub fn again(&self) -> Again {
        // The topic is cut without a sign, so one that long may have been cut.
        if self.truncated || self.topic.len() >= TOPIC_BYTES {
            return Again::Incomplete;
        }
        match self.reading {
            None => Again::Publish(self.payload.clone()),
            Some(_) if !self.context.is_empty() => {
                Again::Publish(super::letters::one(&self.context, &self.payload).into())
            }
            // All of it, as no reading could be pointed at.
            Some(_) if super::letters::is_compressed(&self.payload) => {
                Again::Publish(self.payload.clone())
            }
            Some(_) => Again::Incomplete,
        }
    }
}

/// The first `bytes` of a text, or a little less where that would split a character.
fn cut(text: &str, bytes: usize) -> &str {
    let ends = (0..=bytes.min(text.len())).rev();
    ends.filter_map(|end| text.get(..end)).next().unwrap_or_default()
}

fn push_record(log_id: &LogIdBytes, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&RECORD_MAGIC);
    out.extend_from_slice(&[0; 8]);
    body(out);
    let length = u32::try_from(out.len() - start - RECORD_HEADER_BYTES).unwrap_or(u32::MAX);
    let length = length.to_le_bytes();
    let Some((header, body)) =
        out.get_mut(start..).and_then(|r| r.split_at_mut_checked(RECORD_HEADER_BYTES))
    else {
        return;
    };
    let crc = crc(log_id, length, body);
    for (to, from) in header.iter_mut().skip(4).zip(length.into_iter().chain(crc)) {
        *to = from;
    }
}

fn crc(log_id: &LogIdBytes, length: [u8; 4], body: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(log_id);
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

fn push_text(text: &str, limit: usize, out: &mut Vec<u8>) {
    let text = cut(text, limit);
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a letter that keeps the first `keep` bytes of its subject.
pub(super) fn push_letter(
    log_id: &LogIdBytes,
    letter: &NewLetter<'_>,
    keep: usize,
    context: &[u8],
    out: &mut Vec<u8>,
) {
    let payload = letter.subject.get(..keep).unwrap_or(letter.subject);
    let truncated = payload.len() < letter.subject.len();
    push_record(log_id, out, |out| {
        out.push(LETTER);
        out.extend_from_slice(&letter.lsn.to_le_bytes());
        out.extend_from_slice(&letter.received_ns.to_le_bytes());
        out.push(letter.why.number());
        out.push(
            if letter.reading.is_some() { HAS_READING } else { 0 }
                | if truncated { TRUNCATED } else { 0 }
                | if context.is_empty() { 0 } else { HAS_CONTEXT },
        );
        out.extend_from_slice(&letter.reading.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&xxhash_rust::xxh3::xxh3_128(letter.subject).to_le_bytes());
        out.extend_from_slice(&(letter.subject.len() as u64).to_le_bytes());
        push_text(letter.topic, TOPIC_BYTES, out);
        push_text(letter.station.unwrap_or(""), TOPIC_BYTES, out);
        push_text(letter.detail, DETAIL_BYTES, out);
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(payload);
        if !context.is_empty() {
            out.extend_from_slice(&u32::try_from(context.len()).unwrap_or(0).to_le_bytes());
            out.extend_from_slice(context);
        }
    });
}

/// Appends the record that makes the letters before it count, and is the cursor.
pub(super) fn push_commit(log_id: &LogIdBytes, cursor: u64, out: &mut Vec<u8>) {
    push_record(log_id, out, |out| {
        out.push(COMMIT);
        out.extend_from_slice(&cursor.to_le_bytes());
    });
}

/// A committed group of letters.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) letters: Vec<DeadLetter>,
    pub(super) cursor: u64,
    /// Where it ends in the segment.
    pub(super) end: usize,
}

/// What a scan of a segment found.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) header: Header,
    pub(super) groups: Vec<Group>,
    /// Stretches of damaged bytes that have a committed group behind them.
    pub(super) corrupt: Vec<Range<usize>>,
}

impl Scan {
    /// Where the last committed group ends; what lies behind it is torn.
    pub(super) fn end(&self) -> usize {
        self.groups.last().map_or(HEADER_BYTES, |group| group.end)
    }
}

enum Record {
    Letter(DeadLetter),
    Commit(u64),
}

/// Finds what counts in a segment. Letters without a commit behind them do not.
pub(super) fn scan(segment: &Bytes) -> Result<Scan, BadHeader> {
    let header = Header::decode(segment)?;
    let mut found = Scan { header, groups: Vec::new(), corrupt: Vec::new() };
    let (mut letters, mut damaged) = (Vec::new(), Vec::new());
    let mut at = HEADER_BYTES;
    while at < segment.len() {
        match record_at(&header.log_id, segment, at) {
            Some((Record::Letter(letter), end)) => {
                letters.push(letter);
                at = end;
            }
            Some((Record::Commit(cursor), end)) => {
                found.groups.push(Group { letters: std::mem::take(&mut letters), cursor, end });
                found.corrupt.append(&mut damaged);
                at = end;
            }
            None => {
                let next = (at + 1..segment.len())
                    .filter(|i| segment.get(*i..).is_some_and(|s| s.starts_with(&RECORD_MAGIC)))
                    .find(|i| record_at(&header.log_id, segment, *i).is_some());
                let next = next.unwrap_or(segment.len());
                damaged.push(at..next);
                at = next;
            }
        }
    }
    Ok(found)
}

fn record_at(log_id: &LogIdBytes, segment: &Bytes, at: usize) -> Option<(Record, usize)> {
    let mut fields = Fields(segment.get(at..)?);
    if fields.array::<4>()? != RECORD_MAGIC {
        return None;
    }
    let length = fields.array::<4>()?;
    let crc_read = fields.array::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(length)).ok()?;
    if len > BODY_BYTES {
        return None;
    }
    let body = fields.take(len)?;
    if crc(log_id, length, body) != crc_read {
        return None;
    }
    let end = at + RECORD_HEADER_BYTES + len;
    let mut fields = Fields(body);
    let record = match fields.array::<1>()? {
        [LETTER] => Record::Letter(letter(segment, fields)?),
        [COMMIT] => Record::Commit(fields.u64()?),
        _ => return None,
    };
    Some((record, end))
}

fn letter(segment: &Bytes, mut fields: Fields<'_>) -> Option<DeadLetter> {
    let lsn = fields.u64()?;
    let received_ns = i64::from_le_bytes(fields.array()?);
    let [why, flags] = fields.array::<2>()?;
    let reading = fields.u32()?;
    let digest = u128::from_le_bytes(fields.array()?);
    let subject_bytes = fields.u64()?;
    let topic = fields.text()?;
    let station = fields.text()?;
    let detail = fields.text()?;
    let length = usize::try_from(fields.u32()?).ok()?;
    let payload = fields.take(length)?;
    let context = if flags & HAS_CONTEXT == 0 {
        Bytes::new()
    } else {
        let length = usize::try_from(fields.u32()?).ok()?;
        segment.slice_ref(fields.take(length)?)
    };
    Some(DeadLetter {
        lsn,
        received_ns,
        topic,
        station: (!station.is_empty()).then_some(station),
        why: Why::from_number(why)?,
        reading: (flags & HAS_READING != 0).then_some(reading),
        digest,
        subject_bytes,
        payload: segment.slice_ref(payload),
        truncated: flags & TRUNCATED != 0,
        detail,
        context,
    })
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        String::from_utf8(self.take(len)?.to_vec()).ok()
    }
}
