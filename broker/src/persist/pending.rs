//! What is to be written with the next commit.
//!
//! It is a difference and not a list: a key that changes twice is written once, and what comes and
//! goes before the commit is not written at all. So it is bounded by what the broker holds in memory
//! anyway (whose values it shares) and by the keys of what is in the database; no queue of its own
//! can grow beyond that, however long the disk is away.

use std::hash::Hash;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::codec::{StoredDelivery, StoredInFlight, StoredMessage, StoredSession};
use crate::handler::AckTicket;
use crate::parcel::Parcel;
use crate::session::Session;
use crate::subscriptions::Subscription;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) retained: Changes<Arc<str>, StoredMessage>,
    pub(super) parcels: Changes<u64, Parcel>,
    /// By session number.
    pub(super) sessions: HashMap<u64, SessionChanges>,
    /// Answered when everything above is on disk.
    pub(super) tickets: Vec<AckTicket>,
    /// Woken then.
    pub(super) waiting: Vec<Weak<Session>>,
}

/// The changes of one session.
#[derive(Debug, Default)]
pub(super) struct SessionChanges {
    pub(super) client_id: Option<Arc<str>>,
    /// Nothing of it is in the database.
    pub(super) is_new: bool,
    /// It ended: all of it goes, and what comes after that is not written.
    pub(super) ended: bool,
    pub(super) record: Option<StoredSession>,
    pub(super) subscriptions: Changes<Arc<str>, Subscription>,
    pub(super) queue: Changes<u64, StoredDelivery>,
    pub(super) in_flight: Changes<u64, StoredInFlight>,
    /// The packet ids below this one's number may have been used.
    pub(super) ids_reserved: Option<u64>,
}

/// Keys and what becomes of them.
#[derive(Debug)]
pub(super) struct Changes<K, V>(HashMap<K, Change<V>>);

/// `None` as the value removes the key.
#[derive(Debug)]
pub(super) struct Change<V> {
    pub(super) value: Option<V>,
    /// The database may have the key.
    stored: bool,
}

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq, V> Changes<K, V> {
    /// The key gets a value; `replaces` if it may have one already.
    pub(super) fn put(&mut self, key: K, value: V, replaces: bool) {
        match self.0.entry(key) {
            Entry::Occupied(mut change) => change.get_mut().value = Some(value),
            Entry::Vacant(place) => {
                place.insert(Change { value: Some(value), stored: replaces });
            }
        }
    }

    /// The key goes.
    pub(super) fn remove(&mut self, key: K) {
        match self.0.entry(key) {
            Entry::Occupied(mut change) if change.get().stored => change.get_mut().value = None,
            Entry::Occupied(change) => drop(change.remove()),
            Entry::Vacant(place) => {
                place.insert(Change { value: None, stored: true });
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, Option<&V>)> {
        self.0.iter().map(|(key, change)| (key, change.value.as_ref()))
    }

    /// Whether any of it is on disk nobody knows.
    pub(super) fn doubt(&mut self) {
        self.0.values_mut().for_each(|change| change.stored = true);
    }

    /// Puts on top of what is here, and is in doubt, what has come since.
    pub(super) fn then(&mut self, later: Self) {
        for (key, change) in later.0 {
            match self.0.entry(key) {
                Entry::Occupied(mut earlier) => earlier.get_mut().value = change.value,
                Entry::Vacant(place) => {
                    place.insert(change);
                }
            }
        }
    }
}

impl SessionChanges {
    /// The session is no more.
    pub(super) fn end(&mut self) {
        let client_id = self.client_id.take();
        *self = Self { client_id, is_new: self.is_new, ended: true, ..Self::default() };
    }

    fn doubt(&mut self) {
        self.is_new = false;
        self.subscriptions.doubt();
        self.queue.doubt();
        self.in_flight.doubt();
    }

    fn then(&mut self, later: Self) {
        self.client_id = later.client_id.or(self.client_id.take());
        self.ended |= later.ended;
        if self.ended {
            return self.end();
        }
        self.record = later.record.or(self.record.take());
        self.subscriptions.then(later.subscriptions);
        self.queue.then(later.queue);
        self.in_flight.then(later.in_flight);
        self.ids_reserved = self.ids_reserved.max(later.ids_reserved);
    }

    fn len(&self) -> usize {
        let single = usize::from(self.record.is_some() || self.ended)
            + usize::from(self.ids_reserved.is_some());
        single + self.subscriptions.len() + self.queue.len() + self.in_flight.len()
    }
}

impl Pending {
    /// The changes of a session, unless it has ended.
    pub(super) fn session(&mut self, number: u64) -> Option<&mut SessionChanges> {
        Some(self.sessions.entry(number).or_default()).filter(|changes| !changes.ended)
    }

    /// A session ended.
    pub(super) fn end_session(&mut self, number: u64, client_id: &Arc<str>) {
        let changes = self.sessions.entry(number).or_default();
        if changes.is_new {
            self.sessions.remove(&number);
        } else {
            changes.client_id = Some(Arc::clone(client_id));
            changes.end();
        }
    }

    /// Whether nothing was noted.
    pub(super) fn is_empty(&self) -> bool {
        self.retained.is_empty() && self.parcels.is_empty() && self.sessions.is_empty()
    }

    /// Records to write.
    pub(super) fn len(&self) -> usize {
        self.retained.len()
            + self.parcels.len()
            + self.sessions.values().map(SessionChanges::len).sum::<usize>()
    }

    /// The commit that was to have this failed: whether any of it is on disk nobody knows.
    pub(super) fn doubt(&mut self) {
        self.retained.doubt();
        self.parcels.doubt();
        self.sessions.values_mut().for_each(SessionChanges::doubt);
        // While the disk is away sessions come and go, each once or more.
        self.waiting.retain(|session| session.strong_count() > 0);
        self.waiting.sort_unstable_by_key(Weak::as_ptr);
        self.waiting.dedup_by(|a, b| Weak::ptr_eq(a, b));
    }

    /// Puts on top of this, which is in doubt, what has come since. Takes as long as that is much: it
    /// runs under the lock that everybody waits for.
    pub(super) fn then(&mut self, later: Self) {
        self.retained.then(later.retained);
        self.parcels.then(later.parcels);
        for (number, changes) in later.sessions {
            match self.sessions.entry(number) {
                Entry::Occupied(mut earlier) => earlier.get_mut().then(changes),
                Entry::Vacant(place) => {
                    place.insert(changes);
                }
            }
        }
        self.tickets.extend(later.tickets);
        self.waiting.extend(later.waiting);
    }
}
