//! Messages for one client by name, kept until it has acknowledged them.
//!
//! Life of a parcel: *waiting*, durable before its sender hears of it → placed in its client's session
//! whenever that is connected and subscribes to its topic → *delivered* with the client's
//! acknowledgement, or *expired*. What is placed goes the way of every message, in the order of
//! sending, at quality of service 1 at most; if the session ends first, or we are killed, the parcel is
//! placed again in the next one. So a client gets it at least once, whether or not it starts clean,
//! and even if it has never been here before.
//!
//! What the client was not sent (it is longer than it takes, or its rights forbid it) or refused with its
//! acknowledgement was not delivered: it goes on waiting, and is placed again when the client's next
//! connection begins. Who subscribes at quality of service 0 acknowledges nothing: what was written to
//! it counts as delivered. One that expired on its way may still be acknowledged, and was delivered then.
//!
//! That a parcel was delivered is told once it is on disk: what was told stays so after a kill. What
//! became of a parcel is remembered for a day after its expiry; where there is no room for a new one, the
//! oldest that wait no more are forgotten first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::handler::{AckOutcome, AckReceiver, AckTicket};
use crate::persist::Store;

mod sending;

/// Parcels that may wait for one client: more would reach it as a flood.
const MAX_WAITING: usize = 100;

/// Bytes of all parcels.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// What a parcel takes beside its payload, about.
const OVERHEAD: usize = 256;

/// How long it is remembered what became of a parcel.
const REMEMBERED_MS: u64 = 24 * 3600 * 1000;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The sender's name for it; there is no second one.
    pub id: u64,
    /// The client id of whom it is for.
    pub client: Arc<str>,
    /// The topic it is published to.
    pub topic: Arc<str>,
    /// The payload.
    pub payload: Bytes,
    /// When it was sent, in Unix ms.
    pub sent_ms: u64,
    /// When it is of no more use, in Unix ms.
    pub expires_ms: u64,
    /// What became of it.
    pub state: State,
    /// What its owner learned of it, in the owner's own words.
    pub answer: Option<Bytes>,
}

/// What became of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for its client, or for its client's acknowledgement.
    Waiting,
    /// Its client has acknowledged it.
    Delivered {
        /// When, in Unix ms.
        at_ms: u64,
    },
    /// Its time was over first.
    Expired,
}

/// Why a parcel was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is one with its id: this one.
    #[error("there is a parcel with id {} already", .0.id)]
    Known(Box<Parcel>),
    /// Too many wait for this client.
    #[error("{MAX_WAITING} wait for {0} already")]
    Waiting(Arc<str>),
    /// Those that wait for all clients together leave no room.
    #[error("those that wait for all clients have reached {MAX_BYTES} bytes")]
    Full,
    /// It could not be made durable; whether it will reach its client is not known.
    #[error("it could not be made durable")]
    NotDurable,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Parcels {
    inner: Mutex<Inner>,
    /// Something became of one.
    changed: Notify,
    store: Option<Arc<Store>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By their place in the order of sending.
    all: BTreeMap<u64, Entry>,
    by_id: HashMap<u64, u64>,
    /// Those that wait, by client: asked for with every CONNECT and SUBSCRIBE.
    waiting: HashMap<Arc<str>, BTreeSet<u64>>,
    /// The greatest place that was ever given: a receipt of one that is forgotten speaks of no other.
    last: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    parcel: Parcel,
    /// Alive while a session has it.
    placed: Weak<Receipt>,
    /// That it was delivered is not on disk yet.
    untold: bool,
}

/// Goes with a placed parcel, and knows whom to tell of its acknowledgement.
#[derive(Debug)]
pub(crate) struct Receipt {
    order: u64,
    parcels: Weak<Parcels>,
}

impl Receipt {
    /// The client has the parcel.
    pub(crate) fn acknowledged(&self) {
        if let Some(parcels) = self.parcels.upgrade() {
            parcels.delivered(self.order);
        }
    }
}

