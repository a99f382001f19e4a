//! Rows as InfluxDB line protocol, written into one buffer without an allocation per point.
//!
//! One row is one point (and, for a water meter's history, one point more per interval):
//!
//! ```text
//! parking,imei=490154203237518 quality=4i,…,state=2i,temp_c=21.5 1750000000123456789
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | measurement | the kind's word; `water_interval` for the hourly volumes of a water meter |
//! | tag | `imei` (15 digits); for `station_status`, `station`. Nothing whose value changes is a tag: it would start a new series |
//! | time | effective time in ms × 10⁶ + xxh3(boot epoch u32 LE, seq u64 LE) mod 10⁶, in ns: two readings of a device in one millisecond stay two points, and a retry is the same point |
//!
//! Fields of every point (`water_interval` has only its own two):
//!
//! | field | type | what it is |
//! |---|---|---|
//! | `quality` | integer | LwM2M 6042: 1 rejected … 4 accepted |
//! | `reason` | integer | number of the quality reason; absent when there is none |
//! | `time_source` | integer | whose clock the time is: 1 device, 2 station, 3 ours |
//! | `boot_epoch`, `seq` | integer | the reading's identity beside imei and time |
//! | `received_us` | integer | our receive time, Unix microseconds |
//! | `region`, `station` | string | where it came from (for `station_status` the station is the tag) |
//!
//! Then the kind's own fields by their names in `loushan_schemas::reading`; absent ones are left out:
//!
//! | declared as | written as | why |
//! |---|---|---|
//! | int | integer `12i` | |
//! | float | float `21.5` | never without point or exponent, so that the type never changes |
//! | bool | `true` / `false` | VictoriaMetrics keeps 1 / 0 |
//! | enum | integer, the schema's number | VictoriaMetrics turns strings into 0; numbers survive, and unknown values keep theirs |
//! | enum list | string of words joined by commas, and `<name>_bits`, an integer with bit *n* set for value *n* (1 to 62) | both are written when the list is empty too (`""`, `0i`), so that a fault that went away is seen to be gone |
//! | `history_*` of water | not in the point | they are the points of `water_interval`: `delta_l`, `interval_s`, at the interval's end |
//!
//! A `water_interval` point lies at the interval's end (effective time + first end + *k* × interval)
//! with no nanoseconds added: a volume reported twice is the same point.
//!
//! Escaping: in tag values `,`, `=` and space get a backslash; in strings `"` and `\` do. What the
//! protocol cannot carry is written as `_`: control characters everywhere (some servers split lines
//! before they look at quotes, so a raw line feed would let a value add lines of its own), and
//! backslashes in tag values (a last one would swallow the separator). Names of stations and regions
//! contain none of these by construction.

use loushan_schemas::field::{EnumTable, FieldType, Value};
use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;
use loushan_schemas::reading::{Body, Reading, Water};
use loushan_schemas::row::Row;
use loushan_schemas::time::DeviceTime;
use xxhash_rust::xxh3::xxh3_64;

/// Measurement of the volumes of a water meter's history.
pub const WATER_INTERVAL: &str = "water_interval";

/// Nanoseconds of a millisecond: the room in which readings of one millisecond are told apart.
const NS_PER_MS: u64 = 1_000_000;

/// Appends a row's lines, each ended by a line feed. Gives how many points they are.
pub fn write_row(row: &Row, out: &mut Vec<u8>) -> usize {
    let mut line = Line { out, first: true };
    line.series(row);
    line.own_fields(row);
    for (position, field) in row.reading.kind().common_fields().iter().enumerate() {
        line.value(field.name, field.ty, row.reading.common.value(position));
    }
    for (position, field) in row.reading.kind().fields().iter().enumerate() {
        if !is_history(row.reading.kind(), field.name) {
            line.value(field.name, field.ty, row.reading.body.value(position));
        }
    }
    line.end(timestamp(&row.reading));
    match &row.reading.body {
        Body::Water(water) => 1 + write_history(row, water, out),
        _ => 1,
    }
}

fn is_history(kind: Kind, field: &str) -> bool {
    kind == Kind::Water && field.starts_with("history_")
}

/// The point's time, Unix nanoseconds.
fn timestamp(reading: &Reading) -> i64 {
    let mut key = [0_u8; 12];
    let (epoch, seq) = key.split_at_mut(4);
    epoch.copy_from_slice(&reading.boot_epoch.to_le_bytes());
    seq.copy_from_slice(&reading.seq.to_le_bytes());
    let within = i64::try_from(xxh3_64(&key) % NS_PER_MS).unwrap_or(0); // below a million
    nanoseconds(reading.times.effective).saturating_add(within)
}

/// Nanoseconds end in the year 2262; a later time stands there. Effective times lie near our own
/// clock, so nothing real comes that far.
fn nanoseconds(time: DeviceTime) -> i64 {
    time.ms().saturating_mul(1_000_000)
}

