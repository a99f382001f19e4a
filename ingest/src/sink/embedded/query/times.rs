//! When a device or station was first and last heard of, and when it was silent.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use loushan_schemas::row::Row;

use super::super::scan::Wanted;
use super::super::schema as col;
use super::super::{QueryError, Store};
use super::bounds::Bounds;
use super::page::Order;
use super::which::Which;

/// Rows of times decoded at once.
const BATCH_ROWS: usize = 16 * 1024;

/// The first and the last of some readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// They; `None` when there are none.
    pub ends: Option<Box<(Row, Row)>>,
    /// Everything of the log up to here was looked at.
    pub as_of_lsn: u64,
}

/// Which silences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Silence {
    /// Those longer than so many milliseconds.
    LongerThan(i64),
    /// Those longer than so many times the usual one.
    TimesUsual(f64),
}

/// A time in which nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last reading before it.
    pub from_ms: i64,
    /// The first one after it; `None` where there is none until the end that was asked for.
    pub to_ms: Option<i64>,
    /// How long it was, or is by now.
    pub length_ms: i64,
}

/// Silences.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaps {
    /// They, in order.
    pub gaps: Vec<Gap>,
    /// How many readings there are at different times.
    pub readings: usize,
    /// The usual time between two of them, the median; `None` of fewer than two.
    pub usual_ms: Option<i64>,
    /// What a silence had to be longer than.
    pub longer_than_ms: Option<i64>,
    /// Everything of the log up to here was looked at.
    pub as_of_lsn: u64,
}

/// Readings before a span that tell how often they usually come, where those in it do not.
const LOOK_BACK: usize = 32;

impl Store {
    /// The first and the last of these readings by effective time.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged, or past the bounds.
    pub fn seen(&self, which: &Which, bounds: &Bounds) -> Result<Seen, QueryError> {
        let first = self.page(which, Order::OldestFirst, None, 1, bounds)?;
        let last = self.page(which, Order::NewestFirst, None, 1, bounds)?;
        // Rows come and never go while the store runs: where there is a first one there is a last.
        let ends = first.rows.into_iter().zip(last.rows).next().map(Box::new);
        Ok(Seen { ends, as_of_lsn: first.as_of_lsn })
    }

    /// Silences between these readings, whole: also the one that reaches over the beginning of the
    /// span, if there is a reading before it, and the one that reaches over its end, until the next
    /// reading or, if there is none yet, until that end or `now_ms`, whichever is sooner.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged, or past the bounds.
    pub fn gaps(
        &self,
        which: &Which,
        silence: Silence,
        now_ms: i64,
        bounds: &Bounds,
    ) -> Result<Gaps, QueryError> {
        let before = Which { from_ms: i64::MIN, to_ms: which.from_ms, ..which.clone() };
        let before = match which.from_ms {
            i64::MIN => Vec::new(),
            _ => self.page(&before, Order::NewestFirst, None, LOOK_BACK, bounds)?.rows,
        };
        let mut before: Vec<i64> =
            before.iter().map(|row| row.reading.times.effective.ms()).collect();
        before.sort_unstable();
        before.dedup();
        let (mut times, as_of_lsn) = self.times(which, bounds)?;
        let readings = times.len();
        // Of one that was silent throughout, what was usual before.
        let mut between: Vec<i64> = lengths(if readings > 1 { &times } else { &before }).collect();
        let usual_ms = middle(&mut between);
        let longer_than_ms = match silence {
            Silence::LongerThan(ms) => Some(ms),
            Silence::TimesUsual(factor) => usual_ms.map(|ms| times_of(ms, factor)),
        };
        if let Some(last) = before.last() {
            times.insert(0, *last);
        }
        let mut gaps = Vec::new();
        if let Some(longest) = longer_than_ms {
            let pairs = times.iter().zip(times.iter().skip(1)).zip(lengths(&times));
            for ((from_ms, to_ms), length_ms) in pairs.filter(|(_, length)| *length > longest) {
                gaps.push(Gap { from_ms: *from_ms, to_ms: Some(*to_ms), length_ms });
            }
            if let Some(last) = times.last().copied() {
                let after = Which { from_ms: which.to_ms, to_ms: i64::MAX, ..which.clone() };
                let to_ms = match which.to_ms < now_ms {
                    true => self.page(&after, Order::OldestFirst, None, 1, bounds)?.rows.pop(),
                    false => None,
                }
                .map(|row| row.reading.times.effective.ms());
                // One that goes on is told as far as was asked, so that a span has one answer.
                let until = to_ms.unwrap_or(which.to_ms.min(now_ms));
                if to_ms.unwrap_or(now_ms).saturating_sub(last) > longest {
                    let length_ms = until.saturating_sub(last);
                    gaps.push(Gap { from_ms: last, to_ms, length_ms });
                }
            }
        }
        Ok(Gaps { gaps, readings, usual_ms, longer_than_ms, as_of_lsn })
    }

    /// The times of these readings, rising, each once.
    fn times(&self, which: &Which, bounds: &Bounds) -> Result<(Vec<i64>, u64), QueryError> {
        let (view, as_of_lsn) = self.view_of(which.device);
        let mut budget = bounds.budget("ask for a shorter span of time, or raise query.memory");
        let mut times: Vec<i64> = Vec::new();
        let in_memory = view.memory().filter(|row| which.takes(row));
        times.extend(in_memory.map(|row| row.reading.times.effective.ms()));
        budget.take(times.len() * size_of::<i64>())?;
        for file in which.days(&view.files).into_values().flatten() {
            let ranges = which.ranges(file);
            let wanted = Wanted {
                columns: Some(&[col::EFFECTIVE]),
                batch_rows: BATCH_ROWS,
                ..which.wanted(&ranges)
            };
            let mut scan = self.0.files.read(file, wanted)?;
            loop {
                let _turn = bounds.turn()?;
                let Some(batch) = scan.next() else { break };
                let batch = batch?;
                let column = batch.column_by_name(col::EFFECTIVE);
                let column = column.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
                let column =
                    column.ok_or_else(|| scan.corrupt("column effective is no time".to_owned()))?;
                budget.take(batch.num_rows() * size_of::<i64>())?;
                times.extend(column.values().iter().map(|micros| micros.div_euclid(1000)));
            }
        }
        times.sort_unstable();
        times.dedup();
        Ok((times, as_of_lsn))
    }
}

fn lengths(times: &[i64]) -> impl Iterator<Item = i64> + '_ {
    times.iter().zip(times.iter().skip(1)).map(|(from, to)| to - from)
}

/// The median, the lower one of two.
fn middle(values: &mut [i64]) -> Option<i64> {
    let at = values.len().checked_sub(1)? / 2;
    let (_, middle, _) = values.select_nth_unstable(at);
    Some(*middle)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a time in ms, below 2^53
fn times_of(ms: i64, factor: f64) -> i64 {
    (ms as f64 * factor) as i64
}
