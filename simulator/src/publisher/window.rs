//! What a station holds: every publish that is not acknowledged, in the order of sending.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::unix_ms;
use crate::ledger::{Ledger, LedgerError};
use crate::link::{LinkEvent, Message};
use crate::options::Qos;
use crate::report::{ByKind, FleetStats, KINDS};

/// What a publish is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Batch,
    /// The station's birth or death, which is of one connection.
    State,
    /// To a command.
    Answer,
}

/// A publish that is not acknowledged.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) role: Role,
    pub(super) message: Message,
    pub(super) kinds: ByKind,
    /// It is wrong on purpose, so that a refusal is no error.
    pub(super) spoiled: bool,
    /// In the ledger; `None` without one, and for a `state` message.
    pub(super) id: Option<u64>,
    /// Since when, on this connection.
    pub(super) handed_over: Option<Instant>,
    pub(super) pkid: Option<u16>,
    /// What its latency counts from; `None` when that would say nothing about the server.
    pub(super) counts_from: Option<Instant>,
}

/// What the two halves of a session share.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) held: Mutex<VecDeque<Held>>,
    /// Something was acknowledged.
    room: Notify,
    /// When, last.
    pub(super) room_since: Mutex<Option<Instant>>,
    /// Commands that are not answered yet; as many as the server sends unacknowledged.
    commands: Mutex<VecDeque<Bytes>>,
    commanded: Notify,
}

impl Held {
    /// What a station says of itself: always at QoS 1.
    pub(super) const fn own(role: Role, topic: Bytes, payload: Bytes) -> Self {
        let (qos, retain) = (Qos::AtLeastOnce, matches!(role, Role::State));
        Self {
            role,
            message: Message { topic, payload, qos, retain },
            kinds: [0; KINDS],
            spoiled: false,
            id: None,
            handed_over: None,
            pkid: None,
            counts_from: None,
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
                let position = held.iter().position(|publish| publish.pkid.is_none());
                if pkid == 0 {
                    // Nothing more will be heard of it.
                    position.and_then(|at| held.remove(at));
                    drop(held);
                    self.has_room();
                } else if let Some(publish) = position.and_then(|at| held.get_mut(at)) {
                    publish.pkid = Some(pkid);
                }
            }
            LinkEvent::Acknowledged { pkid, refused } => {
                let position = held.iter().position(|publish| publish.pkid == Some(pkid));
                let Some(publish) = position.and_then(|at| held.remove(at)) else { return Ok(()) };
                drop(held);
                if publish.role == Role::Answer {
                    FleetStats::add(&stats.commands_answered, refused.is_none().into());
                } else if publish.role == Role::Batch {
                    let latency = publish.counts_from.map(|since| since.elapsed());
                    if let Some(reason) = refused {
                        FleetStats::add(&stats.refused, 1);
                        if !publish.spoiled {
                            stats.recorder.lock().error(&format!("publish refused: {reason}"));
                        }
                    } else {
                        let readings = publish.kinds.iter().copied().map(u64::from).sum();
                        FleetStats::add(&stats.batches_acked, 1);
                        FleetStats::add(&stats.readings_acked, readings);
                        stats.recorder.lock().acknowledged(&publish.kinds, latency);
                    }
                    if let (Some(ledger), Some(id)) = (ledger, publish.id) {
                        ledger.acknowledged(id, unix_ms(), refused.is_some())?;
                    }
                }
                self.has_room();
            }
            // Nothing else is subscribed to.
            LinkEvent::Heard(command) => {
                self.commands.lock().push_back(command.payload);
                self.commanded.notify_one();
            }
            LinkEvent::Subscribed { refused: 0 }
            | LinkEvent::Connected
            | LinkEvent::Disconnected => {}
            LinkEvent::Subscribed { .. } => {
                stats.recorder.lock().error("the subscription to commands was refused");
            }
        }
        Ok(())
    }

    fn has_room(&self) {
        *self.room_since.lock() = Some(Instant::now());
        self.room.notify_waiters();
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

    /// What is held now says nothing about the server any more: the station was away on purpose.
    pub(super) fn excuse(&self) {
        self.held.lock().iter_mut().for_each(|publish| publish.counts_from = None);
    }

    pub(super) fn is_full(&self, window: usize) -> bool {
        self.held.lock().len() >= window
    }

    pub(super) async fn room_for(&self, window: usize) {
        self.until(|held| held < window).await;
    }

    pub(super) async fn empty(&self) {
        self.until(|held| held == 0).await;
    }
}
