//! The audit of many readings: how fast, in how much memory and on how much disk.
//!
//! `cargo bench --bench audit -- [--readings 1000000] [--memory-mib 256] [--dir DIR]`; ledger and temporary
//! files are made below DIR, which needs some 125 bytes a reading.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss, clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Instant;

use loushan_simulator::testing::many::{BATCH, Made, write};
use loushan_simulator::{AuditOptions, audit_store};

fn main() {
    let (mut readings, mut memory_mib, mut dir) = (1_000_000_u64, 256_usize, std::env::temp_dir());
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    for pair in words.chunks(2) {
        let [key, value] = pair else { panic!("{pair:?} has no value") };
        match key.as_str() {
            "--readings" => readings = value.parse().unwrap(),
            "--memory-mib" => memory_mib = value.parse().unwrap(),
            "--dir" => dir = PathBuf::from(value),
            other => panic!("{other} is not --readings, --memory-mib or --dir"),
        }
    }
    readings -= readings % BATCH;
    let folder = tempfile::tempdir_in(&dir).unwrap();
    let path = folder.path().join("ledger");
    let begun = Instant::now();
    write(&path, readings).unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!(
        "{readings} readings written in {:.1?}, {:.1} bytes each",
        begun.elapsed(),
        bytes as f64 / readings as f64
    );
    let begun = Instant::now();
    let options = AuditOptions {
        memory_bytes: memory_mib * 1024 * 1024,
        temporary: Some(folder.path().to_owned()),
        ..AuditOptions::new(&path)
    };
    let report = audit_store(&options, &mut Made { readings, ..Made::default() }).unwrap();
    let took = begun.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let per_s = readings as f64 / took.as_secs_f64();
    println!("audited in {took:.1?}, {per_s:.0} readings/s, at most {} resident", peak.trim());
    assert!(report.passed() && report.stored == readings, "{report}");
}
