//! Questions of which the answers are known, and their bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use loushan_schemas::ids::StationId;
use loushan_schemas::kind::Kind;
use loushan_schemas::limits::WATER_MODULUS_L;
use loushan_schemas::reading::{Body, Water};

use super::super::query::{
    Aggregate, Bins, Bounds, By, EXACT_VALUES, Function, Gap, Order, SKETCH_ERROR, Silence, Stop,
    Turns, Which,
};
use super::super::{QueryError, Store};
use super::questions::near;
use super::support::{DAY, DAY_MS, Driven, frame, row};
use crate::io::sim::SimIo;

const HOUR: i64 = 3_600_000;

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
    assert_eq!(found.gaps, [Gap { from_ms: last, to_ms: None, length_ms: now - last }]);
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
