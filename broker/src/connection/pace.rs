//! How fast a client is read: a bound in publishes and one in bytes a second.
//!
//! What was read is served. It is the next read that waits, and the keep-alive timer with it, until
//! what was read fits the bounds again: nothing is refused and nothing is lost, the client's own
//! socket tells it to slow down. What it owes when it goes it still owes when it comes back: otherwise
//! to connect anew would be faster than to wait.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::BrokerConfig;

/// What a client that was silent may send at once, as time at its full rate.
const BURST: Duration = Duration::from_secs(1);

/// The paces of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    publishes: Option<Rate>,
    bytes: Option<Rate>,
}

/// So many units a second.
#[derive(Debug, Clone)]
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

    /// Whether some of what was read would not have arrived yet at the full rate.
    fn is_ahead(&self, now: Instant) -> bool {
        [&self.publishes, &self.bytes].into_iter().flatten().any(|rate| rate.due > now)
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

/// The paces of clients that have gone ahead of them, by a hash of their ids.
#[derive(Debug, Default)]
pub(crate) struct Debts {
    hasher: RandomState,
    paces: Mutex<HashMap<u64, Pace>>,
}

impl Debts {
    /// A client's connection has ended.
    pub(super) fn leave(&self, client_id: &str, pace: &Pace) {
        if pace.is_bounded() && pace.is_ahead(Instant::now()) {
            self.paces.lock().insert(self.hasher.hash_one(client_id), pace.clone());
        }
    }

    /// The pace of a client's next connection.
    pub(super) fn resume(&self, client_id: &str, config: &BrokerConfig) -> Pace {
        let pace = Pace::new(config);
        if !pace.is_bounded() {
            return pace;
        }
        self.paces.lock().remove(&self.hasher.hash_one(client_id)).unwrap_or(pace)
    }

    /// Forgets what time has paid.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.paces.lock().retain(|_, pace| pace.is_ahead(now));
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

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_still_owes_what_it_owed_and_others_do_not() {
        let config = BrokerConfig { max_publishes_per_second: 10, ..BrokerConfig::default() };
        tokio::time::advance(BURST).await;
        let debts = Debts::default();
        let mut pace = debts.resume("a", &config);
        pace.published(10);
        // It has had what may come at once, and waits for nothing yet.
        assert_eq!(pace.wait(), None);
        debts.leave("a", &pace);
        debts.sweep();
        let (mut again, mut other) = (debts.resume("a", &config), debts.resume("b", &config));
        again.published(10);
        other.published(10);
        assert_eq!((again.wait().unwrap() - Instant::now()).as_millis(), 1000);
        assert_eq!(other.wait(), None);
        debts.leave("a", &again);
        tokio::time::advance(Duration::from_secs(2)).await;
        debts.sweep();
        assert!(debts.paces.lock().is_empty());
    }

    #[test]
    fn without_bounds_there_is_no_waiting() {
        let mut pace = Pace::new(&BrokerConfig::default());
        pace.published(usize::MAX);
        pace.read(usize::MAX);
        assert_eq!(pace.wait(), None);
    }
}
