//! Messages of QoS 1 and 2 that were sent and are not acknowledged.

use std::collections::VecDeque;

use hashbrown::HashSet;

use super::Delivery;
use crate::handler::QoS;

/// Most messages in flight to one client, whatever receive maximum it names: each ack is looked for
/// from the front.
const MAX_IN_FLIGHT: usize = 1024;

/// What is to be written next.
#[derive(Debug, Clone)]
pub(crate) enum Next {
    /// A PUBLISH; the id is 0 at QoS 0.
    Publish { id: u16, dup: bool, delivery: Delivery },
    /// A PUBREL that the client may have missed.
    Release(u16),
}

/// In the order of sending.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    in_flight: VecDeque<InFlight>,
    ids: HashSet<u16>,
    last_id: u16,
    /// How many, from the front, this connection has sent; the rest was sent by a former one.
    sent: usize,
}

#[derive(Debug)]
struct InFlight {
    id: u16,
    bytes: usize,
    /// `None`: the client has it, what is missing is PUBCOMP.
    delivery: Option<Delivery>,
}

impl Outgoing {
    /// A new connection: all that is unacknowledged is to be sent again [MQTT-4.4.0-1].
    pub(super) fn resend(&mut self) {
        self.sent = 0;
    }

    /// What a former connection sent, one by one.
    pub(super) fn next_again(&mut self, receive_maximum: usize) -> Option<Next> {
        if self.sent >= receive_maximum {
            return None;
        }
        let entry = self.in_flight.get(self.sent)?;
        self.sent += 1;
        Some(match &entry.delivery {
            Some(delivery) => Next::Publish { id: entry.id, dup: true, delivery: delivery.clone() },
            None => Next::Release(entry.id),
        })
    }

    pub(super) fn has_room(&self, receive_maximum: usize) -> bool {
        self.sent == self.in_flight.len()
            && self.in_flight.len() < receive_maximum.min(MAX_IN_FLIGHT)
    }

    /// Notes that `delivery`, counted as `bytes`, is sent now.
    pub(super) fn send(&mut self, delivery: Delivery, bytes: usize) -> Next {
        if delivery.qos == QoS::AtMostOnce {
            return Next::Publish { id: 0, dup: false, delivery };
        }
        // There are at most MAX_IN_FLIGHT ids taken of 65,535.
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.ids.insert(self.last_id) {
                break;
            }
        }
        let id = self.last_id;
        self.in_flight.push_back(InFlight { id, bytes, delivery: Some(delivery.clone()) });
        self.sent += 1;
        Next::Publish { id, dup: false, delivery }
    }

    /// What came by shared subscriptions, was sent at QoS 1 and is not acknowledged.
    pub(super) fn shared(&self) -> Vec<Delivery> {
        let sent = self.in_flight.iter().filter_map(|entry| entry.delivery.as_ref());
        sent.filter(|d| d.share.is_some() && d.qos == QoS::AtLeastOnce).cloned().collect()
    }

    /// Forgets `id`; returns the bytes that it counted as.
    pub(super) fn remove(&mut self, id: u16) -> Option<usize> {
        let at = self.position(id)?;
        let entry = self.in_flight.remove(at)?;
        self.ids.remove(&id);
        if at < self.sent {
            self.sent -= 1;
        }
        Some(entry.bytes)
    }

    /// The client has the message: only its id is kept. Returns the bytes that are free.
    pub(super) fn release(&mut self, id: u16) -> Option<usize> {
        let at = self.position(id)?;
        let entry = self.in_flight.get_mut(at)?;
        entry.delivery = None;
        Some(std::mem::take(&mut entry.bytes))
    }

    fn position(&self, id: u16) -> Option<usize> {
        if !self.ids.contains(&id) {
            return None;
        }
        self.in_flight.iter().position(|entry| entry.id == id)
    }
}
