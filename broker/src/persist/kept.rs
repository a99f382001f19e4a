//! A session's hold on the database.

use std::sync::Arc;

use super::Store;
use super::codec::{StoredDelivery, StoredInFlight, StoredSession, StoredWill};
use super::pending::SessionChanges;
use super::{codec, to_ms};
use crate::session::Delivery;
use crate::subscriptions::Subscription;
use crate::will::PendingWill;
use tokio::time::Instant;

/// Packet ids reserved at a time.
const RESERVE: u64 = 8192;

/// What a session that outlives its connection notes of itself. Every method is called under the
/// session's lock, so that what is noted comes in the order in which it happened.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) store: Arc<Store>,
    number: u64,
    client_id: Arc<str>,
    next_message: u64,
    ids_reserved: u64,
    expiry_s: u32,
    owner: Option<Arc<str>>,
}

impl Kept {
    /// A session begins to be kept.
    pub(crate) fn begin(store: &Arc<Store>, client_id: &Arc<str>) -> Self {
        let number = store.session_number();
        store.note(|pending| {
            if let Some(changes) = pending.session(number) {
                changes.is_new = true;
                changes.client_id = Some(Arc::clone(client_id));
            }
        });
        Self {
            store: Arc::clone(store),
            number,
            client_id: Arc::clone(client_id),
            next_message: 1,
            ids_reserved: 0,
            expiry_s: 0,
            owner: None,
        }
    }

    /// A session that the database brought.
    pub(super) fn restored(
        store: &Arc<Store>,
        client_id: &Arc<str>,
        number: u64,
        next_message: u64,
        ids_reserved: u64,
        expiry_s: u32,
        owner: Option<Arc<str>>,
    ) -> Self {
        let (store, client_id) = (Arc::clone(store), Arc::clone(client_id));
        Self { store, number, client_id, next_message, ids_reserved, expiry_s, owner }
    }

    fn note(&self, change: impl FnOnce(&mut SessionChanges)) {
        self.store.note(|pending| {
            if let Some(changes) = pending.session(self.number) {
                change(changes);
            }
        });
    }

    fn record(&self, ends_ms: u64, will: Option<StoredWill>) {
        let (number, expiry_s, owner) = (self.number, self.expiry_s, self.owner.clone());
        let record = StoredSession { number, expiry_s, ends_ms, will, owner };
        self.note(|changes| {
            changes.client_id = Some(Arc::clone(&self.client_id));
            changes.record = Some(record);
        });
    }

    /// A connection serves the session of `owner`; it is kept for `expiry_s` when that has ended.
    pub(crate) fn connected(&mut self, expiry_s: u32, owner: Option<Arc<str>>) {
        self.expiry_s = expiry_s;
        self.owner = owner;
        self.record(codec::NEVER, None);
    }

    /// The client is away until `ends` at most; a will that waits for its delay is kept.
    pub(crate) fn away(&self, ends: Instant, will: Option<&PendingWill>) {
        let now_ms = self.store.now_ms();
        let will =
            will.map(|it| StoredWill { due_ms: to_ms(it.due, now_ms), will: it.will.clone() });
        self.record(to_ms(ends, now_ms), will);
    }

    /// The session is no more.
    pub(crate) fn end(self) {
        self.store.note(|pending| pending.end_session(self.number, &self.client_id));
    }

    pub(crate) fn subscribe(&self, subscription: &Subscription, is_new: bool) {
        self.note(|changes| {
            let filter = subscription.filter.clone();
            changes.subscriptions.put(filter, subscription.clone(), !is_new);
        });
    }

    pub(crate) fn unsubscribe(&self, filter: &Arc<str>) {
        self.note(|changes| changes.subscriptions.remove(Arc::clone(filter)));
    }

    /// A message waits; returns its number.
    pub(crate) fn queued(&mut self, delivery: &Delivery) -> u64 {
        let number = self.next_message;
        self.next_message += 1;
        let stored = StoredDelivery {
            message: self.store.stored(&delivery.message),
            qos: delivery.qos,
            retain: delivery.retain,
            ids: delivery.ids.clone(),
            share: delivery.share.clone(),
        };
        self.note(|changes| changes.queue.put(number, stored, false));
        number
    }

    /// Message `number` was sent with packet id `id`, the `ids_used`-th of the session.
    pub(crate) fn sent(&mut self, number: u64, id: u16, ids_used: u64) {
        // Long before the last one is used, so that it is on disk by then.
        let reserved = (ids_used + RESERVE / 2 >= self.ids_reserved).then(|| ids_used + RESERVE);
        self.ids_reserved = reserved.unwrap_or(self.ids_reserved);
        self.note(|changes| {
            changes.ids_reserved = reserved.or(changes.ids_reserved);
            if number > 0 {
                changes.in_flight.put(number, StoredInFlight { id, released: false }, false);
            }
        });
    }

    /// The client has message `number` of QoS 2: what is missing is PUBCOMP.
    pub(crate) fn released(&self, number: u64, id: u16) {
        self.note(|changes| {
            changes.queue.remove(number);
            changes.in_flight.put(number, StoredInFlight { id, released: true }, true);
        });
    }

    /// Nothing of message `number` is needed any more; `was_sent` if it had a packet id.
    pub(crate) fn done(&self, number: u64, was_sent: bool) {
        self.note(|changes| {
            changes.queue.remove(number);
            if was_sent {
                changes.in_flight.remove(number);
            }
        });
    }
}
