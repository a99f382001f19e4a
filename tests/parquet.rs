//! The embedded store's folder, opened by somebody else's reader.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::Command;

use support::{Service, loushan, python, run};

#[test]
fn duckdb_opens_the_folder_and_counts_what_the_service_counts() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let (done, output) = run(loushan()
        .current_dir(dir.path())
        .args(["simulate", "--target", &format!("mqtt://{}", service.mqtt)])
        // Minutes of the fleet's time: each station says how it is once a minute.
        .args(["--stations", "20", "--seed", "3", "--rate", "4000", "--for", "8s"]));
    assert!(done, "{output}");
    service.wait_until_quiet();
    let kinds = ["parking", "street_light", "smoke", "elevator", "water", "station_status"];
    let counts: Vec<u64> = kinds
        .iter()
        .map(|kind| {
            service.json(&format!("/api/v1/readings/count?kind={kind}"))["count"].as_u64().unwrap()
        })
        .collect();
    // An ordered end flushes what is in memory.
    assert!(service.terminate().success());

    let (done, output) = run(Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/parquet_counts.py"))
        .arg(dir.path().join("store")));
    assert!(done, "{output}");
    let seen: serde_json::Value = serde_json::from_str(output.trim()).unwrap();
    for (kind, count) in kinds.iter().zip(counts) {
        assert!(count > 0, "the fleet sent no {kind}");
        assert_eq!(seen[kind]["rows"], count, "{kind}: {seen}");
        assert_eq!(seen[kind]["distinct"], count, "{kind}: {seen}");
        let types = &seen[kind]["types"];
        assert_eq!(types["effective"], "TIMESTAMP WITH TIME ZONE", "{kind}: {types}");
    }
}
