//! Heap by heap: what was sent against what is stored.

use std::collections::{BTreeMap, BTreeSet};

use loushan_schemas::reject::RejectReason;

use super::AuditError;
use super::gather::{ENTRY, Entry, LETTER, heap, reason_bit};
use super::report::{EXPLAINED, Sums};
use super::source::{Days, Keeps, Stored};
use super::spill::{Packed, Spill};
use crate::ledger::Marks;

/// A row as it lies in a heap.
pub(super) const ROW: usize = 33;
/// Into how many a heap that is too large is parted.
const PARTS: usize = 16;
/// Keys that are alike to here are one key.
const LAST_DIVISOR: u128 = 1 << 96;

/// The heaps of all that is compared.
#[derive(Debug)]
pub(super) struct Heaps {
    pub(super) entries: Spill<ENTRY>,
    pub(super) rows: Spill<ROW>,
    pub(super) letters: Spill<LETTER>,
}

impl Heaps {
    fn bytes(&self, number: usize) -> u64 {
        self.entries.bytes(number) + self.rows.bytes(number) + self.letters.bytes(number)
    }
}

/// A row for its heap.
pub(super) fn pack(row: &Stored) -> [u8; ROW] {
    Packed::new()
        .put(row.key.to_le_bytes())
        .put(row.digest.to_le_bytes())
        .put([row.kind])
        .put(row.lsn.to_le_bytes())
        .bytes
}

#[derive(Debug, Clone, Copy)]
struct Row {
    key: u128,
    digest: u64,
    lsn: u64,
}

fn unpack(bytes: &[u8; ROW]) -> Row {
    let mut p = Packed::of(bytes);
    let (key, digest) = (u128::from_le_bytes(p.get()), u64::from_le_bytes(p.get()));
    let [_kind] = p.get();
    Row { key, digest, lsn: u64::from_le_bytes(p.get()) }
}

/// How ledger and store differ in one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Missing,
    Altered,
    Duplicate { row: u64 },
    StoredThoughBad,
    DeadLettered { reason: u8 },
}

/// A difference that will be explained.
#[derive(Debug, Clone, Copy)]
pub(super) struct Difference {
    pub(super) class: Class,
    pub(super) id: u64,
    pub(super) place: u16,
    pub(super) key: u128,
    /// The row that differs.
    pub(super) lsn: Option<u64>,
}

/// Everything that is known by one key and meant alike.
#[derive(Debug)]
struct Meaning {
    first: Entry,
    /// Sent at least once so that it must be stored.
    good: bool,
    acknowledged: bool,
    /// Sent at least once so that it is to be acknowledged.
    promised: bool,
    good_acknowledged: bool,
    /// Reasons for which it may be in the dead letters, as in [`Entry::letters`].
    expected: u64,
    letters: u64,
    marks: Marks,
    rows: u64,
    altered: bool,
}

impl Meaning {
    fn new(first: Entry) -> Self {
        Self {
            first,
            good: false,
            acknowledged: false,
            promised: false,
            good_acknowledged: false,
            expected: 0,
            letters: 0,
            marks: Marks::default(),
            rows: 0,
            altered: false,
        }
    }

    fn join(&mut self, entry: &Entry) {
        self.expected |= entry.expected.map_or(0, |reason| reason_bit(reason.number()));
        // What has unknown fields is stored, and kept in the dead letters beside.
        let good = entry.expected.is_none_or(|reason| reason == RejectReason::UnknownFields);
        self.good |= good;
        self.acknowledged |= entry.acknowledged;
        self.promised |= entry.promised;
        self.good_acknowledged |= entry.acknowledged && good;
        self.letters |= entry.letters;
        self.marks = self.marks.and(entry.marks);
    }
}

/// The sums so far.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) total: Sums,
    pub(super) by_kind: BTreeMap<u8, Sums>,
    pub(super) by_station: BTreeMap<u32, Sums>,
    pub(super) by_fault: BTreeMap<usize, Sums>,
    pub(super) foreign_rows: u64,
    pub(super) foreign_letters: u64,
    /// The first differences in the order of the ledger.
    pub(super) differences: BTreeMap<(u64, u16, u64), Difference>,
    found: u64,
    keeps: Keeps,
    days: Days,
    /// Whether the store keeps dead letters.
    letters: bool,
    /// Kinds that the store cannot be asked about.
    unseen: BTreeSet<u8>,
    /// See [`super::Store::by_moment`].
    by_moment: bool,
    budget: u64,
}