/// Waits for the commit that has a delivery.
struct Commit {
    order: u64,
    parcels: Weak<Parcels>,
}

impl AckReceiver for Commit {
    fn resolve(&self, _: u64, outcome: AckOutcome) {
        let Some(parcels) = self.parcels.upgrade() else { return };
        match outcome {
            AckOutcome::Durable(_) => parcels.tell(self.order),
            // It is written with a later one.
            AckOutcome::Failed => parcels.tell_when_durable(self.order),
        }
    }
}

impl Parcels {
    pub(crate) fn new(store: Option<Arc<Store>>) -> Self {
        Self { inner: Mutex::default(), changed: Notify::new(), store }
    }

    /// Puts back what a former process had.
    pub(crate) fn restore(&self, order: u64, parcel: Parcel) {
        self.inner.lock().insert(order, parcel);
    }

    fn add(&self, parcel: Parcel) -> Result<(), SendError> {
        let Some(store) = &self.store else { return Err(SendError::NotDurable) };
        let mut inner = self.inner.lock();
        if let Some(known) = inner.by_id.get(&parcel.id).and_then(|order| inner.all.get(order)) {
            return Err(SendError::Known(Box::new(known.parcel.clone())));
        }
        if inner.waiting.get(&parcel.client).is_some_and(|waiting| waiting.len() >= MAX_WAITING) {
            return Err(SendError::Waiting(parcel.client));
        }
        for order in inner.make_room(cost(&parcel)).ok_or(SendError::Full)? {
            inner.forget(order);
            store.forget_parcel(order);
        }
        let order = inner.last + 1;
        store.keep_parcel(order, &parcel, false);
        inner.insert(order, parcel);
        Ok(())
    }

    /// How many wait, and the memory of all, of those that ended too.
    pub(crate) fn held(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.waiting.values().map(|waiting| waiting.len()).sum(), inner.bytes)
    }

    fn get(&self, id: u64) -> Option<Parcel> {
        let inner = self.inner.lock();
        let entry = inner.by_id.get(&id).and_then(|order| inner.all.get(order))?;
        let state = if entry.untold { State::Waiting } else { entry.parcel.state };
        Some(Parcel { state, ..entry.parcel.clone() })
    }

    /// Alters a parcel, here and in the database.
    fn alter(&self, order: u64, change: impl FnOnce(&mut Parcel)) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.all.get_mut(&order) else { return };
        let before = cost(&entry.parcel);
        change(&mut entry.parcel);
        let after = cost(&entry.parcel);
        let waits = entry.parcel.state == State::Waiting;
        let client = Arc::clone(&entry.parcel.client);
        if let Some(store) = &self.store {
            store.keep_parcel(order, &entry.parcel, true);
        }
        if !waits {
            inner.waits_no_more(&client, order);
        }
        inner.bytes = inner.bytes.saturating_sub(before) + after;
        drop(inner);
        self.changed.notify_waiters();
    }

    fn delivered(self: &Arc<Self>, order: u64) {
        let Some(at_ms) = self.store.as_ref().map(|store| store.now_ms()) else { return };
        if let Some(entry) = self.inner.lock().all.get_mut(&order) {
            entry.untold = true;
        }
        self.alter(order, |parcel| parcel.state = State::Delivered { at_ms });
        self.tell_when_durable(order);
    }

    fn tell_when_durable(self: &Arc<Self>, order: u64) {
        // A store that is closed would fail the ticket at once, for ever.
        if let Some(store) = self.store.as_ref().filter(|store| !store.is_closed()) {
            let receiver = Commit { order, parcels: Arc::downgrade(self) };
            store.when_durable(AckTicket::new(Arc::new(receiver), 0));
        }
    }

    fn tell(&self, order: u64) {
        if let Some(entry) = self.inner.lock().all.get_mut(&order) {
            entry.untold = false;
        }
        self.changed.notify_waiters();
    }

    /// Those that wait and are in nobody's session, in order: of `client`, or of all.
    fn unplaced(&self, client: Option<&str>) -> Vec<(u64, Arc<str>, Arc<str>)> {
        let inner = self.inner.lock();
        let of_all = inner.waiting.values().filter(|_| client.is_none());
        let of_one = client.and_then(|client| inner.waiting.get(client));
        let orders = of_all.chain(of_one).flatten();
        let entries = orders.filter_map(|order| Some((*order, inner.all.get(order)?)));
        entries
            .filter(|(_, entry)| entry.placed.strong_count() == 0)
            .map(|(order, e)| (order, Arc::clone(&e.parcel.client), Arc::clone(&e.parcel.topic)))
            .collect()
    }

    /// Takes hold of a parcel that still waits and is in nobody's session.
    fn place(self: &Arc<Self>, order: u64) -> Option<(Parcel, Arc<Receipt>)> {
        let mut inner = self.inner.lock();
        let entry = inner.all.get_mut(&order)?;
        if entry.parcel.state != State::Waiting || entry.placed.strong_count() > 0 {
            return None;
        }
        let receipt = Arc::new(Receipt { order, parcels: Arc::downgrade(self) });
        entry.placed = Arc::downgrade(&receipt);
        Some((entry.parcel.clone(), receipt))
    }

    /// Ends those whose time is over, and forgets those that ended long ago.
    fn sweep(&self) {
        let Some(store) = &self.store else { return };
        let now_ms = store.now_ms();
        let mut expired = Vec::new();
        {
            let mut inner = self.inner.lock();
            let mut old = Vec::new();
            for (order, Entry { parcel, .. }) in &inner.all {
                if parcel.state == State::Waiting && parcel.expires_ms <= now_ms {
                    expired.push(*order);
                } else if parcel.state != State::Waiting
                    && parcel.expires_ms.max(parcel.sent_ms) + REMEMBERED_MS <= now_ms
                {
                    old.push(*order);
                }
            }
            for order in old {
                inner.forget(order);
                store.forget_parcel(order);
            }
        }
        for order in expired {
            self.alter(order, |parcel| {
                if parcel.state == State::Waiting {
                    parcel.state = State::Expired;
                }
            });
        }
    }
}

