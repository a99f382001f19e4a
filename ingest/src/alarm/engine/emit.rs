//! From a condition that is due to an alarm raised or cleared.

use std::sync::Arc;

use loushan_schemas::ids::{Imei, Region, StationId};
use loushan_schemas::kind::Kind;

use super::condition::{Condition, ms};
use super::{Ear, Out, Sites};
use crate::alarm::config::AlarmConfig;
use crate::alarm::model::{Alarm, Cleared, ClearedBy};

/// What a station had kept back is over when nothing of it has come for so long.
const SETTLE_MS: i64 = 30_000;
/// But this long after the reading it is raised all the same.
const SETTLE_AT_MOST_MS: i64 = 10 * 60_000;
/// What was kept back for less is as good as live.
const LATE_MS: i64 = 60_000;

/// Whether what was heard then and received now is to be waited out before it is an alarm.
pub(super) const fn is_late(heard_ms: i64, received_ms: i64) -> bool {
    received_ms.saturating_sub(heard_ms) > LATE_MS
}

/// Whom a condition is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) region: &'a Region,
    pub(super) station: &'a StationId,
    pub(super) imei: Option<Imei>,
    pub(super) kind: Option<Kind>,
}

/// Where alarms come out.
pub(super) struct Emit<'a> {
    pub(super) config: &'a AlarmConfig,
    pub(super) sites: &'a Sites,
    pub(super) ear: Ear,
    pub(super) next_event: &'a mut u64,
    pub(super) out: &'a mut Vec<Out>,
}

impl Emit<'_> {
    /// Raises and clears what is due. `replayed` is when the station last sent what it had kept back.
    pub(super) fn due(&mut self, who: Who<'_>, conditions: &mut Vec<Condition>, replayed: i64) {
        let now = self.ear.listened();
        for condition in conditions.iter_mut() {
            if condition.due.is_none_or(|due| due > now) {
                continue;
            }
            condition.due = None;
            match (condition.holds(), condition.alarm) {
                (true, None) => self.raise(who, condition, replayed),
                (false, Some(alarm)) => {
                    let lsn = condition.ended_lsn;
                    self.clear(condition, alarm, ClearedBy::Reading, lsn);
                }
                // It came and went before it was an alarm.
                _ => {}
            }
        }
        conditions.retain(|condition| !condition.is_idle());
    }

    fn raise(&mut self, who: Who<'_>, condition: &mut Condition, replayed: i64) {
        let Condition { rule, origin, .. } = &*condition;
        let (rule, now) = (*rule, self.ear.listened());
        let place = self.sites.get(who.station);
        if origin.late {
            let settled = replayed.saturating_add(SETTLE_MS);
            let at_most = condition.since.saturating_add(SETTLE_AT_MOST_MS);
            if settled.min(at_most) > now {
                condition.due = Some(settled.min(at_most));
                return;
            }
        }
        let held = self.config.maintenance.iter();
        let held =
            held.filter_map(|it| it.holds(self.ear.time, rule, who.station, who.imei, place));
        if let Some(end) = held.max() {
            condition.due = Some(now.saturating_add(end.saturating_sub(self.ear.time)));
            return;
        }
        let lsn = origin.lsn;
        let nth = match condition.last {
            Some((last, nth)) if last == lsn => nth + 1,
            _ => 0,
        };
        let subject = match who.imei {
            Some(imei) => imei.to_string(),
            None => who.station.to_string(),
        };
        let number = self.number();
        let alarm = Alarm {
            id: format!("{rule}-{subject}-{lsn}-{nth}").into(),
            number,
            rule,
            severity: self.config.policy(rule).severity,
            region: who.region.clone(),
            station: who.station.clone(),
            imei: who.imei,
            kind: who.kind,
            project: place.map(|place| Arc::clone(&place.project)),
            area: place.map(|place| Arc::clone(&place.area)),
            why: origin.why.clone(),
            lsn,
            raised_ms: self.ear.time,
            effective_ms: origin.effective_ms,
            late: origin.late,
            cleared: None,
            acknowledged: None,
        };
        condition.alarm = Some(number);
        condition.last = Some((lsn, nth));
        self.out.push(Out::Raised(alarm));
    }

    /// Ends the alarm of a condition.
    pub(super) fn clear(&mut self, condition: &mut Condition, alarm: u64, by: ClearedBy, lsn: u64) {
        condition.alarm = None;
        let event = self.number();
        let cleared = Cleared { at_ms: self.ear.time, by, lsn };
        self.out.push(Out::Cleared { event, alarm, cleared });
    }

    /// Ends all alarms of somebody for a reason that no reading has.
    pub(super) fn end_all(&mut self, conditions: &mut [Condition], by: ClearedBy) {
        for condition in conditions {
            if let Some(alarm) = condition.alarm {
                self.clear(condition, alarm, by, 0);
            }
        }
    }

    fn number(&mut self) -> u64 {
        let number = *self.next_event;
        *self.next_event += 1;
        number
    }
}

/// How long a rule has to last, where a cause of it has to last for `cause_ms`; longer by the time that
/// what was kept back has to settle.
pub(super) fn raise_after(
    config: &AlarmConfig,
    rule: super::Rule,
    cause_ms: i64,
    late: bool,
) -> i64 {
    let settle = if late { SETTLE_MS } else { 0 };
    ms(config.policy(rule).raise_after).max(cause_ms).max(settle)
}
