//! Questions beside a list of the rows: wherever the rows are, in files or in memory, the answer is that
//! of the list.

use std::collections::BTreeMap;
use std::sync::Arc;

use loushan_schemas::kind::Kind;
use loushan_schemas::limits::WATER_MODULUS_L;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::Body;
use loushan_schemas::row::Row;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::query::{
    Aggregate, Bins, Bounds, By, Function, Group, Order, Position, Silence, Which,
};
use super::support::{DAY, DAY_MS, Driven, cases, frame, imei, row, rows_of};
use crate::io::sim::SimIo;
use crate::pipeline::frame::DurableFrame;

const HOUR: i64 = 3_600_000;

/// A reading of a meter or a lamp, of values whose sums are exact.
fn any_reading() -> impl Strategy<Value = Row> {
    let total = prop_oneof![
        6 => 0..40_i64,
        2 => (WATER_MODULUS_L - 30)..WATER_MODULUS_L,
        1 => Just(-5_i64),
        1 => Just(WATER_MODULUS_L + 1),
    ];
    let fields = (option::of(total), option::of(-20..20_i32), 1..5_u8, any::<bool>());
    // Half of the times on the hour: bins begin there.
    let at = prop_oneof![0..3 * DAY_MS, (0..72_i64).prop_map(|hour| hour * HOUR)];
    (0..5_u64, 0..3_u64, any::<u64>(), at, fields).prop_map(
        |(device, station, seq, at, (total, flow, quality, lamp))| {
            let kind = if lamp { Kind::StreetLight } else { Kind::Water };
            let mut row = row(kind, device, seq, DAY + at);
            row.station = loushan_schemas::ids::StationId::new(&format!("bs{station}")).unwrap();
            row.reading.quality = Quality::from_number(quality).unwrap();
            row.reading.common.battery_pct = flow.map(|flow| f64::from(flow) * 0.25);
            match &mut row.reading.body {
                Body::Water(water) => {
                    water.total_l = total;
                    water.flow_l_h = flow.map(|flow| f64::from(flow) * 0.5);
                }
                Body::StreetLight(lamp) => lamp.energy_wh = total,
                _ => {}
            }
            row
        },
    )
}

/// Frames, and after which of them is flushed.
fn any_frames() -> impl Strategy<Value = Vec<(Vec<Row>, bool)>> {
    vec((vec(any_reading(), 0..12), proptest::bool::weighted(0.4)), 1..8)
}

fn any_which() -> impl Strategy<Value = Which> {
    let kind = option::of(prop_oneof![Just(Kind::Water), Just(Kind::StreetLight)]);
    let from = prop_oneof![Just(i64::MIN), DAY - HOUR..DAY + 3 * DAY_MS];
    let to = prop_oneof![Just(i64::MAX), DAY..DAY + 4 * DAY_MS];
    let station = option::of(0..3_u64);
    let name = |n: u64| -> Arc<str> { format!("bs{n}").into() };
    let among = option::of(proptest::collection::btree_set((0..4_u64).prop_map(name), 0..3));
    (option::of(0..6_u64), station, among, kind, from, to, 1..5_u8).prop_map(
        |(device, station, among, kind, from_ms, to_ms, quality)| Which {
            device: device.map(imei),
            station: station
                .map(|n| loushan_schemas::ids::StationId::new(&format!("bs{n}")).unwrap()),
            among: among.map(Arc::new),
            kind,
            from_ms,
            to_ms,
            min_quality: Quality::from_number(quality).unwrap(),
            ..Which::default()
        },
    )
}

/// A store with these frames, one after the other, flushed or not; and what it was given.
fn filled(frames: &[(Vec<Row>, bool)]) -> (Driven, Vec<Arc<DurableFrame>>) {
    let mut driven = Driven::open(SimIo::new());
    let mut log = Vec::new();
    for ((rows, flush), lsn) in frames.iter().zip(1..) {
        let frame = frame(lsn, rows.clone());
        driven.push(&[Arc::clone(&frame)]);
        log.push(frame);
        if *flush {
            driven.flush().unwrap();
        }
    }
    (driven, log)
}

