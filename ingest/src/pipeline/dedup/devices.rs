//! The last readings of every device, by key.
//!
//! Per device a ring of the keys measured last, and the *mark*: the greatest measured time among
//! those it has let go. A key in the ring is a duplicate; a key measured later than the mark is new;
//! of any other only the embedded store can tell. Letting go takes the earliest measured, not the
//! oldest entry: one reading from a clock in the far future would otherwise lift the mark above
//! everything that follows, and the store would be asked for ever.
//!
//! Only what the store's cursor has passed is let go, so together they miss nothing. Rings of a
//! busy device whose store is behind therefore grow beyond [`RING`]; all of them together are
//! bounded in bytes. Over the bound, whole devices are forgotten (the ones not used lately), and
//! their marks are kept in buckets, by hash. If nothing may be forgotten, [`Devices::full`] says so
//! and the pipeline takes nothing more until the store has caught up.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::{Key, NO_TIME};

/// Keys per device that are kept in any case: an hour of the busiest kind, which reports each minute.
pub(crate) const RING: usize = 64;
/// The mark of a device that has let nothing go: below [`NO_TIME`].
pub(crate) const NOTHING: i64 = NO_TIME - 1;
/// The mark where everything must be asked for.
pub(crate) const EVERYTHING: i64 = i64::MAX;
/// Buckets for the marks of forgotten devices: 128 KiB.
const BUCKETS: usize = 1 << 14;
/// The lsn of what has entered and is not appended yet.
const UNPLACED: u64 = u64::MAX;
/// Index entry, slot bookkeeping and allocator overhead of one device, about.
const OVERHEAD_BYTES: usize = 64;
/// Devices looked at for forgetting with each batch: bounds the time under the lock.
const FORGET_STEPS: usize = 256;

/// A remembered reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Hash of its identity.
    pub(crate) hash: u64,
    /// When it was measured, see [`Key::measured`].
    pub(crate) measured: i64,
    /// The frame that brought it.
    pub(crate) lsn: u64,
}

/// What the memory says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It came with this frame.
    Before(u64),
    /// It never came.
    New,
    /// It is not remembered and may be stored: ask the store.
    Unsure,
}

/// One device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Device<P> {
    /// See [`Key::device`].
    pub(crate) id: u64,
    /// The greatest measured time among what was let go.
    pub(crate) mark: i64,
    /// In no particular order, but for those of the batch that is being decided: they are last.
    pub(crate) entries: Vec<Entry>,
    /// What the normalizer compares the next reading with.
    pub(crate) previous: Option<P>,
    used: bool,
}

/// What to put back if a frame fails.
#[derive(Debug, Clone)]
struct Undo<P> {
    slot: u32,
    lsn: u64,
    previous: Option<P>,
}

/// All devices. `P` is what the normalizer remembers of a device.
#[derive(Debug)]
pub(crate) struct Devices<P> {
    index: HashMap<u64, u32>,
    slots: Vec<Option<Device<P>>>,
    free: Vec<u32>,
    buckets: Box<[i64]>,
    undo: VecDeque<Undo<P>>,
    /// Entries up to this lsn are known to the store.
    stored: u64,
    /// What `stored` was when questions to the store began that have not ended.
    questions: Vec<u64>,
    bytes: usize,
    limit: usize,
    hand: usize,
}

fn bucket(id: u64) -> usize {
    // IMEIs of one batch differ in their last digits: spread them.
    let spread = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(spread).unwrap_or(0) % BUCKETS
}

fn weight<P>(device: &Device<P>) -> usize {
    size_of::<Option<Device<P>>>() + OVERHEAD_BYTES + device.entries.capacity() * size_of::<Entry>()
}

impl<P: Clone> Clone for Devices<P> {
    fn clone(&self) -> Self {
        let slots = self.slots.clone();
        Self {
            // A cloned vector has another capacity than its original, and that is what counts.
            bytes: slots.iter().flatten().map(weight).sum(),
            slots,
            index: self.index.clone(),
            free: self.free.clone(),
            buckets: self.buckets.clone(),
            undo: self.undo.clone(),
            questions: self.questions.clone(),
            ..*self
        }
    }
}

