//! A file written as a stream, and the disk that has no room for it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use loushan_schemas::sample;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::super::block::checksums;
use super::super::decode;
use super::super::schema::{Purpose, Table};
use super::{TableWriter, WriteError, imei_number, reading_batch};
use crate::io::sim::SimIo;
use crate::io::{Io, read_all};

const TABLE: Table = Table::Readings(Kind::Elevator);

/// With sequence numbers in no order, not even in their differences: they do not compress, and few
/// rows make many blocks.
fn rows(count: u32) -> Vec<Row> {
    let mut rows: Vec<Row> = (0..count).map(|n| sample::row(Kind::Elevator, n)).collect();
    for row in &mut rows {
        row.reading.seq = xxhash_rust::xxh3::xxh3_64(&row.lsn.to_le_bytes());
    }
    rows
}

#[test]
fn a_stream_of_batches_gives_their_rows_and_the_checksums_of_the_files_blocks() {
    let io = SimIo::new();
    io.create_dir_all(Path::new("/store")).unwrap();
    let rows = rows(20_000);
    let rows: Vec<&Row> = rows.iter().collect();
    let path = Path::new("/store/file");
    let mut writer = TableWriter::new(TABLE, Purpose::Flush, io.create_new(path).unwrap()).unwrap();
    for some in rows.chunks(777) {
        writer.write(&reading_batch(Kind::Elevator, some).unwrap()).unwrap();
    }
    let written = writer.finish().unwrap();
    written.file.sync_data().unwrap();

    let bytes = read_all(&io, path).unwrap();
    let reader = ParquetRecordBatchReader::try_new(Bytes::from(bytes.clone()), 5000).unwrap();
    let read: Vec<Row> = reader
        .flat_map(|batch| decode::readings(Kind::Elevator, &batch.unwrap()).unwrap())
        .collect();
    assert_eq!(read.iter().collect::<Vec<_>>(), rows);
    assert_eq!(written.rows, 20_000);
    assert_eq!(written.bytes, bytes.len() as u64);
    assert!(written.blocks.len() > 2, "no file of several blocks");
    assert_eq!(written.blocks, checksums(&bytes));
}

#[test]
fn a_full_disk_is_told_apart_from_columns_that_do_not_fit() {
    let io = SimIo::new();
    io.create_dir_all(Path::new("/store")).unwrap();
    let rows = rows(20_000);
    let rows: Vec<&Row> = rows.iter().collect();
    let batch = reading_batch(Kind::Elevator, &rows).unwrap();
    let new = |path: &str| {
        TableWriter::new(TABLE, Purpose::Compact, io.create_new(Path::new(path)).unwrap()).unwrap()
    };

    let mut writer = new("/store/full");
    io.set_capacity(Some(io.used_bytes() + 1000));
    writer.write(&batch).unwrap();
    let refused = writer.finish().unwrap_err();
    assert!(
        matches!(&refused, WriteError::Io(e) if e.kind() == std::io::ErrorKind::StorageFull),
        "{refused:?}"
    );

    io.set_capacity(None);
    let rows: Vec<Row> = vec![sample::row(Kind::Smoke, 1)];
    let other = reading_batch(Kind::Smoke, &rows.iter().collect::<Vec<_>>()).unwrap();
    let refused = new("/store/other").write(&other).unwrap_err();
    assert!(matches!(&refused, WriteError::Encode(_)), "{refused:?}");
}

#[test]
fn a_file_that_stays_has_a_bloom_filter_on_the_device_and_a_flushs_has_none() {
    let io = SimIo::new();
    io.create_dir_all(Path::new("/store")).unwrap();
    let rows = rows(5000);
    let batch = reading_batch(Kind::Elevator, &rows.iter().collect::<Vec<_>>()).unwrap();
    let filter = |name: &str, purpose| {
        let path = Path::new("/store").join(name);
        let mut writer = TableWriter::new(TABLE, purpose, io.create_new(&path).unwrap()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let bytes = Bytes::from(read_all(&io, &path).unwrap());
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        reader.get_row_group_column_bloom_filter(0, 0).unwrap()
    };
    assert!(filter("flushed", Purpose::Flush).is_none());
    let filter = filter("compacted", Purpose::Compact).unwrap();
    let number = |n| imei_number(sample::imei(n)).unwrap();
    assert!((0..5000).all(|n| filter.check(&number(n))));
    let mistaken = (5000..10_000).filter(|n| filter.check(&number(*n))).count();
    assert!(mistaken < 200, "{mistaken} of 5000 strangers are let through");
}
