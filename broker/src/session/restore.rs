//! A session as the database kept it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Beside, Delivery, QueueLimits, Session, State, Waiting};
use crate::persist::Kept;
use crate::subscriptions::Subscription;

/// What the database kept of a session.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) kept: Kept,
    pub(crate) subscriptions: Vec<Subscription>,
    /// What was sent: its packet id, its number, and the message unless the client has it.
    pub(crate) sent: Vec<(u16, u64, Option<Delivery>)>,
    /// What waits, and its number.
    pub(crate) queue: Vec<(u64, Delivery)>,
    pub(crate) ids_used: u64,
}

impl Session {
    /// The session of a client that is away, as a former process left it. It counts in the bounds,
    /// and may pass them: they may have been wider.
    pub(crate) fn restore(
        client_id: Arc<str>,
        limits: Arc<QueueLimits>,
        restored: Restored,
    ) -> Self {
        let mut state = State { kept: Some(restored.kept), ..State::default() };
        for subscription in restored.subscriptions {
            state.subscriptions.insert(subscription.filter.clone(), subscription);
        }
        state.outgoing.restore(restored.ids_used);
        for (id, number, delivery) in restored.sent {
            let bytes = delivery.as_ref().map_or(0, |delivery| delivery.message.cost());
            state.bytes += bytes;
            state.outgoing.restore_sent(id, Beside { bytes, number, receipt: None }, delivery);
        }
        for (number, delivery) in restored.queue {
            let bytes = delivery.message.cost();
            state.bytes += bytes;
            let beside = Beside { bytes, number, receipt: None };
            state.queue.push_back(Waiting { delivery, beside });
        }
        limits.total.take(state.bytes);
        limits.away.take(state.bytes);
        Self { client_id, state: Mutex::new(state), wake: Notify::new(), limits }
    }
}
