//! What goes in comes out.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use loushan_schemas::kind::Kind;
use loushan_schemas::reading::{Body, Water};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::query::{Bounds, Which};
use super::super::scan::Wanted;
use super::super::schema::{ROW_GROUP_ROWS, Table};
use super::super::{decode, write};
use super::support::{
    DAY, DAY_MS, Driven, any_kind, any_row, cases, exported, frame, imei, row, rows_of, sorted,
};
use crate::io::sim::SimIo;

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn a_row_reads_back_equal_from_memory_and_from_a_file(
        rows in any_kind().prop_flat_map(|kind| vec(any_row(kind), 1..20))
    ) {
        let mut driven = Driven::open(SimIo::new());
        let frames = [frame(7, rows)];
        driven.push(&frames);
        prop_assert_eq!(exported(&driven.store, 0), rows_of(&frames));
        driven.flush().unwrap();
        prop_assert_eq!(driven.store.stats().memory_rows, 0);
        prop_assert_eq!(exported(&driven.store, 0), rows_of(&frames));
    }
}

#[test]
fn the_receive_time_is_kept_in_microseconds_in_memory_as_in_files() {
    let mut driven = Driven::open(SimIo::new());
    let mut with_ns = row(Kind::Smoke, 1, 1, DAY);
    with_ns.reading.times.received = loushan_schemas::time::ReceiveTime::from_ns(1_234_567_891);
    driven.push(&[frame(1, vec![with_ns])]);
    let in_memory = exported(&driven.store, 0);
    assert_eq!(in_memory[0].reading.times.received.ns(), 1_234_567_000);
    driven.flush().unwrap();
    assert_eq!(exported(&driven.store, 0), in_memory);
}

#[test]
fn a_file_older_than_a_field_has_it_absent_and_a_newer_ones_column_is_not_looked_at() {
    let mut full = row(Kind::Parking, 1, 1, DAY);
    if let Body::Parking(parking) = &mut full.reading.body {
        (parking.temp_c, parking.radar_cm) = (Some(21.5), Some(30));
    }
    let batch = write::reading_batch(Kind::Parking, &[&full]).unwrap();
    let schema = batch.schema();
    let kept = (0..schema.fields().len()).filter(|i| schema.field(*i).name() != "temp_c");
    let older = batch.project(&kept.collect::<Vec<_>>()).unwrap();
    let mut fields: Vec<_> = older.schema().fields().iter().cloned().collect();
    let mut columns = older.columns().to_vec();
    let newer = arrow_schema::Field::new("of_tomorrow", columns[0].data_type().clone(), true);
    fields.push(newer.into());
    columns.push(columns[0].clone());
    let schema = arrow_schema::Schema::new(fields);
    let batch = arrow_array::RecordBatch::try_new(schema.into(), columns).unwrap();
    let read = decode::readings(Kind::Parking, &batch).unwrap();
    if let Body::Parking(parking) = &mut full.reading.body {
        parking.temp_c = None;
    }
    assert_eq!(read, [full]);
}

#[test]
fn a_column_of_another_type_is_an_error_that_names_it() {
    let row = row(Kind::Parking, 1, 1, DAY);
    let batch = write::reading_batch(Kind::Parking, &[&row]).unwrap();
    let schema = batch.schema();
    let (at, _) = schema.column_with_name("quality").unwrap();
    let mut columns = batch.columns().to_vec();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    columns[at] = batch.column_by_name("station").unwrap().clone();
    fields[at] = arrow_schema::Field::new("quality", columns[at].data_type().clone(), true).into();
    let schema = arrow_schema::Schema::new(fields);
    let batch = arrow_array::RecordBatch::try_new(schema.into(), columns).unwrap();
    assert!(decode::readings(Kind::Parking, &batch).unwrap_err().contains("quality"));
}

#[test]
fn identity_columns_and_their_types_are_pinned() {
    let schema = Table::Readings(Kind::Parking).schema();
    let columns: Vec<String> =
        schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    let pinned = [
        "imei Int64",
        "boot_epoch UInt32",
        "seq UInt64",
        "station Utf8",
        "region Utf8",
        "session UInt32",
        "batch_seq UInt64",
        "replay Boolean",
        "lsn UInt64",
        "measured Timestamp(µs, \"UTC\")",
        "heard Timestamp(µs, \"UTC\")",
        "received Timestamp(µs, \"UTC\")",
        "effective Timestamp(µs, \"UTC\")",
        "time_source Utf8",
        "quality UInt8",
        "reason Utf8",
        "trigger Utf8",
    ];
    assert_eq!(columns[..pinned.len()], pinned);
}

