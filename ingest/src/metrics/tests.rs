#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::config::Config;
use crate::http::view::Conservation;
use crate::readiness::{Component, Condition, Readiness};
use crate::sink::SinkStatus;

/// Every quoted name that starts as our metrics do, tests included.
fn names_in(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_in(&path, names);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for prefix in ["loushan_", "process_"] {
                for part in text.split(&format!("!(\"{prefix}")).skip(1) {
                    names.insert(format!("{prefix}{}", part.split('"').next().unwrap()));
                }
            }
        }
    }
}

#[test]
fn the_list_and_the_sources_name_the_same_metrics() {
    let mut emitted = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    names_in(&root.join("src"), &mut emitted);
    names_in(&root.join("../broker/src"), &mut emitted);
    let listed: BTreeSet<String> = all().map(|m| m.name.to_owned()).collect();
    assert_eq!(listed.len(), all().count(), "a metric is listed twice");
    let not_listed: Vec<&String> = emitted.difference(&listed).collect();
    assert_eq!(not_listed, Vec::<&String>::new(), "not listed");
    let not_emitted: Vec<&String> = listed.difference(&emitted).collect();
    assert_eq!(not_emitted, Vec::<&String>::new(), "not emitted");
}

#[test]
fn names_say_type_and_unit_and_sentences_are_sentences() {
    for Metric { name, kind, unit, help, meaning, .. } in all() {
        assert_eq!(name.ends_with("_total"), *kind == Type::Counter, "{name}");
        assert_eq!(name.contains("_bytes"), *unit == "bytes", "{name} is in {unit}");
        assert_eq!(name.contains("_seconds"), *unit == "seconds", "{name} is in {unit}");
        assert!(help.ends_with('.') && !help.contains("  "), "{name}: {help}");
        assert!(meaning.is_empty() || meaning.ends_with('.'), "{name}: {meaning}");
        assert!(!unit.is_empty(), "{name}");
    }
}

#[test]
fn what_several_labels_have_is_not_known_beforehand() {
    // Or it would have to be made at zero for all of them.
    for metric in all().filter(|metric| metric.labels.len() > 1) {
        assert!(metric.labels.iter().any(|label| label.values.known().is_none()), "{metric:?}");
    }
}

#[test]
fn every_bound_is_a_key_of_the_configuration_and_is_exported() {
    let environment = [
        ("LOUSHAN__SINK__NAME__URL".to_owned(), "http://127.0.0.1:1".to_owned()),
        ("LOUSHAN__SINK__NAME__ORG".to_owned(), "o".to_owned()),
        ("LOUSHAN__SINK__NAME__BUCKET".to_owned(), "b".to_owned()),
        ("LOUSHAN__SINK__NAME__AUTH".to_owned(), "none".to_owned()),
        ("LOUSHAN__LOG__MAX_BYTES".to_owned(), "1GiB".to_owned()),
    ];
    let config = Config::read(None, environment).unwrap();
    let keys: BTreeSet<&str> = config.limits.iter().map(|limit| &*limit.key).collect();
    for metric in all() {
        for key in metric.bound.iter().flat_map(|keys| keys.split(", ")) {
            // A sink is called what the configuration says, in small letters.
            let key = key.replace("NAME", "name");
            assert!(keys.contains(&*key), "{}: no bound {key}", metric.name);
        }
    }
}

#[test]
fn alerts_speak_of_metrics_and_labels_that_there_are() {
    for metric in all() {
        let Some(alert) = metric.alert else { continue };
        assert!(alert.contains(metric.name), "{}: {alert}", metric.name);
        for part in alert.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            if !part.starts_with("loushan_") && !part.starts_with("process_") {
                continue;
            }
            let bare = part.trim_end_matches("_bucket");
            assert!(all().any(|other| other.name == bare), "{}: no {part}", metric.name);
        }
    }
}

#[test]
fn the_document_is_what_the_list_says() {
    let written = include_str!("../../../docs/metrics.md");
    assert!(
        written == document(),
        "docs/metrics.md is not what the list says: loushan print-metrics > docs/metrics.md"
    );
}

#[test]
fn sinks_readiness_and_what_was_not_counted_yet_are_rendered() {
    let recorder = builder().build_recorder();
    let handle = recorder.handle();
    let status = SinkStatus::new("embedded");
    status.stored(2);
    let books =
        Conservation { durable_lsn: 7, sinks: vec![status.figures()], ..Conservation::default() };
    let mut readiness = Readiness::default();
    readiness.note(Component::Durability, Condition::amber("sync = interval"));
    ::metrics::with_local_recorder(&recorder, || {
        prepare();
        publish(&books, &readiness);
    });
    let text = handle.render();
    for line in [
        "# TYPE loushan_sink_stored_readings_total counter",
        "# HELP loushan_durable_lsn The greatest durable lsn",
        "loushan_durable_lsn 7",
        "loushan_sink_stored_readings_total{sink=\"embedded\"} 2",
        "loushan_sink_residue_readings{sink=\"embedded\"} -2",
        "loushan_ready 1",
        "loushan_not_durable 1",
        "loushan_component_condition{component=\"durability\"} 1",
        "loushan_component_condition{component=\"log\"} 0",
        "loushan_connects_total{result=\"full\"} 0",
        "loushan_wal_sync_seconds_count 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
