//! The whole of a run, for people, scripts and pipelines; reports of a fleet's parts add up to one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use loushan_schemas::kind::Kind;
use serde::{Deserialize, Serialize};

use super::condition::Verdict;
use super::distribution::Distribution;
use super::timeline::Timeline;
use super::{FleetStats, Summary, millis};
use crate::fault::Fault;

/// A run is the generator's fault when it held itself back in so many of a hundred seconds.
const HELD_BACK_PERCENT: u64 = 5;

/// Counters of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Stations of the fleet.
    pub stations: u64,
    /// Readings in batches sent for the first time, repeats on purpose included.
    pub readings_sent: u64,
    /// Readings in batches that were acknowledged and not refused.
    pub readings_acked: u64,
    /// Batches sent for the first time, repeats on purpose included.
    pub batches_sent: u64,
    /// Batches that were acknowledged and not refused.
    pub batches_acked: u64,
    /// Of the batches sent, those at QoS 0: nobody acknowledges them.
    #[serde(default)]
    pub unpromised: u64,
    /// Batches published twice on purpose.
    pub repeated_on_purpose: u64,
    /// Batches sent again, byte for byte, as their connection ended without an acknowledgement.
    pub redelivered: u64,
    /// Batches acknowledged with a reason code of 0x80 or above.
    pub refused: u64,
    /// Sessions that ended without having been ended by the fleet.
    pub reconnects: u64,
    /// Connects that came to nothing.
    pub failed_connects: u64,
    /// Commands that were answered, and whose answers were acknowledged.
    pub commands_answered: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.stations += other.stations;
        self.readings_sent += other.readings_sent;
        self.readings_acked += other.readings_acked;
        self.batches_sent += other.batches_sent;
        self.batches_acked += other.batches_acked;
        self.unpromised += other.unpromised;
        self.repeated_on_purpose += other.repeated_on_purpose;
        self.redelivered += other.redelivered;
        self.refused += other.refused;
        self.reconnects += other.reconnects;
        self.failed_connects += other.failed_connects;
        self.commands_answered += other.commands_answered;
    }

    /// Batches that are sent and not answered, though they should be.
    #[must_use]
    pub const fn unacknowledged(&self) -> u64 {
        self.batches_sent.saturating_sub(self.batches_acked + self.refused + self.unpromised)
    }
}

/// Readings of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// In batches sent for the first time.
    pub sent: u64,
    /// In batches that were acknowledged.
    pub acknowledged: u64,
}

/// What a run did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// What the scenario is for.
    pub about: String,
    /// The seed it was derived from.
    pub seed: u64,
    /// When its simulated time began: Unix seconds.
    pub start: u64,
    /// How long it took.
    pub took_s: f64,
    /// `open` or `closed`: what latency counts from (see [`crate::options::Schedule`]).
    pub schedule: String,
    /// Processes that played it.
    pub processes: u32,
    /// The sums.
    pub counts: Counts,
    /// From the intended send (open) or the send (closed) to the acknowledgement, redeliveries included.
    pub latency: Distribution,
    /// From opening a socket to the CONNACK.
    pub connect: Distribution,
    /// How much later than they could have batches left: the generator's own part.
    pub lag: Distribution,
    /// Batches that were due while their window was full.
    pub waited_for_window: u64,
    /// Acknowledgements whose latency says nothing about the server: their station was away on purpose.
    pub unmeasured: u64,
    /// By kind.
    pub kinds: BTreeMap<String, Tally>,
    /// Faults done on purpose.
    pub faults: BTreeMap<String, u64>,
    /// What befell devices, told of in what they said.
    pub incidents: BTreeMap<String, u64>,
    /// What went wrong not on purpose, by reason.
    pub errors: BTreeMap<String, u64>,
    /// By the second.
    pub timeline: Timeline,
    /// What was asked of the run.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// The report of a run that has ended.
    #[must_use]
    pub fn of(summary: &Summary, stats: &FleetStats, about: &str, schedule: &str) -> Self {
        let recorder = stats.recorder.lock();
        let kinds = Kind::ALL.into_iter().map(|kind| {
            let at = usize::from(kind.number());
            let get = |sums: &[u64]| sums.get(at).copied().unwrap_or(0);
            let (sent, acknowledged) = (get(&recorder.kinds_sent), get(&recorder.kinds_acked));
            (kind.as_str().to_owned(), Tally { sent, acknowledged })
        });
        let faults = Fault::ALL.into_iter().zip(recorder.faults);
        Self {
            about: about.to_owned(),
            seed: summary.seed,
            start: summary.start,
            took_s: summary.took.as_secs_f64(),
            schedule: schedule.to_owned(),
            processes: 1,
            counts: summary.figures.counts.clone(),
            latency: recorder.latency.clone(),
            connect: recorder.connect.clone(),
            lag: recorder.lag.clone(),
            waited_for_window: recorder.waited,
            unmeasured: recorder.unmeasured,
            kinds: kinds.filter(|(_, tally)| tally.sent > 0).collect(),
            faults: faults
                .filter(|(_, count)| *count > 0)
                .map(|(fault, count)| (fault.as_str().to_owned(), count))
                .collect(),
            incidents: recorder
                .incidents
                .iter()
                .map(|(incident, count)| (incident.name().to_owned(), count))
                .collect(),
            errors: recorder.errors.clone(),
            timeline: recorder.timeline.clone(),
            verdicts: Vec::new(),
        }
    }

    /// Adds the report of another part of the same fleet, which ran at the same time.
    pub fn merge(&mut self, other: Self) {
        self.took_s = self.took_s.max(other.took_s);
        self.processes += other.processes;
        self.counts.add(&other.counts);
        self.latency.merge(&other.latency);
        self.connect.merge(&other.connect);
        self.lag.merge(&other.lag);
        self.waited_for_window += other.waited_for_window;
        self.unmeasured += other.unmeasured;
        for (kind, tally) in other.kinds {
            let sum = self.kinds.entry(kind).or_default();
            sum.sent += tally.sent;
            sum.acknowledged += tally.acknowledged;
        }
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        for (incident, count) in other.incidents {
            *self.incidents.entry(incident).or_default() += count;
        }
        for (reason, count) in other.errors {
            *self.errors.entry(reason).or_default() += count;
        }
        self.timeline.merge(other.timeline);
    }

    /// Readings acknowledged per second, over the whole run.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a rate
    pub fn readings_per_s(&self) -> f64 {
        self.counts.readings_acked as f64 / self.took_s.max(0.001)
    }

    /// Seconds in which the generator itself was what held the load back.
    #[must_use]
    pub fn held_back_s(&self) -> u64 {
        let rows = self.timeline.rows.iter().filter(|row| row.held_back()).count();
        rows as u64 * self.timeline.width_s
    }

    /// Whether the figures are about the generator rather than about the server.
    #[must_use]
    pub fn was_the_bottleneck(&self) -> bool {
        let seconds = self.timeline.rows.len() as u64 * self.timeline.width_s;
        self.held_back_s() * 100 > seconds * HELD_BACK_PERCENT
    }

    /// Whether nothing of what was asked of the run failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdicts.iter().all(|verdict| !verdict.failed)
    }

    /// Where latency counts from, in words.
    #[must_use]
    pub fn counted_from(&self) -> &'static str {
        if self.schedule == "closed" {
            "closed loop, from the send; a slow server slows the schedule"
        } else {
            "open loop, from the intended send; coordinated omission is corrected"
        }
    }
}

