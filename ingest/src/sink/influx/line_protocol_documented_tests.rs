//! `docs/influx.md` says what is written. These hold it, the field table and the encoder together.

use std::fmt::Write as _;

use super::*;

const DOC: &str = include_str!("../../../../docs/influx.md");

/// Measurement, field, type in line protocol, what it is.
type Documented = (String, String, &'static str, String);

/// What the encoder may write, reckoned from the field table.
fn declared() -> Vec<Documented> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let mut put = |name: &str, ty: &'static str, what: String| {
            all.push((kind.as_str().to_owned(), name.to_owned(), ty, what));
        };
        for (name, ty, what) in [
            ("quality", "integer", "1 rejected, 2 most likely wrong, 3 suspicious, 4 accepted"),
            ("reason", "integer", "why the quality is below 4; absent when it is not"),
            ("time_source", "integer", "whose clock: 1 device, 2 station, 3 ours"),
            ("boot_epoch", "integer", "the device's boots"),
            ("seq", "integer", "the device's count within a boot"),
            ("received_us", "integer", "our receive time, Unix µs"),
            ("region", "string", "where it came from"),
        ] {
            put(name, ty, what.to_owned());
        }
        if kind != Kind::StationStatus {
            put("station", "string", "the station that heard it".to_owned());
        }
        for field in kind.common_fields().iter().chain(kind.fields()) {
            if is_history(kind, field.name) {
                continue;
            }
            let (ty, what) = match field.ty {
                FieldType::Int => ("integer", said(field)),
                FieldType::Float => ("float", said(field)),
                FieldType::Bool => ("boolean", String::new()),
                FieldType::Enum(table) => ("integer", numbers(table)),
                FieldType::EnumList(table) => {
                    put(
                        &format!("{}_bits", field.name),
                        "integer",
                        format!("bit n: {}", numbers(table)),
                    );
                    ("string", "words joined by commas".to_owned())
                }
                FieldType::IntList => panic!("{kind} {}: a list has no field", field.name),
            };
            put(field.name, ty, what);
        }
    }
    for (name, what) in [("delta_l", "litres of one interval"), ("interval_s", "its length")] {
        all.push((WATER_INTERVAL.to_owned(), name.to_owned(), "integer", what.to_owned()));
    }
    all
}

fn said(field: &loushan_schemas::field::Field) -> String {
    let mut said = Vec::new();
    if let Some(range) = field.hard {
        said.push(format!("{} to {}", range.low, range.high));
    }
    if field.counter.is_some() {
        said.push("counts up".to_owned());
    }
    said.join(", ")
}

fn numbers(table: &EnumTable) -> String {
    let words: Vec<_> = table.values.iter().map(|(n, word)| format!("{n} {word}")).collect();
    words.join(", ")
}

/// One line for a field that is the same in several measurements.
fn table() -> String {
    let mut fields: Vec<(Documented, Vec<String>)> = Vec::new();
    for (measurement, field, ty, what) in declared() {
        let known = fields.iter_mut().find(|((_, f, t, w), _)| (f, *t, w) == (&field, ty, &what));
        match known {
            Some((_, measurements)) => measurements.push(format!("`{measurement}`")),
            None => {
                let measurements = vec![format!("`{measurement}`")];
                fields.push(((measurement, field, ty, what), measurements));
            }
        }
    }
    let mut text = String::from("| measurement | field | type | what it is |\n|---|---|---|---|\n");
    for ((_, field, ty, what), measurements) in fields {
        let place = match measurements.len() {
            6 => "every kind".to_owned(),
            5 => "every device".to_owned(),
            _ => measurements.join(", "),
        };
        let what = if what.is_empty() { what } else { format!(" {what}") };
        writeln!(text, "| {place} | `{field}` | {ty} |{what} |").unwrap();
    }
    text
}

#[test]
fn the_documented_fields_are_the_declared_ones_and_keep_their_types() {
    let (_, rest) = DOC.split_once("<!-- fields -->\n").unwrap();
    let (documented, _) = rest.split_once("<!-- /fields -->").unwrap();
    let written = table();
    assert!(
        documented.trim() == written.trim(),
        "docs/influx.md and the field table differ. A field's type never changes, nor its name: \
         stored data would be refused or split. If only fields were added, the table is now:\n\n{written}"
    );
}

#[test]
fn no_field_has_two_types_in_one_measurement() {
    let mut types = BTreeMap::new();
    for (measurement, field, ty, _) in declared() {
        assert_eq!(
            types.insert((measurement.clone(), field.clone()), ty),
            None,
            "{measurement} {field}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_a_reading_holds_its_points_have_documented_fields_of_documented_types(
        rows in prop::collection::vec(any_row(), 1..8),
    ) {
        let declared: BTreeMap<_, _> =
            declared().into_iter().map(|(m, field, ty, _)| ((m, field), ty)).collect();
        for row in &rows {
            for line in lines(row).lines() {
                let point = parse(line);
                for (field, value) in point.fields {
                    let ty = match value {
                        Parsed::Int(_) => "integer",
                        Parsed::Float(_) => "float",
                        Parsed::Bool(_) => "boolean",
                        Parsed::Text(_) => "string",
                    };
                    let key = (point.measurement.clone(), field);
                    prop_assert_eq!(declared.get(&key), Some(&ty), "{:?}", key);
                }
            }
        }
    }

    /// A series is a device of a kind, and a water meter's intervals are one more: nothing that a
    /// reading holds starts another.
    #[test]
    fn there_are_as_many_series_as_the_fleet_has_devices(
        rows in prop::collection::vec(any_row(), 1..40),
    ) {
        let mut devices = BTreeSet::new();
        let mut series = BTreeSet::new();
        for row in &rows {
            let kind = row.reading.kind();
            let device = match row.reading.imei {
                Some(imei) => imei.to_string(),
                None => row.station.to_string(),
            };
            devices.insert((kind.as_str(), device.clone()));
            for line in lines(row).lines() {
                let point = parse(line);
                prop_assert_eq!(point.tags.len(), 1);
                if point.measurement == WATER_INTERVAL {
                    devices.insert((WATER_INTERVAL, device.clone()));
                }
                series.insert((point.measurement, point.tags));
            }
        }
        prop_assert_eq!(series.len(), devices.len());
    }
}
