//! The ledger's side: every reading that was sent, in heaps by its key.
//!
//! A batch and its acknowledgement are far apart in the ledger when the server was away, and a dead
//! letter knows a batch by its payload only. So the ledger is read twice: once for what became of its
//! batches, sorted by ranges of their ids; and once for the readings, with one range in memory.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use loushan_schemas::kind::Kind;
use loushan_schemas::limits::{FUTURE_MS, PAST_LONG_MS, PAST_MS};
use loushan_schemas::reject::RejectReason;
use loushan_schemas::topic::Channel;

use super::AuditError;
use super::source::{About, DAY_MS, Letter, identity, key, moment};
use super::spill::{Packed, Spill};
use crate::ledger::{BatchRecord, LedgerReader, Marks, Record};

/// Batches of which the fate is in memory at a time.
const RANGE: u64 = 1 << 18;

/// Something that became of a batch: id, what, reason.
const FATE: usize = 10;
/// A payload's digest, and the batch's id or the letter's reason.
const PAYLOAD: usize = 24;
/// A reading of the ledger.
pub(super) const ENTRY: usize = 70;
/// A letter about one reading: key, reason.
pub(super) const LETTER: usize = 17;

const ACKNOWLEDGED: u8 = 1;
const AGAIN: u8 = 2;
const LETTER_OF_BATCH: u8 = 3;

/// The number of a reason that this build does not know.
const UNKNOWN_REASON: u8 = u8::MAX;

/// A reading of the ledger as it lies in a heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: u128,
    pub(super) digest: u64,
    /// The batch, counted through all ledgers, and the reading's place in it.
    pub(super) id: u64,
    pub(super) place: u16,
    pub(super) kind: u8,
    pub(super) expected: Option<RejectReason>,
    pub(super) acknowledged: bool,
    /// Its batch was sent so that the server is to acknowledge it.
    pub(super) promised: bool,
    /// Such a store files it under a time that the ledger does not know.
    pub(super) unaudited: bool,
    /// Letters about its batch: bits by the reason's number, bit 63 for an unknown one.
    pub(super) letters: u64,
    pub(super) measured_ms: Option<i64>,
    /// The day it should be filed under.
    pub(super) day: i32,
    pub(super) station: u32,
    pub(super) marks: Marks,
}

impl Entry {
    pub(super) fn pack(&self) -> [u8; ENTRY] {
        Packed::new()
            .put(self.key.to_le_bytes())
            .put(self.digest.to_le_bytes())
            .put(self.id.to_le_bytes())
            .put(self.place.to_le_bytes())
            .put([self.kind])
            .put([self.expected.map_or(0, RejectReason::number)])
            .put([
                u8::from(self.acknowledged)
                    | u8::from(self.unaudited) << 1
                    | u8::from(self.promised) << 2,
                u8::from(self.measured_ms.is_some()),
            ])
            .put(self.letters.to_le_bytes())
            .put(self.measured_ms.unwrap_or(0).to_le_bytes())
            .put(self.day.to_le_bytes())
            .put(self.station.to_le_bytes())
            .put(self.marks.0.to_le_bytes())
            .bytes
    }

    /// Files it under its moment, for a store that keeps one of a moment.
    fn by_moment(&mut self, batch: &BatchRecord) {
        let Some(meant) = batch.readings.get(usize::from(self.place)).map(|r| r.meant) else {
            return;
        };
        let believed = meant.measured_ms.filter(|ms| believed(batch, meant.kind, *ms));
        self.unaudited = believed.is_none();
        self.key = moment(meant.imei, meant.kind, believed.unwrap_or(batch.sent_ms));
        self.digest = identity(meant.boot_epoch, meant.seq);
    }

    pub(super) fn unpack(bytes: &[u8; ENTRY]) -> Self {
        let mut p = Packed::of(bytes);
        let (key, digest) = (u128::from_le_bytes(p.get()), u64::from_le_bytes(p.get()));
        let (id, place) = (u64::from_le_bytes(p.get()), u16::from_le_bytes(p.get()));
        let [kind] = p.get();
        let [expected] = p.get();
        let [acknowledged, measured] = p.get();
        let letters = u64::from_le_bytes(p.get());
        let measured_ms = i64::from_le_bytes(p.get());
        Self {
            key,
            digest,
            id,
            place,
            kind,
            expected: RejectReason::from_number(expected),
            acknowledged: acknowledged & 1 != 0,
            unaudited: acknowledged & 2 != 0,
            promised: acknowledged & 4 != 0,
            letters,
            measured_ms: (measured != 0).then_some(measured_ms),
            day: i32::from_le_bytes(p.get()),
            station: u32::from_le_bytes(p.get()),
            marks: Marks(u64::from_le_bytes(p.get())),
        }
    }
}

