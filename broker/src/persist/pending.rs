//! What is to be written with the next commit.
//!
//! It is a difference and not a list: a key that changes twice is written once, and what comes and
//! goes before the commit is not written at all. So it is bounded by what the broker holds in memory
//! anyway (whose values it shares) and by the keys of what is in the database; no queue of its own
//! can grow beyond that, however long the disk is away.

use std::hash::Hash;
use std::sync::Arc;

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
    pub(super) waiting: Vec<Arc<Session>>,
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

    /// Puts beneath what is here what an earlier commit failed to write. Whether that is on disk
    /// nobody knows.
    pub(super) fn beneath(&mut self, earlier: Self) {
        for (key, change) in earlier.0 {
            self.0.entry(key).or_insert(Change { stored: true, ..change }).stored = true;
        }
    }
}

impl SessionChanges {
    /// The session is no more.
    pub(super) fn end(&mut self) {
        let client_id = self.client_id.take();
        *self = Self { client_id, is_new: self.is_new, ended: true, ..Self::default() };
    }

    fn beneath(&mut self, earlier: Self) {
        self.is_new = false;
        self.client_id = self.client_id.take().or(earlier.client_id);
        self.ended |= earlier.ended;
        if self.ended {
            return self.end();
        }
        self.record = self.record.take().or(earlier.record);
        self.subscriptions.beneath(earlier.subscriptions);
        self.queue.beneath(earlier.queue);
        self.in_flight.beneath(earlier.in_flight);
        self.ids_reserved = self.ids_reserved.max(earlier.ids_reserved);
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

    /// Takes back what an earlier commit failed to write, beneath what has come since. Its tickets
    /// have failed; who only waits goes on waiting.
    pub(super) fn beneath(&mut self, earlier: Self) {
        self.retained.beneath(earlier.retained);
        self.parcels.beneath(earlier.parcels);
        for (number, changes) in earlier.sessions {
            self.sessions.entry(number).or_default().beneath(changes);
        }
        self.waiting.extend(earlier.waiting);
    }
}
