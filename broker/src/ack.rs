//! Tickets in, acknowledgements out in order.
//!
//! A connection has two lanes. Each holds its tickets in PUBLISH order; they are resolved from any
//! thread in any order and leave from the head only. The lock is held for a few instructions and is
//! contended by the handler's thread and the connection's task alone, and the task is woken only
//! when the head of a lane has an outcome: a burst of a thousand resolved tickets wakes it once.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::handler::{AckOutcome, AckReceiver, Lane};

/// Lanes, as indices.
pub(crate) const LANES: [Lane; 2] = [Lane::Priority, Lane::Normal];

/// Where a lane's things are kept.
pub(crate) const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Priority => 0,
        Lane::Normal => 1,
    }
}

/// The unanswered tickets of one connection.
#[derive(Debug, Default)]
pub(crate) struct AckQueue {
    lanes: [Mutex<Slots>; 2],
    /// The head of a lane has an outcome.
    pub(crate) wake: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    /// Number of the slot at the head.
    head: u64,
    outcomes: VecDeque<Option<AckOutcome>>,
}

impl AckQueue {
    /// A new slot at the end of `lane`, by the number its ticket is made with.
    pub(crate) fn open(&self, lane: Lane) -> u64 {
        self.push(lane, None)
    }

    /// A slot that needs no ticket, for what is answered at once but not out of turn.
    pub(crate) fn resolved(&self, lane: Lane, outcome: AckOutcome) {
        self.push(lane, Some(outcome));
    }

    fn push(&self, lane: Lane, outcome: Option<AckOutcome>) -> u64 {
        let mut slots = self.slots(lane).lock();
        let number = slots.head + slots.outcomes.len() as u64;
        slots.outcomes.push_back(outcome);
        // The lane rides in the lowest bit.
        number << 1 | index(lane) as u64
    }

    /// Moves the outcomes at the head of `lane` to `into`.
    pub(crate) fn take(&self, lane: Lane, into: &mut Vec<AckOutcome>) {
        let mut slots = self.slots(lane).lock();
        while let Some(Some(outcome)) = slots.outcomes.front() {
            into.push(*outcome);
            slots.outcomes.pop_front();
            slots.head += 1;
        }
    }

    fn slots(&self, lane: Lane) -> &Mutex<Slots> {
        let [priority, normal] = &self.lanes;
        match lane {
            Lane::Priority => priority,
            Lane::Normal => normal,
        }
    }
}

impl AckReceiver for AckQueue {
    fn resolve(&self, slot: u64, outcome: AckOutcome) {
        let lane = if slot & 1 == 0 { Lane::Priority } else { Lane::Normal };
        let at_head = {
            let mut slots = self.slots(lane).lock();
            // A slot is resolved once, and leaves only when it was: it is there.
            let Some(offset) = (slot >> 1).checked_sub(slots.head) else { return };
            let Ok(offset) = usize::try_from(offset) else { return };
            let Some(place) = slots.outcomes.get_mut(offset) else { return };
            *place = Some(outcome);
            offset == 0
        };
        if at_head {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::handler::{AckTicket, Acknowledgement};

    fn rejected(n: u32) -> AckOutcome {
        AckOutcome::Durable(Acknowledgement { rejected: n, ..Acknowledgement::default() })
    }

    fn taken(queue: &AckQueue, lane: Lane) -> Vec<AckOutcome> {
        let mut outcomes = Vec::new();
        queue.take(lane, &mut outcomes);
        outcomes
    }

    #[test]
    fn nothing_passes_an_unanswered_head_and_lanes_do_not_wait_for_each_other() {
        let queue = AckQueue::default();
        let [a, b, c] = [0; 3].map(|_| queue.open(Lane::Normal));
        let alarm = queue.open(Lane::Priority);
        queue.resolve(c, rejected(3));
        queue.resolve(b, rejected(2));
        assert!(queue.wake.notified().now_or_never().is_none(), "no head has an outcome");
        queue.resolve(alarm, rejected(9));
        assert!(queue.wake.notified().now_or_never().is_some());
        assert_eq!(taken(&queue, Lane::Priority), [rejected(9)]);
        assert_eq!(taken(&queue, Lane::Normal), []);
        queue.resolve(a, rejected(1));
        assert!(queue.wake.notified().now_or_never().is_some());
        assert_eq!(taken(&queue, Lane::Normal), [rejected(1), rejected(2), rejected(3)]);
    }

    #[test]
    fn a_dropped_ticket_counts_as_failed() {
        let queue = Arc::new(AckQueue::default());
        let slot = queue.open(Lane::Normal);
        drop(AckTicket::new(queue.clone(), slot));
        assert_eq!(taken(&queue, Lane::Normal), [AckOutcome::Failed]);
    }

    proptest! {
        #[test]
        fn whatever_the_order_of_answers_the_order_of_acks_is_that_of_publishes(
            keys in prop::collection::vec(any::<u32>(), 1..60),
        ) {
            let queue = AckQueue::default();
            let mut slots: Vec<(u32, u64, u32)> = (0u32..)
                .zip(&keys)
                .map(|(n, key)| (*key, queue.open(Lane::Normal), n))
                .collect();
            slots.sort_unstable();
            let mut seen = Vec::new();
            for (_, slot, n) in slots {
                queue.resolve(slot, rejected(n));
                queue.take(Lane::Normal, &mut seen);
            }
            prop_assert_eq!(seen, (0u32..).take(keys.len()).map(rejected).collect::<Vec<_>>());
        }
    }
}
