//! How long things took, counted so that somebody can ask for quantiles of the last seconds.
//!
//! Counting is one addition to a word of a fixed table, without a lock: it happens on the acknowledged
//! path. Each power of two microseconds has [`PARTS`] buckets, so a quantile is at most an eighth off.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of a power of two.
const PARTS: usize = 8;
/// Powers of two microseconds above the first [`PARTS`] microseconds: up to some hours.
const POWERS: usize = 32;
/// All buckets.
const BUCKETS: usize = PARTS * (POWERS + 1);

/// Counts by length of time, only ever rising.
#[derive(Debug)]
pub struct Latencies(Box<[AtomicU64]>);

/// The counts at one moment, or what was added between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyCounts(Box<[u64]>);

impl Default for Latencies {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&self, took: Duration) {
        if let Some(bucket) = self.0.get(bucket(took)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts now.
    #[must_use]
    pub fn now(&self) -> LatencyCounts {
        LatencyCounts(self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect())
    }
}

impl LatencyCounts {
    /// What was added since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().zip(&earlier.0).map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The length of time that a share `q` (0 to 1) of them did not pass, to an eighth; `None` of none.
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = ((count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.0.iter().position(|n| {
            seen += n;
            seen >= wanted
        });
        found.map(upper)
    }
}

/// The bucket of a length of time; what is longer than all goes into the last.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let Ok(small) = usize::try_from(micros) else { return BUCKETS - 1 };
    if small < PARTS {
        return small;
    }
    // 8 is 2^3: from here on each power has PARTS buckets of the same width.
    let power = small.ilog2() as usize - 3;
    let part = (small >> power) - PARTS;
    (PARTS * (power + 1) + part).min(BUCKETS - 1)
}

/// The greatest length of time in a bucket.
fn upper(bucket: usize) -> Duration {
    let (power, part) = (bucket / PARTS, (bucket % PARTS) as u64);
    let micros = match power.checked_sub(1) {
        None => part,
        Some(power) => ((PARTS as u64 + part + 1) << power) - 1,
    };
    Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_length_of_time_is_told_to_an_eighth(micros in 0_u64..(1 << 34)) {
            let took = Duration::from_micros(micros);
            let latencies = Latencies::default();
            latencies.record(took);
            let told = latencies.now().quantile(0.5).unwrap();
            prop_assert!(told >= took);
            prop_assert!(told.as_micros() <= took.as_micros() + took.as_micros() / 8);
        }
    }

    #[test]
    fn quantiles_are_of_what_came_since_and_of_nothing_there_are_none() {
        let latencies = Latencies::default();
        for _ in 0..100 {
            latencies.record(Duration::from_secs(5));
        }
        let earlier = latencies.now();
        assert_eq!(latencies.now().since(&earlier).quantile(0.5), None);
        for n in 1..=100 {
            latencies.record(Duration::from_millis(n));
        }
        let since = latencies.now().since(&earlier);
        assert_eq!(since.count(), 100);
        let ms = |q| since.quantile(q).unwrap().as_millis();
        assert!((50..=57).contains(&ms(0.5)), "{}", ms(0.5));
        assert!((99..=112).contains(&ms(0.99)), "{}", ms(0.99));
    }

    #[test]
    fn what_is_longer_than_all_buckets_is_in_the_last() {
        let latencies = Latencies::default();
        latencies.record(Duration::MAX);
        assert_eq!(latencies.now().count(), 1);
    }
}
