//! The real log on a file system that fails and loses power, beside a model of what was promised.
//!
//! The model knows of each frame whether it was reported durable, failed, or neither when the
//! process died. Durable ones must be read for ever, exactly once, in order and unchanged, or be
//! counted as corrupt where this test rotted them; failed ones never again; of the others each may
//! be there or not, and what is there after a start stays.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::codec::{FRAME_HEADER_U64, Key, SEGMENT_DATA};
use super::super::scan::{Item, Scanner};
use super::super::segment;
use super::*;
use crate::io::sim::PowerLoss;

#[derive(Debug, Clone)]
enum Step {
    /// One frame of so many bytes.
    Append(usize),
    /// Waits until all frames are decided, then reads everything.
    Settle,
    /// Faults to come.
    Faults(Vec<Fault>),
    /// The disk has room for so many bytes more, until the next settling.
    Enospc(u64),
    /// Ends the process in this way; the faults hit the first try to start again, and the power may
    /// go once more after it.
    Restart(End, Vec<Fault>, Option<(u64, PowerLoss)>),
    /// Rots bits of proven frames, chosen by frame and bit.
    Rot(Vec<(Index, Index)>),
    /// Lets go of so large a part of the durable frames.
    Delete(Index),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Kill,
    Power(u64, PowerLoss),
}

struct Model {
    io: SimIo,
    dir: PathBuf,
    options: LogOptions,
    opened: Option<Opened>,
    follower: Option<Reader>,
    /// Appended in this life, not yet reported.
    undecided: BTreeMap<u64, Vec<u8>>,
    durable: BTreeMap<u64, Vec<u8>>,
    failed: BTreeMap<u64, Vec<u8>>,
    /// Durable once, then damaged by this test.
    rotten: BTreeSet<u64>,
    /// The highest lsn given out in this life.
    highest: u64,
    /// Numbers the bodies, so that no two are equal.
    serial: u64,
    /// Starts and failures of earlier lives: each may have made a segment beyond the limit.
    beyond: u64,
}

impl Model {
    fn new(sync: SyncPolicy, max_bytes: Option<u64>) -> Self {
        let (io, dir) = sim();
        let options = LogOptions { sync, max_bytes, ..small() };
        let mut model = Self {
            io,
            dir,
            options,
            opened: None,
            follower: None,
            undecided: BTreeMap::new(),
            durable: BTreeMap::new(),
            failed: BTreeMap::new(),
            rotten: BTreeSet::new(),
            highest: 0,
            serial: 0,
            beyond: 0,
        };
        model.start(&[], None);
        model
    }

