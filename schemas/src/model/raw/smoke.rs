//! A smoke detector that passes on its radio module's statistics, in tenths of a decibel
//! (`SignalPower`, `TotalPower`, `TxPower`, `SNR`, `RSRQ`), temperature in tenths of a degree, and
//! time as China's local time without a zone. An `IMSI` it could not read is "undefined"; that of
//! the network is the station's affair, so it is never taken from here.

use super::super::Converted;
use super::json::{Reader, Writer};
use crate::quality::QualityReason;
use crate::reading::{Body, Common, Smoke};
use crate::reject::RejectReason;
use crate::time::DeviceTime;

const TIME_FORMAT: &str = "%Y-%m-%d %H:%M:%S";

pub(super) fn read(json: &Reader, mut common: Common) -> Result<Converted, RejectReason> {
    let tenths = |key| json.scaled(key, 10.0, 10.0);
    common.nrsrp_dbm = tenths("SignalPower")?.or(common.nrsrp_dbm);
    common.nrsrq_db = tenths("RSRQ")?.or(common.nrsrq_db);
    common.sinr_db = tenths("SNR")?.or(common.sinr_db);
    common.tx_power_dbm = tenths("TxPower")?.or(common.tx_power_dbm);
    // All power in the band: by the module's statistics, or else by AT+CSQ.
    common.rssi_dbm = tenths("TotalPower")?.or(json.csq("CSQ")?).or(common.rssi_dbm);
    common.ce_level = json.count("ECL")?.or(common.ce_level);
    common.cell_id = json.count("CellID")?.or(common.cell_id);
    common.pci = json.count("PCI")?.or(common.pci);
    common.battery_pct = json.float("battery")?.or(common.battery_pct);
    let body = Body::Smoke(Smoke {
        state: json.code("state")?,
        obscuration_db_m: json.scaled("obscuration", 1000.0, 1000.0)?,
        temp_c: tenths("temperature")?,
        contamination_pct: json.float("dust")?,
        removed: json.flag("removed")?,
        low_battery: json.flag("lowBattery")?,
        self_test: json.code("selfTest")?,
        alarm_count: json.count("alarms")?,
    });
    let mut converted = Converted::new(common, body);
    converted.measured = json.local_time("ts", TIME_FORMAT);
    converted.seq = json.count("seq")?.and_then(|seq| u64::try_from(seq).ok());
    if converted.measured.is_none() && json.has("ts") {
        converted.notes.push(QualityReason::ClockSkew);
    }
    Ok(converted)
}

pub(super) fn write(
    json: &mut Writer,
    common: &mut Common,
    body: &Smoke,
    measured: Option<DeviceTime>,
) {
    let tenths = |v: f64| v * 10.0;
    json.whole("SignalPower", common.nrsrp_dbm.take().map(tenths));
    json.whole("RSRQ", common.nrsrq_db.take().map(tenths));
    json.whole("SNR", common.sinr_db.take().map(tenths));
    json.whole("TxPower", common.tx_power_dbm.take().map(tenths));
    json.whole("TotalPower", common.rssi_dbm.take().map(tenths));
    json.csq("CSQ", None);
    json.put("ECL", common.ce_level.take());
    json.put("CellID", common.cell_id.take());
    json.put("PCI", common.pci.take());
    json.whole("battery", common.battery_pct.take());
    json.put("IMSI", Some("undefined"));
    json.code("state", body.state);
    json.whole("obscuration", body.obscuration_db_m.map(|v| v * 1000.0));
    json.whole("temperature", body.temp_c.map(tenths));
    json.whole("dust", body.contamination_pct);
    json.put("removed", body.removed);
    json.put("lowBattery", body.low_battery);
    json.code("selfTest", body.self_test);
    json.put("alarms", body.alarm_count);
    json.local_time("ts", measured, TIME_FORMAT);
}
