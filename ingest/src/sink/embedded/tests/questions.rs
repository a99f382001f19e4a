//! Questions beside a list of the rows: wherever the rows are, in files or in memory, the answer is that
//! of the list.

use std::collections::BTreeMap;
use std::sync::Arc;

use loushan_schemas::ids::StationId;
use loushan_schemas::kind::Kind;
use loushan_schemas::limits::WATER_MODULUS_L;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Water};
use loushan_schemas::row::Row;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::query::{
    Aggregate, Bins, Bounds, By, EXACT_VALUES, Function, Group, Order, Position, SKETCH_ERROR,
    Silence, Stop, Turns, Which,
};
use super::super::{QueryError, Store};
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
    (option::of(0..6_u64), station, kind, from, to, 1..5_u8).prop_map(
        |(device, station, kind, from_ms, to_ms, quality)| Which {
            device: device.map(imei),
            station: station
                .map(|n| loushan_schemas::ids::StationId::new(&format!("bs{n}")).unwrap()),
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
            if which.station.as_ref().is_some_and(|station| row.station != *station) {
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

fn near(a: f64, b: f64) -> bool {
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

/// A day of meters that report every half hour, litres and a flow.
fn fleet(devices: u64) -> Store {
    let mut driven = Driven::open(SimIo::new());
    for (at, lsn) in (0..48).zip(1..) {
        let rows = (0..devices).map(|device| {
            let mut row = row(Kind::Water, device, lsn, DAY + at * HOUR / 2);
            row.reading.body = Body::Water(Water {
                total_l: Some(at * 10 + device as i64),
                flow_l_h: Some((device * 48) as f64 + at as f64),
                ..Water::default()
            });
            row
        });
        driven.push(&[frame(lsn, rows.collect())]);
    }
    driven.flush().unwrap();
    driven.store
}

fn question(field: &'static str, functions: Vec<Function>, by: By) -> Aggregate {
    let bins = Some(Bins::new(HOUR, 0));
    Aggregate { which: Which::default(), field, functions, bins, by, per_ms: HOUR }
}

#[test]
fn a_device_that_was_silent_throughout_is_measured_by_what_was_usual_before() {
    let store = fleet(1);
    let which = Which {
        device: Some(row(Kind::Water, 0, 1, 0).reading.imei.unwrap()),
        from_ms: DAY + DAY_MS,
        ..Which::default()
    };
    let now = DAY + 3 * DAY_MS;
    let found = store.gaps(&which, Silence::TimesUsual(3.0), now, &Bounds::default()).unwrap();
    assert_eq!((found.readings, found.usual_ms), (0, Some(HOUR / 2)));
    let last = DAY + 47 * HOUR / 2;
    assert_eq!(
        found.gaps,
        [super::super::query::Gap { from_ms: last, to_ms: None, length_ms: now - last }]
    );
}

#[test]
fn the_rate_of_a_station_is_the_same_whoever_else_hears_the_device() {
    let mut driven = Driven::open(SimIo::new());
    for (at, lsn) in (0..25_i64).zip(1..) {
        let mut row = row(Kind::Water, 1, lsn, DAY + at * HOUR);
        row.station = StationId::new(if at % 2 == 0 { "even" } else { "odd" }).unwrap();
        row.reading.body = Body::Water(Water { total_l: Some(at * 10), ..Water::default() });
        driven.push(&[frame(lsn, vec![row])]);
    }
    driven.flush().unwrap();
    let whole = Aggregate { bins: None, ..question("total_l", vec![Function::Rate], By::Station) };
    let answer = driven.store.aggregate(&whole, &Bounds::default()).unwrap();
    let rates: Vec<_> = answer.cells.iter().map(|cell| cell.values.clone()).collect();
    assert_eq!(rates, [[Some(10.0)], [Some(10.0)]]);
}

#[test]
fn a_question_that_needs_more_memory_than_it_may_have_says_how_to_need_less() {
    let store = fleet(50);
    let with = |memory| Bounds { memory, ..Bounds::default() };
    let question = question("flow_l_h", vec![Function::Quantile(0.95)], By::Device);
    match store.aggregate(&question, &with(64 * 1024)) {
        Err(QueryError::TooLarge { limit: 65_536, remedy }) => assert!(remedy.contains("bins")),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.aggregate(&question, &with(1 << 20)).unwrap().cells.len(), 50 * 24);
    let page =
        |memory| store.page(&Which::default(), Order::OldestFirst, None, 1000, &with(memory));
    assert!(matches!(page(64 * 1024), Err(QueryError::TooLarge { .. })));
    assert_eq!(page(8 << 20).unwrap().rows.len(), 1000);
}

#[test]
fn counters_of_more_devices_than_fit_are_counted_in_passes() {
    let store = fleet(50);
    let question = question("total_l", vec![Function::Increase, Function::Rate], By::Nothing);
    let unbounded = store.aggregate(&question, &Bounds::default()).unwrap();
    assert_eq!(unbounded.cells.len(), 24);
    // 20 litres an hour of each; nothing is known of the last half hour.
    assert_eq!(unbounded.cells[0].values, [Some(1000.0), Some(1000.0)]);
    assert_eq!(unbounded.cells[23].values, [Some(500.0), Some(1000.0)]);
    // The cells, and a few devices of 48 values.
    let few = Bounds { memory: 24 * 1024, ..Bounds::default() };
    assert_eq!(store.aggregate(&question, &few).unwrap(), unbounded);
    let none = Bounds { memory: 9 * 1024, ..Bounds::default() };
    assert!(matches!(store.aggregate(&question, &none), Err(QueryError::TooLarge { .. })));
}

#[test]
fn a_question_ends_when_it_is_taken_back_or_its_time_is_up() {
    let store = fleet(5);
    let stopped = |end: fn(&Stop)| {
        let bounds = Bounds { turns: Some(Arc::new(Turns::default())), ..Bounds::default() };
        end(&bounds.stop);
        let which = Which::default();
        let ask = question("flow_l_h", vec![Function::Mean], By::Nothing);
        [
            store.aggregate(&ask, &bounds).err(),
            store.page(&which, Order::NewestFirst, None, 5, &bounds).err(),
            store.seen(&which, &bounds).err(),
            store.gaps(&which, Silence::TimesUsual(2.0), DAY, &bounds).err(),
            store
                .stream(Kind::Water, &which, &bounds, &mut |_| panic!("nothing is read any more"))
                .err(),
            store.latest_of_all(&which, &bounds, &mut |_| panic!("nor here")).err(),
        ]
    };
    for error in stopped(Stop::cancel) {
        assert!(matches!(error, Some(QueryError::Cancelled)), "{error:?}");
    }
    for error in stopped(Stop::expire) {
        assert!(matches!(error, Some(QueryError::Expired)), "{error:?}");
    }
}

#[test]
fn percentiles_of_many_values_are_near() {
    let store = fleet(200);
    let functions = vec![Function::Quantile(0.5), Function::Quantile(0.95), Function::Count];
    let mut question = question("flow_l_h", functions, By::Nothing);
    question.bins = None;
    let found = store.aggregate(&question, &Bounds::default()).unwrap();
    assert!(found.approximate);
    let values = &found.cells[0].values;
    assert_eq!(values[2], Some(9600.0));
    const { assert!(9600 > EXACT_VALUES) };
    for (value, part) in [(values[0], 0.5), (values[1], 0.95)] {
        let (value, exact) = (value.unwrap(), (9600.0_f64 * part).ceil() - 1.0);
        assert!((value - exact).abs() <= SKETCH_ERROR * exact + 1.0, "{value} {exact}");
    }
}

#[test]
fn a_meters_swap_rollover_and_silence_add_up_to_what_flowed() {
    let mut driven = Driven::open(SimIo::new());
    let reading = |seq: u64, hours: i64, total: i64| {
        let mut row = row(Kind::Water, 1, seq, DAY + hours * HOUR);
        row.reading.body = Body::Water(Water { total_l: Some(total), ..Water::default() });
        row
    };
    let rows = vec![
        reading(1, 0, WATER_MODULUS_L - 40),
        reading(2, 2, WATER_MODULUS_L - 20), // 20 l in 2 h
        reading(3, 4, 20),                   // 40 l over the end
        reading(4, 16, 140),                 // 120 l in a silence of 12 h
        reading(5, 17, 900_000),             // another meter, that has counted before
        reading(6, 18, 900_006),             // 6 l
        reading(7, 19, 3),                   // and another
        reading(8, 20, 4),                   // 1 l
    ];
    driven.push(&[frame(1, rows)]);
    driven.flush().unwrap();
    let mut question = question("total_l", vec![Function::Increase, Function::Rate], By::Device);
    let cells = driven.store.aggregate(&question, &Bounds::default()).unwrap().cells;
    let hours: BTreeMap<i64, Option<f64>> =
        cells.iter().map(|cell| ((cell.start_ms - DAY) / HOUR, cell.values[0])).collect();
    assert_eq!(hours.get(&0), Some(&Some(10.0)));
    assert_eq!(hours.get(&3), Some(&Some(20.0)));
    assert_eq!(hours.get(&9), Some(&Some(10.0)));
    assert_eq!(hours.get(&16), None, "nothing is known of the time of the swap");
    assert_eq!(hours.get(&17), Some(&Some(6.0)));
    assert_eq!(hours.get(&18), None);
    assert_eq!(hours.get(&19), Some(&Some(1.0)));
    assert_eq!(hours.values().map(|by| by.unwrap()).sum::<f64>(), 20.0 + 40.0 + 120.0 + 6.0 + 1.0);
    // Spans that follow each other add up, wherever they are cut.
    question.bins = None;
    let mut between = |from: i64, to: i64| {
        question.which = Which { from_ms: from, to_ms: to, ..Which::default() };
        let cells = driven.store.aggregate(&question, &Bounds::default()).unwrap().cells;
        cells.first().and_then(|cell| cell.values[0]).unwrap_or(0.0)
    };
    let (begin, end) = (DAY, DAY + 20 * HOUR);
    for cut in [DAY + HOUR, DAY + 7 * HOUR + 1, DAY + 16 * HOUR + HOUR / 2] {
        let sum = between(begin, cut) + between(cut, end);
        assert!(near(sum, 187.0), "{cut}: {sum}");
    }
}
