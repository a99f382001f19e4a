//! What the broker remembers of a client between connections: its subscriptions, its QoS 2 ids, and
//! the messages on their way to it.
//!
//! A message for the client waits in `queue` (bounded in bytes) until the connection has room for
//! it; at QoS 1 and 2 it then stays in `in_flight`, and counted, until the client acknowledges it. A
//! client that is away gets what was queued, and what it had not acknowledged, when it returns; at
//! QoS 0 nothing is kept for it.

mod outgoing;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::handler::QoS;
use crate::message::Message;
use crate::subscriptions::Subscription;

pub(crate) use outgoing::{Next, Outgoing};

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
    queue: VecDeque<Delivery>,
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
        state.connected = true;
        state.overflowed = false;
        state.outgoing.resend();
    }

    /// The connection has ended: what was of QoS 0 is dropped. Returns what other members of its
    /// groups can be given instead.
    pub(crate) fn disconnect(&self) -> Vec<Delivery> {
        let mut state = self.lock();
        state.connected = false;
        state.retained.retain(|delivery| delivery.qos != QoS::AtMostOnce);
        let unsent = self.take_shared(&mut state);
        let mut freed = 0;
        state.queue.retain(|delivery| {
            let keep = delivery.qos != QoS::AtMostOnce;
            freed += if keep { 0 } else { delivery.message.cost() };
            keep
        });
        self.free(&mut state, freed);
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
        if state.queue.iter().all(|delivery| delivery.share.is_none()) {
            return Vec::new();
        }
        let queue = std::mem::take(&mut state.queue);
        let (shared, kept): (VecDeque<_>, _) = queue.into_iter().partition(|d| d.share.is_some());
        state.queue = kept;
        self.free(state, shared.iter().map(|delivery| delivery.message.cost()).sum());
        shared.into()
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
    /// own loss, and one that is connected is given up. Returns whether there was room.
    pub(crate) fn enqueue(&self, delivery: Delivery) -> bool {
        let mut state = self.lock();
        if delivery.qos == QoS::AtMostOnce && !state.connected {
            return true;
        }
        let must = delivery.qos != QoS::AtMostOnce && state.connected;
        let room = self.push(&mut state, delivery);
        state.overflowed |= must && !room;
        if state.connected && (room || state.overflowed) {
            drop(state);
            self.wake.notify_one();
        }
        room
    }

    /// Puts a message in the queue that others could be given as well, unless the client has come or
    /// gone since its `standing` was asked for. Returns whether it was taken.
    pub(crate) fn offer(&self, delivery: Delivery, standing: Standing) -> bool {
        let mut state = self.lock();
        let changed = state.connected == (standing == Standing::Away);
        if changed || delivery.qos == QoS::AtMostOnce && !state.connected {
            return false;
        }
        let room = self.push(&mut state, delivery);
        if state.connected && room {
            drop(state);
            self.wake.notify_one();
        }
        room
    }

    fn push(&self, state: &mut State, delivery: Delivery) -> bool {
        let cost = delivery.message.cost();
        let room = state.bytes.saturating_add(cost) <= self.limits.session
            && self.limits.total.try_take(cost);
        if room {
            state.bytes += cost;
            state.queue.push_back(delivery);
        }
        room
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
            let first = if from_store { state.retained.front() } else { state.queue.front() };
            if first?.qos != QoS::AtMostOnce && !state.outgoing.has_room(receive_maximum) {
                return None;
            }
            let taken =
                if from_store { state.retained.pop_front() } else { state.queue.pop_front() };
            let delivery = taken?;
            let cost = if from_store { 0 } else { delivery.message.cost() };
            let expired = delivery
                .message
                .expires
                .is_some_and(|expires| expires <= tokio::time::Instant::now());
            if expired || delivery.qos == QoS::AtMostOnce {
                self.free(&mut state, cost);
            }
            if expired {
                continue;
            }
            return Some(state.outgoing.send(delivery, cost));
        }
    }

    /// The client acknowledged message `id`, finally.
    pub(crate) fn acknowledged(&self, id: u16) {
        let mut state = self.lock();
        if let Some(bytes) = state.outgoing.remove(id) {
            self.free(&mut state, bytes);
        }
    }

    /// The client has message `id` of QoS 2. Returns whether there is such a one.
    pub(crate) fn received(&self, id: u16) -> bool {
        let mut state = self.lock();
        let Some(bytes) = state.outgoing.release(id) else { return false };
        self.free(&mut state, bytes);
        true
    }

    fn free(&self, state: &mut State, bytes: usize) {
        state.bytes = state.bytes.saturating_sub(bytes);
        self.limits.total.give(bytes);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.limits.total.give(self.state.get_mut().bytes);
    }
}

#[cfg(test)]
pub(crate) mod tests;
