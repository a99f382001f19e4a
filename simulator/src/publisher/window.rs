//! What a station holds: every publish that is not acknowledged, in the order of sending.

use std::collections::VecDeque;

use bytes::Bytes;
use loushan_schemas::topic::Channel;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::unix_ms;
use crate::ledger::{Ledger, LedgerError};
use crate::link::LinkEvent;
use crate::report::FleetStats;

/// A publish that is not acknowledged.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) channel: Channel,
    pub(super) payload: Bytes,
    pub(super) readings: u64,
    /// In the ledger; `None` without one, and for a `state` message.
    pub(super) id: Option<u64>,
    /// Since when, on this connection.
    pub(super) handed_over: Option<Instant>,
    pub(super) pkid: Option<u16>,
}

/// What the two halves of a session share.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) held: Mutex<VecDeque<Held>>,
    /// Something was acknowledged.
    room: Notify,
    /// Commands that are not answered yet; as many as the server sends unacknowledged.
    commands: Mutex<VecDeque<Bytes>>,
    commanded: Notify,
}

impl Held {
    /// The answer to a command.
    pub(super) fn answer(payload: Bytes) -> Self {
        let channel = Channel::CommandResult;
        Self { channel, handed_over: Some(Instant::now()), ..Self::state(payload) }
    }

    pub(super) const fn state(payload: Bytes) -> Self {
        Self {
            channel: Channel::State,
            payload,
            readings: 0,
            id: None,
            handed_over: None,
            pkid: None,
        }
    }
}

impl Window {
    pub(super) fn on(
        &self,
        event: LinkEvent,
        stats: &FleetStats,
        ledger: Option<&Ledger>,
    ) -> Result<(), LedgerError> {
        let mut held = self.held.lock();
        match event {
            LinkEvent::Sent(pkid) => {
                // The session takes publishes in the order they were handed over.
                if let Some(publish) = held.iter_mut().find(|publish| publish.pkid.is_none()) {
                    publish.pkid = Some(pkid);
                }
            }
            LinkEvent::Acknowledged { pkid, refused } => {
                let position = held.iter().position(|publish| publish.pkid == Some(pkid));
                let Some(publish) = position.and_then(|at| held.remove(at)) else { return Ok(()) };
                drop(held);
                if publish.channel == Channel::CommandResult {
                    FleetStats::add(&stats.commands_answered, (!refused).into());
                } else if publish.channel != Channel::State {
                    if let Some(since) = publish.handed_over {
                        stats.latency(since.elapsed());
                    }
                    if refused {
                        FleetStats::add(&stats.refused, 1);
                    } else {
                        FleetStats::add(&stats.batches_acked, 1);
                        FleetStats::add(&stats.readings_acked, publish.readings);
                    }
                    if let (Some(ledger), Some(id)) = (ledger, publish.id) {
                        ledger.acknowledged(id, unix_ms(), refused)?;
                    }
                }
                self.room.notify_waiters();
            }
            LinkEvent::Commanded(command) => {
                self.commands.lock().push_back(command);
                self.commanded.notify_one();
            }
            LinkEvent::Connected | LinkEvent::Disconnected | LinkEvent::Other => {}
        }
        Ok(())
    }

    /// The next command. Cancel-safe.
    pub(super) async fn command(&self) -> Bytes {
        loop {
            let commanded = self.commanded.notified();
            if let Some(command) = self.commands.lock().pop_front() {
                return command;
            }
            commanded.await;
        }
    }

    async fn until(&self, enough: impl Fn(usize) -> bool) {
        loop {
            let changed = self.room.notified();
            if enough(self.held.lock().len()) {
                return;
            }
            changed.await;
        }
    }

    pub(super) async fn room_for(&self, window: usize) {
        self.until(|held| held < window).await;
    }

    pub(super) async fn empty(&self) {
        self.until(|held| held == 0).await;
    }
}
