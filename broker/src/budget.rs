//! A bound in bytes that many connections share.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes taken and the bound on them. Taking never fails: what was read is taken, and whoever sees
/// the budget full reads no more, so it is passed by at most one read of each connection.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
    freed: Notify,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit, freed: Notify::new() }
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Takes `bytes` unless that would pass the bound.
    pub(crate) fn try_take(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }

    /// Gives back what was taken.
    pub(crate) fn give(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.limit && before.saturating_sub(bytes) < self.limit {
            self.freed.notify_waiters();
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used() >= self.limit
    }

    /// Resolves when the budget is not full. Cancel-safe.
    pub(crate) async fn available(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Registered before the look, so that what is freed between the two is not missed.
            freed.as_mut().enable();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_when_the_budget_falls_below_its_bound() {
        let budget = Arc::new(Budget::new(10));
        budget.take(15);
        assert!(!budget.try_take(1));
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.available().await }
        });
        tokio::task::yield_now().await;
        budget.give(5);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        budget.give(1);
        waiting.await.unwrap();
        assert!(budget.try_take(1) && !budget.try_take(1) && budget.used() == 10);
    }
}
