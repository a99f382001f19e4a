//! Messages of QoS 1 and 2 that were sent and are not acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashSet;

use super::{Beside, Delivery};
use crate::handler::QoS;
use crate::parcel::Receipt;

/// Most messages in flight to one client, whatever receive maximum it names: each ack is looked for
/// from the front.
const MAX_IN_FLIGHT: usize = 1024;

/// What is to be written next.
#[derive(Debug)]
pub(crate) enum Next {
    /// A PUBLISH; the id is 0 at QoS 0.
    /// At QoS 0 whoever writes it tells its receipt, for nothing more will be heard of it.
    Publish { id: u16, dup: bool, delivery: Delivery, receipt: Option<Arc<Receipt>> },
    /// A PUBREL that the client may have missed.
    Release(u16),
}

/// In the order of sending.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    in_flight: VecDeque<InFlight>,
    ids: HashSet<u16>,
    /// Packet ids that were tried, in all connections: the last one is their remainder.
    ids_used: u64,
    /// How many, from the front, this connection has sent; the rest was sent by a former one.
    sent: usize,
}

#[derive(Debug)]
struct InFlight {
    id: u16,
    beside: Beside,
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
            Some(delivery) => {
                let delivery = delivery.clone();
                Next::Publish { id: entry.id, dup: true, delivery, receipt: None }
            }
            None => Next::Release(entry.id),
        })
    }

    pub(super) fn has_room(&self, receive_maximum: usize) -> bool {
        self.sent == self.in_flight.len()
            && self.in_flight.len() < receive_maximum.min(MAX_IN_FLIGHT)
    }

    /// Notes that `delivery` is sent now.
    pub(super) fn send(&mut self, delivery: Delivery, beside: Beside) -> Next {
        if delivery.qos == QoS::AtMostOnce {
            return Next::Publish { id: 0, dup: false, delivery, receipt: beside.receipt };
        }
        // There are at most MAX_IN_FLIGHT ids taken of 65,535.
        let id = loop {
            let id = u16::try_from(self.ids_used % u64::from(u16::MAX)).unwrap_or(0) + 1;
            self.ids_used += 1;
            if self.ids.insert(id) {
                break id;
            }
        };
        self.in_flight.push_back(InFlight { id, beside, delivery: Some(delivery.clone()) });
        self.sent += 1;
        Next::Publish { id, dup: false, delivery, receipt: None }
    }

    /// What came by shared subscriptions, was sent at QoS 1 and is not acknowledged.
    pub(super) fn shared(&self) -> Vec<Delivery> {
        let sent = self.in_flight.iter().filter_map(|entry| entry.delivery.as_ref());
        sent.filter(|d| d.share.is_some() && d.qos == QoS::AtLeastOnce).cloned().collect()
    }

    /// How many packet ids were tried so far.
    pub(super) fn ids_used(&self) -> u64 {
        self.ids_used
    }

    /// What a former process sent, or may have sent: `ids_used` ids at most.
    pub(super) fn restore(&mut self, ids_used: u64) {
        self.ids_used = ids_used;
    }

    /// Puts back what a former process sent and the client did not acknowledge.
    pub(super) fn restore_sent(&mut self, id: u16, beside: Beside, delivery: Option<Delivery>) {
        if self.ids.insert(id) {
            self.in_flight.push_back(InFlight { id, beside, delivery });
        }
    }

    /// Forgets `id`; returns what was kept beside it.
    pub(super) fn remove(&mut self, id: u16) -> Option<Beside> {
        let at = self.position(id)?;
        let entry = self.in_flight.remove(at)?;
        self.ids.remove(&id);
        if at < self.sent {
            self.sent -= 1;
        }
        Some(entry.beside)
    }

    /// The client has the message: only its id is kept. Returns the bytes that are free
    /// and its number.
    pub(super) fn release(&mut self, id: u16) -> Option<(usize, u64)> {
        let at = self.position(id)?;
        let entry = self.in_flight.get_mut(at)?;
        entry.delivery = None;
        Some((std::mem::take(&mut entry.beside.bytes), entry.beside.number))
    }

    fn position(&self, id: u16) -> Option<usize> {
        if !self.ids.contains(&id) {
            return None;
        }
        self.in_flight.iter().position(|entry| entry.id == id)
    }
}
