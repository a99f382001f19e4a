//! The tables and their columns.
//!
//! Columns of a table of readings, in this order:
//!
//! | column | type | |
//! |---|---|---|
//! | `imei` | int64 | not in `station_status` |
//! | `boot_epoch`, `session` | uint32 | |
//! | `seq`, `batch_seq`, `lsn` | uint64 | |
//! | `station`, `region` | string, dictionary encoded | |
//! | `replay` | boolean | the station had kept it back |
//! | `effective`, `received` | timestamp, µs, UTC | |
//! | `measured`, `heard` | timestamp, µs, UTC, or null | |
//! | `time_source` | string | `measured`, `heard`, `received`: where `effective` comes from |
//! | `quality` | uint8 | 4 accepted … 1 impossible |
//! | `reason` | string or null | why the quality is below 4 |
//!
//! Then the kind's common fields and its own, by the names of their field tables, units included;
//! all may be null. Enums are words (an unknown value is its number in decimal), lists of enums
//! are words joined by commas, lists of numbers are `list<int32>`.
//!
//! **Why `imei` is a number:** it sorts, prunes and compresses as one, it is exact in a double
//! (15 digits), and pandas and DuckDB read it as a number out of any other table it will be joined
//! with. Numbers lose leading zeros; `printf('%015d', imei)` prints all 15 digits.
//!
//! # How the schema grows
//! A column may be added, at the end of its group and nullable; none is ever renamed, retyped or
//! removed. So today's reader reads every file there was: a nullable column that a file does not
//! have is null in all its rows, one that only a newer build knows is not looked at, and the columns
//! that are never null are those of the first version, without which a file is damaged. A reader from
//! outside that opens old and new files together says so (`union_by_name = true` in DuckDB).
//!
//! Who adds one raises [`SCHEMA_VERSION`], which every file names in its footer (key
//! `loushan.schema`), and keeps golden files of the new version beside the old ones, which stay:
//! `tests/golden.rs` says how, and fails until it is done.

use std::sync::Arc;

use arrow_schema::{DataType, Field as Column, Schema, TimeUnit};
use loushan_schemas::field::{Field, FieldType};
use loushan_schemas::kind::Kind;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

/// The version of all tables' columns; see the module for when it is raised.
pub(super) const SCHEMA_VERSION: u32 = 1;
/// Rows of a row group: what is pruned together, and what a full read holds at once.
pub(super) const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Rows of a page: what one device's query decodes at least. Of the commonest rows, those of lifts, it
/// holds five devices' day; a quarter of it would cost 0.9 bytes a row, four times as many save 0.5.
const PAGE_ROWS: usize = 8192;
/// How often a bloom filter sends a reader to a device that is not there. A filter has about 10 bits
/// for each device of a row group, which is next to nothing where devices have many rows in it.
const BLOOM_FALSE: f64 = 0.01;

/// Why a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Rows leave memory: soon, and for a file that compaction will replace.
    Flush,
    /// Files become one that stays.
    Compact,
}

/// Fields that stay for long and then take a step: runs, for which zstd needs no help.
const STAYING: [&str; 6] =
    ["cell_id", "floor", "change_count", "energy_wh", "on_hours", "run_hours"];
/// Fields of many values, each not far from the one before. So are most counters.
const WALKING: [&str; 4] = ["state_age_s", "mag_x_raw", "mag_y_raw", "mag_z_raw"];
/// Doubles that are whole numbers and tremble: most of their bytes say nothing. Where tenths count
/// every byte says something, and a dictionary is less.
const TREMBLING: [&str; 4] = ["nrsrp_dbm", "sinr_db", "tx_power_dbm", "lux"];

/// How the values of a column lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Numbers of a list of the values there are.
    Dictionary,
    /// Differences, in as many bits as they need.
    Deltas,
    /// As they are.
    Plain,
    /// All first bytes, then all second ones. For doubles only: for integers not every reader knows
    /// it.
    Split,
}