fn of(which: &Which, log: &[Arc<DurableFrame>]) -> Vec<Row> {
    let mut rows: Vec<Row> = rows_of(log).into_iter().filter(|row| which.takes(row)).collect();
    rows.sort_by_key(Position::of);
    rows
}

fn at(row: &Row) -> i64 {
    row.reading.times.effective.ms()
}

fn value(row: &Row, field: &str) -> Option<f64> {
    let found = row.reading.values().find(|(of, _)| of.name == field);
    found.and_then(|(_, value)| value.as_number())
}

fn group(row: &Row, by: By) -> Group {
    match by {
        By::Nothing => Group::All,
        By::Device => Group::Device(row.reading.imei.unwrap().get()),
        By::Station => Group::Station(row.station.clone()),
        By::Kind => Group::Kind(row.reading.kind()),
    }
}

type Cells = BTreeMap<(Group, i64), Vec<Option<f64>>>;

fn plain_figures(question: &Aggregate, log: &[Arc<DurableFrame>]) -> Cells {
    let mut values: BTreeMap<(Group, i64), Vec<f64>> = BTreeMap::new();
    // In the order of their times, so that first and last are the ends.
    for row in of(&question.which, log) {
        let Some(value) = value(&row, question.field) else { continue };
        let start = question.bins.map_or(question.which.from_ms, |bins| bins.start(at(&row)));
        values.entry((group(&row, question.by), start)).or_default().push(value);
    }
    let figures = |values: Vec<f64>| {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = |part: f64| sorted[((part * sorted.len() as f64).ceil() as usize).max(1) - 1];
        let sum: f64 = values.iter().sum();
        question
            .functions
            .iter()
            .map(|function| {
                Some(match function {
                    Function::Count => values.len() as f64,
                    Function::Sum => sum,
                    Function::Mean => sum / values.len() as f64,
                    Function::Min => sorted[0],
                    Function::Max => sorted[sorted.len() - 1],
                    Function::First => values[0],
                    Function::Last => values[values.len() - 1],
                    Function::Quantile(part) => rank(*part),
                    Function::Increase | Function::Rate => unreachable!(),
                })
            })
            .collect()
    };
    values.into_iter().map(|(cell, values)| (cell, figures(values))).collect()
}

