//! From what a device said to what can be compared, and how far it can be trusted.
//!
//! The order is fixed: identify → units and enums (by `model_id`) → time → ranges and contradictions
//! (`check`) → step, counters (`previous`). A fault in a *value* lowers the reading's quality and
//! is stored with it; a fault in the *structure* rejects the reading. A reading has one quality, that
//! of its worst value, and one reason, the first found of that quality.
//!
//! Everything is a pure function of its input. What was decided about a reading is its
//! [`Judgement`]; the log's frame keeps it. On replay [`apply`] converts the payload again and lays
//! the judgement over it: nothing is decided anew, so a later build's rules never change what an
//! earlier one acknowledged.

mod check;
mod previous;

use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;
use loushan_schemas::limits::{FUTURE_MS, PAST_LONG_MS, PAST_MS};
use loushan_schemas::model::Model;
use loushan_schemas::pb;
use loushan_schemas::quality::{Quality, QualityReason};
use loushan_schemas::reading::{Body, Common, Reading, TimeSource, Times};
use loushan_schemas::reject::RejectReason;
use loushan_schemas::station;
use loushan_schemas::time::{DeviceTime, ReceiveTime};
use loushan_schemas::topic::Channel;

use super::decode::DecodedBatch;

pub use previous::{Previous, check_against_previous, next_previous};

/// Version of the rules below. The frame carries it beside the verdict; it rises whenever the same
/// reading could be judged otherwise than before.
pub const NORMALIZER_VERSION: u32 = 1;

/// A batch's readings, each normalized or rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalized {
    /// By their position in the batch.
    pub readings: Vec<Result<Reading, RejectReason>>,
}

/// What was decided about one reading: everything in it that conversion alone does not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The time it is stored and sorted under.
    pub effective: DeviceTime,
    /// Which clock that is.
    pub source: TimeSource,
    /// How far it can be trusted.
    pub quality: Quality,
    /// Why not entirely.
    pub reason: Option<QualityReason>,
}

impl Judgement {
    /// The judgement a normalized reading carries.
    #[must_use]
    pub fn of(reading: &Reading) -> Self {
        Self {
            effective: reading.times.effective,
            source: reading.times.source,
            quality: reading.quality,
            reason: reading.reason,
        }
    }

    fn lay_over(self, reading: &mut Reading) {
        reading.times.effective = self.effective;
        reading.times.source = self.source;
        reading.quality = self.quality;
        reading.reason = self.reason;
    }
}

/// Normalizes a batch. What needs the device's earlier readings is left to
/// [`check_against_previous`], after dedup.
#[must_use]
pub fn normalize_batch(batch: DecodedBatch, channel: Channel, received: ReceiveTime) -> Normalized {
    let DecodedBatch { base_time_ms, replay, readings, .. } = batch;
    let kept_back = replay || channel == Channel::Replay;
    let normalize = |reading: pb::Reading| {
        let (mut reading, notes) = convert(base_time_ms, &reading, received)?;
        for note in notes {
            lower(&mut reading, Quality::Suspicious, note);
        }
        check::enums(&mut reading);
        let patient = kept_back
            || reading.kind() == Kind::Water
            || reading.common.trigger == Some(pb::Trigger::Replay as i32);
        choose_time(&mut reading, if patient { PAST_LONG_MS } else { PAST_MS });
        check::ranges(&mut reading);
        check::contradictions(&mut reading);
        Ok(reading)
    };
    Normalized { readings: readings.into_iter().map(|r| r.and_then(normalize)).collect() }
}

/// Normalizes a station's own figures. They have one clock, the station's, which counts as the
/// measured time.
///
/// # Errors
/// None yet; that a status can be rejected is part of the contract.
pub fn normalize_status(
    status: &pb::StationStatus,
    received: ReceiveTime,
) -> Result<Reading, RejectReason> {
    let mut reading = convert_status(status, received);
    choose_time(&mut reading, PAST_MS);
    check::ranges(&mut reading);
    Ok(reading)
}

