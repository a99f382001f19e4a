#![allow(clippy::unwrap_used)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::io::Io;
use crate::io::real::RealIo;
use crate::io::sim::{Failure, Fault, Op, PowerLoss, SimIo};

mod codec;
mod model;

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
fn frames_of_a_failed_sync_that_reached_the_disk_are_void_for_ever() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    opened.append_durably(b"good");
    io.inject(Fault::next(Op::Sync, Failure::SyncKeepsPages));
    let failed = opened.log.append(b"void").unwrap();
    let told = opened.told.wait("failure", |told| !told.failed.is_empty());
    assert_eq!(told.failed, [(Lsn(1), failed)]);
    let later = opened.append_durably(b"later");
    assert!(later > failed);
    let whole = [(1, b"good".to_vec()), (later.0, b"later".to_vec())];
    assert_eq!(opened.read(Lsn::ZERO), whole);
    let io = io.kill();
    let opened = open(&io, &dir);
    assert_eq!(opened.read(Lsn::ZERO), whole);
    assert_eq!((opened.recovery.corrupt_frames, opened.recovery.void_frames), (0, 1));
}

fn flip(io: &SimIo, dir: &Path, segment: u64, offset: u64) {
    io.flip_bit(&super::segment::path(dir, segment), offset, 3).unwrap();
}

#[test]
fn a_corrupt_frame_in_the_middle_is_set_aside_and_counted_and_the_others_are_read() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    for _ in 0..5 {
        opened.append_durably(&[0x55; 24]);
    }
    opened.log.close().unwrap();
    drop(opened);
    // Frames of 64 bytes from 1024: the second one's header, the fourth one's body.
    flip(&io, &dir, 1, 1024 + 64 + 9);
    flip(&io, &dir, 1, 1024 + 3 * 64 + 50);
    for _ in 0..2 {
        let opened = open(&io, &dir);
        let lsns: Vec<_> = opened.read(Lsn::ZERO).into_iter().map(|(lsn, _)| lsn).collect();
        assert_eq!(lsns, [1, 3, 5]);
        assert_eq!((opened.recovery.frames, opened.recovery.corrupt_frames), (3, 2));
        let names: Vec<_> = opened.recovery.set_aside.iter().map(|p| p.file_name()).collect();
        let name = |offset| format!("{:020}-{offset:012}.bin", 1);
        assert_eq!(names, [Some(name(1088).as_ref()), Some(name(1216).as_ref())]);
        let kept = crate::io::read_all(&io, &opened.recovery.set_aside[0]).unwrap();
        assert_eq!((kept.len(), &kept[40..], kept[9]), (64, &[0x55; 24][..], 1 << 3));
        let mut reader = opened.log.reader(Lsn(2));
        assert_eq!(reader.next().unwrap().map(|frame| frame.lsn), Some(Lsn(3)));
        assert_eq!(reader.skipped(), 0, "what lies before the start is not asked for");
        while reader.next().unwrap().is_some() {}
        assert_eq!((reader.skipped(), reader.position()), (1, Lsn(5)));
    }
}

#[test]
fn a_bad_frame_that_no_later_one_proves_is_torn_and_ends_the_log() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    for _ in 0..3 {
        opened.append_durably(&[0x55; 24]);
    }
    let io = io.kill();
    // The third names the second durable, and nothing names the third.
    flip(&io, &dir, 1, 1024 + 2 * 64 + 50);
    let opened = open(&io, &dir);
    assert_eq!((opened.recovery.frames, opened.recovery.corrupt_frames), (2, 0));
    assert_eq!((opened.recovery.torn_bytes, opened.recovery.last), (64, Some(Lsn(2))));
    assert!(opened.append_durably(b"more") > Lsn(2));
    assert_eq!(opened.read(Lsn::ZERO).len(), 3);
}

#[test]
fn frames_whose_sync_was_not_proven_are_written_once_more() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    opened.append_durably(b"proven by the header of the next");
    // The pages are clean and the disk has nothing: only a second write can save the frame.
    io.inject(Fault::next(Op::Sync, Failure::SyncLosesPages));
    io.inject(Fault { times: u64::MAX, ..Fault::next(Op::Create, Failure::Errno(5)) });
    opened.log.append(b"in the page cache").unwrap();
    opened.told.wait("failure", |told| !told.failed.is_empty());
    let io = io.kill();
    drop(opened);
    io.clear_faults();
    let opened = open(&io, &dir);
    assert_eq!(opened.recovery.rewritten_frames, 1);
    let read = opened.read(Lsn::ZERO);
    let io = io.power_loss(7, PowerLoss::ForgetAll);
    assert_eq!(open(&io, &dir).read(Lsn::ZERO), read);
    assert_eq!(read[1].1, b"in the page cache");
}

