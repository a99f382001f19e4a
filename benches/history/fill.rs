//! Days of a city into a store, through its own sink.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use loushan_ingest::clock::Clock;
use loushan_ingest::io::real::RealIo;
use loushan_ingest::pipeline::frame::DurableFrame;
use loushan_ingest::sink::embedded::{
    CompactionConfig, EmbeddedConfig, EmbeddedSink, Store, TableStats, Upkeep,
};
use loushan_ingest::sink::{Fed, Feed, FeedError, FrameSource, SinkStatus};
use loushan_ingest::wal::LogId;
use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use loushan_schemas::time::ReceiveTime;
use loushan_simulator::fault::FaultRates;
use loushan_simulator::fleet::{NOMINAL_DEVICES_PER_STATION, STATIONS};
use loushan_simulator::said::{FleetSays, Said, SaidOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::questions::DAY_MS;

const SEED: u64 = 1;
/// 2026-11-02, a Monday, 00:00 UTC.
pub(crate) const START_MS: i64 = 1_793_577_600_000;
/// Threads that simulate; each has its share of the stations.
const THREADS: u32 = 2;
/// What the threads simulate at once: some 30,000 readings of the whole city.
const WINDOW_MS: i64 = 10 * 60 * 1000;
/// Batches on their way to the sink.
const CHUNK: usize = 4096;
/// Devices of a kind to ask for.
const DEVICES: usize = 10;
const NOTE: &str = "filled.json";

/// What was filled; kept beside the store for the next run.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Filled {
    #[serde(skip)]
    pub(crate) store: PathBuf,
    pub(crate) readings: u64,
    /// Simulated time of the last of them.
    pub(crate) end_ms: i64,
    /// How long it took, flushes and all.
    pub(crate) seconds: f64,
    /// How long it then took to merge the files of every day, on one thread.
    pub(crate) compact_seconds: f64,
    /// Files and bytes before that.
    pub(crate) files: (u64, u64),
    /// Some devices of the kinds that speak every hour.
    pub(crate) devices: Vec<(u64, String)>,
}

pub(crate) fn log_id() -> LogId {
    LogId::from_bytes(*b"history of a cit")
}

pub(crate) fn open(dir: &Path) -> (Store, EmbeddedSink) {
    let compaction =
        CompactionConfig { quiet: Duration::ZERO, share_percent: 100, ..Default::default() };
    let config = EmbeddedConfig { compaction, ..Default::default() };
    Store::open(Arc::new(RealIo), dir, config, log_id()).unwrap()
}

/// Fills `dir`, or finds it filled with so many readings.
pub(crate) fn fill(dir: &Path, readings: u64) -> Filled {
    let store = dir.join("store");
    let note = dir.join(NOTE);
    if let Ok(text) = std::fs::read_to_string(&note) {
        let found: Filled = serde_json::from_str(&text).unwrap();
        let there = found.readings;
        assert!(there >= readings, "{} has {there} readings only; empty it", dir.display());
        return Filled { store, ..found };
    }
    std::fs::create_dir_all(dir).unwrap();
    let since = Instant::now();
    let filled = run(&store, readings);
    let seconds = since.elapsed().as_secs_f64();
    let since = Instant::now();
    let files = compact(&store, filled.end_ms);
    let compact_seconds = since.elapsed().as_secs_f64();
    let filled = Filled { store, seconds, compact_seconds, files, ..filled };
    std::fs::write(note, serde_json::to_string(&filled).unwrap()).unwrap();
    filled
}

fn run(store: &Path, readings: u64) -> Filled {
    let (_, sink) = open(store);
    let (to_sink, from_fleet) = mpsc::channel(4);
    let simulate = std::thread::spawn(move || simulate(readings, &to_sink));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let status = SinkStatus::new("embedded");
    let feed = Feed::new(Box::new(FromFleet(from_fleet)), 0, Arc::clone(&status));
    runtime.block_on(sink.run(feed)).unwrap();
    let filled = simulate.join().unwrap();
    assert_eq!((status.figures().stored, status.figures().residue()), (filled.readings, 0));
    filled
}

