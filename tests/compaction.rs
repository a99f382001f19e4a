//! The store's upkeep in the real binary: files become fewer while a fleet publishes, through kills,
//! and the audit finds every reading once.

// What a run did is worth reading, above all when it failed.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::process::Command;

use loushan_simulator::FleetOptions;
use support::fleet::Running;
use support::{DEADLINE, Service, loushan, python, run, wait_for, wait_for_up_to};

/// Many small files, and everything done about them.
const ENV: &[(&str, &str)] = &[
    ("LOUSHAN__SINK__EMBEDDED__FLUSH_AGE", "100ms"),
    ("LOUSHAN__STORE__COMPACTION__MIN_FILES", "4"),
    ("LOUSHAN__STORE__COMPACTION__SHARE_PERCENT", "100"),
    ("LOUSHAN__STORE__RETENTION__WATER__AGE", "3650days"),
];

#[test]
fn files_become_fewer_while_a_fleet_publishes_and_the_audit_finds_every_reading_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let ledger = dir.path().join("ledger.bin");
    let mut service = Service::start_with(&data, "127.0.0.1:0", "127.0.0.1:0", ENV);
    let (mqtt, http) = (service.mqtt.to_string(), service.http.to_string());
    let fleet = Running::start(FleetOptions {
        stations: 50,
        seed: 23,
        rate: Some(1500),
        ledger: Some(ledger.clone()),
        ..FleetOptions::new(format!("mqtt://{mqtt}"))
    });
    let mut flushes = 0.0;
    for _ in 0..3 {
        wait_for_up_to(2 * DEADLINE, "files to be merged", || {
            (service.metric("loushan_store_compactions_total") >= 8.0).then_some(())
        });
        flushes += service.metric("loushan_store_flushes_total");
        service.kill();
        service = Service::start_with(&data, &mqtt, &http, ENV);
    }
    println!("{}", fleet.stop());
    service.wait_until_quiet();
    flushes += service.metric("loushan_store_flushes_total");
    // Of one size there are never four; sizes are few.
    wait_for("the files to be merged", || {
        let files = service.metric("loushan_store_files");
        (files > 0.0 && files < 7.0 * 3.0 * 5.0).then_some(())
    });
    let files = service.metric("loushan_store_files");
    println!("{files} files after {flushes} flushes");
    assert!(flushes > 20.0);
    assert_eq!(service.metric("loushan_store_files_left_alone"), 0.0);

    let (agrees, report) = run(loushan()
        .args(["audit", "--ledger"])
        .arg(&ledger)
        .args(["--target", &format!("http://{http}")]));
    assert!(agrees, "{report}");

    // What is kept, and what would go: nothing, as nothing is that old.
    let (shown, output) = run(loushan().args(["retention", "--url", &format!("http://{http}")]));
    assert!(shown, "{output}");
    assert!(output.contains("water") && output.contains("Nothing would go now."), "{output}");

    // A snapshot is a store that others read, whatever becomes of this one.
    let take = |name: &str| {
        run(loushan()
            .args(["snapshot", name, "--url", &format!("http://{http}"), "--token-file"])
            .arg(data.join("admin.token")))
    };
    let (taken, output) = take("before");
    assert!(taken, "{output}");
    let (again, output) = take("before");
    assert!(!again && output.contains("there already"), "{output}");
    let rows = service.rows();
    assert!(service.terminate().success());
    let (read, output) = run(Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/parquet_counts.py"))
        .arg(data.join("snapshots/before")));
    assert!(read, "{output}");
    let seen: serde_json::Value = serde_json::from_str(output.trim()).unwrap();
    let kinds = ["parking", "street_light", "smoke", "elevator", "water", "station_status"];
    let in_snapshot: u64 = kinds.iter().map(|kind| seen[kind]["rows"].as_u64().unwrap()).sum();
    // Rows in memory are in no file yet.
    assert!(in_snapshot > 0 && in_snapshot <= rows, "{in_snapshot} of {rows}");
}
