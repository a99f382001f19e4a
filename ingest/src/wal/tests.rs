#![allow(clippy::unwrap_used)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::io::Io;
use crate::io::real::RealIo;
use crate::io::sim::{Failure, Fault, Op, SimIo};

mod codec;
mod failing;
mod model;
mod recovering;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers what the log said, and lets a test wait for it.
#[derive(Default)]
pub(super) struct Told {
    state: Mutex<ToldState>,
    changed: Condvar,
}

#[derive(Default, Clone)]
pub(super) struct ToldState {
    pub(super) durable: Lsn,
    pub(super) failed: Vec<(Lsn, Lsn)>,
    pub(super) writable: u64,
}

impl Told {
    fn change(&self, change: impl FnOnce(&mut ToldState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    pub(super) fn now(&self) -> ToldState {
        self.state.lock().clone()
    }

    pub(super) fn wait(&self, what: &str, until: impl Fn(&ToldState) -> bool) -> ToldState {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        while !until(&state) {
            assert!(!self.changed.wait_until(&mut state, deadline).timed_out(), "no {what}");
        }
        state.clone()
    }
}

impl LogEvents for Told {
    fn durable(&self, up_to: Lsn) {
        self.change(|told| {
            assert!(told.durable < up_to, "durable went from {} to {up_to}", told.durable);
            told.durable = up_to;
        });
    }

    fn failed(&self, above: Lsn, up_to: Lsn, _: &io::Error) {
        self.change(|told| {
            assert!(told.durable <= above, "a durable frame failed");
            told.failed.push((above, up_to));
        });
    }

    fn writable(&self) {
        self.change(|told| told.writable += 1);
    }
}

pub(super) fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 8 << 10,
        buffer_bytes: 4 << 10,
        max_frame_bytes: 2 << 10,
        sync: SyncPolicy::Always,
        free_floor_bytes: 0,
        max_bytes: None,
        floor_check: Duration::from_millis(5),
        retry_pause: Duration::from_millis(1),
    }
}

struct Opened {
    log: Log,
    recovery: Recovery,
    told: Arc<Told>,
}

fn open_with(io: &(impl Io + Clone), dir: &Path, options: LogOptions, floor: Lsn) -> Opened {
    let told = Arc::new(Told::default());
    let events = Arc::clone(&told) as Arc<dyn LogEvents>;
    let (log, recovery) = Log::open(Arc::new(io.clone()), dir, options, floor, events).unwrap();
    Opened { log, recovery, told }
}

fn open(io: &(impl Io + Clone), dir: &Path) -> Opened {
    open_with(io, dir, small(), Lsn::ZERO)
}

fn body(n: u64) -> Vec<u8> {
    format!("frame {n} ").repeat(usize::try_from(n % 40).unwrap()).into_bytes()
}

impl Opened {
    /// Appends one frame, waiting where there is no room.
    fn append(&self, body: &[u8]) -> Lsn {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.told.now().writable;
            match self.log.append(body) {
                Err(AppendError::Full | AppendError::Failed | AppendError::DiskFull) => {
                    assert!(Instant::now() < deadline);
                    self.told.wait("room", |told| told.writable > before);
                }
                other => return other.unwrap(),
            }
        }
    }

    fn append_durably(&self, body: &[u8]) -> Lsn {
        let lsn = self.append(body);
        self.told.wait("durability", |told| told.durable >= lsn);
        lsn
    }

    fn read(&self, after: Lsn) -> Vec<(u64, Vec<u8>)> {
        let mut reader = self.log.reader(after);
        std::iter::from_fn(|| reader.next().unwrap()).map(|f| (f.lsn.0, f.body.to_vec())).collect()
    }
}

fn expected(lsns: impl IntoIterator<Item = u64>) -> Vec<(u64, Vec<u8>)> {
    lsns.into_iter().map(|lsn| (lsn, body(lsn))).collect()
}

fn sim() -> (SimIo, PathBuf) {
    (SimIo::new(), PathBuf::from("/data/wal"))
}

#[test]
fn frames_are_read_back_in_order_over_many_segments_and_after_a_restart_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("wal");
    let opened = open(&RealIo, &dir);
    for n in 1..=500 {
        assert_eq!(opened.append(&body(n)), Lsn(n));
    }
    opened.told.wait("durability", |told| told.durable == Lsn(500));
    assert!(opened.log.stats().segments > 3);
    assert_eq!(opened.read(Lsn::ZERO), expected(1..=500));
    assert_eq!(opened.read(Lsn(480)), expected(481..=500));
    opened.log.close().unwrap();
    assert_eq!(opened.log.append(b"x"), Err(AppendError::Closed));

    let again = open(&RealIo, &dir);
    assert_eq!(again.recovery.frames, 500);
    assert_eq!(again.recovery.last, Some(Lsn(500)));
    assert_eq!(again.recovery.corrupt_frames + again.recovery.torn_bytes, 0);
    assert_eq!(again.append_durably(&body(501)), Lsn(501));
    assert_eq!(again.read(Lsn::ZERO), expected(1..=501));
}

