//! `stations.csv`: what stands where.

use std::path::Path;

use loushan_schemas::ids::{Region, StationId};

use super::{Registry, Site, Station};
use crate::io::{Io, read_all};

/// The columns, in this order, named in the first line.
const COLUMNS: [&str; 7] = ["station", "region", "project", "name", "lat", "lon", "area"];

/// A line that was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct BadLine {
    /// Its number in the file, the header being 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What came of reading the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Stations taken over.
    pub stations: usize,
    /// Lines left out.
    pub bad: Vec<BadLine>,
}

impl Registry {
    /// Reads `stations.csv`. Good lines are taken over, bad ones are reported by number; of two
    /// lines for one station the first counts. What was heard of a station stays.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load_file(&self, io: &dyn Io, path: &Path) -> std::io::Result<Loaded> {
        Ok(self.load(&read_all(io, path)?))
    }

    /// As [`Registry::load_file`], from bytes.
    pub fn load(&self, text: &[u8]) -> Loaded {
        let mut loaded = Loaded::default();
        let mut reader = csv::ReaderBuilder::new();
        // Without a header of its own, so that line numbers and the header's check are ours.
        let reader = reader.has_headers(false).flexible(true).trim(csv::Trim::All);
        let mut seen = hashbrown::HashSet::new();
        for (index, record) in reader.from_reader(text).into_records().enumerate() {
            let at = match &record {
                Ok(record) => record.position().cloned(),
                Err(error) => error.position().cloned(),
            };
            let taken = record.map_err(|e| e.to_string()).and_then(|record| {
                if index == 0 {
                    return header(&record);
                }
                let (station, region, site) = site(&record)?;
                if !seen.insert(station.clone()) {
                    return Err(format!("station {station} has a line already"));
                }
                self.register(station, region, site);
                loaded.stations += 1;
                Ok(())
            });
            if let Err(why) = taken {
                loaded.bad.push(BadLine { line: at.map_or(0, |at| line(text, &at)), why });
                if index == 0 {
                    // Whatever follows is not what we take it for.
                    break;
                }
            }
        }
        loaded
    }

    fn register(&self, station: StationId, region: Region, site: Site) {
        let mut stations = self.stations.write();
        let new = || Station::new(station.clone(), region.clone());
        let known = stations.entry(station.clone()).or_insert_with(new);
        known.region = region;
        known.site = Some(site);
    }
}

/// The line a record stands on; its position may lie before empty lines.
fn line(text: &[u8], at: &csv::Position) -> u64 {
    let from = usize::try_from(at.byte()).unwrap_or(usize::MAX);
    let rest = text.get(from..).unwrap_or_default();
    let empty = rest.iter().take_while(|b| matches!(b, b'\n' | b'\r'));
    at.line() + empty.filter(|b| **b == b'\n').count() as u64
}

fn header(record: &csv::StringRecord) -> Result<(), String> {
    let fits = record.iter().map(|cell| cell.trim_start_matches('\u{feff}')).eq(COLUMNS);
    if fits { Ok(()) } else { Err(format!("the first line must be {}", COLUMNS.join(","))) }
}

fn site(record: &csv::StringRecord) -> Result<(StationId, Region, Site), String> {
    let cells: Vec<&str> = record.iter().collect();
    let &[station, region, project, name, lat, lon, area] = cells.as_slice() else {
        return Err(format!("it has {} columns instead of {}", cells.len(), COLUMNS.len()));
    };
    let station = StationId::new(station).map_err(|e| e.to_string())?;
    let region = Region::new(region).map_err(|e| e.to_string())?;
    let degrees = |what: &str, text: &str, most: f64| match text.parse::<f64>() {
        Ok(value) if (-most..=most).contains(&value) => Ok(value),
        _ => {
            let shown: String = text.chars().take(40).collect();
            Err(format!("{what} {shown:?} is not a number from -{most} to {most}"))
        }
    };
    let lat = degrees("lat", lat, 90.0)?;
    let lon = degrees("lon", lon, 180.0)?;
    let text = |text: &str| text.chars().take(200).collect::<String>();
    Ok((
        station,
        region,
        Site { project: text(project), name: text(name), lat, lon, area: text(area) },
    ))
}
