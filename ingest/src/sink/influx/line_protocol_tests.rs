#![allow(clippy::unwrap_used)]

#[path = "line_protocol_documented_tests.rs"]
mod documented;

use std::collections::{BTreeMap, BTreeSet};

use loushan_schemas::reading::{LIGHT_FAULT, Parking};
use proptest::prelude::*;

use super::*;
use crate::sink::influx::testing::row;

fn lines(row: &Row) -> String {
    let mut out = Vec::new();
    let points = write_row(row, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n'));
    assert_eq!(text.lines().count(), points);
    text
}

#[test]
fn a_row_of_every_kind_is_written_like_this() {
    let golden = include_str!("golden.lines");
    let written: String = Kind::ALL.into_iter().map(|kind| lines(&row(kind, 5))).collect();
    assert_eq!(written, golden, "the points of stored data change: is that meant?");
}

#[test]
fn a_row_with_nothing_in_it_is_still_a_point() {
    let mut row = row(Kind::Parking, 1);
    row.reading.common = loushan_schemas::reading::Common::default();
    row.reading.body = Body::Parking(Parking::default());
    let point = parse(lines(&row).trim_end());
    assert_eq!(point.fields["quality"], Parsed::Int(4));
    assert!(!point.fields.contains_key("state"));
    assert!(!point.fields.contains_key("reason"));
}

#[test]
fn no_two_fields_of_a_point_have_one_name_and_no_name_needs_an_escape() {
    for kind in Kind::ALL {
        let text = lines(&row(kind, 5));
        let point = parse_strict(text.lines().next().unwrap());
        let mut names = BTreeSet::new();
        for (name, _) in &point {
            assert!(names.insert(name.clone()), "{kind}: {name} twice");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
        }
    }
}

#[test]
fn two_readings_of_a_device_in_one_millisecond_are_two_points_and_a_retry_is_the_same_one() {
    let first = row(Kind::Parking, 7);
    let mut second = first.clone();
    second.reading.seq += 1;
    let (a, b) = (parse(lines(&first).trim_end()), parse(lines(&second).trim_end()));
    assert_eq!(a.ns / 1_000_000, b.ns / 1_000_000);
    assert_ne!(a.ns, b.ns);
    assert_eq!(lines(&first), lines(&first.clone()));
}

#[test]
fn a_fault_that_went_away_is_written_as_gone() {
    let mut row = row(Kind::StreetLight, 1);
    let faults = |row: &Row| {
        let point = parse(lines(row).trim_end());
        (point.fields["faults"].clone(), point.fields["faults_bits"].clone())
    };
    let Body::StreetLight(light) = &mut row.reading.body else { panic!("a light") };
    light.faults = vec![1, 8, 99];
    assert_eq!(faults(&row), (Parsed::Text("lamp,power_loss,99".into()), Parsed::Int(0x102)));
    let Body::StreetLight(light) = &mut row.reading.body else { panic!("a light") };
    light.faults.clear();
    assert_eq!(faults(&row), (Parsed::Text(String::new()), Parsed::Int(0)));
    assert!(LIGHT_FAULT.values.iter().all(|(n, _)| (1..=62).contains(n)));
}

#[test]
fn numbers_that_are_none_are_left_out_and_whole_floats_stay_floats() {
    let mut row = row(Kind::Parking, 1);
    row.reading.common.nrsrp_dbm = Some(f64::NAN);
    row.reading.common.sinr_db = Some(f64::INFINITY);
    row.reading.common.battery_pct = Some(80.0);
    row.reading.common.tx_power_dbm = Some(1e300);
    let point = parse(lines(&row).trim_end());
    assert!(!point.fields.contains_key("nrsrp_dbm"));
    assert!(!point.fields.contains_key("sinr_db"));
    assert_eq!(point.fields["battery_pct"], Parsed::Float(80.0));
    assert_eq!(point.fields["tx_power_dbm"], Parsed::Float(1e300));
}

#[test]
fn intervals_lie_at_their_ends_and_those_that_are_no_time_are_left_out() {
    let mut row = row(Kind::Water, 1);
    let effective = row.reading.times.effective.ms();
    let ends = |row: &Row| -> Vec<i64> {
        let text = lines(row);
        text.lines().skip(1).map(|l| parse(l).ns).collect()
    };
    let hour = 3_600_000_000_000;
    let base = effective * 1_000_000;
    assert_eq!(ends(&row), [base - 2 * hour, base - hour, base]);
    for (first_end, interval, points) in [
        (Some(i64::MIN), Some(3600), 0),
        (Some(0), Some(i64::MAX), 1),
        (Some(0), Some(0), 0),
        (Some(0), Some(-60), 0),
        (None, Some(60), 0),
        (Some(0), None, 0),
    ] {
        let Body::Water(water) = &mut row.reading.body else { panic!("a meter") };
        (water.history_first_end_s, water.history_interval_s) = (first_end, interval);
        assert_eq!(ends(&row).len(), points, "{first_end:?} {interval:?}");
    }
}

#[test]
fn hostile_strings_add_no_tag_no_field_and_no_line() {
    let hostile = "a,b=c d\\e\"f\ng\r\t\0h\u{7f},x=1i 5\nparking,imei=1 x=1i\\";
    let mut out = Vec::new();
    {
        let mut line = Line { out: &mut out, first: true };
        line.out.extend_from_slice(b"m,station=");
        push_tag_value(hostile, line.out);
        line.string("s", hostile);
        line.int("n", 1);
        line.end(5);
    }
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches('\n').count(), 1);
    let point = parse(text.trim_end_matches('\n'));
    assert_eq!(
        point.tags,
        [("station".to_owned(), hostile.replace(control, "_").replace('\\', "_"))]
    );
    assert_eq!(point.fields["s"], Parsed::Text(hostile.replace(control, "_")));
    assert_eq!(point.fields.len(), 2);
}

