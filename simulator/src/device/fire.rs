//! Fires, and how they spread from flat to flat.
//!
//! The detectors of one station hang in stairwells of six flats each. A fire breaks out in one of
//! the flats, reaches the next ones on both sides after some minutes each, and is put out. It is a
//! function of seed, stairwell and time alone: every detector works out for itself when it is
//! reached, none has to hear of it from another, and all agree.

use super::spell::{Chance, Spell};
use crate::city::{DAY, MINUTE, in_service};
use crate::seed::mix;

/// Flats of a stairwell.
const FLATS: u32 = 6;
const FIRE: u64 = 20;
/// Each stairwell has a year, and a fire in 6 of 100 years: some times more than statistics have
/// it, so that a pilot of five hundred stations sees one now and then.
const YEAR: i64 = 365 * DAY;
const PER_MILLION: u32 = 60_000;

/// One flat, as its detector knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flat {
    number: i64,
    chance: Chance,
}

impl Flat {
    /// The flat of the n-th detector of a station.
    pub(super) fn new(seed: u64, station: u32, neighbour: u32) -> Self {
        let stairwell = mix(&[u64::from(station), u64::from(neighbour / FLATS)]);
        let chance = Chance {
            key: [seed, stairwell, FIRE],
            span: YEAR,
            per_million: PER_MILLION,
            // Until the brigade has put it out.
            lasts: (12 * MINUTE, 40 * MINUTE),
        };
        Self { number: i64::from(neighbour % FLATS), chance }
    }

    /// When a fire of the stairwell is in this flat, if it gets so far: from its first smoke until the
    /// rooms are aired.
    fn reached(&self, fire: Spell) -> Option<(i64, i64)> {
        let mut rng = fire.rng();
        let began_in = rng.between(0, i64::from(FLATS) - 1);
        let per_flat = rng.between(3 * MINUTE, 9 * MINUTE);
        let aired = rng.between(8 * MINUTE, 30 * MINUTE);
        let reached = fire.from + per_flat * (began_in - self.number).abs();
        (reached < fire.to).then_some((reached, fire.to + aired))
    }

    /// Fires that reach this flat, from those that broke out at most a day before a moment on.
    fn fires_since(&self, from: i64, until: i64) -> impl Iterator<Item = (i64, i64)> {
        self.chance.begun(from - DAY, until).filter_map(|fire| self.reached(fire))
    }

    /// From when to when the fire is here that is here now.
    pub(super) fn burning(&self, now: i64) -> Option<(i64, i64)> {
        self.fires_since(now, now + 1).find(|(from, to)| (*from..*to).contains(&now))
    }

    /// When, after a moment, smoke comes or goes next; a decade is looked ahead.
    pub(super) fn change_after(&self, now: i64) -> i64 {
        self.fires_since(now, now + 10 * YEAR)
            .flat_map(|(from, to)| [from, to])
            .find(|at| *at > now)
            .unwrap_or(super::NEVER)
    }

    /// When smoke came here in the pilot's time up to a moment.
    pub(super) fn came(&self, now: i64) -> impl Iterator<Item = i64> {
        let pilot = now - in_service(now);
        let came = self.chance.begun(pilot, now + 1).filter_map(|fire| self.reached(fire));
        came.map(|(from, _)| from).filter(move |from| *from <= now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const START: i64 = 1_790_000_000_000;

    #[test]
    fn a_fire_spreads_to_neighbours_one_after_the_other_and_to_no_other_house() {
        let (mut fires, mut reached) = (0, 0);
        for station in 1..300 {
            let flats: Vec<Flat> = (0..12).map(|n| Flat::new(9, station, n)).collect();
            for fire in flats[0].chance.begun(START, START + YEAR) {
                fires += 1;
                let came: Vec<Option<i64>> = flats[..6]
                    .iter()
                    .map(|flat| flat.reached(fire).map(|(from, _)| from))
                    .collect();
                let origin = came.iter().position(|from| *from == Some(fire.from)).unwrap();
                reached += came.iter().flatten().count();
                // Outwards from its origin each flat is reached later than the one before, if at all.
                let later = |one: Option<i64>, next: Option<i64>| match (one, next) {
                    (Some(one), Some(next)) => next > one && next - one <= 9 * MINUTE,
                    (one, next) => next.is_none() || one.is_some(),
                };
                assert!(came[origin..].windows(2).all(|w| later(w[0], w[1])), "{came:?}");
                assert!(came[..=origin].windows(2).all(|w| later(w[1], w[0])), "{came:?}");
                for flat in &flats[..6] {
                    let Some((from, to)) = flat.reached(fire) else { continue };
                    assert_eq!(flat.change_after(from - 1), from);
                    assert_eq!(flat.burning(from), Some((from, to)));
                    assert_eq!((flat.burning(to), flat.burning(from - 1)), (None, None));
                    assert!(flat.came(from).any(|came| came == from));
                }
                for flat in &flats[6..] {
                    assert_eq!(flat.burning(fire.from), None, "the house next door");
                }
            }
        }
        assert!((8..30).contains(&fires), "{fires} fires in 299 stairwells in a year");
        assert!(reached > 2 * fires, "{reached} flats of {fires} fires");
    }
}
