//! The questions, to the store through its own API.

use std::time::{Duration, Instant};

use loushan_ingest::sink::embedded::{Aggregate, Bins, Bounds, By, Function, Store, Which};
use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;

use crate::fill::{self, Filled};
use crate::latest;

pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// The kind and the field whose hourly mean is asked for: the kind that speaks most.
pub(crate) const MEAN: (Kind, &str) = (Kind::Elevator, "load_pct");
/// How often it is asked.
const TIMES: usize = 5;

/// A question that was asked of several devices, or several times.
#[derive(Default)]
pub(crate) struct Timed {
    pub(crate) ms: Vec<f64>,
    /// On the processor: what a machine with nothing else to do would take.
    pub(crate) cpu_ms: Vec<f64>,
    /// Rows in all answers.
    pub(crate) rows: u64,
}

impl Timed {
    pub(crate) fn time<T>(&mut self, question: impl FnOnce() -> T) -> T {
        let (since, cpu) = (Instant::now(), cpu_ms());
        let answer = question();
        self.ms.push(since.elapsed().as_secs_f64() * 1000.0);
        self.cpu_ms.push(cpu_ms() - cpu);
        answer
    }
}

/// Processor time of this thread, on which every question is answered.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

pub(crate) struct Answers {
    pub(crate) open: Duration,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// The last hour, of each device.
    pub(crate) hour: Timed,
    /// A whole day, of each device.
    pub(crate) day: Timed,
    /// The latest of everything.
    pub(crate) latest: Timed,
    /// The hourly mean over that day.
    pub(crate) mean: Timed,
    pub(crate) hours: Vec<Mean>,
}

/// An hour's mean, and of how many values.
pub(crate) type Mean = (f64, f64);

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
    let (mean, hours) = mean(&store, a_day(filled));
    Answers {
        open,
        bytes: tables.values().map(|table| table.bytes).sum(),
        files: tables.values().map(|table| table.files).sum(),
        hour: devices(&store, filled, last_hour(filled)),
        day: devices(&store, filled, a_day(filled)),
        latest: latest::ask(),
        mean,
        hours,
    }
}

fn devices(store: &Store, filled: &Filled, (from_ms, to_ms): (i64, i64)) -> Timed {
    let mut timed = Timed::default();
    for (imei, _) in &filled.devices {
        let imei = Imei::new(*imei).unwrap();
        let rows = timed.time(|| store.history(imei, from_ms, to_ms, usize::MAX).unwrap());
        timed.rows += rows.len() as u64;
    }
    timed
}

fn mean(store: &Store, (from_ms, to_ms): (i64, i64)) -> (Timed, Vec<Mean>) {
    let (kind, field) = MEAN;
    let question = Aggregate {
        which: Which { kind: Some(kind), from_ms, to_ms, ..Which::default() },
        field,
        functions: vec![Function::Mean, Function::Count],
        bins: Some(Bins::new(HOUR_MS, 0)),
        by: By::Nothing,
        per_ms: 1000,
    };
    let (mut timed, mut hours) = (Timed::default(), Vec::new());
    for _ in 0..TIMES {
        let answer = timed.time(|| store.aggregate(&question, &Bounds::default()).unwrap());
        hours = answer
            .cells
            .iter()
            .map(|cell| (cell.values[0].unwrap(), cell.values[1].unwrap()))
            .collect();
    }
    timed.rows = hours.iter().map(|(_, count)| *count as u64).sum();
    (timed, hours)
}