/// Increase and rate of a counter, minute by minute of time instead of by arithmetic: what each
/// millisecond-wide slice has of an increase, summed up.
fn counted(question: &Aggregate, log: &[Arc<DurableFrame>]) -> BTreeMap<(Group, i64), (f64, f64)> {
    let which = &question.which;
    let wide = Which {
        station: None,
        among: None,
        from_ms: which.from_ms.saturating_sub(49 * HOUR),
        to_ms: which.to_ms.saturating_add(49 * HOUR),
        ..which.clone()
    };
    let mut devices: BTreeMap<(Kind, u64), BTreeMap<i64, (i64, Row)>> = BTreeMap::new();
    for row in of(&wide, log) {
        let Some(value) = value(&row, question.field) else { continue };
        let value = value as i64;
        let kind = row.reading.kind();
        if value < 0 || (kind == Kind::Water && value >= WATER_MODULUS_L) {
            continue;
        }
        let device = devices.entry((kind, row.reading.imei.unwrap().get())).or_default();
        device.insert(at(&row), (value, row));
    }
    let mut cells: BTreeMap<(Group, i64), (f64, f64)> = BTreeMap::new();
    for ((kind, _), values) in devices {
        let mut mine: BTreeMap<(Group, i64), (f64, f64)> = BTreeMap::new();
        let values: Vec<(i64, (i64, Row))> = values.into_iter().collect();
        for pair in values.windows(2) {
            let [(t0, (v0, _)), (t1, (v1, row))] = pair else { unreachable!() };
            let by = match (v1 >= v0, kind) {
                (true, _) => v1 - v0,
                (false, Kind::Water) if *v0 >= WATER_MODULUS_L / 100 * 99 => {
                    WATER_MODULUS_L - v0 + v1
                }
                (false, _) => continue,
            };
            let hours = (t1 - t0) as f64 / HOUR as f64;
            if kind == Kind::Water
                && question.field == "total_l"
                && (by - 10) as f64 > 3125.0 * hours
            {
                continue;
            }
            if !which.is_of(row.station.as_str()) {
                continue;
            }
            let mut edge = *t0;
            while edge < *t1 {
                let next = question.bins.map_or(*t1, |bins| bins.end(bins.start(edge)).min(*t1));
                // Cut at the ends of the span.
                let (from, to) = (edge.max(which.from_ms), next.min(which.to_ms));
                if from < to {
                    let start = question.bins.map_or(which.from_ms, |bins| bins.start(edge));
                    let cell = mine.entry((group(row, question.by), start)).or_default();
                    cell.0 += by as f64 * (to - from) as f64 / (t1 - t0) as f64;
                    cell.1 += (to - from) as f64;
                }
                edge = next;
            }
        }
        for (cell, (by, ms)) in mine {
            let of = cells.entry(cell).or_default();
            of.0 += by;
            of.1 += by / ms * question.per_ms as f64;
        }
    }
    cells
}

