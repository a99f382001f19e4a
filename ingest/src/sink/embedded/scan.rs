//! Reading the rows of one file that lie in given ranges.
//!
//! Three sieves, each finer and dearer than the one before: the statistics of row groups, those of
//! pages, and the values themselves (of the columns asked for only; the others are decoded for the
//! rows that are left).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::{ArrowError, DataType};
use parking_lot::Mutex;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions,
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowFilter, RowSelection,
    RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

use super::QueryError;
use super::block::BlockFile;
use super::manifest::FileEntry;
use crate::io::Io;

/// Rows decoded at once.
const BATCH_ROWS: usize = 4096;

/// Values of a column, both ends included. Wide enough for every integer type there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) column: &'static str,
    pub(super) low: i128,
    pub(super) high: i128,
}

impl Range {
    pub(super) fn exactly(column: &'static str, value: impl Into<i128>) -> Self {
        let value = value.into();
        Self { column, low: value, high: value }
    }

    fn meets(&self, min: Option<i128>, max: Option<i128>) -> bool {
        // No statistics say nothing.
        min.is_none_or(|min| min <= self.high) && max.is_none_or(|max| max >= self.low)
    }

    fn spans(&self, min: Option<i128>, max: Option<i128>) -> bool {
        min.is_some_and(|min| min >= self.low) && max.is_some_and(|max| max <= self.high)
    }
}

/// The files of a store.
#[derive(Debug)]
pub(super) struct Files {
    io: Arc<dyn Io>,
    dir: PathBuf,
    footers: Mutex<Footers>,
}

impl Files {
    pub(super) fn new(io: Arc<dyn Io>, dir: PathBuf, footer_cache_bytes: usize) -> Self {
        let footers = Mutex::new(Footers { bound: footer_cache_bytes, ..Footers::default() });
        Self { io, dir, footers }
    }

    fn open(&self, entry: &Arc<FileEntry>) -> Result<(BlockFile, ArrowReaderMetadata), QueryError> {
        let file = BlockFile::open(&*self.io, &self.dir, entry)?;
        if let Some(footer) = self.footers.lock().get(entry.id) {
            return Ok((file, footer));
        }
        let options = ArrowReaderOptions::new()
            .with_skip_arrow_metadata(true)
            .with_page_index_policy(PageIndexPolicy::Optional);
        let footer = ArrowReaderMetadata::load(&file, options).map_err(|e| file.error(&e))?;
        self.footers.lock().put(entry.id, &footer);
        Ok((file, footer))
    }

