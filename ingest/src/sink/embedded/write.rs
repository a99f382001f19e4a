//! From rows to the bytes of a Parquet file: whole in memory, or as a stream of batches.

use std::io;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt8Array, UInt32Array, UInt64Array,
};
use loushan_schemas::field::{EnumTable, Field, FieldType, Value};
use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::limits::{FUTURE_MS, PAST_LONG_MS};
use loushan_schemas::reading::{Body, Water};
use loushan_schemas::row::Row;
use loushan_schemas::time::DeviceTime;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;

use super::block::BlockWriter;
use super::schema::{self, Purpose, Table};
use crate::io::IoFile;

/// Rows whose columns are there at once beside what is encoded of them: much less than a row group,
/// whose columns take several times the memory of its rows.
const BATCH_ROWS: usize = 4096;

/// A file could not be written; what is there of it is to be deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The disk refused.
    #[error(transparent)]
    Io(io::Error),
    /// These are no rows of the table.
    #[error(transparent)]
    Encode(ParquetError),
}

impl From<ParquetError> for WriteError {
    fn from(why: ParquetError) -> Self {
        match why {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(refused) => Self::Io(*refused),
                Err(inner) => Self::Encode(ParquetError::External(inner)),
            },
            why => Self::Encode(why),
        }
    }
}

/// Writes a file of a table as a stream, with no more of it in memory than one row group, encoded.
///
/// Nothing is synced and nothing renamed here: that is the caller's, who knows when the file counts.
/// Dropped before [`TableWriter::finish`], or after an error, it leaves a file that is none.
pub(super) struct TableWriter {
    writer: ArrowWriter<BlockWriter>,
    file: Arc<dyn IoFile>,
    rows: u64,
}

/// A whole file, not yet synced.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: Arc<dyn IoFile>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// The checksums of its blocks, as the manifest keeps them.
    pub(super) blocks: Vec<u32>,
}

impl TableWriter {
    /// Into a file that was just created.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn new(
        table: Table,
        purpose: Purpose,
        file: Box<dyn IoFile>,
    ) -> Result<Self, WriteError> {
        let file: Arc<dyn IoFile> = Arc::from(file);
        let writer = encoder(table, purpose, BlockWriter::new(Arc::clone(&file)))?;
        Ok(Self { writer, file, rows: 0 })
    }

    /// Takes the next rows, of any number. All batches together must be sorted as the table is; the
    /// columns are those of [`Table::schema`].
    ///
    /// # Errors
    /// When the disk refuses, or when these are other columns.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.writer.write(batch)?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Bytes of the row groups that are complete.
    pub(super) fn bytes_written(&self) -> usize {
        self.writer.bytes_written()
    }

    /// Writes what is left and the footer.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn finish(mut self) -> Result<Written, WriteError> {
        self.writer.finish()?;
        let (bytes, blocks) = self.writer.inner_mut().finish().map_err(WriteError::Io)?;
        Ok(Written { file: self.file, rows: self.rows, bytes, blocks })
    }
}

/// What both ways of writing have in common.
fn encoder<W: io::Write + Send>(
    table: Table,
    purpose: Purpose,
    to: W,
) -> Result<ArrowWriter<W>, ParquetError> {
    // The Arrow schema beside Parquet's own would say nothing more and weigh kilobytes a file.
    let options = ArrowWriterOptions::new()
        .with_properties(table.properties(purpose))
        .with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(to, table.schema(), options)
}

/// One interval of a water meter's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaterInterval {
    /// The meter.
    pub imei: Imei,
    /// The station that sent it.
    pub station: StationId,
    /// When the interval ended.
    pub interval_end: DeviceTime,
    /// How long it was.
    pub interval_s: i64,
    /// What flowed in it, in litres.
    pub delta_l: i32,
    /// The frame that brought it.
    pub lsn: u64,
}

/// The intervals a row's history speaks of, reckoned from the row's effective time: a meter's own clock
/// that was not believed is not believed here. Those that end well after it, or long before it, are
/// left out: each day has a file of its own, and a sender that names intervals of a
/// year would have a flush write thousands of them. The row itself keeps the history as it came.
pub(super) fn intervals_of(row: &Row) -> impl Iterator<Item = WaterInterval> + '_ {
    let times = &row.reading.times;
    let history = match &row.reading.body {
        Body::Water(Water {
            history_first_end_s: Some(first),
            history_interval_s: Some(interval),
            history_delta_l,
            ..
        }) => row.reading.imei.map(|imei| (imei, *first, *interval, history_delta_l)),
        _ => None,
    };
    history.into_iter().flat_map(move |(imei, first, interval, deltas)| {
        deltas.iter().zip(0_i64..).filter_map(move |(delta, i)| {
            let after_s = i.checked_mul(interval)?.checked_add(first)?;
            let end = times.effective.ms().checked_add(after_s.checked_mul(1000)?)?;
            let age = times.effective.ms().checked_sub(end)?;
            if !(-FUTURE_MS..=PAST_LONG_MS).contains(&age) {
                return None;
            }
            Some(WaterInterval {
                imei,
                station: row.station.clone(),
                interval_end: DeviceTime::from_ms(end)?,
                interval_s: interval,
                delta_l: *delta,
                lsn: row.lsn,
            })
        })
    })
}

/// The bytes of a file of readings, in the order given.
///
/// # Errors
/// When a row is not of this kind.
pub fn encode_readings(kind: Kind, rows: &[&Row]) -> Result<Vec<u8>, ParquetError> {
    encode(Table::Readings(kind), rows, |rows| reading_batch(kind, rows))
}