impl Judge {
    pub(super) fn new(
        keeps: Keeps,
        days: Days,
        letters: bool,
        unseen: BTreeSet<u8>,
        by_moment: bool,
        budget: u64,
    ) -> Self {
        Self {
            total: Sums::default(),
            by_kind: BTreeMap::new(),
            by_station: BTreeMap::new(),
            by_fault: BTreeMap::new(),
            foreign_rows: 0,
            foreign_letters: 0,
            differences: BTreeMap::new(),
            found: 0,
            keeps,
            days,
            letters,
            unseen,
            by_moment,
            budget,
        }
    }

    /// Judges what lies in one heap of each. One that does not fit into memory is parted first, by
    /// the part of the keys that has not chosen yet: `divisor` is the product of what has.
    pub(super) fn heap(
        &mut self,
        heaps: &mut Heaps,
        number: usize,
        divisor: u128,
    ) -> Result<(), AuditError> {
        if heaps.bytes(number) <= self.budget || divisor > LAST_DIVISOR {
            return self.in_memory(heaps, number);
        }
        let buffers = usize::try_from(self.budget / 4).unwrap_or(usize::MAX);
        let mut finer = Heaps {
            entries: heaps.entries.finer(divisor, buffers),
            rows: heaps.rows.finer(divisor, buffers),
            letters: heaps.letters.finer(divisor, buffers),
        };
        let part = |key: u128| heap(key / divisor, PARTS);
        heaps.entries.take(number, |e| finer.entries.put(part(key_of(e)), e))?;
        heaps.rows.take(number, |r| finer.rows.put(part(key_of(r)), r))?;
        heaps.letters.take(number, |l| finer.letters.put(part(key_of(l)), l))?;
        // Their buffers must not lie beside a heap that is judged.
        finer.entries.write_all()?;
        finer.rows.write_all()?;
        finer.letters.write_all()?;
        (0..PARTS).try_for_each(|part| self.heap(&mut finer, part, divisor * PARTS as u128))
    }

    fn in_memory(&mut self, heaps: &mut Heaps, number: usize) -> Result<(), AuditError> {
        let (mut entries, mut rows, mut letters) = (Vec::new(), Vec::new(), Vec::new());
        heaps.entries.take(number, |e| {
            entries.push(Entry::unpack(e));
            Ok(())
        })?;
        heaps.rows.take(number, |r| {
            rows.push(unpack(r));
            Ok(())
        })?;
        heaps.letters.take(number, |l| {
            let mut p = Packed::of(l);
            let key = u128::from_le_bytes(p.get());
            let [reason] = p.get();
            letters.push((key, reason));
            Ok(())
        })?;
        entries.sort_unstable_by_key(|e| (e.key, e.id, e.place));
        rows.sort_unstable_by_key(|r| (r.key, r.lsn));
        letters.sort_unstable();
        let (mut rows, mut letters) = (rows.as_slice(), letters.as_slice());
        for sent in entries.chunk_by(|a, b| a.key == b.key) {
            let Some(key) = sent.first().map(|e| e.key) else { continue };
            self.foreign_rows += skip(&mut rows, |r| r.key < key).len() as u64;
            self.foreign_letters += skip(&mut letters, |l| l.0 < key).len() as u64;
            let stored = skip(&mut rows, |r| r.key == key);
            let rejected = skip(&mut letters, |l| l.0 == key);
            self.one(sent, stored, rejected)?;
        }
        self.foreign_rows += rows.len() as u64;
        self.foreign_letters += letters.len() as u64;
        Ok(())
    }

    /// All that is known by one key. Of a device whose counter wraps that may be several readings,
    /// which differ in their times.
    fn one(
        &mut self,
        sent: &[Entry],
        rows: &[Row],
        letters: &[(u128, u8)],
    ) -> Result<(), AuditError> {
        let mut meanings: Vec<Meaning> = Vec::with_capacity(1);
        for entry in sent {
            let at = meanings.iter().position(|m| m.first.digest == entry.digest);
            let identity = (entry.kind, entry.measured_ms);
            if at.is_none()
                && !self.by_moment
                && meanings.iter().any(|m| (m.first.kind, m.first.measured_ms) == identity)
            {
                return Err(AuditError::Contradiction {
                    reading: format!("reading {} of batch {}", entry.place, entry.id),
                });
            }
            let at = at.unwrap_or_else(|| {
                meanings.push(Meaning::new(*entry));
                meanings.len() - 1
            });
            if let Some(meaning) = meanings.get_mut(at) {
                meaning.join(entry);
            }
        }
        for (_, reason) in letters {
            let bit = reason_bit(*reason);
            let at = meanings.iter().position(|m| m.expected & bit != 0).unwrap_or(0);
            if let Some(meaning) = meanings.get_mut(at) {
                meaning.letters |= bit;
            }
        }
        let mut others = Vec::new();
        for row in rows {
            match meanings.iter_mut().find(|m| m.first.digest == row.digest) {
                Some(meaning) => self.row(meaning, row, false),
                None => others.push(row),
            }
        }
        for row in others {
            // It was one of those of which there is no row; or one too many.
            let at = meanings.iter().position(|m| m.rows == 0).unwrap_or(0);
            if let Some(meaning) = meanings.get_mut(at) {
                self.row(meaning, row, true);
            }
        }
        meanings.iter().for_each(|meaning| self.verdict(meaning, !rows.is_empty()));
        Ok(())
    }

