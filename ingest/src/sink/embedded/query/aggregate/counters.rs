//! What counters counted, and how fast.
//!
//! A device's values are put in the order of their times, and each is held against the one before it:
//!
//! | the next value | is |
//! |---|---|
//! | greater or equal | an increase by the difference |
//! | less, the one before within 1 % of the modulus | a rollover: an increase past the modulus |
//! | less otherwise | a reset, or another meter: nothing is known of the time between them |
//! | more than can flow through the pipe in the time | another meter, likewise (a meter's volume) |
//!
//! An increase is spread evenly over the time between its two readings, so that bins say together
//! exactly what was counted, and a gap is neither a lull nor a burst at its end. Of a pair that reaches
//! over an end of the span the part inside counts; therefore spans that follow each other add up to
//! the whole. For that, readings up to [`REACH_MS`] outside of the span are looked at. A silence that is
//! longer than that counts where both its ends are seen: in the span that has it whole, or one of its
//! ends and the other within reach; days within it have nothing, and do not add up to it.
//!
//! A rate is an increase over the time *that is known of*: the time after a reset, before the first
//! reading and after the last has none. A group's rate is the sum of its devices'. To which station an
//! increase belongs, the later reading says.
//!
//! # Memory
//! Values are kept by device until all its readings are there. When they are more than the budget
//! allows, the devices with the greatest numbers are let go and looked at in a further pass; files are
//! sorted by device, so a pass begins at its first device's page and ends with its last one's.

use std::collections::{BTreeMap, HashSet};

use loushan_schemas::field::{Counter, Field};
use loushan_schemas::kind::Kind;
use loushan_schemas::limits::{WATER_MODULUS_L, WATER_Q4_L_H};

use super::super::super::scan::Range;
use super::super::super::schema as col;
use super::columns::{Columns, Place, Plan};
use super::{Aggregate, Asked, BATCH_ROWS, By, QueryError, Which, read};

/// How far outside of the span readings are looked for that reach into it: meters report once a day,
/// and one report may be missing.
const REACH_MS: i64 = 49 * 3600 * 1000;
/// Part of the modulus, at its end, from which a counter may have turned over.
const ROLLOVER_ZONE: i64 = 100;
/// Litres a meter may show more than flowed: the coarsest register counts in tens.
const REGISTER_STEP_L: i64 = 10;
const HOUR_MS: i128 = 3_600_000;
/// Bins filled between two looks whether the question is to end.
const BINS_UNLOOKED: usize = 4096;

/// A value of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    at_ms: i64,
    lsn: u64,
    value: i64,
    /// The station's number, where it matters.
    station: u64,
}

/// What was counted from one reading to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Increase {
    from_ms: i64,
    to_ms: i64,
    by: i64,
    station: u64,
}

/// Takes in what the field's counters counted.
pub(super) fn count(
    asked: &mut Asked<'_>,
    kind: Kind,
    field: &'static Field,
    counter: Counter,
) -> Result<(), QueryError> {
    let Some(place) = Place::of(kind, field) else { return Ok(()) };
    let question = asked.question;
    // The station is looked at where an increase is put: a device may move between stations.
    let only: Option<HashSet<u64>> = match (&question.which.station, &question.which.among) {
        (None, None) => None,
        (Some(station), _) if question.which.is_of(station.as_str()) => {
            Some(HashSet::from([asked.names.number(station.as_str())]))
        }
        (Some(_), _) => return Ok(()),
        (None, Some(among)) => Some(among.iter().map(|name| asked.names.number(name)).collect()),
    };
    let which = Which {
        kind: Some(kind),
        station: None,
        among: None,
        from_ms: question.which.from_ms.saturating_sub(REACH_MS),
        to_ms: question.which.to_ms.saturating_add(REACH_MS),
        ..question.which.clone()
    };
    let rules = Rules {
        modulus: counter.modulus,
        is_volume: kind == Kind::Water && field.name == "total_l",
    };
    let mut low = 0;
    loop {
        // Half of what is left: the other half is for the cells.
        let share = asked.budget.left() / 2;
        asked.budget.take(share)?;
        let mut series = Series { low, end: u64::MAX, ..Series::of(share) };
        gather(asked, &which, kind, field, place, &mut series)?;
        let Series { end, points, .. } = series;
        for (device, mut points) in points {
            asked.bounds.stop.check()?;
            let increases = increases(&mut points, rules);
            spread(asked, kind, device, only.as_ref(), &increases)?;
        }
        asked.budget.give_back(share);
        if end == u64::MAX {
            return Ok(());
        }
        low = end;
    }
}

