//! What a station sends: batches, what is meant by them, and how a reading is put on the wire.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use loushan_schemas::ids::Imei;
use loushan_schemas::limits::SCHEMA_MAJOR;
use loushan_schemas::model::Model;
use loushan_schemas::pb;
use loushan_schemas::reading::{Body, Reading};
use loushan_schemas::reject::RejectReason;
use loushan_schemas::station::status_to_wire;
use loushan_schemas::time::DeviceTime;
use loushan_schemas::topic::Channel;
use prost::Message as _;

use super::Station;
use crate::fault::FaultCounts;
use crate::options::Qos;

/// When batches are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Readings after which a batch is full, 1 to 1000.
    pub(crate) readings: usize,
    /// Simulated milliseconds its first reading waits at most.
    pub(crate) linger_ms: i64,
}

/// The readings of a batch that was cut, before they are put on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Gathered {
    /// When it was cut: simulated.
    pub(crate) due: i64,
    pub(crate) channel: Channel,
    pub(crate) seq: u64,
    /// The station's own figures are one reading.
    pub(crate) readings: Vec<Reading>,
    /// Done to these readings.
    pub(crate) faults: FaultCounts,
}

impl Gathered {
    /// The batch as its station sends it.
    pub(super) fn encode(self, station: &Station) -> Batch {
        let Self { due, channel, seq, readings, faults } = self;
        let payload = match readings.as_slice() {
            [Reading { body: Body::StationStatus(figures), .. }] => pb::StationStatus {
                session: station.session,
                seq,
                time_ms: due.unsigned_abs(),
                ..status_to_wire(figures)
            }
            .encode_to_vec(),
            readings => pb::UplinkBatch {
                schema_major: SCHEMA_MAJOR,
                station: station.plan.station.as_str().to_owned(),
                session: station.session,
                seq,
                base_time_ms: due.unsigned_abs(),
                replay: channel == Channel::Replay,
                readings: readings.iter().map(|reading| encode(reading, due)).collect(),
            }
            .encode_to_vec(),
        };
        Batch {
            due,
            channel,
            seq,
            session: station.session,
            base_ms: due,
            topic: None,
            qos: None,
            retain: false,
            entered: true,
            beside: None,
            payload: payload.into(),
            meant: readings.iter().map(Meant::of).collect(),
            again: false,
            faults,
            ledger_id: Arc::default(),
        }
    }
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
    /// The device's own time, in Unix ms, where it gave one.
    pub measured_ms: Option<i64>,
    /// [`Reading::digest`] of the reading before it was encoded.
    pub digest: u64,
}

impl Meant {
    pub(crate) fn of(reading: &Reading) -> Self {
        Self {
            imei: reading.imei.map_or(0, Imei::get),
            boot_epoch: reading.boot_epoch,
            seq: reading.seq,
            kind: reading.kind().number(),
            measured_ms: reading.times.measured.map(DeviceTime::ms),
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
    pub(crate) session: u32,
    pub(crate) seq: u64,
    /// What the readings' times are reckoned from, by the station's clock.
    pub(crate) base_ms: i64,
    /// Where it is published; by default its station's topic of the channel.
    pub(crate) topic: Option<Bytes>,
    /// By default that of the run.
    pub(crate) qos: Option<Qos>,
    pub(crate) retain: bool,
    /// It goes into the ledger.
    pub(crate) entered: bool,
    /// It may lie in the dead letters although it is stored.
    pub(crate) beside: Option<RejectReason>,
    pub(crate) payload: Bytes,
    pub(crate) meant: Arc<[Meant]>,
    /// The same bytes were published before.
    pub(crate) again: bool,
    /// Done on purpose by this publish.
    pub(crate) faults: FaultCounts,
    /// Its id in the ledger once it has one; shared by all that repeat it.
    pub(crate) ledger_id: Arc<OnceLock<u64>>,
}

/// A reading as its device and station put it on the wire, against a base time.
fn encode(reading: &Reading, base_ms: i64) -> pb::Reading {
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