    fn opened(&self) -> &Opened {
        self.opened.as_ref().unwrap()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(len) => self.append(len),
            Step::Settle => self.settle(),
            Step::Faults(faults) => faults.into_iter().for_each(|fault| self.io.inject(fault)),
            Step::Enospc(more) => self.io.set_capacity(Some(self.io.used_bytes() + more)),
            Step::Restart(end, faults, power) => {
                self.end(end);
                self.start(&faults, power);
            }
            Step::Rot(bits) => self.rot(&bits),
            Step::Delete(part) => self.delete(part),
        }
    }

    fn append(&mut self, len: usize) {
        self.serial += 1;
        let mut body = self.serial.to_le_bytes().to_vec();
        // Not zero: a rotten frame of zeros would be no different from room that was never used.
        body.resize(8 + len, 0xa5);
        match self.opened().log.append(&body) {
            Ok(lsn) => {
                assert!(lsn.0 > self.highest, "lsn {lsn} was given out before");
                self.highest = lsn.0;
                self.failed.remove(&lsn.0);
                self.undecided.insert(lsn.0, body);
            }
            Err(AppendError::Full | AppendError::Failed) => {}
            Err(AppendError::LimitReached) => assert!(self.options.max_bytes.is_some()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sorts the undecided by what the log has said.
    fn decide(&mut self, told: &ToldState) {
        for (lsn, body) in std::mem::take(&mut self.undecided) {
            if told.failed.iter().any(|(above, up_to)| above.0 < lsn && lsn <= up_to.0) {
                self.failed.insert(lsn, body);
            } else if lsn <= told.durable.0 {
                self.durable.insert(lsn, body);
            } else {
                self.undecided.insert(lsn, body);
            }
        }
    }

    fn settle(&mut self) {
        let last = self.undecided.keys().last().copied().unwrap_or_default();
        let told = self.opened().told.wait("decision", |told| {
            last <= told.durable.0 || told.failed.iter().any(|(_, up_to)| last <= up_to.0)
        });
        self.decide(&told);
        assert!(self.undecided.is_empty());
        let stats = self.opened().log.stats();
        let beyond = (self.beyond + stats.failures) * self.options.segment_bytes;
        let most = self.options.max_bytes.map(|max| max + beyond);
        assert!(most.is_none_or(|most| stats.disk_bytes <= most), "{most:?}: {stats:?}");
        self.io.set_capacity(None);
        let read = self.opened().read(Lsn::ZERO);
        let sound = self.sound();
        assert!(read.iter().map(|(lsn, _)| lsn).eq(sound.keys()), "{:?}", self.lsns(&read));
        assert!(read.into_iter().eq(sound), "a body changed");

        // The follower saw each of them when it became durable.
        let last_new = self.durable.keys().last().copied();
        let follower = self.follower.as_mut().unwrap();
        let from = follower.position().0 + 1;
        let new = std::iter::from_fn(|| follower.next().unwrap()).map(|frame| frame.lsn.0);
        assert!(new.eq(self.durable.range(from..).map(|(lsn, _)| *lsn)), "the follower missed one");
        assert!(last_new.is_none_or(|last| follower.position().0 >= last || from > last));
    }

    fn lsns(&self, read: &[(u64, Vec<u8>)]) -> String {
        let read: Vec<_> = read.iter().map(|(lsn, _)| lsn).collect();
        let durable: Vec<_> = self.durable.keys().collect();
        format!("read {read:?}, durable {durable:?}, rotten {:?}", self.rotten)
    }

    /// What must be read.
    fn sound(&self) -> BTreeMap<u64, Vec<u8>> {
        let mut sound = self.durable.clone();
        sound.retain(|lsn, _| !self.rotten.contains(lsn));
        sound
    }

    fn end(&mut self, end: End) {
        let opened = self.opened.take().unwrap();
        self.beyond += opened.log.stats().failures;
        self.follower = None;
        self.io.set_capacity(None);
        // A failure is for ever once the log has taken a later frame; until then it is as if the
        // process had died before the answer.
        let before = opened.told.now();
        self.io = match end {
            End::Close => {
                self.io.clear_faults();
                opened.log.close().ok();
                self.io.kill()
            }
            End::Kill => self.io.kill(),
            End::Power(seed, mode) => self.io.power_loss(seed, mode),
        };
        let Opened { log, told, .. } = opened;
        drop(log);
        let mut told = told.now();
        // What the dead boot answered after its end says nothing, but what was durable is.
        told.failed = before.failed;
        self.decide(&told);
        let uncertain = told
            .failed
            .iter()
            .filter(|(_, up_to)| self.highest <= up_to.0)
            .map(|(above, _)| above.0);
        if let Some(above) = uncertain.min() {
            // Those that failed in the last failure, but for those that failed before it.
            let certain = told.failed.iter().map(|(_, up_to)| up_to.0);
            let certain = certain.filter(|up_to| *up_to < self.highest).max().unwrap_or(0);
            let from = above.max(certain) + 1;
            let again: Vec<_> = self.failed.range(from..).map(|(lsn, _)| *lsn).collect();
            for lsn in again {
                self.undecided.insert(lsn, self.failed.remove(&lsn).unwrap());
            }
        }
    }

    fn start(&mut self, faults: &[Fault], power: Option<(u64, PowerLoss)>) {
        self.io.clear_faults();
        self.beyond += 2;
        for fault in faults {
            self.io.inject(fault.clone());
        }
        let told = Arc::new(Told::default());
        let events = || Arc::clone(&told) as Arc<dyn LogEvents>;
        let open = |io: &SimIo, events| {
            Log::open(Arc::new(io.clone()), &self.dir, self.options.clone(), Lsn::ZERO, events)
        };
        let mut started = open(&self.io, events());
        if started.is_err() {
            assert!(!faults.is_empty(), "{:?}", started.err());
            self.io.clear_faults();
            started = open(&self.io, events());
        }
        if let Some((seed, mode)) = power {
            // What the first start called durable must be there after the second.
            let first = started.unwrap();
            let read: Vec<_> = {
                let mut reader = first.0.reader(Lsn::ZERO);
                std::iter::from_fn(|| reader.next().unwrap()).map(|frame| frame.lsn.0).collect()
            };
            self.io = self.io.power_loss(seed, mode);
            drop(first);
            started = open(&self.io, events());
            for lsn in read {
                if let Some(body) = self.undecided.remove(&lsn) {
                    self.durable.insert(lsn, body);
                }
            }
        }
        let (log, recovery) = started.unwrap();
        self.io.clear_faults();
        let opened = Opened { log, recovery, told };

        let read = opened.read(Lsn::ZERO);
        for (lsn, body) in &read {
            if let Some(maybe) = self.undecided.remove(lsn) {
                self.durable.insert(*lsn, maybe);
            }
            assert!(!self.failed.contains_key(lsn), "lsn {lsn} failed and is back");
            assert_eq!(self.durable.get(lsn), Some(body), "lsn {lsn}");
        }
        self.failed.append(&mut self.undecided);
        let sound = self.sound();
        assert!(read.iter().map(|(lsn, _)| lsn).eq(sound.keys()), "{}", self.lsns(&read));
        assert_eq!(opened.recovery.frames, sound.len() as u64, "{:?}", opened.recovery);
        let rotten = self.rotten.len() as u64;
        assert_eq!(opened.recovery.corrupt_frames, rotten, "{:?}", opened.recovery);
        assert_eq!(opened.recovery.set_aside.is_empty(), rotten == 0);
        for aside in &opened.recovery.set_aside {
            assert!(self.io.exists(aside).unwrap());
        }
        self.highest = self.durable.keys().last().copied().unwrap_or_default();
        assert!(opened.log.next_lsn().0 > self.highest);
        assert!(opened.log.durable().0 >= self.highest);
        self.follower = Some(opened.log.reader(Lsn(self.highest)));
        self.opened = Some(opened);
    }

    fn rot(&mut self, bits: &[(Index, Index)]) {
        // A start proves everything that is there: the new segment's header names it.
        self.settle();
        self.end(End::Close);
        self.start(&[], None);
        let sound: Vec<_> = self.sound().into_keys().collect();
        let mut places = self.places();
        for (frame, bit) in bits {
            let Some(lsn) = (!sound.is_empty()).then(|| sound[frame.index(sound.len())]) else {
                break;
            };
            // Twice the same bit would heal it.
            if let Some((path, from, len)) = places.remove(&lsn) {
                let bit = bit.index(usize::try_from(len).unwrap() * 8) as u64;
                self.io.flip_bit(&path, from + bit / 8, u8::try_from(bit % 8).unwrap()).unwrap();
                self.rotten.insert(lsn);
            }
        }
        let mut reader = self.opened().log.reader(Lsn::ZERO);
        while reader.next().unwrap().is_some() {}
        assert_eq!(reader.skipped(), self.rotten.len() as u64);
    }

    /// Where each frame lies: file, offset, length without the padding.
    fn places(&self) -> BTreeMap<u64, (PathBuf, u64, u64)> {
        let mut places = BTreeMap::new();
        let key = Key::new(self.opened().log.id());
        for name in self.io.list(&self.dir).unwrap() {
            let Some(id) = segment::id_of(&name) else { continue };
            let path = self.dir.join(name);
            let file = self.io.open_read(&path).unwrap();
            let size = file.size().unwrap();
            let mut scanner = Scanner::new(file, key.clone(), id, SEGMENT_DATA, size);
            while let Some(item) = scanner.next().unwrap() {
                if let Item::Frame { offset, header } = item {
                    // Of two, the one in the later segment counts.
                    let len = FRAME_HEADER_U64 + u64::from(header.len);
                    places.insert(header.lsn.0, (path.clone(), offset, len));
                }
            }
        }
        places
    }

    fn delete(&mut self, part: Index) {
        self.settle();
        let lsns: Vec<_> = self.durable.keys().copied().collect();
        if lsns.is_empty() {
            return;
        }
        let below = lsns[part.index(lsns.len())];
        let log = &self.opened().log;
        let done = log.delete_below(Lsn(below));
        if done.is_err() {
            // A planned fault. What the disk has now, only a further try can say.
            self.io.clear_faults();
            log.delete_below(Lsn(below)).unwrap();
        }
        let first = log.stats().first.0;
        let gone = |lsn: &u64| *lsn < first;
        assert!(self.durable.keys().filter(|lsn| gone(lsn)).all(|lsn| *lsn <= below));
        self.durable.retain(|lsn, _| !gone(lsn));
        self.rotten.retain(|lsn| !gone(lsn));
    }

    /// What is at its limit takes appends again once sinks have what is in it.
    fn goes_on(&mut self) {
        self.io.clear_faults();
        self.settle();
        let log = &self.opened().log;
        log.delete_below(log.durable()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = log.append(b"after all") {
            assert!(Instant::now() < deadline, "{error}: {:?}", log.stats());
            std::thread::yield_now();
        }
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    let failing = prop_oneof![
        3 => prop_oneof![Just(Failure::SyncLosesPages), Just(Failure::SyncKeepsPages)]
            .prop_map(|failure| (Op::Sync, failure)),
        1 => Just((Op::Sync, Failure::Errno(5))),
        2 => Just((Op::Write, Failure::Errno(5))),
        2 => (1_usize..700).prop_map(|most| (Op::Write, Failure::Short(most))),
        1 => Just((Op::Create, Failure::Errno(28))),
        1 => Just((Op::Allocate, Failure::Errno(28))),
        1 => Just((Op::Rename, Failure::Errno(5))),
        1 => Just((Op::SyncDir, Failure::Errno(5))),
        1 => Just((Op::Remove, Failure::Errno(5))),
    ];
    (failing, 0_u64..3, 1_u64..4).prop_map(|((op, failure), after, times)| Fault {
        after,
        times,
        ..Fault::next(op, failure)
    })
}

fn power() -> impl Strategy<Value = (u64, PowerLoss)> {
    (any::<u64>(), prop_oneof![Just(PowerLoss::ForgetAll), Just(PowerLoss::RandomPart)])
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        1 => Just(End::Close),
        2 => Just(End::Kill),
        4 => power().prop_map(|(seed, mode)| End::Power(seed, mode)),
    ];
    let faults = || prop::collection::vec(fault(), 1..3);
    let no_faults = Just(Vec::new());
    prop_oneof![
        20 => prop_oneof![0_usize..100, 0_usize..2000].prop_map(Step::Append),
        6 => Just(Step::Settle),
        3 => faults().prop_map(Step::Faults),
        1 => (0_u64..9000).prop_map(Step::Enospc),
        3 => (end, prop_oneof![2 => no_faults, 1 => faults()], prop::option::of(power()))
            .prop_map(|(end, faults, power)| Step::Restart(end, faults, power)),
        1 => prop::collection::vec((any::<Index>(), any::<Index>()), 1..4).prop_map(Step::Rot),
        1 => any::<Index>().prop_map(Step::Delete),
    ]
}

proptest! {
    #[test]
    fn what_was_durable_is_read_once_unchanged_and_in_order_through_every_fault(
        sync in prop_oneof![
            2 => Just(SyncPolicy::Always),
            1 => Just(SyncPolicy::Interval(Duration::from_millis(2))),
        ],
        max_bytes in prop_oneof![
            1 => Just(None),
            1 => (4_u64..10).prop_map(|segments| Some(segments * small().segment_bytes)),
        ],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new(sync, max_bytes);
        for step in steps {
            model.step(step);
        }
        model.settle();
        model.end(End::Power(0, PowerLoss::ForgetAll));
        model.start(&[], None);
        model.goes_on();
    }
}
