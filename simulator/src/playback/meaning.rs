//! What a payload of a trace means: the readings that a service should store.

use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::limits::{PAYLOAD_BYTES, READINGS_PER_BATCH, SCHEMA_MAJOR};
use loushan_schemas::model::Model;
use loushan_schemas::pb;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Common, Reading, TimeSource, Times};
use loushan_schemas::reject::RejectReason;
use loushan_schemas::station::status_from_wire;
use loushan_schemas::time::{DeviceTime, ReceiveTime};
use loushan_schemas::topic::Channel;
use prost::Message as _;

use crate::station::Meant;

/// What a batch means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) session: u32,
    pub(super) seq: u64,
    /// The station's time.
    pub(super) base_ms: Option<i64>,
    pub(super) meant: Vec<Meant>,
    /// It may lie in the dead letters besides.
    pub(super) beside: Option<RejectReason>,
}

/// The meaning of a station's payload; `None` if it is no batch of that station.
pub(super) fn of(channel: Channel, station: &StationId, payload: &[u8]) -> Option<Meaning> {
    if payload.len() > PAYLOAD_BYTES {
        return None;
    }
    match channel {
        Channel::Telemetry | Channel::Alarm | Channel::Replay => batch(station, payload),
        Channel::Status => status(payload),
        Channel::CommandResult | Channel::State | Channel::Command => None,
    }
}

fn batch(station: &StationId, payload: &[u8]) -> Option<Meaning> {
    let batch = pb::UplinkBatch::decode(payload).ok()?;
    if batch.schema_major != SCHEMA_MAJOR
        || batch.station != station.as_str()
        || batch.readings.len() > READINGS_PER_BATCH
    {
        return None;
    }
    // Fields that are not known here do not come out again.
    let beside = (batch.encoded_len() != payload.len()).then_some(RejectReason::UnknownFields);
    let readings = batch.readings.iter().filter_map(|reading| read(batch.base_time_ms, reading));
    Some(Meaning {
        session: batch.session,
        seq: batch.seq,
        base_ms: i64::try_from(batch.base_time_ms).ok(),
        meant: readings.map(|reading| Meant::of(&reading)).collect(),
        beside,
    })
}

/// A reading as it should be stored; none of one that has to be rejected.
fn read(base_time_ms: u64, reading: &pb::Reading) -> Option<Reading> {
    let imei = Imei::new(reading.imei).ok()?;
    let converted = Model::of(reading.model_id).from_wire(reading).ok()?;
    let at = |delta_ms| DeviceTime::from_wire(base_time_ms, delta_ms);
    Some(Reading {
        imei: Some(imei),
        boot_epoch: reading.boot_epoch,
        seq: converted.seq.unwrap_or(u64::from(reading.seq)),
        times: said(
            converted.measured.or_else(|| at(reading.measured_delta_ms)),
            at(reading.heard_delta_ms),
        ),
        common: converted.common,
        body: converted.body,
        quality: Quality::Accepted,
        reason: None,
    })
}

fn status(payload: &[u8]) -> Option<Meaning> {
    let status = pb::StationStatus::decode(payload).ok()?;
    let beside = (status.encoded_len() != payload.len()).then_some(RejectReason::UnknownFields);
    let reading = Reading {
        imei: None,
        boot_epoch: 0,
        seq: status.seq,
        times: said(DeviceTime::from_wire(status.time_ms, 0), None),
        common: Common::default(),
        body: Body::StationStatus(status_from_wire(&status)),
        quality: Quality::Accepted,
        reason: None,
    };
    Some(Meaning {
        session: status.session,
        seq: status.seq,
        base_ms: i64::try_from(status.time_ms).ok(),
        meant: vec![Meant::of(&reading)],
        beside,
    })
}

/// The clocks that a digest is made of; when it was received is not among them.
fn said(measured: Option<DeviceTime>, heard: Option<DeviceTime>) -> Times {
    let received = ReceiveTime::from_ns(0);
    Times { measured, heard, received, effective: DeviceTime::EPOCH, source: TimeSource::Received }
}
