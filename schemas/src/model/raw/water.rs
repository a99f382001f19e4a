//! A water meter that speaks SI as LwM2M 3424 does: m³ and m³/s, coverage levels from 1 (LwM2M
//! 4/0/13), and time as CJ/T 188 writes it, China's local time in fourteen digits.

use super::super::Converted;
use super::json::{Reader, Writer};
use crate::limits::{HISTORY_DELTAS, LIST_ENTRIES};
use crate::quality::QualityReason;
use crate::reading::{Body, Common, Water};
use crate::reject::RejectReason;
use crate::time::DeviceTime;

const TIME_FORMAT: &str = "%Y%m%d%H%M%S";
/// m³/s in a L/h.
const LITRE_PER_HOUR: f64 = 1.0 / 3_600_000.0;

pub(super) fn read(json: &Reader, mut common: Common) -> Result<Converted, RejectReason> {
    common.nrsrp_dbm = json.float("rsrp")?.or(common.nrsrp_dbm);
    common.ce_level = json.int("ceLevel")?.map(|v| v - 1).or(common.ce_level);
    common.battery_mv = json.int("batteryMv")?.or(common.battery_mv);
    let litres = |key| Ok(json.float(key)?.map(|v| (v * 1000.0).round() as i64));
    let mut alarms = json.list("alarms", LIST_ENTRIES)?;
    alarms.sort_unstable();
    alarms.dedup();
    let body = Body::Water(Water {
        total_l: litres("volume")?,
        reverse_l: litres("reverse")?,
        flow_l_h: json.scaled("flow", LITRE_PER_HOUR, 10.0)?,
        pressure_kpa: json.int("pressureKpa")?,
        temp_c: json.scaled("temp", 1.0, 10.0)?,
        valve: json.code("valve")?,
        alarms,
        history_first_end_s: json.int("firstEnd")?,
        history_interval_s: json.int("interval")?,
        history_delta_l: json.list("deltas", HISTORY_DELTAS)?,
    });
    let mut converted = Converted::new(common, body);
    converted.measured = json.local_time("time", TIME_FORMAT);
    converted.seq = json.count("seq")?.and_then(|seq| u64::try_from(seq).ok());
    if converted.measured.is_none() && json.has("time") {
        converted.notes.push(QualityReason::ClockSkew);
    }
    Ok(converted)
}

pub(super) fn write(
    json: &mut Writer,
    common: &mut Common,
    body: &Water,
    measured: Option<DeviceTime>,
) {
    json.put("rsrp", common.nrsrp_dbm.take());
    json.put("ceLevel", common.ce_level.take().map(|v| v.saturating_add(1)));
    json.put("batteryMv", common.battery_mv.take());
    json.put("volume", body.total_l.map(|v| v as f64 / 1000.0));
    json.put("reverse", body.reverse_l.map(|v| v as f64 / 1000.0));
    json.put("flow", body.flow_l_h.map(|v| v * LITRE_PER_HOUR));
    json.put("pressureKpa", body.pressure_kpa);
    json.put("temp", body.temp_c);
    json.code("valve", body.valve);
    json.list("alarms", &body.alarms);
    json.put("firstEnd", body.history_first_end_s);
    json.put("interval", body.history_interval_s);
    json.list("deltas", &body.history_delta_l);
    json.local_time("time", measured, TIME_FORMAT);
}
