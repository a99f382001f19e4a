//! A reading with its place in the log: what is stored, exported and audited.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use crate::field::{Field, FieldType, Value};
use crate::ids::{Imei, Region, StationId};
use crate::kind::Kind;
use crate::quality::{Quality, QualityReason};
use crate::reading::{Body, Common, Reading, TimeSource, Times};
use crate::time::{DeviceTime, ReceiveTime};

/// One stored reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The log sequence number of the frame that brought it.
    pub lsn: u64,
    /// Its region.
    pub region: Region,
    /// The station that sent it.
    pub station: StationId,
    /// The station's session.
    pub session: u32,
    /// The batch within the session.
    pub batch_seq: u64,
    /// Whether the station had kept it back.
    pub replay: bool,
    /// The reading.
    pub reading: Reading,
}

/// A line of an export is not a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Not a JSON object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// A key is missing or its value is none of those accepted.
    #[error("key {0:?} is missing or not of its type")]
    Key(&'static str),
}

impl Row {
    /// Appends the row as one JSON object: identity and clocks (times in Unix milliseconds,
    /// `received_us` in microseconds, UTC), then the present fields by name.
    pub fn write_json(&self, out: &mut String) {
        let r = &self.reading;
        let mut w = Object { out };
        w.int("{\"lsn\":", self.lsn);
        w.text(",\"kind\":", r.kind().as_str());
        // Names of stations and regions need no escape.
        w.text(",\"region\":", self.region.as_str());
        w.text(",\"station\":", self.station.as_str());
        w.int(",\"session\":", self.session);
        w.int(",\"batch_seq\":", self.batch_seq);
        w.bool(",\"replay\":", self.replay);
        if let Some(imei) = r.imei {
            infallible(write!(w.out, ",\"imei\":\"{imei}\""));
        }
        w.int(",\"boot_epoch\":", r.boot_epoch);
        w.int(",\"seq\":", r.seq);
        if let Some(t) = r.times.measured {
            w.int(",\"measured_ms\":", t.ms());
        }
        if let Some(t) = r.times.heard {
            w.int(",\"heard_ms\":", t.ms());
        }
        w.int(",\"received_us\":", r.times.received.ns().div_euclid(1000));
        w.int(",\"effective_ms\":", r.times.effective.ms());
        w.text(",\"time_source\":", r.times.source.as_str());
        w.int(",\"quality\":", r.quality.number());
        if let Some(reason) = r.reason {
            w.text(",\"reason\":", reason.as_str());
        }
        r.visit(|field, value| {
            w.out.push_str(",\"");
            w.out.push_str(field.name);
            w.out.push_str("\":");
            write_value(field, value, w.out);
        });
        w.out.push('}');
    }

    /// Reads what [`Row::write_json`] wrote. Keys that this build does not know are left out.
    ///
    /// # Errors
    /// When the line is not such an object.
    pub fn from_json(line: &str) -> Result<Self, RowError> {
        let json: Map<String, Json> =
            serde_json::from_str(line).map_err(|e| RowError::Json(e.to_string()))?;
        let int = |key: &'static str| json.get(key).and_then(Json::as_i64);
        let unsigned =
            |key: &'static str| json.get(key).and_then(Json::as_u64).ok_or(RowError::Key(key));
        let text = |key: &'static str| json.get(key).and_then(Json::as_str);
        let kind = text("kind").and_then(Kind::from_text).ok_or(RowError::Key("kind"))?;
        let imei = match text("imei") {
            Some(text) => Some(text.parse::<Imei>().map_err(|_| RowError::Key("imei"))?),
            None => None,
        };
        let mut common = Common::default();
        for (i, field) in kind.common_fields().iter().enumerate() {
            read_value(field, json.get(field.name), |v| common.set(i, v).is_ok())?;
        }
        let mut body = Body::empty(kind);
        for (i, field) in kind.fields().iter().enumerate() {
            read_value(field, json.get(field.name), |v| body.set(i, v).is_ok())?;
        }
        let received_ns = int("received_us")
            .and_then(|us| us.checked_mul(1000))
            .ok_or(RowError::Key("received_us"))?;
        let u32_of = |key| u32::try_from(unsigned(key)?).map_err(|_| RowError::Key(key));
        Ok(Self {
            lsn: unsigned("lsn")?,
            region: text("region")
                .and_then(|t| Region::new(t).ok())
                .ok_or(RowError::Key("region"))?,
            station: text("station")
                .and_then(|t| StationId::new(t).ok())
                .ok_or(RowError::Key("station"))?,
            session: u32_of("session")?,
            batch_seq: unsigned("batch_seq")?,
            replay: json.get("replay").and_then(Json::as_bool).ok_or(RowError::Key("replay"))?,
            reading: Reading {
                imei,
                boot_epoch: u32_of("boot_epoch")?,
                seq: unsigned("seq")?,
                times: Times {
                    measured: int("measured_ms").and_then(DeviceTime::from_ms),
                    heard: int("heard_ms").and_then(DeviceTime::from_ms),
                    received: ReceiveTime::from_ns(received_ns),
                    effective: int("effective_ms")
                        .and_then(DeviceTime::from_ms)
                        .ok_or(RowError::Key("effective_ms"))?,
                    source: text("time_source")
                        .and_then(TimeSource::from_text)
                        .ok_or(RowError::Key("time_source"))?,
                },
                common,
                body,
                quality: u8::try_from(unsigned("quality")?)
                    .ok()
                    .and_then(Quality::from_number)
                    .ok_or(RowError::Key("quality"))?,
                reason: text("reason").and_then(QualityReason::from_text),
            },
        })
    }
}

