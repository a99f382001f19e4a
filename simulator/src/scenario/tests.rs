#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::fault::{Chance, Fault};
use crate::options::{MqttVersion, Schedule};

fn said(pairs: &[(&str, &str)]) -> Said {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect()
}

#[test]
fn every_shipped_scenario_can_be_run_and_says_what_it_is_for() {
    for (name, _) in SHIPPED {
        let plan = Plan::of(&[read(name).unwrap(), said(&[("target", "mqtt://h")])]).unwrap();
        assert!(plan.about.len() > 20, "{name}");
        assert!(!plan.fail_if.is_empty(), "{name}");
        assert!(plan.fleet.duration.is_some(), "{name} must end");
    }
}

#[test]
fn files_and_flags_are_one_and_the_later_word_counts() {
    let file = "stations = 7\nwindow = 5\nfor = \"90s\"\nloop = \"closed\"\n\
                target = [\"mqtt://a\", \"mqtt://b\"]\nmqtt = \"5\"\n[fault]\nvanish = \"2/min from 5s\"\n";
    let file = parse("it", file).unwrap();
    let plan = Plan::of(&[file, said(&[("window", "9"), ("share", "2/3")])]).unwrap();
    let fleet = &plan.fleet;
    assert_eq!((fleet.stations, fleet.window), (7, 9));
    assert_eq!((fleet.schedule, fleet.mqtt_version), (Schedule::Closed, MqttVersion::V5));
    assert_eq!((fleet.target.as_str(), fleet.more_targets.len()), ("mqtt://a", 1));
    assert_eq!((fleet.share.part, fleet.share.of), (2, 3));
    let vanish = Chance { from: Duration::from_secs(5), ..Chance::of(Fault::Vanish, 2_000_000) };
    assert_eq!(fleet.faults.chance(Fault::Vanish), vanish);
    // What is not said stays as it is.
    assert_eq!(fleet.faults.chance(Fault::Duplicate), Chance::of(Fault::Duplicate, 10_000));
}

#[test]
fn all_faults_of_a_scenario_are_told_at_once_with_key_value_and_remedy() {
    let file = "stations = 0\nwindw = 3\nloop = \"ajar\"\nfor = 60\n[fault]\ncorrupt = \"much\"\n";
    let Err(ScenarioError::Keys(faults)) = Plan::of(&[parse("it", file).unwrap()]) else {
        panic!("it was taken")
    };
    let faults = faults.join("\n");
    for told in [
        "unknown key windw; the nearest one is window",
        "loop is \"ajar\"; give one of open, closed",
        "for is \"60\"; give a time with its unit",
        "fault.corrupt is \"much\"; give how often, such as 1%",
        "stations is 0; give 1 to 100000",
    ] {
        assert!(faults.contains(told), "{told} is not in\n{faults}");
    }
    assert_eq!(faults.lines().count(), 5, "{faults}");
    let error = read("ordinary-dya").unwrap_err().to_string();
    assert!(error.contains("design-load"), "{error}");
    assert!(parse("it", "stations = ").unwrap_err().to_string().contains("scenario it"));
}

#[test]
fn every_key_has_a_flag_of_its_own_and_can_be_set() {
    let keys = keys();
    let flags: BTreeSet<_> = keys.iter().map(Key::flag).collect();
    assert_eq!(flags.len(), keys.len());
    for key in keys {
        let value = match key.name.as_str() {
            "for" => "8s",
            "ramp" | "drain" | "linger" => "7s",
            "traffic" => "mar",
            "loop" => "closed",
            "mqtt" => "5",
            "qos" => "2",
            "source" => "127.0.0.2-127.0.0.4",
            "share" => "1/2",
            "target" => "mqtt://h",
            "fail_if" => "p99 > 5ms",
            name if name.starts_with("fault.") => {
                let fault = Fault::ALL.into_iter().find(|fault| name.ends_with(fault.as_str()));
                match fault {
                    Some(fault) if fault.per_minute() => "3/min",
                    None if name == "fault.drift_ppm" => "7",
                    _ => "3%",
                }
            }
            _ => "7",
        };
        let mut before = said(&[("for", "7s")]);
        if key.name == "map_identities" {
            before.extend(said(&[("trace", "it")]));
        }
        let plan = Plan::of(&[before.clone(), said(&[(&key.name, value)])]).unwrap();
        let before = Plan::of(&[before]).unwrap();
        assert_ne!(format!("{plan:?}"), format!("{before:?}"), "{} does nothing", key.name);
    }
}

#[test]
fn sources_are_an_address_or_a_range_that_is_not_too_long() {
    let sources = |text| Plan::of(&[said(&[("source", text)])]).map(|plan| plan.fleet.sources);
    let shown =
        |text| -> Vec<String> { sources(text).unwrap().iter().map(ToString::to_string).collect() };
    assert_eq!(shown("127.0.0.9"), ["127.0.0.9"]);
    assert_eq!(
        shown("127.0.0.254-127.0.1.1"),
        ["127.0.0.254", "127.0.0.255", "127.0.1.0", "127.0.1.1"]
    );
    assert_eq!(shown("::1"), ["::1"]);
    for bad in
        ["", "127.0.0.2-127.0.0.1", "127.0.0.1-", "localhost", "0.0.0.0-255.255.255.255", "::1-::2"]
    {
        let error = sources(bad).unwrap_err().to_string();
        assert!(
            error.contains("source is") && error.contains("such as 127.0.0.2-127.0.0.9"),
            "{bad}: {error}"
        );
    }
}

#[test]
fn the_expected_load_is_what_the_models_say() {
    let plan = Plan::of(&[read("design-load").unwrap()]).unwrap();
    let expected = expect(&plan.fleet).unwrap();
    // 3,400 periodic readings, and what happens besides; 1 % of it twice, a status per station and minute.
    assert!((3000.0..3900.0).contains(&expected.readings_per_s), "{expected}");
    assert!(expected.batches_per_s < expected.readings_per_s / 2.0, "{expected}");
    let one = Plan::of(&[read("design-load").unwrap(), said(&[("share", "1/4")])]).unwrap();
    let quarter = expect(&one.fleet).unwrap().readings_per_s / expected.readings_per_s;
    assert!((0.2..0.3).contains(&quarter), "{quarter}");
}
