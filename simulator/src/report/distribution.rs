//! A distribution of times that can be written down, read again and added up.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time that is told apart from longer ones: ten minutes, in µs.
const LONGEST_US: u64 = 600_000_000;

/// Times, each kept to 1 %.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Distribution(Option<Histogram<u64>>);

impl Default for Distribution {
    fn default() -> Self {
        // Two digits: 1 % of a time. The bounds are constants that the constructor takes.
        Self(Histogram::new_with_bounds(1, LONGEST_US, 2).ok())
    }
}

impl Distribution {
    pub(crate) fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
        self.add(us, 1);
    }

    fn add(&mut self, us: u64, count: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record_n(us.clamp(1, LONGEST_US), count);
        }
    }

    /// Adds another's times.
    pub fn merge(&mut self, other: &Self) {
        for (us, count) in other.buckets() {
            self.add(us, count);
        }
    }

    /// How many times there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The time that this part of them did not exceed; zero where there are none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let us = self.0.as_ref().map_or(0, |histogram| histogram.value_at_quantile(part));
        Duration::from_micros(us)
    }

    fn buckets(&self) -> Vec<(u64, u64)> {
        let recorded = self.0.as_ref().map(Histogram::iter_recorded).into_iter().flatten();
        recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

/// How it is written: figures for people and scripts, buckets to add up exactly.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    count: u64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    /// Upper bound in µs, and how many.
    buckets: Vec<(u64, u64)>,
}

impl From<Written> for Distribution {
    fn from(written: Written) -> Self {
        let mut distribution = Self::default();
        for (us, count) in written.buckets {
            distribution.add(us, count);
        }
        distribution
    }
}

impl From<Distribution> for Written {
    fn from(distribution: Distribution) -> Self {
        let us =
            |part| u64::try_from(distribution.quantile(part).as_micros()).unwrap_or(LONGEST_US);
        Self {
            count: distribution.count(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: us(1.0),
            buckets: distribution.buckets(),
        }
    }
}