/// The bit of a reason in [`Entry::letters`].
pub(super) const fn reason_bit(reason: u8) -> u64 {
    if reason < 63 { 1 << reason } else { 1 << 63 }
}

/// Ledgers of one fleet, read as one.
#[derive(Debug)]
pub(super) struct Ledgers {
    paths: Vec<PathBuf>,
    pub(super) stations: Vec<Arc<str>>,
    pub(super) faults: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    pub(super) torn: bool,
}

/// What the ledgers' second reading counts.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) batches: u64,
    pub(super) sent_again: u64,
    pub(super) foreign_letters: u64,
}

/// The letters, where they wait for the ledger.
#[derive(Debug)]
pub(super) struct Letters {
    pub(super) publishes: Spill<PAYLOAD>,
    pub(super) readings: Spill<LETTER>,
    pub(super) unknown: u64,
    heaps: usize,
}

impl Letters {
    pub(super) fn new(dir: &Path, heaps: usize, budget: usize) -> Self {
        Self {
            publishes: Spill::new(dir, "letters-of-publishes", budget),
            readings: Spill::new(dir, "letters-of-readings", budget),
            unknown: 0,
            heaps,
        }
    }

    pub(super) fn put(&mut self, letter: &Letter) -> Result<(), AuditError> {
        let reason = RejectReason::from_text(&letter.reason).map_or(UNKNOWN_REASON, |r| r.number());
        match letter.about {
            About::Publish(digest) => {
                let record = Packed::new().put(digest.to_le_bytes()).put([reason; 8]);
                self.publishes.put(heap(digest, self.heaps), &record.bytes)
            }
            About::Reading(key) => {
                let record = Packed::new().put(key.to_le_bytes()).put([reason]);
                self.readings.put(heap(key, self.heaps), &record.bytes)
            }
            About::Unknown => {
                self.unknown += 1;
                Ok(())
            }
        }
    }
}

/// The heap of a key among so many. The low bits choose; finer heaps go by those above.
pub(super) fn heap(key: u128, heaps: usize) -> usize {
    // Below the number of heaps.
    (key % heaps.max(1) as u128) as usize
}

impl Ledgers {
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        Self {
            paths: paths.to_vec(),
            stations: Vec::new(),
            faults: Vec::new(),
            numbers: HashMap::new(),
            torn: false,
        }
    }

    /// Gives every record to `each`, ids counted through all ledgers and marks numbered alike.
    pub(super) fn read(
        &mut self,
        mut each: impl FnMut(&mut Self, Record) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let mut first = 0;
        self.torn = false;
        for path in self.paths.clone() {
            let mut reader = LedgerReader::open(&path)?;
            let (mut next, mut faults) = (first, Vec::new());
            while let Some(mut record) = reader.next_record()? {
                match &mut record {
                    Record::Batch(batch) => {
                        batch.id += first;
                        next = batch.id + 1;
                        for fault in reader.faults().iter().skip(faults.len()) {
                            faults.push(self.fault(fault));
                        }
                        for reading in &mut batch.readings {
                            let numbers = reading.marks.numbers();
                            let bits = numbers.filter_map(|number| faults.get(number));
                            reading.marks = Marks(bits.fold(0, |marks, bit| marks | 1 << bit));
                        }
                    }
                    Record::Acknowledged { id, .. } | Record::SentAgain { id } => *id += first,
                    Record::Run(_) => {}
                }
                each(self, record)?;
            }
            self.torn |= reader.torn();
            first = next;
        }
        Ok(())
    }

    /// The number of a fault in all ledgers together; those beyond the bits share the last.
    fn fault(&mut self, name: &Arc<str>) -> u32 {
        let known = self.faults.iter().position(|known| known == name);
        let number = known.unwrap_or_else(|| {
            self.faults.push(Arc::clone(name));
            self.faults.len() - 1
        });
        u32::try_from(number).unwrap_or(63).min(63)
    }

    fn station(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.stations.len()).unwrap_or(u32::MAX);
        self.stations.push(Arc::clone(name));
        self.numbers.insert(Arc::clone(name), number);
        number
    }

    /// Puts every reading into the heap of its key, with what became of its batch.
    pub(super) fn gather(
        &mut self,
        letters: &mut Letters,
        entries: &mut Spill<ENTRY>,
        heaps: usize,
        by_moment: bool,
        dir: &Path,
        budget: usize,
    ) -> Result<Counted, AuditError> {
        let mut counted = Counted::default();
        let mut fates = Spill::<FATE>::new(dir, "fates", budget);
        let mut payloads = Spill::<PAYLOAD>::new(dir, "payloads", budget);
        let any_letter = (0..letters.publishes.len()).any(|n| letters.publishes.records(n) > 0);
        self.read(|_, record| match record {
            Record::Batch(batch) if any_letter => {
                let digest = batch.payload_digest;
                let record = Packed::new().put(digest.to_le_bytes()).put(batch.id.to_le_bytes());
                payloads.put(heap(digest, heaps), &record.bytes)
            }
            Record::Acknowledged { id, refused: false, .. } => {
                fate(&mut fates, id, ACKNOWLEDGED, 0)
            }
            Record::SentAgain { id } => fate(&mut fates, id, AGAIN, 0),
            _ => Ok(()),
        })?;
        for number in 0..letters.publishes.len() {
            let mut ids = HashMap::new();
            payloads.take(number, |record| {
                let mut p = Packed::of(record);
                ids.insert(u128::from_le_bytes(p.get()), u64::from_le_bytes(p.get()));
                Ok(())
            })?;
            letters.publishes.take(number, |record| {
                let mut p = Packed::of(record);
                let digest = u128::from_le_bytes(p.get());
                let [reason] = p.get();
                match ids.get(&digest) {
                    Some(id) => fate(&mut fates, *id, LETTER_OF_BATCH, reason),
                    None => {
                        counted.foreign_letters += 1;
                        Ok(())
                    }
                }
            })?;
        }

        let mut range = Range::default();
        self.read(|ledgers, record| {
            let Record::Batch(batch) = record else { return Ok(()) };
            range.reach(batch.id, &mut fates)?;
            let fate = range.fate(batch.id);
            counted.batches += 1;
            counted.sent_again += u64::from(fate.again);
            let station = ledgers.station(&batch.station);
            for mut entry in entries_of(&batch, fate, station) {
                if by_moment {
                    entry.by_moment(&batch);
                }
                entries.put(heap(entry.key, heaps), &entry.pack())?;
            }
            Ok(())
        })?;
        Ok(counted)
    }
}

