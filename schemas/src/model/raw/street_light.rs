//! A lamp controller that speaks SI as LwM2M 3416 does: light 0..1, ampere, kWh, tilt in radian,
//! coverage levels from 1 (LwM2M 4/0/13), Unix seconds.

use super::super::Converted;
use super::json::{Reader, Writer};
use crate::limits::LIST_ENTRIES;
use crate::reading::{Body, Common, StreetLight};
use crate::reject::RejectReason;
use crate::time::DeviceTime;

/// Radian in a degree.
const RADIAN: f64 = std::f64::consts::PI / 180.0;

pub(super) fn read(json: &Reader, mut common: Common) -> Result<Converted, RejectReason> {
    common.nrsrp_dbm = json.float("rsrp")?.or(common.nrsrp_dbm);
    common.sinr_db = json.float("sinr")?.or(common.sinr_db);
    common.ce_level = json.int("ceLevel")?.map(|v| v - 1).or(common.ce_level);
    common.cell_id = json.count("cellId")?.or(common.cell_id);
    // A whole number of thousandths of the unit.
    let milli = |key| Ok(json.float(key)?.map(|v| (v * 1000.0).round() as i64));
    let mut faults = json.list("faults", LIST_ENTRIES)?;
    faults.sort_unstable();
    faults.dedup();
    let body = Body::StreetLight(StreetLight {
        dim_command_pct: json.scaled("command", 0.01, 10.0)?,
        dim_pct: json.scaled("level", 0.01, 10.0)?,
        voltage_v: json.scaled("voltage", 1.0, 10.0)?,
        current_ma: milli("current")?,
        power_w: json.scaled("power", 1.0, 10.0)?,
        power_factor: json.scaled("cosPhi", 1.0, 1000.0)?,
        energy_wh: milli("energy")?,
        on_hours: json.count("hours")?,
        lux: json.float("lux")?,
        gear_temp_c: json.scaled("gearTemp", 1.0, 10.0)?,
        tilt_deg: json.scaled("tilt", RADIAN, 10.0)?,
        faults,
    });
    let mut converted = Converted::new(common, body);
    converted.measured = json.seconds_since("time", 0)?;
    converted.seq = json.count("seq")?.and_then(|seq| u64::try_from(seq).ok());
    Ok(converted)
}

pub(super) fn write(
    json: &mut Writer,
    common: &mut Common,
    body: &StreetLight,
    measured: Option<DeviceTime>,
) {
    json.put("rsrp", common.nrsrp_dbm.take());
    json.put("sinr", common.sinr_db.take());
    json.put("ceLevel", common.ce_level.take().map(|v| v.saturating_add(1)));
    json.put("cellId", common.cell_id.take());
    json.put("command", body.dim_command_pct.map(|v| v / 100.0));
    json.put("level", body.dim_pct.map(|v| v / 100.0));
    json.put("voltage", body.voltage_v);
    json.put("current", body.current_ma.map(|v| v as f64 / 1000.0));
    json.put("power", body.power_w);
    json.put("cosPhi", body.power_factor);
    json.put("energy", body.energy_wh.map(|v| v as f64 / 1000.0));
    json.put("hours", body.on_hours);
    json.put("lux", body.lux);
    json.put("gearTemp", body.gear_temp_c);
    json.put("tilt", body.tilt_deg.map(|v| v * RADIAN));
    json.list("faults", &body.faults);
    json.seconds_since("time", measured, 0);
}
