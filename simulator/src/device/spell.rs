//! What befalls a device now and then, as a function of the device and of time alone.
//!
//! A device's life is cut into spans of equal length. In each of them the thing happens once or not
//! at all, at a moment and for a length drawn for that span; it ends before its span does. So two
//! runs agree on what happened before, and neighbours can know of each other's without speaking.

use super::NEVER;
use crate::seed::{Rng, Use};

/// Spans that are searched for the next spell. The rarest (one in forty spans) is overlooked in one
/// search of five, and then comes unannounced only in a run of hundreds of spans.
const SPANS_AHEAD: i64 = 64;

/// One thing that may happen, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance {
    /// Whom it befalls, and what it is: no two things of a device share their chance.
    pub(super) key: [u64; 3],
    /// Length of a span; in the unit of all times here, which is the caller's.
    pub(super) span: i64,
    /// Spans in which it happens, in a million.
    pub(super) per_million: u32,
    /// The shortest and the longest it lasts.
    pub(super) lasts: (i64, i64),
}

/// One time that it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spell {
    pub(super) from: i64,
    /// The first moment after it.
    pub(super) to: i64,
    /// For whatever else is to be drawn of it.
    pub(super) nature: u64,
}

impl Spell {
    /// A stream of this spell's own: always the same one.
    pub(super) fn rng(self) -> Rng {
        Rng::new(Use::Plan, &[self.nature])
    }

    /// How much of it lies before a moment.
    pub(super) fn before(self, now: i64) -> i64 {
        (self.to.min(now) - self.from).max(0)
    }
}

impl Chance {
    /// What may befall the device of a key. `what` is one of the device's own numbers.
    pub(super) const fn of(
        [seed, imei]: [u64; 2],
        what: u64,
        span: i64,
        per_million: u32,
        lasts: (i64, i64),
    ) -> Self {
        Self { key: [seed, imei, what], span, per_million, lasts }
    }

    fn of_span(&self, span: i64) -> Option<Spell> {
        let [who, which, what] = self.key;
        let mut rng = Rng::new(Use::Plan, &[who, which, what, span.unsigned_abs()]);
        if !rng.chance(self.per_million) {
            return None;
        }
        let (shortest, longest) = self.lasts;
        let length = rng.between(shortest, longest);
        let from = span * self.span + rng.between(0, self.span - length - 1);
        Some(Spell { from, to: from + length, nature: rng.next() })
    }

    /// The spell that is running at a moment.
    pub(super) fn at(&self, now: i64) -> Option<Spell> {
        self.of_span(now.div_euclid(self.span)).filter(|s| (s.from..s.to).contains(&now))
    }

    /// When, after a moment, a spell begins or ends next.
    pub(super) fn change_after(&self, now: i64) -> i64 {
        let span = now.div_euclid(self.span);
        (span..span + SPANS_AHEAD)
            .filter_map(|span| self.of_span(span))
            .flat_map(|spell| [spell.from, spell.to])
            .find(|at| *at > now)
            .unwrap_or(NEVER)
    }

    /// The spells that begin from one moment on and before another.
    pub(super) fn begun(&self, from: i64, until: i64) -> impl Iterator<Item = Spell> {
        (from.div_euclid(self.span)..=until.div_euclid(self.span))
            .filter_map(|span| self.of_span(span))
            .filter(move |spell| (from..until).contains(&spell.from))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn spells_come_at_their_rate_and_every_way_to_ask_agrees() {
        let chance = Chance { key: [1, 2, 3], span: 1000, per_million: 250_000, lasts: (10, 200) };
        let all: Vec<Spell> = chance.begun(0, 4_000_000).collect();
        assert!((900..1100).contains(&all.len()), "{} in 4000 spans", all.len());
        assert!(all.iter().all(|s| (10..=200).contains(&(s.to - s.from))));
        let mut now = 0;
        for spell in &all {
            assert_eq!(chance.at(spell.from - 1), None);
            assert_eq!(chance.change_after(now), spell.from);
            assert_eq!(chance.change_after(spell.from), spell.to);
            assert_eq!(
                (chance.at(spell.from), chance.at(spell.to - 1)),
                (Some(*spell), Some(*spell))
            );
            assert_eq!(chance.at(spell.to), None);
            now = spell.to;
        }
        assert_eq!(all[0].before(all[0].from + 3), 3);
        assert_eq!(all[0].before(i64::MAX), all[0].to - all[0].from);
    }
}
