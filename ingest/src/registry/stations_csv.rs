//! `stations.csv`: what stands where.

use std::path::Path;

use loushan_schemas::ids::{Region, StationId};

use super::csv_file::{self, Loaded};
use super::{Registry, Site, Station};
use crate::io::{Io, read_all};

/// The columns, in this order, named in the first line.
const COLUMNS: [&str; 7] = ["station", "region", "project", "name", "lat", "lon", "area"];

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
        let mut seen = hashbrown::HashSet::new();
        csv_file::read(text, COLUMNS, |cells| {
            let (station, region, site) = site(cells)?;
            if !seen.insert(station.clone()) {
                return Err(format!("station {station} has a line already"));
            }
            self.register(station, region, site);
            Ok(())
        })
    }

    fn register(&self, station: StationId, region: Region, site: Site) {
        let mut stations = self.stations.write();
        let new = || Station::new(station.clone(), region.clone());
        let known = stations.entry(station.clone()).or_insert_with(new);
        known.region = region;
        known.site = Some(site);
    }
}

fn site(cells: [&str; 7]) -> Result<(StationId, Region, Site), String> {
    let [station, region, project, name, lat, lon, area] = cells;
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
