//! Which readings a question is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::Quality;
use loushan_schemas::row::Row;

use super::super::manifest::{Contents, FileEntry};
use super::super::scan::{Range, Wanted};
use super::super::schema as col;
use super::{effective_range, holds, imei_range};

/// Names of stations: those of a project.
pub type Among = Arc<BTreeSet<Arc<str>>>;

/// Which readings: those that are all of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// Of this device.
    pub device: Option<Imei>,
    /// Sent by this station, or its own figures.
    pub station: Option<StationId>,
    /// Sent by one of these, or its own figures.
    pub among: Option<Among>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// With an effective time from here, in Unix milliseconds.
    pub from_ms: i64,
    /// And before here.
    pub to_ms: i64,
    /// Of at least this quality.
    pub min_quality: Quality,
    /// Brought by a frame up to this one.
    pub up_to_lsn: u64,
}

impl Default for Which {
    /// All readings.
    fn default() -> Self {
        Self {
            device: None,
            station: None,
            among: None,
            kind: None,
            from_ms: i64::MIN,
            to_ms: i64::MAX,
            min_quality: Quality::Rejected,
            up_to_lsn: u64::MAX,
        }
    }
}

impl Which {
    /// Whether a row is among them.
    pub(in super::super) fn takes(&self, row: &Row) -> bool {
        let r = &row.reading;
        (self.from_ms..self.to_ms).contains(&r.times.effective.ms())
            && self.device.is_none_or(|imei| r.imei == Some(imei))
            && self.kind.is_none_or(|kind| r.kind() == kind)
            && self.is_of(row.station.as_str())
            && r.quality >= self.min_quality
            && row.lsn <= self.up_to_lsn
    }

    /// Whether it matters which station a reading came by.
    pub(super) fn names_stations(&self) -> bool {
        self.station.is_some() || self.among.is_some()
    }

    /// Whether readings that came by this station are among them.
    pub(crate) fn is_of(&self, station: &str) -> bool {
        self.station.as_ref().is_none_or(|only| only.as_str() == station)
            && self.among.as_ref().is_none_or(|among| among.contains(station))
    }

    /// What of a file is wanted for them: all columns of the rows in these ranges, by their stations.
    pub(super) fn wanted<'a>(&'a self, ranges: &'a [Range]) -> Wanted<'a> {
        let (station, among) = (self.station.as_ref(), self.among.as_ref());
        Wanted { station, among, ..Wanted::rows(ranges) }
    }

    /// Whether a file can hold rows that are among them.
    pub(super) fn can_be_in(&self, file: &FileEntry) -> bool {
        file.table.kind().is_some_and(|of| self.kind.is_none_or(|kind| kind == of))
            && self.device.is_none_or(|imei| holds(file.imei, imei.get()))
            && file.max_ms >= self.from_ms
            && file.min_ms < self.to_ms
            && file.min_lsn <= self.up_to_lsn
    }

    /// The files of readings that can hold such rows, by day.
    pub(super) fn days<'a>(&self, files: &'a Contents) -> BTreeMap<i64, Vec<&'a Arc<FileEntry>>> {
        let mut days: BTreeMap<i64, Vec<&Arc<FileEntry>>> = BTreeMap::new();
        for file in files.files.values().filter(|file| self.can_be_in(file)) {
            days.entry(file.day).or_default().push(file);
        }
        days
    }

    /// What the rows of a file have to be in, as far as they are not all in it. The station is not
    /// among them.
    pub(super) fn ranges(&self, file: &FileEntry) -> Vec<Range> {
        let mut ranges = Vec::new();
        if let Some(imei) = self.device
            && file.imei != Some((imei.get(), imei.get()))
        {
            ranges.push(imei_range(imei));
        }
        if file.min_ms < self.from_ms || file.max_ms >= self.to_ms {
            ranges.push(effective_range(self.from_ms, self.to_ms));
        }
        if self.min_quality > Quality::Rejected {
            let low = self.min_quality.number().into();
            ranges.push(Range { column: col::QUALITY, low, high: u8::MAX.into() });
        }
        if file.max_lsn > self.up_to_lsn {
            ranges.push(Range { column: col::LSN, low: 0, high: self.up_to_lsn.into() });
        }
        ranges
    }
}
