//! The corpus of the fuzz targets, file by file through what each target runs: see `fuzz/README.md`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use loushan_broker::fuzzing as broker;
use loushan_ingest::fuzzing as ingest;
use loushan_simulator::testing as simulator;

/// Runs a target over its corpus; a panic names the file.
fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        let done = std::panic::catch_unwind(|| run(&data));
        assert!(done.is_ok(), "{} breaks a promise", path.display());
        files += 1;
    }
    assert!(files > 0, "no corpus in {}", corpus.display());
}

#[test]
fn mqtt_v311_bytes_panic_nothing_and_read_the_same_however_they_are_cut() {
    replay("mqtt_v311", broker::mqtt_v311);
}

#[test]
fn mqtt_v5_bytes_panic_nothing_and_read_the_same_however_they_are_cut() {
    replay("mqtt_v5", broker::mqtt_v5);
}

#[test]
fn sessions_acknowledge_in_order_and_leave_nothing_behind() {
    replay("session", broker::session);
}

#[test]
fn topics_and_filters_match_as_the_model_does() {
    replay("topics", broker::topics);
}

#[test]
fn payloads_panic_nothing_and_every_reading_has_an_outcome() {
    replay("uplink_batch", ingest::uplink_batch);
}

#[test]
fn damaged_logs_open_without_inventing_a_frame_and_the_same_the_next_time() {
    replay("wal_recovery", ingest::wal_recovery);
}

#[test]
fn configurations_are_read_or_refused_and_show_no_secret() {
    replay("config", ingest::config);
}

#[test]
fn traces_are_read_up_to_what_is_not_whole_or_refused() {
    replay("trace", simulator::trace);
}
