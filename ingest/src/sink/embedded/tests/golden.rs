//! Files of every schema there was, kept under `ingest/tests/golden/parquet/v<n>`, read by today's
//! reader into exactly the rows that were put into them.
//!
//! A version's folder is written once and never again: by a build of that version, with
//! `LOUSHAN_WRITE_GOLDEN=1 cargo test -p loushan-ingest golden`, which writes the folder of the
//! newest version if it is not there. Beside each file of readings stand its rows as JSON lines.

use std::path::PathBuf;

use bytes::Bytes;
use loushan_schemas::field::{FieldType, Value};
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::{Quality, QualityReason};
use loushan_schemas::reading::{Body, Common, Reading, TimeSource};
use loushan_schemas::row::Row;
use loushan_schemas::sample;
use loushan_schemas::time::DeviceTime;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::super::schema::{SCHEMA_VERSION, Table};
use super::super::write::{self, WaterInterval};
use super::super::{block, decode};

fn folder(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/parquet/v{version}"))
}

/// Rows with every field, with none, and with values that no list of ours has.
fn rows(kind: Kind) -> Vec<Row> {
    let full = (0..5).map(|n| sample::row(kind, n));
    let mut bare = sample::row(kind, 5);
    bare.replay = true;
    bare.reading.common = Common::default();
    bare.reading.body = Body::empty(kind);
    bare.reading.times.measured = None;
    bare.reading.times.heard = None;
    bare.reading.times.source = TimeSource::Received;
    bare.reading.quality = Quality::Suspicious;
    bare.reading.reason = Some(QualityReason::ClockSkew);
    let mut strange = sample::row(kind, 6);
    for (at, field) in kind.fields().iter().enumerate() {
        let value = match field.ty {
            FieldType::Enum(_) => Value::Enum(77),
            FieldType::EnumList(_) => Value::EnumList(&[1, 77, -3]),
            FieldType::Int => Value::Int(i64::MIN),
            FieldType::Float => Value::Float(-0.1),
            FieldType::Bool => Value::Bool(false),
            FieldType::IntList => Value::IntList(&[i32::MIN, 0, i32::MAX]),
        };
        strange.reading.body.set(at, value).unwrap();
    }
    strange.lsn = u64::from(u32::MAX) + 1;
    full.chain([bare, strange]).collect()
}

fn intervals() -> Vec<WaterInterval> {
    let interval = |n: u32| WaterInterval {
        imei: sample::imei(n / 3),
        station: loushan_schemas::ids::StationId::new("bs0001").unwrap(),
        interval_end: DeviceTime::from_ms(sample::BASE_MS + i64::from(n) * 3_600_000).unwrap(),
        interval_s: 3600,
        delta_l: i32::try_from(n).unwrap() * 7 - 7,
        lsn: u64::from(n) + 1,
    };
    (0..6).map(interval).collect()
}

fn lines(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        row.write_json(&mut text);
        text.push('\n');
    }
    text
}

fn write(version: u32) {
    let folder = folder(version);
    std::fs::create_dir_all(&folder).unwrap();
    for table in Table::ALL {
        let bytes = match table {
            Table::Readings(kind) => {
                let rows = rows(kind);
                std::fs::write(folder.join(format!("{table}.ndjson")), lines(&rows)).unwrap();
                write::encode_readings(kind, &rows.iter().collect::<Vec<_>>()).unwrap()
            }
            Table::WaterInterval => write::encode_intervals(&intervals()).unwrap(),
        };
        std::fs::write(folder.join(format!("{table}.parquet")), bytes).unwrap();
    }
}

fn file(version: u32, table: Table) -> Bytes {
    let path = folder(version).join(format!("{table}.parquet"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into()
}

#[test]
fn the_golden_files_of_every_version_read_into_the_rows_that_were_written() {
    if std::env::var_os("LOUSHAN_WRITE_GOLDEN").is_some() && !folder(SCHEMA_VERSION).exists() {
        write(SCHEMA_VERSION);
    }
    for version in 1..=SCHEMA_VERSION {
        for table in Table::ALL {
            let file = file(version, table);
            assert!(!block::checksums(&file).is_empty());
            for batch in ParquetRecordBatchReader::try_new(file, 1024).unwrap() {
                let batch = batch.unwrap();
                match table {
                    Table::Readings(kind) => {
                        let read = decode::readings(kind, &batch).unwrap();
                        let path = folder(version).join(format!("{table}.ndjson"));
                        let meant = std::fs::read_to_string(path).unwrap();
                        assert_eq!(lines(&read), meant, "v{version} {table}");
                        let meant: Vec<Row> =
                            meant.lines().map(|line| Row::from_json(line).unwrap()).collect();
                        assert_eq!(read, meant, "v{version} {table}");
                    }
                    Table::WaterInterval => {
                        assert_eq!(decode::intervals(&batch).unwrap(), intervals(), "v{version}");
                    }
                }
            }
        }
    }
}

/// Who adds a column adds a version of the schema, and its golden files.
#[test]
fn the_newest_golden_files_have_the_columns_of_today_in_their_order_and_types() {
    for table in Table::ALL {
        let file = file(SCHEMA_VERSION, table);
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        assert_eq!(
            reader.schema().fields(),
            table.schema().fields(),
            "{table}: raise SCHEMA_VERSION and write its golden files"
        );
        let said = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let said = said.iter().find(|said| said.key == "loushan.schema").unwrap();
        assert_eq!(said.value.as_deref(), Some(SCHEMA_VERSION.to_string().as_str()));
    }
}

/// A golden file tells nothing of a column in which it has no value.
#[test]
fn the_rows_of_the_golden_files_fill_every_field() {
    for kind in Kind::ALL {
        let rows = rows(kind);
        for field in kind.common_fields().iter().chain(kind.fields()) {
            let has = |r: &Reading| r.values().any(|(of, _)| of.name == field.name);
            assert!(rows.iter().any(|row| has(&row.reading)), "{kind} {}", field.name);
        }
    }
}
