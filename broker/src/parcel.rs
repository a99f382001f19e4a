//! Messages for one client by name, kept until it has acknowledged them.
//!
//! Life of a parcel: *waiting*, durable before its sender hears of it → placed in its client's session
//! whenever that is connected and subscribes to its topic → *delivered* with the client's
//! acknowledgement, or *expired*. What is placed goes the way of every message, in the order of
//! sending, at quality of service 1 at most; if the session ends first, or we are killed, the parcel is
//! placed again in the next one. So a client gets it at least once, whether or not it starts clean,
//! and even if it has never been here before.
//!
//! That a parcel was delivered is told once it is on disk: what was told stays so after a kill. What
//! became of a parcel is remembered for a day.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::broker::{Broker, Shared};
use crate::handler::{AckOutcome, AckReceiver, AckTicket, QoS};
use crate::message::Message;
use crate::persist::{Store, from_ms};
use crate::session::{Delivery, Session};
use crate::topic;
use crate::will::Answer;
use crate::wire::PublishProperties;

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
    #[error("{MAX_WAITING} parcels wait for {0} already")]
    Waiting(Arc<str>),
    /// Too many are remembered.
    #[error("all parcels together have reached {MAX_BYTES} bytes")]
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
        let waiting = |entry: &&Entry| {
            entry.parcel.state == State::Waiting && entry.parcel.client == parcel.client
        };
        if inner.all.values().filter(waiting).count() >= MAX_WAITING {
            return Err(SendError::Waiting(parcel.client));
        }
        if inner.bytes + cost(&parcel) > MAX_BYTES {
            return Err(SendError::Full);
        }
        let order = inner.all.last_key_value().map_or(1, |(last, _)| last + 1);
        store.keep_parcel(order, &parcel, false);
        inner.insert(order, parcel);
        Ok(())
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
        if let Some(store) = &self.store {
            store.keep_parcel(order, &entry.parcel, true);
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
        let wanted = inner.all.iter().filter(|(_, entry)| {
            entry.parcel.state == State::Waiting
                && entry.placed.strong_count() == 0
                && client.is_none_or(|client| *entry.parcel.client == *client)
        });
        wanted
            .map(|(order, e)| (*order, Arc::clone(&e.parcel.client), Arc::clone(&e.parcel.topic)))
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
                let Some(entry) = inner.all.remove(&order) else { continue };
                inner.by_id.remove(&entry.parcel.id);
                inner.bytes = inner.bytes.saturating_sub(cost(&entry.parcel));
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
        self.all.insert(order, Entry { parcel, placed: Weak::new(), untold: false });
    }
}

fn cost(parcel: &Parcel) -> usize {
    parcel.payload.len() + parcel.answer.as_ref().map_or(0, Bytes::len) + OVERHEAD
}

impl Shared {
    /// Places what waits for a client that is connected, where it subscribes to it.
    pub(crate) fn give_parcels(&self, session: &Arc<Session>) {
        for (order, _, topic) in self.parcels.unplaced(Some(&session.client_id)) {
            self.give_parcel(session, order, &topic);
        }
    }

    fn give_parcel(&self, session: &Arc<Session>, order: u64, topic: &str) {
        let Some(store) = &self.store else { return };
        let wanted = {
            let state = session.lock();
            let matching = state
                .subscriptions
                .values()
                .filter(|s| !s.is_shared() && topic::matches(topic, &s.filter));
            let qos = matching.map(|s| (s.effective(QoS::AtLeastOnce), s.id));
            qos.max_by_key(|(qos, _)| *qos).filter(|_| state.connected)
        };
        let Some((qos, id)) = wanted else { return };
        let Some((parcel, receipt)) = self.parcels.place(order) else { return };
        let now_ms = store.now_ms();
        let message = Message {
            topic: parcel.topic,
            payload: parcel.payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            from: "".into(),
            properties: PublishProperties::default(),
            expires: Some(from_ms(parcel.expires_ms, now_ms)),
            order: 0,
        };
        let ids = id.into_iter().collect();
        let delivery =
            Delivery { message: Arc::new(message), qos, retain: false, ids, share: None };
        // Where there is no room the receipt goes, and it is placed another time.
        session.enqueue_parcel(delivery, receipt);
    }

    /// Once a second: what no event has placed.
    pub(crate) fn sweep_parcels(&self) {
        self.parcels.sweep();
        for (order, client, topic) in self.parcels.unplaced(None) {
            if let Some(session) = self.registry.live(&client) {
                self.give_parcel(&session, order, &topic);
            }
        }
    }
}