fn fate(fates: &mut Spill<FATE>, id: u64, what: u8, reason: u8) -> Result<(), AuditError> {
    let record = Packed::new().put(id.to_le_bytes()).put([what, reason]);
    fates.put(usize::try_from(id / RANGE).unwrap_or(usize::MAX), &record.bytes)
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    acknowledged: bool,
    again: bool,
    letters: u64,
}

/// What became of the batches of one range.
#[derive(Debug, Default)]
struct Range {
    number: Option<u64>,
    fates: HashMap<u64, Fate>,
}

impl Range {
    fn reach(&mut self, id: u64, from: &mut Spill<FATE>) -> Result<(), AuditError> {
        let number = id / RANGE;
        if self.number == Some(number) {
            return Ok(());
        }
        self.number = Some(number);
        self.fates.clear();
        from.take(usize::try_from(number).unwrap_or(usize::MAX), |record| {
            let mut p = Packed::of(record);
            let fate = self.fates.entry(u64::from_le_bytes(p.get())).or_default();
            match p.get() {
                [ACKNOWLEDGED, _] => fate.acknowledged = true,
                [AGAIN, _] => fate.again = true,
                [_, reason] => fate.letters |= reason_bit(reason),
            }
            Ok(())
        })
    }

    fn fate(&self, id: u64) -> Fate {
        self.fates.get(&id).copied().unwrap_or_default()
    }
}

fn entries_of(batch: &BatchRecord, fate: Fate, station: u32) -> impl Iterator<Item = Entry> {
    (0..).zip(&batch.readings).map(move |(place, reading)| {
        let meant = &reading.meant;
        Entry {
            key: key(meant.imei, meant.boot_epoch, meant.seq, &batch.station, batch.session),
            digest: meant.digest,
            id: batch.id,
            place,
            kind: meant.kind,
            expected: reading.expected,
            acknowledged: fate.acknowledged,
            promised: batch.promised,
            unaudited: false,
            letters: fate.letters,
            measured_ms: meant.measured_ms,
            day: day_of(batch, meant.kind, meant.measured_ms),
            station,
            marks: reading.marks,
        }
    })
}

/// Whether a time can be believed, by the rule of the service.
fn believed(batch: &BatchRecord, kind: u8, ms: i64) -> bool {
    let patient = kind == Kind::Water.number() || batch.channel == Channel::Replay;
    let past = if patient { PAST_LONG_MS } else { PAST_MS };
    (batch.sent_ms - past..=batch.sent_ms + FUTURE_MS).contains(&ms)
}

/// The day under which a reading is filed: of the device's time if that can be believed, else of the
/// station's, else of ours.
fn day_of(batch: &BatchRecord, kind: u8, measured_ms: Option<i64>) -> i32 {
    let times = [measured_ms, Some(batch.due_ms)];
    let ms = times.into_iter().flatten().find(|ms| believed(batch, kind, *ms));
    i32::try_from(ms.unwrap_or(batch.sent_ms).div_euclid(DAY_MS)).unwrap_or(i32::MAX)
}
