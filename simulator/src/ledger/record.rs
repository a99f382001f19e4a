//! The ledger's records and their bytes.

use std::sync::Arc;

use loushan_schemas::reject::RejectReason;
use loushan_schemas::topic::Channel;

use super::Meant;
use crate::code::{Bytes, put, put_difference};

const RUN: u8 = 1;
const BATCH: u8 = 2;
const ACKNOWLEDGED: u8 = 3;
const REFUSED: u8 = 4;
const SENT_AGAIN: u8 = 5;
const STATION: u8 = 6;
const FAULT: u8 = 7;

// A reading's first byte: its kind in the low four bits, and which parts follow.
const KIND: u8 = 0x0f;
const EXPECTED: u8 = 0x10;
const MARKED: u8 = 0x20;
const MEASURED: u8 = 0x40;
/// The boot epoch is that of the reading before.
const SAME_BOOT: u8 = 0x80;

/// In a batch's channel: nobody acknowledges it.
const UNPROMISED: u8 = 0x80;

/// Names of faults that one ledger can hold: the bits of [`Marks`].
pub(super) const MARKS: usize = 64;

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A run begins.
    Run(RunRecord),
    /// A batch is about to be sent for the first time.
    Batch(BatchRecord),
    /// A batch was acknowledged.
    Acknowledged {
        /// The batch.
        id: u64,
        /// When: Unix ms.
        at_ms: i64,
        /// With a reason code of 0x80 or above.
        refused: bool,
    },
    /// A batch is about to be sent once more.
    SentAgain {
        /// The batch.
        id: u64,
    },
}

/// What a run was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunRecord {
    /// Its seed.
    pub seed: u64,
    /// Its start in simulated time: Unix ms.
    pub start_ms: i64,
    /// Digest of every other option that the bytes depend on.
    pub shape: u64,
}

/// A batch and what is meant by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// Its ordinal in the file; the ledger gives it.
    pub id: u64,
    /// The station.
    pub station: Arc<str>,
    /// The station's session.
    pub session: u32,
    /// The batch within the session (for a status: the status).
    pub seq: u64,
    /// Where it is published.
    pub channel: Channel,
    /// xxh3-128 of the payload.
    pub payload_digest: u128,
    /// Whether the server is to acknowledge it: not at QoS 0, at which it may be lost.
    pub promised: bool,
    /// When it was cut, in simulated Unix ms.
    pub due_ms: i64,
    /// When it was first handed to the connection, in Unix ms by the wall clock.
    pub sent_ms: i64,
    /// The readings, in the payload's order.
    pub readings: Vec<LedgerReading>,
}

/// One reading of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerReading {
    /// What it should be stored as.
    pub meant: Meant,
    /// The reject it is made for, if it is: then it must turn up in the dead letters.
    pub expected: Option<RejectReason>,
    /// The faults that were done to it or to its batch.
    pub marks: Marks,
}

impl From<Meant> for LedgerReading {
    /// A reading with which nothing is wrong.
    fn from(meant: Meant) -> Self {
        Self { meant, expected: None, marks: Marks::default() }
    }
}

/// A set of faults, by their numbers in one ledger: see [`super::Ledger::marks`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks(pub(crate) u64);

impl Marks {
    /// The faults of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Numbers of its faults.
    pub(crate) fn numbers(self) -> impl Iterator<Item = usize> {
        (0..MARKS).filter(move |number| self.0 >> number & 1 == 1)
    }
}

/// What is known by number in a ledger.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) stations: Vec<Arc<str>>,
    pub(super) faults: Vec<Arc<str>>,
}

/// What a block's numbers are reckoned from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Base {
    pub(super) ms: i64,
    /// The id of the block's first batch.
    pub(super) id: u64,
}

impl Base {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        put_difference(out, self.ms, 0);
        put(out, self.id);
    }

    pub(super) fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self { ms: bytes.difference(0)?, id: bytes.number()? })
    }
}

pub(super) fn encode_run(run: &RunRecord, out: &mut Vec<u8>) {
    out.push(RUN);
    out.extend_from_slice(&run.seed.to_le_bytes());
    out.extend_from_slice(&run.start_ms.to_le_bytes());
    out.extend_from_slice(&run.shape.to_le_bytes());
}

pub(super) fn encode_acknowledged(
    base: Base,
    id: u64,
    at_ms: i64,
    refused: bool,
    out: &mut Vec<u8>,
) {
    out.push(if refused { REFUSED } else { ACKNOWLEDGED });
    put_difference(out, id.cast_signed(), base.id.cast_signed());
    put_difference(out, at_ms, base.ms);
}

pub(super) fn encode_sent_again(base: Base, id: u64, out: &mut Vec<u8>) {
    out.push(SENT_AGAIN);
    put_difference(out, id.cast_signed(), base.id.cast_signed());
}

pub(super) fn encode_station(name: &str, out: &mut Vec<u8>) {
    encode_name(STATION, name, out);
}

pub(super) fn encode_fault(name: &str, out: &mut Vec<u8>) {
    encode_name(FAULT, name, out);
}

/// Names of stations have at most 32 bytes and those of faults are our own words: what would not
/// fit is not written, and a number for it never given.
fn encode_name(what: u8, name: &str, out: &mut Vec<u8>) {
    let Ok(length) = u8::try_from(name.len()) else { return };
    out.push(what);
    out.push(length);
    out.extend_from_slice(name.as_bytes());
}