impl Broker {
    /// Takes a parcel: when this returns it is on disk, and in its client's session if that is
    /// connected. Its `state` is of no matter.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, parcel: Parcel) -> Result<(), SendError> {
        let client = Arc::clone(&parcel.client);
        let parcel = Parcel { state: State::Waiting, ..parcel };
        self.shared.parcels.add(parcel)?;
        let (sender, outcome) = oneshot::channel();
        if let Some(store) = &self.shared.store {
            store.when_durable(AckTicket::new(Arc::new(Answer::new(sender)), 0));
        }
        match outcome.await {
            Ok(AckOutcome::Durable(_)) => {}
            Ok(AckOutcome::Failed) | Err(_) => return Err(SendError::NotDurable),
        }
        if let Some(session) = self.shared.registry.live(&client) {
            self.shared.give_parcels(&session);
        }
        Ok(())
    }

    /// A parcel, as long as it is remembered.
    #[must_use]
    pub fn parcel(&self, id: u64) -> Option<Parcel> {
        self.shared.parcels.get(id)
    }

    /// The parcel once `enough` says so. Cancel-safe; `None` when it is not, or no more, remembered.
    pub async fn parcel_when(&self, id: u64, enough: impl Fn(&Parcel) -> bool) -> Option<Parcel> {
        loop {
            let mut changed = std::pin::pin!(self.shared.parcels.changed.notified());
            // Registered before the look, so that no change between the two is missed.
            changed.as_mut().enable();
            let parcel = self.parcel(id)?;
            if enough(&parcel) {
                return Some(parcel);
            }
            changed.await;
        }
    }

    /// Notes what the owner of a parcel for `client` learned of it. Returns whether there is one.
    pub fn answer_parcel(&self, client: &str, id: u64, answer: Bytes) -> bool {
        let parcels = &self.shared.parcels;
        let order = {
            let inner = parcels.inner.lock();
            let order = inner.by_id.get(&id).copied();
            order.filter(|order| inner.all.get(order).is_some_and(|e| *e.parcel.client == *client))
        };
        let Some(order) = order else { return false };
        parcels.alter(order, |parcel| parcel.answer = Some(answer));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::tests::{disk::Disk, is_durable};

    fn parcel(id: u64) -> Parcel {
        Parcel {
            id,
            client: "c".into(),
            topic: "t".into(),
            payload: Bytes::from_static(b"p"),
            sent_ms: 1_000,
            expires_ms: 2_000,
            state: State::Waiting,
            answer: None,
        }
    }

    fn state(parcels: &Parcels, id: u64) -> State {
        parcels.get(id).unwrap().state
    }

    #[test]
    fn a_delivery_is_told_once_it_is_on_disk_and_a_parcel_that_lost_its_session_is_placed_again() {
        let disk = Disk::default();
        let now = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
        let store = disk.open(&now).store;
        let parcels = Arc::new(Parcels::new(Some(store.clone())));
        parcels.add(parcel(7)).unwrap();
        assert!(matches!(parcels.add(parcel(7)), Err(SendError::Known(_))));
        assert!(is_durable(&store));
        let [(order, ..)] = parcels.unplaced(Some("c"))[..] else { panic!("none waits") };
        let (_, lost) = parcels.place(order).unwrap();
        assert!(parcels.place(order).is_none() && parcels.unplaced(None).is_empty());
        drop(lost);
        let (_, receipt) = parcels.place(order).unwrap();
        disk.fails.store(true, std::sync::atomic::Ordering::SeqCst);
        receipt.acknowledged();
        drop(receipt);
        assert!(!is_durable(&store));
        assert_eq!(state(&parcels, 7), State::Waiting, "it is not on disk");
        assert!(parcels.place(order).is_none(), "and it is not sent again");
        disk.fails.store(false, std::sync::atomic::Ordering::SeqCst);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while state(&parcels, 7) == State::Waiting {
            assert!(std::time::Instant::now() < deadline, "the delivery was never told");
            std::thread::yield_now();
        }
        let opened = disk.after_power_loss().open(&now);
        let again = Parcels::new(None);
        for (order, parcel) in opened.parcels() {
            again.restore(order, parcel);
        }
        assert_eq!(state(&again, 7), State::Delivered { at_ms: 1_000 });
        // It is forgotten a day after it was of no more use.
        now.store(2_000 + REMEMBERED_MS, std::sync::atomic::Ordering::SeqCst);
        parcels.sweep();
        assert!(parcels.get(7).is_none());
    }

    #[test]
    fn one_client_has_so_many_and_what_expires_is_told() {
        let now = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
        let store = Disk::default().open(&now).store;
        let parcels = Arc::new(Parcels::new(Some(store)));
        for id in 0..100 {
            parcels.add(parcel(id)).unwrap();
        }
        assert!(matches!(parcels.add(parcel(100)), Err(SendError::Waiting(_))));
        now.store(2_000, std::sync::atomic::Ordering::SeqCst);
        parcels.sweep();
        assert_eq!(state(&parcels, 0), State::Expired);
        parcels.add(parcel(100)).unwrap();
    }
}
