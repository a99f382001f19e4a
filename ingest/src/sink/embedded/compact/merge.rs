//! Many sorted streams of a table's rows into one, without decoding a row.
//!
//! Rows are compared by the columns that a flush sorts by and copied column by column. What is in
//! memory is a batch of each stream, and one of the rows that come out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{
    Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow_select::interleave::interleave_record_batch;

use super::super::QueryError;
use super::super::schema::{self as col, Table};

/// Rows that come out at once.
pub(in super::super) const ROWS_OUT: usize = 8192;

/// A stream cannot be merged.
#[derive(Debug)]
pub(in super::super) struct MergeError {
    /// Which stream.
    pub(in super::super) input: usize,
    pub(in super::super) why: Why,
}

#[derive(Debug, thiserror::Error)]
pub(in super::super) enum Why {
    /// It cannot be read.
    #[error(transparent)]
    Read(QueryError),
    /// It has a column that this program would drop.
    #[error("it has a column {0:?} that this program does not know; a newer one wrote it")]
    Newer(String),
    /// Its rows are not the table's.
    #[error("{0}")]
    Shape(String),
}

/// What a table is sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    imei: Option<i64>,
    /// Where there is no device.
    station: Option<Box<str>>,
    time: i64,
    boot_epoch: u32,
    seq: u64,
    lsn: u64,
}

impl Key {
    fn same_owner(&self, other: &Self) -> bool {
        self.imei == other.imei && self.station == other.station
    }
}

/// The columns of a batch that a table is sorted by.
struct Keys {
    imei: Option<Int64Array>,
    station: Option<StringArray>,
    time: TimestampMicrosecondArray,
    boot_epoch: Option<UInt32Array>,
    seq: Option<UInt64Array>,
    lsn: UInt64Array,
}

impl Keys {
    fn of(table: Table, batch: &RecordBatch) -> Option<Self> {
        let column = |name| batch.column_by_name(name);
        let readings = table != Table::WaterInterval;
        let time = if readings { col::EFFECTIVE } else { col::INTERVAL_END };
        Some(Self {
            imei: column(col::IMEI).and_then(|c| c.as_primitive_opt::<Int64Type>()).cloned(),
            station: column(col::STATION)?.as_string_opt::<i32>().cloned().filter(|_| readings),
            time: column(time)?.as_primitive_opt::<TimestampMicrosecondType>()?.clone(),
            boot_epoch: column(col::BOOT_EPOCH)
                .and_then(|c| c.as_primitive_opt::<UInt32Type>())
                .cloned(),
            seq: column(col::SEQ).and_then(|c| c.as_primitive_opt::<UInt64Type>()).cloned(),
            lsn: column(col::LSN)?.as_primitive_opt::<UInt64Type>()?.clone(),
        })
    }

    fn key(&self, row: usize) -> Key {
        let imei = self.imei.as_ref().filter(|c| c.is_valid(row)).map(|c| c.value(row));
        let station = self.station.as_ref().filter(|_| imei.is_none());
        Key {
            imei,
            station: station.map(|c| c.value(row).into()),
            time: self.time.value(row),
            boot_epoch: self.boot_epoch.as_ref().map_or(0, |c| c.value(row)),
            seq: self.seq.as_ref().map_or(0, |c| c.value(row)),
            lsn: self.lsn.value(row),
        }
    }
}

/// A stream, and where it is.
struct Input<I> {
    batches: I,
    keys: Option<Keys>,
    rows: usize,
    row: usize,
    /// The batch's place among those at hand.
    slot: usize,
}

/// The merge of sorted streams.
pub(in super::super) struct Merge<I> {
    table: Table,
    inputs: Vec<Input<I>>,
    /// The next row of every stream that has one.
    next: BinaryHeap<Reverse<(Key, usize)>>,
    /// The batches at hand, and those whose rows were chosen and not given out yet.
    batches: Vec<RecordBatch>,
    /// The row chosen last.
    last: Option<Key>,
}

/// Merged rows.
#[derive(Debug)]
pub(in super::super) struct Merged {
    /// The next rows; `None` if the device at hand has no more.
    pub(in super::super) batch: Option<RecordBatch>,
    /// Whether what follows is of another device.
    pub(in super::super) at_device: bool,
    /// Whether nothing follows.
    pub(in super::super) at_end: bool,
}

