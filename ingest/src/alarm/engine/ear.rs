//! The time for which we have listened.
//!
//! Silence counts only while we could have heard something. So every wait is counted by a clock that
//! stands still while we were *deaf*: not running, or refusing what came. See the module above.

/// A longer step than this from one look to the next means that nobody looked in between: the machine
/// slept, its clock was put forward, or the log is read that was written while we stood still.
const LONGEST_STEP_MS: i64 = 60_000;

/// See the module. Milliseconds throughout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ear {
    /// The newest moment, by our clock.
    pub(crate) time: i64,
    /// How much of the time up to there we were deaf. Negative where the clock was put back.
    pub(crate) deaf: i64,
    /// We are deaf up to here.
    pub(crate) deaf_until: i64,
}

impl Ear {
    /// The time for which we have listened, from some zero.
    pub(crate) const fn listened(&self) -> i64 {
        self.time.saturating_sub(self.deaf)
    }

    /// When we will have listened for so long, if nothing comes between.
    pub(crate) fn when(&self, listened: i64) -> i64 {
        let more = listened.saturating_sub(self.listened());
        if more <= 0 {
            return self.time;
        }
        self.time.max(self.deaf_until).saturating_add(more)
    }

    /// Nothing can be heard until then.
    pub(crate) fn deafen(&mut self, until: i64) {
        self.deaf_until = self.deaf_until.max(until);
    }

    /// What comes next is of that moment: what lies between is listened to, or not.
    pub(crate) fn prepare(&mut self, to: i64) {
        if self.time == 0 {
            // The first moment there is.
            self.time = to;
        } else if to < self.time.saturating_sub(LONGEST_STEP_MS) {
            // Our clock was put back. What we have listened for stays.
            self.deaf = to.saturating_sub(self.listened());
            self.time = to;
            self.deaf_until = self.deaf_until.min(to);
        } else if to > self.time.saturating_add(LONGEST_STEP_MS) {
            self.deafen(to);
        }
    }

    /// Goes on to a moment. One that is past changes nothing.
    pub(crate) fn go(&mut self, to: i64) {
        if to <= self.time {
            return;
        }
        let deaf = self.deaf_until.min(to).saturating_sub(self.time).max(0);
        self.deaf = self.deaf.saturating_add(deaf);
        self.time = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_could_not_hear_does_not_count() {
        let mut ear = Ear::default();
        ear.prepare(1_000_000);
        ear.go(1_010_000);
        assert_eq!(ear.listened(), 1_010_000);
        ear.deafen(1_030_000);
        assert_eq!(ear.when(1_015_000), 1_035_000);
        ear.go(1_020_000);
        assert_eq!(ear.listened(), 1_010_000);
        ear.go(1_035_000);
        assert_eq!(ear.listened(), 1_015_000);
        assert_eq!(ear.when(1_000_000), 1_035_000, "what is past is due at once");
    }

    #[test]
    fn a_leap_forward_is_not_listened_to_and_one_back_stops_nothing() {
        let mut ear = Ear::default();
        ear.prepare(1_000_000);
        for to in [1_000_000 + 365 * 86_400_000, 1_001_000] {
            ear.prepare(to);
            ear.go(to);
            assert_eq!((ear.time, ear.listened()), (to, 1_000_000));
        }
        ear.prepare(1_002_000);
        ear.go(1_002_000);
        assert_eq!(ear.listened(), 1_001_000);
    }
}
