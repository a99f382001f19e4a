//! A parking sensor: temperature in whole degrees plus 100, battery in hundredths of a volt,
//! received power without its sign, time in seconds since midnight of 2018-09-10 in China, −1 for
//! a counter it does not have.
//!
//! Some of its firmware puts received power under `ecl` and the coverage level's slot elsewhere, so
//! that both are wrong: `"ecl":-97,"rsrp":100`.

use super::super::Converted;
use super::json::{Reader, Writer};
use crate::quality::QualityReason;
use crate::reading::{Body, Common, Parking};
use crate::reject::RejectReason;
use crate::time::DeviceTime;

/// 2018-09-10 00:00 UTC+8 in Unix seconds.
const EPOCH_S: i64 = 1_536_508_800;

/// What no coverage level, but a received power could be.
fn looks_like_power(ce_level: i64) -> bool {
    (44..=156).contains(&ce_level.unsigned_abs())
}

pub(super) fn read(json: &Reader, mut common: Common) -> Result<Converted, RejectReason> {
    let rsrp = json.float("rsrp")?.map(|v| 0.0 - v.abs());
    let ce_level = json.int("ecl")?;
    common.nrsrp_dbm = rsrp.or(common.nrsrp_dbm);
    common.ce_level = ce_level.or(common.ce_level);
    common.sinr_db = json.float("snr")?.or(common.sinr_db);
    common.rssi_dbm = json.csq("csq")?.or(common.rssi_dbm);
    common.cell_id = json.count("cell")?.or(common.cell_id);
    common.battery_mv = json.int("devVolt")?.map(|v| v * 10).or(common.battery_mv);
    let body = Body::Parking(Parking {
        state: json.code("state")?,
        state_age_s: json.count("age")?,
        mag_x_raw: json.int("magX")?,
        mag_y_raw: json.int("magY")?,
        mag_z_raw: json.int("magZ")?,
        radar_cm: json.count("radar")?,
        change_count: json.count("changes")?,
        temp_c: json.float("devTemp")?.map(|v| v - 100.0),
        covered: json.flag("covered")?,
        tamper: json.flag("tamper")?,
        fault: json.flag("fault")?,
    });
    let mut converted = Converted::new(common, body);
    converted.measured = json.seconds_since("time", EPOCH_S)?;
    converted.seq = json.count("seq")?.and_then(|seq| u64::try_from(seq).ok());
    if rsrp.is_some() && ce_level.is_some_and(looks_like_power) {
        converted.notes.push(QualityReason::CrossField);
    }
    Ok(converted)
}

pub(super) fn write(
    json: &mut Writer,
    common: &mut Common,
    body: &Parking,
    measured: Option<DeviceTime>,
) {
    json.whole("rsrp", common.nrsrp_dbm.take().map(f64::abs));
    json.put("ecl", common.ce_level.take());
    json.whole("snr", common.sinr_db.take());
    json.csq("csq", common.rssi_dbm.take());
    json.put("cell", common.cell_id.take());
    json.whole("devVolt", common.battery_mv.take().map(|mv| mv as f64 / 10.0));
    json.code("state", body.state);
    json.put("age", body.state_age_s);
    json.put("magX", body.mag_x_raw);
    json.put("magY", body.mag_y_raw);
    json.put("magZ", body.mag_z_raw);
    json.put("radar", body.radar_cm);
    json.put("changes", Some(body.change_count.unwrap_or(-1)));
    json.whole("devTemp", body.temp_c.map(|v| v + 100.0));
    json.put("covered", body.covered.map(i32::from));
    json.put("tamper", body.tamper.map(i32::from));
    json.put("fault", body.fault.map(i32::from));
    json.seconds_since("time", measured, EPOCH_S);
}
