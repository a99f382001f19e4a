//! Packet ids, and in which exchange each of them is.

use std::collections::VecDeque;

use super::LinkError;
use crate::options::Qos;

/// What an id is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Exchange {
    #[default]
    None,
    /// Waits for PUBACK.
    AtLeastOnce,
    /// Waits for PUBREC.
    ExactlyOnce,
    /// Waits for PUBCOMP.
    Released,
    Subscribe,
}

/// Ids of one connection's publishes and subscriptions: never one twice at a time, and the one that was
/// free longest first, so that a late or doubled answer hits nobody.
#[derive(Debug)]
pub(super) struct Flow {
    /// By the id, which begins at 1.
    exchanges: Vec<Exchange>,
    free: VecDeque<u16>,
    used: u16,
    most: u16,
}

impl Flow {
    /// With so many ids at a time, at most.
    pub(super) fn new(most: u16) -> Self {
        Self { exchanges: Vec::new(), free: VecDeque::new(), used: 0, most: most.max(1) }
    }

    /// Fewer than before, as the server wants it.
    pub(super) fn at_most(&mut self, most: u16) {
        self.most = self.most.min(most.max(1));
    }

    /// Exchanges that may begin now.
    pub(super) const fn room(&self) -> usize {
        self.most.saturating_sub(self.used) as usize
    }

    /// The id of a publish; 0 at QoS 0. None if there is no room.
    pub(super) fn publish(&mut self, qos: Qos) -> Option<u16> {
        match qos {
            Qos::AtMostOnce => Some(0),
            Qos::AtLeastOnce => self.take(Exchange::AtLeastOnce),
            Qos::ExactlyOnce => self.take(Exchange::ExactlyOnce),
        }
    }

    /// The id of a SUBSCRIBE.
    pub(super) fn subscribe(&mut self) -> Option<u16> {
        self.take(Exchange::Subscribe)
    }

    fn take(&mut self, exchange: Exchange) -> Option<u16> {
        if self.room() == 0 {
            return None;
        }
        // Ids that were never used come first, as long as there are any.
        let next = u16::try_from(self.exchanges.len()).ok()?;
        let id = if next < self.most {
            self.exchanges.push(exchange);
            next + 1
        } else {
            let id = self.free.pop_front()?;
            *self.at(id)? = exchange;
            id
        };
        self.used += 1;
        Some(id)
    }

    fn at(&mut self, id: u16) -> Option<&mut Exchange> {
        self.exchanges.get_mut(usize::from(id).checked_sub(1)?)
    }

    fn ends(&mut self, id: u16, exchange: Exchange, what: &str) -> Result<(), LinkError> {
        match self.at(id) {
            Some(found) if *found == exchange => {
                *found = Exchange::None;
                self.free.push_back(id);
                self.used -= 1;
                Ok(())
            }
            _ => Err(LinkError(format!(
                "the server sent a {what} of packet id {id} that nothing waits for"
            ))),
        }
    }

    pub(super) fn puback(&mut self, id: u16) -> Result<(), LinkError> {
        self.ends(id, Exchange::AtLeastOnce, "PUBACK")
    }

    /// Whether a PUBREL is to follow.
    pub(super) fn pubrec(&mut self, id: u16, refused: bool) -> Result<bool, LinkError> {
        if refused {
            return self.ends(id, Exchange::ExactlyOnce, "PUBREC").map(|()| false);
        }
        match self.at(id) {
            Some(found) if *found == Exchange::ExactlyOnce => {
                *found = Exchange::Released;
                Ok(true)
            }
            _ => Err(LinkError(format!(
                "the server sent a PUBREC of packet id {id} that nothing waits for"
            ))),
        }
    }

    pub(super) fn pubcomp(&mut self, id: u16) -> Result<(), LinkError> {
        self.ends(id, Exchange::Released, "PUBCOMP")
    }

    pub(super) fn suback(&mut self, id: u16) -> Result<(), LinkError> {
        self.ends(id, Exchange::Subscribe, "SUBACK")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any order of beginnings and answers, right and wrong ones: no id is used twice at a time, none
        /// is lost, and an answer that nothing waits for is told.
        #[test]
        fn ids_are_used_once_at_a_time_and_come_back(
            most in 1_u16..6, steps in proptest::collection::vec((0_u8..7, 0_u16..8), 0..200),
        ) {
            let mut flow = Flow::new(most);
            let mut used: HashMap<u16, &str> = HashMap::new();
            for (step, id) in steps {
                let begun = match step {
                    0 => Some((flow.publish(Qos::AtLeastOnce), "ack")),
                    1 => Some((flow.publish(Qos::ExactlyOnce), "rec")),
                    2 => Some((flow.subscribe(), "sub")),
                    _ => None,
                };
                if let Some((id, waits)) = begun {
                    prop_assert_eq!(id.is_some(), used.len() < usize::from(most));
                    if let Some(id) = id {
                        prop_assert!(id != 0 && used.insert(id, waits).is_none());
                    }
                    continue;
                }
                let waits = used.get(&id).copied();
                match step {
                    3 => prop_assert_eq!(flow.puback(id).is_ok(), waits == Some("ack")),
                    4 => {
                        let done = flow.pubrec(id, false);
                        prop_assert_eq!(done.is_ok(), waits == Some("rec"));
                        if done.is_ok() {
                            used.insert(id, "comp");
                        }
                        continue;
                    }
                    5 => prop_assert_eq!(flow.pubcomp(id).is_ok(), waits == Some("comp")),
                    _ => prop_assert_eq!(flow.suback(id).is_ok(), waits == Some("sub")),
                }
                let right = [(3, "ack"), (5, "comp"), (6, "sub")];
                if right.iter().any(|(s, w)| *s == step && Some(*w) == waits) {
                    used.remove(&id);
                }
            }
            prop_assert_eq!(flow.room(), usize::from(most) - used.len());
        }
    }

    #[test]
    fn a_refused_publish_at_qos_2_gives_its_id_back() {
        let mut flow = Flow::new(1);
        let id = flow.publish(Qos::ExactlyOnce).unwrap();
        assert!(flow.publish(Qos::ExactlyOnce).is_none());
        assert!(!flow.pubrec(id, true).unwrap());
        assert!(flow.publish(Qos::AtMostOnce) == Some(0) && flow.room() == 1);
    }
}
