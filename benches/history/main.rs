//! The embedded store's history at the size of a city: bytes a reading, and how long answers take,
//! beside DuckDB on the same files in the same run.
//!
//! ```text
//! LOUSHAN_TEST_PYTHON=target/python/bin/python cargo bench --bench history
//! LOUSHAN_HISTORY_ROWS=100000000 LOUSHAN_HISTORY_DIR=/var/tmp/history … # the target's size
//! ```
//!
//! The nominal pilot (500 stations of 170 devices, each kind in its own rhythm, a station's own
//! figures every minute) speaks in simulated time, by the simulator's models, straight into the
//! store's sink; a million readings are five hours of it, a hundred million three weeks. The sink
//! flushes and compacts as in the service. `LOUSHAN_HISTORY_ROWS` says how many readings,
//! `LOUSHAN_HISTORY_DIR` where; a folder that was filled before is asked again without being filled.
//!
//! Files are read from the page cache, by both sides; beside the time by the clock stands the processor's,
//! of all threads, for a machine that has other things to do. The latest of everything comes out of the
//! registry, which a day of the city has filled; DuckDB looks for it in the files. Without `LOUSHAN_TEST_PYTHON` there is no
//! DuckDB to stand beside, and its columns are empty.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod beside;
mod fill;
mod latest;
mod questions;
mod table;

use std::path::PathBuf;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.replace('_', "").parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => default,
    }
}

fn main() {
    let rows = number("LOUSHAN_HISTORY_ROWS", 1_000_000);
    let kept = std::env::var_os("LOUSHAN_HISTORY_DIR").map(PathBuf::from);
    let scratch = tempfile::tempdir().unwrap();
    let dir = kept.unwrap_or_else(|| scratch.path().to_owned());
    let filled = fill::fill(&dir, rows);
    let answers = questions::ask(&filled);
    let beside = beside::ask(&dir, &filled);
    table::print(&filled, &answers, beside.as_ref());
}
