//! An alarm, what happens to it, and both as JSON.
//!
//! The JSON is what the API answers, what webhooks and MQTT subscribers get **and what is kept on
//! disk**: [`Alarm::to_json`] and [`Alarm::from_json`] are each other's reverse. A key is added, never
//! renamed or given another meaning.

use std::sync::Arc;

use loushan_schemas::ids::{Imei, Region, StationId};
use loushan_schemas::kind::Kind;
use serde_json::{Map, Value, json};

use super::rule::{Rule, Severity};

/// Where an alarm is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmState {
    /// What raised it lasts, and nobody has acknowledged it.
    Open,
    /// What raised it lasts, and somebody knows.
    Acknowledged,
    /// It is over.
    Cleared,
}

impl AlarmState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Acknowledged, Self::Cleared];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Cleared => "cleared",
        }
    }

    /// The state with that word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Why an alarm is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClearedBy {
    /// A reading, or a sign of life, says so.
    Reading,
    /// The configuration has no such rule any more, or not for this device.
    RuleOff,
    /// The device was forgotten: `alarms.memory` has no room for it.
    Forgotten,
}

impl ClearedBy {
    const ALL: [Self; 3] = [Self::Reading, Self::RuleOff, Self::Forgotten];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::RuleOff => "rule_off",
            Self::Forgotten => "forgotten",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == text)
    }
}

/// Who or what an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject<'a> {
    /// A device.
    Device(Imei),
    /// A station itself.
    Station(&'a StationId),
}

/// The end of an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    /// When, by our clock, in Unix milliseconds.
    pub at_ms: i64,
    /// Why.
    pub by: ClearedBy,
    /// The lsn that ended it; 0 where none did.
    pub lsn: u64,
}

/// Somebody knows of an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// When, by our clock, in Unix milliseconds.
    pub at_ms: i64,
    /// What they had to say.
    pub note: Option<String>,
}

/// One alarm, from when it was raised until it is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// `RULE-SUBJECT-LSN-N`: the same whatever is replayed. `N` counts alarms of one rule, subject and
    /// lsn, from 0.
    pub id: Arc<str>,
    /// The number of the event that raised it: greater for an alarm that was raised later.
    pub number: u64,
    /// What it is about.
    pub rule: Rule,
    /// How bad.
    pub severity: Severity,
    /// Whose region.
    pub region: Region,
    /// By which station.
    pub station: StationId,
    /// Which device; `None` where it is the station itself.
    pub imei: Option<Imei>,
    /// What kind of device.
    pub kind: Option<Kind>,
    /// The pilot project of the station, if the registry has it.
    pub project: Option<Arc<str>>,
    /// The part of the city, if the registry has it.
    pub area: Option<Arc<str>>,
    /// What was seen, in a few words of English.
    pub why: String,
    /// The lsn of the reading that raised it, or of the last one before the silence.
    pub lsn: u64,
    /// When it was raised, by our clock, in Unix milliseconds.
    pub raised_ms: i64,
    /// When what raised it was, by the reading's effective time, in Unix milliseconds.
    pub effective_ms: i64,
    /// It was kept back by its station for so long that it was raised late.
    pub late: bool,
    /// Its end.
    pub cleared: Option<Cleared>,
    /// Who knows of it.
    pub acknowledged: Option<Acknowledged>,
}

impl Alarm {
    /// Where it is in its life.
    #[must_use]
    pub const fn state(&self) -> AlarmState {
        match (&self.cleared, &self.acknowledged) {
            (Some(_), _) => AlarmState::Cleared,
            (None, Some(_)) => AlarmState::Acknowledged,
            (None, None) => AlarmState::Open,
        }
    }

    /// Whether it is to be shown without being asked for: what raised it lasts, or nobody has
    /// acknowledged it yet.
    #[must_use]
    pub const fn is_shown(&self) -> bool {
        self.cleared.is_none() || self.acknowledged.is_none()
    }

