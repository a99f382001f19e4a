//! Pages of readings in the order of their times.
//!
//! A page ends at a [`Position`], which is a row's own place in that order and no place in a file: a
//! flush or a compaction between two pages moves rows, not positions. Rows of later frames than the
//! first page knew are kept out by [`Which::up_to_lsn`], so that the pages together are one moment's
//! answer, each row in it once.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use loushan_schemas::row::Row;

use super::super::manifest::{DAY_MS, FileEntry};
use super::super::scan::Wanted;
use super::super::schema as col;
use super::super::{QueryError, Store, decode};
use super::as_stored;
use super::bounds::Bounds;
use super::which::Which;

/// Bytes a row of a page may take in memory, about: its struct, lists and names among them.
const ROW_BYTES: usize = size_of::<Row>() + size_of::<Position>() + 160;
/// Rows of a file for each row of the page from which it is worth looking at the times alone first.
const LOOK_AHEAD: u64 = 4;
/// Rows of times looked at at once.
const TIMES: usize = 16 * 1024;

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By rising effective time.
    OldestFirst,
    /// By falling effective time.
    NewestFirst,
}

/// A reading's place among all readings. No two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its effective time, in Unix milliseconds.
    pub effective_ms: i64,
    /// Its frame.
    pub lsn: u64,
    /// Its kind's number.
    pub kind: u8,
    /// Its device; 0 for a station's own figures.
    pub imei: u64,
    /// The device's reboots.
    pub boot_epoch: u32,
    /// The device's or station's counter.
    pub seq: u64,
    /// The measured time, in Unix milliseconds; -1 where it is absent.
    pub measured_ms: i64,
}

impl Position {
    /// The place of a row. Of one frame all rows are one station's and one session's, and no two
    /// readings of it have the same identity.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        let r = &row.reading;
        Self {
            effective_ms: r.times.effective.ms(),
            lsn: row.lsn,
            kind: r.kind().number(),
            imei: r.imei.map_or(0, loushan_schemas::ids::Imei::get),
            boot_epoch: r.boot_epoch,
            seq: r.seq,
            measured_ms: r.times.measured.map_or(-1, loushan_schemas::time::DeviceTime::ms),
        }
    }
}