impl<I: Iterator<Item = Result<RecordBatch, QueryError>>> Merge<I> {
    pub(in super::super) fn new(
        table: Table,
        streams: impl IntoIterator<Item = I>,
    ) -> Result<Self, MergeError> {
        let inputs = streams.into_iter().map(|batches| Input {
            batches,
            keys: None,
            rows: 0,
            row: 0,
            slot: 0,
        });
        let mut merge = Self {
            table,
            inputs: inputs.collect(),
            next: BinaryHeap::new(),
            batches: Vec::new(),
            last: None,
        };
        for i in 0..merge.inputs.len() {
            if let Some(key) = merge.advance(i)? {
                merge.next.push(Reverse((key, i)));
            }
        }
        Ok(merge)
    }

    /// The next rows in order. With `to_device`, none beyond the device at hand.
    pub(in super::super) fn next(&mut self, to_device: bool) -> Result<Merged, MergeError> {
        let mut chosen: Vec<(usize, usize)> = Vec::with_capacity(ROWS_OUT);
        let mut at_device = false;
        while let Some(Reverse((key, i))) = self.next.peek() {
            let last = self.last.as_ref();
            // Of what meters repeat the last word stands; words on an interval come in rising order.
            let repeats = self.table == Table::WaterInterval
                && last.is_some_and(|last| last.same_owner(key) && last.time == key.time);
            if !repeats {
                at_device = last.is_some_and(|last| !last.same_owner(key));
                if chosen.len() >= ROWS_OUT || (to_device && at_device) {
                    break;
                }
            }
            let i = *i;
            let Some(input) = self.inputs.get(i) else { break };
            let place = (input.slot, input.row);
            match chosen.last_mut().filter(|_| repeats) {
                Some(last) => *last = place,
                None => chosen.push(place),
            }
            self.take(i)?;
        }
        let batch = match chosen.is_empty() {
            true => None,
            false => Some(self.give(&chosen).map_err(|e| shape(0, e.to_string()))?),
        };
        Ok(Merged { batch, at_device, at_end: self.next.is_empty() })
    }

    /// Notes that a stream's next row, which is the first of all, was chosen.
    fn take(&mut self, i: usize) -> Result<(), MergeError> {
        let after = self.advance(i)?;
        let Some(mut first) = self.next.peek_mut() else { return Ok(()) };
        let key = match after {
            Some(after) => {
                // What is out of order here would be out of order in what is written.
                if after < first.0.0 {
                    return Err(shape(i, "its rows are not in the table's order".to_owned()));
                }
                std::mem::replace(&mut *first, Reverse((after, i))).0.0
            }
            None => PeekMut::pop(first).0.0,
        };
        self.last = Some(key);
        Ok(())
    }

    /// The key of a stream's next row.
    fn advance(&mut self, i: usize) -> Result<Option<Key>, MergeError> {
        let Some(input) = self.inputs.get_mut(i) else { return Ok(None) };
        if input.keys.is_some() {
            input.row += 1;
        }
        while input.row >= input.rows {
            let Some(batch) = input.batches.next() else {
                input.keys = None;
                return Ok(None);
            };
            let batch = batch.map_err(|why| MergeError { input: i, why: Why::Read(why) })?;
            let batch = as_of(self.table, &batch).map_err(|why| MergeError { input: i, why })?;
            let keys = Keys::of(self.table, &batch)
                .ok_or_else(|| shape(i, "a column that its rows are sorted by is none".into()))?;
            (input.rows, input.row, input.slot) = (batch.num_rows(), 0, self.batches.len());
            input.keys = Some(keys);
            self.batches.push(batch);
        }
        Ok(input.keys.as_ref().map(|keys| keys.key(input.row)))
    }

    /// The chosen rows as one batch. Batches that no stream is in any more are let go.
    fn give(&mut self, chosen: &[(usize, usize)]) -> Result<RecordBatch, arrow_schema::ArrowError> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let given = interleave_record_batch(&batches, chosen)?;
        let mut kept = Vec::new();
        for input in self.inputs.iter_mut().filter(|input| input.keys.is_some()) {
            if let Some(batch) = self.batches.get(input.slot) {
                input.slot = kept.len();
                kept.push(batch.clone());
            }
        }
        self.batches = kept;
        Ok(given)
    }
}

fn shape(input: usize, why: String) -> MergeError {
    MergeError { input, why: Why::Shape(why) }
}

/// The batch with the table's columns of today. One that was not yet known when it was written is
/// null; one that is not known today would be dropped, and is refused.
fn as_of(table: Table, batch: &RecordBatch) -> Result<RecordBatch, Why> {
    let schema = table.schema();
    let there = batch.schema();
    if let Some(newer) = there.fields().iter().find(|f| schema.index_of(f.name()).is_err()) {
        return Err(Why::Newer(newer.name().clone()));
    }
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), batch.num_rows()),
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect())
        .map_err(|e| Why::Shape(e.to_string()))
}
