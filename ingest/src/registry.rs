//! What is known of every station and device now: names, liveness, last values.
//!
//! Fed with durable frames, in order, by the pipeline's keeper; it goes into the snapshot, so that a
//! restart knows what was known before it. Whoever asks gets copies, under a lock that is held for
//! one station or device. Names come from `stations.csv`; a station that is not in it is taken in as
//! *unregistered*.
//!
//! Late data never sets a clock back: a device's latest reading moves only forward in effective
//! time, and a death is believed only of the session that was born last.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashMap;
use loushan_schemas::ids::{Imei, Region, StationId};
use loushan_schemas::pb;
use loushan_schemas::reject::RejectReason;
use loushan_schemas::row::Row;
use loushan_schemas::time::{DeviceTime, ReceiveTime};
use loushan_schemas::topic::{Channel, Topic};
use parking_lot::RwLock;

use crate::pipeline::decode::{Decoded, decode};
use crate::pipeline::frame::DurableFrame;

mod csv_file;
mod projects;
mod projects_csv;
mod results;
mod snapshot;
mod stations_csv;

#[cfg(test)]
mod tests;

pub use csv_file::{BadLine, Loaded};
pub use projects::{Project, Quota, QuotaState, Today};
use results::Results;

/// Bytes of a station in memory, about: names, counts and its latest status.
const STATION_BYTES: usize = 1024;
/// Bytes of a device in memory, about: its latest row and the map's entry.
const DEVICE_BYTES: usize = size_of::<Row>() + 160;

/// Devices whose latest readings are copied under one hold of the lock: well below a millisecond.
const LATEST_AT_ONCE: usize = 512;

/// Bounds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryLimits {
    /// For stations. The ones silent longest, and not registered, go first.
    pub stations: usize,
    /// For devices. The ones silent longest go first; the store still has their readings.
    pub devices: usize,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        Self { stations: 16 << 20, devices: 128 << 20 }
    }
}

/// What stands where: a line of `stations.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// One of the pilot projects.
    pub project: String,
    /// A name for people.
    pub name: String,
    /// Latitude, in degrees north.
    pub lat: f64,
    /// Longitude, in degrees east.
    pub lon: f64,
    /// The part of the city.
    pub area: String,
}

/// A station, as it is known now.
#[derive(Debug, Clone, PartialEq)]
pub struct Station {
    /// Its name.
    pub station: StationId,
    /// Its region: of `stations.csv`, else of what it published last.
    pub region: Region,
    /// Its line in `stations.csv`; `None` for an unregistered station.
    pub site: Option<Site>,
    /// Whether its last birth or death was a birth; `None` if it never said.
    pub online: Option<bool>,
    /// The session it was born with.
    pub session: Option<u32>,
    /// When it was born or died, by its own clock.
    pub state_time: Option<DeviceTime>,
    /// The firmware it named at birth.
    pub firmware: String,
    /// When anything of it was received last.
    pub last_heard: Option<ReceiveTime>,
    /// Readings accepted.
    pub readings: u64,
    /// Duplicates in publishes that brought something new as well.
    pub duplicates: u64,
    /// Readings, or whole publishes, rejected.
    pub rejected: u64,
    /// Its own latest figures.
    pub status: Option<Box<Row>>,
    /// What came of it on the day it was heard last.
    pub today: Today,
}

impl Station {
    fn new(station: StationId, region: Region) -> Self {
        Self {
            station,
            region,
            site: None,
            online: None,
            session: None,
            state_time: None,
            firmware: String::new(),
            last_heard: None,
            readings: 0,
            duplicates: 0,
            rejected: 0,
            status: None,
            today: Today::default(),
        }
    }
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegistryCounts {
    /// Stations known.
    pub stations: usize,
    /// Of those, in `stations.csv`.
    pub registered: usize,
    /// Of those, born and not dead.
    pub online: usize,
    /// Devices with a latest reading.
    pub devices: usize,
}

/// The registry.
#[derive(Debug)]
pub struct Registry {
    stations: RwLock<HashMap<StationId, Station>>,
    /// Shared, so that who asks for all of them takes them without copying any.
    devices: RwLock<HashMap<Imei, Arc<Row>>>,
    /// By project.
    quotas: RwLock<BTreeMap<String, Quota>>,
    results: Results,
    limits: RegistryLimits,
}

impl Registry {
    /// A registry that knows nothing.
    #[must_use]
    pub fn new(limits: RegistryLimits) -> Self {
        Self {
            stations: RwLock::default(),
            devices: RwLock::default(),
            quotas: RwLock::default(),
            results: Results::default(),
            limits,
        }
    }

    /// All stations, by name.
    #[must_use]
    pub fn stations(&self) -> Vec<Station> {
        let mut all: Vec<Station> = self.stations.read().values().cloned().collect();
        all.sort_by(|a, b| a.station.cmp(&b.station));
        all
    }

    /// One station.
    #[must_use]
    pub fn station(&self, station: &StationId) -> Option<Station> {
        self.stations.read().get(station).cloned()
    }

    /// Hands over each station, in no order. The lock is held meanwhile: `each` is to be quick.
    pub fn each_station(&self, each: &mut dyn FnMut(&Station)) {
        self.stations.read().values().for_each(each);
    }

    /// A device's latest reading, by effective time.
    #[must_use]
    pub fn latest(&self, imei: Imei) -> Option<Arc<Row>> {
        self.devices.read().get(&imei).cloned()
    }

