//! Which stations and devices there are.
//!
//! Everything follows from the seed: the n-th station has the same name, region, project and place
//! in every run, and its devices the same identities. A larger fleet begins with the smaller one.

use std::collections::BTreeMap;
use std::io::Write;

use loushan_schemas::ids::{Imei, NameError, Region, StationId};
use loushan_schemas::kind::Kind;

use crate::city::{LATITUDE, LONGITUDE};
use crate::device::DevicePlan;
use crate::seed::{Rng, Use, mix};
use crate::station::StationPlan;

/// Stations of the pilot.
pub const STATIONS: u32 = 500;
/// Devices behind each of them where nothing else is asked for: enough to see every kind.
pub const DEVICES_PER_STATION: u32 = 20;
/// Devices behind a station of a national network in 2020: the pilot's nominal size.
pub const NOMINAL_DEVICES_PER_STATION: u32 = 170;
/// Most stations of one fleet.
pub const MAX_STATIONS: u32 = 100_000;
/// Most devices of a station: serial numbers have eight digits, of which a station has four.
pub const MAX_DEVICES_PER_STATION: u32 = 9999;

/// The city's districts: name, middle, and how far stations lie from it, in thousandths of a degree.
const REGIONS: [(&str, &str, f64, f64, i64); 8] = [
    ("honghuagang", "Honghuagang", 27.644, 106.894, 60),
    ("huichuan", "Huichuan", 27.750, 106.934, 60),
    ("xinpu", "Xinpu", 27.714, 107.020, 60),
    ("bozhou", "Bozhou", 27.536, 106.830, 90),
    ("renhuai", "Renhuai", 27.792, 106.401, 70),
    ("chishui", "Chishui", 28.590, 105.697, 70),
    ("tongzi", "Tongzi", 28.133, 106.826, 80),
    ("meitan", "Meitan", 27.765, 107.487, 80),
];

/// The pilot projects and the areas they stand for.
const PROJECTS: [(&str, &str); 12] = [
    ("smart-parking-old-town", "old town"),
    ("smart-parking-stations", "railway stations"),
    ("lights-ring-road", "ring road"),
    ("lights-river-walk", "river walk"),
    ("smoke-schools", "schools"),
    ("smoke-markets", "markets"),
    ("smoke-old-houses", "old houses"),
    ("lifts-hospitals", "hospitals"),
    ("lifts-housing", "housing estates"),
    ("water-east", "water district east"),
    ("water-west", "water district west"),
    ("water-villages", "villages"),
];

/// One line of `stations.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct StationRecord {
    /// Its name and client id.
    pub station: StationId,
    /// Its region.
    pub region: Region,
    /// Its pilot project.
    pub project: &'static str,
    /// A name for people.
    pub name: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// What kind of place it covers.
    pub area: &'static str,
}

/// The stations of a fleet, in the order of their numbers from 1.
///
/// # Errors
/// When a name does not fit the grammar, which none of these lists' does.
pub fn stations(seed: u64, count: u32) -> Result<Vec<StationRecord>, NameError> {
    (1..=count).map(|number| station_record(seed, number)).collect()
}

#[allow(clippy::cast_precision_loss)] // thousandths of a degree
fn station_record(seed: u64, number: u32) -> Result<StationRecord, NameError> {
    let mut rng = Rng::new(Use::Fleet, &[seed, u64::from(number)]);
    let pick = number as usize - 1;
    let (region, title, lat, lon, spread) = REGIONS
        .get(pick % REGIONS.len())
        .copied()
        .unwrap_or(("zunyi", "Zunyi", LATITUDE, LONGITUDE, 50));
    // Projects change slower than regions, so that each is at work in every region.
    let (project, area) =
        PROJECTS.get(pick / REGIONS.len() % PROJECTS.len()).copied().unwrap_or(("pilot", "city"));
    let degrees = |middle: f64, rng: &mut Rng| {
        // Ten-thousandths, a map's precision, and the same text on every machine.
        libm::round(middle * 1e4 + (rng.between(-spread, spread) * 10 + rng.between(0, 9)) as f64)
            / 1e4
    };
    Ok(StationRecord {
        station: StationId::new(&format!("bs{number:04}"))?,
        region: Region::new(region)?,
        project,
        name: format!("{title} {:03}", pick / REGIONS.len() + 1),
        lat: degrees(lat, &mut rng),
        lon: degrees(lon, &mut rng),
        area,
    })
}

