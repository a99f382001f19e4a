//! Sorted streams into one.

use std::sync::Arc;

use arrow_array::{RecordBatch, new_null_array};
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::compact::merge::{Merge, ROWS_OUT, Why};
use super::super::flush::order;
use super::super::schema::Table;
use super::super::write::{WaterInterval, interval_batch, reading_batch};
use super::super::{QueryError, decode};
use super::support::{any_row, cases, imei, row};

type Batches = std::vec::IntoIter<Result<RecordBatch, QueryError>>;

/// A stream of rows in batches of so many.
fn stream(kind: Kind, rows: &[Row], at_once: usize) -> Batches {
    let batch = |rows: &[Row]| Ok(reading_batch(kind, &rows.iter().collect::<Vec<_>>()).unwrap());
    rows.chunks(at_once).map(batch).collect::<Vec<_>>().into_iter()
}

fn all(mut merge: Merge<Batches>) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    loop {
        let merged = merge.next(false).unwrap();
        batches.extend(merged.batch);
        if merged.at_end {
            return batches;
        }
    }
}

fn rows_of(kind: Kind, batches: &[RecordBatch]) -> Vec<Row> {
    batches.iter().flat_map(|batch| decode::readings(kind, batch).unwrap()).collect()
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn sorted_streams_become_one_sorted_stream_of_the_same_rows(
        (kind, mut streams) in proptest::sample::select(&Kind::ALL[..])
            .prop_flat_map(|kind| (Just(kind), vec(vec(any_row(kind), 0..30), 0..6))),
        at_once in 1..40_usize,
    ) {
        for (rows, lsn) in streams.iter_mut().zip(1..) {
            rows.iter_mut().for_each(|row| row.lsn = lsn);
            rows.sort_by(|a, b| order(a).cmp(&order(b)));
        }
        let inputs = streams.iter().map(|rows| stream(kind, rows, at_once));
        let merge = Merge::new(Table::Readings(kind), inputs).unwrap();
        let merged = rows_of(kind, &all(merge));
        prop_assert!(merged.is_sorted_by(|a, b| order(a) <= order(b)));
        let mut expected: Vec<Row> = streams.into_iter().flatten().collect();
        let text = |row: &Row| format!("{row:?}");
        let (mut merged, mut texts): (Vec<_>, Vec<_>) =
            (merged.iter().map(text).collect(), expected.drain(..).map(|row| text(&row)).collect());
        merged.sort();
        texts.sort();
        prop_assert_eq!(merged, texts);
    }
}

#[test]
fn rows_of_one_device_are_never_torn_apart_where_a_file_may_end() {
    let rows = |step: u64| -> Vec<Row> {
        let row = |n: u64| row(Kind::Water, n / 10_000, n * step, i64::try_from(n).unwrap());
        (0..40_000).map(row).collect()
    };
    let inputs = [stream(Kind::Water, &rows(2), 4096), stream(Kind::Water, &rows(3), 4096)];
    let mut merge = Merge::new(Table::Readings(Kind::Water), inputs).unwrap();
    // As files are written: from so many rows on a file ends with the device at hand.
    let (mut files, mut rows) = (Vec::new(), 0);
    loop {
        let full = rows >= 15_000;
        let merged = merge.next(full).unwrap();
        let more = merged.batch.map_or(0, |batch| batch.num_rows());
        assert!(more <= ROWS_OUT);
        rows += more;
        if merged.at_end || (full && merged.at_device) {
            files.push(rows);
            rows = 0;
        }
        if merged.at_end {
            break;
        }
    }
    assert_eq!(files, [20_000; 4]);
}

fn interval(device: u64, end_ms: i64, lsn: u64, delta_l: i32) -> WaterInterval {
    WaterInterval {
        imei: imei(device),
        station: loushan_schemas::ids::StationId::new("bs0001").unwrap(),
        interval_end: loushan_schemas::time::DeviceTime::from_ms(end_ms).unwrap(),
        interval_s: 3600,
        delta_l,
        lsn,
    }
}

#[test]
fn of_an_interval_that_is_told_again_the_last_word_stands() {
    let streams = [
        vec![interval(1, 1000, 5, 50), interval(2, 1000, 5, 51)],
        vec![interval(1, 1000, 3, 30), interval(1, 2000, 3, 31)],
        vec![interval(1, 1000, 9, 90)],
    ];
    let batches = streams.map(|rows| vec![Ok(interval_batch(&rows).unwrap())].into_iter());
    let merge = Merge::new(Table::WaterInterval, batches).unwrap();
    let batches = all(merge);
    let found: Vec<_> =
        batches.iter().flat_map(|batch| decode::intervals(batch).unwrap()).collect();
    assert_eq!(
        found,
        [interval(1, 1000, 9, 90), interval(1, 2000, 3, 31), interval(2, 1000, 5, 51)]
    );
}

#[test]
fn rows_out_of_order_are_refused_and_the_stream_is_named() {
    let good = [row(Kind::Smoke, 1, 1, 10)];
    let bad = [row(Kind::Smoke, 2, 1, 10), row(Kind::Smoke, 1, 1, 10)];
    let inputs = [stream(Kind::Smoke, &good, 10), stream(Kind::Smoke, &bad, 1)];
    let mut merge = Merge::new(Table::Readings(Kind::Smoke), inputs).unwrap();
    let error = merge.next(false).unwrap_err();
    assert_eq!(error.input, 1);
    assert!(error.why.to_string().contains("order"), "{}", error.why);
}

#[test]
fn a_missing_column_is_null_and_an_unknown_one_is_refused() {
    let rows = [row(Kind::Smoke, 1, 1, 10)];
    let batch = reading_batch(Kind::Smoke, &[&rows[0]]).unwrap();
    let mut older = batch.clone();
    let dropped = older.remove_column(older.num_columns() - 1);
    assert_eq!(dropped.len(), 1);
    let inputs = [vec![Ok(older)].into_iter()];
    let merged = all(Merge::new(Table::Readings(Kind::Smoke), inputs).unwrap());
    assert_eq!(rows_of(Kind::Smoke, &merged), rows);

    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(arrow_schema::Field::new("mood", arrow_schema::DataType::Int64, true)));
    let mut columns = batch.columns().to_vec();
    columns.push(new_null_array(&arrow_schema::DataType::Int64, 1));
    let newer = RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), columns).unwrap();
    let error = Merge::new(Table::Readings(Kind::Smoke), [vec![Ok(newer)].into_iter()]);
    let error = error.err().unwrap();
    assert!(matches!(&error.why, Why::Newer(column) if column == "mood"));
}
