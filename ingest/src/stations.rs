//! What stands where, and what was heard of it: `stations.csv` and the durable frames of the log.
//!
//! A station that the file does not name is taken in as *unregistered*, at most
//! [`UNREGISTERED`] of them: names cost a client nothing. What was heard is known since the start of
//! the process only; readings themselves are the store's.

use std::collections::BTreeMap;
use std::io::Read;

use loushan_schemas::ids::{Region, StationId};
use loushan_schemas::pb;
use loushan_schemas::topic::{Channel, Topic};
use parking_lot::Mutex;
use prost::Message as _;
use serde::Deserialize;

use crate::http::view::Station;
use crate::pipeline::frame::DurableFrame;

/// Unregistered stations that are remembered: far more than a city has, and a few megabytes.
const UNREGISTERED: usize = 20_000;

/// The stations.
#[derive(Debug, Default)]
pub struct Stations(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    stations: BTreeMap<StationId, Entry>,
    unregistered: usize,
}

#[derive(Debug)]
struct Entry {
    shown: Station,
    /// Of the last birth or will; a will of an earlier session says nothing of this one.
    session: Option<u32>,
}

/// One line of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    station: String,
    region: String,
    project: Option<String>,
    name: Option<String>,
    lat: Option<f64>,
    lon: Option<f64>,
    area: Option<String>,
}

/// The stations file is faulty: every fault with its line.
#[derive(Debug, thiserror::Error)]
#[error("the stations file has {} faults:\n  {}", .0.len(), .0.join("\n  "))]
pub struct StationsError(pub Vec<String>);

impl Stations {
    /// Reads a stations file.
    ///
    /// # Errors
    /// All faults of the file, by line.
    pub fn read(file: impl Read) -> Result<Self, StationsError> {
        let mut known = Known::default();
        let mut faults = Vec::new();
        for (i, line) in csv::Reader::from_reader(file).into_deserialize::<Line>().enumerate() {
            let number = i + 2; // the header is line 1
            match line.map_err(|e| e.to_string()).and_then(entry) {
                Err(why) => faults.push(format!("line {number}: {why}")),
                Ok((id, entry)) => {
                    if known.stations.insert(id.clone(), entry).is_some() {
                        faults.push(format!("line {number}: station {id} is named before; keep one"));
                    }
                }
            }
        }
        if faults.is_empty() { Ok(Self(Mutex::new(known))) } else { Err(StationsError(faults)) }
    }

    /// A durable frame came from a station.
    pub fn heard(&self, frame: &DurableFrame) {
        let Ok(topic) = Topic::parse(&frame.topic) else { return };
        let mut known = self.0.lock();
        let Known { stations, unregistered } = &mut *known;
        if !stations.contains_key(&topic.station) {
            if *unregistered >= UNREGISTERED {
                return;
            }
            *unregistered += 1;
            stations.insert(topic.station.clone(), Entry::unregistered(&topic));
        }
        let Some(entry) = stations.get_mut(&topic.station) else { return };
        // A will is the broker's word, not the station's: it is heard of, not from.
        if topic.channel != Channel::State {
            entry.shown.last_received_ms = Some(frame.received.ms());
        } else if let Ok(state) = pb::StationState::decode(frame.payload.clone()) {
            if state.online {
                entry.session = Some(state.session);
                entry.shown.last_received_ms = Some(frame.received.ms());
            } else if entry.session.is_some_and(|session| session != state.session) {
                return;
            }
            entry.shown.online = Some(state.online);
        }
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Station> {
        self.0.lock().stations.values().map(|entry| entry.shown.clone()).collect()
    }
}

impl Entry {
    fn unregistered(topic: &Topic) -> Self {
        let shown = Station {
            station: topic.station.to_string(),
            region: topic.region.to_string(),
            registered: false,
            project: None,
            name: None,
            lat: None,
            lon: None,
            area: None,
            last_received_ms: None,
            online: None,
        };
        Self { shown, session: None }
    }
}

fn entry(line: Line) -> Result<(StationId, Entry), String> {
    let id = StationId::new(&line.station).map_err(|e| e.to_string())?;
    let region = Region::new(&line.region).map_err(|e| e.to_string())?;
    let within = |name, value: Option<f64>, limit: f64| match value {
        Some(v) if !(-limit..=limit).contains(&v) => {
            Err(format!("{name} {v} is not within -{limit} and {limit} degrees"))
        }
        fine => Ok(fine),
    };
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let shown = Station {
        station: id.to_string(),
        region: region.to_string(),
        registered: true,
        project: some(line.project),
        name: some(line.name),
        lat: within("lat", line.lat, 90.0)?,
        lon: within("lon", line.lon, 180.0)?,
        area: some(line.area),
        last_received_ms: None,
        online: None,
    };
    Ok((id, Entry { shown, session: None }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use loushan_schemas::time::ReceiveTime;

    use super::*;

    const HEADER: &str = "station,region,project,name,lat,lon,area\n";

    fn frame(topic: &str, ms: i64, payload: Bytes) -> DurableFrame {
        DurableFrame {
            lsn: 1,
            received: ReceiveTime::from_ns(ms * 1_000_000),
            topic: topic.into(),
            payload,
            rows: Vec::new(),
            rejects: Vec::new(),
            duplicates: 0,
        }
    }

    fn state(session: u32, online: bool) -> Bytes {
        let state = pb::StationState { session, online, ..pb::StationState::default() };
        state.encode_to_vec().into()
    }

    #[test]
    fn registered_and_unregistered_stations_are_listed_with_when_they_were_heard() {
        let text = format!("{HEADER}bs0001,r1,lights,Old Bridge,27.7,106.9,centre\n");
        let stations = Stations::read(text.as_bytes()).unwrap();
        stations.heard(&frame("nb1/r1/bs0009/u/t", 5, Bytes::new()));
        stations.heard(&frame("home/lamp", 6, Bytes::new()));
        let list = stations.list();
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].registered, list[0].last_received_ms), (true, None));
        assert_eq!(list[0].name.as_deref(), Some("Old Bridge"));
        assert_eq!((list[1].registered, list[1].last_received_ms), (false, Some(5)));
    }

    #[test]
    fn a_death_of_an_earlier_session_is_ignored() {
        let stations = Stations::default();
        let online = || stations.list()[0].online;
        let topic = "nb1/r1/bs0001/state";
        stations.heard(&frame(topic, 1, state(2, true)));
        stations.heard(&frame(topic, 2, state(1, false)));
        assert_eq!(online(), Some(true));
        stations.heard(&frame(topic, 3, state(2, false)));
        assert_eq!(online(), Some(false));
    }

    #[test]
    fn all_faults_of_the_file_are_named_with_their_lines() {
        let text = format!("{HEADER}bs1,r1,,,,,\nBS 2,r1,,,,,\nbs3,r1,,,91,0,\nbs1,r1,,,,,\nbs4,r1\n");
        let faults = Stations::read(text.as_bytes()).unwrap_err().0;
        assert_eq!(faults.len(), 4, "{faults:#?}");
        for (fault, line) in faults.iter().zip(["line 3", "line 4", "line 5", "line 6"]) {
            assert!(fault.starts_with(line), "{fault}");
        }
    }

    #[test]
    fn unregistered_stations_are_bounded() {
        let stations = Stations::default();
        for n in 0..UNREGISTERED + 5 {
            stations.heard(&frame(&format!("nb1/r1/s{n}/u/t"), 1, Bytes::new()));
        }
        assert_eq!(stations.list().len(), UNREGISTERED);
    }
}
