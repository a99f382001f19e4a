#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::sample::{self, arbitrary};

fn json(row: &Row) -> String {
    let mut out = String::new();
    row.write_json(&mut out);
    out
}

#[test]
fn a_row_is_this_line() {
    let mut row = sample::row(Kind::Smoke, 1);
    row.reading.quality = Quality::Suspicious;
    row.reading.reason = Some(QualityReason::UnknownEnum);
    let Body::Smoke(smoke) = &mut row.reading.body else { panic!() };
    smoke.state = Some(99);
    assert_eq!(
        json(&row),
        concat!(
            r#"{"lsn":2,"kind":"smoke","region":"honghuagang","station":"bs0001","session":7,"#,
            r#""batch_seq":1,"replay":false,"imei":"860123000000017","boot_epoch":1,"seq":1,"#,
            r#""measured_ms":1767225601000,"heard_ms":1767225602500,"received_us":1767225603000000,"#,
            r#""effective_ms":1767225601000,"time_source":"measured","quality":3,"#,
            r#""reason":"unknown_enum","trigger":"event","clock":"free_running","model_id":1,"#,
            r#""nrsrp_dbm":-83.0,"nrsrq_db":-8.0,"sinr_db":-3.0,"ce_level":1,"cell_id":1037,"#,
            r#""tx_power_dbm":-6.0,"pci":37,"battery_pct":57.0,"battery_mv":3037,"rssi_dbm":-73.0,"#,
            r#""state":"99","obscuration_db_m":0.037,"temp_c":13.7,"contamination_pct":37.0,"#,
            r#""removed":false,"low_battery":false,"self_test":"passed","alarm_count":1}"#,
        )
    );
}

#[test]
fn lists_are_words_and_numbers() {
    let mut row = sample::row(Kind::Elevator, 0);
    let Body::Elevator(elevator) = &mut row.reading.body else { panic!() };
    elevator.faults = vec![1, 17, 40];
    assert!(json(&row).contains(r#""faults":"controller,load_measurement,40""#));
    let water = json(&sample::row(Kind::Water, 0));
    assert!(water.contains(r#""history_delta_l":[0, 7, 14,"#), "{water}");
}

#[test]
fn keys_that_are_missing_or_of_another_type_are_named() {
    let line = json(&sample::row(Kind::Parking, 0));
    let with = |from: &str, to: &str| {
        assert!(line.contains(from), "{from}");
        Row::from_json(&line.replace(from, to))
    };
    assert!(with(r#""kind":"parking""#, r#""kind":"parking","colour":"red""#).is_ok());
    for (from, to, key) in [
        (r#""lsn":1,"#, "", "lsn"),
        (r#""kind":"parking""#, r#""kind":"car""#, "kind"),
        (r#""station":"bs0001""#, r#""station":"BS""#, "station"),
        (r#""imei":"86012300"#, r#""imei":"96012300"#, "imei"),
        (r#""session":7"#, r#""session":4294967296"#, "session"),
        (r#""quality":4"#, r#""quality":5"#, "quality"),
        // More microseconds than nanoseconds can count: cut short, it would read back as another time.
        (r#""received_us":17"#, r#""received_us":99999"#, "received_us"),
        (r#""ce_level":0"#, r#""ce_level":0.5"#, "ce_level"),
        (r#""covered":false"#, r#""covered":0"#, "covered"),
        (r#""state":"free""#, r#""state":"gone""#, "state"),
    ] {
        assert_eq!(with(from, to), Err(RowError::Key(key)), "{to}");
    }
    assert!(matches!(Row::from_json("[]"), Err(RowError::Json(_))));
    assert!(matches!(Row::from_json(line.trim_start_matches("{")), Err(RowError::Json(_))));
}

#[test]
fn a_digest_is_of_what_was_said_and_of_nothing_we_made_of_it() {
    let said = sample::reading(Kind::Water, 3);
    let change = |change: fn(&mut Reading)| {
        let mut changed = said.clone();
        change(&mut changed);
        changed.digest()
    };
    for ours in [
        change(|r| r.quality = Quality::Rejected),
        change(|r| r.reason = Some(QualityReason::Reset)),
        change(|r| r.times.effective = DeviceTime::EPOCH),
        change(|r| r.times.source = TimeSource::Received),
        change(|r| r.times.received = ReceiveTime::from_ns(0)),
    ] {
        assert_eq!(ours, said.digest());
    }
    for theirs in [
        change(|r| r.imei = Some(sample::imei(4))),
        change(|r| r.boot_epoch += 1),
        change(|r| r.seq += 1),
        change(|r| r.times.measured = None),
        change(|r| r.times.heard = None),
        change(|r| r.common.ce_level = None),
    ] {
        assert_ne!(theirs, said.digest());
    }
}

#[test]
fn a_change_of_any_field_changes_the_digest() {
    for kind in Kind::ALL {
        let said = sample::reading(kind, 1);
        for position in 0..kind.fields().len() {
            let mut changed = said.clone();
            let other = sample::reading(kind, 2);
            let empty = Body::empty(kind);
            match (other.body.value(position), empty.value(position)) {
                (Some(value), None) if Some(value) != said.body.value(position) => {
                    changed.body.set(position, value).unwrap();
                }
                // A value that the samples share: another one, by its type.
                (Some(Value::Int(v)), _) => changed.body.set(position, Value::Int(v + 1)).unwrap(),
                (Some(Value::Bool(v)), _) => changed.body.set(position, Value::Bool(!v)).unwrap(),
                (Some(Value::Enum(v)), _) => {
                    changed.body.set(position, Value::Enum(v + 1)).unwrap()
                }
                (other, _) => panic!("{kind} {position}: {other:?}"),
            }
            assert_ne!(changed.digest(), said.digest(), "{kind} {position}");
        }
    }
}

proptest! {
    #[test]
    fn a_row_reads_back_from_its_json(row in arbitrary::row()) {
        prop_assert_eq!(Row::from_json(&json(&row)), Ok(row));
    }

    #[test]
    fn a_visit_sees_what_the_values_are(row in arbitrary::row()) {
        let of = |field: &Field, value: Value<'_>| format!("{}={value:?}", field.name);
        let values: Vec<_> = row.reading.values().map(|(field, value)| of(field, value)).collect();
        let mut visited = Vec::new();
        row.reading.visit(|field, value| visited.push(of(field, value)));
        prop_assert_eq!(visited, values);
    }

    #[test]
    fn arbitrary_lines_never_panic(text in "\\PC{0,200}", bytes: Vec<u8>) {
        let _any = Row::from_json(&text);
        let _any = Row::from_json(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_mutated_line_is_a_row_or_an_error(
        row in arbitrary::row(),
        at in any::<prop::sample::Index>(),
        with in "[ -~]{0,3}",
    ) {
        let line = json(&row);
        let at = at.index(line.len());
        let (front, back) = line.split_at(at);
        let mut back = back.chars();
        back.next();
        if let Ok(row) = Row::from_json(&format!("{front}{with}{}", back.as_str())) {
            // What was taken for a row is one: it reads back.
            prop_assert_eq!(Row::from_json(&json(&row)), Ok(row));
        }
    }
}