    fn row(&mut self, meaning: &mut Meaning, row: &Row, altered: bool) {
        meaning.rows += 1;
        if altered && !meaning.altered {
            meaning.altered = true;
            self.sum(meaning, |sums| sums.altered += 1);
            self.differs(meaning, Class::Altered, Some(row.lsn));
        }
        if meaning.rows > 1 {
            self.sum(meaning, |sums| sums.duplicate += 1);
            self.differs(meaning, Class::Duplicate { row: meaning.rows }, Some(row.lsn));
        }
    }

    fn verdict(&mut self, m: &Meaning, any_row: bool) {
        let acknowledged = if m.good { m.good_acknowledged } else { m.acknowledged };
        let unexpected = m.letters & !m.expected;
        let day = i64::from(m.first.day);
        self.sum(m, |sums| {
            sums.sent += 1;
            sums.acknowledged += u64::from(acknowledged);
        });
        if unexpected != 0 {
            let reason = u8::try_from(unexpected.trailing_zeros()).unwrap_or(u8::MAX);
            self.sum(m, |sums| sums.dead_lettered_unexpected += 1);
            self.differs(m, Class::DeadLettered { reason }, None);
        }
        match (m.good, m.rows) {
            _ if m.first.unaudited || self.unseen.contains(&m.first.kind) => {
                self.sum(m, |sums| sums.unaudited += 1);
            }
            (false, 1..) => {
                self.sum(m, |sums| sums.dead_lettered_unexpected += 1);
                self.differs(m, Class::StoredThoughBad, None);
            }
            (false, 0) if m.letters & m.expected != 0 => {
                self.sum(m, |sums| sums.dead_lettered_expected += 1);
            }
            (false, 0) if !self.letters => self.sum(m, |sums| sums.unaudited += 1),
            // Counted already; a good reading in the dead letters is not stored.
            (_, 0) if unexpected != 0 => {}
            (_, 0) if !m.promised => self.sum(m, |sums| sums.unpromised_absent += 1),
            (_, 0) if !acknowledged => self.sum(m, |sums| sums.unacknowledged += 1),
            (true, 0) if self.by_moment && any_row => self.sum(m, |sums| sums.collapsed += 1),
            (true, 0) if self.keeps.explains(m.first.kind, day, &self.days) => {
                self.sum(m, |sums| sums.removed_by_retention += 1);
            }
            (_, 0) => {
                self.sum(m, |sums| sums.missing += 1);
                self.differs(m, Class::Missing, None);
            }
            (true, 1) if !m.altered && acknowledged => self.sum(m, |sums| sums.stored += 1),
            (true, 1) if !m.altered && !m.promised => {
                self.sum(m, |sums| sums.unpromised_stored += 1);
            }
            (true, 1) if !m.altered => self.sum(m, |sums| sums.stored_unacknowledged += 1),
            (true, 1..) => {}
        }
    }

    fn sum(&mut self, m: &Meaning, add: impl Fn(&mut Sums)) {
        add(&mut self.total);
        add(self.by_kind.entry(m.first.kind).or_default());
        add(self.by_station.entry(m.first.station).or_default());
        m.marks.numbers().for_each(|fault| add(self.by_fault.entry(fault).or_default()));
    }

    fn differs(&mut self, m: &Meaning, class: Class, lsn: Option<u64>) {
        self.found += 1;
        let Entry { id, place, key, .. } = m.first;
        self.differences.insert((id, place, self.found), Difference { class, id, place, key, lsn });
        if self.differences.len() > EXPLAINED {
            self.differences.pop_last();
        }
    }
}

/// Keys come first in all records.
fn key_of<const N: usize>(record: &[u8; N]) -> u128 {
    u128::from_le_bytes(Packed::of(record).get())
}

/// Takes those off the front for which `is` holds.
fn skip<'a, T>(from: &mut &'a [T], is: impl Fn(&T) -> bool) -> &'a [T] {
    let (front, rest) = from.split_at(from.iter().take_while(|t| is(t)).count());
    *from = rest;
    front
}