    /// The rows that lie in all ranges; of these columns, or of all.
    pub(super) fn scan(
        &self,
        entry: &Arc<FileEntry>,
        ranges: &[Range],
        columns: Option<&[&'static str]>,
    ) -> Result<Scan, QueryError> {
        let (file, footer) = self.open(entry)?;
        let (groups, selection) = select(&footer, ranges).map_err(|e| file.error(&e))?;
        if groups.is_empty() {
            return Ok(Scan { file, reader: None });
        }
        let schema = footer.metadata().file_metadata().schema_descr_ptr();
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), footer.clone())
                .with_batch_size(BATCH_ROWS)
                .with_row_groups(groups)
                .with_row_filter(RowFilter::new(
                    ranges.iter().map(|r| sieve(&schema, *r)).collect(),
                ));
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        if let Some(columns) = columns {
            let mask = ProjectionMask::columns(&schema, columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        let reader = builder.build().map_err(|e| file.error(&e))?;
        Ok(Scan { file, reader: Some(reader) })
    }

    /// How many rows lie in the range.
    pub(super) fn count(&self, entry: &Arc<FileEntry>, range: Range) -> Result<u64, QueryError> {
        let (file, footer) = self.open(entry)?;
        let groups = footer.metadata().row_groups();
        let bounds = group_bounds(&footer, range).map_err(|e| file.error(&e))?;
        if bounds.iter().all(|(min, max)| range.spans(*min, *max) || !range.meets(*min, *max)) {
            let inside =
                groups.iter().zip(&bounds).filter(|(_, (min, max))| range.spans(*min, *max));
            return Ok(inside.map(|(group, _)| u64::try_from(group.num_rows()).unwrap_or(0)).sum());
        }
        let mut rows = 0;
        for batch in self.scan(entry, &[range], Some(&[range.column]))? {
            rows += batch?.num_rows() as u64;
        }
        Ok(rows)
    }
}

/// Batches of a file's rows.
#[derive(Debug)]
pub(super) struct Scan {
    file: BlockFile,
    reader: Option<ParquetRecordBatchReader>,
}

impl Scan {
    /// The file's columns are not what they should be.
    pub(super) fn corrupt(&self, why: String) -> QueryError {
        self.file.corrupt(why)
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.reader.as_mut()?.next()?;
        if next.is_err() {
            self.reader = None;
        }
        Some(next.map_err(|e| self.file.error(&e)))
    }
}

type Bounds = (Option<i128>, Option<i128>);

fn group_bounds(footer: &ArrowReaderMetadata, range: Range) -> Result<Vec<Bounds>, ParquetError> {
    let groups = footer.metadata().row_groups();
    let converter =
        StatisticsConverter::try_new(range.column, footer.schema(), footer.parquet_schema())?;
    let mins = converter.row_group_mins(groups)?;
    let maxes = converter.row_group_maxes(groups)?;
    Ok((0..groups.len()).map(|i| (value(&*mins, i), value(&*maxes, i))).collect())
}

/// The row groups, and the rows of them, that can have values in all ranges.
fn select(
    footer: &ArrowReaderMetadata,
    ranges: &[Range],
) -> Result<(Vec<usize>, Option<RowSelection>), ParquetError> {
    let metadata = footer.metadata();
    let mut groups: Vec<usize> = (0..metadata.num_row_groups()).collect();
    for range in ranges {
        let bounds = group_bounds(footer, *range)?;
        groups.retain(|g| bounds.get(*g).is_none_or(|(min, max)| range.meets(*min, *max)));
    }
    let Some(pages) = metadata.page_index().filter(|pages| pages.is_complete()) else {
        return Ok((groups, None));
    };
    let mut selectors: Vec<RowSelector> = Vec::new();
    for group in &groups {
        let rows = usize::try_from(metadata.row_group(*group).num_rows()).unwrap_or(0);
        let mut selection = RowSelection::from(vec![RowSelector::select(rows)]);
        for range in ranges {
            let converter = StatisticsConverter::try_new(
                range.column,
                footer.schema(),
                footer.parquet_schema(),
            )?;
            let counts =
                converter.data_page_row_counts(&**pages, metadata.row_groups(), [group])?;
            let Some(counts) = counts else { continue };
            let mins = converter.data_page_mins(&**pages, [group])?;
            let maxes = converter.data_page_maxes(&**pages, [group])?;
            let of_pages: Vec<RowSelector> = (0..counts.len())
                .map(|i| {
                    let skip = !range.meets(value(&*mins, i), value(&*maxes, i));
                    RowSelector { row_count: usize::try_from(counts.value(i)).unwrap_or(0), skip }
                })
                .collect();
            // Without an index of its own a column has no pages here: nothing is known.
            if of_pages.iter().map(|s| s.row_count).sum::<usize>() == rows {
                selection = selection.intersection(&RowSelection::from(of_pages));
            }
        }
        selectors.extend(Vec::<RowSelector>::from(selection));
    }
    Ok((groups, Some(RowSelection::from(selectors))))
}

/// Keeps the rows in a range. A null is in none.
fn sieve(
    schema: &parquet::schema::types::SchemaDescriptor,
    range: Range,
) -> Box<dyn ArrowPredicate> {
    let mask = ProjectionMask::columns(schema, [range.column]);
    Box::new(ArrowPredicateFn::new(mask, move |batch| {
        let Some(column) = batch.columns().first().filter(|column| is_number(column.data_type()))
        else {
            let why = format!("column {} is missing or no number", range.column);
            return Err(ArrowError::SchemaError(why));
        };
        let inside = |i| value(&**column, i).is_some_and(|v| (range.low..=range.high).contains(&v));
        Ok(BooleanArray::from_iter((0..batch.num_rows()).map(|i| Some(inside(i)))))
    }))
}

fn is_number(ty: &DataType) -> bool {
    matches!(ty, DataType::Int64 | DataType::UInt64 | DataType::UInt32 | DataType::Timestamp(_, _))
}

fn value(column: &dyn Array, i: usize) -> Option<i128> {
    if i >= column.len() || column.is_null(i) {
        return None;
    }
    if let Some(column) = column.as_primitive_opt::<Int64Type>() {
        Some(column.value(i).into())
    } else if let Some(column) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(column.value(i).into())
    } else if let Some(column) = column.as_primitive_opt::<UInt64Type>() {
        Some(column.value(i).into())
    } else {
        Some(column.as_primitive_opt::<UInt32Type>()?.value(i).into())
    }
}

/// Footers by file, the ones not used for longest given up first.
#[derive(Debug, Default)]
struct Footers {
    bound: usize,
    bytes: usize,
    clock: u64,
    known: HashMap<u64, (ArrowReaderMetadata, usize, u64)>,
}

impl Footers {
    fn get(&mut self, id: u64) -> Option<ArrowReaderMetadata> {
        self.clock += 1;
        let (footer, _, used) = self.known.get_mut(&id)?;
        *used = self.clock;
        Some(footer.clone())
    }

    fn put(&mut self, id: u64, footer: &ArrowReaderMetadata) {
        let bytes = footer.metadata().memory_size();
        if bytes > self.bound {
            return;
        }
        self.clock += 1;
        if let Some((_, before, _)) = self.known.insert(id, (footer.clone(), bytes, self.clock)) {
            self.bytes -= before;
        }
        self.bytes += bytes;
        while self.bytes > self.bound {
            let oldest = self.known.iter().min_by_key(|(_, (_, _, used))| *used).map(|(id, _)| *id);
            let Some((_, bytes, _)) = oldest.and_then(|id| self.known.remove(&id)) else { break };
            self.bytes -= bytes;
        }
    }
}
