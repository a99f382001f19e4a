#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::field::Value;
use crate::kind::Kind;
use crate::limits::RAW_BODY_BYTES;
use crate::sample::{self, arbitrary};

fn converted(reading: &pb::Reading) -> Converted {
    Model::of(reading.model_id).from_wire(reading).unwrap()
}

fn typed(model_id: u32, body: pb::reading::Body) -> pb::Reading {
    pb::Reading { model_id, body: Some(body), ..pb::Reading::default() }
}

fn raw(model_id: u32, json: &str) -> pb::Reading {
    let body = pb::reading::Body::Raw(Bytes::copy_from_slice(json.as_bytes()));
    typed(model_id, body)
}

fn parking(body: pb::Parking) -> pb::reading::Body {
    pb::reading::Body::Parking(body)
}

/// The field of that name, common or of the kind, as text.
fn field(converted: &Converted, name: &str) -> Option<String> {
    let mut found = None;
    let mut look = |_: usize, field: &'static crate::field::Field, value: Value<'_>| {
        if field.name == name {
            found = Some(match value {
                Value::Int(v) => v.to_string(),
                Value::Float(v) => format!("{v}"),
                Value::Enum(v) => v.to_string(),
                other => format!("{other:?}"),
            });
        }
    };
    converted.common.visit(&mut look);
    converted.body.visit(&mut look);
    found
}

/// A row of the design's table of traps.
struct Trap {
    name: &'static str,
    reading: pb::Reading,
    field: &'static str,
    /// The canonical value's shortest text; `None` for an absent value.
    canonical: Option<&'static str>,
}

fn with_radio(model_id: u32, radio: pb::Radio) -> pb::Reading {
    pb::Reading { radio: Some(radio), ..typed(model_id, parking(pb::Parking::default())) }
}