fn control(c: char) -> bool {
    c.is_ascii_control()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_string_reads_back_but_for_what_the_protocol_cannot_carry(text: String, tag in ".{1,40}") {
        let mut out = Vec::new();
        let mut line = Line { out: &mut out, first: true };
        line.out.extend_from_slice(b"m,t=");
        push_tag_value(&tag, line.out);
        line.string("s", &text);
        line.end(1);
        let written = String::from_utf8(out).unwrap();
        let point = parse(written.strip_suffix('\n').unwrap());
        prop_assert_eq!(&point.fields["s"], &Parsed::Text(text.replace(control, "_")));
        prop_assert_eq!(&point.tags[0].1, &tag.replace(control, "_").replace('\\', "_"));
    }

    #[test]
    fn every_row_reads_back_as_it_was(row in any_row()) {
        let text = lines(&row);
        let point = parse(text.lines().next().unwrap());
        let reading = &row.reading;
        prop_assert_eq!(point.measurement.as_str(), reading.kind().as_str());
        let device = reading.imei.map_or_else(
            || ("station".to_owned(), row.station.to_string()),
            |imei| ("imei".to_owned(), imei.to_string()),
        );
        prop_assert_eq!(&point.tags, &[device]);
        prop_assert_eq!(point.ns.div_euclid(1_000_000), reading.times.effective.ms());
        prop_assert_eq!(&point.fields["seq"], &Parsed::Int(i64::try_from(reading.seq).unwrap()));
        for (field, value) in reading.values() {
            if is_history(reading.kind(), field.name) {
                prop_assert!(!point.fields.contains_key(field.name));
                continue;
            }
            let read = &point.fields[field.name];
            match value {
                Value::Int(v) => prop_assert_eq!(read, &Parsed::Int(v)),
                Value::Float(v) => prop_assert_eq!(read, &Parsed::Float(v)),
                Value::Bool(v) => prop_assert_eq!(read, &Parsed::Bool(v)),
                Value::Enum(v) => prop_assert_eq!(read, &Parsed::Int(i64::from(v))),
                Value::EnumList(list) => {
                    let FieldType::EnumList(table) = field.ty else { panic!("a list") };
                    let Parsed::Text(words) = read else { panic!("a string") };
                    let read: Vec<i32> =
                        words.split(',').map(|w| table.number(w).unwrap()).collect();
                    prop_assert_eq!(&read, list);
                }
                Value::IntList(_) => prop_assert!(false, "only histories are such lists"),
            }
        }
    }
}