impl Inner {
    fn insert(&mut self, order: u64, parcel: Parcel) {
        self.bytes += cost(&parcel);
        self.by_id.insert(parcel.id, order);
        if parcel.state == State::Waiting {
            self.waiting.entry(Arc::clone(&parcel.client)).or_default().insert(order);
        }
        self.last = self.last.max(order);
        self.all.insert(order, Entry { parcel, placed: Weak::new(), untold: false });
    }

    fn waits_no_more(&mut self, client: &Arc<str>, order: u64) {
        if let Some(waiting) = self.waiting.get_mut(client) {
            waiting.remove(&order);
            if waiting.is_empty() {
                self.waiting.remove(client);
            }
        }
    }

    fn forget(&mut self, order: u64) {
        let Some(entry) = self.all.remove(&order) else { return };
        self.by_id.remove(&entry.parcel.id);
        self.waits_no_more(&entry.parcel.client, order);
        self.bytes = self.bytes.saturating_sub(cost(&entry.parcel));
    }

    /// What has to be forgotten for `bytes` more: the oldest of those whose end was told. `None` if
    /// that is not enough.
    fn make_room(&self, bytes: usize) -> Option<Vec<u64>> {
        let mut missing = (self.bytes + bytes).saturating_sub(MAX_BYTES);
        let mut forgotten = Vec::new();
        if missing == 0 {
            return Some(forgotten);
        }
        for (order, entry) in &self.all {
            if entry.parcel.state == State::Waiting || entry.untold {
                continue;
            }
            forgotten.push(*order);
            missing = missing.saturating_sub(cost(&entry.parcel));
            if missing == 0 {
                return Some(forgotten);
            }
        }
        None
    }
}

fn cost(parcel: &Parcel) -> usize {
    parcel.payload.len() + parcel.answer.as_ref().map_or(0, Bytes::len) + OVERHEAD
}

#[cfg(test)]
mod tests;
