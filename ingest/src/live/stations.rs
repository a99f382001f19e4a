//! What each station did in the last minute, and what was last told of it.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use loushan_schemas::ids::StationId;

use crate::registry::Station;

/// Seconds of traffic that are kept of a station.
const SECONDS: usize = 60;
/// Seconds that a rate is the mean of.
const RATE_SECONDS: usize = 10;
/// A station that is born and from which nothing came for so long is silent (DOMAIN 5).
const SILENT_MS: i64 = 180_000;

/// How a station is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StationState {
    Online,
    Offline,
    Silent,
    Unknown,
}

impl StationState {
    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Silent => "silent",
            Self::Unknown => "unknown",
        }
    }
}

/// How a station is, at `now_ms`.
pub(crate) fn state_of(station: &Station, now_ms: i64) -> StationState {
    let heard = station.last_heard.map(|at| at.ms());
    match station.online {
        None => StationState::Unknown,
        Some(false) => StationState::Offline,
        Some(true) if heard.is_none_or(|at| now_ms - at > SILENT_MS) => StationState::Silent,
        Some(true) => StationState::Online,
    }
}

/// One station in one tick.
#[derive(Debug, Clone)]
pub(super) struct StationNow {
    pub(super) name: Arc<str>,
    pub(super) project: Option<Arc<str>>,
    pub(super) told: Told,
    /// Accepted readings of the last second.
    pub(super) last_second: u32,
    /// Something of it is other than in the tick before.
    pub(super) changed: bool,
}

/// What is told of a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) state: StationState,
    /// Tenths of a reading a second.
    pub(super) rate: u64,
    pub(super) last_heard_ms: Option<i64>,
}

/// The last minute of one station.
#[derive(Debug)]
struct Minute {
    name: Arc<str>,
    project: Option<Arc<str>>,
    /// Readings and payload bytes of this second.
    now: (u32, u32),
    /// Of the seconds before, oldest first.
    seconds: VecDeque<(u32, u32)>,
    told: Option<Told>,
    /// The registry had it in the last tick.
    known: bool,
}

impl Minute {
    fn rate(&self) -> u64 {
        let sum: u64 =
            self.seconds.iter().rev().take(RATE_SECONDS).map(|(n, _)| u64::from(*n)).sum();
        // Tenths: the sum of ten seconds.
        sum * 10 / RATE_SECONDS as u64
    }
}

/// All stations.
#[derive(Debug, Default)]
pub(super) struct Stations(HashMap<StationId, Minute>);

impl Stations {
    fn minute(&mut self, station: &StationId) -> &mut Minute {
        self.0.entry(station.clone()).or_insert_with(|| Minute {
            name: station.as_str().into(),
            project: None,
            now: (0, 0),
            seconds: VecDeque::new(),
            told: None,
            known: false,
        })
    }

    /// A publish of a station was accepted.
    pub(super) fn note(&mut self, station: &StationId, readings: usize, bytes: usize) {
        let minute = self.minute(station);
        let add = |to: &mut u32, n: usize| {
            *to = to.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        };
        add(&mut minute.now.0, readings);
        add(&mut minute.now.1, bytes);
    }

    /// A second is over: it is put behind the others.
    pub(super) fn turn(&mut self) {
        for minute in self.0.values_mut() {
            if minute.seconds.len() >= SECONDS {
                minute.seconds.pop_front();
            }
            minute.seconds.push_back(std::mem::take(&mut minute.now));
            minute.known = false;
        }
    }

    /// What is to be told of a station after [`Stations::turn`].
    pub(super) fn tell(&mut self, station: &Station, now_ms: i64) -> StationNow {
        let minute = self.minute(&station.station);
        minute.known = true;
        let project = station.site.as_ref().map(|site| site.project.as_str());
        if minute.project.as_deref() != project {
            minute.project = project.map(Arc::from);
        }
        let told = Told {
            state: state_of(station, now_ms),
            rate: minute.rate(),
            last_heard_ms: station.last_heard.map(|at| at.ms()),
        };
        let changed = minute.told.replace(told) != Some(told);
        StationNow {
            name: Arc::clone(&minute.name),
            project: minute.project.clone(),
            told,
            last_second: minute.seconds.back().map_or(0, |(n, _)| *n),
            changed,
        }
    }

    /// Forgets stations that the registry has let go of, or never took in.
    pub(super) fn sweep(&mut self) {
        self.0
            .retain(|_, minute| minute.known || minute.seconds.iter().any(|(_, bytes)| *bytes > 0));
    }

    pub(super) fn traffic(&self, station: &StationId) -> (Vec<u32>, Vec<u32>) {
        let Some(minute) = self.0.get(station) else { return (vec![0; SECONDS], vec![0; SECONDS]) };
        let missing = SECONDS - minute.seconds.len().min(SECONDS);
        let all = || std::iter::repeat_n((0, 0), missing).chain(minute.seconds.iter().copied());
        (all().map(|(n, _)| n).collect(), all().map(|(_, bytes)| bytes).collect())
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn rate(&self, station: &StationId) -> f64 {
        self.0.get(station).map_or(0.0, |minute| minute.rate() as f64 / 10.0)
    }
}
