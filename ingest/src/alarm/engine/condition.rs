//! A rule at one device or station: whether it holds, since when, and what is due because of it.

use std::time::Duration;

use crate::alarm::rule::Rule;

/// The reading, or the last sign of life, that a condition goes back to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Its lsn.
    pub(crate) lsn: u64,
    /// Its effective time.
    pub(crate) effective_ms: i64,
    /// When it was heard; see [`super::order::Place::heard`].
    pub(crate) heard_ms: i64,
    /// Its station had kept it back.
    pub(crate) late: bool,
    /// What was seen.
    pub(crate) why: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) rule: Rule,
    /// It holds while any is set.
    pub(crate) causes: u8,
    /// Where it began to hold.
    pub(crate) origin: Origin,
    /// When it began to hold, in time listened.
    pub(crate) since: i64,
    /// How long it has to last, in milliseconds.
    pub(crate) after_ms: i64,
    /// When it is to be raised or cleared, in time listened; `None`: nothing is due.
    pub(crate) due: Option<i64>,
    /// The number of its alarm, while there is one that lasts.
    pub(crate) alarm: Option<u64>,
    /// The lsn of its last alarm, and how many that lsn had.
    pub(crate) last: Option<(u64, u32)>,
    /// What ended it, while it waits to be cleared.
    pub(crate) ended_lsn: u64,
}

/// How long something has to last, as a duration or longer than ever.
pub(crate) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

impl Condition {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            causes: 0,
            origin: Origin::default(),
            since: 0,
            after_ms: 0,
            due: None,
            alarm: None,
            last: None,
            ended_lsn: 0,
        }
    }

    /// Whether it holds.
    pub(crate) const fn holds(&self) -> bool {
        self.causes != 0
    }

    /// Whether nothing would be lost with it.
    pub(crate) const fn is_idle(&self) -> bool {
        self.causes == 0 && self.due.is_none() && self.alarm.is_none() && self.last.is_none()
    }

    /// A reading says that it holds; `listened` is now.
    pub(crate) fn set(&mut self, cause: u8, origin: Origin, after_ms: i64, listened: i64) {
        let heard_ms = origin.heard_ms;
        if !self.holds() {
            (self.origin, self.after_ms, self.since) = (origin, after_ms, listened);
        } else if self.causes & cause == 0 && after_ms < self.after_ms {
            // A second cause that is the more urgent.
            self.after_ms = after_ms;
            self.origin.why = origin.why;
        }
        self.causes |= cause;
        self.due = self.alarm.is_none().then(|| {
            let lasted = heard_ms.saturating_sub(self.origin.heard_ms).max(0);
            listened.saturating_add(self.after_ms.saturating_sub(lasted).max(0))
        });
    }

    /// A reading says that it does not hold.
    pub(crate) fn clear(&mut self, cause: u8, lsn: u64, clear_after_ms: i64, listened: i64) {
        if self.causes & cause == 0 {
            return;
        }
        self.causes &= !cause;
        if self.holds() {
            return;
        }
        self.ended_lsn = lsn;
        self.due = self.alarm.map(|_| listened.saturating_add(clear_after_ms));
    }
}

/// The condition of a rule, if there is one.
pub(crate) fn find(conditions: &mut [Condition], rule: Rule) -> Option<&mut Condition> {
    conditions.iter_mut().find(|condition| condition.rule == rule)
}

/// The condition of a rule, made where there is none.
pub(crate) fn find_or_new(conditions: &mut Vec<Condition>, rule: Rule) -> &mut Condition {
    let at = conditions.iter().position(|condition| condition.rule == rule).unwrap_or_else(|| {
        conditions.push(Condition::new(rule));
        conditions.len() - 1
    });
    // Found, or put there.
    &mut conditions[at]
}