/// Writes `stations.csv`: station, region, project, name, lat, lon, area.
///
/// # Errors
/// When the writer fails.
pub fn write_csv(stations: &[StationRecord], out: impl Write) -> Result<(), csv::Error> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["station", "region", "project", "name", "lat", "lon", "area"])?;
    for s in stations {
        let (lat, lon) = (format!("{:.4}", s.lat), format!("{:.4}", s.lon));
        csv.write_record([
            s.station.as_str(),
            s.region.as_str(),
            s.project,
            &s.name,
            &lat,
            &lon,
            s.area,
        ])?;
    }
    csv.flush()?;
    Ok(())
}

/// The kind of the n-th device of the fleet: among any hundred in a row each kind has its share.
fn kind(seed: u64, index: u64) -> Kind {
    // 61 and 100 have no common factor, so a hundred in a row visit every percent once.
    match (index * 61 + seed % 100) % 100 {
        0..8 => Kind::Parking,
        8..23 => Kind::StreetLight,
        23..43 => Kind::Smoke,
        43..45 => Kind::Elevator,
        _ => Kind::Water,
    }
}

/// IMEIs of a fleet: `86` (China), four digits of the seed, eight of the serial number, and the
/// check digit. Another seed is another delivery of devices; a fleet of ten thousand stations or more takes
/// the deliveries that follow.
fn imei(seed: u64, index: u64) -> Imei {
    let delivery = (mix(&[seed]) + index / 100_000_000) % 10_000;
    Imei::from_body(86_000_000_000_000 + delivery * 100_000_000 + index % 100_000_000)
}

/// The plan of every station.
pub(crate) fn plan(seed: u64, records: &[StationRecord], devices: u32) -> Vec<StationPlan> {
    (1..)
        .zip(records)
        .map(|(number, record)| StationPlan {
            number,
            station: record.station.clone(),
            region: record.region.clone(),
            devices: devices_of(seed, number, devices),
        })
        .collect()
}

fn devices_of(seed: u64, station: u32, devices: u32) -> Vec<DevicePlan> {
    let mut of_kind = BTreeMap::new();
    (0..devices)
        .map(|device| {
            let number = u64::from(station) * u64::from(MAX_DEVICES_PER_STATION + 1);
            // The stride is fixed: a device is of the same kind in a fleet of another size.
            let place = u64::from(station - 1) * u64::from(DEVICES_PER_STATION);
            let kind = kind(seed, place + u64::from(device));
            let next = of_kind.entry(kind).or_insert(0);
            let neighbour = *next;
            *next += 1;
            DevicePlan { imei: imei(seed, number + u64::from(device)), kind, station, neighbour }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_have_their_shares_and_imeis_are_valid_and_each_once() {
        let records = stations(7, 500).unwrap();
        let plans = plan(7, &records, 20);
        let mut kinds = BTreeMap::new();
        let mut imeis = BTreeSet::new();
        for device in plans.iter().flat_map(|p| &p.devices) {
            *kinds.entry(device.kind).or_insert(0) += 1;
            assert!(Imei::new(device.imei.get()).is_ok());
            assert!(imeis.insert(device.imei));
        }
        assert_eq!(
            kinds.into_values().collect::<Vec<_>>(),
            [800, 1500, 2000, 200, 5500],
            "parking, lights, smoke, elevators, water of 10,000"
        );
        assert!(imeis.iter().all(|imei| imei.to_string().starts_with("86")));
    }

    #[test]
    fn a_larger_fleet_begins_with_the_smaller_one_and_lies_around_zunyi() {
        let large = stations(3, 500).unwrap();
        assert_eq!(large[..20], stations(3, 20).unwrap());
        let projects: BTreeSet<_> = large.iter().map(|s| s.project).collect();
        assert_eq!(projects.len(), PROJECTS.len());
        assert!(large.iter().all(|s| (27.0..29.0).contains(&s.lat)));
        assert!(large.iter().all(|s| (105.0..108.0).contains(&s.lon)));
    }

    #[test]
    fn the_largest_fleet_has_each_name_and_device_once() {
        let records = stations(3, MAX_STATIONS).unwrap();
        let plans = plan(3, &records, 1);
        let names: BTreeSet<_> = plans.iter().map(|plan| plan.station.as_str()).collect();
        let imeis: BTreeSet<_> = plans.iter().flat_map(|p| &p.devices).map(|d| d.imei).collect();
        assert_eq!((names.len(), imeis.len()), (100_000, 100_000));
        assert_eq!(plans[99_999].station.as_str(), "bs100000");
    }

    #[test]
    fn the_registry_file_has_a_line_for_every_station() {
        let mut out = Vec::new();
        write_csv(&stations(1, 3).unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "station,region,project,name,lat,lon,area");
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with("bs0001,honghuagang,smart-parking-old-town,"), "{text}");
    }
}
