//! The audit has to catch a store that lost a reading, doubled one, or altered one. So a real store
//! is filled by a real fleet, passes, and is then rewritten on purpose, checksums and all.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use loushan_ingest::io::real::RealIo;
use loushan_ingest::sink::embedded::{EmbeddedConfig, Store, encode_readings};
use loushan_schemas::kind::Kind;
use loushan_schemas::reading::Body;
use loushan_schemas::row::Row;
use serde_json::{Value, json};
use support::{Service, loushan, run};

fn audit(dir: &Path) -> (bool, String) {
    run(loushan()
        .current_dir(dir)
        .args(["audit", "--ledger", "ledger", "--ledger", "second", "--memory", "1"])
        .args(["--data", "."]))
}

/// CRC-32 as the manifest has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// Rewrites the store's readings of a kind, which lie in one file, and its manifest.
fn rewrite(store: &Path, kind: Kind, change: impl Fn(&mut Vec<Row>)) {
    let path = store.join("MANIFEST");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<Value> =
        manifest.lines().map(|line| serde_json::from_str(&line[9..]).unwrap()).collect();
    let added = lines.iter_mut().flat_map(|line| line["add"].as_array_mut()).flatten();
    let mut files: Vec<&mut Value> = added.filter(|file| file["table"] == kind.as_str()).collect();
    // A run across midnight has two; the last will do.
    let file = files.last_mut().unwrap();
    let (day, number) = (file["date"].as_str().unwrap(), file["file"].as_u64().unwrap());
    let parquet = store.join(format!("kind={kind}/date={day}/{number:010}.parquet"));
    let opened = Store::open_read_only(Arc::new(RealIo), store, &EmbeddedConfig::default());
    let (opened, mut rows) = (opened.unwrap().unwrap(), Vec::new());
    let of_file = |row: &Row| {
        let date = row.reading.times.effective.ms().div_euclid(86_400_000);
        let first = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        let date = first + chrono::Days::new(date.unsigned_abs());
        row.reading.kind() == kind && date.to_string() == day
    };
    opened
        .export(0, &mut |row| {
            if of_file(&row) {
                rows.push(row);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(rows.len() as u64, file["rows"].as_u64().unwrap());
    change(&mut rows);
    let bytes = encode_readings(kind, &rows.iter().collect::<Vec<_>>()).unwrap();
    file["rows"] = json!(rows.len());
    file["bytes"] = json!(bytes.len());
    file["blocks"] = bytes.chunks(64 * 1024).map(crc32).collect();
    std::fs::write(parquet, bytes).unwrap();
    let lines: Vec<String> = lines
        .iter()
        .map(|line| {
            let line = line.to_string();
            format!("{:08x} {line}\n", crc32(line.as_bytes()))
        })
        .collect();
    std::fs::write(path, lines.concat()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_real_store_passes_and_one_that_lost_doubled_or_altered_a_reading_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    // Two processes with ledgers of their own, as if they shared a fleet.
    for (seed, ledger) in [("3", "ledger"), ("4", "second")] {
        let (done, output) = run(loushan()
            .current_dir(dir.path())
            .args(["simulate", "--target", &format!("mqtt://{}", service.mqtt)])
            .args(["--stations", "5", "--seed", seed, "--rate", "500", "--for", "3s"])
            .args(["--ledger", ledger]));
        assert!(done, "{output}");
    }
    let (passed, report) = run(loushan().current_dir(dir.path()).args([
        "audit",
        "--ledger",
        "ledger",
        "--ledger",
        "second",
        "--target",
        &format!("http://{}", service.http),
    ]));
    assert!(passed, "over HTTP:\n{report}");
    assert!(service.terminate().success());
    let (passed, whole) = audit(dir.path());
    assert!(passed, "{whole}");
    assert!(whole.contains("kind parking: ") && whole.contains("station bs0001: "), "{whole}");

    let store = dir.path().join("store");
    let kept = dir.path().join("kept");
    copy(&store, &kept);
    type Change = fn(&mut Vec<Row>);
    let changes: [(&str, Change); 3] = [
        ("missing", |rows| drop(rows.remove(1))),
        ("duplicate", |rows| rows.insert(2, rows[1].clone())),
        ("altered", |rows| {
            let Body::Parking(parking) = &mut rows[1].reading.body else { panic!() };
            parking.temp_c = Some(parking.temp_c.unwrap_or(0.0) + 0.1);
        }),
    ];
    for (class, change) in changes {
        rewrite(&store, Kind::Parking, change);
        let (passed, report) = audit(dir.path());
        assert!(!passed, "{class} was not caught:\n{report}");
        let count = |name: &str| {
            let line = report.lines().find(|line| line.starts_with(&format!("{name:<28}")));
            line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        for other in ["missing", "duplicate", "altered"] {
            assert_eq!(count(other), u64::from(other == class), "{class}:\n{report}");
        }
        let told = report.lines().find(|line| line.starts_with(&format!("- {class}: ")));
        let told = told.unwrap_or_else(|| panic!("{report}"));
        for part in ["parking of imei ", " session ", " sent 20", " acknowledged 20"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        std::fs::remove_dir_all(&store).unwrap();
        copy(&kept, &store);
    }
    let (passed, report) = audit(dir.path());
    assert!(passed, "{report}");
}
