//! All alarms that are known, in memory, for whoever asks: what the database holds of them, after each
//! commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::kind::Kind;

use super::model::{Alarm, AlarmState};
use super::rule::{Rule, Severity};

/// Which alarms. What is not said matches everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// One of these states; empty: any.
    pub states: Vec<AlarmState>,
    /// One of these severities; empty: any.
    pub severities: Vec<Severity>,
    /// One of these rules; empty: any.
    pub rules: Vec<Rule>,
    /// Of devices of this kind.
    pub kind: Option<Kind>,
    /// Of this station, its devices' among them.
    pub station: Option<StationId>,
    /// Of this device.
    pub imei: Option<Imei>,
    /// Of this pilot project.
    pub project: Option<String>,
    /// Of this part of the city.
    pub area: Option<String>,
    /// Whether somebody has acknowledged it.
    pub acknowledged: Option<bool>,
    /// Whether it is to be shown without being asked for ([`Alarm::is_shown`]).
    pub shown: Option<bool>,
    /// Words, each of which is somewhere in the alarm, in any case.
    pub q: Option<String>,
}

impl Filter {
    /// Whether an alarm is one of them.
    #[must_use]
    pub fn matches(&self, alarm: &Alarm) -> bool {
        fn any<T: PartialEq>(list: &[T], value: T) -> bool {
            list.is_empty() || list.contains(&value)
        }
        any(&self.states, alarm.state())
            && any(&self.severities, alarm.severity)
            && any(&self.rules, alarm.rule)
            && self.kind.is_none_or(|kind| alarm.kind == Some(kind))
            && self.station.as_ref().is_none_or(|station| alarm.station == *station)
            && self.imei.is_none_or(|imei| alarm.imei == Some(imei))
            && self.project.as_deref().is_none_or(|it| alarm.project.as_deref() == Some(it))
            && self.area.as_deref().is_none_or(|it| alarm.area.as_deref() == Some(it))
            && self.acknowledged.is_none_or(|it| alarm.acknowledged.is_some() == it)
            && self.shown.is_none_or(|it| alarm.is_shown() == it)
            && self.q.as_deref().is_none_or(|words| has(alarm, words))
    }
}

fn has(alarm: &Alarm, words: &str) -> bool {
    let imei = alarm.imei.map(|imei| imei.to_string()).unwrap_or_default();
    let acknowledged = alarm.acknowledged.as_ref();
    let text = [
        &*alarm.id,
        alarm.rule.as_str(),
        alarm.severity.as_str(),
        alarm.region.as_str(),
        alarm.station.as_str(),
        &imei,
        alarm.kind.map_or("", Kind::as_str),
        alarm.project.as_deref().unwrap_or_default(),
        alarm.area.as_deref().unwrap_or_default(),
        &alarm.why,
        acknowledged.map_or("", |it| it.by.as_str()),
        acknowledged.and_then(|it| it.note.as_deref()).unwrap_or_default(),
    ]
    .join("\n")
    .to_lowercase();
    words.to_lowercase().split_whitespace().all(|word| text.contains(word))
}

/// A page of a list, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The alarms.
    pub alarms: Vec<Arc<Alarm>>,
    /// What to give as `after` for the next page; `None` at the end.
    pub next: Option<u64>,
    /// How many match in all.
    pub total: usize,
}

/// How many alarms last, and how many wait for somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Critical ones that last.
    pub critical: usize,
    /// Major ones that last.
    pub major: usize,
    /// Minor ones that last.
    pub minor: usize,
    /// Those nobody has acknowledged, whether they last or not.
    pub unacknowledged: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    by_number: BTreeMap<u64, Arc<Alarm>>,
    by_id: HashMap<Arc<str>, u64>,
    /// Alarms that are over: the oldest of them may go.
    cleared: usize,
}

impl Shelf {
    /// Puts an alarm in the place of what it was.
    pub(super) fn put(&mut self, alarm: Arc<Alarm>) {
        let cleared = usize::from(alarm.cleared.is_some());
        self.by_id.insert(Arc::clone(&alarm.id), alarm.number);
        let old = self.by_number.insert(alarm.number, alarm);
        let was = usize::from(old.is_some_and(|old| old.cleared.is_some()));
        self.cleared = self.cleared + cleared - was;
    }

    pub(super) fn remove(&mut self, number: u64) {
        if let Some(old) = self.by_number.remove(&number) {
            self.by_id.remove(&old.id);
            self.cleared -= usize::from(old.cleared.is_some());
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<Alarm>> {
        self.by_number.get(self.by_id.get(id)?)
    }

    pub(super) fn by_number(&self, number: u64) -> Option<&Arc<Alarm>> {
        self.by_number.get(&number)
    }

    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Arc<Alarm>> {
        self.by_number.values()
    }

    /// The numbers of alarms that are over and have no room any more: those that ended before
    /// `before_ms`, and the oldest past `most`. What nobody has acknowledged goes like the rest: it
    /// was there for as long as is configured.
    pub(super) fn surplus(&self, most: usize, before_ms: i64) -> Vec<u64> {
        let mut over = self.cleared.saturating_sub(most);
        let cleared = self.by_number.values().filter_map(|it| Some((it, it.cleared.as_ref()?)));
        let mut go = Vec::new();
        for (alarm, cleared) in cleared {
            if over > 0 || cleared.at_ms < before_ms {
                over = over.saturating_sub(1);
                go.push(alarm.number);
            }
        }
        go
    }

    /// How many alarms that are over there are.
    pub(super) fn cleared(&self) -> usize {
        self.cleared
    }

    pub(super) fn page(&self, filter: &Filter, limit: usize, after: Option<u64>) -> Page {
        let mut page = Page::default();
        for alarm in self.by_number.values().rev().filter(|alarm| filter.matches(alarm)) {
            page.total += 1;
            if after.is_some_and(|after| alarm.number >= after) {
                continue;
            }
            if page.alarms.len() < limit {
                page.alarms.push(Arc::clone(alarm));
            } else if page.next.is_none() {
                page.next = page.alarms.last().map(|last| last.number);
            }
        }
        page
    }

    pub(super) fn counts(&self, project: Option<&str>) -> Counts {
        let mut counts = Counts::default();
        let mine = |alarm: &&Arc<Alarm>| {
            alarm.is_shown() && project.is_none_or(|it| alarm.project.as_deref() == Some(it))
        };
        for alarm in self.by_number.values().filter(mine) {
            counts.unacknowledged += usize::from(alarm.acknowledged.is_none());
            if alarm.cleared.is_none() {
                match alarm.severity {
                    Severity::Critical => counts.critical += 1,
                    Severity::Major => counts.major += 1,
                    Severity::Minor => counts.minor += 1,
                }
            }
        }
        counts
    }
}