    /// Hands over the latest readings of devices that pass `wanted`, by device, until `each` breaks
    /// off. Each part of them is of one moment, and the lock held for that part only.
    pub fn each_latest(
        &self,
        wanted: &dyn Fn(&Row) -> bool,
        each: &mut dyn FnMut(Arc<Row>) -> ControlFlow<()>,
    ) {
        let mut devices: Vec<Imei> = self.devices.read().keys().copied().collect();
        devices.sort_unstable();
        for part in devices.chunks(LATEST_AT_ONCE) {
            let rows: Vec<Arc<Row>> = {
                let devices = self.devices.read();
                let rows = part.iter().filter_map(|imei| devices.get(imei));
                rows.filter(|row| wanted(row)).cloned().collect()
            };
            for row in rows {
                if each(row).is_break() {
                    return;
                }
            }
        }
    }

    /// From now on `to` is told what becomes of commands; first, what came before.
    pub(crate) fn tell_results(
        &self,
        to: impl Fn(&StationId, pb::CommandResult) + Send + Sync + 'static,
    ) {
        self.results.tell_to(Box::new(to));
    }

    /// How many there are.
    #[must_use]
    pub fn counts(&self) -> RegistryCounts {
        let stations = self.stations.read();
        let count = |pick: fn(&&Station) -> bool| stations.values().filter(pick).count();
        RegistryCounts {
            stations: stations.len(),
            registered: count(|s| s.site.is_some()),
            online: count(|s| s.online == Some(true)),
            devices: self.devices.read().len(),
        }
    }

    /// Takes in what a durable frame says. Frames come in order.
    pub fn apply(&self, frame: &DurableFrame) {
        // What was published below a malformed topic is nobody's.
        let Ok(topic) = Topic::parse(&frame.topic) else { return };
        let state = match topic.channel {
            Channel::State if frame.rejects.is_empty() => decode(&topic, &frame.payload).ok(),
            _ => None,
        };
        if topic.channel == Channel::CommandResult
            && frame.rejects.is_empty()
            && let Ok(Decoded::CommandResult(result)) = decode(&topic, &frame.payload)
        {
            self.results.tell(&topic.station, result);
        }
        let mut stations = self.stations.write();
        if !stations.contains_key(&topic.station) {
            make_room_for_station(&mut stations, self.limits.stations);
        }
        let new = || Station::new(topic.station.clone(), topic.region.clone());
        let station = stations.entry(topic.station.clone()).or_insert_with(new);
        if station.site.is_none() {
            station.region = topic.region;
        }
        station.last_heard = station.last_heard.max(Some(frame.received));
        station.readings += frame.rows.len() as u64;
        station.today.count(frame.received, frame.rows.len() as u64, frame.payload.len() as u64);
        station.duplicates += u64::from(frame.duplicates);
        let real = |reason: RejectReason| reason != RejectReason::UnknownFields;
        station.rejected += frame.rejects.iter().filter(|r| real(r.reason)).count() as u64;
        if let Some(Decoded::State(state)) = state {
            // A death of an older session came late, or its will was published after the station
            // was back.
            if state.online || station.session.is_none_or(|session| session == state.session) {
                station.online = Some(state.online);
                station.session = Some(state.session);
                station.state_time = DeviceTime::from_wire(state.time_ms, 0);
                if state.online {
                    station.firmware = state.firmware;
                }
            }
        }
        for row in frame.rows.iter().filter(|row| row.reading.imei.is_none()) {
            if station.status.as_ref().is_none_or(|old| newer(old, row)) {
                station.status = Some(Box::new(row.clone()));
            }
        }
        drop(stations);
        self.apply_devices(&frame.rows);
    }

    fn apply_devices(&self, rows: &[Row]) {
        if rows.is_empty() {
            return;
        }
        let mut devices = self.devices.write();
        for row in rows {
            let Some(imei) = row.reading.imei else { continue };
            match devices.get_mut(&imei) {
                Some(old) if newer(old, row) => match Arc::get_mut(old) {
                    Some(old) => old.clone_from(row),
                    // Somebody is reading it.
                    None => *old = Arc::new(row.clone()),
                },
                Some(_) => {}
                None => {
                    make_room_for_device(&mut devices, self.limits.devices);
                    devices.insert(imei, Arc::new(row.clone()));
                }
            }
        }
    }
}

/// Whether a row is at least as late as the one that is there.
fn newer(old: &Row, row: &Row) -> bool {
    row.reading.times.effective >= old.reading.times.effective
}

/// Over the bound, the eighth of the unregistered stations that was silent longest goes.
fn make_room_for_station(stations: &mut HashMap<StationId, Station>, limit: usize) {
    if (stations.len() + 1) * STATION_BYTES <= limit {
        return;
    }
    let strangers = stations.values().filter(|s| s.site.is_none());
    let bound = eighth(strangers.map(|s| s.last_heard).collect());
    stations.retain(|_, s| s.site.is_some() || Some(s.last_heard) > bound);
}

/// Over the bound, the eighth of the devices that was silent longest goes.
fn make_room_for_device(devices: &mut HashMap<Imei, Arc<Row>>, limit: usize) {
    if (devices.len() + 1) * DEVICE_BYTES <= limit {
        return;
    }
    let bound = eighth(devices.values().map(|row| row.reading.times.received).collect());
    devices.retain(|_, row| Some(row.reading.times.received) > bound);
}

/// The value below or at which an eighth of them lies.
fn eighth<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    if values.is_empty() {
        return None;
    }
    let at = values.len() / 8;
    let (_, bound, _) = values.select_nth_unstable(at);
    Some(*bound)
}
