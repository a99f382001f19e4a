//! From the columns of a file back to rows.
//!
//! A file may be older than a column or newer than this build; what that means is the schema's rule
//! (see `schema`): a nullable column that is missing is null, an unknown one is not looked at.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType, PrimitiveArray, RecordBatch, StringArray};
use loushan_schemas::field::{Field, FieldType, Value};
use loushan_schemas::ids::{Imei, Region, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::{Quality, QualityReason};
use loushan_schemas::reading::{Body, Common, Reading, TimeSource, Times};
use loushan_schemas::row::Row;
use loushan_schemas::time::{DeviceTime, ReceiveTime};

use super::schema as col;
use super::write::WaterInterval;

/// What is wrong with a file's columns.
type Fault = String;

/// A column by name and type.
struct Columns<'a>(&'a RecordBatch);

impl<'a> Columns<'a> {
    fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<&'a PrimitiveArray<T>, Fault> {
        let column = self.0.column_by_name(name).ok_or_else(|| missing(name))?;
        column.as_primitive_opt().ok_or_else(|| mistyped(name, column))
    }

    fn texts(&self, name: &str) -> Result<&'a StringArray, Fault> {
        let column = self.0.column_by_name(name).ok_or_else(|| missing(name))?;
        column.as_string_opt().ok_or_else(|| mistyped(name, column))
    }

    /// A nullable column, where the file has it.
    fn if_there<C>(
        &self,
        name: &str,
        column: impl Fn(&Self, &str) -> Result<C, Fault>,
    ) -> Result<Option<C>, Fault> {
        self.0.column_by_name(name).map(|_| column(self, name)).transpose()
    }
}

fn missing(name: &str) -> Fault {
    format!("column {name} is missing")
}

fn mistyped(name: &str, column: &dyn Array) -> Fault {
    format!("column {name} is of type {}", column.data_type())
}

fn bad(name: &str) -> Fault {
    format!("column {name} holds a value that cannot be")
}

fn some<T: ArrowPrimitiveType>(
    column: Option<&PrimitiveArray<T>>,
    row: usize,
) -> Option<T::Native> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

fn time(name: &str, micros: i64) -> Result<DeviceTime, Fault> {
    DeviceTime::from_ms(micros.div_euclid(1000)).ok_or_else(|| bad(name))
}

fn imei(number: i64) -> Result<Imei, Fault> {
    u64::try_from(number).ok().and_then(|n| Imei::new(n).ok()).ok_or_else(|| bad(col::IMEI))
}

/// Names of a column, each made once.
struct Names<'a, T> {
    column: &'a StringArray,
    known: HashMap<&'a str, T>,
    name: &'static str,
    make: fn(&str) -> Option<T>,
}

impl<'a, T: Clone> Names<'a, T> {
    fn new(
        columns: &Columns<'a>,
        name: &'static str,
        make: fn(&str) -> Option<T>,
    ) -> Result<Self, Fault> {
        Ok(Self { column: columns.texts(name)?, known: HashMap::new(), name, make })
    }

    fn get(&mut self, row: usize) -> Result<T, Fault> {
        let text = self.column.value(row);
        if let Some(known) = self.known.get(text) {
            return Ok(known.clone());
        }
        let made = (self.make)(text).ok_or_else(|| bad(self.name))?;
        self.known.insert(text, made.clone());
        Ok(made)
    }
}

