//! What a station sends: batches, what is meant by them, and how a reading is put on the wire.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use loushan_schemas::ids::Imei;
use loushan_schemas::model::Model;
use loushan_schemas::pb;
use loushan_schemas::reading::Reading;
use loushan_schemas::time::DeviceTime;
use loushan_schemas::topic::Channel;

/// When batches are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Readings after which a batch is full, 1 to 1000.
    pub(crate) readings: usize,
    /// Simulated milliseconds its first reading waits at most.
    pub(crate) linger_ms: i64,
}

/// What one reading of a batch should be stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meant {
    /// The device; 0 for the station's own figures.
    pub imei: u64,
    /// The device's reboots.
    pub boot_epoch: u32,
    /// The device's counter.
    pub seq: u64,
    /// Number of the kind.
    pub kind: u8,
    /// [`Reading::digest`] of the reading before it was encoded.
    pub digest: u64,
}

impl Meant {
    pub(super) fn of(reading: &Reading) -> Self {
        Self {
            imei: reading.imei.map_or(0, Imei::get),
            boot_epoch: reading.boot_epoch,
            seq: reading.seq,
            kind: reading.kind().number(),
            digest: reading.digest(),
        }
    }
}

/// One publish of a station.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// When it was cut, or is sent again: simulated.
    pub(crate) due: i64,
    pub(crate) channel: Channel,
    pub(crate) seq: u64,
    pub(crate) payload: Bytes,
    pub(crate) meant: Arc<[Meant]>,
    /// The same bytes were published before.
    pub(crate) again: bool,
    /// Its id in the ledger once it has one; shared by all that repeat it.
    pub(crate) ledger_id: Arc<OnceLock<u64>>,
}

/// A reading as its device and station put it on the wire, against a base time.
pub(super) fn encode(reading: &Reading, base_ms: i64) -> pb::Reading {
    let model = reading.common.model_id.and_then(|id| u32::try_from(id).ok()).map(Model::of);
    let model = model.unwrap_or(&Model::CANONICAL);
    let delta = |time: Option<DeviceTime>| time.map_or(0, |t| t.ms() - base_ms);
    pb::Reading {
        imei: reading.imei.map_or(0, Imei::get),
        // Devices count in 32 bits.
        seq: u32::try_from(reading.seq).unwrap_or(u32::MAX),
        measured_delta_ms: delta(reading.times.measured),
        heard_delta_ms: delta(reading.times.heard),
        boot_epoch: reading.boot_epoch,
        ..model.to_wire(&reading.common, &reading.body)
    }
}