#[test]
fn a_segment_with_both_headers_bad_is_read_by_its_frames() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    for n in 1..=300 {
        opened.append(&body(n));
    }
    opened.log.close().unwrap();
    drop(opened);
    for copy in [20, 512 + 20] {
        flip(&io, &dir, 2, copy);
    }
    let opened = open(&io, &dir);
    assert_eq!(opened.recovery.corrupt_headers, 1);
    assert_eq!((opened.recovery.corrupt_frames, opened.recovery.set_aside.len()), (0, 1));
    assert_eq!(opened.read(Lsn::ZERO), expected(1..=300));
}

#[test]
fn a_segment_with_nothing_readable_is_renamed_and_its_lsns_are_not_given_out_again() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    opened.append_durably(b"good");
    opened.log.close().unwrap();
    drop(opened);
    let junk = io.create_new(&super::segment::path(&dir, 2)).unwrap();
    crate::io::write_all_at(&*junk, &[9; 4000], 0).unwrap();
    let opened = open(&io, &dir);
    assert_eq!(opened.recovery.corrupt_headers, 1);
    assert!(io.exists(&opened.recovery.set_aside[0]).unwrap());
    assert!(opened.append_durably(b"more") > Lsn(4000 / 64));
    assert_eq!(opened.read(Lsn::ZERO).len(), 2);
}