impl<P> Devices<P> {
    /// An empty memory of at most about `limit` bytes. `mark` is [`NOTHING`] if nothing was ever
    /// forgotten, or [`EVERYTHING`] if everything was.
    pub(crate) fn new(limit: usize, mark: i64) -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            buckets: vec![mark; BUCKETS].into_boxed_slice(),
            undo: VecDeque::new(),
            stored: 0,
            questions: Vec::new(),
            bytes: 0,
            limit,
            hand: 0,
        }
    }

    fn mark_of_forgotten(&self, id: u64) -> i64 {
        self.buckets.get(bucket(id)).copied().unwrap_or(EVERYTHING)
    }

    fn slot(&self, slot: u32) -> Option<&Device<P>> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Device<P>> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// What is known of a key, and the device's slot if it is remembered. A slot stays valid until
    /// [`Devices::place`] or [`Devices::make_room`].
    pub(crate) fn look(&self, key: &Key) -> (Option<u32>, Known) {
        let slot = self.index.get(&key.device).copied();
        let known = match slot.and_then(|slot| self.slot(slot)) {
            Some(device) => match device.entries.iter().find(|e| e.hash == key.hash) {
                Some(entry) => Known::Before(entry.lsn),
                None if key.measured > device.mark => Known::New,
                None => Known::Unsure,
            },
            None if key.measured > self.mark_of_forgotten(key.device) => Known::New,
            None => Known::Unsure,
        };
        (slot, known)
    }

    /// The slot of a device, which is taken into the memory if it is not there.
    pub(crate) fn slot_of(&mut self, id: u64) -> u32 {
        if let Some(slot) = self.index.get(&id) {
            return *slot;
        }
        let mark = self.mark_of_forgotten(id);
        self.put(Device { id, mark, entries: Vec::new(), previous: None, used: true })
    }

    fn put(&mut self, device: Device<P>) -> u32 {
        let id = device.id;
        self.bytes += weight(&device);
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                // 2^32 devices would be beyond every bound in bytes.
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(device);
        }
        self.index.insert(id, slot);
        slot
    }

    /// Whether this key has entered already with the batch that is being decided.
    pub(crate) fn in_this_batch(&self, slot: u32, hash: u64) -> bool {
        self.slot(slot).is_some_and(|device| {
            let batch = device.entries.iter().rev().take_while(|e| e.lsn == UNPLACED);
            batch.into_iter().any(|e| e.hash == hash)
        })
    }

    /// What the normalizer remembers of the device.
    pub(crate) fn previous(&self, slot: u32) -> Option<&P> {
        self.slot(slot)?.previous.as_ref()
    }

    /// A new reading enters with the batch that is being decided. It counts once
    /// [`Devices::place`] was called, and [`Devices::take_back`] undoes it.
    pub(crate) fn enter(&mut self, slot: u32, key: &Key, previous: Option<P>) {
        let Some(device) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        let before = device.entries.capacity();
        if device.entries.len() >= RING && device.entries.len() == before {
            device.entries.reserve_exact(RING / 4);
        }
        device.entries.push(Entry { hash: key.hash, measured: key.measured, lsn: UNPLACED });
        device.used = true;
        self.bytes += (device.entries.capacity() - before) * size_of::<Entry>();
        let previous = std::mem::replace(&mut device.previous, previous);
        self.undo.push_back(Undo { slot, lsn: UNPLACED, previous });
    }

    /// The batch that was decided is frame `lsn` of the log.
    pub(crate) fn place(&mut self, lsn: u64) {
        let Self { undo, slots, .. } = self;
        for undo in undo.iter_mut().rev().take_while(|undo| undo.lsn == UNPLACED) {
            undo.lsn = lsn;
            let Some(device) = slots.get_mut(undo.slot as usize).and_then(Option::as_mut) else {
                continue;
            };
            for entry in device.entries.iter_mut().rev().take_while(|e| e.lsn == UNPLACED) {
                entry.lsn = lsn;
            }
            while device.entries.len() > RING && let_go_earliest(device, self.stored) {}
        }
    }

    /// The batch that was being decided is not in the log after all.
    pub(crate) fn take_back(&mut self) {
        self.roll_back(UNPLACED - 1);
    }

    /// No frame above `above` will ever be durable: what entered with one never did.
    pub(crate) fn roll_back(&mut self, above: u64) {
        while self.undo.back().is_some_and(|undo| undo.lsn > above) {
            let Some(undo) = self.undo.pop_back() else { return };
            if let Some(device) = self.slot_mut(undo.slot) {
                device.entries.retain(|entry| entry.lsn <= above);
                device.previous = undo.previous;
            }
        }
    }

    /// Frames up to `up_to` are durable: nothing of them will be rolled back.
    pub(crate) fn settle(&mut self, up_to: u64) {
        while self.undo.front().is_some_and(|undo| undo.lsn <= up_to) {
            self.undo.pop_front();
        }
    }

    /// The store's cursor stands at `cursor`.
    pub(crate) fn stored(&mut self, cursor: u64) {
        let oldest = self.questions.iter().min().copied().unwrap_or(u64::MAX);
        self.stored = self.stored.max(cursor.min(oldest));
    }

    /// A question to the store begins. Until [`Devices::answered`] nothing is let go that the store
    /// might not have had when it answered.
    pub(crate) fn ask(&mut self) -> Question {
        self.questions.push(self.stored);
        Question(self.stored)
    }

    /// A question has ended: its answers were used.
    pub(crate) fn answered(&mut self, question: &Question) {
        if let Some(at) = self.questions.iter().position(|stored| *stored == question.0) {
            self.questions.swap_remove(at);
        }
    }

    /// Forgets devices while the memory is over its bound, for a bounded time.
    pub(crate) fn make_room(&mut self) {
        for _ in 0..FORGET_STEPS {
            if self.bytes <= self.limit || self.slots.is_empty() {
                return;
            }
            self.hand = (self.hand + 1) % self.slots.len();
            let stored = self.stored;
            let Some(place) = self.slots.get_mut(self.hand) else { continue };
            let Some(device) = place else { continue };
            if std::mem::take(&mut device.used) || device.entries.iter().any(|e| e.lsn > stored) {
                continue;
            }
            if let Some(device) = place.take() {
                self.bytes -= weight(&device);
                self.index.remove(&device.id);
                self.free.push(u32::try_from(self.hand).unwrap_or(u32::MAX));
                let mark = device.entries.iter().fold(device.mark, |m, e| m.max(e.measured));
                if let Some(bucket) = self.buckets.get_mut(bucket(device.id)) {
                    *bucket = mark.max(*bucket);
                }
            }
        }
    }

    /// Whether the memory is over its bound by more than a batch can be, and cannot forget.
    pub(crate) fn full(&self) -> bool {
        self.bytes > self.limit + self.limit / 8
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All remembered devices, for the snapshot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Device<P>> {
        self.slots.iter().flatten()
    }

    /// The marks of forgotten devices, for the snapshot.
    pub(crate) fn buckets(&self) -> &[i64] {
        &self.buckets
    }

    /// Takes over the marks of a snapshot; false if it has another number of them.
    pub(crate) fn restore_buckets(&mut self, marks: &[i64]) -> bool {
        let fits = marks.len() == self.buckets.len();
        if fits {
            self.buckets.copy_from_slice(marks);
        }
        fits
    }

    /// Takes over one mark for all forgotten devices; without one everything must be asked for.
    pub(crate) fn restore_all_buckets(&mut self, mark: Option<i64>) {
        self.buckets.fill(mark.unwrap_or(EVERYTHING));
    }

    /// Takes over a device of a snapshot.
    pub(crate) fn restore(&mut self, id: u64, mark: i64, entries: Vec<Entry>, previous: Option<P>) {
        if !self.index.contains_key(&id) {
            self.put(Device { id, mark, entries, previous, used: false });
        }
    }
}

/// What was stored when a question to the store began. It must be given back.
#[derive(Debug)]
#[must_use = "nothing is let go until the question is given back"]
pub(crate) struct Question(u64);

fn let_go_earliest<P>(device: &mut Device<P>, stored: u64) -> bool {
    let candidates = device.entries.iter().enumerate().filter(|(_, e)| e.lsn <= stored);
    let Some((at, _)) = candidates.min_by_key(|(_, e)| e.measured) else { return false };
    let gone = device.entries.swap_remove(at);
    device.mark = device.mark.max(gone.measured);
    true
}

#[cfg(test)]
mod tests;