/// Values by device, of the devices from `low` up to `end`, which comes down when there are too many.
#[derive(Debug)]
struct Series {
    low: u64,
    end: u64,
    points: BTreeMap<u64, Vec<Point>>,
    /// Bytes that may be taken, and that are.
    share: usize,
    bytes: usize,
}

impl Series {
    const fn of(share: usize) -> Self {
        Self { low: 0, end: u64::MAX, points: BTreeMap::new(), share, bytes: 0 }
    }

    /// `false` when not even one device's values fit.
    fn put(&mut self, device: u64, point: Point) -> bool {
        if device < self.low || device >= self.end {
            return true;
        }
        let points = self.points.entry(device).or_default();
        if points.len() == points.capacity() {
            let more = points.capacity().max(8);
            points.reserve_exact(more);
            self.bytes += more * size_of::<Point>();
            while self.bytes > self.share {
                if self.points.len() < 2 {
                    return false;
                }
                let Some((last, points)) = self.points.pop_last() else { return false };
                self.bytes -= points.capacity() * size_of::<Point>();
                self.end = last;
                if last == device {
                    return true;
                }
            }
        }
        self.points.entry(device).or_default().push(point);
        true
    }
}

fn gather(
    asked: &mut Asked<'_>,
    which: &Which,
    kind: Kind,
    field: &'static Field,
    place: Place,
    series: &mut Series,
) -> Result<(), QueryError> {
    let needs_station = asked.question.by == By::Station || asked.question.which.names_stations();
    for (at, row) in asked.view.memory().enumerate() {
        if at % BATCH_ROWS == 0 {
            asked.bounds.stop.check()?;
        }
        if !which.takes(row) {
            continue;
        }
        let Some(value) = place.value(row) else { continue };
        let device = match row.reading.imei {
            Some(imei) => imei.get(),
            None => asked.names.number(row.station.as_str()),
        };
        let station = if needs_station { asked.names.number(row.station.as_str()) } else { 0 };
        let at_ms = row.reading.times.effective.ms();
        let point = Point { at_ms, lsn: row.lsn, value: whole(value), station };
        if !series.put(device, point) {
            return Err(asked.budget.exceeded());
        }
    }
    for file in asked.files(kind, which) {
        if file.imei.is_some_and(|(low, high)| low >= series.end || high < series.low) {
            continue;
        }
        let mut plan = Plan::new(which, &file, By::Device, kind);
        plan.lsn = true;
        plan.station |= needs_station;
        let Asked { store, bounds, names, budget, .. } = &mut *asked;
        let mut ranges = which.ranges(&file);
        if series.low > 0 && kind != Kind::StationStatus {
            ranges.push(Range { column: col::IMEI, low: series.low.into(), high: i128::MAX });
        }
        read(store, bounds, &file, which, &ranges, &plan.columns(field.name), |batch| {
            let Some(columns) = Columns::of(batch, field, plan)? else { return Ok(false) };
            let mut named: (&str, u64) = ("", 0);
            columns.each_value(which, |i, at_ms, value| {
                let station = if plan.station {
                    let station = columns.station(i);
                    if named.1 == 0 || named.0 != station {
                        named = (station, names.number(station));
                    }
                    named.1
                } else {
                    0
                };
                let device = match kind {
                    Kind::StationStatus => station,
                    _ => columns.imei(i),
                };
                if kind != Kind::StationStatus && device >= series.end {
                    // Sorted by device: the rest is for another pass.
                    return Ok(false);
                }
                let point = Point { at_ms, lsn: columns.lsn(i), value: whole(value), station };
                if !series.put(device, point) {
                    return Err(budget.exceeded().into());
                }
                Ok(true)
            })
        })?;
    }
    Ok(())
}