/// A JSON object that is being written, without what formatting costs: an answer has many thousands.
struct Object<'a> {
    out: &'a mut String,
}

impl Object<'_> {
    fn int(&mut self, key: &str, value: impl itoa::Integer) {
        self.out.push_str(key);
        self.out.push_str(itoa::Buffer::new().format(value));
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.out.push_str(key);
        self.out.push_str(if value { "true" } else { "false" });
    }

    /// A text that needs no escape.
    fn text(&mut self, key: &str, value: &str) {
        self.out.push_str(key);
        self.out.push('"');
        self.out.push_str(value);
        self.out.push('"');
    }
}

fn write_value(field: &Field, value: Value<'_>, out: &mut String) {
    let words = |table: &crate::field::EnumTable, list: &[i32], out: &mut String| {
        out.push('"');
        for (i, number) in list.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            table.write(*number, out);
        }
        out.push('"');
    };
    infallible(match (value, field.ty) {
        (Value::Int(v), _) => {
            out.push_str(itoa::Buffer::new().format(v));
            Ok(())
        }
        // The shortest text that reads back as the same number.
        (Value::Float(v), _) => write!(out, "{v:?}"),
        (Value::Bool(v), _) => write!(out, "{v}"),
        (Value::Enum(v), FieldType::Enum(table)) => {
            words(table, &[v], out);
            Ok(())
        }
        (Value::EnumList(list), FieldType::EnumList(table)) => {
            words(table, list, out);
            Ok(())
        }
        (Value::IntList(list) | Value::EnumList(list), _) => write!(out, "{list:?}"),
        (Value::Enum(v), _) => write!(out, "{v}"),
    });
}

/// Writing to a String cannot fail.
fn infallible(written: std::fmt::Result) {
    debug_assert!(written.is_ok());
}

fn read_value(
    field: &'static Field,
    json: Option<&Json>,
    set: impl FnOnce(Value<'_>) -> bool,
) -> Result<(), RowError> {
    let Some(json) = json else { return Ok(()) };
    let wrong = RowError::Key(field.name);
    let fits = match field.ty {
        FieldType::Int => json.as_i64().is_some_and(|v| set(Value::Int(v))),
        FieldType::Float => json.as_f64().is_some_and(|v| set(Value::Float(v))),
        FieldType::Bool => json.as_bool().is_some_and(|v| set(Value::Bool(v))),
        FieldType::Enum(table) => {
            json.as_str().and_then(|t| table.number(t)).is_some_and(|v| set(Value::Enum(v)))
        }
        FieldType::EnumList(table) => {
            let text = json.as_str().ok_or(wrong.clone())?;
            let list: Option<Vec<i32>> = text.split(',').map(|t| table.number(t)).collect();
            list.is_some_and(|list| set(Value::EnumList(&list)))
        }
        FieldType::IntList => {
            let list = json.as_array().ok_or(wrong.clone())?;
            let list: Option<Vec<i32>> =
                list.iter().map(|v| v.as_i64().and_then(|v| i32::try_from(v).ok())).collect();
            list.is_some_and(|list| set(Value::IntList(&list)))
        }
    };
    if fits { Ok(()) } else { Err(wrong) }
}

impl TimeSource {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Heard => "heard",
            Self::Received => "received",
        }
    }

    /// The source with that word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Measured, Self::Heard, Self::Received].into_iter().find(|s| s.as_str() == text)
    }

    /// The source with that number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Measured,
            2 => Self::Heard,
            3 => Self::Received,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
