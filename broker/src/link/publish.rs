//! PUBLISH from the client, until its ticket is out.

use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::BytesMut;

use super::{End, Link, Pending};
use crate::ack::index;
use crate::handler::{AckOutcome, AckTicket, Acknowledgement, Busy, Lane, Origin, Publish, QoS};
use crate::message::Message;
use crate::wire::encode::{self, AckKind};
use crate::wire::reason::Reason;
use crate::wire::{self, Version};

impl Link {
    pub(super) fn publish(
        &mut self,
        publish: wire::Publish,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<(), End> {
        self.tally.messages_received += 1;
        if publish.qos == QoS::ExactlyOnce {
            if self.undecided.contains(&publish.id)
                || self.held.iter().any(|held| held.qos == publish.qos && held.id == publish.id)
            {
                // PUBREC comes when the first of the two is durable and has its turn.
                return Ok(());
            }
            if self.session.lock().received.contains(&publish.id) {
                self.repeated(&publish, now, out);
                return Ok(());
            }
        }
        if self.client.version == Version::V5
            && publish.qos != QoS::AtMostOnce
            && self.unacknowledged >= usize::from(self.shared.config.max_in_flight)
        {
            return Err(End::invalid(
                "more publishes than the receive maximum",
                Reason::RECEIVE_MAXIMUM_EXCEEDED,
            ));
        }
        if publish.qos != QoS::AtMostOnce {
            self.unacknowledged += 1;
        }
        let bytes = cost(&publish);
        self.bytes += bytes;
        self.shared.in_flight.take(bytes);
        self.shared.in_flight_publishes.fetch_add(1, Ordering::Relaxed);
        if self.busy.is_some() || !self.held.is_empty() {
            self.held.push_back(publish);
        } else {
            self.offer(publish, now);
        }
        Ok(())
    }

    /// A publish of QoS 2 that subscribers have. If the handler does not claim it, its first connection
    /// may have ended before the commit that has it: it is answered after the next one, which costs
    /// nothing where there is nothing to write.
    fn repeated(&mut self, publish: &wire::Publish, received: Instant, out: &mut BytesMut) {
        let ordinary = self.shared.handler.claims(&publish.topic).is_none();
        let Some(store) = self.shared.store.clone().filter(|_| ordinary) else {
            let (version, kind) = (self.client.version, AckKind::Received);
            return encode::ack(out, version, kind, publish.id, Reason::SUCCESS, &[]);
        };
        self.shared.in_flight_publishes.fetch_add(1, Ordering::Relaxed);
        let slot = self.acks.open(Lane::Normal);
        store.when_durable(AckTicket::new(self.acks.clone(), slot));
        let (id, qos) = (publish.id, publish.qos);
        let pending = Pending { id, qos, received, bytes: 0, message: None, refused: None };
        self.pend(Lane::Normal, pending);
    }

    /// Hands a publish to whoever it is for.
    fn offer(&mut self, publish: wire::Publish, received: Instant) {
        let bytes = cost(&publish);
        let (id, qos) = (publish.id, publish.qos);
        let lane = self.shared.handler.claims(&publish.topic);
        if let Some(refused) = self.refusal(&publish.topic) {
            let lane = lane.unwrap_or(Lane::Normal);
            return self.refuse(
                lane,
                Pending { id, qos, received, bytes, message: None, refused: Some(refused) },
            );
        }
        let claimed = Publish {
            topic: publish.topic.clone(),
            payload: publish.payload.clone(),
            qos,
            retain: publish.retain,
            origin: Origin::Client(self.client.id.clone()),
        };
        let order = if publish.retain { self.shared.next_order() } else { 0 };
        let message = Message::from_publish(publish, self.client.id.clone(), order);
        let Some(lane) = lane else {
            if qos == QoS::ExactlyOnce {
                // Subscribers have it from here on, whether or not its PUBREC arrives.
                self.session.lock().received.insert(id);
            }
            let kept = self.shared.deliver(message);
            match self.shared.store.as_ref().filter(|_| kept && qos != QoS::AtMostOnce) {
                Some(store) => {
                    let slot = self.acks.open(Lane::Normal);
                    store.when_durable(AckTicket::new(self.acks.clone(), slot));
                }
                None => {
                    let durable = AckOutcome::Durable(Acknowledgement::default());
                    self.acks.resolved(Lane::Normal, durable);
                }
            }
            // Nothing of it is kept here: who waits for the database takes no room of who waits for the
            // log.
            self.bytes = self.bytes.saturating_sub(bytes);
            self.shared.in_flight.give(bytes);
            let pending = Pending { id, qos, received, bytes: 0, message: None, refused: None };
            self.pend(Lane::Normal, pending);
            return;
        };
        let ticket = AckTicket::new(self.acks.clone(), self.acks.open(lane));
        let message = Some(message);
        self.pend(lane, Pending { id, qos, received, bytes, message, refused: None });
        self.busy = self.shared.handler.handle(claimed, ticket).err();
    }

    pub(super) fn pend(&mut self, lane: Lane, pending: Pending) {
        if pending.qos == QoS::ExactlyOnce {
            self.undecided.insert(pending.id);
        }
        self.lanes[index(lane)].push_back(pending);
    }

    /// Offers again what the handler had no room for, and then what came behind it, in order.
    pub(crate) fn retry(&mut self) {
        if let Some(Busy { publish, ticket }) = self.busy.take() {
            self.busy = self.shared.handler.handle(publish, ticket).err();
        }
        while self.busy.is_none() {
            let Some(publish) = self.held.pop_front() else { return };
            self.offer(publish, Instant::now());
        }
    }

    /// Lets go of what was read and not offered: the client has no acknowledgement of it.
    pub(super) fn drop_held(&mut self) {
        for publish in std::mem::take(&mut self.held) {
            self.release(cost(&publish));
        }
    }

    /// PUBACK or PUBREC. Only a v5 client can be told more than that the publish was taken.
    pub(super) fn send_ack(
        &mut self,
        id: u16,
        qos: QoS,
        acknowledgement: Acknowledgement,
        out: &mut BytesMut,
    ) {
        let metrics = &self.shared.metrics;
        let mut reason = Reason::SUCCESS;
        if acknowledgement.nothing_accepted {
            metrics.acks_rejected.increment(1);
            if self.client.version == Version::V5 {
                reason = Reason::PAYLOAD_FORMAT_INVALID;
            }
        } else if acknowledgement.rejected > 0 {
            metrics.acks_partial.increment(1);
        } else {
            metrics.acks_success.increment(1);
        }
        let kind = if qos == QoS::ExactlyOnce {
            // A PUBREC that refuses ends the exchange: no PUBREL follows.
            if reason.is_error() {
                self.unacknowledged = self.unacknowledged.saturating_sub(1);
            } else {
                self.session.lock().received.insert(id);
            }
            AckKind::Received
        } else {
            self.unacknowledged = self.unacknowledged.saturating_sub(1);
            AckKind::Ack
        };
        let version = self.client.version;
        if acknowledgement.rejected == 0 && acknowledgement.reason.is_none()
            || !self.client.problem_information
        {
            return encode::ack(out, version, kind, id, reason, &[]);
        }
        let rejected = acknowledgement.rejected.to_string();
        let first = acknowledgement.reason.unwrap_or_default();
        let details = [("rejected", rejected.as_str()), ("reason", first)];
        let count = if acknowledgement.reason.is_some() { 2 } else { 1 };
        let details = details.get(..count).unwrap_or_default();
        let before = out.len();
        encode::ack(out, version, kind, id, reason, details);
        let max = self.client.max_packet.and_then(|max| usize::try_from(max).ok());
        if max.is_some_and(|max| out.len() - before > max) {
            // Without them, rather than longer than the client takes [MQTT-3.4.2-3].
            out.truncate(before);
            encode::ack(out, version, kind, id, reason, &[]);
        }
    }
}

/// Bytes that a publish in flight counts as: its own, and what is kept beside them.
fn cost(publish: &wire::Publish) -> usize {
    const OVERHEAD: usize = 128;
    publish.topic.len() + publish.payload.len() + publish.properties.forwarded.len() + OVERHEAD
}
