//! Readings of a kind as columns, as they come: first what is in memory, then day by day, within a day
//! file by file, within a file by device and time. Memory does not grow with their number.
//!
//! Rows in memory come first because they stay there as long as they are held, flushed or not: whoever
//! takes an hour over an export is not to hold up a memtable for an hour.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::Schema;
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;

use super::super::schema::Table;
use super::super::{QueryError, Store, decode, write};
use super::bounds::Bounds;
use super::which::Which;
use super::{View, as_stored};

/// Rows of a batch made of rows in memory.
const MEMORY_ROWS: usize = 4096;

/// The columns of a kind's readings, as files of this program have them.
#[must_use]
pub fn schema_of(kind: Kind) -> Arc<Schema> {
    Table::Readings(kind).schema()
}

/// Rows as columns.
///
/// # Errors
/// When a row is not of this kind.
pub fn batch_of(kind: Kind, rows: &[&Row]) -> Result<RecordBatch, QueryError> {
    write::reading_batch(kind, rows).map_err(|why| QueryError::Encode(why.to_string()))
}

/// The rows of a batch with a kind's columns.
///
/// # Errors
/// When its columns are not that.
pub fn rows_of(kind: Kind, batch: &RecordBatch) -> Result<Vec<Row>, QueryError> {
    decode::readings(kind, batch).map_err(QueryError::Encode)
}

impl Store {
    /// Hands over these readings of one kind, until `each` breaks off. Every batch has the columns of
    /// [`schema_of`]; what a file is too old to have is null. Returns up to which lsn it reaches.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged, or past the bounds; what was given until then is right.
    pub fn stream(
        &self,
        kind: Kind,
        which: &Which,
        bounds: &Bounds,
        each: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
    ) -> Result<u64, QueryError> {
        let (view, as_of_lsn) = self.view_of(which.device);
        let as_of_lsn = as_of_lsn.min(which.up_to_lsn);
        let which = Which { kind: Some(kind), ..which.clone() };
        if which.from_ms >= which.to_ms {
            return Ok(as_of_lsn);
        }
        let View { files, memory } = view;
        let mut rows: Vec<Row> = Vec::new();
        for row in memory.rows().filter(|row| which.takes(row)) {
            rows.push(as_stored(row));
            if rows.len() == MEMORY_ROWS {
                bounds.stop.check()?;
                if each(batch_of(kind, &rows.iter().collect::<Vec<_>>())?).is_break() {
                    return Ok(as_of_lsn);
                }
                rows.clear();
            }
        }
        drop(memory);
        bounds.stop.check()?;
        if !rows.is_empty() && each(batch_of(kind, &rows.iter().collect::<Vec<_>>())?).is_break() {
            return Ok(as_of_lsn);
        }
        drop(rows);
        let schema = schema_of(kind);
        for file in which.days(&files).into_values().flatten() {
            let ranges = which.ranges(file);
            let mut scan = self.0.files.read(file, which.wanted(&ranges))?;
            loop {
                let batch = {
                    // Not while whoever asked takes its time with the batch.
                    let _turn = bounds.turn()?;
                    let Some(batch) = scan.next() else { break };
                    fit(&schema, &batch?).map_err(|why| scan.corrupt(why))?
                };
                if batch.num_rows() > 0 && each(batch).is_break() {
                    return Ok(as_of_lsn);
                }
            }
        }
        Ok(as_of_lsn)
    }
}

/// A file's batch in the columns of today.
fn fit(schema: &Arc<Schema>, batch: &RecordBatch) -> Result<RecordBatch, String> {
    let columns: Result<Vec<ArrayRef>, String> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => {
                Err(format!("column {} is of type {}", field.name(), column.data_type()))
            }
            None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
            None => Err(format!("column {} is missing", field.name())),
        })
        .collect();
    RecordBatch::try_new(Arc::clone(schema), columns?).map_err(|e| e.to_string())
}
