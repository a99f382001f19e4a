//! The registry's part of the pipeline's snapshot.

use loushan_schemas::ids::{Region, StationId};
use loushan_schemas::row::Row;
use loushan_schemas::time::{DeviceTime, ReceiveTime};

use super::{Registry, Station, Today};
use crate::pipeline::verdict::pb;

fn json(row: &Row) -> String {
    let mut out = String::new();
    row.write_json(&mut out);
    out
}

impl Registry {
    /// Everything known of stations beside `stations.csv`.
    pub(crate) fn export(&self, mut put: impl FnMut(pb::Station)) {
        for station in self.stations.read().values().filter(|s| s.last_heard.is_some()) {
            put(pb::Station {
                station: station.station.as_str().to_owned(),
                region: station.region.as_str().to_owned(),
                online: station.online,
                session: station.session,
                state_time_ms: station.state_time.and_then(|t| u64::try_from(t.ms()).ok()),
                firmware: station.firmware.clone(),
                last_heard_ns: station.last_heard.map(ReceiveTime::ns),
                readings: station.readings,
                duplicates: station.duplicates,
                rejected: station.rejected,
                status: station.status.as_deref().map(json).unwrap_or_default(),
                day: station.today.day,
                day_readings: station.today.readings,
                day_bytes: station.today.bytes,
            });
        }
    }

    /// The latest row of every device.
    pub(crate) fn export_latest(&self, put: impl FnMut(String)) {
        self.devices.read().values().map(|row| json(row)).for_each(put);
    }

    /// Takes over a station. What `stations.csv` says of it stands.
    pub(crate) fn restore(&self, saved: pb::Station) {
        let (Ok(id), Ok(region)) = (StationId::new(&saved.station), Region::new(&saved.region))
        else {
            return;
        };
        let mut stations = self.stations.write();
        let new = || Station::new(id.clone(), region);
        let station = stations.entry(id.clone()).or_insert_with(new);
        station.online = saved.online;
        station.session = saved.session;
        station.state_time = saved.state_time_ms.and_then(|ms| DeviceTime::from_wire(ms, 0));
        station.firmware = saved.firmware;
        station.last_heard = saved.last_heard_ns.map(ReceiveTime::from_ns);
        station.readings = saved.readings;
        station.duplicates = saved.duplicates;
        station.rejected = saved.rejected;
        let (day, readings, bytes) = (saved.day, saved.day_readings, saved.day_bytes);
        station.today = Today { day, readings, bytes };
        station.status = Row::from_json(&saved.status).ok().map(Box::new);
    }

    /// Takes over a device's latest row; one that this build cannot read is left out.
    pub(crate) fn restore_latest(&self, row: &str) {
        if let Ok(row) = Row::from_json(row) {
            self.apply_devices(&[row]);
        }
    }
}
