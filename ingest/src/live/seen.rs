//! What the tap has seen: counts of this second, and what came last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use loushan_broker::latency::Latencies;
use loushan_schemas::ids::StationId;
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::QualityReason;
use loushan_schemas::reading::TimeSource;
use loushan_schemas::topic::Topic;

use super::examples::Examples;
use super::marks::Marks;
use super::stations::Stations;
use crate::pipeline::frame::DurableFrame;

/// Batches kept of a station.
const OF_EACH: usize = 10;
/// Bytes of a payload that are shown.
const HEAD: usize = 256;
/// Between two marks of what is durable: how exactly the journey of a reading is told.
const DURABLE_STEP_MS: i64 = 50;

/// Something that came of a station.
pub type Batch = Arc<DurableFrame>;

/// See the module.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) counts: Counts,
    pub(super) stations: Stations,
    pub(super) recent: Recent,
    pub(super) examples: Examples,
    /// From receiving to being durable and seen here.
    pub(super) durable_latency: Latencies,
    /// From the device's measuring to there.
    pub(super) end_to_end: Latencies,
    pub(super) durable: Marks,
    pub(super) stored: Marks,
}

/// Counts of this second.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) publishes: u64,
    pub(super) payload_bytes: u64,
    /// By [`Kind::ALL`].
    pub(super) kinds: [u64; Kind::ALL.len()],
}

impl Seen {
    pub(super) fn new(batch_bytes: usize) -> Self {
        Self {
            counts: Counts::default(),
            stations: Stations::default(),
            recent: Recent::new(batch_bytes),
            examples: Examples::default(),
            durable_latency: Latencies::default(),
            end_to_end: Latencies::default(),
            durable: Marks::new(DURABLE_STEP_MS),
            // The store flushes far less often than once a second.
            stored: Marks::new(0),
        }
    }

    /// Takes in a durable frame.
    pub(super) fn note(&mut self, frame: &Arc<DurableFrame>, now_ns: i64) {
        self.counts.publishes += 1;
        self.counts.payload_bytes += frame.payload.len() as u64;
        self.examples.note(frame);
        if let Some(took) = since(frame.received.ns(), now_ns) {
            self.durable_latency.record(took);
        }
        for row in &frame.rows {
            let reading = &row.reading;
            let kind = Kind::ALL.iter().position(|kind| *kind == reading.kind());
            if let Some(count) = kind.and_then(|at| self.counts.kinds.get_mut(at)) {
                *count += 1;
            }
            // A replay was late on purpose, and a clock that is wrong says nothing of lateness.
            let trusted = !row.replay
                && reading.times.source == TimeSource::Measured
                && reading.reason != Some(QualityReason::ClockSkew);
            let measured = reading.times.measured.filter(|_| trusted);
            let took = measured.and_then(|at| since(at.ms().saturating_mul(1_000_000), now_ns));
            if let Some(took) = took {
                self.end_to_end.record(took);
            }
        }
        // What is published below a malformed topic is nobody's.
        let Ok(topic) = Topic::parse(&frame.topic) else { return };
        self.stations.note(&topic.station, frame.rows.len(), frame.payload.len());
        self.recent.note(topic.station, frame);
    }
}

fn since(then_ns: i64, now_ns: i64) -> Option<Duration> {
    let ns = now_ns.checked_sub(then_ns)?;
    u64::try_from(ns).ok().map(Duration::from_nanos)
}

/// The beginning of a payload, in memory of its own.
pub(super) fn head(payload: &Bytes) -> Bytes {
    Bytes::copy_from_slice(payload.get(..HEAD).unwrap_or(payload))
}

/// What came of each station last; over the bound the oldest of all go.
#[derive(Debug)]
pub(super) struct Recent {
    of: HashMap<StationId, VecDeque<Batch>>,
    /// In the order in which they came; some are gone already.
    order: VecDeque<(u64, StationId)>,
    bytes: usize,
    limit: usize,
}

