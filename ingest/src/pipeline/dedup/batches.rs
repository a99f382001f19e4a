//! What the stations published lately: a redelivered batch is known by (station, stream, session,
//! seq) and the digest of its payload.
//!
//! Per station and stream the last [`SESSIONS`] sessions, each with its last [`WINDOW`] publishes by
//! seq. Everything here is a short cut: a publish that was forgotten is decided reading by reading,
//! so forgetting may come at any time and needs no low-water mark to be safe.

use std::collections::VecDeque;

use hashbrown::HashMap;
use loushan_schemas::ids::StationId;
use loushan_schemas::reject::RejectReason;

/// Sessions per station and stream: the present one, and the ones whose publishes may still come
/// out of the station's store after it was rebooted in an outage.
pub(crate) const SESSIONS: usize = 3;
/// Publishes per session: four times a station's greatest window of unacknowledged publishes, which
/// is what it can send again.
pub(crate) const WINDOW: usize = 256;

/// Publishes of a station that are counted by a seq of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Stream {
    /// Telemetry, alarms and replays.
    Batches = 1,
    /// The station's own figures.
    Status = 2,
    /// Results of commands.
    Commands = 3,
}

impl Stream {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::Batches, Self::Status, Self::Commands].into_iter().find(|s| *s as u32 == number)
    }
}

/// Names a publish of a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchId {
    pub(crate) station: StationId,
    pub(crate) stream: Stream,
    pub(crate) session: u32,
    pub(crate) seq: u64,
}

/// What a publish was answered, to be answered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Readings in it.
    pub(crate) readings: u32,
    /// Readings of it that were rejected.
    pub(crate) rejected: u32,
    /// The first reject's reason.
    pub(crate) reason: Option<RejectReason>,
    /// No reading was accepted or stored before.
    pub(crate) nothing_accepted: bool,
}

/// A remembered publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its place in the session.
    pub(crate) seq: u64,
    /// xxh3-128 of the payload.
    pub(crate) digest: u128,
    /// Its frame.
    pub(crate) lsn: u64,
    /// What was answered.
    pub(crate) answer: Answer,
}

#[derive(Debug, Clone)]
struct Session {
    stream: Stream,
    session: u32,
    /// In rising order of seq.
    seen: VecDeque<Seen>,
}

#[derive(Debug, Clone, Default)]
struct Station {
    /// The one that began last is last.
    sessions: Vec<Session>,
    used: u64,
}

/// What all stations published lately.
#[derive(Debug, Clone)]
pub(crate) struct Batches {
    stations: HashMap<StationId, Station>,
    clock: u64,
    bytes: usize,
    limit: usize,
}

/// Name, map entry and the vectors' heads, about.
const STATION_BYTES: usize = 256;

impl Station {
    fn bytes(&self) -> usize {
        let seen: usize = self.sessions.iter().map(|s| s.seen.capacity()).sum();
        STATION_BYTES + self.sessions.capacity() * size_of::<Session>() + seen * size_of::<Seen>()
    }
}