fn quantiles(times: &Distribution) -> String {
    let at = |part| millis(times.quantile(part));
    format!("p50 {} p90 {} p99 {} p99.9 {} max {}", at(0.5), at(0.9), at(0.99), at(0.999), at(1.0))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(f, "seed {} --start {}, {:.1} s", self.seed, self.start, self.took_s)?;
        let processes = if self.processes > 1 {
            format!(", in {} processes", self.processes)
        } else {
            String::new()
        };
        writeln!(f, "stations             {}{processes}", c.stations)?;
        writeln!(
            f,
            "readings             {} sent, {} acknowledged ({:.0}/s)",
            c.readings_sent,
            c.readings_acked,
            self.readings_per_s()
        )?;
        for (kind, tally) in &self.kinds {
            writeln!(f, "  {kind:<19}{} sent, {} acknowledged", tally.sent, tally.acknowledged)?;
        }
        writeln!(
            f,
            "batches              {} sent, {} acknowledged, {} refused, {} unanswered",
            c.batches_sent,
            c.batches_acked,
            c.refused,
            c.unacknowledged()
        )?;
        if c.unpromised > 0 {
            writeln!(
                f,
                "  at QoS 0           {} batches, which nobody acknowledges",
                c.unpromised
            )?;
        }
        writeln!(
            f,
            "sent more than once  {} on purpose, {} after a lost connection",
            c.repeated_on_purpose, c.redelivered
        )?;
        writeln!(
            f,
            "connections          {} opened, {} lost, {} connects failed, {} batches waited for a window",
            self.connect.count(),
            c.reconnects,
            c.failed_connects,
            self.waited_for_window
        )?;
        writeln!(f, "commands             {} answered", c.commands_answered)?;
        for (fault, count) in &self.faults {
            writeln!(f, "fault                {fault} {count}")?;
        }
        for (incident, count) in &self.incidents {
            writeln!(f, "incident             {incident} {count}")?;
        }
        for (reason, count) in &self.errors {
            writeln!(f, "error                {count} × {reason}")?;
        }
        writeln!(f, "ack latency          {}", quantiles(&self.latency))?;
        writeln!(f, "  measured           {}", self.counted_from())?;
        if self.unmeasured > 0 {
            writeln!(
                f,
                "  left out           {} acknowledgements that came while a station was away on purpose",
                self.unmeasured
            )?;
        }
        writeln!(f, "connect              {}", quantiles(&self.connect))?;
        write!(f, "generator            left late by {}", quantiles(&self.lag))?;
        if self.held_back_s() > 0 {
            let verdict = if self.was_the_bottleneck() {
                "it was the bottleneck: these figures are about it, not about the server"
            } else {
                "too few to matter"
            };
            write!(
                f,
                "\n  held itself back   in {} of {} s: {verdict}",
                self.held_back_s(),
                self.timeline.rows.len() as u64 * self.timeline.width_s
            )?;
        }
        for verdict in &self.verdicts {
            let word = if verdict.failed { "FAILED" } else { "passed" };
            write!(f, "\n{word}               fail if {}: {}", verdict.fail_if, measured(verdict))?;
        }
        Ok(())
    }
}

/// What was measured, in the unit of the condition.
pub(super) fn measured(verdict: &Verdict) -> String {
    let limit = verdict.fail_if.split(['<', '>']).nth(1).unwrap_or("").trim();
    if limit.ends_with(|c: char| c.is_ascii_alphabetic()) {
        millis(Duration::from_secs_f64(verdict.measured.max(0.0)))
    } else {
        format!("{:.0}", verdict.measured)
    }
}