#[test]
fn the_next_lsn_lies_above_the_floor_and_the_gap_is_no_corruption() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    opened.append_durably(b"one");
    opened.log.close().unwrap();
    let opened = open_with(&io, &dir, small(), Lsn(1000));
    assert_eq!(opened.append_durably(b"two"), Lsn(1001));
    opened.log.close().unwrap();
    let opened = open(&io, &dir);
    assert_eq!(opened.recovery.corrupt_frames, 0);
    assert_eq!(opened.read(Lsn::ZERO), [(1, b"one".to_vec()), (1001, b"two".to_vec())]);
}

#[test]
fn a_reader_follows_the_writer_while_segments_are_deleted() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    let log = opened.log.clone();
    let reading = std::thread::spawn(move || {
        let mut reader = log.reader(Lsn::ZERO);
        let mut next = 1;
        let deadline = Instant::now() + PATIENCE;
        while next <= 2000 {
            assert!(Instant::now() < deadline);
            if let Some(frame) = reader.next().unwrap() {
                assert_eq!((frame.lsn.0, &frame.body[..]), (next, &body(next)[..]));
                log.delete_below(frame.lsn).unwrap();
                next += 1;
            }
        }
        assert_eq!(reader.skipped(), 0);
    });
    for n in 1..=2000 {
        opened.append(&body(n));
    }
    reading.join().unwrap();
    assert_eq!(opened.log.stats().segments, 1);
    assert_eq!(io.list(&dir).unwrap().len(), 1);
}

#[test]
fn options_that_cannot_hold_one_frame_are_refused() {
    let (io, dir) = sim();
    for (segment_bytes, buffer_bytes) in [(2 << 10, 4 << 10), (8 << 10, 2 << 10)] {
        let options = LogOptions { segment_bytes, buffer_bytes, ..small() };
        let events = Arc::new(Told::default());
        let opened = Log::open(Arc::new(io.clone()), &dir, options, Lsn::ZERO, events);
        assert!(matches!(opened, Err(OpenError::Options(_))));
    }
}

#[test]
fn the_largest_frame_fits_and_a_larger_one_is_refused() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    for _ in 0..20 {
        opened.append(&[1; 2048]);
    }
    let refused = opened.log.append(&[1; 2049]);
    assert_eq!(refused, Err(AppendError::TooLarge { len: 2049, max: 2048 }));
    let last = opened.append_durably(b"");
    assert_eq!(last, Lsn(21), "a refused append takes no lsn");
    assert_eq!(opened.read(Lsn::ZERO).len(), 21);
}

#[test]
fn a_reader_passes_an_empty_segment_whose_predecessors_are_deleted() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    opened.append_durably(b"one");
    for _ in 0..2 {
        let before = opened.log.stats().segments;
        io.inject(Fault::next(Op::Write, Failure::Errno(5)));
        let lsn = opened.append(b"void");
        opened.told.wait("failure", |told| told.failed.iter().any(|(_, up_to)| *up_to >= lsn));
        let deadline = Instant::now() + PATIENCE;
        while opened.log.stats().segments == before {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
    let mut reader = opened.log.reader(Lsn::ZERO);
    let last = opened.append_durably(b"two");
    // The first segment alone: the second is empty, and its `prior` lies above the reader.
    io.inject(Fault { after: 1, ..Fault::next(Op::Remove, Failure::Errno(5)) });
    assert!(opened.log.delete_below(Lsn(1)).is_err());
    assert_eq!(reader.next().unwrap().map(|frame| frame.lsn), Some(last));
    assert_eq!(reader.next().unwrap(), None);
}

#[test]
fn segments_for_the_buffers_have_room_beside_their_headers() {
    let of = |segment_mib: u64, buffer_mib: usize| {
        let (segment_bytes, buffer_bytes) = (segment_mib << 20, buffer_mib << 20);
        LogOptions { segment_bytes, buffer_bytes, ..LogOptions::default() }.segments_for_buffers()
    };
    assert_eq!([of(64, 16), of(33, 16), of(32, 16), of(8, 8)], [1, 1, 2, 3]);
}