/// The rows of a batch of a table of readings.
pub(super) fn readings(kind: Kind, batch: &RecordBatch) -> Result<Vec<Row>, Fault> {
    let columns = Columns(batch);
    let imeis = match kind {
        Kind::StationStatus => None,
        _ => columns.if_there(col::IMEI, Columns::numbers::<Int64Type>)?,
    };
    let boot_epoch = columns.numbers::<UInt32Type>(col::BOOT_EPOCH)?;
    let seq = columns.numbers::<UInt64Type>(col::SEQ)?;
    let mut station = Names::new(&columns, col::STATION, |t| StationId::new(t).ok())?;
    let mut region = Names::new(&columns, col::REGION, |t| Region::new(t).ok())?;
    let session = columns.numbers::<UInt32Type>(col::SESSION)?;
    let batch_seq = columns.numbers::<UInt64Type>(col::BATCH_SEQ)?;
    let replay = batch.column_by_name(col::REPLAY).ok_or_else(|| missing(col::REPLAY))?;
    let replay = replay.as_boolean_opt().ok_or_else(|| mistyped(col::REPLAY, replay))?;
    let lsn = columns.numbers::<UInt64Type>(col::LSN)?;
    let time_if_there = Columns::numbers::<TimestampMicrosecondType>;
    let measured = columns.if_there(col::MEASURED, time_if_there)?;
    let heard = columns.if_there(col::HEARD, time_if_there)?;
    let received = columns.numbers::<TimestampMicrosecondType>(col::RECEIVED)?;
    let effective = columns.numbers::<TimestampMicrosecondType>(col::EFFECTIVE)?;
    let source = columns.texts(col::TIME_SOURCE)?;
    let quality = columns.numbers::<UInt8Type>(col::QUALITY)?;
    let reason = columns.if_there(col::REASON, Columns::texts)?;

    let mut rows = Vec::with_capacity(batch.num_rows());
    for i in 0..batch.num_rows() {
        let reason = match reason.filter(|r| r.is_valid(i)).map(|r| r.value(i)) {
            Some(word) => Some(QualityReason::from_text(word).ok_or_else(|| bad(col::REASON))?),
            None => None,
        };
        let times = Times {
            measured: some(measured, i).map(|t| time(col::MEASURED, t)).transpose()?,
            heard: some(heard, i).map(|t| time(col::HEARD, t)).transpose()?,
            received: ReceiveTime::from_ns(received.value(i).saturating_mul(1000)),
            effective: time(col::EFFECTIVE, effective.value(i))?,
            source: TimeSource::from_text(source.value(i)).ok_or_else(|| bad(col::TIME_SOURCE))?,
        };
        rows.push(Row {
            lsn: lsn.value(i),
            region: region.get(i)?,
            station: station.get(i)?,
            session: session.value(i),
            batch_seq: batch_seq.value(i),
            replay: replay.value(i),
            reading: Reading {
                imei: some(imeis, i).map(imei).transpose()?,
                boot_epoch: boot_epoch.value(i),
                seq: seq.value(i),
                times,
                common: Common::default(),
                body: Body::empty(kind),
                quality: Quality::from_number(quality.value(i)).ok_or_else(|| bad(col::QUALITY))?,
                reason,
            },
        });
    }
    for (at, field) in kind.common_fields().iter().enumerate() {
        fill(field, batch, &mut rows, |row, value| row.reading.common.set(at, value).is_ok())?;
    }
    for (at, field) in kind.fields().iter().enumerate() {
        fill(field, batch, &mut rows, |row, value| row.reading.body.set(at, value).is_ok())?;
    }
    Ok(rows)
}

/// Puts a field's column into the rows. A file older than the field has no such column.
fn fill(
    field: &Field,
    batch: &RecordBatch,
    rows: &mut [Row],
    set: impl Fn(&mut Row, Value<'_>) -> bool,
) -> Result<(), Fault> {
    let Some(column) = batch.column_by_name(field.name) else { return Ok(()) };
    let wrong = || mistyped(field.name, column);
    let rows = rows.iter_mut().enumerate().filter(|(i, _)| column.is_valid(*i));
    let mut fits = true;
    match field.ty {
        FieldType::Int => {
            let column = column.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
            rows.for_each(|(i, row)| fits &= set(row, Value::Int(column.value(i))));
        }
        FieldType::Float => {
            let column = column.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
            rows.for_each(|(i, row)| fits &= set(row, Value::Float(column.value(i))));
        }
        FieldType::Bool => {
            let column = column.as_boolean_opt().ok_or_else(wrong)?;
            rows.for_each(|(i, row)| fits &= set(row, Value::Bool(column.value(i))));
        }
        FieldType::Enum(table) => {
            let column = column.as_string_opt::<i32>().ok_or_else(wrong)?;
            for (i, row) in rows {
                let number = table.number(column.value(i)).ok_or_else(|| bad(field.name))?;
                fits &= set(row, Value::Enum(number));
            }
        }
        FieldType::EnumList(table) => {
            let column = column.as_string_opt::<i32>().ok_or_else(wrong)?;
            for (i, row) in rows {
                let numbers: Option<Vec<i32>> =
                    column.value(i).split(',').map(|word| table.number(word)).collect();
                fits &= set(row, Value::EnumList(&numbers.ok_or_else(|| bad(field.name))?));
            }
        }
        FieldType::IntList => {
            let column = column.as_list_opt::<i32>().ok_or_else(wrong)?;
            for (i, row) in rows {
                let items = column.value(i);
                let items = items.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?;
                fits &= set(row, Value::IntList(items.values()));
            }
        }
    }
    if fits { Ok(()) } else { Err(bad(field.name)) }
}

/// The rows of a batch of `water_interval`.
pub(super) fn intervals(batch: &RecordBatch) -> Result<Vec<WaterInterval>, Fault> {
    let columns = Columns(batch);
    let imeis = columns.numbers::<Int64Type>(col::IMEI)?;
    let mut station = Names::new(&columns, col::STATION, |t| StationId::new(t).ok())?;
    let end = columns.numbers::<TimestampMicrosecondType>(col::INTERVAL_END)?;
    let interval = columns.numbers::<Int64Type>(col::INTERVAL_S)?;
    let delta = columns.numbers::<Int32Type>(col::DELTA_L)?;
    let lsn = columns.numbers::<UInt64Type>(col::LSN)?;
    (0..batch.num_rows())
        .map(|i| {
            Ok(WaterInterval {
                imei: imei(imeis.value(i))?,
                station: station.get(i)?,
                interval_end: time(col::INTERVAL_END, end.value(i))?,
                interval_s: interval.value(i),
                delta_l: delta.value(i),
                lsn: lsn.value(i),
            })
        })
        .collect()
}