#[test]
fn a_folder_of_another_log_version_or_name_is_refused() {
    let write = |io: &SimIo, dir: &Path, id, log, name| {
        let header = super::codec::SegmentHeader { log, segment: id, base: Lsn(1), prior: Lsn(0) };
        io.create_dir_all(dir).unwrap();
        let file = io.create_new(&super::segment::path(dir, name)).unwrap();
        crate::io::write_all_at(&*file, &header.encode(), 0).unwrap();
    };
    let refused = |io: SimIo, dir: &Path| {
        let events = Arc::new(Told::default());
        Log::open(Arc::new(io), dir, small(), Lsn::ZERO, events).err().unwrap()
    };
    let (io, dir) = sim();
    write(&io, &dir, 1, LogId(1, 1), 1);
    write(&io, &dir, 2, LogId(1, 2), 2);
    assert!(matches!(refused(io, &dir), OpenError::Foreign { .. }));

    let (io, dir) = sim();
    write(&io, &dir, 1, LogId(1, 1), 3);
    assert!(matches!(refused(io, &dir), OpenError::Misnamed { id: 1, .. }));

    let (io, dir) = sim();
    write(&io, &dir, 1, LogId(1, 1), 1);
    for copy in [0, 512] {
        io.flip_bit(&super::segment::path(&dir, 1), copy + 50, 0).unwrap();
    }
    assert!(matches!(refused(io, &dir), OpenError::Unreadable { .. }));
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

/// Events of a log whose thread waits until it is let go.
#[derive(Default)]
struct Held {
    told: Told,
    gate: Mutex<()>,
}

impl LogEvents for Held {
    fn durable(&self, up_to: Lsn) {
        self.told.durable(up_to);
        drop(self.gate.lock());
    }

    fn failed(&self, above: Lsn, up_to: Lsn, error: &io::Error) {
        self.told.failed(above, up_to, error);
    }

    fn writable(&self) {
        self.told.writable();
    }
}

#[test]
fn the_append_buffer_is_bounded_and_says_when_it_has_room_again() {
    let (io, dir) = sim();
    let held = Arc::new(Held::default());
    let events = Arc::clone(&held) as Arc<dyn LogEvents>;
    let (log, _) = Log::open(Arc::new(io), &dir, small(), Lsn::ZERO, events).unwrap();
    let gate = held.gate.lock();
    log.append(b"first").unwrap();
    held.told.wait("first", |told| told.durable == Lsn(1));
    // The thread is held: what is appended now stays in the buffer of 4096 bytes.
    let taken = (0..100).take_while(|_| log.append(&[0; 984]).is_ok()).count();
    assert_eq!(taken, 4, "1024 bytes each, header included");
    assert_eq!(log.append(&[0; 984]), Err(AppendError::Full));
    assert_eq!(held.told.now().writable, 0);
    drop(gate);
    held.told.wait("room", |told| told.writable == 1);
    log.append(&[0; 984]).unwrap();
    held.told.wait("all", |told| told.durable == Lsn(6));
}

#[test]
fn appends_are_refused_below_the_free_disk_floor_and_taken_again_above_it() {
    let (io, dir) = sim();
    io.set_free_bytes(Some(1000));
    let options = LogOptions { free_floor_bytes: 1000, ..small() };
    let opened = open_with(&io, &dir, options, Lsn::ZERO);
    opened.append_durably(b"just enough");
    io.set_free_bytes(Some(999));
    let deadline = Instant::now() + PATIENCE;
    while opened.log.append(b"x") != Err(AppendError::DiskFull) {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(opened.told.now().failed, [], "nothing that was taken is hurt");
    let before = opened.told.now().writable;
    io.set_free_bytes(Some(1000));
    opened.told.wait("room", |told| told.writable > before);
    opened.append_durably(b"again");
}

#[test]
fn a_full_disk_fails_what_has_no_segment_and_the_log_goes_on_when_there_is_room() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    io.set_capacity(Some(io.used_bytes()));
    let mut taken = 0;
    while opened.told.now().failed.is_empty() {
        match opened.log.append(&[1; 1000]) {
            Ok(lsn) => taken = lsn.0,
            Err(AppendError::Full | AppendError::Failed) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    let (above, up_to) = opened.told.now().failed[0];
    assert_eq!((above, up_to), (opened.log.durable(), Lsn(taken)));
    assert_eq!(above, Lsn(6), "a segment of 8 KiB holds six of them");
    assert_eq!(opened.log.append(b"refused"), Err(AppendError::Failed));
    io.set_capacity(None);
    let lsn = opened.append_durably(b"room");
    assert!(lsn > up_to);
    let read = opened.read(Lsn::ZERO);
    assert_eq!((read.len(), read[6].0), (7, lsn.0));
}

#[test]
fn closing_makes_durable_what_was_taken_and_says_so_when_it_cannot() {
    let (io, dir) = sim();
    let interval = SyncPolicy::Interval(Duration::from_secs(3600));
    let options = LogOptions { sync: interval, ..small() };
    let opened = open_with(&io, &dir, options.clone(), Lsn::ZERO);
    opened.append(b"one");
    assert_eq!(opened.log.durable(), Lsn::ZERO);
    assert_eq!(opened.read(Lsn::ZERO), [], "readers see durable frames only");
    opened.log.close().unwrap();
    assert_eq!(opened.told.now().durable, Lsn(1));
    assert_eq!(opened.read(Lsn::ZERO).len(), 1);
    opened.log.close().unwrap();

    let opened = open_with(&io, &dir, options, Lsn::ZERO);
    io.inject(Fault::next(Op::Sync, Failure::SyncLosesPages));
    opened.append(b"two");
    assert_eq!(opened.log.close().unwrap_err().durable, Lsn(1));
    assert_eq!(opened.told.now().failed, [(Lsn(1), Lsn(2))]);
}

#[test]
fn closing_does_not_wait_for_a_disk_that_never_comes_back() {
    let (io, dir) = sim();
    let options = LogOptions { retry_pause: Duration::from_secs(3600), ..small() };
    let opened = open_with(&io, &dir, options, Lsn::ZERO);
    io.inject(Fault::next(Op::Write, Failure::Errno(5)));
    io.inject(Fault { times: u64::MAX, ..Fault::next(Op::Create, Failure::Errno(5)) });
    opened.append(b"x");
    opened.told.wait("failure", |told| !told.failed.is_empty());
    assert_eq!(opened.log.append(b"y"), Err(AppendError::Failed));
    assert!(opened.log.close().is_err());
    assert_eq!(opened.log.append(b"y"), Err(AppendError::Closed));
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
fn restarts_leave_no_empty_segments_behind() {
    let (io, dir) = sim();
    for _ in 0..5 {
        open(&io, &dir).append_durably(b"x");
        for _ in 0..5 {
            drop(open(&io, &dir));
        }
    }
    let opened = open(&io, &dir);
    assert_eq!(opened.read(Lsn::ZERO).len(), 5);
    assert_eq!(opened.log.stats().segments, 6);
    assert_eq!(io.list(&dir).unwrap().len(), 6);
}