impl Batches {
    /// An empty memory of at most about `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { stations: HashMap::new(), clock: 0, bytes: 0, limit }
    }

    /// The publish with that name, whatever its digest.
    pub(crate) fn find(&self, id: &BatchId) -> Option<&Seen> {
        let sessions = &self.stations.get(&id.station)?.sessions;
        let session =
            sessions.iter().rev().find(|s| s.stream == id.stream && s.session == id.session)?;
        let at = session.seen.binary_search_by_key(&id.seq, |seen| seen.seq).ok()?;
        session.seen.get(at)
    }

    /// Remembers a publish; one of the same name with another digest gives way.
    pub(crate) fn note(&mut self, id: &BatchId, seen: Seen) {
        self.clock += 1;
        let station = match self.stations.get_mut(&id.station) {
            Some(station) => {
                self.bytes = self.bytes.saturating_sub(station.bytes());
                station
            }
            None => self.stations.entry(id.station.clone()).or_default(),
        };
        station.used = self.clock;
        let stream = id.stream;
        let at = station
            .sessions
            .iter()
            .rposition(|s| s.stream == stream && s.session == id.session)
            .unwrap_or_else(|| {
                let of_stream = station.sessions.iter().filter(|s| s.stream == stream).count();
                if of_stream >= SESSIONS
                    && let Some(oldest) = station.sessions.iter().position(|s| s.stream == stream)
                {
                    station.sessions.remove(oldest);
                }
                let seen = VecDeque::new();
                station.sessions.push(Session { stream, session: id.session, seen });
                station.sessions.len() - 1
            });
        if let Some(Session { seen: window, .. }) = station.sessions.get_mut(at) {
            match window.binary_search_by_key(&seen.seq, |s| s.seq) {
                Ok(at) => {
                    if let Some(old) = window.get_mut(at) {
                        *old = seen;
                    }
                }
                Err(at) if window.len() < WINDOW => window.insert(at, seen),
                // Older than everything in a full window: forgotten at once.
                Err(0) => {}
                Err(at) => {
                    window.pop_front();
                    window.insert(at - 1, seen);
                }
            }
        }
        self.bytes += station.bytes();
        while self.bytes > self.limit && self.stations.len() > 1 {
            self.forget();
        }
    }

    /// Forgets the eighth of the stations that has been silent longest.
    fn forget(&mut self) {
        let mut used: Vec<u64> = self.stations.values().map(|s| s.used).collect();
        let eighth = used.len() / 8;
        let (_, bound, _) = used.select_nth_unstable(eighth);
        let bound = *bound;
        self.stations.retain(|_, station| station.used > bound);
        self.bytes = self.stations.values().map(Station::bytes).sum();
    }

    /// No frame above `above` will ever be durable: those publishes never came.
    pub(crate) fn roll_back(&mut self, above: u64) {
        // Rare, and a few milliseconds for a whole city.
        for station in self.stations.values_mut() {
            for session in &mut station.sessions {
                session.seen.retain(|seen| seen.lsn <= above);
            }
        }
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everything remembered, sessions in the order in which they began, for the snapshot.
    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = (&StationId, Stream, u32, impl Iterator<Item = &Seen>)> {
        self.stations.iter().flat_map(|(name, station)| {
            station.sessions.iter().map(move |s| (name, s.stream, s.session, s.seen.iter()))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn id(station: &str, session: u32, seq: u64) -> BatchId {
        let station = StationId::new(station).unwrap();
        BatchId { station, stream: Stream::Batches, session, seq }
    }

    fn seen(seq: u64, digest: u128, lsn: u64) -> Seen {
        let answer = Answer { readings: 1, rejected: 0, reason: None, nothing_accepted: false };
        Seen { seq, digest, lsn, answer }
    }

    fn note(batches: &mut Batches, station: &str, session: u32, seq: u64, lsn: u64) {
        batches.note(&id(station, session, seq), seen(seq, 1, lsn));
    }

    #[test]
    fn streams_and_sessions_are_kept_apart_and_another_digest_gives_way() {
        let mut batches = Batches::new(1 << 20);
        note(&mut batches, "a", 1, 0, 1);
        note(&mut batches, "a", 2, 0, 2);
        assert_eq!(batches.find(&id("a", 1, 0)).unwrap().lsn, 1);
        assert_eq!(batches.find(&id("a", 2, 0)).unwrap().lsn, 2);
        assert_eq!(batches.find(&id("b", 1, 0)), None);
        assert_eq!(batches.find(&BatchId { stream: Stream::Status, ..id("a", 1, 0) }), None);
        batches.note(&id("a", 1, 0), seen(0, 9, 3));
        assert_eq!(batches.find(&id("a", 1, 0)).unwrap().digest, 9);
    }

    #[test]
    fn a_window_keeps_the_greatest_seqs_whatever_their_order() {
        let mut batches = Batches::new(1 << 20);
        let window = WINDOW as u64;
        for seq in (0..window).rev().chain(window..window + 10) {
            note(&mut batches, "a", 1, seq, seq + 1);
        }
        note(&mut batches, "a", 1, 3, 999);
        for seq in 0..10 {
            assert_eq!(batches.find(&id("a", 1, seq)), None, "{seq}");
        }
        for seq in 10..window + 10 {
            assert_eq!(batches.find(&id("a", 1, seq)).unwrap().lsn, seq + 1);
        }
    }

    #[test]
    fn the_session_that_began_first_is_forgotten_first() {
        let mut batches = Batches::new(1 << 20);
        for session in 1..=4 {
            note(&mut batches, "a", session, 0, u64::from(session));
        }
        assert_eq!(batches.find(&id("a", 1, 0)), None);
        for session in 2..=4 {
            assert!(batches.find(&id("a", session, 0)).is_some(), "{session}");
        }
    }

    #[test]
    fn over_the_bound_the_stations_silent_longest_are_forgotten() {
        let mut batches = Batches::new(64 << 10);
        for n in 0..200 {
            note(&mut batches, &format!("s{n}"), 1, 0, n + 1);
            note(&mut batches, "busy", 1, n, n + 1);
            assert!(batches.bytes() <= 64 << 10);
        }
        assert_eq!(batches.find(&id("s0", 1, 0)), None);
        assert!(batches.find(&id("s199", 1, 0)).is_some());
        assert!(batches.find(&id("busy", 1, 199)).is_some());
    }

    #[test]
    fn a_failed_sync_takes_out_what_came_above() {
        let mut batches = Batches::new(1 << 20);
        for seq in 0..4 {
            note(&mut batches, "a", 1, seq, seq + 1);
        }
        batches.roll_back(2);
        assert!(batches.find(&id("a", 1, 1)).is_some());
        assert_eq!(batches.find(&id("a", 1, 2)), None);
    }
}