#[allow(clippy::too_many_lines)] // a table
fn traps() -> Vec<Trap> {
    let trap = |name, reading, field, canonical: &'static str| Trap {
        name,
        reading,
        field,
        canonical: (canonical != "absent").then_some(canonical),
    };
    let temp = |model, dc| {
        typed(model, parking(pb::Parking { temp_dc: Some(dc), ..pb::Parking::default() }))
    };
    let light = |body| typed(4, pb::reading::Body::StreetLight(body));
    let light_json = |json| raw(103, json);
    let water = |body| typed(5, pb::reading::Body::Water(body));
    vec![
        trap("temperature in tenths", temp(1, 219), "temp_c", "21.9"),
        trap("the same in JSON", raw(102, r#"{"temperature":219}"#), "temp_c", "21.9"),
        trap(
            "received power without its sign",
            with_radio(2, pb::Radio { nrsrp_dbm: Some(114), ..pb::Radio::default() }),
            "nrsrp_dbm",
            "-114",
        ),
        trap("the same in JSON", raw(101, r#"{"rsrp":114}"#), "nrsrp_dbm", "-114"),
        trap("firmware that sends the sign", raw(101, r#"{"rsrp":-114}"#), "nrsrp_dbm", "-114"),
        trap("temperature plus a hundred", temp(2, 135), "temp_c", "35"),
        trap("the same in JSON", raw(101, r#"{"devTemp":135}"#), "temp_c", "35"),
        trap(
            "hundredths of a volt",
            pb::Reading {
                power: Some(pb::Power { battery_mv: Some(315), ..pb::Power::default() }),
                ..temp(2, 135)
            },
            "battery_mv",
            "3150",
        ),
        trap("the same in JSON", raw(101, r#"{"devVolt":315}"#), "battery_mv", "3150"),
        trap(
            "received power in tenths",
            with_radio(3, pb::Radio { nrsrp_dbm: Some(-792), ..pb::Radio::default() }),
            "nrsrp_dbm",
            "-79.2",
        ),
        trap("the same in JSON", raw(102, r#"{"SignalPower":-792}"#), "nrsrp_dbm", "-79.2"),
        trap(
            "signal to noise in tenths",
            with_radio(3, pb::Radio { sinr_db: Some(-55), ..pb::Radio::default() }),
            "sinr_db",
            "-5.5",
        ),
        trap("the same in JSON", raw(102, r#"{"SNR":-55}"#), "sinr_db", "-5.5"),
        trap("a power for a level", raw(101, r#"{"ecl":-97,"rsrp":100}"#), "ce_level", "-97"),
        trap("and a level's slot", raw(101, r#"{"ecl":-97,"rsrp":100}"#), "nrsrp_dbm", "-100"),
        trap("-1 for a counter", raw(101, r#"{"changes":-1}"#), "change_count", "absent"),
        trap("null for a value", raw(102, r#"{"battery":null}"#), "battery_pct", "absent"),
        trap("a word for a value", raw(102, r#"{"ECL":"undefined"}"#), "ce_level", "absent"),
        trap("no signal strength", raw(102, r#"{"CSQ":99}"#), "rssi_dbm", "absent"),
        trap("a signal strength", raw(102, r#"{"CSQ":20}"#), "rssi_dbm", "-73"),
        trap(
            "coverage levels from one",
            with_radio(3, pb::Radio { ce_level: Some(1), ..pb::Radio::default() }),
            "ce_level",
            "0",
        ),
        trap(
            "the last of them",
            with_radio(3, pb::Radio { ce_level: Some(3), ..pb::Radio::default() }),
            "ce_level",
            "2",
        ),
        trap("the same in JSON", raw(104, r#"{"ceLevel":2}"#), "ce_level", "1"),
        trap(
            "energy in kWh",
            light(pb::StreetLight { energy_wh: Some(12), ..pb::StreetLight::default() }),
            "energy_wh",
            "12000",
        ),
        trap("the same in JSON", light_json(r#"{"energy":12.345}"#), "energy_wh", "12345"),
        trap(
            "tilt in milliradian",
            light(pb::StreetLight { tilt_ddeg: Some(1000), ..pb::StreetLight::default() }),
            "tilt_deg",
            "57.29577951308233",
        ),
        trap("the same in JSON", light_json(r#"{"tilt":0.0872664626}"#), "tilt_deg", "5"),
        trap(
            "light in thousandths of one",
            light(pb::StreetLight { dim_pct: Some(550), ..pb::StreetLight::default() }),
            "dim_pct",
            "55",
        ),
        trap("the same in JSON", light_json(r#"{"level":0.55}"#), "dim_pct", "55"),
        trap(
            "flow in millionths of m³/s",
            water(pb::Water { flow_l_h: Some(7), ..pb::Water::default() }),
            "flow_l_h",
            "25.2",
        ),
        trap("the same in JSON", raw(104, r#"{"flow":0.000007}"#), "flow_l_h", "25.2"),
        trap(
            "a register in hundredths of m³",
            water(pb::Water { total_l: Some(1234), ..pb::Water::default() }),
            "total_l",
            "12340",
        ),
        trap("a register in m³", raw(104, r#"{"volume":12.34}"#), "total_l", "12340"),
    ]
}

#[test]
fn every_unit_trap_of_the_design_is_sprung() {
    for Trap { name, reading, field: of, canonical } in traps() {
        let converted = converted(&reading);
        assert_eq!(field(&converted, of).as_deref(), canonical, "{name}: {of}");
    }
}

#[test]
fn own_epochs_and_times_without_a_zone_become_unix_time() {
    for (reading, unix_s) in [
        (raw(101, r#"{"time":213335}"#), Some(1_536_722_135)),
        (raw(101, r#"{"time":-1}"#), None),
        (raw(102, r#"{"ts":"2020-09-18 11:34:24"}"#), Some(1_600_400_064)),
        (raw(102, r#"{"ts":"undefined"}"#), None),
        (raw(103, r#"{"time":1600400064}"#), Some(1_600_400_064)),
        (raw(104, r#"{"time":"20200918113424"}"#), Some(1_600_400_064)),
    ] {
        let converted = converted(&reading);
        let measured = converted.measured.map(|t| t.ms());
        assert_eq!(measured, unix_s.map(|s: i64| s * 1000), "{reading:?}");
        assert_eq!(converted.notes, [], "{reading:?}");
    }
}

#[test]
fn a_time_that_cannot_be_read_makes_the_reading_suspicious() {
    for reading in [
        raw(102, r#"{"ts":"18.09.2020"}"#),
        raw(102, r#"{"ts":1600400064}"#),
        raw(104, r#"{"time":"20201318113424"}"#),
    ] {
        let converted = converted(&reading);
        assert_eq!(converted.measured, None);
        assert_eq!(converted.notes, [QualityReason::ClockSkew], "{reading:?}");
    }
}

#[test]
fn swapped_radio_fields_are_noted() {
    let note = |json| converted(&raw(101, json)).notes;
    assert_eq!(note(r#"{"ecl":-97,"rsrp":100}"#), [QualityReason::CrossField]);
    assert_eq!(note(r#"{"ecl":1,"rsrp":100}"#), []);
    assert_eq!(note(r#"{"ecl":-97}"#), []);
}

#[test]
fn placeholders_are_absent_and_never_values() {
    let json =
        r#"{"seq":-1,"IMSI":"undefined","battery":null,"temperature":"","dust":"N/A","ECL":-1}"#;
    let converted = converted(&raw(102, json));
    assert_eq!(converted.seq, None);
    assert_eq!(converted.common, Common { model_id: Some(102), ..Common::default() });
    assert_eq!(converted.body, Body::Smoke(crate::reading::Smoke::default()));
    assert_eq!(self::converted(&raw(102, r#"{"seq":5}"#)).seq, Some(5));
}

#[test]
fn a_raw_body_that_cannot_be_read_is_rejected() {
    let reject = |reading: &pb::Reading| Model::of(reading.model_id).from_wire(reading);
    for json in ["", "[]", "{", "7", r#"{"rsrp":[1]}"#, r#"{"rsrp":"far"}"#, r#"{"state":{}}"#] {
        assert_eq!(reject(&raw(101, json)), Err(RejectReason::BadRawBody), "{json}");
    }
    let deltas = format!(r#"{{"deltas":{:?}}}"#, [0; 97]);
    assert_eq!(reject(&raw(104, &deltas)), Err(RejectReason::NestedTooLarge));
    assert_eq!(reject(&raw(1, "{}")), Err(RejectReason::UnknownModel));
    assert_eq!(reject(&raw(77, "{}")), Err(RejectReason::UnknownModel));
    assert_eq!(reject(&pb::Reading::default()), Err(RejectReason::NoBody));
}

#[test]
fn an_unregistered_model_speaks_canonical_units_and_keeps_its_id() {
    let reading = typed(77, parking(pb::Parking { temp_dc: Some(219), ..pb::Parking::default() }));
    let converted = converted(&reading);
    assert_eq!(field(&converted, "temp_c").as_deref(), Some("21.9"));
    assert_eq!(converted.common.model_id, Some(77));
}

#[test]
fn counters_beyond_what_is_kept_stand_at_its_end() {
    let body = pb::Water { total_l: Some(u64::MAX), ..pb::Water::default() };
    let converted = converted(&typed(1, pb::reading::Body::Water(body)));
    assert_eq!(field(&converted, "total_l"), Some(i64::MAX.to_string()));
}

#[test]
fn model_ids_are_unique_and_found() {
    for (i, model) in Model::ALL.iter().enumerate() {
        assert!(Model::ALL.iter().skip(i + 1).all(|m| m.id != model.id), "{}", model.name);
        assert_eq!(Model::of(model.id).name, model.name);
    }
}

#[test]
fn every_model_says_every_sample_as_it_was_meant() {
    for model in Model::ALL {
        for kind in [Kind::Parking, Kind::StreetLight, Kind::Smoke, Kind::Elevator, Kind::Water] {
            for n in 0..50 {
                let sample = sample::reading(kind, n);
                let wire = model.to_wire_at(&sample.common, &sample.body, sample.times.measured);
                let once = model.from_wire(&wire).unwrap();
                // Some units are coarser than the sample's; said again it must come out the same.
                let again = model.to_wire_at(&once.common, &once.body, once.measured);
                assert_eq!(model.from_wire(&again).unwrap(), once, "{} {kind} {n}", model.name);
                if model.id == Model::CANONICAL.id {
                    assert_eq!(once.common, sample.common);
                    assert_eq!(once.body, sample.body);
                }
            }
        }
    }
}

#[test]
fn a_model_that_talks_json_says_its_kind_in_json_with_the_time() {
    for (id, kind) in
        [(101, Kind::Parking), (102, Kind::Smoke), (103, Kind::StreetLight), (104, Kind::Water)]
    {
        let sample = sample::reading(kind, 3);
        let wire = Model::of(id).to_wire_at(&sample.common, &sample.body, sample.times.measured);
        let Some(pb::reading::Body::Raw(json)) = &wire.body else { panic!("{wire:?}") };
        assert!(json.len() <= RAW_BODY_BYTES);
        let converted = converted(&wire);
        assert_eq!(converted.measured, sample.times.measured);
        assert_eq!(converted.body.kind(), kind);
        assert_eq!(converted.notes, []);
    }
}

#[test]
fn json_says_as_much_as_the_sample_where_its_units_are_fine_enough() {
    for (id, kind) in [(102, Kind::Smoke), (103, Kind::StreetLight), (104, Kind::Water)] {
        for n in 0..200 {
            let sample = sample::reading(kind, n);
            let wire = Model::of(id).to_wire(&sample.common, &sample.body);
            assert_eq!(converted(&wire).body, sample.body, "{kind} {n}");
        }
    }
}

proptest! {
    #[test]
    fn what_a_model_reads_it_says_again(reading in arbitrary::wire_reading()) {
        // One that talks JSON is not asked to say what was not said in it.
        let model = Some(Model::of(reading.model_id)).filter(|model| !model.is_raw());
        let model = model.unwrap_or(&Model::CANONICAL);
        let once = model.from_wire(&reading).unwrap();
        let wire = model.to_wire(&once.common, &once.body);
        let again = model.from_wire(&wire).unwrap();
        prop_assert_eq!(&again.body, &once.body);
        // An unregistered model's id is not the canonical one's to say.
        let common = Common { model_id: again.common.model_id, ..once.common };
        prop_assert_eq!(&again.common, &common);
    }

    #[test]
    fn converted_floats_are_finite_and_lists_in_order(reading in arbitrary::wire_reading()) {
        let converted = converted(&reading);
        let mut check = |_: usize, field: &'static crate::field::Field, value: Value<'_>| {
            match value {
                Value::Float(v) => assert!(v.is_finite() && !(v == 0.0 && v.is_sign_negative()), "{}", field.name),
                Value::EnumList(list) => assert!(list.windows(2).all(|w| w[0] < w[1])),
                _ => {}
            }
        };
        converted.common.visit(&mut check);
        converted.body.visit(&mut check);
    }

    #[test]
    fn arbitrary_json_never_panics_and_stays_finite(
        model in 101_u32..105,
        values in prop::collection::vec(("[a-zA-Z]{1,12}", json_value()), 0..12),
        known in prop::collection::vec((prop::sample::select(KEYS.to_vec()), json_value()), 0..12),
    ) {
        let all = values.iter().map(|(k, v)| (k.as_str(), v)).chain(known.iter().map(|(k, v)| (*k, v)));
        let pairs: Vec<String> = all.map(|(k, v)| format!("{k:?}:{v}")).collect();
        let reading = raw(model, &format!("{{{}}}", pairs.join(",")));
        if let Ok(converted) = Model::of(model).from_wire(&reading) {
            let mut check = |_: usize, _: &'static crate::field::Field, value: Value<'_>| {
                assert!(value.as_number().is_none_or(f64::is_finite));
            };
            converted.common.visit(&mut check);
            converted.body.visit(&mut check);
            // What was read can be said.
            let wire = Model::of(model).to_wire_at(&converted.common, &converted.body, converted.measured);
            prop_assert!(Model::of(model).from_wire(&wire).is_ok());
        }
    }

    #[test]
    fn arbitrary_bytes_as_a_raw_body_never_panic(model in 100_u32..106, body: Vec<u8>) {
        let reading = typed(model, pb::reading::Body::Raw(Bytes::from(body)));
        let _any = Model::of(model).from_wire(&reading);
    }
}

const KEYS: [&str; 20] = [
    "rsrp",
    "ecl",
    "csq",
    "devTemp",
    "time",
    "seq",
    "state",
    "SignalPower",
    "CSQ",
    "ts",
    "energy",
    "tilt",
    "level",
    "faults",
    "current",
    "volume",
    "flow",
    "deltas",
    "alarms",
    "ceLevel",
];

fn json_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_map(|v| if v.is_finite() { format!("{v:e}") } else { "null".into() }),
        any::<i64>().prop_map(|v| v.to_string()),
        (-200_i64..200).prop_map(|v| v.to_string()),
        "[ -~&&[^\"\\\\]]{0,20}".prop_map(|v| format!("\"{v}\"")),
        prop::sample::select(vec![
            "true", "false", "null", "[]", "[1,2]", "{}", "\"inf\"", "\"NaN\""
        ])
        .prop_map(str::to_owned),
    ]
}