/// The bytes of a file of intervals, in the order given.
pub(super) fn encode_intervals(rows: &[WaterInterval]) -> Result<Vec<u8>, ParquetError> {
    encode(Table::WaterInterval, rows, interval_batch)
}

fn encode<T>(
    table: Table,
    rows: &[T],
    batch: impl Fn(&[T]) -> Result<RecordBatch, ParquetError>,
) -> Result<Vec<u8>, ParquetError> {
    let mut writer = encoder(table, Purpose::Flush, Vec::new())?;
    for rows in rows.chunks(BATCH_ROWS) {
        writer.write(&batch(rows)?)?;
    }
    writer.into_inner()
}

/// The columns of rows in memory, in the order given.
pub(super) fn reading_batch(kind: Kind, rows: &[&Row]) -> Result<RecordBatch, ParquetError> {
    let mut columns: Vec<ArrayRef> = Vec::new();
    if kind != Kind::StationStatus {
        let imei = rows.iter().map(|r| r.reading.imei.and_then(imei_number));
        columns.push(Arc::new(Int64Array::from_iter(imei)));
    }
    let u64s = |get: fn(&Row) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| get(r))))
    };
    let u32s = |get: fn(&Row) -> u32| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| get(r))))
    };
    let times =
        |get: fn(&Row) -> Option<i64>| -> ArrayRef { timestamps(rows.iter().map(|r| get(r))) };
    columns.extend([
        u32s(|r| r.reading.boot_epoch),
        u64s(|r| r.reading.seq),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.station.as_str()))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.region.as_str()))),
        u32s(|r| r.session),
        u64s(|r| r.batch_seq),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.replay)))),
        u64s(|r| r.lsn),
        times(|r| r.reading.times.measured.map(micros)),
        times(|r| r.reading.times.heard.map(micros)),
        times(|r| Some(r.reading.times.received.ns().div_euclid(1000))),
        times(|r| Some(micros(r.reading.times.effective))),
        Arc::new(StringArray::from_iter_values(
            rows.iter().map(|r| r.reading.times.source.as_str()),
        )),
        Arc::new(UInt8Array::from_iter_values(rows.iter().map(|r| r.reading.quality.number()))),
        Arc::new(StringArray::from_iter(
            rows.iter()
                .map(|r| r.reading.reason.map(loushan_schemas::quality::QualityReason::as_str)),
        )),
    ]);
    for (i, field) in kind.common_fields().iter().enumerate() {
        columns.push(field_array(field, rows.iter().map(|r| r.reading.common.value(i))));
    }
    for (i, field) in kind.fields().iter().enumerate() {
        columns.push(field_array(field, rows.iter().map(|r| r.reading.body.value(i))));
    }
    Ok(RecordBatch::try_new(Table::Readings(kind).schema(), columns)?)
}

/// The columns of intervals, in the order given.
pub(super) fn interval_batch(rows: &[WaterInterval]) -> Result<RecordBatch, ParquetError> {
    let columns: Vec<ArrayRef> = vec![
        // An IMEI has 15 digits, so none is lost here.
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| imei_number(r.imei)))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.station.as_str()))),
        timestamps(rows.iter().map(|r| Some(micros(r.interval_end)))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.interval_s))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.delta_l))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.lsn))),
    ];
    Ok(RecordBatch::try_new(Table::WaterInterval.schema(), columns)?)
}

/// The number in the column `imei`; always there, as an IMEI has at most 15 digits.
pub(super) fn imei_number(imei: Imei) -> Option<i64> {
    i64::try_from(imei.get()).ok()
}

fn micros(time: DeviceTime) -> i64 {
    // A DeviceTime ends with the year 9999, far below what a column holds.
    time.ms() * 1000
}

fn timestamps(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC"))
}

/// A field's column. A value of another type than the field's cannot be in a reading.
fn field_array<'a>(field: &Field, values: impl Iterator<Item = Option<Value<'a>>>) -> ArrayRef {
    match field.ty {
        FieldType::Int => Arc::new(Int64Array::from_iter(values.map(|v| match v {
            Some(Value::Int(v)) => Some(v),
            _ => None,
        }))),
        FieldType::Float => Arc::new(Float64Array::from_iter(values.map(|v| match v {
            Some(Value::Float(v)) => Some(v),
            _ => None,
        }))),
        FieldType::Bool => Arc::new(BooleanArray::from_iter(values.map(|v| match v {
            Some(Value::Bool(v)) => Some(v),
            _ => None,
        }))),
        FieldType::Enum(table) | FieldType::EnumList(table) => words(table, values),
        FieldType::IntList => {
            let mut list = ListBuilder::new(Int32Builder::new()).with_field(schema::list_item());
            for value in values {
                match value {
                    Some(Value::IntList(numbers)) => {
                        list.values().append_slice(numbers);
                        list.append(true);
                    }
                    _ => list.append(false),
                }
            }
            Arc::new(list.finish())
        }
    }
}

fn words<'a>(table: &EnumTable, values: impl Iterator<Item = Option<Value<'a>>>) -> ArrayRef {
    let mut column = StringBuilder::new();
    let mut text = String::new();
    for value in values {
        text.clear();
        match value {
            Some(Value::Enum(number)) => table.write(number, &mut text),
            Some(Value::EnumList(numbers)) => {
                for (i, number) in numbers.iter().enumerate() {
                    if i > 0 {
                        text.push(',');
                    }
                    table.write(*number, &mut text);
                }
            }
            _ => {
                column.append_null();
                continue;
            }
        }
        column.append_value(&text);
    }
    Arc::new(column.finish())
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
