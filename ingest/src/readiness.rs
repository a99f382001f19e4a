//! Whether the service may be given work, and every reason why not.
//!
//! A *red* condition makes `/readyz` answer 503: telemetry is not being acknowledged, or the
//! service is about to stop. An *amber* one leaves it ready and is shown beside: a sink that lags
//! costs disk, not readings, and turning devices away would not help it.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The service as a whole: starting or stopping.
    Service,
    /// The write-ahead log.
    Log,
    /// Free space of the data folder's disk.
    Disk,
    /// What an acknowledgement is worth: `sync = "interval"`.
    Durability,
    /// Verdicts, and the pipeline's snapshot.
    Pipeline,
    /// The MQTT listener and its connections.
    Broker,
    /// Users and rights: the files that they come from.
    Identity,
    /// Live fan-out to subscribers.
    Router,
    /// Retained messages and the sessions of absent clients.
    Sessions,
    /// The HTTP side.
    Http,
    /// The embedded store.
    Embedded,
    /// The sinks that write to servers.
    Sinks,
    /// The dead letter.
    DeadLetter,
    /// What the projects may use.
    Quota,
    /// Alarms, and who is told of them.
    Alarms,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Service,
        Self::Log,
        Self::Disk,
        Self::Durability,
        Self::Pipeline,
        Self::Broker,
        Self::Identity,
        Self::Router,
        Self::Sessions,
        Self::Http,
        Self::Embedded,
        Self::Sinks,
        Self::DeadLetter,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Log => "log",
            Self::Disk => "disk",
            Self::Durability => "durability",
            Self::Pipeline => "pipeline",
            Self::Broker => "broker",
            Self::Identity => "identity",
            Self::Router => "router",
            Self::Sessions => "sessions",
            Self::Http => "http",
            Self::Embedded => "embedded",
            Self::Sinks => "sinks",
            Self::DeadLetter => "dead_letter",
            Self::Quota => "quota",
            Self::Alarms => "alarms",
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it makes the service not ready.
    pub red: bool,
    /// What it is, and what helps.
    pub what: String,
}

impl Condition {
    /// One that makes the service not ready.
    pub fn red(what: impl Into<String>) -> Self {
        Self { red: true, what: what.into() }
    }

    /// One to know of.
    pub fn amber(what: impl Into<String>) -> Self {
        Self { red: false, what: what.into() }
    }
}

/// A moment's conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    conditions: BTreeMap<Component, Condition>,
}

impl Readiness {
    /// Adds a condition. A red one replaces an amber one of the same component, not the reverse.
    pub fn note(&mut self, component: Component, condition: Condition) {
        match self.conditions.get(&component) {
            Some(known) if known.red && !condition.red => {}
            _ => {
                self.conditions.insert(component, condition);
            }
        }
    }

    /// Whether nothing is red.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.conditions.values().any(|condition| condition.red)
    }

    /// The conditions, by component.
    pub fn conditions(&self) -> impl Iterator<Item = (Component, &Condition)> {
        self.conditions.iter().map(|(component, condition)| (*component, condition))
    }
}

/// Where components report conditions that nobody could see by looking at them.
#[derive(Debug, Default)]
pub struct Health(Mutex<Readiness>);

impl Health {
    /// Sets the condition of a component, `None` when it is well again. One event for each change;
    /// that the service as a whole starts or stops is no trouble.
    pub fn set(&self, component: Component, condition: Option<Condition>) {
        let mut readiness = self.0.lock();
        if readiness.conditions.get(&component) == condition.as_ref() {
            return;
        }
        let name = component.as_str();
        match condition {
            Some(condition) => {
                if component == Component::Service {
                    tracing::info!(what = condition.what, "not ready");
                } else if condition.red {
                    tracing::error!(component = name, what = condition.what, "not ready");
                } else {
                    tracing::warn!(component = name, what = condition.what, "in trouble");
                }
                readiness.conditions.insert(component, condition);
            }
            None => {
                tracing::info!(component = name, "well again");
                readiness.conditions.remove(&component);
            }
        }
    }

    /// The conditions now.
    #[must_use]
    pub fn now(&self) -> Readiness {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn red_makes_it_not_ready_and_amber_does_not() {
        let health = Health::default();
        assert!(health.now().is_ready());
        health.set(Component::Sinks, Some(Condition::amber("no answer")));
        assert!(health.now().is_ready());
        health.set(Component::Log, Some(Condition::red("sync failed")));
        assert!(!health.now().is_ready());
        health.set(Component::Log, None);
        assert!(health.now().is_ready());
        assert_eq!(health.now().conditions().count(), 1);
    }

    #[test]
    fn a_red_condition_is_not_painted_over_by_an_amber_one() {
        let mut readiness = Readiness::default();
        readiness.note(Component::Log, Condition::red("failed"));
        readiness.note(Component::Log, Condition::amber("slow"));
        assert!(!readiness.is_ready());
    }
}
