//! What happened when: a row for every second of a run, or for several where it is long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Rows kept at most. When a run has more seconds, neighbours are added up: a day has 1,350 rows.
const ROWS: usize = 1800;
/// Rows of the latency's heat map: powers of two from 64 µs to over four minutes.
pub(crate) const HEAT: usize = 23;
/// The first of them ends here: 2 to this, in µs.
const HEAT_FROM: u32 = 6;
/// A batch that had nothing to wait for and left later than this was late through the generator.
pub(crate) const LATE: Duration = Duration::from_millis(10);

/// One row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Batches that left.
    pub batches_sent: u64,
    /// Batches that were acknowledged.
    pub batches_acked: u64,
    /// Readings in batches that were acknowledged.
    pub readings_acked: u64,
    /// Sessions opened.
    pub connects: u64,
    /// Sessions lost.
    pub reconnects: u64,
    /// Faults done on purpose.
    pub faults: u64,
    /// Batches that left late though nothing but this program was in their way.
    pub late: u64,
    /// Latencies of the acknowledgements that came, by powers of two.
    pub heat: [u64; HEAT],
}

impl Row {
    pub(super) fn add(&mut self, other: &Self) {
        self.batches_sent += other.batches_sent;
        self.batches_acked += other.batches_acked;
        self.readings_acked += other.readings_acked;
        self.connects += other.connects;
        self.reconnects += other.reconnects;
        self.faults += other.faults;
        self.late += other.late;
        for (here, there) in self.heat.iter_mut().zip(other.heat) {
            *here += there;
        }
    }

    /// Whether this program was what held the load back: one batch in a hundred was late through it.
    #[must_use]
    pub const fn held_back(&self) -> bool {
        self.late > 0 && self.late * 100 >= self.batches_sent
    }

    pub(crate) fn warm(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let place = us.ilog2().saturating_sub(HEAT_FROM - 1) as usize;
        if let Some(count) = self.heat.get_mut(place.min(HEAT - 1)) {
            *count += 1;
        }
    }
}

/// The upper end of a row of the heat map.
pub(crate) fn heat_below(place: usize) -> Duration {
    Duration::from_micros(1 << (place as u32 + HEAT_FROM))
}

/// The rows of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Seconds that a row stands for.
    pub width_s: u64,
    /// From the run's start on.
    pub rows: Vec<Row>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { width_s: 1, rows: Vec::new() }
    }
}

impl Timeline {
    pub(crate) fn at(&mut self, elapsed: Duration) -> &mut Row {
        while elapsed.as_secs() / self.width_s >= ROWS as u64 {
            self.fold();
        }
        let place = usize::try_from(elapsed.as_secs() / self.width_s).unwrap_or(0);
        if self.rows.len() <= place {
            self.rows.resize_with(place + 1, Row::default);
        }
        // It was made just now.
        &mut self.rows[place]
    }

    fn fold(&mut self) {
        self.width_s *= 2;
        self.rows = self
            .rows
            .chunks(2)
            .map(|pair| {
                let mut sum = Row::default();
                pair.iter().for_each(|row| sum.add(row));
                sum
            })
            .collect();
    }

    pub(crate) fn merge(&mut self, mut other: Self) {
        while self.width_s < other.width_s {
            self.fold();
        }
        while other.width_s < self.width_s {
            other.fold();
        }
        if self.rows.len() < other.rows.len() {
            self.rows.resize_with(other.rows.len(), Row::default);
        }
        for (here, there) in self.rows.iter_mut().zip(&other.rows) {
            here.add(there);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_fewer_and_wider_rows_and_loses_nothing() {
        let mut timeline = Timeline::default();
        for second in 0..10_000 {
            timeline.at(Duration::from_secs(second)).batches_sent += 1;
        }
        assert_eq!((timeline.width_s, timeline.rows.len()), (8, 1250));
        assert!(timeline.rows.iter().all(|row| row.batches_sent == 8));
        let mut short = Timeline::default();
        short.at(Duration::from_secs(9)).batches_sent = 5;
        short.merge(timeline);
        assert_eq!(short.rows.iter().map(|row| row.batches_sent).sum::<u64>(), 10_005);
        assert_eq!(short.rows[1].batches_sent, 13);
    }

    #[test]
    fn a_latency_lies_below_the_end_of_its_row_and_not_below_the_one_before() {
        for ms in [0.01, 0.064, 0.5, 1.0, 7.3, 90.0, 5000.0] {
            let took = Duration::from_secs_f64(ms / 1000.0);
            let mut row = Row::default();
            row.warm(took);
            let place = row.heat.iter().position(|count| *count == 1).unwrap_or(HEAT);
            assert!(took < heat_below(place), "{took:?}");
            assert!(place == 0 || took >= heat_below(place - 1), "{took:?}");
        }
    }
}