/// Counters are whole numbers below 2^53, or are impossible and fall out by that.
#[allow(clippy::cast_possible_truncation)]
fn whole(value: f64) -> i64 {
    value as i64
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    modulus: Option<i64>,
    is_volume: bool,
}

/// What was counted between the points, which are put in order.
fn increases(points: &mut Vec<Point>, rules: Rules) -> Vec<Increase> {
    let end = rules.modulus.unwrap_or(i64::MAX);
    // A value that cannot be counts nothing.
    points.retain(|point| (0..end).contains(&point.value));
    points.sort_unstable();
    // Of several readings of one moment the one that came last stands.
    points.dedup_by(|later, earlier| {
        let same = later.at_ms == earlier.at_ms;
        if same {
            *earlier = *later;
        }
        same
    });
    let pairs = points.iter().zip(points.iter().skip(1));
    pairs
        .filter_map(|(before, after)| {
            let turned = rules.modulus.filter(|m| before.value >= m - m / ROLLOVER_ZONE);
            let by = match (after.value < before.value, turned) {
                (false, _) => after.value - before.value,
                (true, Some(modulus)) => modulus - before.value + after.value,
                (true, None) => return None,
            };
            let (from_ms, to_ms) = (before.at_ms, after.at_ms);
            if rules.is_volume && outruns_pipe(by, to_ms.saturating_sub(from_ms)) {
                return None;
            }
            Some(Increase { from_ms, to_ms, by, station: after.station })
        })
        .collect()
}

/// Whether so many litres are more than can have passed in the time.
fn outruns_pipe(litres: i64, ms: i64) -> bool {
    i128::from(litres - REGISTER_STEP_L) * HOUR_MS > i128::from(WATER_Q4_L_H) * i128::from(ms)
}

/// Puts a device's increases into the cells they reach into.
#[allow(clippy::cast_precision_loss)] // times and volumes end far below 2^53
fn spread(
    asked: &mut Asked<'_>,
    kind: Kind,
    device: u64,
    only: Option<&HashSet<u64>>,
    increases: &[Increase],
) -> Result<(), QueryError> {
    let Aggregate { which, bins, by, per_ms, .. } = asked.question;
    // Of the device, in one cell: what it counted, in how much time.
    let mut open: Option<((u64, i64), f64, i64)> = None;
    let mut unlooked = 0;
    let close = |asked: &mut Asked<'_>, open: Option<((u64, i64), f64, i64)>| match open {
        None => Ok(()),
        Some((cell, by, ms)) => {
            let rate = by / ms as f64 * *per_ms as f64;
            asked.cells.count(cell, by, rate, &mut asked.budget)
        }
    };
    let mut increases: Vec<&Increase> =
        increases.iter().filter(|i| only.is_none_or(|of| of.contains(&i.station))).collect();
    if matches!(by, By::Station) {
        // A cell is closed once: a device that is heard by two stations in turn goes to and fro.
        increases.sort_by_key(|increase| increase.station);
    }
    for increase in increases {
        let group = match by {
            By::Nothing => 0,
            By::Kind => kind.number().into(),
            By::Device => device,
            By::Station if kind == Kind::StationStatus => device,
            By::Station => increase.station,
        };
        let length = (increase.to_ms - increase.from_ms) as f64;
        let end = increase.to_ms.min(which.to_ms);
        let mut at = increase.from_ms.max(which.from_ms);
        while at < end {
            unlooked += 1;
            if unlooked % BINS_UNLOOKED == 0 {
                asked.bounds.stop.check()?;
            }
            let (start, until) = match bins {
                None => (which.from_ms, end),
                Some(bins) => {
                    let start = bins.start(at);
                    (start, bins.end(start).min(end))
                }
            };
            let part = increase.by as f64 * ((until - at) as f64 / length);
            open = match open {
                Some((cell, by, ms)) if cell == (group, start) => {
                    Some((cell, by + part, ms + (until - at)))
                }
                other => {
                    close(asked, other)?;
                    Some(((group, start), part, until - at))
                }
            };
            at = until;
        }
    }
    close(asked, open)
}

/// The greatest modulus there is fits what [`whole`] keeps exactly.
const _: () = assert!(WATER_MODULUS_L < 1 << 53);

#[cfg(test)]
#[path = "counters_tests.rs"]
mod tests;
