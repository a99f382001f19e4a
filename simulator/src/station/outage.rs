//! When a station has no uplink, in simulated time: known to the station, which marks what it keeps for a
//! replay, and to its session, which stays away.

use std::time::Duration;

use crate::device::NEVER;
use crate::fault::{Chance, Fault};
use crate::seed::{Rng, Use};

use super::Setting;

/// The outages of one station, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Outages {
    rng: Rng,
    chance: Chance,
    speed: i64,
    /// No outage begins from here on.
    last: i64,
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Outages {
    pub(crate) fn of(setting: &Setting, number: u32) -> Self {
        let key = [setting.seed, setting.start.unsigned_abs(), number.into(), Fault::Outage as u64];
        let chance = setting.faults.chance(Fault::Outage);
        let speed = i64::from(setting.speed);
        let at = |wall| setting.start.saturating_add(simulated(wall, speed));
        let mut outages = Self {
            rng: Rng::new(Use::Station, &key),
            chance,
            speed,
            last: at(chance.until),
            from: NEVER,
            until: at(chance.from),
        };
        outages.advance();
        outages
    }

    fn advance(&mut self) {
        if self.chance.per_million == 0 {
            (self.from, self.until) = (NEVER, NEVER);
            return;
        }
        let mean = 60_000_000_000 / i64::from(self.chance.per_million);
        let wait = self.rng.wait_ms(mean).saturating_mul(self.speed);
        self.from = self.until.saturating_add(wait);
        if self.from >= self.last {
            self.from = NEVER;
        }
        self.until = self.from.saturating_add(simulated(self.chance.lasts, self.speed));
    }

    /// Whether there is an outage at a moment that is no earlier than those asked for before.
    pub(crate) fn at(&mut self, now: i64) -> bool {
        while now >= self.until && self.until < NEVER {
            self.advance();
        }
        now >= self.from
    }
}

fn simulated(wall: Duration, speed: i64) -> i64 {
    i64::try_from(wall.as_millis()).unwrap_or(i64::MAX).saturating_mul(speed)
}
