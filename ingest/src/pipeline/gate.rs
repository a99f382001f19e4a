//! Where publishes wait that cannot be taken now.
//!
//! Each time something may have become possible, the gate's generation rises. Whoever was refused
//! names the generation it saw *before* it tried, so an opening that came between the refusal and
//! the waiting is never missed.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Gate {
    generation: watch::Sender<u64>,
    /// The generation from which on it is worth trying again.
    worth_from: Mutex<u64>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            generation: watch::Sender::new(0),
            worth_from: Mutex::new(0),
            opened: Condvar::new(),
        }
    }

    /// To be read before a try.
    pub(crate) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// A try that began in `generation` was refused.
    pub(crate) fn refused(&self, generation: u64) {
        let mut worth_from = self.worth_from.lock();
        *worth_from = (*worth_from).max(generation + 1);
    }

    /// Another try may succeed.
    pub(crate) fn open(&self) {
        self.generation.send_modify(|generation| *generation += 1);
        // Under the lock, or a waiter that has just looked would miss it.
        let _waiters = self.worth_from.lock();
        self.opened.notify_all();
    }

    /// Whether a try would most likely be refused.
    pub(crate) fn shut(&self) -> bool {
        self.generation() < *self.worth_from.lock()
    }

    /// Waits until a try is worth it. Cancel-safe.
    pub(crate) async fn ready(&self) {
        let worth_from = *self.worth_from.lock();
        let mut generation = self.generation.subscribe();
        // The sender is ours, so it cannot be gone.
        let _closed = generation.wait_for(|generation| *generation >= worth_from).await;
    }

    /// Waits on a thread until a try is worth it, at most so long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let mut worth_from = self.worth_from.lock();
        if self.generation() < *worth_from {
            self.opened.wait_for(&mut worth_from, at_most);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_ready(gate: &Gate) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(gate.ready()).poll(&mut context) == Poll::Ready(())
    }

    #[test]
    fn an_opening_between_the_try_and_its_refusal_is_not_missed() {
        let gate = Gate::new();
        let generation = gate.generation();
        gate.open();
        gate.refused(generation);
        assert!(!gate.shut());
        assert!(is_ready(&gate));
    }

    #[test]
    fn whoever_was_refused_waits_for_the_next_opening() {
        let gate = Gate::new();
        assert!(is_ready(&gate), "nobody was refused");
        gate.refused(gate.generation());
        assert!(gate.shut());
        assert!(!is_ready(&gate));
        gate.open();
        assert!(!gate.shut());
        assert!(is_ready(&gate));
    }
}
