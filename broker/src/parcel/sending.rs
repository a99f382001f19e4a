//! The way of a parcel: from its sender to its client's session, and what its sender learns.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Parcel, SendError, State};
use crate::broker::{Broker, Shared};
use crate::handler::{AckOutcome, AckTicket, QoS};
use crate::message::Message;
use crate::persist::from_ms;
use crate::session::{Delivery, Session};
use crate::topic;
use crate::will::Answer;
use crate::wire::PublishProperties;

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
    /// Takes a parcel: when this returns it (or the one that is known by its id) is on disk, and in its
    /// client's session if that is connected. Its `state` is of no matter.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, parcel: Parcel) -> Result<(), SendError> {
        let client = Arc::clone(&parcel.client);
        let parcel = Parcel { state: State::Waiting, ..parcel };
        let known = match self.shared.parcels.add(parcel) {
            Ok(()) => None,
            // Its first sender may have heard that it could not be made durable, or nothing yet.
            Err(SendError::Known(known)) => Some(known),
            Err(refused) => return Err(refused),
        };
        let (sender, outcome) = oneshot::channel();
        if let Some(store) = &self.shared.store {
            store.when_durable(AckTicket::new(Arc::new(Answer::new(sender)), 0));
        }
        match outcome.await {
            Ok(AckOutcome::Durable(_)) => {}
            Ok(AckOutcome::Failed) | Err(_) => return Err(SendError::NotDurable),
        }
        if let Some(known) = known {
            return Err(SendError::Known(known));
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
