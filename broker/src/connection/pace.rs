//! How fast a client is read: a bound in publishes and one in bytes a second.
//!
//! What was read is served. It is the next read that waits, and the keep-alive timer with it, until
//! what was read fits the bounds again: nothing is refused and nothing is lost, the client's own
//! socket tells it to slow down.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::BrokerConfig;

/// What a client that was silent may send at once, as time at its full rate.
const BURST: Duration = Duration::from_secs(1);

/// The paces of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    publishes: Option<Rate>,
    bytes: Option<Rate>,
}

/// So many units a second.
#[derive(Debug)]
struct Rate {
    seconds_per_unit: f64,
    /// When everything taken so far would have arrived at the full rate.
    due: Instant,
}

impl Rate {
    // Neither bound has digits that a float loses.
    #[allow(clippy::cast_precision_loss)]
    fn new(per_second: u64) -> Option<Self> {
        (per_second > 0)
            .then(|| Self { seconds_per_unit: 1.0 / per_second as f64, due: Instant::now() })
    }

    #[allow(clippy::cast_precision_loss)]
    fn take(&mut self, units: usize, now: Instant) {
        self.due =
            self.due.max(now) + Duration::from_secs_f64(units as f64 * self.seconds_per_unit);
    }

    /// When there may be more; `None` is now.
    fn wait(&self, now: Instant) -> Option<Instant> {
        // An instant before the clock's first is in the past, too.
        self.due.checked_sub(BURST).filter(|at| *at > now)
    }
}

impl Pace {
    pub(super) fn new(config: &BrokerConfig) -> Self {
        Self {
            publishes: Rate::new(config.max_publishes_per_second.into()),
            bytes: Rate::new(config.max_bytes_per_second),
        }
    }

    /// Whether there is a bound at all.
    pub(super) const fn is_bounded(&self) -> bool {
        self.publishes.is_some() || self.bytes.is_some()
    }

    pub(super) fn published(&mut self, count: usize) {
        if let Some(rate) = self.publishes.as_mut().filter(|_| count > 0) {
            rate.take(count, Instant::now());
        }
    }

    pub(super) fn read(&mut self, bytes: usize) {
        if let Some(rate) = &mut self.bytes {
            rate.take(bytes, Instant::now());
        }
    }

    /// When the client may be read again; `None` is now.
    pub(super) fn wait(&self) -> Option<Instant> {
        if !self.is_bounded() {
            return None;
        }
        let now = Instant::now();
        let rates = [&self.publishes, &self.bytes].into_iter().flatten();
        rates.filter_map(|rate| rate.wait(now)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_of_the_rate_at_once_and_then_the_rate() {
        let config = BrokerConfig { max_publishes_per_second: 10, ..BrokerConfig::default() };
        // The clock of a test may begin where there is no second before.
        tokio::time::advance(BURST).await;
        let mut pace = Pace::new(&config);
        let begun = Instant::now();
        pace.published(10);
        assert_eq!(pace.wait(), None);
        pace.published(25);
        let until = pace.wait().unwrap();
        assert_eq!((until - begun).as_millis(), 2500);
        tokio::time::advance(until - begun).await;
        assert_eq!(pace.wait(), None);
        // Silence saves up no more than one burst.
        tokio::time::advance(Duration::from_secs(100)).await;
        pace.published(20);
        assert_eq!((pace.wait().unwrap() - Instant::now()).as_millis(), 1000);
    }

    #[test]
    fn without_bounds_there_is_no_waiting() {
        let mut pace = Pace::new(&BrokerConfig::default());
        pace.published(usize::MAX);
        pace.read(usize::MAX);
        assert_eq!(pace.wait(), None);
    }
}
