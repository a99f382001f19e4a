//! From a publish to its subscribers.
//!
//! A copy whose effective quality of service is 0 goes by the router, which may drop it; the others
//! go straight into their sessions' queues, since the router forgets what a slow reader has not
//! taken (see [`crate::router`]). A subscription that overlaps another of the same client brings no
//! second copy: one is sent, at the greatest quality of service [MQTT-3.3.5-1].
//!
//! Nothing of a shared subscription goes by the router, which cannot tell who has room; each group
//! gets a message once, whatever else its members subscribe to.

use std::sync::Arc;

use crate::broker::Shared;
use crate::handler::QoS;
use crate::message::Message;
use crate::session::{Delivery, Queued, Session};
use crate::subscriptions::{Match, Subscription};
use crate::topic;

impl Shared {
    /// Retains a message if it says so, and gives it to its subscribers. Never waits. Returns whether
    /// the database has something of it to write.
    pub(crate) fn deliver(&self, mut message: Message) -> bool {
        message.retain &= topic::may_retain(&message.topic);
        if message.retain {
            // Before its subscribers are looked up: who subscribes in between finds it retained.
            message = message.detached();
            self.retain(&Arc::new(message.clone()));
        }
        self.fan_out(message)
    }

    /// Gives a message to its subscribers. Never waits. Returns whether the database has something of
    /// it to write.
    pub(crate) fn fan_out(&self, message: Message) -> bool {
        let mut matched: Vec<(Arc<Session>, Subscription)> = Vec::new();
        let mut groups = Vec::new();
        self.subscriptions.visit(&message.topic, |matching| match matching {
            Match::One(session, subscription) if takes(session, subscription, &message) => {
                matched.push((Arc::clone(session), subscription.clone()));
            }
            Match::One(..) => {}
            Match::Group(group) => groups.push(Arc::clone(group)),
        });
        let mut kept = message.retain && self.store.is_some();
        if matched.is_empty() && groups.is_empty() {
            return kept;
        }
        let message = Arc::new(if message.retain { message } else { message.detached() });
        for group in groups {
            kept |= self.queued(group.give(&message));
        }
        let mut live = message.qos == QoS::AtMostOnce && !matched.is_empty();
        if !live {
            matched.sort_unstable_by_key(|(session, _)| Arc::as_ptr(session));
            for copies in matched.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
                let Some((session, _)) = copies.first() else { continue };
                let delivery = merge(&message, copies.iter().map(|(_, sub)| sub));
                if delivery.qos == QoS::AtMostOnce {
                    live = true;
                } else {
                    kept |= self.queued(session.enqueue(delivery));
                }
            }
        }
        if live {
            self.router.publish(message);
        }
        kept
    }

    /// Counts what found no room, and says whether the database has something to write.
    fn queued(&self, queued: Queued) -> bool {
        match queued {
            Queued::Kept | Queued::Taken => {}
            Queued::NoRoom => self.metrics.subscriber_dropped.increment(1),
            Queued::NoRoomAway => self.metrics.away_refused.increment(1),
        }
        queued == Queued::Kept
    }

    fn retain(&self, message: &Arc<Message>) {
        if !self.retained.set(message) {
            self.metrics.retained_refused.increment(1);
            tracing::warn!(topic = %message.topic,
                "a message was not retained: retained_bytes are in use");
        }
    }

    /// Ends a session: its subscriptions are nobody's any more.
    pub(crate) fn end_session(&self, session: &Arc<Session>) {
        let _one_commit = self.store.as_ref().map(|store| store.together());
        let subscriptions = {
            let mut state = session.lock();
            if let Some(kept) = state.kept.take() {
                kept.end();
            }
            std::mem::take(&mut state.subscriptions)
        };
        for filter in subscriptions.keys() {
            self.subscriptions.remove(session, filter);
        }
        // After that: nothing is put into its queue any more.
        self.give_again(session.end());
    }

    /// Gives what a member of shared subscriptions did not take to the others [4.8.2].
    pub(crate) fn give_again(&self, deliveries: Vec<Delivery>) {
        for Delivery { message, share, .. } in deliveries {
            let group = share.and_then(|filter| self.subscriptions.group(&filter));
            let queued = group.map_or(Queued::NoRoom, |group| group.give(&message));
            self.queued(queued);
        }
    }

    /// Links a session that is connected again to the router, for what it subscribes to.
    pub(crate) fn link_again(&self, session: &Arc<Session>) {
        let filters: Vec<_> = session.lock().subscriptions.keys().cloned().collect();
        for filter in filters.iter().filter(|filter| !topic::is_shared(filter)) {
            self.router.subscribe(session, filter);
        }
    }
}

