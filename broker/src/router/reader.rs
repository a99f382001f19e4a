//! The tasks that listen to the router.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rumqttd::Notification;
use rumqttd::local::LinkRx;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::envelope;
use super::inbox::{Command, Inbox};
use crate::fanout;
use crate::metrics::Metrics;
use crate::session::Session;

/// Waits for the router's end on a link that gets nothing else.
pub(super) async fn watch(
    mut rx: LinkRx,
    died: Arc<AtomicBool>,
    inbox: Arc<Inbox>,
    generation: u64,
) {
    while rx.next().await.is_ok() {}
    died.store(true, Ordering::Release);
    inbox.push(Command::Died(generation));
}

/// Moves what a link brings into its session's queue.
pub(super) struct Reader {
    pub(super) session: Arc<Session>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) number: u64,
    pub(super) let_go: CancellationToken,
    pub(super) epoch: Instant,
    pub(super) metrics: Metrics,
}

impl Reader {
    pub(super) async fn run(self, mut rx: LinkRx) {
        loop {
            let notification = tokio::select! {
                biased;
                () = self.let_go.cancelled() => break,
                notification = rx.next() => notification,
            };
            match notification {
                Ok(Some(Notification::Forward(forward))) => {
                    self.forward(forward);
                    // A link with a thousand messages is no reason to keep others waiting.
                    tokio::task::coop::consume_budget().await;
                }
                // The library stops a link that has 200 messages until it asks for more.
                Ok(Some(Notification::Unschedule)) => drop(rx.wake().await),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        drop(rx);
        self.inbox.push(Command::Drained(self.number));
    }

    fn forward(&self, forward: rumqttd::Forward) {
        let Some((message, key)) = envelope::open(forward, self.epoch) else { return };
        let Some(delivery) = fanout::live_copy(&self.session, &message, key) else { return };
        if !self.session.enqueue(delivery).had_room() {
            self.metrics.subscriber_dropped.increment(1);
        }
    }
}
