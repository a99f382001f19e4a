//! Wills: kept while their clients are connected, published by the broker. All together are bounded:
//! a CONNECT has room for a megabyte of one, and it stays for as long as its client does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::auth::Rights;
use crate::broker::Shared;
use crate::budget::Budget;
use crate::handler::{AckOutcome, AckReceiver, AckTicket, Busy, Origin, Publish};
use crate::message::Message;
use crate::wire::{PublishProperties, Will};

/// How long a will's handler may take to say that it is durable, before the will is given up.
const TRY_FOR: Duration = Duration::from_secs(60);

/// Wait before a will that failed is offered again.
const RETRY: Duration = Duration::from_millis(100);

/// A will's share of the bound on all of them; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    all: Arc<Budget>,
    bytes: usize,
}

impl Room {
    /// Room for a will, if there is some.
    pub(crate) fn find(all: &Arc<Budget>, will: &Will) -> Option<Self> {
        let bytes = cost(will);
        all.try_take(bytes).then(|| Self { all: Arc::clone(all), bytes })
    }

    /// Room for a will that a former process had: the bound may have been wider.
    pub(crate) fn restored(all: &Arc<Budget>, will: &Will) -> Self {
        let bytes = cost(will);
        all.take(bytes);
        Self { all: Arc::clone(all), bytes }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.give(self.bytes);
    }
}

fn cost(will: &Will) -> usize {
    const OVERHEAD: usize = 128;
    will.topic.len() + will.payload.len() + will.properties.forwarded.len() + OVERHEAD
}

/// The same will in memory of its own: as read, it keeps all of its CONNECT.
pub(crate) fn detached(will: Will) -> Will {
    let properties = PublishProperties {
        forwarded: Bytes::copy_from_slice(&will.properties.forwarded),
        ..will.properties
    };
    Will { payload: Bytes::copy_from_slice(&will.payload), properties, ..will }
}

/// A will whose connection has ended.
pub(crate) struct PendingWill {
    pub(crate) client_id: Arc<str>,
    pub(crate) will: Will,
    pub(crate) room: Room,
    /// When it is to be published if the client does not come back.
    pub(crate) due: Instant,
    /// What its client may do. `None` if a former process kept it, which looked at them last.
    pub(crate) rights: Option<Arc<dyn Rights>>,
}

impl PendingWill {
    /// Whether its client may publish it now.
    pub(crate) fn is_allowed(&self) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.may_publish(&self.will.topic))
    }
}

// By hand: rights have nothing to show.
impl fmt::Debug for PendingWill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingWill")
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

/// Answers one ticket.
pub(crate) struct Answer(parking_lot::Mutex<Option<oneshot::Sender<AckOutcome>>>);

impl Answer {
    pub(crate) fn new(sender: oneshot::Sender<AckOutcome>) -> Self {
        Self(parking_lot::Mutex::new(Some(sender)))
    }
}

impl AckReceiver for Answer {
    fn resolve(&self, _: u64, outcome: AckOutcome) {
        if let Some(sender) = self.0.lock().take() {
            // Whoever waited may have given up: then there is nobody to tell.
            let _unheard = sender.send(outcome);
        }
    }
}

/// A will on its way: through the handler if its topic is claimed, again until it is durable; to
/// subscribers and the retained messages after that.
pub(crate) struct Publication {
    client_id: Arc<str>,
    will: Will,
    _room: Room,
    order: u64,
    attempt: Option<Attempt>,
}

/// One offer to the handler.
struct Attempt {
    refused: Option<Busy>,
    outcome: oneshot::Receiver<AckOutcome>,
}

impl Publication {
    /// Publishes the will, or offers it to the handler for the first time, at once: whatever its
    /// client's next connection publishes comes behind it. Returns what is left to be seen through.
    pub(crate) fn begin(shared: &Shared, pending: PendingWill) -> Option<Self> {
        let PendingWill { client_id, will, room, .. } = pending;
        let order = shared.next_order();
        if shared.handler.claims(&will.topic).is_none() {
            shared.deliver(Message::from_will(will, client_id, order));
            return None;
        }
        let attempt = Attempt::new(shared, &client_id, &will);
        Some(Self { client_id, will, _room: room, order, attempt: Some(attempt) })
    }

    /// Sees it through.
    pub(crate) async fn finish(mut self, shared: &Shared) {
        if let Some(attempt) = self.attempt.take() {
            let durable = self.make_durable(shared, attempt);
            match tokio::time::timeout(TRY_FOR, durable).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    tracing::error!(client = %self.client_id, topic = %self.will.topic,
                        "a will could not be made durable within a minute and was given up");
                    return;
                }
            }
        }
        shared.deliver(Message::from_will(self.will, self.client_id, self.order));
    }

    /// Returns false when the will has become untrue: its client is back.
    async fn make_durable(&self, shared: &Shared, mut attempt: Attempt) -> bool {
        while !attempt.became_durable(shared).await {
            shared.handler.ready().await;
            // A handler that fails at once and is always ready would be asked in a circle.
            tokio::time::sleep(RETRY).await;
            if shared.registry.is_connected(&self.client_id) {
                return false;
            }
            attempt = Attempt::new(shared, &self.client_id, &self.will);
        }
        true
    }
}

impl Attempt {
    fn new(shared: &Shared, client_id: &Arc<str>, will: &Will) -> Self {
        let (sender, outcome) = oneshot::channel();
        let receiver = Arc::new(Answer::new(sender));
        let publish = Publish {
            topic: will.topic.clone(),
            payload: will.payload.clone(),
            qos: will.qos,
            retain: will.retain,
            origin: Origin::Will(client_id.clone()),
        };
        let refused = shared.handler.handle(publish, AckTicket::new(receiver, 0)).err();
        Self { refused, outcome }
    }

    async fn became_durable(mut self, shared: &Shared) -> bool {
        while let Some(Busy { publish, ticket }) = self.refused.take() {
            shared.handler.ready().await;
            self.refused = shared.handler.handle(publish, ticket).err();
        }
        matches!(self.outcome.await, Ok(AckOutcome::Durable(_)))
    }
}
