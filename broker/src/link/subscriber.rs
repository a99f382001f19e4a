//! The client as a subscriber: SUBSCRIBE, UNSUBSCRIBE, and messages on their way to it.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::Instant;

use super::aliases::Alias;
use super::{End, Link};
use crate::handler::QoS;
use crate::parcel::Receipt;
use crate::session::{Delivery, Next};
use crate::subscriptions::Subscription;
use crate::topic;
use crate::wire::encode::{self, AckKind, Outgoing};
use crate::wire::reason::Reason;
use crate::wire::{Ack, PublishProperties, RetainHandling, Subscribe, Unsubscribe};

/// Filters of one SUBSCRIBE; the others are refused. A packet has room for a quarter of a million, and
/// each is a walk through what is retained.
const MAX_FILTERS: usize = 1024;

impl Link {
    pub(super) fn subscribe(&mut self, subscribe: Subscribe, out: &mut BytesMut) {
        let id = subscribe.subscription_id;
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        let (mut dropped, mut said) = (0, String::new());
        self.subscribes = true;
        for (index, wanted) in subscribe.filters.into_iter().enumerate() {
            let subscription = Subscription { filter: wanted.filter, options: wanted.options, id };
            let subscribed = if index < MAX_FILTERS {
                self.subscribe_one(&subscription)
            } else {
                Err((Reason::QUOTA_EXCEEDED, "too many filters in one SUBSCRIBE"))
            };
            match subscribed {
                Ok(is_new) => {
                    codes.push(Reason(subscription.options.qos as u8));
                    // Filter by filter: together they may bring everything a thousand times.
                    let retained = self.retained(&subscription, is_new);
                    dropped += self.session.enqueue_retained(retained);
                }
                Err((reason, why)) => {
                    codes.push(reason);
                    if said.is_empty() {
                        said = format!("filter {}: {why}", index + 1);
                    }
                }
            }
        }
        let said = Some(said.as_str()).filter(|said| !said.is_empty());
        let mut suback = BytesMut::new();
        self.explain(&mut suback, said, |out, said| {
            encode::suback(out, self.client.version, subscribe.id, &codes, said);
        });
        self.when_kept(suback, out);
        self.shared.give_parcels(&self.session);
        self.shared.metrics.subscriber_dropped.increment(dropped as u64);
    }

    /// Subscribes to one filter; says whether that is new.
    fn subscribe_one(
        &mut self,
        subscription: &Subscription,
    ) -> Result<bool, (Reason, &'static str)> {
        let filter = &subscription.filter;
        if !topic::is_valid_filter(filter) {
            return Err((Reason::FILTER_INVALID, "not a topic filter"));
        }
        if !self.shared.config.topic_limits().allow(topic::pattern(filter)) {
            self.shared.metrics.topics_refused.increment(1);
            return Err((Reason::FILTER_INVALID, "longer or deeper than this broker takes"));
        }
        // Sharing gives no right to what is shared.
        if !self.rights.may_subscribe(topic::pattern(filter)) {
            self.deny_subscribe(filter);
            return Err(if self.shared.config.tell_denied {
                (Reason::NOT_AUTHORIZED, "the client may not subscribe to it")
            } else {
                (Reason::UNSPECIFIED_ERROR, "not possible")
            });
        }
        let is_new = {
            let mut state = self.session.lock();
            let is_new = !state.subscriptions.contains_key(filter);
            if is_new && state.subscriptions.len() >= self.shared.config.max_subscriptions {
                self.shared.metrics.subscriptions_refused.increment(1);
                return Err((Reason::QUOTA_EXCEEDED, "the client has as many as it may have"));
            }
            state.subscriptions.insert(filter.clone(), subscription.clone());
            if let Some(kept) = &state.kept {
                kept.subscribe(subscription, is_new);
            }
            is_new
        };
        self.shared.subscriptions.insert(&self.session, subscription.clone());
        if is_new && !subscription.is_shared() {
            self.shared.router.subscribe(&self.session, filter);
        }
        Ok(is_new)
    }

