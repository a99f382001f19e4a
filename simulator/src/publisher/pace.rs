//! When, by the wall clock, what happens in simulated time happens.

use std::time::Duration;

use tokio::time::Instant;

/// Simulated time by the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) begun: Instant,
    pub(crate) start_ms: i64,
    /// Batches that are due later are not made.
    pub(crate) end_ms: i64,
    pub(crate) speed: u32,
}

impl Pace {
    pub(super) fn wall(&self, simulated_ms: i64) -> Instant {
        let passed = (simulated_ms - self.start_ms).max(0).unsigned_abs();
        self.begun
            + Duration::from_micros(passed.saturating_mul(1000) / u64::from(self.speed.max(1)))
    }

    pub(super) fn simulated(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.begun).as_millis();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        self.start_ms.saturating_add(passed.saturating_mul(self.speed.into()))
    }
}
