//! Columns as text.
//!
//! | column | in JSON | in CSV |
//! |---|---|---|
//! | time | `NAME_ms`: Unix milliseconds | RFC 3339, UTC |
//! | `imei` | text of 15 digits | the same |
//! | number | number, the shortest that reads back equal | the same |
//! | list | list | the same in brackets |
//! | null | the key is left out | nothing |

use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use loushan_schemas::time::DeviceTime;

/// The column of devices, whose numbers are names.
pub(super) const IMEI: &str = "imei";

/// Appends a row as one JSON object.
pub(super) fn object(batch: &RecordBatch, row: usize, out: &mut String) {
    out.push('{');
    let begun = out.len();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if column.is_null(row) {
            continue;
        }
        if out.len() > begun {
            out.push(',');
        }
        out.push('"');
        out.push_str(field.name());
        if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
            put(out, format_args!("_ms\":{}", times.value(row).div_euclid(1000)));
            continue;
        }
        out.push_str("\":");
        if field.name() == IMEI || *column.data_type() == DataType::Utf8 {
            let begin = out.len();
            cell(field.name(), &**column, row, out);
            let text = out.split_off(begin);
            put(out, format_args!("{}", serde_json::Value::from(text)));
        } else {
            cell(field.name(), &**column, row, out);
        }
    }
    out.push('}');
}

/// Appends a value as a cell of CSV; of a null nothing.
pub(super) fn cell(name: &str, column: &dyn Array, row: usize, out: &mut String) {
    if column.is_null(row) {
        return;
    }
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        let micros = times.value(row);
        match DeviceTime::from_ms(micros.div_euclid(1000)) {
            Some(time) => put(out, format_args!("{time}")),
            None => put(out, format_args!("{micros}")),
        }
    } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        match name {
            IMEI => put(out, format_args!("{:015}", numbers.value(row))),
            _ => put(out, format_args!("{}", numbers.value(row))),
        }
    } else if let Some(numbers) = column.as_primitive_opt::<Float64Type>() {
        // The shortest text that reads back as the same number.
        put(out, format_args!("{:?}", numbers.value(row)));
    } else if let Some(texts) = column.as_string_opt::<i32>() {
        out.push_str(texts.value(row));
    } else if let Some(yes) = column.as_boolean_opt() {
        put(out, format_args!("{}", yes.value(row)));
    } else if let Some(numbers) = column.as_primitive_opt::<UInt64Type>() {
        put(out, format_args!("{}", numbers.value(row)));
    } else if let Some(numbers) = column.as_primitive_opt::<UInt32Type>() {
        put(out, format_args!("{}", numbers.value(row)));
    } else if let Some(numbers) = column.as_primitive_opt::<UInt8Type>() {
        put(out, format_args!("{}", numbers.value(row)));
    } else if let Some(list) = column.as_list_opt::<i32>() {
        let items = list.value(row);
        let items = items.as_primitive_opt::<Int32Type>().map(|items| items.values().to_vec());
        put(out, format_args!("{:?}", items.unwrap_or_default()));
    }
}

/// Writing to a String cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}