/// The reading that was judged so: conversion without decisions.
///
/// # Errors
/// When this build cannot convert what an earlier one could.
pub fn apply(
    base_time_ms: u64,
    reading: &pb::Reading,
    received: ReceiveTime,
    judgement: Judgement,
) -> Result<Reading, RejectReason> {
    let (mut reading, _notes) = convert(base_time_ms, reading, received)?;
    judgement.lay_over(&mut reading);
    Ok(reading)
}

/// The station's figures that were judged so.
///
/// # Errors
/// As [`normalize_status`].
pub fn apply_status(
    status: &pb::StationStatus,
    received: ReceiveTime,
    judgement: Judgement,
) -> Result<Reading, RejectReason> {
    let mut reading = convert_status(status, received);
    judgement.lay_over(&mut reading);
    Ok(reading)
}

/// Identity, units and clocks of a reading, not yet judged, and what the model found strange.
fn convert(
    base_time_ms: u64,
    reading: &pb::Reading,
    received: ReceiveTime,
) -> Result<(Reading, Vec<QualityReason>), RejectReason> {
    let imei = Imei::new(reading.imei).map_err(|_| RejectReason::BadImei)?;
    let converted = Model::of(reading.model_id).from_wire(reading)?;
    let at = |delta_ms| DeviceTime::from_wire(base_time_ms, delta_ms);
    let measured = converted.measured.or_else(|| at(reading.measured_delta_ms));
    let reading = Reading {
        imei: Some(imei),
        boot_epoch: reading.boot_epoch,
        seq: converted.seq.unwrap_or(u64::from(reading.seq)),
        times: unjudged(measured, at(reading.heard_delta_ms), received),
        common: converted.common,
        body: converted.body,
        quality: Quality::Accepted,
        reason: None,
    };
    Ok((reading, converted.notes))
}

fn convert_status(status: &pb::StationStatus, received: ReceiveTime) -> Reading {
    Reading {
        imei: None,
        boot_epoch: 0,
        seq: status.seq,
        times: unjudged(DeviceTime::from_wire(status.time_ms, 0), None, received),
        common: Common::default(),
        body: Body::StationStatus(station::status_from_wire(status)),
        quality: Quality::Accepted,
        reason: None,
    }
}

/// Clocks under the receive time, which is what is left when none of the others will do.
fn unjudged(
    measured: Option<DeviceTime>,
    heard: Option<DeviceTime>,
    received: ReceiveTime,
) -> Times {
    // Our own clock outside 1970..9999 is no clock: the epoch is as good as any other time then.
    let effective = DeviceTime::from_ms(received.ms()).unwrap_or(DeviceTime::EPOCH);
    Times { measured, heard, received, effective, source: TimeSource::Received }
}

/// Takes the measured time if it lies in the window around the receive time, else the heard one by
/// the same test, else the receive time; the latter two make the reading suspicious.
fn choose_time(reading: &mut Reading, past_ms: i64) {
    let now = reading.times.received.ms();
    let fits = |time: &DeviceTime| {
        // Neither can overflow: device times end at the year 9999, receive times at 2262.
        (now - past_ms..=now + FUTURE_MS).contains(&time.ms())
    };
    if let Some(measured) = reading.times.measured.filter(fits) {
        reading.times.effective = measured;
        reading.times.source = TimeSource::Measured;
        return;
    }
    if let Some(heard) = reading.times.heard.filter(fits) {
        reading.times.effective = heard;
        reading.times.source = TimeSource::Heard;
    }
    lower(reading, Quality::Suspicious, QualityReason::ClockSkew);
}

/// Lowers a reading's quality; of equal ones the first keeps the reason.
fn lower(reading: &mut Reading, quality: Quality, reason: QualityReason) {
    if quality < reading.quality {
        reading.quality = quality;
        reading.reason = Some(reason);
    }
}

#[cfg(test)]
mod tests;
