//! What the broker remembers of a client between connections: its subscriptions, its QoS 2 ids, and
//! the messages on their way to it.
//!
//! A message for the client waits in `queue` (bounded in bytes) until the connection has room for
//! it; at QoS 1 and 2 it then stays in `in_flight`, and counted, until the client acknowledges it. A
//! client that is away gets what was queued, and what it had not acknowledged, when it returns; at
//! QoS 0 nothing is kept for it.

mod outgoing;
mod restore;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::handler::QoS;
use crate::message::Message;
use crate::parcel::Receipt;
use crate::persist::Kept;
use crate::subscriptions::Subscription;

pub(crate) use outgoing::{Next, Outgoing};
pub(crate) use restore::Restored;

/// One client's session. Its connection, if it has one, is the only one that uses it: a second
/// connection with the same client id gets it when the first has let go.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Arc<str>,
    state: Mutex<State>,
    /// There is something to send, or the queue overflowed.
    pub(crate) wake: Notify,
    limits: Arc<QueueLimits>,
}

/// The bounds on what waits for clients.
#[derive(Debug)]
pub(crate) struct QueueLimits {
    /// Bytes for one client.
    pub(crate) session: usize,
    /// Bytes for all.
    pub(crate) total: Budget,
    /// Of those, bytes for clients that are away: they must not take the room of who is here.
    pub(crate) away: Budget,
}

impl QueueLimits {
    /// Bounds in which clients that are away have half of `total` together.
    pub(crate) fn new(session: usize, total: usize) -> Self {
        Self { session, total: Budget::new(total), away: Budget::new(total / 2) }
    }
}

/// See [`Session`].
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Ids of QoS 2 publishes with PUBREC and without PUBREL.
    pub(crate) received: HashSet<u16>,
    /// Ids and digests of QoS 2 publishes that subscribers have though no PUBREC left.
    pub(crate) shown: HashMap<u16, u64>,
    pub(crate) subscriptions: HashMap<Arc<str>, Subscription>,
    /// A connection serves this session.
    pub(crate) connected: bool,
    /// A connected client fell too far behind: a message of QoS 1 or 2 found no room.
    pub(crate) overflowed: bool,
    pub(crate) outgoing: Outgoing,
    /// How many messages of QoS 1 and 2 the connected client takes unacknowledged.
    pub(crate) receive_maximum: usize,
    /// Retained messages that a SUBSCRIBE brought; they are the store's, so only what is kept here of
    /// each is bounded.
    retained: VecDeque<Delivery>,
    queue: VecDeque<Waiting>,
    /// Its place in the database, if the session outlives its connection.
    pub(crate) kept: Option<Kept>,
    /// Bytes of `queue` and of what is in flight.
    bytes: usize,
}

/// A message as one subscriber gets it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Identifiers of the subscriptions that it matches (v5).
    pub(crate) ids: Vec<u32>,
    /// The shared filter that it came by: if this subscriber cannot take it, another one can.
    pub(crate) share: Option<Arc<str>>,
}

/// A message in the queue.
#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    beside: Beside,
}

/// What is kept beside a message until the client has it.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// In the bounds.
    bytes: usize,
    /// In the database; 0 if it is not there.
    number: u64,
    /// Of a parcel.
    receipt: Option<Arc<Receipt>>,
}

/// What became of a message that was to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queued {
    /// There was no room; the client is away.
    NoRoomAway,
    /// There was no room.
    NoRoom,
    /// It waits, or is of no use to a client that is away.
    Taken,
    /// It waits and is to be in the database before its publisher hears that it was taken.
    Kept,
}

impl Queued {
    pub(crate) fn had_room(self) -> bool {
        matches!(self, Self::Taken | Self::Kept)
    }
}

/// How soon a session's client would get a message, were it put in its queue now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is connected and keeps up.
    Free,
    /// It is connected, and has enough to do.
    Behind,
    /// It is not connected.
    Away,
}

/// Messages that may wait for a client that keeps up.
const AHEAD: usize = 64;