/// Some rows, and where they go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The rows, in the order asked for.
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` when there is nothing more.
    pub next: Option<Position>,
    /// Everything of the log up to here was looked at.
    pub as_of_lsn: u64,
}

/// The first rows of an order, and one more, by which one knows that there are more.
struct Kept {
    rows: BTreeMap<Position, Row>,
    order: Order,
    after: Option<Position>,
    most: usize,
}

impl Kept {
    /// Whether a row of this place would be kept.
    fn wants(&self, at: &Position) -> bool {
        let full = self.rows.len() >= self.most;
        match self.order {
            Order::OldestFirst => {
                self.after.is_none_or(|after| *at > after)
                    && !(full && self.rows.last_key_value().is_some_and(|(last, _)| at > last))
            }
            Order::NewestFirst => {
                self.after.is_none_or(|after| *at < after)
                    && !(full && self.rows.first_key_value().is_some_and(|(last, _)| at < last))
            }
        }
    }

    fn offer(&mut self, row: Row) {
        let at = Position::of(&row);
        if !self.wants(&at) {
            return;
        }
        self.rows.insert(at, row);
        if self.rows.len() > self.most {
            drop(match self.order {
                Order::OldestFirst => self.rows.pop_last(),
                Order::NewestFirst => self.rows.pop_first(),
            });
        }
    }

    /// The time of the last row, once there are enough: nothing beyond it is wanted.
    fn bound(&self) -> Option<i64> {
        let last = match self.order {
            Order::OldestFirst => self.rows.last_key_value(),
            Order::NewestFirst => self.rows.first_key_value(),
        };
        last.filter(|_| self.rows.len() >= self.most).map(|(at, _)| at.effective_ms)
    }

    /// What is left of a span of time.
    fn narrow(&self, (from_ms, to_ms): (i64, i64)) -> (i64, i64) {
        match (self.order, self.bound()) {
            (_, None) => (from_ms, to_ms),
            (Order::OldestFirst, Some(bound)) => (from_ms, to_ms.min(bound.saturating_add(1))),
            (Order::NewestFirst, Some(bound)) => (from_ms.max(bound), to_ms),
        }
    }
}

impl Store {
    /// The first `limit` of these readings behind `after`, in that order.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged, or past the bounds.
    pub fn page(
        &self,
        which: &Which,
        order: Order,
        after: Option<Position>,
        limit: usize,
        bounds: &Bounds,
    ) -> Result<Page, QueryError> {
        let (view, as_of_lsn) = self.view_of(which.device);
        let as_of_lsn = as_of_lsn.min(which.up_to_lsn);
        let mut which = which.clone();
        match (order, after) {
            (_, None) => {}
            (Order::OldestFirst, Some(at)) => which.from_ms = which.from_ms.max(at.effective_ms),
            (Order::NewestFirst, Some(at)) => {
                which.to_ms = which.to_ms.min(at.effective_ms.saturating_add(1));
            }
        }
        if which.from_ms >= which.to_ms || limit == 0 {
            return Ok(Page { rows: Vec::new(), next: None, as_of_lsn });
        }
        let mut budget = bounds.budget("lower limit, and ask for the next page");
        budget.take(limit.saturating_add(1).saturating_mul(ROW_BYTES))?;
        let mut kept = Kept { rows: BTreeMap::new(), order, after, most: limit.saturating_add(1) };
        for (at, row) in view.memory().enumerate() {
            if at % TIMES == 0 {
                bounds.stop.check()?;
            }
            // Copied only when it will be kept: there may be many.
            if which.takes(row) && kept.wants(&Position::of(row)) {
                kept.offer(as_stored(row));
            }
        }
        let mut days: Vec<_> = which.days(&view.files).into_iter().collect();
        if order == Order::NewestFirst {
            days.reverse();
        }
        // Day by day, so that a limit also bounds what is read.
        for (day, files) in days {
            let span = (which.from_ms, which.to_ms);
            let (from_ms, to_ms) = kept.narrow(span);
            let begin = day.saturating_mul(DAY_MS);
            if begin >= to_ms || begin.saturating_add(DAY_MS) <= from_ms {
                break;
            }
            for file in files {
                self.offer_file(file, &which, &mut kept, bounds)?;
            }
        }
        Ok(finish(kept, limit, as_of_lsn))
    }

    fn offer_file(
        &self,
        file: &Arc<FileEntry>,
        which: &Which,
        kept: &mut Kept,
        bounds: &Bounds,
    ) -> Result<(), QueryError> {
        let Some(kind) = file.table.kind() else { return Ok(()) };
        let (from_ms, to_ms) = kept.narrow((which.from_ms, which.to_ms));
        let mut which = Which { from_ms, to_ms, ..which.clone() };
        // A file is sorted by device: of many devices, the first rows in time are all over it. Their
        // times alone are quick to read, and then say which rows are worth all their columns.
        if which.device.is_none() && file.rows / LOOK_AHEAD > kept.most as u64 {
            self.look_ahead(file, &mut which, kept, bounds)?;
        }
        let ranges = which.ranges(file);
        let mut scan = self.0.files.read(file, which.wanted(&ranges))?;
        loop {
            let _turn = bounds.turn()?;
            let Some(batch) = scan.next() else { return Ok(()) };
            for row in decode::readings(kind, &batch?).map_err(|why| scan.corrupt(why))? {
                kept.offer(row);
            }
        }
    }

    /// Narrows the span to what the file's own first rows span.
    fn look_ahead(
        &self,
        file: &Arc<FileEntry>,
        which: &mut Which,
        kept: &Kept,
        bounds: &Bounds,
    ) -> Result<(), QueryError> {
        let ranges = which.ranges(file);
        let wanted =
            Wanted { columns: Some(&[col::EFFECTIVE]), batch_rows: TIMES, ..which.wanted(&ranges) };
        // Of the rows of the very time the last page ended at some may be wanted or none: they are not
        // counted, and all of them read.
        let at_end = kept.after.map(|after| after.effective_ms);
        let most = kept.most;
        let mut scan = self.0.files.read(file, wanted)?;
        let mut first: BinaryHeap<i64> = BinaryHeap::new();
        let sign = if kept.order == Order::NewestFirst { -1 } else { 1 };
        loop {
            let _turn = bounds.turn()?;
            let Some(batch) = scan.next() else { break };
            let batch = batch?;
            let times = batch.column_by_name(col::EFFECTIVE);
            let times = times.and_then(|t| t.as_primitive_opt::<TimestampMicrosecondType>());
            let times = times.ok_or_else(|| scan.corrupt("column effective is none".to_owned()))?;
            for micros in times.values() {
                let ms = micros.div_euclid(1000);
                if at_end == Some(ms) {
                    continue;
                }
                let ms = ms * sign;
                if first.len() < most {
                    first.push(ms);
                } else if first.peek().is_some_and(|last| ms < *last) {
                    first.pop();
                    first.push(ms);
                }
            }
        }
        if first.len() < most {
            return Ok(());
        }
        match (kept.order, first.peek()) {
            (_, None) => {}
            (Order::OldestFirst, Some(last)) => {
                which.to_ms = which.to_ms.min(last.saturating_add(1));
            }
            (Order::NewestFirst, Some(last)) => which.from_ms = which.from_ms.max(-last),
        }
        Ok(())
    }
}

fn finish(kept: Kept, limit: usize, as_of_lsn: u64) -> Page {
    let more = kept.rows.len() > limit;
    let mut rows: Vec<Row> = match kept.order {
        Order::OldestFirst => kept.rows.into_values().collect(),
        Order::NewestFirst => kept.rows.into_values().rev().collect(),
    };
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(Position::of);
    Page { rows, next, as_of_lsn }
}
