//! Wills: kept by the link, published by the broker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::broker::Shared;
use crate::handler::{AckOutcome, AckReceiver, AckTicket, Busy, Origin, Publish};
use crate::message::Message;
use crate::wire::Will;

/// How long a will's handler may take to say that it is durable, before the will is given up.
const TRY_FOR: Duration = Duration::from_secs(60);

/// A will whose connection has ended.
#[derive(Debug)]
pub(crate) struct PendingWill {
    pub(crate) client_id: Arc<str>,
    pub(crate) will: Will,
    /// When it is to be published if the client does not come back.
    pub(crate) due: Instant,
}

/// Answers one ticket.
struct Answer(parking_lot::Mutex<Option<oneshot::Sender<AckOutcome>>>);

impl AckReceiver for Answer {
    fn resolve(&self, _: u64, outcome: AckOutcome) {
        if let Some(sender) = self.0.lock().take() {
            // Whoever waited may have given up: then there is nobody to tell.
            let _unheard = sender.send(outcome);
        }
    }
}

/// Publishes a will: through the handler if the topic is claimed, again until it is durable; to
/// subscribers and the retained messages after that.
pub(crate) async fn publish(shared: Arc<Shared>, pending: PendingWill) {
    let PendingWill { client_id, will, .. } = pending;
    if shared.handler.claims(&will.topic).is_some() {
        let durable = tokio::time::timeout(TRY_FOR, make_durable(&shared, &client_id, &will)).await;
        if durable.is_err() {
            tracing::error!(client = %client_id, topic = %will.topic,
                "a will could not be made durable within a minute and was given up");
            return;
        }
    }
    shared.deliver(Message::from_will(will, client_id));
}

async fn make_durable(shared: &Shared, client_id: &Arc<str>, will: &Will) {
    loop {
        let (sender, outcome) = oneshot::channel();
        let receiver = Arc::new(Answer(parking_lot::Mutex::new(Some(sender))));
        let mut offer = Busy {
            publish: Publish {
                topic: will.topic.clone(),
                payload: will.payload.clone(),
                qos: will.qos,
                retain: will.retain,
                origin: Origin::Will(client_id.clone()),
            },
            ticket: AckTicket::new(receiver, 0),
        };
        while let Err(busy) = shared.handler.handle(offer.publish, offer.ticket) {
            shared.handler.ready().await;
            offer = busy;
        }
        if matches!(outcome.await, Ok(AckOutcome::Durable(_))) {
            return;
        }
        shared.handler.ready().await;
        // A handler that fails at once and is always ready would otherwise be asked in a circle.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
