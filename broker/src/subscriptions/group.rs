//! The members of a shared subscription: each message goes to one of them [MQTT-4.8.2-3].
//!
//! They take turns. Who is connected and keeps up is asked before who is behind, and that one before
//! who is away; a message that nobody has room for is dropped, and counted by whoever gave it. A
//! message that its member was not sent goes to another one when that member leaves, and so does one
//! of QoS 1 that it did not acknowledge when its session ends. One of QoS 2 that was sent does not:
//! its member may have had it [MQTT-4.8.2-5].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::Subscription;
use crate::message::Message;
use crate::session::{Delivery, Queued, Session, Standing};

/// See the module.
#[derive(Debug)]
pub(crate) struct Group {
    /// `$share/GROUP/FILTER`.
    pub(super) filter: Arc<str>,
    members: RwLock<Vec<(Arc<Session>, Subscription)>>,
    /// Whose turn it is, when divided by the number of members.
    turn: AtomicUsize,
}

impl Group {
    pub(super) fn new(filter: Arc<str>) -> Self {
        Self { filter, members: RwLock::default(), turn: AtomicUsize::new(0) }
    }

    pub(super) fn insert(&self, session: &Arc<Session>, subscription: Subscription) -> bool {
        super::put(&mut self.members.write(), session, subscription)
    }

    pub(super) fn remove(&self, session: &Arc<Session>) -> bool {
        let mut members = self.members.write();
        let before = members.len();
        members.retain(|(other, _)| !Arc::ptr_eq(other, session));
        members.len() < before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.read().is_empty()
    }

    /// Puts the message in the queue of one member that has room.
    pub(crate) fn give(&self, message: &Arc<Message>) -> Queued {
        let members = self.members.read();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let Some(first) = turn.checked_rem(members.len()) else { return Queued::NoRoom };
        let (before, after) = members.split_at(first);
        for standing in [Standing::Free, Standing::Behind, Standing::Away] {
            for (skipped, (session, subscription)) in after.iter().chain(before).enumerate() {
                if session.standing() != standing {
                    continue;
                }
                let delivery = Delivery {
                    message: Arc::clone(message),
                    qos: subscription.effective(message.qos),
                    retain: message.retain && subscription.options.retain_as_published,
                    ids: subscription.id.into_iter().collect(),
                    share: Some(Arc::clone(&self.filter)),
                };
                let queued = session.offer(delivery, standing);
                if queued.had_room() {
                    // The next turn is that of the one behind it.
                    self.turn.fetch_add(skipped, Ordering::Relaxed);
                    return queued;
                }
            }
        }
        Queued::NoRoom
    }
}
