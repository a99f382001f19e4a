//! Reading the rows of one file that lie in given ranges.
//!
//! Five sieves, each finer and dearer than the one before: the manifest's ranges (the caller's), the
//! statistics of row groups, bloom filters, the statistics of pages ([`prune`]), and the values
//! themselves. The last decodes the columns asked after first and the others only for the rows that
//! are left; a caller that looks at the values anyhow leaves it out ([`Wanted::sifted`]). It works
//! on one row group at a time, when that is come to: a step of a [`Scan`] is then short, and whoever
//! takes turns or is to stop in between does so within a row group, not within a file.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Int64Type, TimestampMicrosecondType, UInt8Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, BooleanArray, RecordBatch, RecordBatchReader as _};
use arrow_schema::ArrowError;
use loushan_schemas::ids::StationId;
use parking_lot::Mutex;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions,
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowFilter,
};
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::schema::types::SchemaDescriptor;

use super::QueryError;
use super::block::BlockFile;
use super::manifest::FileEntry;
use super::query::Among;
use super::schema::{EFFECTIVE, LSN, STATION};
use crate::io::Io;

mod cache;
mod prune;

use cache::Cache;

/// Rows decoded at once: a batch of all columns is a few megabytes.
const BATCH_ROWS: usize = 4096;
/// Bytes of bloom filters kept in memory, beside the footers: those of a day of small files.
const BLOOM_BYTES: usize = 16 * 1024 * 1024;

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

/// What of a file is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Rows that lie in all of these.
    pub(super) ranges: &'a [Range],
    /// Rows of this station.
    pub(super) station: Option<&'a StationId>,
    /// Rows of one of these.
    pub(super) among: Option<&'a Among>,
    /// Rows of these moments, by effective time in microseconds and lsn.
    pub(super) moments: Option<&'a Arc<HashSet<(i64, u64)>>>,
    /// These columns, or all. One that the file is too old to have is left out.
    pub(super) columns: Option<&'a [&'static str]>,
    /// Whether only such rows come, or whole pages that may hold some.
    pub(super) sifted: bool,
    /// Rows of a batch.
    pub(super) batch_rows: usize,
}

impl<'a> Wanted<'a> {
    /// All columns of the rows in all ranges.
    pub(super) fn rows(ranges: &'a [Range]) -> Self {
        Self {
            ranges,
            station: None,
            among: None,
            moments: None,
            columns: None,
            sifted: true,
            batch_rows: BATCH_ROWS,
        }
    }
}

/// The files of a store.
#[derive(Debug)]
pub(super) struct Files {
    io: Arc<dyn Io>,
    dir: PathBuf,
    footers: Mutex<Cache<ArrowReaderMetadata>>,
    /// By file and row group.
    blooms: Mutex<Cache<Arc<Sbbf>>>,
}

impl Files {
    pub(super) fn new(io: Arc<dyn Io>, dir: PathBuf, footer_cache_bytes: usize) -> Self {
        let footers = Mutex::new(Cache::new(footer_cache_bytes));
        let blooms = Mutex::new(Cache::new(BLOOM_BYTES.min(footer_cache_bytes)));
        Self { io, dir, footers, blooms }
    }

    /// Bytes of what is kept in memory of files.
    pub(super) fn cached_bytes(&self) -> usize {
        self.footers.lock().bytes() + self.blooms.lock().bytes()
    }

    fn open(&self, entry: &Arc<FileEntry>) -> Result<(BlockFile, ArrowReaderMetadata), QueryError> {
        let file = BlockFile::open(&*self.io, &self.dir, entry)?;
        if let Some(footer) = self.footers.lock().get((entry.id, 0)) {
            return Ok((file, footer));
        }
        let options = ArrowReaderOptions::new()
            .with_skip_arrow_metadata(true)
            .with_page_index_policy(PageIndexPolicy::Optional);
        let footer = ArrowReaderMetadata::load(&file, options).map_err(|e| file.error(&e))?;
        self.footers.lock().put((entry.id, 0), footer.clone(), footer.metadata().memory_size());
        Ok((file, footer))
    }