/// Of the batch's station only the number is written.
pub(super) fn encode_batch(base: Base, station: u64, batch: &BatchRecord, out: &mut Vec<u8>) {
    out.push(BATCH);
    put(out, station);
    out.extend_from_slice(&batch.session.to_le_bytes());
    put(out, batch.seq);
    out.push(channel_number(batch.channel) | if batch.promised { 0 } else { UNPROMISED });
    out.extend_from_slice(&batch.payload_digest.to_le_bytes());
    put_difference(out, batch.due_ms, base.ms);
    put_difference(out, batch.sent_ms, base.ms);
    put(out, batch.readings.len() as u64);
    let (mut imei, mut boot_epoch, mut seq) = (0, 0, 0);
    for LedgerReading { meant, expected, marks } in &batch.readings {
        let mut head = meant.kind & KIND;
        let same_boot = meant.boot_epoch == boot_epoch;
        for (is, bit) in [
            (expected.is_some(), EXPECTED),
            (marks.0 != 0, MARKED),
            (meant.measured_ms.is_some(), MEASURED),
            (same_boot, SAME_BOOT),
        ] {
            head |= if is { bit } else { 0 };
        }
        out.push(head);
        put_difference(out, meant.imei.cast_signed(), imei);
        if !same_boot {
            put(out, meant.boot_epoch.into());
        }
        put_difference(out, meant.seq.cast_signed(), seq);
        if let Some(measured_ms) = meant.measured_ms {
            put_difference(out, measured_ms, batch.due_ms);
        }
        out.extend_from_slice(&meant.digest.to_le_bytes());
        if let Some(reason) = expected {
            out.push(reason.number());
        }
        if marks.0 != 0 {
            put(out, marks.0);
        }
        (imei, boot_epoch, seq) =
            (meant.imei.cast_signed(), meant.boot_epoch, meant.seq.cast_signed());
    }
}

/// The next record of a block whose checksum was right; none at its end, and no answer for what this
/// build does not know. Names go into `names`, and what is given out is what comes behind them.
pub(super) fn decode(
    base: Base,
    next_id: &mut u64,
    names: &mut Names,
    rest: &mut Bytes<'_>,
) -> Option<Option<Record>> {
    while !rest.0.is_empty() {
        let id_of =
            |rest: &mut Bytes<'_>| rest.difference(base.id.cast_signed()).map(i64::cast_unsigned);
        let record = match rest.u8()? {
            STATION => {
                names.stations.push(rest.text()?.into());
                continue;
            }
            FAULT => {
                names.faults.push(rest.text()?.into());
                continue;
            }
            RUN => Record::Run(RunRecord {
                seed: u64::from_le_bytes(rest.array()?),
                start_ms: i64::from_le_bytes(rest.array()?),
                shape: u64::from_le_bytes(rest.array()?),
            }),
            BATCH => {
                let batch = decode_batch(base, *next_id, names, rest)?;
                *next_id += 1;
                Record::Batch(batch)
            }
            what @ (ACKNOWLEDGED | REFUSED) => Record::Acknowledged {
                id: id_of(rest)?,
                at_ms: rest.difference(base.ms)?,
                refused: what == REFUSED,
            },
            SENT_AGAIN => Record::SentAgain { id: id_of(rest)? },
            _ => return None,
        };
        return Some(Some(record));
    }
    Some(None)
}

fn decode_batch(base: Base, id: u64, names: &Names, rest: &mut Bytes<'_>) -> Option<BatchRecord> {
    let station = names.stations.get(usize::try_from(rest.number()?).ok()?)?;
    let station = Arc::clone(station);
    let session = u32::from_le_bytes(rest.array()?);
    let seq = rest.number()?;
    let channel = rest.u8()?;
    let (promised, channel) = (channel & UNPROMISED == 0, channel_of(channel & !UNPROMISED)?);
    let payload_digest = u128::from_le_bytes(rest.array()?);
    let due_ms = rest.difference(base.ms)?;
    let sent_ms = rest.difference(base.ms)?;
    let count = usize::try_from(rest.number()?).ok()?;
    // Each takes eleven bytes at least: a count beyond the bytes reserves nothing.
    let mut readings = Vec::with_capacity(count.min(rest.0.len() / 11));
    let (mut imei, mut boot_epoch, mut device_seq) = (0, 0, 0);
    for _ in 0..count {
        let head = rest.u8()?;
        imei = rest.difference(imei)?;
        if head & SAME_BOOT == 0 {
            boot_epoch = rest.number32()?;
        }
        device_seq = rest.difference(device_seq)?;
        let measured_ms = if head & MEASURED == 0 { None } else { Some(rest.difference(due_ms)?) };
        let digest = u64::from_le_bytes(rest.array()?);
        let expected = match head & EXPECTED {
            0 => None,
            _ => Some(RejectReason::from_number(rest.u8()?)?),
        };
        let marks = Marks(if head & MARKED == 0 { 0 } else { rest.number()? });
        let meant = Meant {
            imei: imei.cast_unsigned(),
            boot_epoch,
            seq: device_seq.cast_unsigned(),
            kind: head & KIND,
            measured_ms,
            digest,
        };
        readings.push(LedgerReading { meant, expected, marks });
    }
    Some(BatchRecord {
        id,
        station,
        session,
        seq,
        channel,
        payload_digest,
        promised,
        due_ms,
        sent_ms,
        readings,
    })
}

const fn channel_number(channel: Channel) -> u8 {
    match channel {
        Channel::Telemetry => 1,
        Channel::Alarm => 2,
        Channel::Replay => 3,
        Channel::Status => 4,
        Channel::CommandResult => 5,
        Channel::State => 6,
        Channel::Command => 7,
    }
}

fn channel_of(number: u8) -> Option<Channel> {
    Channel::ALL.into_iter().find(|channel| channel_number(*channel) == number)
}
