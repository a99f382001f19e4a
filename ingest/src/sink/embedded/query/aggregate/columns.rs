//! The columns an aggregate reads, and a loop over their rows.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt64Type};
use arrow_array::{
    Array, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt8Array, UInt64Array,
};
use loushan_schemas::field::{Field, FieldType, Value};
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::Quality;
use loushan_schemas::row::Row;

use super::super::super::manifest::FileEntry;
use super::super::super::schema as col;
use super::super::which::Which;
use super::{Bins, By, Fault, Names};

/// Which columns a file has to be read for, beside the time and the field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    imei: bool,
    pub(super) station: bool,
    quality: bool,
    pub(super) lsn: bool,
}

impl Plan {
    pub(super) fn new(which: &Which, file: &FileEntry, by: By, kind: Kind) -> Self {
        let has_imei = kind != Kind::StationStatus;
        Self {
            imei: has_imei && (which.device.is_some() || by == By::Device),
            station: which.names_stations() || by == By::Station || (by == By::Device && !has_imei),
            quality: which.min_quality > Quality::Rejected,
            lsn: file.max_lsn > which.up_to_lsn,
        }
    }

    pub(super) fn columns(self, field: &'static str) -> Vec<&'static str> {
        let mut columns = vec![col::EFFECTIVE, field];
        let more = [
            (self.imei, col::IMEI),
            (self.station, col::STATION),
            (self.quality, col::QUALITY),
            (self.lsn, col::LSN),
        ];
        columns.extend(more.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name));
        columns
    }
}