impl Recent {
    fn new(limit: usize) -> Self {
        Self { of: HashMap::new(), order: VecDeque::new(), bytes: 0, limit }
    }

    fn note(&mut self, station: StationId, frame: &Batch) {
        let cost = frame.memory_bytes();
        if cost > self.limit {
            return;
        }
        let batches = self.of.entry(station.clone()).or_default();
        if batches.len() >= OF_EACH
            && let Some(gone) = batches.pop_front()
        {
            self.bytes -= gone.memory_bytes();
        }
        batches.push_back(Arc::clone(frame));
        self.bytes += cost;
        self.order.push_back((frame.lsn, station));
        while self.bytes > self.limit
            && let Some((lsn, station)) = self.order.pop_front()
        {
            self.forget(lsn, &station);
        }
        if self.order.len() > self.of.len() * OF_EACH * 2 {
            // Batches that went because their station had newer ones left their places behind.
            let of = &self.of;
            let first = |station: &StationId| Some(of.get(station)?.front()?.lsn);
            self.order.retain(|(lsn, station)| first(station).is_some_and(|at| *lsn >= at));
        }
    }

    /// Lets a batch go, if it is still there.
    fn forget(&mut self, lsn: u64, station: &StationId) {
        let Some(batches) = self.of.get_mut(station) else { return };
        if batches.front().is_none_or(|batch| batch.lsn != lsn) {
            return;
        }
        if let Some(gone) = batches.pop_front() {
            self.bytes -= gone.memory_bytes();
        }
        if batches.is_empty() {
            self.of.remove(station);
        }
    }

    pub(super) fn of(&self, station: &StationId) -> Vec<Batch> {
        self.of.get(station).into_iter().flat_map(|all| all.iter().rev().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use loushan_schemas::time::ReceiveTime;

    use super::*;

    fn frame(lsn: u64, bytes: usize) -> Batch {
        Arc::new(DurableFrame {
            lsn,
            received: ReceiveTime::from_ns(0),
            topic: "nb1/xinpu/bs1/u/t".into(),
            payload: Bytes::from(vec![0; bytes]),
            rows: Vec::new(),
            rejects: Vec::new(),
            duplicates: 0,
        })
    }

    fn lsns(recent: &Recent, station: &StationId) -> Vec<u64> {
        recent.of(station).iter().map(|batch| batch.lsn).collect()
    }

    #[test]
    fn the_last_ten_of_a_station_are_kept_and_over_the_bound_the_oldest_of_all_go() {
        let (a, b) = (StationId::new("a").unwrap(), StationId::new("b").unwrap());
        let mut recent = Recent::new(12 * frame(1, 1000).memory_bytes());
        for lsn in 1..=11 {
            recent.note(a.clone(), &frame(lsn, 1000));
        }
        assert_eq!(lsns(&recent, &a), (2..=11).rev().collect::<Vec<_>>());
        for lsn in 12..=20 {
            recent.note(b.clone(), &frame(lsn, 1000));
        }
        assert!(recent.bytes <= recent.limit);
        assert_eq!(lsns(&recent, &b), (12..=20).rev().collect::<Vec<_>>());
        assert_eq!(lsns(&recent, &a), [11, 10, 9]);
        recent.note(a.clone(), &frame(21, 1 << 20));
        assert_eq!(lsns(&recent, &a), [11, 10, 9], "what is larger than all is not kept");
    }

    #[test]
    fn many_batches_of_few_stations_leave_no_long_list_behind() {
        let (a, b) = (StationId::new("a").unwrap(), StationId::new("b").unwrap());
        let mut recent = Recent::new(1 << 20);
        recent.note(b.clone(), &frame(0, 10));
        for lsn in 1..=10_000 {
            recent.note(a.clone(), &frame(lsn, 10));
        }
        assert!(recent.order.len() <= 4 * OF_EACH, "{}", recent.order.len());
        assert_eq!(lsns(&recent, &a).len(), OF_EACH);
        assert_eq!(lsns(&recent, &b), [0], "a quiet station keeps what it had");
    }
}