/// A table of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The readings of a kind.
    Readings(Kind),
    /// What water meters' histories say of single intervals, derived from `water` rows. Keyed by
    /// (imei, interval end); meters repeat themselves, so take the row with the greatest lsn.
    WaterInterval,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Readings(Kind::Parking),
        Self::Readings(Kind::StreetLight),
        Self::Readings(Kind::Smoke),
        Self::Readings(Kind::Elevator),
        Self::Readings(Kind::Water),
        Self::Readings(Kind::StationStatus),
        Self::WaterInterval,
    ];

    /// Its name, as in its folder's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Readings(kind) => kind.as_str(),
            Self::WaterInterval => "water_interval",
        }
    }

    /// The table with that name.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == text)
    }

    /// The kind of its readings, where it has readings.
    #[must_use]
    pub const fn kind(self) -> Option<Kind> {
        match self {
            Self::Readings(kind) => Some(kind),
            Self::WaterInterval => None,
        }
    }

    /// Its columns.
    pub(super) fn schema(self) -> Arc<Schema> {
        let columns = match self {
            Self::Readings(kind) => reading_columns(kind),
            Self::WaterInterval => vec![
                Column::new(IMEI, DataType::Int64, false),
                Column::new(STATION, DataType::Utf8, false),
                Column::new(INTERVAL_END, timestamp(), false),
                Column::new(INTERVAL_S, DataType::Int64, false),
                Column::new(DELTA_L, DataType::Int32, false),
                Column::new(LSN, DataType::UInt64, false),
            ],
        };
        Arc::new(Schema::new(columns))
    }

    /// How its files are written. Files that stay also get bloom filters, so that who asks for a device
    /// and does not know its kind reads no page of the other kinds' tables.
    pub(super) fn properties(self, purpose: Purpose) -> WriterProperties {
        let level = match purpose {
            Purpose::Flush => 1,
            Purpose::Compact => 3,
        };
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("loushan ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_data_page_row_count_limit(PAGE_ROWS)
            // The writer looks at the page's limits once per batch of this many values.
            .set_write_batch_size(PAGE_ROWS)
            // Of most columns nobody asks for a range, and footers of small files weigh.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_sorting_columns(Some(self.sorting()))
            .set_key_value_metadata(Some(vec![KeyValue::new(
                "loushan.schema".to_owned(),
                SCHEMA_VERSION.to_string(),
            )]));
        for name in [IMEI, STATION, EFFECTIVE, INTERVAL_END, LSN] {
            properties = properties
                .set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Page);
        }
        for column in self.schema().fields() {
            let encoding = match self.layout(column.name()) {
                Layout::Dictionary => continue,
                Layout::Deltas => Encoding::DELTA_BINARY_PACKED,
                Layout::Plain => Encoding::PLAIN,
                Layout::Split => Encoding::BYTE_STREAM_SPLIT,
            };
            let path = ColumnPath::from(column.name().as_str());
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, encoding);
        }
        if purpose == Purpose::Compact {
            let path = ColumnPath::from(self.device_column());
            properties = properties
                .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE)
                .set_column_bloom_filter_max_ndv(path, ROW_GROUP_ROWS as u64);
        }
        properties.build()
    }

    /// What names whose rows they are.
    const fn device_column(self) -> &'static str {
        match self {
            Self::Readings(Kind::StationStatus) => STATION,
            Self::Readings(_) | Self::WaterInterval => IMEI,
        }
    }

    /// How a column's values lie before they are compressed: what weighs least on days of a whole
    /// city, compacted (`cargo bench --bench history`).
    fn layout(self, column: &str) -> Layout {
        match (self, column) {
            // A meter's day is one frame, and two dozen rows.
            (Self::WaterInterval, IMEI | LSN) => Layout::Plain,
            (Self::WaterInterval, _) => Layout::Dictionary,
            (_, IMEI | SEQ | BATCH_SEQ | LSN | MEASURED | HEARD | RECEIVED | EFFECTIVE) => {
                Layout::Deltas
            }
            (_, name) if STAYING.contains(&name) => Layout::Plain,
            (_, name) if WALKING.contains(&name) => Layout::Deltas,
            (_, name) if TREMBLING.contains(&name) => Layout::Split,
            (Self::Readings(kind), name) => {
                let counts = |field: &Field| field.name == name && field.counter.is_some();
                if kind.fields().iter().any(counts) { Layout::Deltas } else { Layout::Dictionary }
            }
        }
    }

    /// Device, then time.
    fn sorting(self) -> Vec<SortingColumn> {
        let names = match self {
            Self::Readings(_) => [self.device_column(), EFFECTIVE],
            Self::WaterInterval => [self.device_column(), INTERVAL_END],
        };
        let schema = self.schema();
        let positions =
            names.iter().filter_map(|name| i32::try_from(schema.index_of(name).ok()?).ok());
        // Positions count leaves; these columns stand before any nested one, so roots count the same.
        positions
            .map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true })
            .collect()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! names {
    ($($name:ident = $text:literal;)+) => { $(pub(super) const $name: &str = $text;)+ };
}

