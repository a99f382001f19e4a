//! What happens to a session on purpose, and when: by the wall clock, drawn from a stream of its own.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Pace;
use crate::device::NEVER;
use crate::fault::{Chance, Fault, FaultRates};
use crate::seed::{Rng, Use};
use crate::station::Outages;

/// What ends a connection on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mishap {
    pub(super) fault: Fault,
    /// When the station wants to be back.
    pub(super) until: Instant,
}

/// One fault of a station: when it happens next.
#[derive(Debug)]
struct Coming {
    fault: Fault,
    chance: Chance,
    rng: Rng,
    at: Option<Instant>,
    end: Option<Instant>,
}

impl Coming {
    fn new(fault: Fault, rates: &FaultRates, begun: Instant, key: &[u64]) -> Self {
        let chance = rates.chance(fault);
        let mut key = key.to_vec();
        key.push(fault as u64 + 1);
        let mut coming = Self {
            fault,
            chance,
            rng: Rng::new(Use::Publisher, &key),
            at: None,
            end: begun.checked_add(chance.until),
        };
        coming.after(begun + chance.from);
        coming
    }

    fn after(&mut self, moment: Instant) {
        if self.chance.per_million == 0 {
            return;
        }
        let mean = 60_000_000_000 / i64::from(self.chance.per_million);
        let wait = Duration::from_millis(self.rng.wait_ms(mean).unsigned_abs());
        self.at = moment.checked_add(wait).filter(|at| self.end.is_none_or(|end| *at < end));
    }
}

/// Everything that will happen to a station's session.
#[derive(Debug)]
pub(super) struct Misfortune {
    ends: Ends,
    stalls: Stalls,
}

/// What ends connections.
#[derive(Debug)]
pub(super) struct Ends {
    coming: Vec<Coming>,
    outages: Outages,
}

/// When a station takes nothing from its socket.
#[derive(Debug)]
pub(super) struct Stalls(Coming);

impl Misfortune {
    pub(super) fn new(rates: &FaultRates, pace: &Pace, key: &[u64], outages: Outages) -> Self {
        let coming = |fault| Coming::new(fault, rates, pace.begun, key);
        let ends = Fault::SESSION.into_iter().filter(|fault| *fault != Fault::Stall);
        let ends = Ends { coming: ends.map(coming).collect(), outages };
        Self { ends, stalls: Stalls(coming(Fault::Stall)) }
    }

    pub(super) fn split(&mut self) -> (&mut Ends, &mut Stalls) {
        (&mut self.ends, &mut self.stalls)
    }

    /// Whether the uplink is gone now, and until when.
    pub(super) fn outage(&mut self, pace: &Pace) -> Option<Mishap> {
        let outages = &mut self.ends.outages;
        let gone = outages.at(pace.simulated(Instant::now()));
        gone.then(|| Mishap { fault: Fault::Outage, until: pace.wall(outages.until) })
    }

    /// How long a half-open connection stays open.
    pub(super) fn half_open(&self) -> Duration {
        let found = self.ends.coming.iter().find(|coming| coming.fault == Fault::HalfOpen);
        found.map_or(Duration::ZERO, |coming| coming.chance.lasts)
    }
}

impl Ends {
    /// What ends a connection that is up, at its moment. Cancel-safe.
    pub(super) async fn next(&mut self, pace: &Pace) -> Mishap {
        let now = Instant::now();
        let gone = self.outages.at(pace.simulated(now));
        let outage = match self.outages.from {
            _ if gone => Some(now),
            NEVER => None,
            from => Some(pace.wall(from)),
        };
        let first = self.coming.iter_mut().filter(|coming| coming.at.is_some());
        match (first.min_by_key(|coming| coming.at), outage) {
            (Some(coming), outage) if outage.is_none_or(|outage| coming.at < Some(outage)) => {
                sleep_until(coming.at.unwrap_or(now)).await;
                coming.after(Instant::now());
                Mishap { fault: coming.fault, until: Instant::now() }
            }
            (_, Some(at)) => {
                sleep_until(at).await;
                Mishap { fault: Fault::Outage, until: pace.wall(self.outages.until) }
            }
            (_, None) => std::future::pending().await,
        }
    }
}

impl Stalls {
    /// How long nothing is to be taken from the socket, if it is time for that.
    pub(super) fn due(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.0.at.filter(|at| *at <= now)?;
        self.0.after(now + self.0.chance.lasts);
        Some(self.0.chance.lasts)
    }
}
