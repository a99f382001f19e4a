//! Which row groups and pages of a file can hold what is wanted, by statistics and bloom filters.

use std::ops::Bound;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection, RowSelector};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::{Range, Wanted};
use crate::sink::embedded::schema::{IMEI, STATION};

pub(super) type Bounds = (Option<i128>, Option<i128>);

fn converter<'a>(
    footer: &'a ArrowReaderMetadata,
    column: &'a str,
) -> Result<StatisticsConverter<'a>, ParquetError> {
    StatisticsConverter::try_new(column, footer.schema(), footer.parquet_schema())
}

/// Smallest and greatest value of each row group.
pub(super) fn group_bounds(
    footer: &ArrowReaderMetadata,
    range: Range,
) -> Result<Vec<Bounds>, ParquetError> {
    let groups = footer.metadata().row_groups();
    let converter = converter(footer, range.column)?;
    let mins = converter.row_group_mins(groups)?;
    let maxes = converter.row_group_maxes(groups)?;
    Ok((0..groups.len()).map(|i| (value(&*mins, i), value(&*maxes, i))).collect())
}

/// The row groups that can have rows in all ranges and of the station.
pub(super) fn groups(
    footer: &ArrowReaderMetadata,
    wanted: Wanted<'_>,
) -> Result<Vec<usize>, ParquetError> {
    let metadata = footer.metadata();
    let mut groups: Vec<usize> = (0..metadata.num_row_groups()).collect();
    for range in wanted.ranges {
        let bounds = group_bounds(footer, *range)?;
        groups.retain(|g| bounds.get(*g).is_none_or(|(min, max)| range.meets(*min, *max)));
    }
    if let Some(station) = wanted.station {
        let converter = converter(footer, STATION)?;
        let mins = converter.row_group_mins(metadata.row_groups())?;
        let maxes = converter.row_group_maxes(metadata.row_groups())?;
        groups.retain(|g| text_meets(&mins, &maxes, *g, station.as_str()));
    }
    if let Some(among) = wanted.among {
        let converter = converter(footer, STATION)?;
        let mins = converter.row_group_mins(metadata.row_groups())?;
        let maxes = converter.row_group_maxes(metadata.row_groups())?;
        groups.retain(|g| {
            let (min, max) = (text_at(&mins, *g), text_at(&maxes, *g));
            let low = min.as_deref().map_or(Bound::Unbounded, Bound::Included);
            let mut above = among.range::<str, _>((low, Bound::Unbounded));
            above.next().is_some_and(|name| max.as_deref().is_none_or(|max| **name <= *max))
        });
    }
    Ok(groups)
}

/// The rows of the pages of this group that can be wanted; `None` where all can.
pub(super) fn pages(
    footer: &ArrowReaderMetadata,
    wanted: Wanted<'_>,
    group: usize,
) -> Result<Option<RowSelection>, ParquetError> {
    let metadata = footer.metadata();
    let Some(pages) = metadata.page_index().filter(|pages| pages.is_complete()) else {
        return Ok(None);
    };
    let columns = wanted.ranges.iter().map(|range| (range.column, Some(*range)));
    let columns: Vec<_> = columns.chain(wanted.station.map(|_| (STATION, None))).collect();
    if columns.is_empty() {
        return Ok(None);
    }
    let rows = usize::try_from(metadata.row_group(group).num_rows()).unwrap_or(0);
    let mut selection = RowSelection::from(vec![RowSelector::select(rows)]);
    for (column, range) in &columns {
        let converter = converter(footer, column)?;
        let counts = converter.data_page_row_counts(&**pages, metadata.row_groups(), [&group])?;
        let Some(counts) = counts else { continue };
        let mins = converter.data_page_mins(&**pages, [&group])?;
        let maxes = converter.data_page_maxes(&**pages, [&group])?;
        let meets = |i: usize| match (range, wanted.station) {
            (Some(range), _) => range.meets(value(&*mins, i), value(&*maxes, i)),
            (None, Some(station)) => text_meets(&mins, &maxes, i, station.as_str()),
            (None, None) => true,
        };
        let of_pages: Vec<RowSelector> = (0..counts.len())
            .map(|i| RowSelector {
                row_count: usize::try_from(counts.value(i)).unwrap_or(0),
                skip: !meets(i),
            })
            .collect();
        // Without an index of its own a column has no pages here: nothing is known.
        if of_pages.iter().map(|s| s.row_count).sum::<usize>() == rows {
            selection = selection.intersection(&RowSelection::from(of_pages));
        }
    }
    // A selection of everything would only be looked through.
    Ok((selection.skipped_row_count() > 0).then_some(selection))
}

/// The range that names one device, which is what bloom filters are asked for.
pub(super) fn of_one_device(ranges: &[Range]) -> Option<Range> {
    ranges.iter().find(|range| range.column == IMEI && range.low == range.high).copied()
}

/// The column's place among the leaves.
fn leaf(footer: &ArrowReaderMetadata, column: &str) -> Option<usize> {
    let columns = footer.parquet_schema().columns();
    columns.iter().position(|leaf| leaf.path().parts() == [column])
}

/// The column's part of a row group, where it has a bloom filter.
pub(super) fn bloomed<'a>(
    footer: &'a ArrowReaderMetadata,
    column: &str,
    group: usize,
) -> Option<&'a ColumnChunkMetaData> {
    let column = footer.metadata().row_groups().get(group)?.columns().get(leaf(footer, column)?)?;
    column.bloom_filter_offset().map(|_| column)
}

/// About the bytes of the part's bloom filter in memory.
pub(super) fn bloom_bytes(column: &ColumnChunkMetaData) -> usize {
    // Where the length is not said, what the writer makes of a row group's worth of devices.
    let bytes = column.bloom_filter_length().and_then(|bytes| usize::try_from(bytes).ok());
    bytes.unwrap_or(128 * 1024) + 128
}

fn text_meets(mins: &ArrayRef, maxes: &ArrayRef, i: usize, text: &str) -> bool {
    // Greatest values may be cut short, but then they are counted up at their end.
    text_at(mins, i).is_none_or(|min| min.as_str() <= text)
        && text_at(maxes, i).is_none_or(|max| max.as_str() >= text)
}

fn text_at(array: &ArrayRef, i: usize) -> Option<String> {
    let array = array.as_string_opt::<i32>()?;
    (i < array.len() && array.is_valid(i)).then(|| array.value(i).to_owned())
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
    } else if let Some(column) = column.as_primitive_opt::<UInt8Type>() {
        Some(column.value(i).into())
    } else {
        Some(column.as_primitive_opt::<UInt32Type>()?.value(i).into())
    }
}