#[test]
fn a_meters_history_becomes_intervals_and_a_repeated_one_is_told_once() {
    let mut driven = Driven::open(SimIo::new());
    let report = |seq, at, first_end_s, deltas: &[i32]| {
        let mut row = row(Kind::Water, 5, seq, at);
        row.reading.body = Body::Water(Water {
            history_first_end_s: Some(first_end_s),
            history_interval_s: Some(3600),
            history_delta_l: deltas.to_vec(),
            ..Water::default()
        });
        row
    };
    // 24 hours that end with the report, then the last three of them again, one corrected.
    let day: Vec<i32> = (0..24).collect();
    driven.push(&[frame(1, vec![report(1, DAY + DAY_MS / 2, -23 * 3600, &day)])]);
    driven.flush().unwrap();
    driven.push(&[frame(
        2,
        vec![report(2, DAY + DAY_MS / 2 + 60_000, -2 * 3600 - 60, &[21, 50, 23])],
    )]);
    let expected: Vec<(i64, i32)> = (0..24_i32)
        .map(|i| (DAY - DAY_MS / 2 + i64::from(i + 1) * 3_600_000, if i == 22 { 50 } else { i }))
        .collect();
    for flushed in [false, true] {
        let found = driven.store.water_intervals(imei(5), 0, i64::MAX).unwrap();
        let found: Vec<(i64, i32)> =
            found.iter().map(|i| (i.interval_end.ms(), i.delta_l)).collect();
        assert_eq!(found, expected, "flushed: {flushed}");
        driven.flush().unwrap();
    }
    let tables = driven.store.stats().tables;
    assert_eq!(tables[&Table::WaterInterval].rows, 27);
    assert_eq!(driven.store.count(None, 0, i64::MAX).unwrap(), 2, "intervals are no readings");
    assert_eq!(exported(&driven.store, 0).len(), 2);
}

#[test]
fn a_history_of_years_does_not_make_a_file_for_each() {
    let mut driven = Driven::open(SimIo::new());
    let mut report = row(Kind::Water, 5, 1, DAY);
    let (years, at) = (10 * 365 * 86_400, report.reading.times.effective);
    report.reading.body = Body::Water(Water {
        history_first_end_s: Some(-2 * years),
        history_interval_s: Some(years),
        history_delta_l: vec![1; 5],
        ..Water::default()
    });
    driven.push(&[frame(1, vec![report])]);
    driven.flush().unwrap();
    let found = driven.store.water_intervals(imei(5), 0, i64::MAX).unwrap();
    assert_eq!(found.iter().map(|i| i.interval_end).collect::<Vec<_>>(), [at]);
    assert_eq!(driven.store.stats().tables[&Table::WaterInterval].files, 1);
}

#[test]
fn one_devices_rows_are_found_among_many_pages_and_row_groups() {
    let mut driven = Driven::open(SimIo::new());
    let rows: Vec<_> = (0..140_000)
        .map(|i| row(Kind::Smoke, i % 5000, i, DAY + i64::try_from(i).unwrap()))
        .collect();
    let frames: Vec<_> =
        rows.chunks(1000).zip(1..).map(|(r, lsn)| frame(lsn, r.to_vec())).collect();
    driven.push(&frames);
    driven.flush().unwrap();
    assert!(rows.len() > ROW_GROUP_ROWS);
    // The last ones lie on both sides of the border of the row groups, and behind it.
    for device in [0, 1, 2499, 4681, 4682, 4999] {
        let mine: Vec<_> = rows_of(&frames)
            .into_iter()
            .filter(|row| row.reading.imei == Some(imei(device)))
            .collect();
        let found = driven.store.history(imei(device), DAY, DAY + DAY_MS, 100).unwrap();
        assert_eq!(sorted(found), mine);
        assert_eq!(mine.len(), 28);
    }
    let count = driven.store.count(Some(Kind::Smoke), DAY + 100, DAY + 130_100).unwrap();
    assert_eq!(count, 130_000);
    assert_eq!(exported(&driven.store, 139).len(), 1000);
    // Whoever takes turns does so after each row group, though there is nothing to be had.
    let nowhere = Arc::new(HashSet::from([(0, 0)]));
    let files = driven.store.0.state.read().files.files.clone();
    let file = files.values().next().unwrap();
    let wanted = Wanted { moments: Some(&nowhere), ..Wanted::rows(&[]) };
    let steps: Vec<_> = driven.store.0.files.read(file, wanted).unwrap().collect();
    assert_eq!(steps.len(), 2);
    assert!(steps.iter().all(|step| step.as_ref().unwrap().num_rows() == 0));
}

#[test]
fn a_slow_export_does_not_hold_what_was_in_memory() {
    let mut driven = Driven::open(SimIo::new());
    driven.push(&[frame(1, vec![row(Kind::Smoke, 1, 1, DAY)])]);
    driven.flush().unwrap();
    let in_memory = {
        let frame = frame(2, vec![row(Kind::Smoke, 2, 1, DAY)]);
        driven.push(std::slice::from_ref(&frame));
        Arc::downgrade(&frame)
    };
    let store = driven.store.clone();
    let mut batches = 0;
    let bounds = Bounds::default();
    let each = &mut |batch: arrow_array::RecordBatch| {
        if batch.num_rows() > 0 {
            batches += 1;
        }
        if batches == 2 {
            // Whoever asked takes its time with the file's rows; meanwhile the store goes on.
            driven.flush().unwrap();
            assert!(in_memory.upgrade().is_none());
        }
        ControlFlow::Continue(())
    };
    store.stream(Kind::Smoke, &Which::default(), &bounds, each).unwrap();
    assert_eq!(batches, 2);
}
