//! The pilot projects: which stations are theirs, what came of them today, and their quotas.
//!
//! A quota is what a project was given to plan with, not a gate: past it everything is still taken in.
//! The stations of a project carry smoke detectors and lifts beside meters, on one connection each, so
//! to stop reading a socket, or to slow it down, would hold back alarms; and what was acknowledged is
//! kept whatever it costs. So what passes a quota is counted, said and shown to whoever has to pay.
//!
//! A day is a day in UTC+8, by when readings were received. The counts are part of the snapshot: a
//! restart does not begin the day anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;
use loushan_schemas::ids::StationId;
use loushan_schemas::time::ReceiveTime;

use super::Registry;
use crate::sink::embedded::Among;

/// The city's zone.
const ZONE_MS: i64 = 8 * 3_600_000;
const DAY_MS: i64 = 24 * 3_600_000;
/// A quota of which so much is used is near its end.
const NEAR: f64 = 0.8;

/// What came on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Today {
    /// Days since 1970-01-01 in UTC+8.
    pub day: i64,
    /// Readings accepted.
    pub readings: u64,
    /// Bytes of the payloads received.
    pub bytes: u64,
}

impl Today {
    /// The day of a time.
    #[must_use]
    pub const fn day_of(ms: i64) -> i64 {
        (ms + ZONE_MS).div_euclid(DAY_MS)
    }

    /// The date of a day, `YYYY-MM-DD`.
    #[must_use]
    pub fn date(day: i64) -> String {
        let time = DateTime::from_timestamp_millis(day.saturating_mul(DAY_MS));
        time.map(|time| time.format("%Y-%m-%d").to_string()).unwrap_or_default()
    }

    /// Counts what was received. What has an earlier day, as dead letters decided again have, counts
    /// as of now.
    pub(super) fn count(&mut self, received: ReceiveTime, readings: u64, bytes: u64) {
        let day = Self::day_of(received.ms());
        if day > self.day {
            *self = Self { day, readings: 0, bytes: 0 };
        }
        self.readings += readings;
        self.bytes += bytes;
    }

    /// The same if it is of that day, else nothing.
    #[must_use]
    pub const fn on(self, day: i64) -> Self {
        if self.day == day { self } else { Self { day, readings: 0, bytes: 0 } }
    }
}

/// What a project may use a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Readings.
    pub readings: Option<u64>,
    /// Bytes of payloads.
    pub bytes: Option<u64>,
}

/// How a project stands with its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaState {
    /// It has none.
    None,
    /// Much is left.
    Ok,
    /// Four fifths are used.
    Near,
    /// It is passed.
    Over,
}

impl QuotaState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ok => "ok",
            Self::Near => "near",
            Self::Over => "over",
        }
    }
}

impl Quota {
    /// The greatest share used of a bound; `None` where there is none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn used(&self, today: Today) -> Option<f64> {
        let share = |used: u64, of: Option<u64>| of.map(|of| used as f64 / of.max(1) as f64);
        let (readings, bytes) =
            (share(today.readings, self.readings), share(today.bytes, self.bytes));
        readings.into_iter().chain(bytes).reduce(f64::max)
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self, today: Today) -> QuotaState {
        match self.used(today) {
            None => QuotaState::None,
            Some(used) if used > 1.0 => QuotaState::Over,
            Some(used) if used >= NEAR => QuotaState::Near,
            Some(_) => QuotaState::Ok,
        }
    }
}

/// A project, as it is known now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Project {
    /// The parts of the city in which it has stations.
    pub areas: BTreeSet<String>,
    /// Stations.
    pub stations: usize,
    /// Of those, born and not dead.
    pub online: usize,
    /// Readings accepted, as long as the registry remembers.
    pub readings: u64,
    /// Readings, or whole publishes, rejected.
    pub rejected: u64,
    /// What came today.
    pub today: Today,
    /// What may.
    pub quota: Quota,
}

impl Registry {
    /// The project of a station, as `stations.csv` has it.
    #[must_use]
    pub fn project_of(&self, station: &StationId) -> Option<String> {
        let stations = self.stations.read();
        Some(stations.get(station)?.site.as_ref()?.project.clone())
    }

    /// The stations of a project.
    #[must_use]
    pub fn stations_of(&self, project: &str) -> Among {
        let stations = self.stations.read();
        let own = stations
            .values()
            .filter(|station| station.site.as_ref().is_some_and(|site| site.project == project));
        Arc::new(own.map(|station| Arc::from(station.station.as_str())).collect())
    }

    /// All projects that have a station or a quota, by name.
    #[must_use]
    pub fn projects(&self, now_ms: i64) -> BTreeMap<String, Project> {
        let today = Today::day_of(now_ms);
        let none = Project { today: Today::default().on(today), ..Project::default() };
        let mut projects: BTreeMap<String, Project> = self
            .quotas
            .read()
            .iter()
            .map(|(name, quota)| (name.clone(), Project { quota: *quota, ..none.clone() }))
            .collect();
        for station in self.stations.read().values() {
            let Some(site) = &station.site else { continue };
            // Most stations' project is there already.
            let project = match projects.get_mut(&site.project) {
                Some(project) => project,
                None => projects.entry(site.project.clone()).or_insert(none.clone()),
            };
            if !project.areas.contains(&site.area) {
                project.areas.insert(site.area.clone());
            }
            project.stations += 1;
            project.online += usize::from(station.online == Some(true));
            project.readings += station.readings;
            project.rejected += station.rejected;
            let of_station = station.today.on(today);
            project.today.readings += of_station.readings;
            project.today.bytes += of_station.bytes;
        }
        projects
    }

    pub(super) fn set_quota(&self, project: String, quota: Quota) {
        self.quotas.write().insert(project, quota);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_772_337_600_000; // 2026-03-01T12:00:00+08:00

    #[test]
    fn a_day_is_one_in_utc_plus_8_and_begins_anew_with_the_first_reading_of_it() {
        assert_eq!(Today::date(Today::day_of(NOON)), "2026-03-01");
        assert_eq!(Today::day_of(NOON + DAY_MS / 2 - 1), Today::day_of(NOON));
        assert_eq!(Today::day_of(NOON + DAY_MS / 2), Today::day_of(NOON) + 1);
        let mut today = Today::default();
        let at = |ms: i64| ReceiveTime::from_ns(ms * 1_000_000);
        today.count(at(NOON), 2, 10);
        today.count(at(NOON - DAY_MS), 1, 5);
        assert_eq!((today.readings, today.bytes), (3, 15), "an old one counts as of now");
        today.count(at(NOON + DAY_MS), 7, 70);
        assert_eq!((today.readings, today.bytes), (7, 70));
        assert_eq!(today.on(today.day - 1).readings, 0);
    }

    #[test]
    fn a_quota_is_used_by_the_greatest_share_and_passed_only_behind_its_bound() {
        let quota = Quota { readings: Some(100), bytes: Some(1000) };
        let today = |readings, bytes| Today { day: 1, readings, bytes };
        assert_eq!(quota.used(today(10, 900)), Some(0.9));
        let states = [(10, 10), (80, 0), (100, 1000), (101, 0), (0, 1001)]
            .map(|(readings, bytes)| quota.state(today(readings, bytes)).as_str());
        assert_eq!(states, ["ok", "near", "near", "over", "over"]);
        assert_eq!(Quota::default().state(today(u64::MAX, u64::MAX)), QuotaState::None);
    }
}