/// The intervals are reckoned from the effective time, as their ends are told against the measured
/// one and the effective time is that moment by a clock that can be believed.
fn write_history(row: &Row, water: &Water, out: &mut Vec<u8>) -> usize {
    let (Some(first_end_s), Some(interval_s)) =
        (water.history_first_end_s, water.history_interval_s)
    else {
        return 0;
    };
    if interval_s <= 0 {
        return 0;
    }
    let mut points = 0;
    for (k, delta) in (0_i64..).zip(&water.history_delta_l) {
        let end = k
            .checked_mul(interval_s)
            .and_then(|s| s.checked_add(first_end_s))
            .and_then(|s| s.checked_mul(1000))
            .and_then(|ms| ms.checked_add(row.reading.times.effective.ms()))
            .and_then(DeviceTime::from_ms);
        // An end that is no time at all has no place to be stored at.
        let Some(end) = end else { continue };
        let mut line = Line { out, first: true };
        line.out.extend_from_slice(WATER_INTERVAL.as_bytes());
        line.device_tag(row);
        line.int("delta_l", i64::from(*delta));
        line.int("interval_s", interval_s);
        line.end(nanoseconds(end));
        points += 1;
    }
    points
}

/// A line being written.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    /// Whether no field has been written yet.
    first: bool,
}

impl Line<'_> {
    /// Measurement and tag.
    fn series(&mut self, row: &Row) {
        self.out.extend_from_slice(row.reading.kind().as_str().as_bytes());
        self.device_tag(row);
    }

    /// Who speaks: the device, or the station itself.
    fn device_tag(&mut self, row: &Row) {
        match row.reading.imei {
            Some(imei) => {
                self.out.extend_from_slice(b",imei=");
                push_imei(imei, self.out);
            }
            None => {
                self.out.extend_from_slice(b",station=");
                push_tag_value(row.station.as_str(), self.out);
            }
        }
    }

    fn own_fields(&mut self, row: &Row) {
        let r = &row.reading;
        self.int("quality", i64::from(r.quality.number()));
        if let Some(reason) = r.reason {
            self.int("reason", i64::from(reason.number()));
        }
        self.int("time_source", i64::from(r.times.source as u8));
        self.int("boot_epoch", i64::from(r.boot_epoch));
        // Integers of the protocol are signed; a counter beyond them stands at their end.
        self.int("seq", i64::try_from(r.seq).unwrap_or(i64::MAX));
        self.int("received_us", r.times.received.ns().div_euclid(1000));
        self.string("region", row.region.as_str());
        if r.imei.is_some() {
            self.string("station", row.station.as_str());
        }
    }

    fn value(&mut self, name: &str, ty: FieldType, value: Option<Value<'_>>) {
        match (ty, value) {
            (FieldType::EnumList(table), Some(Value::EnumList(list))) => {
                self.enum_list(name, table, list);
            }
            (FieldType::EnumList(table), _) => self.enum_list(name, table, &[]),
            (_, Some(Value::Int(v))) => self.int(name, v),
            (_, Some(Value::Float(v))) => self.float(name, v),
            (_, Some(Value::Bool(v))) => {
                self.name(name);
                self.out.extend_from_slice(if v { b"true" } else { b"false" });
            }
            (_, Some(Value::Enum(v))) => self.int(name, i64::from(v)),
            // Lists of whole numbers are histories, written as points of their own.
            (_, Some(Value::IntList(_) | Value::EnumList(_)) | None) => {}
        }
    }

    fn name(&mut self, name: &str) {
        self.out.push(if self.first { b' ' } else { b',' });
        self.first = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'=');
    }

    fn int(&mut self, name: &str, value: i64) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.push(b'i');
    }

    /// A number that is none is left out: the protocol has no word for it.
    fn float(&mut self, name: &str, value: f64) {
        if value.is_finite() {
            self.name(name);
            self.out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
        }
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.push(b'"');
        push_string(value, self.out);
        self.out.push(b'"');
    }

    fn enum_list(&mut self, name: &str, table: &EnumTable, list: &[i32]) {
        self.name(name);
        self.out.push(b'"');
        for (i, number) in list.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            match table.word(*number) {
                Some(word) => push_string(word, self.out),
                None => self.out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
            }
        }
        self.out.extend_from_slice(b"\",");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"_bits=");
        let bits = list.iter().filter(|n| (1..=62).contains(*n)).fold(0_i64, |b, n| b | 1 << n);
        self.out.extend_from_slice(itoa::Buffer::new().format(bits).as_bytes());
        self.out.push(b'i');
    }

    fn end(self, ns: i64) {
        self.out.push(b' ');
        self.out.extend_from_slice(itoa::Buffer::new().format(ns).as_bytes());
        self.out.push(b'\n');
    }
}

/// All fifteen digits, leading zeros included.
fn push_imei(imei: Imei, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(imei.get());
    out.extend(std::iter::repeat_n(b'0', 15_usize.saturating_sub(digits.len())));
    out.extend_from_slice(digits.as_bytes());
}

/// A tag's value, which must not be empty.
fn push_tag_value(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b',' | b'=' | b' ' => out.extend_from_slice(&[b'\\', byte]),
            b'\\' | 0..=0x1f | 0x7f => out.push(b'_'),
            _ => out.push(byte),
        }
    }
}

/// What stands between the quotes of a string.
fn push_string(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f | 0x7f => out.push(b'_'),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
#[path = "line_protocol_tests.rs"]
mod tests;
