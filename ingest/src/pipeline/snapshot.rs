//! The snapshot's bytes: the pipeline's state and the registry after one durable frame.
//!
//! A file, replaced whole: `LoushSNP`, the records of `proto/loushan/log/v1/snapshot.proto`, and the
//! xxh3-128 of both. A file that does not pass is ignored, loudly: what a start without it costs is
//! said in [`super::open`].

use std::io;
use std::path::Path;

use bytes::Buf;
use loushan_schemas::ids::StationId;
use loushan_schemas::reject::RejectReason;
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_128;

use super::decide::State;
use super::dedup::batches::{Answer, BatchId, Seen, Stream};
use super::dedup::devices::Entry;
use super::normalize::Previous;
use super::verdict::pb::{self, record::Record as Part};
use crate::io::{Io, read_all};
use crate::registry::Registry;
use crate::wal::LogId;

/// The file's name in the data folder.
pub(super) const FILE: &str = "pipeline.snapshot";
const MAGIC: &[u8; 8] = b"LoushSNP";
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = 16;

/// A snapshot that was read whole.
#[derive(Debug)]
pub(super) struct Snapshot {
    lsn: u64,
    log_id: Vec<u8>,
    parts: Vec<Part>,
}

/// Why a file is no snapshot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unusable {
    #[error("it is no snapshot")]
    Magic,
    #[error("its checksum does not match")]
    Checksum,
    #[error("a record is unreadable: {0}")]
    Record(String),
    #[error("its version is {0}, and this build reads {VERSION}")]
    Version(u32),
    #[error("it has no {0}")]
    Missing(&'static str),
}

/// The snapshot's bytes.
pub(super) fn encode(lsn: u64, log_id: LogId, state: &State, registry: &Registry) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let mut put = |part: Part| {
        let record = pb::Record { record: Some(part) };
        // A Vec grows; encoding into it cannot fail.
        let encoded = record.encode_length_delimited(&mut out);
        debug_assert!(encoded.is_ok());
    };
    put(Part::Head(pb::Head { version: VERSION, lsn, log_id: log_id.to_bytes().to_vec() }));
    put(Part::Marks(pb::Marks { mark: state.devices.buckets().to_vec() }));
    for device in state.devices.iter() {
        put(Part::Device(pb::Device {
            id: device.id,
            mark: device.mark,
            hash: device.entries.iter().map(|e| e.hash).collect(),
            measured: device.entries.iter().map(|e| e.measured).collect(),
            lsn: device.entries.iter().map(|e| e.lsn).collect(),
            previous: device.previous.map(|p| p.to_bytes().to_vec()).unwrap_or_default(),
        }));
    }
    for (station, stream, session, seen) in state.batches.iter() {
        let station = station.as_str().to_owned();
        let seen = seen.map(seen_to_pb).collect();
        put(Part::Session(pb::Session { station, stream: stream as u32, session, seen }));
    }
    registry.export(|station| put(Part::Station(station)));
    registry.export_latest(|row| put(Part::Latest(row)));
    put(Part::End(true));
    let digest = xxh3_128(&out);
    out.extend_from_slice(&digest.to_le_bytes());
    out
}

