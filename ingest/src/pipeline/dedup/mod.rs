//! Whether a publish, or a reading, was taken before.
//!
//! Two memories, both bounded in bytes, both restored exactly after a restart:
//!
//! * `batches`: what a station published lately, by (session, seq) and the payload's digest. It
//!   answers a redelivered batch as a whole. It is a short cut: what it has forgotten is decided
//!   reading by reading, with the same result.
//! * `devices`: per device the keys of its last readings. It is exact together with the embedded
//!   store: a key may be forgotten only when the store's cursor has passed its lsn, and from then on
//!   the store is asked for every key that is not measured later than what was forgotten.
//!
//! An entry enters when its frame is appended, before the frame is durable. So a duplicate can be
//! seen before its original is safe; it is given the original's lsn, and its publish waits for that.
//! When a sync fails, `devices::Devices::roll_back` and `batches::Batches::roll_back` take out
//! what entered above the last durable lsn, and give each device back what it counted before: a
//! failed frame leaves no trace. (Only the marks of what was forgotten stay; they cost a question
//! to the store, never an answer.)

use std::io;

use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use loushan_schemas::time::DeviceTime;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) mod batches;
pub(crate) mod devices;

/// The identity by which a stored reading is known again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReadingKey {
    /// Whose it is.
    pub owner: Owner,
    /// The device's reboots; 0 for a station.
    pub boot_epoch: u32,
    /// The device's counter; for a station its status counter.
    pub seq: u64,
    /// What it is about.
    pub kind: Kind,
    /// By its sender's clock; `None` where that is no time at all.
    pub measured: Option<DeviceTime>,
}

/// Whose a reading is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A device's, whichever station sends it.
    Device(Imei),
    /// A station's own figures, counted from 0 in each session.
    Station {
        /// The station.
        station: StationId,
        /// Its session.
        session: u32,
    },
}

impl ReadingKey {
    /// The key of a row.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        let reading = &row.reading;
        Self {
            owner: match reading.imei {
                Some(imei) => Owner::Device(imei),
                None => Owner::Station { station: row.station.clone(), session: row.session },
            },
            boot_epoch: reading.boot_epoch,
            seq: reading.seq,
            kind: reading.kind(),
            measured: reading.times.measured,
        }
    }
}

/// What the embedded store knows of the readings that this memory has forgotten.
pub trait StoredKeys: Send + Sync + 'static {
    /// Whether a reading with this key is stored. Only asked for keys whose frames, if there are
    /// any, lie at or below [`StoredKeys::cursor`]. May read the disk.
    ///
    /// # Errors
    /// When the store cannot tell: the publish is then not acknowledged.
    fn contains(&self, key: &ReadingKey) -> io::Result<bool>;

    /// Everything up to this lsn is durably stored, and found by [`StoredKeys::contains`]. Never
    /// goes back.
    fn cursor(&self) -> u64;
}

/// A reading's place in the memory: whose it is, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// The device's IMEI, or a hash of the station's name with the highest bit set, which no IMEI
    /// has.
    pub(crate) device: u64,
    /// Hash of the whole identity.
    pub(crate) hash: u64,
    /// The time by the sender's clock in Unix ms; [`NO_TIME`] where there is none.
    pub(crate) measured: i64,
}

/// Stands before every time, and after [`devices::NOTHING`].
pub(crate) const NO_TIME: i64 = -1;

impl Key {
    pub(crate) fn of(row: &Row) -> Self {
        let reading = &row.reading;
        let measured = reading.times.measured.map_or(NO_TIME, DeviceTime::ms);
        let hash = reading.key_hash();
        match reading.imei {
            Some(imei) => Self { device: imei.get(), hash, measured },
            None => {
                let station = xxh3_64(row.station.as_str().as_bytes());
                let mut whole = [0_u8; 20];
                whole[..8].copy_from_slice(&hash.to_le_bytes());
                whole[8..16].copy_from_slice(&station.to_le_bytes());
                whole[16..].copy_from_slice(&row.session.to_le_bytes());
                Self { device: station | 1 << 63, hash: xxh3_64(&whole), measured }
            }
        }
    }
}
