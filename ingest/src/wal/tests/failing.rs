//! Failed syncs, full buffers, full disks, closing.

use std::collections::BTreeSet;

use super::*;

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

/// Holds the log thread where it reports certain lsns, until it is let go.
#[derive(Default)]
struct Held {
    told: Told,
    at: Mutex<BTreeSet<Lsn>>,
    let_go: Condvar,
}

impl Held {
    fn open(io: &SimIo, dir: &Path) -> (Log, Arc<Self>) {
        let held = Arc::new(Self::default());
        let events = Arc::clone(&held) as Arc<dyn LogEvents>;
        let (log, _) = Log::open(Arc::new(io.clone()), dir, small(), Lsn::ZERO, events).unwrap();
        (log, held)
    }

    fn hold(&self, at: u64) {
        self.at.lock().insert(Lsn(at));
    }

    fn wait(&self, at: u64) {
        self.told.wait("report", |told| told.durable == Lsn(at));
    }

    fn let_go(&self, at: u64) {
        self.at.lock().remove(&Lsn(at));
        self.let_go.notify_all();
    }
}

impl LogEvents for Held {
    fn durable(&self, up_to: Lsn) {
        self.told.durable(up_to);
        let mut at = self.at.lock();
        while at.contains(&up_to) {
            assert!(!self.let_go.wait_for(&mut at, PATIENCE).timed_out());
        }
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
    let (log, held) = Held::open(&io, &dir);
    held.hold(1);
    log.append(b"first").unwrap();
    held.wait(1);
    // The thread is held: what is appended now stays in the buffer of 4096 bytes.
    let taken = (0..100).take_while(|_| log.append(&[0; 984]).is_ok()).count();
    assert_eq!(taken, 4, "1024 bytes each, header included");
    assert_eq!(log.append(&[0; 984]), Err(AppendError::Full));
    assert_eq!(held.told.now().writable, 0);
    held.let_go(1);
    held.told.wait("room", |told| told.writable == 1);
    log.append(&[0; 984]).unwrap();
    held.wait(6);
}

#[test]
fn a_frame_appended_while_the_log_fails_is_within_the_failed_range() {
    let (io, dir) = sim();
    let (log, held) = Held::open(&io, &dir);
    for n in 1..=6 {
        log.append(&[0; 984]).unwrap();
        held.wait(n);
    }
    held.hold(7);
    held.hold(8);
    log.append(b"fits").unwrap();
    held.wait(7);
    // One batch: the eighth still fits the segment, the ninth does not.
    log.append(b"fits").unwrap();
    log.append(&[0; 984]).unwrap();
    held.let_go(7);
    held.wait(8);
    // Between the two: the tenth is in the other buffer when the ninth finds no segment.
    log.append(b"in the buffer").unwrap();
    io.inject(Fault::next(Op::Create, Failure::Errno(5)));
    held.let_go(8);
    let told = held.told.wait("failure", |told| !told.failed.is_empty());
    assert_eq!(told.failed, [(Lsn(8), Lsn(10))]);
    let deadline = Instant::now() + PATIENCE;
    while log.append(b"later") == Err(AppendError::Failed) {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    held.wait(11);
    let mut reader = log.reader(Lsn::ZERO);
    let read = std::iter::from_fn(|| reader.next().unwrap()).map(|frame| frame.lsn.0);
    assert!(read.eq((1..=8).chain([11])));
    assert_eq!(log.stats().frames, 9, "what failed is not even written");
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