    /// The retained messages that a subscription brings.
    fn retained(&self, subscription: &Subscription, is_new: bool) -> Vec<Delivery> {
        if subscription.is_shared() {
            // Whose they would be, of all members, nothing says [3.8.4].
            return Vec::new();
        }
        match subscription.options.retain_handling {
            RetainHandling::Always => {}
            RetainHandling::IfNew if is_new => {}
            RetainHandling::IfNew | RetainHandling::Never => return Vec::new(),
        }
        let delivery = |message: std::sync::Arc<crate::message::Message>| Delivery {
            qos: subscription.effective(message.qos),
            retain: true,
            ids: subscription.id.into_iter().collect(),
            share: None,
            message,
        };
        let mut deliveries = self.shared.retained.matching(&subscription.filter);
        if topic::is_brokers_own(&subscription.filter) {
            deliveries.extend(self.shared.sys.last.matching(&subscription.filter));
        }
        deliveries.retain(|m| !(subscription.options.no_local && m.from == self.client.id));
        deliveries.into_iter().map(delivery).collect()
    }

    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe, out: &mut BytesMut) {
        self.subscribes = true;
        let mut codes = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let known = {
                let mut state = self.session.lock();
                let known = state.subscriptions.remove(filter).is_some();
                if let Some(kept) = state.kept.as_ref().filter(|_| known) {
                    kept.unsubscribe(filter);
                }
                known
            };
            if known {
                self.shared.subscriptions.remove(&self.session, filter);
            }
            if known && !topic::is_shared(filter) {
                self.shared.router.unsubscribe(&self.session, filter);
            }
            codes.push(if known { Reason::SUCCESS } else { Reason::NO_SUBSCRIPTION_EXISTED });
        }
        let mut unsuback = BytesMut::new();
        encode::unsuback(&mut unsuback, self.client.version, unsubscribe.id, &codes);
        self.when_kept(unsuback, out);
    }

    /// Answers once the database has what the answer says, if the session is in it.
    fn when_kept(&mut self, answer: BytesMut, out: &mut BytesMut) {
        let store = self.session.lock().kept.as_ref().map(|kept| Arc::clone(&kept.store));
        match store {
            Some(store) => self.deferred.push_back((store.mark(&self.session), answer)),
            None => out.extend_from_slice(&answer),
        }
    }

    /// Appends the answers that the database has. Returns whether messages may follow: not before the
    /// answer to the SUBSCRIBE that brought them, unless that may take long.
    fn send_deferred(&mut self, out: &mut BytesMut) -> bool {
        let Some(store) = &self.shared.store else { return true };
        while self.deferred.front().is_some_and(|(mark, _)| store.is_done(*mark)) {
            let Some((_, answer)) = self.deferred.pop_front() else { break };
            out.extend_from_slice(&answer);
        }
        self.deferred.is_empty() || store.is_failing()
    }

    /// PUBACK from the client; a code that is an error ends the exchange as well [MQTT-4.4.0-2], and its
    /// client did not take the message.
    pub(super) fn client_acknowledged(&mut self, ack: Ack) {
        if ack.reason.is_error() { self.refused(ack.id) } else { self.session.acknowledged(ack.id) }
    }

    fn refused(&mut self, id: u16) {
        let receipt = self.session.settled(id);
        self.keep_back(receipt);
    }

    /// A parcel that this connection cannot bring to its client is not placed again while this one
    /// lasts. There are as many as may wait for a client.
    fn keep_back(&mut self, receipt: Option<Arc<Receipt>>) {
        let Some(receipt) = receipt else { return };
        tracing::warn!(client = %self.client.id,
            "what was sent to this client by name was not taken: it is longer than the client takes, \
             its rights forbid it, or the client refused it; it waits for the next connection");
        self.kept_back.push(receipt);
    }

    /// PUBREC from the client: it has the message [MQTT-4.3.3-4].
    pub(super) fn client_received(&mut self, ack: Ack, out: &mut BytesMut) {
        if ack.reason.is_error() {
            // It refuses the message; that ends the exchange.
            return self.refused(ack.id);
        }
        let known = self.session.received(ack.id);
        self.answer(AckKind::Release, ack.id, known, out);
    }

    /// Appends messages for the client until `out` holds `high` bytes or nothing more may be sent.
    ///
    /// # Errors
    /// [`End::SlowSubscriber`].
    pub(crate) fn send_messages(&mut self, out: &mut BytesMut, high: usize) -> Result<(), End> {
        if self.session.lock().overflowed {
            return Err(End::SlowSubscriber);
        }
        if !self.send_deferred(out) {
            return Ok(());
        }
        while out.len() < high {
            match self.session.next(usize::from(self.client.receive_maximum)) {
                None => break,
                Some(Next::Release(id)) => {
                    encode::ack(
                        out,
                        self.client.version,
                        AckKind::Release,
                        id,
                        Reason::SUCCESS,
                        &[],
                    );
                }
                Some(Next::Publish { id, dup, delivery, receipt }) => {
                    let written = self.send(id, dup, &delivery, out);
                    match receipt {
                        Some(receipt) if written => receipt.acknowledged(),
                        receipt => self.keep_back(receipt),
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends a message, unless this client may not have it; says whether.
    fn send(&mut self, id: u16, dup: bool, delivery: &Delivery, out: &mut BytesMut) -> bool {
        let message = &delivery.message;
        if !self.rights.may_receive(&message.topic) {
            // It was subscribed to by a wider filter, or when it still might be.
            if delivery.qos != QoS::AtMostOnce {
                self.refused(id);
            }
            self.shared.metrics.deliveries_denied.increment(1);
            return false;
        }
        // What is left of the time that the message is of use [MQTT-3.3.2-6].
        let expiry = message.expires.map(|expires| {
            let left = expires.saturating_duration_since(Instant::now()).as_secs();
            u32::try_from(left).unwrap_or(u32::MAX).max(1)
        });
        let properties =
            PublishProperties { forwarded: message.properties.forwarded.clone(), expiry };
        let alias = self.aliases.of(&message.topic);
        let publish = Outgoing {
            dup,
            qos: delivery.qos,
            retain: delivery.retain,
            id,
            topic: if matches!(alias, Alias::Known(_)) { "" } else { &message.topic },
            alias: match alias {
                Alias::None => None,
                Alias::New(number) | Alias::Known(number) => Some(number),
            },
            payload: &message.payload,
            properties: &properties,
            subscription_ids: &delivery.ids,
        };
        let version = self.client.version;
        let len = encode::publish_len(version, &publish);
        if self.client.max_packet.is_some_and(|max| len > usize::try_from(max).unwrap_or(len)) {
            // It is as if the client had had it [MQTT-3.1.2-25].
            if delivery.qos != QoS::AtMostOnce {
                self.refused(id);
            }
            self.shared.metrics.subscriber_dropped.increment(1);
            return false;
        }
        encode::publish(out, version, &publish);
        if let Alias::New(number) = alias {
            self.aliases.learn(&message.topic, number);
        }
        self.tally.messages_sent += 1;
        true
    }
}
