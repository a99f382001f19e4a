#![allow(clippy::unwrap_used)]

//! The pipeline over a file system in memory: what is promised, and what stays promised.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loushan_broker::handler::{AckOutcome, AckReceiver, Origin};
use loushan_schemas::ids::Imei;
use loushan_schemas::pb;
use parking_lot::{Condvar, Mutex};
use prost::Message as _;

use super::dedup::{ReadingKey, StoredKeys};
use super::frame::DurableFrame;
use super::*;
use crate::io::Io;
use crate::io::sim::SimIo;
use crate::registry::{Registry, RegistryLimits};
use crate::wal::LogOptions;

mod faults;
mod model;
mod promises;
mod restart;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const NOW_MS: i64 = 1_700_000_000_000;

/// A store that knows what it was given up to its cursor.
#[derive(Default)]
pub(super) struct Store(Mutex<(HashSet<ReadingKey>, u64, u64)>);

impl Store {
    fn take(&self, frames: &[Arc<DurableFrame>]) {
        let mut store = self.0.lock();
        for frame in frames {
            store.0.extend(frame.rows.iter().map(ReadingKey::of));
            store.1 = frame.lsn;
        }
    }

    fn questions(&self) -> u64 {
        self.0.lock().2
    }
}

impl StoredKeys for Store {
    fn contains(&self, key: &ReadingKey) -> io::Result<bool> {
        let mut store = self.0.lock();
        store.2 += 1;
        Ok(store.0.contains(key))
    }

    fn cursor(&self) -> u64 {
        self.0.lock().1
    }
}

/// Remembers how tickets ended, and lets a test wait for it.
#[derive(Default)]
pub(super) struct Outcomes {
    ended: Mutex<BTreeMap<u64, AckOutcome>>,
    changed: Condvar,
}

impl AckReceiver for Outcomes {
    fn resolve(&self, slot: u64, outcome: AckOutcome) {
        assert_eq!(self.ended.lock().insert(slot, outcome), None, "ticket {slot} ended twice");
        self.changed.notify_all();
    }
}

impl Outcomes {
    fn of(&self, slot: u64) -> Option<AckOutcome> {
        self.ended.lock().get(&slot).copied()
    }

    fn wait(&self, slot: u64) -> AckOutcome {
        self.wait_for(slot, PATIENCE).unwrap_or_else(|| panic!("no end of {slot}"))
    }

    fn wait_for(&self, slot: u64, patience: Duration) -> Option<AckOutcome> {
        let deadline = Instant::now() + patience;
        let mut ended = self.ended.lock();
        while !ended.contains_key(&slot) {
            if self.changed.wait_until(&mut ended, deadline).timed_out() {
                return None;
            }
        }
        ended.get(&slot).copied()
    }
}

/// A pipeline with a store, on one boot of a disk.
pub(super) struct Service {
    pipeline: Arc<Pipeline>,
    keeper: Option<keeper::Keeper>,
    opened: (u64, bool),
    registry: Arc<Registry>,
    store: Arc<Store>,
    outcomes: Arc<Outcomes>,
    clock: Clock,
    next_slot: std::sync::atomic::AtomicU64,
}

pub(super) fn options() -> PipelineOptions {
    PipelineOptions {
        log: LogOptions {
            segment_bytes: 64 << 10,
            buffer_bytes: 48 << 10,
            max_frame_bytes: 32 << 10,
            free_floor_bytes: 0,
            retry_pause: Duration::from_millis(1),
            floor_check: Duration::from_millis(5),
            ..LogOptions::default()
        },
        ..PipelineOptions::default()
    }
}

impl Service {
    fn start(io: &SimIo) -> Self {
        Self::with(Arc::new(io.clone()), Arc::default(), options())
    }

    fn with(io: Arc<dyn Io>, store: Arc<Store>, options: PipelineOptions) -> Self {
        Self { store: Arc::clone(&store), ..Self::over(io, store, options) }
    }

    fn over(io: Arc<dyn Io>, stored: Arc<dyn StoredKeys>, options: PipelineOptions) -> Self {
        let dir = PathBuf::from("/data");
        io.create_dir_all(&dir).unwrap();
        let registry = Arc::new(Registry::new(RegistryLimits::default()));
        let clock = Clock::manual(NOW_MS * 1_000_000);
        let parts = Parts {
            io,
            dir,
            clock: clock.clone(),
            stored,
            floor: 0,
            registry: Arc::clone(&registry),
        };
        let Opened { pipeline, keeper, replayed, distrusts, .. } =
            Pipeline::open(parts, options).unwrap();
        Self {
            pipeline,
            keeper: Some(keeper),
            opened: (replayed, distrusts),
            registry,
            store: Arc::default(),
            outcomes: Arc::default(),
            clock,
            next_slot: 0.into(),
        }
    }

    fn offer(&self, topic: &str, payload: &[u8], qos: QoS) -> Result<u64, Busy> {
        let slot = self.next_slot.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let ticket = AckTicket::new(Arc::clone(&self.outcomes) as _, slot);
        let publish = Publish {
            topic: Arc::from(topic),
            payload: Bytes::copy_from_slice(payload),
            qos,
            retain: false,
            origin: Origin::Client(Arc::from("bs0001")),
        };
        self.pipeline.handle(publish, ticket).map(|()| slot)
    }

