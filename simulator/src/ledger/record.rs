//! The ledger's records and their bytes.

use loushan_schemas::reject::RejectReason;
use loushan_schemas::topic::Channel;
use xxhash_rust::xxh3::xxh3_64;

use super::Meant;

const RUN: u8 = 1;
const BATCH: u8 = 2;
const ACKNOWLEDGED: u8 = 3;
const SENT_AGAIN: u8 = 4;

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
    /// Its ordinal in the file.
    pub id: u64,
    /// The station.
    pub station: String,
    /// The station's session.
    pub session: u32,
    /// The batch within the session (for a status: the status).
    pub seq: u64,
    /// Where it is published.
    pub channel: Channel,
    /// xxh3-128 of the payload.
    pub payload_digest: u128,
    /// The readings, in the payload's order, each with the reject it is made for, if it is.
    pub readings: Vec<(Meant, Option<RejectReason>)>,
}

impl Record {
    /// Appends length, checksum and body.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut b = Vec::with_capacity(64);
        match self {
            Self::Run(run) => {
                b.push(RUN);
                b.extend_from_slice(&run.seed.to_le_bytes());
                b.extend_from_slice(&run.start_ms.to_le_bytes());
                b.extend_from_slice(&run.shape.to_le_bytes());
            }
            Self::Batch(batch) => {
                b.push(BATCH);
                b.extend_from_slice(&batch.id.to_le_bytes());
                // Station names have at most 32 bytes, batches at most 1,000 readings.
                b.push(u8::try_from(batch.station.len()).unwrap_or(u8::MAX));
                b.extend(batch.station.bytes().take(usize::from(u8::MAX)));
                b.extend_from_slice(&batch.session.to_le_bytes());
                b.extend_from_slice(&batch.seq.to_le_bytes());
                b.push(channel_number(batch.channel));
                b.extend_from_slice(&batch.payload_digest.to_le_bytes());
                let count = u32::try_from(batch.readings.len()).unwrap_or(u32::MAX);
                b.extend_from_slice(&count.to_le_bytes());
                for (meant, reject) in &batch.readings {
                    b.extend_from_slice(&meant.imei.to_le_bytes());
                    b.extend_from_slice(&meant.boot_epoch.to_le_bytes());
                    b.extend_from_slice(&meant.seq.to_le_bytes());
                    b.push(meant.kind);
                    b.extend_from_slice(&meant.digest.to_le_bytes());
                    b.push(reject.map_or(0, RejectReason::number));
                }
            }
            Self::Acknowledged { id, at_ms, refused } => {
                b.push(ACKNOWLEDGED);
                b.extend_from_slice(&id.to_le_bytes());
                b.extend_from_slice(&at_ms.to_le_bytes());
                b.push(u8::from(*refused));
            }
            Self::SentAgain { id } => {
                b.push(SENT_AGAIN);
                b.extend_from_slice(&id.to_le_bytes());
            }
        }
        out.extend_from_slice(&u32::try_from(b.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&xxh3_64(&b).to_le_bytes());
        out.extend_from_slice(&b);
    }

    /// The record of a body whose checksum was right; `None` for what this build does not know.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut rest = Bytes(body);
        let record = match rest.u8()? {
            RUN => Self::Run(RunRecord {
                seed: rest.u64()?,
                start_ms: rest.i64()?,
                shape: rest.u64()?,
            }),
            BATCH => {
                let id = rest.u64()?;
                let length = usize::from(rest.u8()?);
                let station = String::from_utf8(rest.take(length)?.to_vec()).ok()?;
                let (session, seq) = (rest.u32()?, rest.u64()?);
                let channel = channel_of(rest.u8()?)?;
                let payload_digest = u128::from_le_bytes(rest.array()?);
                let readings = (0..rest.u32()?)
                    .map(|_| {
                        let meant = Meant {
                            imei: rest.u64()?,
                            boot_epoch: rest.u32()?,
                            seq: rest.u64()?,
                            kind: rest.u8()?,
                            digest: rest.u64()?,
                        };
                        let reject = match rest.u8()? {
                            0 => None,
                            number => Some(RejectReason::from_number(number)?),
                        };
                        Some((meant, reject))
                    })
                    .collect::<Option<Vec<_>>>()?;
                Self::Batch(BatchRecord {
                    id,
                    station,
                    session,
                    seq,
                    channel,
                    payload_digest,
                    readings,
                })
            }
            ACKNOWLEDGED => {
                Self::Acknowledged { id: rest.u64()?, at_ms: rest.i64()?, refused: rest.u8()? != 0 }
            }
            SENT_AGAIN => Self::SentAgain { id: rest.u64()? },
            _ => return None,
        };
        rest.0.is_empty().then_some(record)
    }
}

fn channel_number(channel: Channel) -> u8 {
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

/// Takes fixed pieces off the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    fn u8(&mut self) -> Option<u8> {
        Some(u8::from_le_bytes(self.array()?))
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }
    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.array()?))
    }
}