    /// Whom it is about.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        self.imei.map_or(Subject::Station(&self.station), Subject::Device)
    }

    /// As JSON; see the module.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let cleared = self.cleared.as_ref();
        let acknowledged = self.acknowledged.as_ref();
        json!({
            "id": &*self.id,
            "number": self.number,
            "rule": self.rule.as_str(),
            "severity": self.severity.as_str(),
            "state": self.state().as_str(),
            "shown": self.is_shown(),
            "region": self.region.as_str(),
            "station": self.station.as_str(),
            "imei": self.imei.map(|imei| imei.to_string()),
            "kind": self.kind.map(Kind::as_str),
            "project": self.project.as_deref(),
            "area": self.area.as_deref(),
            "why": self.why,
            "lsn": self.lsn,
            "raised_ms": self.raised_ms,
            "effective_ms": self.effective_ms,
            "late": self.late,
            "cleared_ms": cleared.map(|it| it.at_ms),
            "cleared_by": cleared.map(|it| it.by.as_str()),
            "cleared_lsn": cleared.map(|it| it.lsn),
            "acknowledged_by": acknowledged.map(|it| it.by.as_str()),
            "acknowledged_ms": acknowledged.map(|it| it.at_ms),
            "note": acknowledged.and_then(|it| it.note.as_deref()),
        })
    }

    /// What [`Alarm::to_json`] made; `None` where it is something else.
    #[must_use]
    pub fn from_json(json: &Value) -> Option<Self> {
        let json = json.as_object()?;
        let text = |key: &str| json.get(key).and_then(Value::as_str);
        let int = |key: &str| json.get(key).and_then(Value::as_i64);
        let unsigned = |key: &str| json.get(key).and_then(Value::as_u64);
        let imei = match text("imei") {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        let kind = match text("kind") {
            Some(text) => Some(Kind::from_text(text)?),
            None => None,
        };
        Some(Self {
            id: text("id")?.into(),
            number: unsigned("number")?,
            rule: Rule::from_text(text("rule")?)?,
            severity: Severity::from_text(text("severity")?)?,
            region: Region::new(text("region")?).ok()?,
            station: StationId::new(text("station")?).ok()?,
            imei,
            kind,
            project: text("project").map(Arc::from),
            area: text("area").map(Arc::from),
            why: text("why")?.to_owned(),
            lsn: unsigned("lsn")?,
            raised_ms: int("raised_ms")?,
            effective_ms: int("effective_ms")?,
            late: json.get("late").and_then(Value::as_bool)?,
            cleared: match int("cleared_ms") {
                Some(at_ms) => Some(Cleared {
                    at_ms,
                    by: ClearedBy::from_text(text("cleared_by")?)?,
                    lsn: unsigned("cleared_lsn")?,
                }),
                None => None,
            },
            acknowledged: match int("acknowledged_ms") {
                Some(at_ms) => Some(Acknowledged {
                    by: text("acknowledged_by")?.to_owned(),
                    at_ms,
                    note: text("note").map(str::to_owned),
                }),
                None => None,
            },
        })
    }
}

/// What happened to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It began.
    Raised,
    /// It is over.
    Cleared,
    /// Somebody knows of it.
    Acknowledged,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Raised, Self::Cleared, Self::Acknowledged];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// One change of one alarm, durable. It is never taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmEvent {
    /// Counts all events, from 1, without gaps.
    pub number: u64,
    /// What happened.
    pub change: Change,
    /// The alarm right after it.
    pub alarm: Arc<Alarm>,
}

impl AlarmEvent {
    /// What receivers know a repetition by: the same for each delivery of this event.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.alarm.id, self.change.as_str())
    }

    /// When it happened, by our clock, in Unix milliseconds.
    #[must_use]
    pub fn at_ms(&self) -> i64 {
        let alarm = &self.alarm;
        let at = match self.change {
            Change::Raised => None,
            Change::Cleared => alarm.cleared.as_ref().map(|it| it.at_ms),
            Change::Acknowledged => alarm.acknowledged.as_ref().map(|it| it.at_ms),
        };
        at.unwrap_or(alarm.raised_ms)
    }

    /// As JSON: `event`, `key`, `change` and `alarm`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "event": self.number,
            "key": self.key(),
            "change": self.change.as_str(),
            "alarm": self.alarm.to_json(),
        })
    }

    /// What [`AlarmEvent::to_json`] made; `None` where it is something else.
    #[must_use]
    pub fn from_json(json: &Map<String, Value>) -> Option<Self> {
        let change = json.get("change")?.as_str()?;
        Some(Self {
            number: json.get("event")?.as_u64()?,
            change: Change::ALL.into_iter().find(|known| known.as_str() == change)?,
            alarm: Arc::new(Alarm::from_json(json.get("alarm")?)?),
        })
    }
}