impl Session {
    pub(crate) fn new(client_id: Arc<str>, limits: Arc<QueueLimits>) -> Self {
        Self { client_id, state: Mutex::default(), wake: Notify::new(), limits }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A connection begins to serve the session.
    pub(crate) fn connect(&self) {
        let mut state = self.lock();
        if !state.connected {
            self.limits.away.give(state.bytes);
        }
        state.connected = true;
        state.overflowed = false;
        state.outgoing.resend();
    }

    /// The connection has ended: what was of QoS 0 is dropped. Returns what other members of its
    /// groups can be given instead.
    pub(crate) fn disconnect(&self) -> Vec<Delivery> {
        let mut state = self.lock();
        state.retained.retain(|delivery| delivery.qos != QoS::AtMostOnce);
        let unsent = self.take_shared(&mut state);
        let mut freed = 0;
        state.queue.retain(|Waiting { delivery, .. }| {
            let keep = delivery.qos != QoS::AtMostOnce;
            freed += if keep { 0 } else { delivery.message.cost() };
            keep
        });
        self.free(&mut state, freed);
        if std::mem::take(&mut state.connected) {
            self.limits.away.take(state.bytes);
        }
        unsent
    }

    /// The session has ended, and is nobody's subscriber any more. Returns what other members of its
    /// groups can be given instead: what was not sent, and of what was sent that of QoS 1.
    pub(crate) fn end(&self) -> Vec<Delivery> {
        let mut state = self.lock();
        let mut left = state.outgoing.shared();
        left.extend(self.take_shared(&mut state));
        left
    }

    /// Takes what came by shared subscriptions from the queue.
    fn take_shared(&self, state: &mut State) -> Vec<Delivery> {
        if state.queue.iter().all(|waiting| waiting.delivery.share.is_none()) {
            return Vec::new();
        }
        let queue = std::mem::take(&mut state.queue);
        let (shared, rest): (VecDeque<_>, _) =
            queue.into_iter().partition(|waiting| waiting.delivery.share.is_some());
        state.queue = rest;
        self.free(state, shared.iter().map(|waiting| waiting.delivery.message.cost()).sum());
        if let Some(kept) = &state.kept {
            let stored = shared.iter().filter(|waiting| waiting.beside.number > 0);
            stored.for_each(|waiting| kept.done(waiting.beside.number, false));
        }
        shared.into_iter().map(|waiting| waiting.delivery).collect()
    }

    pub(crate) fn standing(&self) -> Standing {
        let state = self.lock();
        if !state.connected {
            Standing::Away
        } else if state.queue.len() < AHEAD && state.outgoing.has_room(state.receive_maximum) {
            Standing::Free
        } else {
            Standing::Behind
        }
    }

    /// Puts a message that only this client gets in the queue; if there is no room it is the client's
    /// own loss, and one that is connected is given up. Of a client that is away the newest message
    /// finds no room: what waits already was promised to it.
    pub(crate) fn enqueue(&self, delivery: Delivery) -> Queued {
        let mut state = self.lock();
        if delivery.qos == QoS::AtMostOnce && !state.connected {
            return Queued::Taken;
        }
        let must = delivery.qos != QoS::AtMostOnce && state.connected;
        let queued = self.push(&mut state, delivery, None);
        state.overflowed |= must && !queued.had_room();
        if state.connected && (queued.had_room() || state.overflowed) {
            drop(state);
            self.wake.notify_one();
        }
        queued
    }

    /// Puts a message in the queue that others could be given as well, unless the client has come or
    /// gone since its `standing` was asked for.
    pub(crate) fn offer(&self, delivery: Delivery, standing: Standing) -> Queued {
        let mut state = self.lock();
        let changed = state.connected == (standing == Standing::Away);
        if changed || delivery.qos == QoS::AtMostOnce && !state.connected {
            return Queued::NoRoomAway;
        }
        let queued = self.push(&mut state, delivery, None);
        if state.connected && queued.had_room() {
            drop(state);
            self.wake.notify_one();
        }
        queued
    }

    /// Puts a parcel in the queue of a client that is connected, if there is room.
    pub(crate) fn enqueue_parcel(&self, delivery: Delivery, receipt: Arc<Receipt>) {
        let mut state = self.lock();
        if state.connected && self.push(&mut state, delivery, Some(receipt)).had_room() {
            drop(state);
            self.wake.notify_one();
        }
    }

    fn push(&self, state: &mut State, delivery: Delivery, receipt: Option<Arc<Receipt>>) -> Queued {
        let cost = delivery.message.cost();
        let room = state.bytes.saturating_add(cost) <= self.limits.session
            && self.take(cost, state.connected);
        if !room {
            return if state.connected { Queued::NoRoom } else { Queued::NoRoomAway };
        }
        state.bytes += cost;
        // A parcel is in the database already, in a place of its own.
        let keep = delivery.qos != QoS::AtMostOnce && receipt.is_none();
        let kept = state.kept.as_mut().filter(|_| keep);
        let queued = if kept.is_some() { Queued::Kept } else { Queued::Taken };
        let number = kept.map_or(0, |kept| kept.queued(&delivery));
        let beside = Beside { bytes: cost, number, receipt };
        state.queue.push_back(Waiting { delivery, beside });
        queued
    }

    /// Takes bytes from the bounds that all sessions share.
    fn take(&self, bytes: usize, connected: bool) -> bool {
        if !connected && !self.limits.away.try_take(bytes) {
            return false;
        }
        let taken = self.limits.total.try_take(bytes);
        if !taken && !connected {
            self.limits.away.give(bytes);
        }
        taken
    }

    /// Puts the retained messages that a SUBSCRIBE brings before everything that waits. Returns how
    /// many found no room: a client may subscribe faster than it reads.
    pub(crate) fn enqueue_retained(&self, mut deliveries: Vec<Delivery>) -> usize {
        let mut state = self.lock();
        let limit = self.limits.session / size_of::<Delivery>();
        let room = limit.saturating_sub(state.retained.len());
        let dropped = deliveries.len().saturating_sub(room);
        deliveries.truncate(room);
        state.retained.extend(deliveries);
        drop(state);
        self.wake.notify_one();
        dropped
    }

    /// What is to be sent next, within the client's receive maximum.
    pub(crate) fn next(&self, receive_maximum: usize) -> Option<Next> {
        let mut state = self.lock();
        if let Some(again) = state.outgoing.next_again(receive_maximum) {
            return Some(again);
        }
        loop {
            let from_store = !state.retained.is_empty();
            let first = if from_store {
                state.retained.front()
            } else {
                state.queue.front().map(|waiting| &waiting.delivery)
            };
            if first?.qos != QoS::AtMostOnce && !state.outgoing.has_room(receive_maximum) {
                return None;
            }
            let taken = if from_store {
                state.retained.pop_front().map(|delivery| {
                    let beside = Beside::default();
                    Waiting { delivery, beside }
                })
            } else {
                state.queue.pop_front()
            };
            let Waiting { delivery, beside } = taken?;
            let number = beside.number;
            let expired = delivery
                .message
                .expires
                .is_some_and(|expires| expires <= tokio::time::Instant::now());
            if expired || delivery.qos == QoS::AtMostOnce {
                self.free(&mut state, beside.bytes);
            }
            if expired {
                if let Some(kept) = state.kept.as_mut().filter(|_| number > 0) {
                    kept.done(number, false);
                }
                continue;
            }
            let next = state.outgoing.send(delivery, beside);
            let used = state.outgoing.ids_used();
            if let (Next::Publish { id: id @ 1.., .. }, Some(kept)) = (&next, &mut state.kept) {
                kept.sent(number, *id, used);
            }
            return Some(next);
        }
    }

    /// The client acknowledged message `id`, finally.
    pub(crate) fn acknowledged(&self, id: u16) {
        if let Some(receipt) = self.settled(id) {
            receipt.acknowledged();
        }
    }

    /// Nothing more is to be done about message `id`. Returns the receipt of a parcel, which has not
    /// been told: the client may have it or not.
    pub(crate) fn settled(&self, id: u16) -> Option<Arc<Receipt>> {
        let mut state = self.lock();
        let Beside { bytes, number, receipt } = state.outgoing.remove(id)?;
        self.free(&mut state, bytes);
        if let Some(kept) = state.kept.as_mut().filter(|_| number > 0) {
            kept.done(number, true);
        }
        receipt
    }

    /// The client has message `id` of QoS 2. Returns whether there is such a one.
    pub(crate) fn received(&self, id: u16) -> bool {
        let mut state = self.lock();
        let Some((bytes, number)) = state.outgoing.release(id) else { return false };
        self.free(&mut state, bytes);
        if let Some(kept) = state.kept.as_mut().filter(|_| number > 0) {
            kept.released(number, id);
        }
        true
    }

    fn free(&self, state: &mut State, bytes: usize) {
        state.bytes = state.bytes.saturating_sub(bytes);
        self.limits.total.give(bytes);
        if !state.connected {
            self.limits.away.give(bytes);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        self.limits.total.give(state.bytes);
        if !state.connected {
            self.limits.away.give(state.bytes);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
