//! From what the database holds to what the broker holds.

use std::sync::Arc;

use hashbrown::HashMap;

use super::codec::{NEVER, StoredDelivery, StoredInFlight, StoredMessage, StoredWill};
use super::tables::LoadedSession;
use super::{Kept, Opened, Store, from_ms};
use crate::broker::Shared;
use crate::message::Message;
use crate::session::{Delivery, Restored, Session};
use crate::will::{PendingWill, Room};

impl Opened {
    /// Puts everything in its place. What expired meanwhile is dropped; a session that did ends, with
    /// the will it left, at the broker's first look.
    pub(crate) fn restore(self, shared: &Shared) {
        let Self { store, loaded } = self;
        let now_ms = store.now_ms();
        let (mut retained, mut messages) = (0, 0);
        let sessions = loaded.sessions.len();
        for stored in loaded.retained {
            shared.order_after(stored.message.order);
            if is_over(stored.expires_ms, now_ms) {
                store.forget_retained(&stored.message.topic);
            } else {
                shared.retained.restore(alive(stored, now_ms));
                retained += 1;
            }
        }
        for (order, parcel) in loaded.parcels {
            shared.parcels.restore(order, parcel);
        }
        for session in loaded.sessions {
            messages += session.queue.len();
            restore(shared, &store, session, now_ms);
        }
        tracing::info!(retained, sessions, messages, "sessions and retained messages are back");
    }
}

fn restore(shared: &Shared, store: &Arc<Store>, loaded: LoadedSession, now_ms: u64) {
    let LoadedSession { client_id, record, subscriptions, queue, in_flight, ids_reserved } = loaded;
    let last = queue.iter().map(|(number, _)| *number);
    let last = last.chain(in_flight.iter().map(|(number, _)| *number)).max().unwrap_or(0);
    let owner = record.owner.clone();
    let kept = Kept::restored(
        store,
        &client_id,
        record.number,
        last + 1,
        ids_reserved,
        record.expiry_s,
        owner.clone(),
    );
    let mut ids: HashMap<u64, StoredInFlight> = in_flight.into_iter().collect();
    let (mut sent, mut waiting) = (Vec::new(), Vec::new());
    for (number, stored) in queue {
        let was_sent = ids.remove(&number);
        match was_sent {
            // What may have reached the client has to be seen to its end, of use or not.
            Some(StoredInFlight { id, .. }) => {
                sent.push((id, number, Some(delivery(stored, now_ms))));
            }
            None if is_over(stored.message.expires_ms, now_ms) => kept.done(number, false),
            None => waiting.push((number, delivery(stored, now_ms))),
        }
    }
    sent.extend(ids.into_iter().map(|(number, it)| (it.id, number, None)));
    // Again in the order in which they were sent [MQTT-4.6.0-1].
    sent.sort_unstable_by_key(|(_, number, _)| *number);
    let restored = Restored { kept, subscriptions, sent, queue: waiting, ids_used: ids_reserved };
    let limits = Arc::clone(shared.registry.limits());
    let session = Arc::new(Session::restore(client_id, limits, restored));
    let subscriptions: Vec<_> = session.lock().subscriptions.values().cloned().collect();
    for subscription in subscriptions {
        shared.subscriptions.insert(&session, subscription);
    }
    let ends_ms = if record.ends_ms == NEVER {
        // Its client was connected: it was not away before we were.
        now_ms.saturating_add(u64::from(record.expiry_s) * 1000)
    } else {
        record.ends_ms
    };
    let will = record.will.map(|StoredWill { due_ms, will }| PendingWill {
        client_id: session.client_id.clone(),
        room: Room::restored(&shared.wills, &will),
        will,
        due: from_ms(due_ms, now_ms),
        rights: None,
    });
    let ends = from_ms(ends_ms, now_ms);
    if let Some(kept) = session.lock().kept.as_ref().filter(|_| record.ends_ms == NEVER) {
        // Were we to be killed again, it would otherwise begin to expire again.
        kept.away(ends, None);
    }
    shared.registry.restore(session, owner, ends, will);
}

fn delivery(stored: StoredDelivery, now_ms: u64) -> Delivery {
    let StoredDelivery { message, qos, retain, ids, share } = stored;
    Delivery { message: alive(message, now_ms), qos, retain, ids, share }
}

/// The message, which expires when it always would have.
fn alive(stored: StoredMessage, now_ms: u64) -> Arc<Message> {
    let StoredMessage { message, expires_ms } = stored;
    if expires_ms == NEVER {
        return message;
    }
    let expires = Some(from_ms(expires_ms, now_ms));
    Arc::new(Message { expires, ..Arc::unwrap_or_clone(message) })
}

fn is_over(expires_ms: u64, now_ms: u64) -> bool {
    expires_ms != NEVER && expires_ms <= now_ms
}