/// A field's values.
enum Numbers<'a> {
    Int(&'a Int64Array),
    Float(&'a Float64Array),
    Bool(&'a BooleanArray),
    /// No numbers: whether there is a value is all that can be said.
    Other(&'a dyn Array),
}

/// A batch's columns.
pub(super) struct Columns<'a> {
    effective: &'a TimestampMicrosecondArray,
    imei: Option<&'a Int64Array>,
    station: Option<&'a StringArray>,
    quality: Option<&'a UInt8Array>,
    lsn: Option<&'a UInt64Array>,
    numbers: Numbers<'a>,
}

impl<'a> Columns<'a> {
    /// `None` where the file is older than the field.
    pub(super) fn of(
        batch: &'a RecordBatch,
        field: &Field,
        plan: Plan,
    ) -> Result<Option<Self>, Fault> {
        let Some(values) = batch.column_by_name(field.name) else { return Ok(None) };
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| format!("column {name} is missing"))
        };
        let wrong = |name: &str| format!("column {name} is of another type");
        let numbers = match field.ty {
            FieldType::Int => values.as_primitive_opt::<Int64Type>().map(Numbers::Int),
            FieldType::Float => values.as_primitive_opt::<Float64Type>().map(Numbers::Float),
            FieldType::Bool => values.as_boolean_opt().map(Numbers::Bool),
            _ => Some(Numbers::Other(&**values)),
        };
        let effective = column(col::EFFECTIVE)?.as_primitive_opt::<TimestampMicrosecondType>();
        let mut columns = Self {
            effective: effective.ok_or_else(|| wrong(col::EFFECTIVE))?,
            imei: None,
            station: None,
            quality: None,
            lsn: None,
            numbers: numbers.ok_or_else(|| wrong(field.name))?,
        };
        if plan.imei {
            let imei = column(col::IMEI)?.as_primitive_opt::<Int64Type>();
            columns.imei = Some(imei.ok_or_else(|| wrong(col::IMEI))?);
        }
        if plan.station {
            let station = column(col::STATION)?.as_string_opt::<i32>();
            columns.station = Some(station.ok_or_else(|| wrong(col::STATION))?);
        }
        if plan.quality {
            let quality = column(col::QUALITY)?.as_primitive_opt::<UInt8Type>();
            columns.quality = Some(quality.ok_or_else(|| wrong(col::QUALITY))?);
        }
        if plan.lsn {
            let lsn = column(col::LSN)?.as_primitive_opt::<UInt64Type>();
            columns.lsn = Some(lsn.ok_or_else(|| wrong(col::LSN))?);
        }
        Ok(Some(columns))
    }

    /// Hands over, of every row that is wanted and has the field: its place, when it was, and its
    /// value. `false` ends it.
    pub(super) fn each_value(
        &self,
        which: &Which,
        mut each: impl FnMut(usize, i64, f64) -> Result<bool, Fault>,
    ) -> Result<bool, Fault> {
        // One loop for each type of values: it is what a large question spends its time in.
        #[allow(clippy::cast_precision_loss)] // as everywhere: values end far below 2^53
        match self.numbers {
            Numbers::Int(a) if a.null_count() == 0 => {
                self.rows(which, |i| Some(a.value(i) as f64), &mut each)
            }
            Numbers::Int(a) => {
                self.rows(which, |i| a.is_valid(i).then(|| a.value(i) as f64), &mut each)
            }
            Numbers::Float(a) if a.null_count() == 0 => {
                self.rows(which, |i| Some(a.value(i)), &mut each)
            }
            Numbers::Float(a) => self.rows(which, |i| a.is_valid(i).then(|| a.value(i)), &mut each),
            Numbers::Bool(a) => {
                self.rows(which, |i| a.is_valid(i).then(|| f64::from(a.value(i))), &mut each)
            }
            Numbers::Other(a) => self.rows(which, |i| a.is_valid(i).then_some(0.0), &mut each),
        }
    }

    fn rows(
        &self,
        which: &Which,
        value: impl Fn(usize) -> Option<f64>,
        each: &mut impl FnMut(usize, i64, f64) -> Result<bool, Fault>,
    ) -> Result<bool, Fault> {
        let device = which.device.and_then(|imei| i64::try_from(imei.get()).ok());
        let low = which.min_quality.number();
        let by_station = which.names_stations();
        for (i, micros) in self.effective.values().iter().enumerate() {
            let ms = micros.div_euclid(1000);
            if ms < which.from_ms || ms >= which.to_ms {
                continue;
            }
            if self.quality.is_some_and(|quality| quality.value(i) < low)
                || self.lsn.is_some_and(|lsn| lsn.value(i) > which.up_to_lsn)
            {
                continue;
            }
            if let (Some(device), Some(imei)) = (device, self.imei)
                && imei.value(i) != device
            {
                continue;
            }
            if let Some(station) = self.station.filter(|_| by_station)
                && !which.is_of(station.value(i))
            {
                continue;
            }
            if let Some(value) = value(i)
                && !each(i, ms, value)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn imei(&self, i: usize) -> u64 {
        self.imei.map_or(0, |imei| u64::try_from(imei.value(i)).unwrap_or(0))
    }

    pub(super) fn station(&self, i: usize) -> &'a str {
        self.station.map_or("", |station| station.value(i))
    }

    pub(super) fn lsn(&self, i: usize) -> u64 {
        self.lsn.map_or(0, |lsn| lsn.value(i))
    }

    /// Puts every value that is wanted into its cell: group, beginning of its bin, time, lsn, value.
    pub(super) fn cells(
        &self,
        which: &Which,
        bins: Option<Bins>,
        by: By,
        kind: Kind,
        names: &mut Names,
        put: &mut impl FnMut((u64, i64), (i64, u64), f64) -> Result<(), super::QueryError>,
    ) -> Result<(), Fault> {
        let mut bin = (i64::MIN, i64::MIN);
        // A device's rows stand together, and so mostly do a station's.
        let mut named: (&str, u64) = ("", 0);
        self.each_value(which, |i, ms, value| {
            let start = match bins {
                None => which.from_ms,
                Some(bins) => {
                    if ms < bin.0 || ms >= bin.1 {
                        // The next one, as often as not: no division.
                        let next = bins.end(bin.1);
                        bin = if ms >= bin.1 && ms < next && bin.0 > i64::MIN {
                            (bin.1, next)
                        } else {
                            let start = bins.start(ms);
                            (start, bins.end(start))
                        };
                    }
                    bin.0
                }
            };
            let group = match (by, self.imei) {
                (By::Nothing, _) => 0,
                (By::Kind, _) => kind.number().into(),
                (By::Device, Some(_)) => self.imei(i),
                (By::Device | By::Station, _) => {
                    let station = self.station(i);
                    if named.1 == 0 || named.0 != station {
                        named = (station, names.number(station));
                    }
                    named.1
                }
            };
            put((group, start), (ms, self.lsn(i)), value)?;
            Ok(true)
        })?;
        Ok(())
    }
}

/// Where a kind's readings have a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Common(usize),
    Body(usize),
}

impl Place {
    pub(super) fn of(kind: Kind, field: &Field) -> Option<Self> {
        let at = |fields: &[Field]| fields.iter().position(|other| other.name == field.name);
        at(kind.fields()).map(Self::Body).or_else(|| at(kind.common_fields()).map(Self::Common))
    }

    /// The field of a row of that kind, as a number.
    pub(super) fn value(self, row: &Row) -> Option<f64> {
        let value = match self {
            Self::Common(at) => row.reading.common.value(at),
            Self::Body(at) => row.reading.body.value(at),
        }?;
        match value {
            Value::Bool(yes) => Some(f64::from(yes)),
            value => Some(value.as_number().unwrap_or(0.0)),
        }
    }
}