pub(super) fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn figures_are_those_of_a_list(
        frames in any_frames(),
        which in any_which(),
        field in prop_oneof![Just("flow_l_h"), Just("battery_pct"), Just("total_l"), Just("energy_wh")],
        every in option::of(prop_oneof![Just(HOUR), Just(DAY_MS), Just(7 * HOUR), 1000..5 * DAY_MS]),
        zone in -12..13_i64,
        by in prop_oneof![Just(By::Nothing), Just(By::Device), Just(By::Station), Just(By::Kind)],
    ) {
        let (driven, log) = filled(&frames);
        let bins = every.map(|every| Bins::new(every, zone * HOUR));
        let functions = vec![
            Function::Count, Function::Sum, Function::Mean, Function::Min, Function::Max,
            Function::First, Function::Last, Function::Quantile(0.5), Function::Quantile(0.95),
        ];
        let mut question = Aggregate { which, field, functions, bins, by, per_ms: 1000 };
        let found = driven.store.aggregate(&question, &Bounds::default()).unwrap();
        let mine = plain_figures(&question, &log);
        let cells: Cells =
            found.cells.iter().map(|c| ((c.group.clone(), c.start_ms), c.values.clone())).collect();
        prop_assert_eq!(cells.len(), found.cells.len());
        prop_assert_eq!(&cells, &mine);
        prop_assert!(!found.approximate);
        if field == "total_l" || field == "energy_wh" {
            question.functions = vec![Function::Increase, Function::Rate];
            let found = driven.store.aggregate(&question, &Bounds::default()).unwrap();
            let mine = counted(&question, &log);
            prop_assert_eq!(found.cells.len(), mine.len());
            for (cell, (key, (by, rate))) in found.cells.iter().zip(&mine) {
                prop_assert_eq!(&(cell.group.clone(), cell.start_ms), key);
                prop_assert!(near(cell.values[0].unwrap(), *by), "{:?} {}", cell, by);
                prop_assert!(near(cell.values[1].unwrap(), *rate), "{:?} {}", cell, rate);
            }
        }
    }

    #[test]
    fn pages_together_are_the_answer_of_the_moment_of_the_first_whatever_comes_between(
        frames in any_frames(),
        later in vec((any_frames(), any::<bool>()), 0..6),
        which in any_which(),
        newest_first in any::<bool>(),
        limit in 1..9_usize,
    ) {
        let (mut driven, log) = filled(&frames);
        let mut expected = of(&which, &log);
        let order = if newest_first { Order::NewestFirst } else { Order::OldestFirst };
        if newest_first {
            expected.reverse();
        }
        let mut which = which;
        let (mut rows, mut after, mut lsn) = (Vec::new(), None, frames.len() as u64);
        let mut later = later.into_iter();
        loop {
            let page = driven.store.page(&which, order, after, limit, &Bounds::default()).unwrap();
            prop_assert!(page.rows.len() <= limit);
            rows.extend(page.rows);
            which.up_to_lsn = page.as_of_lsn;
            after = page.next;
            if after.is_none() {
                break;
            }
            if let Some((frames, flush)) = later.next() {
                for (rows, _) in frames {
                    lsn += 1;
                    driven.push(&[frame(lsn, rows)]);
                }
                if flush {
                    driven.flush().unwrap();
                }
            }
        }
        prop_assert_eq!(rows, expected);
    }

    #[test]
    fn what_is_streamed_is_every_row_once(frames in any_frames(), which in any_which()) {
        let (driven, log) = filled(&frames);
        for kind in [Kind::Water, Kind::StreetLight] {
            let mut rows = Vec::new();
            driven.store.stream(kind, &which, &Bounds::default(), &mut |batch| {
                rows.extend(super::super::query::rows_of(kind, &batch).unwrap());
                std::ops::ControlFlow::Continue(())
            }).unwrap();
            rows.sort_by_key(Position::of);
            let mine = Which { kind: Some(kind), ..which.clone() };
            let mine = if which.kind.is_none_or(|of| of == kind) { of(&mine, &log) } else { continue };
            prop_assert_eq!(rows, mine);
        }
    }

    #[test]
    fn ends_gaps_and_latest_are_those_of_a_list(
        frames in any_frames(), which in any_which(), longest in 1..2 * DAY_MS, now in 0..5 * DAY_MS,
    ) {
        let (driven, log) = filled(&frames);
        let mine = of(&which, &log);
        let seen = driven.store.seen(&which, &Bounds::default()).unwrap();
        let ends = mine.first().cloned().zip(mine.last().cloned()).map(Box::new);
        prop_assert_eq!(seen.ends, ends);

        let found = driven.store.gaps(&which, Silence::LongerThan(longest), DAY + now, &Bounds::default());
        let found = found.unwrap();
        let before = Which { from_ms: i64::MIN, to_ms: which.from_ms, ..which.clone() };
        let mut times: Vec<i64> = of(&before, &log).last().map(at).into_iter().collect();
        times.extend(mine.iter().map(at));
        times.dedup();
        let mut gaps: Vec<(i64, Option<i64>)> = times
            .windows(2)
            .filter(|pair| pair[1] - pair[0] > longest)
            .map(|pair| (pair[0], Some(pair[1])))
            .collect();
        if let Some(last) = times.last() {
            let after = Which { from_ms: which.to_ms, to_ms: i64::MAX, ..which.clone() };
            let next = of(&after, &log).first().map(at).filter(|_| which.to_ms < DAY + now);
            if next.unwrap_or(DAY + now) - last > longest {
                gaps.push((*last, next));
            }
        }
        let found: Vec<_> = found.gaps.iter().map(|gap| (gap.from_ms, gap.to_ms)).collect();
        prop_assert_eq!(found, gaps);

        let mut latest = Vec::new();
        driven.store.latest_of_all(&which, &Bounds::default(), &mut |row| {
            latest.push(row);
            std::ops::ControlFlow::Continue(())
        }).unwrap();
        let mut newest: BTreeMap<u64, Row> = BTreeMap::new();
        for row in mine {
            newest.insert(row.reading.imei.unwrap().get(), row);
        }
        prop_assert_eq!(latest, newest.into_values().collect::<Vec<_>>());
    }
}