    /// The rows that lie in all ranges; of these columns, or of all.
    pub(super) fn scan(
        &self,
        entry: &Arc<FileEntry>,
        ranges: &[Range],
        columns: Option<&[&'static str]>,
    ) -> Result<Scan, QueryError> {
        self.read(entry, Wanted { columns, ..Wanted::rows(ranges) })
    }

    /// What of the file is wanted.
    pub(super) fn read(
        &self,
        entry: &Arc<FileEntry>,
        wanted: Wanted<'_>,
    ) -> Result<Scan, QueryError> {
        let (file, footer) = self.open(entry)?;
        let mut groups = prune::groups(&footer, wanted).map_err(|e| file.error(&e))?;
        if let Some(range) = prune::of_one_device(wanted.ranges)
            && !groups.is_empty()
        {
            self.pass_blooms(entry, &file, &footer, range, &mut groups)?;
        }
        let left = groups.into();
        Ok(Scan { file, footer, left, wanted: Kept::of(wanted), reader: None })
    }

    /// Takes away the row groups whose bloom filter says that the device is not in them. One without
    /// a filter says nothing.
    fn pass_blooms(
        &self,
        entry: &Arc<FileEntry>,
        file: &BlockFile,
        footer: &ArrowReaderMetadata,
        range: Range,
        groups: &mut Vec<usize>,
    ) -> Result<(), QueryError> {
        // As the column keeps it; an IMEI has 15 digits.
        let Ok(value) = i64::try_from(range.low) else { return Ok(()) };
        let mut left = Vec::with_capacity(groups.len());
        for group in groups.drain(..) {
            let Some(column) = prune::bloomed(footer, range.column, group) else {
                left.push(group);
                continue;
            };
            let id = (entry.id, group);
            let known = self.blooms.lock().get(id);
            let bloom = match known {
                Some(bloom) => Some(bloom),
                None => {
                    let bloom = Sbbf::read_from_column_chunk(column, file);
                    let bloom = bloom.map_err(|e| file.error(&e))?.map(Arc::new);
                    if let Some(bloom) = &bloom {
                        let bytes = prune::bloom_bytes(column);
                        self.blooms.lock().put(id, Arc::clone(bloom), bytes);
                    }
                    bloom
                }
            };
            if bloom.is_none_or(|bloom| bloom.check(&value)) {
                left.push(group);
            }
        }
        *groups = left;
        Ok(())
    }

    /// How many rows lie in the range.
    pub(super) fn count(&self, entry: &Arc<FileEntry>, range: Range) -> Result<u64, QueryError> {
        let (file, footer) = self.open(entry)?;
        let groups = footer.metadata().row_groups();
        let bounds = prune::group_bounds(&footer, range).map_err(|e| file.error(&e))?;
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

/// What is wanted, for as long as a scan takes.
#[derive(Debug)]
struct Kept {
    ranges: Vec<Range>,
    station: Option<StationId>,
    among: Option<Among>,
    moments: Option<Arc<HashSet<(i64, u64)>>>,
    columns: Option<Vec<&'static str>>,
    sifted: bool,
    batch_rows: usize,
}

impl Kept {
    fn of(wanted: Wanted<'_>) -> Self {
        Self {
            ranges: wanted.ranges.to_vec(),
            station: wanted.station.cloned(),
            among: wanted.among.cloned(),
            moments: wanted.moments.cloned(),
            columns: wanted.columns.map(<[_]>::to_vec),
            sifted: wanted.sifted,
            batch_rows: wanted.batch_rows,
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            ranges: &self.ranges,
            station: self.station.as_ref(),
            among: self.among.as_ref(),
            moments: self.moments.as_ref(),
            columns: self.columns.as_deref(),
            sifted: self.sifted,
            batch_rows: self.batch_rows,
        }
    }
}

/// Batches of a file's rows.
#[derive(Debug)]
pub(super) struct Scan {
    file: BlockFile,
    footer: ArrowReaderMetadata,
    /// Row groups not come to yet.
    left: VecDeque<usize>,
    wanted: Kept,
    /// Of the row group that is being read.
    reader: Option<ParquetRecordBatchReader>,
}

impl Scan {
    /// The file's columns are not what they should be.
    pub(super) fn corrupt(&self, why: String) -> QueryError {
        self.file.corrupt(why)
    }

    /// A reader of one row group; `None` where no page of it can have what is wanted. Making it
    /// decodes the columns that are asked after.
    fn open(&self, group: usize) -> Result<Option<ParquetRecordBatchReader>, ParquetError> {
        let wanted = self.wanted.wanted();
        let selection = prune::pages(&self.footer, wanted, group)?;
        if selection.as_ref().is_some_and(|selection| !selection.selects_any()) {
            return Ok(None);
        }
        let (file, footer) = (self.file.clone(), self.footer.clone());
        let schema = footer.metadata().file_metadata().schema_descr_ptr();
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer)
            .with_batch_size(wanted.batch_rows)
            .with_row_groups(vec![group]);
        if wanted.sifted {
            let mut sieves: Vec<_> = wanted.ranges.iter().map(|r| sieve(&schema, *r)).collect();
            sieves.extend(wanted.station.map(|station| station_sieve(&schema, station)));
            sieves.extend(wanted.among.map(|among| among_sieve(&schema, among)));
            sieves.extend(wanted.moments.map(|moments| moment_sieve(&schema, moments)));
            builder = builder.with_row_filter(RowFilter::new(sieves));
        }
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        if let Some(columns) = wanted.columns {
            let mask = ProjectionMask::columns(&schema, columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        builder.build().map(Some)
    }

    /// The next batch. A row group ends with an empty one, so that a step never takes longer than the
    /// sieves of one row group do.
    fn step(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        loop {
            if let Some(reader) = &mut self.reader {
                let Some(batch) = reader.next() else {
                    let end = RecordBatch::new_empty(reader.schema());
                    self.reader = None;
                    return Ok(Some(end));
                };
                return batch.map(Some).map_err(|e| self.file.error(&e));
            }
            let Some(group) = self.left.pop_front() else { return Ok(None) };
            self.reader = self.open(group).map_err(|e| self.file.error(&e))?;
        }
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step();
        if next.is_err() {
            self.reader = None;
            self.left.clear();
        }
        next.transpose()
    }
}

/// Keeps the rows in a range. A null is in none.
fn sieve(schema: &SchemaDescriptor, range: Range) -> Box<dyn ArrowPredicate> {
    let mask = ProjectionMask::columns(schema, [range.column]);
    Box::new(ArrowPredicateFn::new(mask, move |batch| {
        let column = batch.columns().first();
        let kept = column.and_then(|column| {
            inside::<Int64Type>(&**column, range)
                .or_else(|| inside::<TimestampMicrosecondType>(&**column, range))
                .or_else(|| inside::<UInt64Type>(&**column, range))
                .or_else(|| inside::<UInt32Type>(&**column, range))
                .or_else(|| inside::<UInt8Type>(&**column, range))
        });
        kept.ok_or_else(|| unfit(range.column, "no number"))
    }))
}

fn station_sieve(schema: &SchemaDescriptor, station: &StationId) -> Box<dyn ArrowPredicate> {
    let station = station.clone();
    text_sieve(schema, move |text| text == station.as_str())
}

fn among_sieve(schema: &SchemaDescriptor, among: &Among) -> Box<dyn ArrowPredicate> {
    let among = Arc::clone(among);
    text_sieve(schema, move |text| among.contains(text))
}

/// Rows of whose stations this is true.
fn text_sieve(
    schema: &SchemaDescriptor,
    is_wanted: impl Fn(&str) -> bool + Send + 'static,
) -> Box<dyn ArrowPredicate> {
    let mask = ProjectionMask::columns(schema, [STATION]);
    Box::new(ArrowPredicateFn::new(mask, move |batch| {
        let column = batch.columns().first().and_then(|column| column.as_string_opt::<i32>());
        let column = column.ok_or_else(|| unfit(STATION, "no text"))?;
        let same = |i: usize| Some(column.is_valid(i) && is_wanted(column.value(i)));
        Ok(BooleanArray::from_iter((0..column.len()).map(same)))
    }))
}

fn moment_sieve(
    schema: &SchemaDescriptor,
    moments: &Arc<HashSet<(i64, u64)>>,
) -> Box<dyn ArrowPredicate> {
    let moments = Arc::clone(moments);
    let mask = ProjectionMask::columns(schema, [EFFECTIVE, LSN]);
    Box::new(ArrowPredicateFn::new(mask, move |batch| {
        let times = batch.column_by_name(EFFECTIVE);
        let times = times.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let lsns = batch.column_by_name(LSN).and_then(|c| c.as_primitive_opt::<UInt64Type>());
        let times = times.ok_or_else(|| unfit(EFFECTIVE, "no time"))?;
        let lsns = lsns.ok_or_else(|| unfit(LSN, "no number"))?;
        let rows = times.values().iter().zip(lsns.values());
        Ok(BooleanArray::from_iter(rows.map(|(time, lsn)| Some(moments.contains(&(*time, *lsn))))))
    }))
}

fn unfit(column: &str, what: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column {column} is missing or {what}"))
}

/// Which values of a column of this type lie in the range; `None` where it is of another type.
fn inside<T: ArrowPrimitiveType>(column: &dyn Array, range: Range) -> Option<BooleanArray>
where
    T::Native: TryFrom<i128> + PartialOrd + Copy + Bounded,
{
    let column = column.as_primitive_opt::<T>()?;
    // What the type cannot hold bounds nothing, or leaves nothing.
    let least = T::Native::LEAST.into();
    let most = T::Native::MOST.into();
    if range.low > most || range.high < least {
        return Some(BooleanArray::from_iter((0..column.len()).map(|_| Some(false))));
    }
    let low = T::Native::try_from(range.low.max(least)).ok()?;
    let high = T::Native::try_from(range.high.min(most)).ok()?;
    let values = column.values();
    let fits = |value: &T::Native| low <= *value && *value <= high;
    Some(match column.nulls() {
        None => BooleanArray::from_iter(values.iter().map(|value| Some(fits(value)))),
        Some(_) => BooleanArray::from_iter(
            values.iter().enumerate().map(|(i, value)| Some(column.is_valid(i) && fits(value))),
        ),
    })
}

/// A whole number's ends.
trait Bounded: Sized + Into<i128> {
    const LEAST: Self;
    const MOST: Self;
}

macro_rules! bounded {
    ($($ty:ty)+) => { $(impl Bounded for $ty { const LEAST: Self = Self::MIN; const MOST: Self = Self::MAX; })+ };
}
bounded!(i64 u64 u32 u8);