    /// Offers until it is taken, as the broker does.
    fn publish(&self, topic: &str, payload: &[u8]) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.offer(topic, payload, QoS::AtLeastOnce) {
                Ok(slot) => return slot,
                Err(busy) => {
                    drop(busy);
                    assert!(Instant::now() < deadline, "busy for ever");
                    self.pipeline.core.gate.wait(Duration::from_millis(50));
                }
            }
        }
    }

    fn batch(&self, batch: &pb::UplinkBatch) -> AckOutcome {
        let slot = self.publish(&uplink(batch, "t"), &batch.encode_to_vec());
        self.outcomes.wait(slot)
    }

    /// Everything durable, as a sink gets it that begins behind `after`.
    async fn frames(&self, after: u64) -> Vec<Arc<DurableFrame>> {
        let mut feed = self.pipeline.feed(after, SinkStatus::new("test"));
        let mut all = Vec::new();
        while feed.position() < self.pipeline.log().durable().0 {
            match feed.next(4096, Duration::from_secs(1)).await.unwrap() {
                crate::sink::Fed::Frames { frames, .. } => all.extend(frames),
                crate::sink::Fed::Closed => break,
            }
        }
        all
    }

    /// An orderly end, with the keeper's snapshot.
    async fn stop(mut self) {
        self.pipeline.close().unwrap();
        self.keeper.take().unwrap().run().await.unwrap();
        assert_eq!(self.pipeline.figures().residue(), 0);
        assert_eq!(self.pipeline.figures().undecided, 0);
    }
}

pub(super) fn uplink(batch: &pb::UplinkBatch, channel: &str) -> String {
    format!("nb1/zunyi/{}/u/{channel}", batch.station)
}

pub(super) fn imei(n: u64) -> u64 {
    Imei::from_body(n).get()
}

pub(super) fn water(device: u64, seq: u32, total_l: u64) -> pb::Reading {
    pb::Reading {
        imei: imei(device),
        seq,
        measured_delta_ms: i64::from(seq) * 1000,
        model_id: 1,
        body: Some(pb::reading::Body::Water(pb::Water {
            total_l: Some(total_l),
            ..pb::Water::default()
        })),
        ..pb::Reading::default()
    }
}

pub(super) fn batch_of(seq: u64, readings: Vec<pb::Reading>) -> pb::UplinkBatch {
    pb::UplinkBatch {
        schema_major: 1,
        station: "bs0001".into(),
        session: 7,
        seq,
        base_time_ms: u64::try_from(NOW_MS).unwrap() - 3_600_000,
        replay: false,
        readings,
    }
}

pub(super) fn durable(rejected: u32, reason: Option<&'static str>, nothing: bool) -> AckOutcome {
    AckOutcome::Durable(loushan_broker::handler::Acknowledgement {
        rejected,
        reason,
        nothing_accepted: nothing,
    })
}

pub(super) fn good() -> AckOutcome {
    durable(0, None, false)
}

/// Frames of a log, each key of their rows seen once.
pub(super) fn keys_once(frames: &[Arc<DurableFrame>]) -> HashSet<ReadingKey> {
    let mut keys = BTreeMap::new();
    for row in frames.iter().flat_map(|frame| &frame.rows) {
        let key = ReadingKey::of(row);
        let before = keys.insert(format!("{key:?}"), (row.lsn, key));
        assert_eq!(before.map(|(lsn, _)| lsn), None, "accepted twice, again with {}", row.lsn);
    }
    keys.into_values().map(|(_, key)| key).collect()
}

/// A disk whose log syncs wait while it is held.
#[derive(Debug, Clone)]
pub(super) struct HeldIo {
    disk: SimIo,
    hold: Arc<(Mutex<Hold>, Condvar)>,
}

#[derive(Debug, Default)]
struct Hold {
    held: bool,
    waiting: bool,
}

#[derive(Debug)]
struct HeldFile(Box<dyn crate::io::IoFile>, Arc<(Mutex<Hold>, Condvar)>);

impl HeldIo {
    fn new(disk: &SimIo) -> Self {
        Self { disk: disk.clone(), hold: Arc::default() }
    }

    fn hold(&self) {
        self.hold.0.lock().held = true;
    }

    /// Waits until a sync waits.
    fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut hold = self.hold.0.lock();
        while !hold.waiting {
            assert!(!self.hold.1.wait_until(&mut hold, deadline).timed_out(), "nobody syncs");
        }
    }

    fn release(&self) {
        self.hold.0.lock().held = false;
        self.hold.1.notify_all();
    }

    fn file(&self, file: Box<dyn crate::io::IoFile>) -> Box<dyn crate::io::IoFile> {
        Box::new(HeldFile(file, Arc::clone(&self.hold)))
    }
}

impl Io for HeldIo {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn crate::io::IoFile>> {
        self.disk.create_new(path).map(|file| self.file(file))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn crate::io::IoFile>> {
        self.disk.open(path).map(|file| self.file(file))
    }
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn crate::io::IoFile>> {
        self.disk.open_read(path).map(|file| self.file(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }
}

impl crate::io::IoFile for HeldFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut hold = self.1.0.lock();
        while hold.held {
            hold.waiting = true;
            self.1.1.notify_all();
            self.1.1.wait(&mut hold);
        }
        hold.waiting = false;
        drop(hold);
        self.0.sync_data()
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
}
