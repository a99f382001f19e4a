//! What is noted while a fleet runs, behind one lock.

use std::collections::BTreeMap;
use std::time::Duration;

use loushan_schemas::kind::Kind;
use tokio::time::Instant;

use super::distribution::Distribution;
use super::timeline::{LATE, Row, Timeline};
use crate::fault::{Fault, FaultCounts};
use crate::faults::Counts;

/// Different reasons told apart; they hold words of the operating system and of the server.
const REASONS: usize = 40;
/// Characters of a reason.
const REASON_CHARS: usize = 160;
/// Kinds' numbers begin at 1.
pub(crate) const KINDS: usize = Kind::ALL.len() + 1;

/// Readings of a batch by their kinds' numbers.
pub(crate) type ByKind = [u32; KINDS];

/// A batch that leaves for the first time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departure {
    pub(crate) kinds: ByKind,
    pub(crate) faults: FaultCounts,
    /// How much later than it could have: nothing was in the way but this program.
    pub(crate) lag: Duration,
    /// Its window was full when it was due.
    pub(crate) waited: bool,
}

#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) begun: Instant,
    pub(crate) latency: Distribution,
    pub(crate) connect: Distribution,
    pub(crate) lag: Distribution,
    pub(crate) timeline: Timeline,
    pub(crate) kinds_sent: [u64; KINDS],
    pub(crate) kinds_acked: [u64; KINDS],
    pub(crate) faults: [u64; Fault::COUNT],
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) incidents: Counts,
    pub(crate) waited: u64,
    pub(crate) unmeasured: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            latency: Distribution::default(),
            connect: Distribution::default(),
            lag: Distribution::default(),
            timeline: Timeline::default(),
            kinds_sent: [0; KINDS],
            kinds_acked: [0; KINDS],
            faults: [0; Fault::COUNT],
            errors: BTreeMap::new(),
            incidents: Counts::default(),
            waited: 0,
            unmeasured: 0,
        }
    }
}

impl Recorder {
    pub(crate) fn row(&mut self) -> &mut Row {
        let elapsed = self.begun.elapsed();
        self.timeline.at(elapsed)
    }

    pub(crate) fn departed(&mut self, departure: &Departure) {
        self.lag.record(departure.lag);
        self.waited += u64::from(departure.waited);
        for (sum, count) in self.kinds_sent.iter_mut().zip(departure.kinds) {
            *sum += u64::from(count);
        }
        let row = self.row();
        row.batches_sent += 1;
        row.late += u64::from(departure.lag > LATE);
        for (fault, count) in Fault::ALL.into_iter().zip(departure.faults) {
            if count > 0 {
                self.fault(fault, count.into());
            }
        }
    }

    pub(crate) fn acknowledged(&mut self, kinds: &ByKind, latency: Option<Duration>) {
        let mut readings = 0;
        for (sum, count) in self.kinds_acked.iter_mut().zip(kinds) {
            *sum += u64::from(*count);
            readings += u64::from(*count);
        }
        self.unmeasured += u64::from(latency.is_none());
        if let Some(latency) = latency {
            self.latency.record(latency);
        }
        let row = self.row();
        row.batches_acked += 1;
        row.readings_acked += readings;
        if let Some(latency) = latency {
            row.warm(latency);
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault, count: u64) {
        if let Some(sum) = self.faults.get_mut(fault as usize) {
            *sum += count;
        }
        self.row().faults += count;
    }

    pub(crate) fn error(&mut self, reason: &str) {
        let mut reason: String = reason.chars().take(REASON_CHARS).collect();
        if self.errors.len() >= REASONS && !self.errors.contains_key(&reason) {
            "others".clone_into(&mut reason);
        }
        *self.errors.entry(reason).or_default() += 1;
    }
}