/// Merges the files of every day, as the service does once a day is over; files and bytes before.
fn compact(dir: &Path, end_ms: i64) -> (u64, u64) {
    let (store, sink) = open(dir);
    let sum = |pick: fn(&TableStats) -> u64| store.stats().tables.values().map(pick).sum::<u64>();
    let before = (sum(|table| table.files), sum(|table| table.bytes));
    let long_after = (end_ms + 7 * DAY_MS) * 1_000_000;
    let upkeep = Upkeep { clock: Clock::manual(long_after), free_floor_bytes: 0 };
    let (close, feed) = mpsc::channel(1);
    let feed = Feed::new(Box::new(FromFleet(feed)), sink.cursor(), SinkStatus::new("embedded"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let task = runtime.spawn(sink.with_upkeep(upkeep).run(feed));
    // No day of this city makes more than one file of the size aimed at.
    while sum(|table| table.files) > partitions(dir) {
        assert!(!task.is_finished(), "the sink ended");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(close);
    runtime.block_on(task).unwrap().unwrap();
    before
}

fn partitions(dir: &Path) -> u64 {
    let folders = |dir: &Path| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let tables = folders(dir).filter(|path| path.is_dir());
    tables.flat_map(|table| folders(&table).collect::<Vec<_>>()).count() as u64
}

/// Makes frames until there are enough readings.
fn simulate(readings: u64, to: &mpsc::Sender<Vec<Arc<DurableFrame>>>) -> Filled {
    let parts: Vec<_> = (0..THREADS).map(windows).collect();
    let (mut made, mut lsn, mut end_ms) = (0, 0, 0);
    let mut devices: BTreeMap<Kind, BTreeSet<u64>> = BTreeMap::new();
    while made < readings {
        let mut said: Vec<Said> = parts.iter().flat_map(|part| part.recv().unwrap()).collect();
        // The order in which the network brings them, not that in which stations cut them.
        said.sort_by_cached_key(|said| (received_ns(said), said.station.clone(), said.seq));
        let mut frames = Vec::with_capacity(CHUNK);
        for said in said {
            lsn += 1;
            made += said.readings.len() as u64;
            end_ms = said.at_ms;
            for reading in &said.readings {
                let of_kind = devices.entry(reading.kind()).or_default();
                if of_kind.len() < DEVICES {
                    of_kind.extend(reading.imei.map(Imei::get));
                }
            }
            frames.push(Arc::new(frame(said, lsn)));
            if frames.len() == CHUNK {
                to.blocking_send(std::mem::take(&mut frames)).unwrap();
            }
            if made >= readings {
                break;
            }
        }
        to.blocking_send(frames).unwrap();
    }
    let devices = [Kind::Elevator, Kind::StreetLight, Kind::Parking]
        .into_iter()
        .flat_map(|kind| devices[&kind].iter().map(move |imei| (*imei, kind.to_string())))
        .collect();
    Filled { readings: made, end_ms, devices, ..Filled::default() }
}

/// The first day of the city, frame by frame; nothing is stored.
pub(crate) fn a_day(each: &mut dyn FnMut(DurableFrame)) {
    let parts: Vec<_> = (0..THREADS).map(windows).collect();
    for _ in 0..DAY_MS / WINDOW_MS {
        for said in parts.iter().flat_map(|part| part.recv().unwrap()) {
            let topic = format!("nb1/{}/{}/u/t", said.region, said.station);
            each(DurableFrame { topic: topic.into(), ..frame(said, 0) });
        }
    }
}

/// A share of the fleet, on a thread of its own, window by window.
fn windows(part: u32) -> Receiver<Vec<Said>> {
    let bound = |part: u32| 1 + STATIONS * part / THREADS;
    let mut says = FleetSays::new(&SaidOptions {
        seed: SEED,
        start_ms: START_MS,
        stations: bound(part)..bound(part + 1),
        devices_per_station: NOMINAL_DEVICES_PER_STATION,
        batch_readings: 50,
        linger_ms: 2000,
        faults: FaultRates::default(),
    })
    .unwrap();
    let (to, from) = sync_channel(2);
    std::thread::spawn(move || {
        let mut held = None;
        for window in 1.. {
            let end = START_MS + window * WINDOW_MS;
            let mut said: Vec<Said> = held.take().into_iter().collect();
            for next in says.by_ref() {
                if next.at_ms >= end {
                    held = Some(next);
                    break;
                }
                said.push(next);
            }
            if to.send(said).is_err() {
                return;
            }
        }
    });
    from
}

/// 20 to 80 ms on its way, to the microsecond; the same for the same batch.
fn received_ns(said: &Said) -> i64 {
    let mut mixed = said.at_ms.unsigned_abs() ^ (said.seq << 20) ^ u64::from(said.session);
    mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 32;
    said.at_ms * 1_000_000 + 20_000_000 + (mixed % 60_000) as i64 * 1000
}

fn frame(said: Said, lsn: u64) -> DurableFrame {
    let received = ReceiveTime::from_ns(received_ns(&said));
    let rows = said.readings.into_iter().map(|mut reading| {
        reading.times.received = received;
        Row {
            lsn,
            region: said.region.clone(),
            station: said.station.clone(),
            session: said.session,
            batch_seq: said.seq,
            replay: false,
            reading,
        }
    });
    // The store looks at the rows only.
    let (topic, payload) = (Arc::from(""), Bytes::new());
    DurableFrame {
        lsn,
        received,
        topic,
        payload,
        rows: rows.collect(),
        rejects: Vec::new(),
        duplicates: 0,
    }
}

/// The simulated log.
struct FromFleet(mpsc::Receiver<Vec<Arc<DurableFrame>>>);

impl FrameSource for FromFleet {
    fn next(
        &mut self,
        after: u64,
        _max_bytes: usize,
        wait: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Fed, FeedError>> + Send + '_>> {
        Box::pin(async move {
            Ok(match tokio::time::timeout(wait, self.0.recv()).await {
                Err(_) => Fed::Frames { frames: Vec::new(), up_to: after },
                Ok(None) => Fed::Closed,
                Ok(Some(frames)) => {
                    let up_to = frames.last().map_or(after, |frame| frame.lsn);
                    Fed::Frames { frames, up_to }
                }
            })
        })
    }
}
