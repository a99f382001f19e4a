//! Figures of a running fleet, and the report of one that has run.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

mod condition;
mod distribution;
mod html;
mod junit;
mod record;
mod timeline;
mod whole;

pub use condition::{Condition, Verdict};
pub use distribution::Distribution;
pub(crate) use record::{ByKind, Departure, KINDS, Recorder};
pub use timeline::{Row, Timeline};
pub use whole::{Counts, Report, Tally};

/// What a fleet has done so far. Shared by all its stations; read at any time.
#[derive(Debug, Default)]
pub struct FleetStats {
    pub(crate) stations: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) readings_sent: AtomicU64,
    pub(crate) readings_acked: AtomicU64,
    pub(crate) batches_sent: AtomicU64,
    pub(crate) batches_acked: AtomicU64,
    pub(crate) unpromised: AtomicU64,
    pub(crate) repeated_on_purpose: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) failed_connects: AtomicU64,
    pub(crate) commands_answered: AtomicU64,
    pub(crate) recorder: Mutex<Recorder>,
    trouble: Mutex<Option<String>>,
}

impl FleetStats {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn trouble(&self, text: String) {
        *self.trouble.lock() = Some(text);
    }

    pub(crate) fn well(&self) {
        let mut trouble = self.trouble.lock();
        if trouble.is_some() {
            *trouble = None;
        }
    }

    /// The figures at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Acknowledged before sent, so that never more is acknowledged than was sent.
        let (readings_acked, batches_acked) = (get(&self.readings_acked), get(&self.batches_acked));
        let recorder = self.recorder.lock();
        let quantile = |part| recorder.latency.quantile(part);
        Snapshot {
            counts: Counts {
                stations: get(&self.stations),
                readings_sent: get(&self.readings_sent),
                readings_acked,
                batches_sent: get(&self.batches_sent),
                batches_acked,
                unpromised: get(&self.unpromised),
                repeated_on_purpose: get(&self.repeated_on_purpose),
                redelivered: get(&self.redelivered),
                refused: get(&self.refused),
                reconnects: get(&self.reconnects),
                failed_connects: get(&self.failed_connects),
                commands_answered: get(&self.commands_answered),
            },
            connected: get(&self.connected),
            ack_p50: quantile(0.5),
            ack_p99: quantile(0.99),
            ack_p999: quantile(0.999),
            ack_max: quantile(1.0),
            trouble: self.trouble.lock().clone(),
        }
    }
}

/// The figures at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What was counted.
    pub counts: Counts,
    /// Stations with a session.
    pub connected: u64,
    /// Half of the acknowledgements took no longer; what that counts from, the schedule says.
    pub ack_p50: Duration,
    /// 99 of 100 took no longer.
    pub ack_p99: Duration,
    /// 999 of 1,000 took no longer.
    pub ack_p999: Duration,
    /// None took longer.
    pub ack_max: Duration,
    /// What went wrong last, if nothing went right since.
    pub trouble: Option<String>,
}

impl Snapshot {
    /// One line of progress, with the readings acknowledged per second since an earlier snapshot.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a rate for people
    pub fn line(&self, earlier: &Self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let rate = self.counts.readings_acked.saturating_sub(earlier.counts.readings_acked) as f64
            / seconds;
        let mut line = format!(
            "{}/{} stations, {rate:.0} readings/s, {} acknowledged, {} unanswered batches, \
             {} redelivered, ack p50 {} p99 {}",
            self.connected,
            self.counts.stations,
            self.counts.readings_acked,
            self.counts.unacknowledged(),
            self.counts.redelivered,
            millis(self.ack_p50),
            millis(self.ack_p99),
        );
        if let Some(trouble) = &self.trouble {
            line.push_str(", trouble: ");
            line.push_str(trouble);
        }
        line
    }
}

fn millis(d: Duration) -> String {
    format!("{:.1} ms", d.as_secs_f64() * 1000.0)
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The seed it was derived from.
    pub seed: u64,
    /// When its simulated time began: Unix seconds. With the seed it gives the same bytes again.
    pub start: u64,
    /// How long it took.
    pub took: Duration,
    /// The figures at its end.
    pub figures: Snapshot,
}

impl fmt::Display for Summary {
    #[allow(clippy::cast_precision_loss)] // a rate for people
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.figures;
        let seconds = self.took.as_secs_f64().max(0.001);
        writeln!(f, "seed {} --start {}, {seconds:.1} s", self.seed, self.start)?;
        writeln!(f, "stations             {}", s.counts.stations)?;
        writeln!(
            f,
            "readings             {} sent, {} acknowledged ({:.0}/s)",
            s.counts.readings_sent,
            s.counts.readings_acked,
            s.counts.readings_acked as f64 / seconds
        )?;
        writeln!(
            f,
            "batches              {} sent, {} acknowledged, {} refused, {} unanswered",
            s.counts.batches_sent,
            s.counts.batches_acked,
            s.counts.refused,
            s.counts.unacknowledged()
        )?;
        if s.counts.unpromised > 0 {
            writeln!(
                f,
                "  at QoS 0           {} batches, which nobody acknowledges",
                s.counts.unpromised
            )?;
        }
        writeln!(
            f,
            "sent more than once  {} on purpose, {} after a lost connection",
            s.counts.repeated_on_purpose, s.counts.redelivered
        )?;
        writeln!(
            f,
            "connections          {} lost, {} connects failed",
            s.counts.reconnects, s.counts.failed_connects
        )?;
        writeln!(f, "commands             {} answered", s.counts.commands_answered)?;
        write!(
            f,
            "ack latency          p50 {} p99 {} p99.9 {} max {}",
            millis(s.ack_p50),
            millis(s.ack_p99),
            millis(s.ack_p999),
            millis(s.ack_max)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up_and_trouble_is_told_until_it_is_over() {
        let stats = FleetStats::default();
        let earlier = stats.snapshot();
        FleetStats::add(&stats.batches_sent, 10);
        FleetStats::add(&stats.batches_acked, 6);
        FleetStats::add(&stats.refused, 1);
        FleetStats::add(&stats.readings_acked, 300);
        for ms in 1..=100 {
            stats.recorder.lock().latency.record(Duration::from_millis(ms));
        }
        stats.trouble("connect failed: no route".to_owned());
        let now = stats.snapshot();
        assert_eq!(now.counts.unacknowledged(), 3);
        // Two digits of 50 and 99 ms.
        assert!((50..=51).contains(&now.ack_p50.as_millis()), "{:?}", now.ack_p50);
        assert!((99..=100).contains(&now.ack_p99.as_millis()), "{:?}", now.ack_p99);
        let line = now.line(&earlier, Duration::from_secs(2));
        assert!(line.contains("150 readings/s") && line.contains("no route"), "{line}");
        stats.well();
        assert_eq!(stats.snapshot().trouble, None);
    }
}
