//! Closed lists: their words are metric labels, JSON and columns, their numbers lie in log frames.

use std::collections::HashSet;

use loushan_schemas::field::{EnumTable, FieldType};
use loushan_schemas::kind::Kind;
use loushan_schemas::pb;
use loushan_schemas::quality::{Quality, QualityReason};
use loushan_schemas::reading::{self, Common, TimeSource};
use loushan_schemas::reject::RejectReason;

/// The table's words are the schema's names, in lower case and without the enum's prefix.
fn same<E: TryFrom<i32>>(table: &EnumTable, prefix: &str, name: fn(&E) -> &'static str) {
    let of_schema = (1..100).filter_map(|number| {
        let value = E::try_from(number).ok()?;
        let word = name(&value).strip_prefix(prefix).unwrap().to_ascii_lowercase();
        Some((number, word))
    });
    let of_table = table.values.iter().map(|(number, word)| (*number, (*word).to_owned()));
    assert_eq!(of_table.collect::<Vec<_>>(), of_schema.collect::<Vec<_>>(), "{}", table.name);
}

#[test]
fn words_of_enums_are_those_of_the_schema() {
    same(&reading::TRIGGER, "TRIGGER_", pb::Trigger::as_str_name);
    same(&reading::CLOCK_STATE, "CLOCK_STATE_", pb::ClockState::as_str_name);
    same(&reading::PARKING_STATE, "STATE_", pb::parking::State::as_str_name);
    same(&reading::LIGHT_FAULT, "FAULT_", pb::street_light::Fault::as_str_name);
    same(&reading::SMOKE_STATE, "STATE_", pb::smoke::State::as_str_name);
    same(&reading::SELF_TEST, "SELF_TEST_", pb::smoke::SelfTest::as_str_name);
    same(&reading::ELEVATOR_MODE, "MODE_", pb::elevator::Mode::as_str_name);
    same(&reading::ELEVATOR_DIRECTION, "DIRECTION_", pb::elevator::Direction::as_str_name);
    same(&reading::ELEVATOR_DOOR, "DOOR_", pb::elevator::Door::as_str_name);
    same(&reading::ELEVATOR_FAULT, "FAULT_", pb::elevator::Fault::as_str_name);
    same(&reading::WATER_VALVE, "VALVE_", pb::water::Valve::as_str_name);
    same(&reading::WATER_ALARM, "ALARM_", pb::water::Alarm::as_str_name);
}

#[test]
fn a_word_gives_its_number_and_a_number_its_word() {
    for kind in Kind::ALL {
        for field in Common::FIELDS.iter().chain(kind.fields()) {
            let (FieldType::Enum(table) | FieldType::EnumList(table)) = field.ty else { continue };
            for number in [1, 2, 99, -1, i32::MIN] {
                let mut text = String::new();
                table.write(number, &mut text);
                assert_eq!(table.number(&text), Some(number), "{}", field.name);
            }
            assert_eq!(table.number("nonsense"), None);
        }
    }
}

#[test]
fn numbers_and_words_never_change() {
    let reasons: Vec<_> = QualityReason::ALL.iter().map(|r| (r.number(), r.as_str())).collect();
    let pinned = [
        (1, "under_range"),
        (2, "over_range"),
        (3, "stuck"),
        (4, "step"),
        (5, "warming_up"),
        (6, "contamination"),
        (7, "hardware"),
        (8, "clock_skew"),
        (9, "rollover"),
        (10, "reset"),
        (11, "unknown_enum"),
        (12, "cross_field"),
    ];
    assert_eq!(reasons, pinned);
    let rejects: Vec<_> = RejectReason::ALL.iter().map(|r| (r.number(), r.as_str())).collect();
    let pinned = [
        (1, "undecodable"),
        (2, "payload_too_large"),
        (3, "bad_compression"),
        (4, "empty"),
        (5, "no_readings"),
        (6, "too_many_readings"),
        (7, "nested_too_large"),
        (8, "schema_major"),
        (9, "newer_schema"),
        (10, "unknown_fields"),
        (11, "wrong_station"),
        (12, "bad_station"),
        (13, "malformed_topic"),
        (14, "bad_imei"),
        (15, "no_body"),
        (16, "unknown_model"),
        (17, "bad_raw_body"),
    ];
    assert!(rejects.starts_with(&pinned), "{rejects:?}");
    let kinds: Vec<_> = Kind::ALL.iter().map(|k| (k.number(), k.as_str())).collect();
    let pinned = [
        (1, "parking"),
        (2, "street_light"),
        (3, "smoke"),
        (4, "elevator"),
        (5, "water"),
        (6, "station_status"),
    ];
    assert_eq!(kinds, pinned);
}

#[test]
fn every_entry_is_found_by_number_and_by_word() {
    for number in 0..=u8::MAX {
        if let Some(reason) = QualityReason::from_number(number) {
            assert_eq!(reason.number(), number);
            assert_eq!(QualityReason::from_text(reason.as_str()), Some(reason));
        }
        if let Some(reason) = RejectReason::from_number(number) {
            assert_eq!(reason.number(), number);
            assert_eq!(RejectReason::from_text(reason.as_str()), Some(reason));
        }
        if let Some(kind) = Kind::from_number(number) {
            assert_eq!(kind.number(), number);
            assert_eq!(Kind::from_text(kind.as_str()), Some(kind));
        }
        if let Some(quality) = Quality::from_number(number) {
            assert_eq!(quality.number(), number);
        }
        if let Some(source) = TimeSource::from_number(number) {
            assert_eq!(source as u8, number);
            assert_eq!(TimeSource::from_text(source.as_str()), Some(source));
        }
    }
}

#[test]
fn a_kinds_columns_have_names_of_their_own() {
    // Beside those of every row.
    let row = [
        "lsn",
        "kind",
        "region",
        "station",
        "session",
        "batch_seq",
        "replay",
        "imei",
        "boot_epoch",
        "seq",
        "measured_ms",
        "heard_ms",
        "received_us",
        "effective_ms",
        "time_source",
        "quality",
        "reason",
    ];
    for kind in Kind::ALL {
        let fields = Common::FIELDS.iter().chain(kind.fields()).map(|field| field.name);
        let mut names = HashSet::new();
        assert!(fields.chain(row).all(|name| names.insert(name)), "{kind}");
    }
}
