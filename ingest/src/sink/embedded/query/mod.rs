//! Questions to the store, answered from files and memory as one.
//!
//! Every question takes a [`View`] first: the files of one version of the manifest and the rows in
//! memory of the same moment. For that the store's lock is held for microseconds, whatever is in
//! memory: what is taken are references. From then on nothing that the sink does is waited for, nor
//! waits.
//!
//! | module | answers |
//! |---|---|
//! | this one | counts, exports by lsn, whether a reading is stored |
//! | [`page`] | readings in the order of their times, page by page |
//! | [`stream`] | readings of a kind as columns, as they come |
//! | [`aggregate`] | figures of a field, by time and by device, station or kind |
//! | [`times`] | when something was first and last heard of, and when not |

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use loushan_schemas::time::{DeviceTime, ReceiveTime};

use super::manifest::{Contents, FileEntry};
use super::memtable::Frames;
use super::scan::Range;
use super::schema::{self as col, Table};
use super::store::Store;
use super::write::{self, WaterInterval};
use super::{QueryError, decode};
use crate::pipeline::frame::DurableFrame;

mod aggregate;
mod bounds;
mod latest;
mod page;
mod stream;
mod times;
mod which;

pub use aggregate::{
    Aggregate, Aggregated, Bins, By, Cell, EXACT_VALUES, Function, Group, SKETCH_ERROR, field_of,
    is_numeric,
};
pub use bounds::{Bounds, Stop, Turns};
pub use page::{Order, Page, Position};
pub use stream::{batch_of, rows_of, schema_of};
pub use times::{Gap, Gaps, Seen, Silence};
pub use which::{Among, Which};

/// One moment's files and rows in memory.
struct View {
    files: Arc<Contents>,
    memory: Memory,
}

/// The rows in memory: all, or one device's by frame and place.
enum Memory {
    All([Frames; 2]),
    Device(Vec<(Arc<DurableFrame>, usize)>),
}

impl View {
    fn memory(&self) -> Box<dyn Iterator<Item = &Row> + '_> {
        self.memory.rows()
    }
}

impl Memory {
    fn rows(&self) -> Box<dyn Iterator<Item = &Row> + '_> {
        match self {
            Self::All(frames) => {
                let frames = frames.iter().flatten().flat_map(|part| part.iter());
                Box::new(frames.flat_map(|frame| &frame.rows))
            }
            Self::Device(rows) => {
                Box::new(rows.iter().filter_map(|(frame, at)| frame.rows.get(*at)))
            }
        }
    }
}

