//! What a file's entry says of its rows, taken from its batches.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};

use super::super::manifest::FileEntry;
use super::super::schema::{self as col, Table};

/// Widens the ranges of an entry to the rows of a batch of its table's columns.
pub(super) fn widen(entry: &mut FileEntry, batch: &RecordBatch) {
    let times = |name| {
        let column = batch.column_by_name(name)?;
        column.as_primitive_opt::<TimestampMicrosecondType>()
    };
    let time = match entry.table {
        Table::Readings(_) => times(col::EFFECTIVE),
        Table::WaterInterval => times(col::INTERVAL_END),
    };
    for micros in time.into_iter().flatten().flatten() {
        let ms = micros.div_euclid(1000);
        entry.min_ms = entry.min_ms.min(ms);
        entry.max_ms = entry.max_ms.max(ms);
    }
    if let Some(measured) = times(col::MEASURED) {
        entry.unmeasured |= measured.null_count() > 0;
        let ms = measured.iter().flatten().map(|micros| micros.div_euclid(1000));
        ms.for_each(|ms| FileEntry::widen(&mut entry.measured_ms, ms));
    }
    let column = |name| batch.column_by_name(name);
    let imeis = column(col::IMEI).and_then(|c| c.as_primitive_opt::<Int64Type>());
    for imei in imeis.into_iter().flatten().flatten() {
        // Sixteen digits and no sign: as it was written.
        FileEntry::widen(&mut entry.imei, imei.unsigned_abs());
    }
    let lsns = column(col::LSN).and_then(|c| c.as_primitive_opt::<UInt64Type>());
    for lsn in lsns.into_iter().flatten().flatten() {
        entry.min_lsn = entry.min_lsn.min(lsn);
        entry.max_lsn = entry.max_lsn.max(lsn);
    }
}
