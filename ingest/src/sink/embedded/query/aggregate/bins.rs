//! Bins of time.

/// Monday, 1970-01-05: weeks begin on Mondays.
const MONDAY_MS: i64 = 4 * 24 * 3600 * 1000;
const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;

/// Bins of one length, one after the other, of which one begins at the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bins {
    every_ms: i64,
    origin_ms: i64,
}

impl Bins {
    /// Bins that begin at midnight in a zone so far ahead of UTC and every so often after it; weeks on
    /// its Mondays. A length that divides no day drifts through the days.
    #[must_use]
    pub const fn new(every_ms: i64, zone_ms: i64) -> Self {
        let every_ms = if every_ms < 1 { 1 } else { every_ms };
        let monday = if every_ms % WEEK_MS == 0 { MONDAY_MS } else { 0 };
        Self { every_ms, origin_ms: monday - zone_ms }
    }

    /// How long each is.
    #[must_use]
    pub const fn every_ms(self) -> i64 {
        self.every_ms
    }

    /// When the bin begins that holds this moment.
    #[must_use]
    pub const fn start(self, ms: i64) -> i64 {
        ms.saturating_sub(ms.saturating_sub(self.origin_ms).rem_euclid(self.every_ms))
    }

    /// When the bin ends that begins then.
    #[must_use]
    pub const fn end(self, start_ms: i64) -> i64 {
        start_ms.saturating_add(self.every_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn ms(text: &str) -> i64 {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    }

    #[test]
    fn days_begin_at_midnight_of_the_zone_and_weeks_on_its_mondays() {
        let at = ms("2026-03-01T17:30:00Z");
        let start = |every, zone| Bins::new(every, zone).start(at);
        assert_eq!(start(24 * HOUR, 0), ms("2026-03-01T00:00:00Z"));
        assert_eq!(start(24 * HOUR, 8 * HOUR), ms("2026-03-02T00:00:00+08:00"));
        assert_eq!(start(24 * HOUR, -5 * HOUR), ms("2026-03-01T00:00:00-05:00"));
        assert_eq!(start(7 * 24 * HOUR, 0), ms("2026-02-23T00:00:00Z"));
        assert_eq!(start(7 * 24 * HOUR, 8 * HOUR), ms("2026-03-02T00:00:00+08:00"));
        assert_eq!(start(5 * 60_000, 0), at);
        assert_eq!(start(HOUR, 5 * HOUR + HOUR / 2), ms("2026-03-01T17:30:00Z"));
    }

    #[test]
    fn a_bin_holds_its_beginning_and_not_its_end_before_1970_too() {
        let bins = Bins::new(HOUR, 0);
        for at in [-HOUR, 0, HOUR, 17 * HOUR] {
            for within in [0, 1, HOUR - 1] {
                assert_eq!(bins.start(at + within), at);
            }
            assert_eq!(bins.end(at), at + HOUR);
        }
    }
}