impl Store {
    /// A device's rows with `from_ms <= effective time < to_ms`, ascending, the first `limit`.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn history(
        &self,
        imei: Imei,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
    ) -> Result<Vec<Row>, QueryError> {
        let which = Which { device: Some(imei), from_ms, to_ms, ..Which::default() };
        Ok(self.page(&which, Order::OldestFirst, None, limit, &Bounds::default())?.rows)
    }

    /// A device's row with the greatest effective time below `before_ms`; of several, the one that
    /// came last.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn latest(&self, imei: Imei, before_ms: i64) -> Result<Option<Row>, QueryError> {
        let which = Which { device: Some(imei), to_ms: before_ms, ..Which::default() };
        let page = self.page(&which, Order::NewestFirst, None, 1, &Bounds::default())?;
        Ok(page.rows.into_iter().next())
    }

    /// How many readings, of a kind or of all, have `from_ms <= effective time < to_ms`.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn count(&self, kind: Option<Kind>, from_ms: i64, to_ms: i64) -> Result<u64, QueryError> {
        if from_ms >= to_ms {
            return Ok(0);
        }
        let (view, _) = self.view_of(None);
        let wanted = |of: Kind| kind.is_none_or(|kind| kind == of);
        let span = from_ms..to_ms;
        let in_memory = view
            .memory()
            .filter(|row| wanted(row.reading.kind()))
            .filter(|row| span.contains(&row.reading.times.effective.ms()))
            .count();
        let mut rows = in_memory as u64;
        for file in view.files.files.values() {
            if !file.table.kind().is_some_and(wanted) {
                continue;
            }
            if span.contains(&file.min_ms) && span.contains(&file.max_ms) {
                rows += file.rows;
            } else if file.max_ms >= from_ms && file.min_ms < to_ms {
                rows += self.0.files.count(file, effective_range(from_ms, to_ms))?;
            }
        }
        Ok(rows)
    }

    /// Every stored reading of a frame above `after_lsn`, as stored, in no order, until `each`
    /// breaks off. Memory does not grow with the number of rows. Returns the lsn the answer is as of.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged; what was given until then is right.
    pub fn export(
        &self,
        after_lsn: u64,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<u64, QueryError> {
        let (view, as_of) = self.view_of(None);
        let range = Range { column: col::LSN, low: i128::from(after_lsn) + 1, high: i128::MAX };
        for file in view.files.files.values().filter(|file| file.max_lsn > after_lsn) {
            if file.table.kind().is_none() {
                continue;
            }
            let ranges = if file.min_lsn > after_lsn { &[][..] } else { &[range][..] };
            if self.rows_of(file, ranges, each)?.is_break() {
                return Ok(as_of);
            }
        }
        for row in view.memory().filter(|row| row.lsn > after_lsn) {
            if each(as_stored(row)).is_break() {
                break;
            }
        }
        Ok(as_of)
    }

    /// Whether a device's reading with this identity is stored (or in memory, on its way).
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn contains(
        &self,
        imei: Imei,
        boot_epoch: u32,
        seq: u64,
        kind: Kind,
        measured: Option<DeviceTime>,
    ) -> Result<bool, QueryError> {
        let same = |row: &Row| {
            let r = &row.reading;
            (r.boot_epoch, r.seq, r.kind(), r.times.measured) == (boot_epoch, seq, kind, measured)
        };
        let (view, _) = self.view_of(Some(imei));
        if view.memory().any(same) {
            return Ok(true);
        }
        let files = view.files;
        let mut ranges = vec![
            imei_range(imei),
            Range::exactly(col::SEQ, seq),
            Range::exactly(col::BOOT_EPOCH, boot_epoch),
        ];
        ranges.extend(measured.map(|t| Range::exactly(col::MEASURED, t.ms().saturating_mul(1000))));
        self.any(&files, kind, measured, &ranges, |file| holds(file.imei, imei.get()), same)
    }

    /// Whether a station's own figures with this identity are stored (or in memory, on their way).
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn contains_status(
        &self,
        station: &StationId,
        session: u32,
        seq: u64,
        measured: Option<DeviceTime>,
    ) -> Result<bool, QueryError> {
        let same = |row: &Row| {
            let r = &row.reading;
            (&row.station, row.session, r.seq, r.times.measured)
                == (station, session, seq, measured)
                && r.kind() == Kind::StationStatus
        };
        let (view, _) = self.view_of(None);
        if view.memory().any(same) {
            return Ok(true);
        }
        let mut ranges = vec![Range::exactly(col::SEQ, seq), Range::exactly(col::SESSION, session)];
        ranges.extend(measured.map(|t| Range::exactly(col::MEASURED, t.ms().saturating_mul(1000))));
        self.any(&view.files, Kind::StationStatus, measured, &ranges, |_| true, same)
    }

    /// A meter's intervals with `from_ms <= interval end < to_ms`, ascending: of each interval what
    /// was said last.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn water_intervals(
        &self,
        imei: Imei,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<WaterInterval>, QueryError> {
        let span = from_ms..to_ms;
        let mut found: BTreeMap<DeviceTime, WaterInterval> = BTreeMap::new();
        let mut put = |interval: WaterInterval| {
            let of = found.entry(interval.interval_end).or_insert_with(|| interval.clone());
            if of.lsn <= interval.lsn {
                *of = interval;
            }
        };
        let (view, _) = self.view_of(Some(imei));
        let ranges = [imei_range(imei), ms_range(col::INTERVAL_END, from_ms, to_ms)];
        for file in view.files.files.values() {
            let wanted = file.table == Table::WaterInterval
                && holds(file.imei, imei.get())
                && file.max_ms >= from_ms
                && file.min_ms < to_ms;
            if !wanted {
                continue;
            }
            let mut scan = self.0.files.scan(file, &ranges, None)?;
            while let Some(batch) = scan.next() {
                let intervals = decode::intervals(&batch?).map_err(|why| scan.corrupt(why))?;
                intervals.into_iter().for_each(&mut put);
            }
        }
        let in_memory = view.memory().flat_map(write::intervals_of);
        in_memory.filter(|i| span.contains(&i.interval_end.ms())).for_each(&mut put);
        Ok(found.into_values().collect())
    }

    /// The files and the rows in memory of a moment, of one device or of all, and up to which lsn
    /// they reach.
    fn view_of(&self, device: Option<Imei>) -> (View, u64) {
        let state = self.0.state.read();
        let flushing = state.flushing.as_deref();
        let memory = match device {
            None => {
                let flushing = flushing.map_or_else(Vec::new, |memtable| memtable.snapshot());
                Memory::All([flushing, state.active.snapshot()])
            }
            Some(imei) => {
                let flushing = flushing.into_iter().flat_map(|memtable| memtable.places_of(imei));
                Memory::Device(flushing.chain(state.active.places_of(imei)).collect())
            }
        };
        (View { files: Arc::clone(&state.files), memory }, state.position)
    }

    /// Whether a file of the kind has a row in all ranges that is the `same`.
    fn any(
        &self,
        files: &Contents,
        kind: Kind,
        measured: Option<DeviceTime>,
        ranges: &[Range],
        wanted: impl Fn(&FileEntry) -> bool,
        same: impl Fn(&Row) -> bool,
    ) -> Result<bool, QueryError> {
        for file in files.files.values().filter(|file| file.table.kind() == Some(kind)) {
            // The effective time, and with it the date, may come from another clock than the
            // measured one: only the file's range of measured times can pass it by.
            let can_hold = match measured {
                Some(measured) => holds(file.measured_ms, measured.ms()),
                None => file.unmeasured,
            };
            if !can_hold || !wanted(file) {
                continue;
            }
            let found = self.rows_of(file, ranges, &mut |row| match same(&row) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })?;
            if found.is_break() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows of a file of readings that lie in all ranges.
    fn rows_of(
        &self,
        file: &Arc<FileEntry>,
        ranges: &[Range],
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, QueryError> {
        let Some(kind) = file.table.kind() else { return Ok(ControlFlow::Continue(())) };
        let mut scan = self.0.files.scan(file, ranges, None)?;
        while let Some(batch) = scan.next() {
            for row in decode::readings(kind, &batch?).map_err(|why| scan.corrupt(why))? {
                if each(row).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn imei_range(imei: Imei) -> Range {
    Range::exactly(col::IMEI, imei.get())
}

fn effective_range(from_ms: i64, to_ms: i64) -> Range {
    ms_range(col::EFFECTIVE, from_ms, to_ms)
}

/// From inclusive to exclusive milliseconds, in a column of microseconds.
fn ms_range(column: &'static str, from_ms: i64, to_ms: i64) -> Range {
    Range { column, low: i128::from(from_ms) * 1000, high: i128::from(to_ms) * 1000 - 1 }
}

fn holds<T: PartialOrd>(range: Option<(T, T)>, value: T) -> bool {
    range.is_some_and(|(low, high)| low <= value && value <= high)
}

/// The row as it reads back from a file: when it was received is kept in microseconds.
fn as_stored(row: &Row) -> Row {
    let mut row = row.clone();
    let received = row.reading.times.received.ns();
    row.reading.times.received =
        ReceiveTime::from_ns(received.div_euclid(1000).saturating_mul(1000));
    row
}
