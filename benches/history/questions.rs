//! The questions, to the store through its own API.

use std::time::{Duration, Instant};

use loushan_ingest::sink::embedded::Store;
use loushan_schemas::ids::Imei;

use crate::fill::{self, Filled};

pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// A question that was asked of several devices, or several times.
#[derive(Default)]
pub(crate) struct Timed {
    pub(crate) ms: Vec<f64>,
    /// Rows in all answers.
    pub(crate) rows: u64,
}

pub(crate) struct Answers {
    pub(crate) open: Duration,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// The last hour, of each device.
    pub(crate) hour: Timed,
    /// A whole day, of each device.
    pub(crate) day: Timed,
}

/// The last hour that was filled.
pub(crate) fn last_hour(filled: &Filled) -> (i64, i64) {
    (filled.end_ms - HOUR_MS, filled.end_ms)
}

/// The last day that is whole; of a short run, the first.
pub(crate) fn a_day(filled: &Filled) -> (i64, i64) {
    let whole = (filled.end_ms - fill::START_MS) / DAY_MS;
    let from = fill::START_MS + (whole - 1).max(0) * DAY_MS;
    (from, from + DAY_MS)
}

pub(crate) fn ask(filled: &Filled) -> Answers {
    let since = Instant::now();
    let (store, _sink) = fill::open(&filled.store);
    let open = since.elapsed();
    let tables = store.stats().tables;
    Answers {
        open,
        bytes: tables.values().map(|table| table.bytes).sum(),
        files: tables.values().map(|table| table.files).sum(),
        hour: devices(&store, filled, last_hour(filled)),
        day: devices(&store, filled, a_day(filled)),
    }
}

fn devices(store: &Store, filled: &Filled, (from_ms, to_ms): (i64, i64)) -> Timed {
    let mut timed = Timed::default();
    for (imei, _) in &filled.devices {
        let since = Instant::now();
        let rows = store.history(Imei::new(*imei).unwrap(), from_ms, to_ms, usize::MAX).unwrap();
        timed.ms.push(since.elapsed().as_secs_f64() * 1000.0);
        timed.rows += rows.len() as u64;
    }
    timed
}