/// Whether a subscription takes a message that matches its filter (No Local).
fn takes(session: &Session, subscription: &Subscription, message: &Message) -> bool {
    !(subscription.options.no_local && message.from == session.client_id)
}

/// The one copy that a client gets for all of its subscriptions that match.
fn merge<'a>(
    message: &Arc<Message>,
    subscriptions: impl Iterator<Item = &'a Subscription>,
) -> Delivery {
    let mut delivery = Delivery {
        message: Arc::clone(message),
        qos: QoS::AtMostOnce,
        retain: false,
        ids: Vec::new(),
        share: None,
    };
    for subscription in subscriptions {
        delivery.qos = delivery.qos.max(subscription.effective(message.qos));
        delivery.retain |= message.retain && subscription.options.retain_as_published;
        delivery.ids.extend(subscription.id);
    }
    delivery
}

/// What of a copy that came by the router, for subscription `filter_key`, the client gets: nothing
/// if a better copy went straight into its queue, or if another of its filters brings this one.
pub(crate) fn live_copy(
    session: &Session,
    message: &Arc<Message>,
    filter_key: usize,
) -> Option<Delivery> {
    let state = session.lock();
    let mut matching: Vec<&Subscription> = state
        .subscriptions
        .values()
        .filter(|s| !s.is_shared() && topic::matches(&message.topic, &s.filter))
        .filter(|s| takes(session, s, message))
        .collect();
    matching.sort_unstable_by(|a, b| a.filter.cmp(&b.filter));
    let first = matching.first()?;
    if crate::router::filter_key(&first.filter) != filter_key {
        return None;
    }
    let delivery = merge(message, matching.iter().copied());
    (delivery.qos == QoS::AtMostOnce).then_some(delivery)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::Broker;
    use crate::config::BrokerConfig;
    use crate::handler::{AckTicket, Busy, Lane, Publish, PublishHandler};
    use crate::message::tests::message;
    use crate::session::QueueLimits;
    use crate::wire::{RetainHandling, SubscribeOptions};

    const ROUNDS: u64 = 2_000;

    /// Claims nothing.
    struct Nobody;

    impl PublishHandler for Nobody {
        fn claims(&self, _: &str) -> Option<Lane> {
            None
        }

        fn handle(&self, publish: Publish, ticket: AckTicket) -> Result<(), Busy> {
            Err(Busy { publish, ticket })
        }

        fn ready(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn who_subscribes_while_a_retained_message_is_delivered_gets_it_one_way_or_the_other() {
        let shared = Broker::new(BrokerConfig::default(), Arc::new(Nobody)).shared;
        let options = SubscribeOptions {
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
        };
        // The round that is asked for, and the one that was delivered.
        let (asked, delivered) = (AtomicU64::new(0), AtomicU64::new(0));
        // What takes long to copy leaves time between the steps of a delivery.
        let long = message("t", &"x".repeat(100_000));
        let limits = QueueLimits::new(1 << 20, 1 << 20);
        let limits = Arc::new(limits);
        let reach = |counter: &AtomicU64, round| {
            while counter.load(Ordering::Acquire) < round {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for order in 1..=ROUNDS {
                    let message = Message { order, ..Message::clone(&long) };
                    reach(&asked, order);
                    shared.deliver(message);
                    delivered.store(order, Ordering::Release);
                }
            });
            let mut missed = 0;
            for round in 1..=ROUNDS {
                let session = Arc::new(Session::new("s".into(), limits.clone()));
                session.connect();
                let subscription = Subscription { filter: "t".into(), options, id: None };
                asked.store(round, Ordering::Release);
                for _ in 0..round % 100 * 20 {
                    std::hint::spin_loop();
                }
                shared.subscriptions.insert(&session, subscription);
                let retained = shared.retained.matching("t");
                reach(&delivered, round);
                let live = session.next(10).is_some();
                if !live && retained.iter().all(|kept| kept.order < round) {
                    missed += 1;
                }
                shared.subscriptions.remove(&session, "t");
            }
            assert_eq!(missed, 0, "of {ROUNDS}");
        });
    }
}