/// Rows with any values in any of their fields, or none.
fn any_row() -> impl Strategy<Value = Row> {
    let values = prop::collection::vec((any::<Option<i64>>(), any::<f64>()), 40);
    let lists = prop::collection::btree_set(1_i32..100, 0..5);
    (0..Kind::ALL.len(), any::<u32>(), 0..i64::MAX as u64, values, lists).prop_map(
        |(kind, n, seq, values, list)| {
            let kind = Kind::ALL[kind];
            let mut row = row(kind, n % 100_000);
            row.reading.seq = seq;
            row.reading.boot_epoch = n;
            let list: Vec<i32> = list.into_iter().collect();
            let mut common = loushan_schemas::reading::Common::default();
            let mut body = Body::empty(kind);
            let all = kind.common_fields().iter().enumerate().map(|(i, f)| (true, i, f));
            let all = all.chain(kind.fields().iter().enumerate().map(|(i, f)| (false, i, f)));
            for ((is_common, i, field), (int, float)) in all.zip(values) {
                let Some(int) = int else { continue };
                let small = i32::try_from(int.rem_euclid(1000)).unwrap() + 1;
                let value = match field.ty {
                    FieldType::Int => Value::Int(int),
                    FieldType::Float if float.is_finite() => Value::Float(float),
                    FieldType::Float => Value::Float(0.5),
                    FieldType::Bool => Value::Bool(int % 2 == 0),
                    FieldType::Enum(_) => Value::Enum(small),
                    FieldType::EnumList(_) if list.is_empty() => continue,
                    FieldType::EnumList(_) => Value::EnumList(&list),
                    FieldType::IntList => Value::IntList(&[1, 2, 3]),
                };
                if is_common { common.set(i, value) } else { body.set(i, value) }.unwrap();
            }
            (row.reading.common, row.reading.body) = (common, body);
            row
        },
    )
}

#[derive(Debug, Clone, PartialEq)]
enum Parsed {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
}

#[derive(Debug)]
struct Point {
    measurement: String,
    tags: Vec<(String, String)>,
    fields: BTreeMap<String, Parsed>,
    ns: i64,
}

fn parse(line: &str) -> Point {
    let (series, rest) = sections(line);
    let parts = split(rest, ' ', true);
    let [fields, ns] = &parts[..] else { panic!("{} parts in {line:?}", parts.len()) };
    let series = split(series, ',', false);
    let tags = series[1..].iter().map(|tag| {
        let [key, value] = &split(tag, '=', false)[..] else { panic!("a tag: {tag}") };
        (key.clone(), unescape(value))
    });
    Point {
        measurement: series[0].clone(),
        tags: tags.collect(),
        fields: parse_fields(fields).into_iter().collect(),
        ns: ns.parse().unwrap(),
    }
}

fn parse_strict(line: &str) -> Vec<(String, Parsed)> {
    parse_fields(&split(sections(line).1, ' ', true)[0])
}

fn parse_fields(text: &str) -> Vec<(String, Parsed)> {
    let field = |field: &String| {
        let [name, value] = &split(field, '=', true)[..] else { panic!("a field: {field}") };
        let value = match value.as_str() {
            "true" => Parsed::Bool(true),
            "false" => Parsed::Bool(false),
            text if text.starts_with('"') => {
                Parsed::Text(unescape(text.strip_prefix('"').unwrap().strip_suffix('"').unwrap()))
            }
            text => match text.strip_suffix('i') {
                Some(int) => Parsed::Int(int.parse().unwrap()),
                None => Parsed::Float(text.parse().unwrap()),
            },
        };
        (name.clone(), value)
    };
    split(text, ',', true).iter().map(field).collect()
}

/// Measurement with tags, and the rest.
fn sections(line: &str) -> (&str, &str) {
    let series = split(line, ' ', false).remove(0);
    line.split_at_checked(series.len())
        .map(|(series, rest)| (series, rest.strip_prefix(' ').unwrap()))
        .unwrap()
}

/// Splits at separators that are not escaped, nor quoted where quotes mean anything (in tags they do
/// not).
fn split(text: &str, separator: char, quotes: bool) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut escaped, mut quoted) = (false, false);
    for c in text.chars() {
        if c == separator && !escaped && !quoted {
            parts.push(String::new());
            continue;
        }
        quoted ^= quotes && c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        parts.last_mut().unwrap().push(c);
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut escaped = false;
    for c in text.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            out.push(c);
        }
    }
    out
}