names! {
    IMEI = "imei";
    BOOT_EPOCH = "boot_epoch";
    SEQ = "seq";
    STATION = "station";
    REGION = "region";
    SESSION = "session";
    BATCH_SEQ = "batch_seq";
    REPLAY = "replay";
    LSN = "lsn";
    MEASURED = "measured";
    HEARD = "heard";
    RECEIVED = "received";
    EFFECTIVE = "effective";
    TIME_SOURCE = "time_source";
    QUALITY = "quality";
    REASON = "reason";
    INTERVAL_END = "interval_end";
    INTERVAL_S = "interval_s";
    DELTA_L = "delta_l";
}

fn timestamp() -> DataType {
    // Microseconds: DuckDB's time functions do not take nanoseconds with a zone.
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The items of a list, named as the Parquet format wants them.
pub(super) fn list_item() -> Arc<Column> {
    Arc::new(Column::new("element", DataType::Int32, false))
}

fn reading_columns(kind: Kind) -> Vec<Column> {
    let mut columns = Vec::new();
    if kind != Kind::StationStatus {
        columns.push(Column::new(IMEI, DataType::Int64, true));
    }
    columns.extend([
        Column::new(BOOT_EPOCH, DataType::UInt32, false),
        Column::new(SEQ, DataType::UInt64, false),
        Column::new(STATION, DataType::Utf8, false),
        Column::new(REGION, DataType::Utf8, false),
        Column::new(SESSION, DataType::UInt32, false),
        Column::new(BATCH_SEQ, DataType::UInt64, false),
        Column::new(REPLAY, DataType::Boolean, false),
        Column::new(LSN, DataType::UInt64, false),
        Column::new(MEASURED, timestamp(), true),
        Column::new(HEARD, timestamp(), true),
        Column::new(RECEIVED, timestamp(), false),
        Column::new(EFFECTIVE, timestamp(), false),
        Column::new(TIME_SOURCE, DataType::Utf8, false),
        Column::new(QUALITY, DataType::UInt8, false),
        Column::new(REASON, DataType::Utf8, true),
    ]);
    columns.extend(kind.common_fields().iter().chain(kind.fields()).map(field_column));
    columns
}

fn field_column(field: &Field) -> Column {
    let ty = match field.ty {
        FieldType::Int => DataType::Int64,
        FieldType::Float => DataType::Float64,
        FieldType::Bool => DataType::Boolean,
        FieldType::Enum(_) | FieldType::EnumList(_) => DataType::Utf8,
        FieldType::IntList => DataType::List(list_item()),
    };
    Column::new(field.name, ty, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_has_two_columns_of_one_name_or_one_that_hides_its_partition() {
        for table in Table::ALL {
            let schema = table.schema();
            let mut names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            assert!(!names.contains(&"kind") && !names.contains(&"date"), "{table}");
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{table}");
            assert_eq!(Table::from_text(table.as_str()), Some(table));
        }
    }

    #[test]
    fn every_layout_is_of_a_column_that_is_there_and_of_a_type_it_can_hold() {
        let columns = || Table::ALL.into_iter().flat_map(|t| t.schema().fields().to_vec());
        for name in STAYING.into_iter().chain(WALKING).chain(TREMBLING) {
            assert!(columns().any(|column| column.name() == name), "{name}");
        }
        for table in Table::ALL {
            for column in table.schema().fields() {
                let double = *column.data_type() == DataType::Float64;
                let number = column.data_type().is_primitive();
                let fits = match table.layout(column.name()) {
                    Layout::Dictionary => true,
                    Layout::Deltas | Layout::Plain => number && !double,
                    Layout::Split => double,
                };
                assert!(fits, "{table}.{}", column.name());
            }
        }
    }
}
