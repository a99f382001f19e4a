//! How long a device, or a station, pauses between two signs of life: learnt from itself.
//!
//! Its *rhythm* is the longest pause of the last one to two days (and of four pauses at least), so that
//! a lamp that reports every quarter of an hour by night and every hour by day is expected every hour,
//! and events in between shorten nothing. A pause that was an alarm teaches nothing, unless three of
//! them follow each other: then the device has been told to be slower.

/// How long pauses are gathered before the ones of before are forgotten.
const WINDOW_MS: i64 = 24 * 60 * 60 * 1000;
/// With fewer pauses there is no rhythm.
const FEWEST: u16 = 4;
/// What follows within this belongs to the same sign of life.
const BURST_MS: i64 = 1_000;
/// Silences that follow each other before they count as the new rhythm.
const SLOWER: u8 = 3;

/// See the module. Times are those of [`super::ear::Ear::listened`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rhythm {
    /// When the present window began.
    pub(crate) since: i64,
    /// Pauses in it.
    pub(crate) pauses: u16,
    /// The longest of them.
    pub(crate) longest: i64,
    /// The longest of the window before; 0: there was none.
    pub(crate) before: i64,
    /// Silences that followed each other.
    pub(crate) silences: u8,
    /// The shortest of them.
    pub(crate) shortest_silence: i64,
}

impl Rhythm {
    /// One that begins now.
    pub(crate) const fn new(now: i64) -> Self {
        Self {
            since: now,
            pauses: 0,
            longest: 0,
            before: 0,
            silences: 0,
            shortest_silence: i64::MAX,
        }
    }

    /// A sign of life after a pause; `silence`: it was an alarm.
    pub(crate) fn heard(&mut self, pause: i64, now: i64, silence: bool) {
        if pause < BURST_MS {
            return;
        }
        if silence {
            self.silences += 1;
            self.shortest_silence = self.shortest_silence.min(pause);
            if self.silences >= SLOWER {
                let longest = self.shortest_silence;
                *self = Self { before: longest, longest, pauses: 1, ..Self::new(now) };
            }
            return;
        }
        (self.silences, self.shortest_silence) = (0, i64::MAX);
        self.longest = self.longest.max(pause);
        self.pauses = self.pauses.saturating_add(1);
        if self.pauses >= FEWEST && now.saturating_sub(self.since) >= WINDOW_MS {
            *self = Self { before: self.longest, ..Self::new(now) };
        }
    }

    /// How long it pauses at most, once that is known.
    pub(crate) fn expected(&self) -> Option<i64> {
        let known = self.before > 0 || self.pauses >= FEWEST;
        known.then(|| self.longest.max(self.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;

    #[test]
    fn a_lamp_is_expected_by_its_slow_hours_though_it_is_faster_at_night() {
        let (mut rhythm, mut now) = (Rhythm::new(0), 0);
        for day in 0..5 {
            for (count, pause) in [(12, HOUR), (48, HOUR / 4)] {
                for _ in 0..count {
                    now += pause;
                    rhythm.heard(pause, now, false);
                    if day > 0 || pause == HOUR / 4 {
                        assert_eq!(rhythm.expected(), Some(HOUR));
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_expected_of_who_has_hardly_spoken_and_a_burst_teaches_nothing() {
        let mut rhythm = Rhythm::new(0);
        for at in 1..=3 {
            rhythm.heard(24 * HOUR, at * 24 * HOUR, false);
        }
        for _ in 0..100 {
            rhythm.heard(10, 72 * HOUR, false);
        }
        assert_eq!(rhythm.expected(), None);
        rhythm.heard(24 * HOUR, 96 * HOUR, false);
        assert_eq!(rhythm.expected(), Some(24 * HOUR));
    }

    #[test]
    fn one_long_silence_teaches_nothing_and_three_in_a_row_do() {
        let mut rhythm = Rhythm::new(0);
        for at in 1..=10 {
            rhythm.heard(MINUTE, at * MINUTE, false);
        }
        rhythm.heard(72 * HOUR, 73 * HOUR, true);
        assert_eq!(rhythm.expected(), Some(MINUTE));
        rhythm.heard(MINUTE, 74 * HOUR, false);
        for at in 0..3 {
            rhythm.heard(6 * HOUR + at, 80 * HOUR + at * 6 * HOUR, true);
        }
        assert_eq!(rhythm.expected(), Some(6 * HOUR));
    }
}