/// Reads the snapshot, if there is a usable one.
///
/// # Errors
/// When the file system cannot say. A file that is no snapshot is none.
pub(super) fn read(io: &dyn Io, path: &Path) -> io::Result<Option<Snapshot>> {
    if !io.exists(path)? {
        return Ok(None);
    }
    match decode(&read_all(io, path)?) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(why) => {
            tracing::error!(path = %path.display(), %why, "the snapshot of the pipeline's state is ignored");
            Ok(None)
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Snapshot, Unusable> {
    let (body, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or(Unusable::Magic)?;
    let mut records = body.strip_prefix(MAGIC).ok_or(Unusable::Magic)?;
    if xxh3_128(body).to_le_bytes() != *digest {
        return Err(Unusable::Checksum);
    }
    let mut parts = Vec::new();
    while records.has_remaining() {
        let record = pb::Record::decode_length_delimited(&mut records);
        let record = record.map_err(|e| Unusable::Record(e.to_string()))?;
        // One that this build does not know is of a later minor build, and not needed by this one.
        parts.extend(record.record);
    }
    let Some(Part::End(_)) = parts.pop() else { return Err(Unusable::Missing("end")) };
    let head = parts.iter().find_map(|part| match part {
        Part::Head(head) => Some(head.clone()),
        _ => None,
    });
    let head = head.ok_or(Unusable::Missing("head"))?;
    if head.version != VERSION {
        return Err(Unusable::Version(head.version));
    }
    Ok(Snapshot { lsn: head.lsn, log_id: head.log_id, parts })
}

impl Snapshot {
    /// The state is that after this frame.
    pub(super) fn lsn(&self) -> u64 {
        self.lsn
    }

    /// Whether it can be gone on from with that log, which has every durable frame above
    /// `begins_after`.
    pub(super) fn fits(&self, log_id: LogId, begins_after: u64) -> bool {
        let same = self.log_id == log_id.to_bytes();
        let reaches = begins_after <= self.lsn;
        if !(same && reaches) {
            tracing::error!(
                lsn = self.lsn,
                begins_after,
                same_log = same,
                "the snapshot of the pipeline's state does not go with the log, and is ignored"
            );
        }
        same && reaches
    }

    /// Puts everything back.
    pub(super) fn restore(self, state: &mut State, registry: &Registry) {
        for part in self.parts {
            match part {
                Part::Head(_) | Part::End(_) => {}
                Part::Marks(marks) => {
                    if !state.devices.restore_buckets(&marks.mark) {
                        // Another build's number of buckets: the greatest mark holds for all.
                        let greatest = marks.mark.iter().copied().max();
                        state.devices.restore_all_buckets(greatest);
                    }
                }
                Part::Device(device) => {
                    let entries = device.hash.iter().zip(&device.measured).zip(&device.lsn);
                    let entries = entries
                        .map(|((hash, measured), lsn)| Entry {
                            hash: *hash,
                            measured: *measured,
                            lsn: *lsn,
                        })
                        .collect();
                    let previous = device.previous.as_slice().try_into().ok();
                    let previous = previous.and_then(Previous::from_bytes);
                    state.devices.restore(device.id, device.mark, entries, previous);
                }
                Part::Session(session) => restore_session(state, &session),
                Part::Station(station) => registry.restore(station),
                Part::Latest(row) => registry.restore_latest(&row),
            }
        }
    }
}

fn seen_to_pb(seen: &Seen) -> pb::Seen {
    let Seen { seq, digest, lsn, answer } = seen;
    let (high, low) = ((digest >> 64), digest & u128::from(u64::MAX));
    pb::Seen {
        seq: *seq,
        digest_high: u64::try_from(high).unwrap_or(0),
        digest_low: u64::try_from(low).unwrap_or(0),
        lsn: *lsn,
        readings: answer.readings,
        rejected: answer.rejected,
        reason: answer.reason.map_or(0, |reason| u32::from(reason.number())),
        nothing_accepted: answer.nothing_accepted,
    }
}

/// A session whose name or stream this build does not know is left out: its batches are then
/// decided reading by reading.
fn restore_session(state: &mut State, session: &pb::Session) {
    let Ok(station) = StationId::new(&session.station) else { return };
    let Some(stream) = Stream::from_number(session.stream) else { return };
    let mut id = BatchId { station, stream, session: session.session, seq: 0 };
    for seen in &session.seen {
        id.seq = seen.seq;
        let reason = u8::try_from(seen.reason).ok().and_then(RejectReason::from_number);
        let answer = Answer {
            readings: seen.readings,
            rejected: seen.rejected,
            reason,
            nothing_accepted: seen.nothing_accepted,
        };
        let digest = u128::from(seen.digest_high) << 64 | u128::from(seen.digest_low);
        state.batches.note(&id, Seen { seq: seen.seq, digest, lsn: seen.lsn, answer });
    }
}

#[cfg(test)]
mod tests;
