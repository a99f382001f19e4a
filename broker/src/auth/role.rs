//! What kinds of clients there are, and what each may do where no rule says otherwise.
//!
//! | role | publishes | subscribes |
//! |---|---|---|
//! | `station` | below its own `nb1/{region}/{station}/u/`, and to `…/state` | to its own `…/d` |
//! | `operator` | to everything but what is below `nb1/` | to everything, `$SYS` too |
//! | `admin` | to everything | to everything, `$SYS` too |
//! | `anonymous` | to everything | to everything, `$SYS` too |
//!
//! Below `$SYS/` and `nb1/alarms/` nobody publishes, whatever a role or rule says: what is there is the
//! broker's and the service's to say.

use std::fmt;
use std::str::FromStr;

use loushan_schemas::ids::{Region, StationId};
use loushan_schemas::topic::{Channel, ROOT};

/// A kind of client, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// A base station, or a device that publishes for itself.
    Station,
    /// Watches.
    Operator,
    /// Acts.
    Admin,
    /// Has no credentials.
    Anonymous,
}

impl RoleName {
    /// The word for it, in files and claims.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Station => "station",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Anonymous => "anonymous",
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RoleName {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::Station, Self::Operator, Self::Admin, Self::Anonymous]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.chars().take(40).collect()))
    }
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; there are station, operator and admin")]
pub struct UnknownRole(String);

/// A role that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A station, with its place among the topics.
    Station(StationScope),
    /// See [`RoleName::Operator`].
    Operator,
    /// See [`RoleName::Admin`].
    Admin,
    /// See [`RoleName::Anonymous`].
    Anonymous,
}

/// A station's place: what its credential says, never what it publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationScope {
    /// Where it stands.
    pub region: Region,
    /// What it is called: its client id and its user name, too.
    pub station: StationId,
    /// The pilot project it belongs to, if its credential names one.
    pub project: Option<String>,
}

impl StationScope {
    /// What is behind the station's own prefix; `None` for any other topic.
    fn own<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic
            .strip_prefix(ROOT)?
            .strip_prefix('/')?
            .strip_prefix(self.region.as_str())?
            .strip_prefix('/')?
            .strip_prefix(self.station.as_str())?
            .strip_prefix('/')
    }
}

impl Role {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> RoleName {
        match self {
            Self::Station(_) => RoleName::Station,
            Self::Operator => RoleName::Operator,
            Self::Admin => RoleName::Admin,
            Self::Anonymous => RoleName::Anonymous,
        }
    }

    /// Whether the role lets its owner publish to the topic.
    pub(super) fn may_publish(&self, topic: &str) -> bool {
        match self {
            Self::Station(scope) => scope
                .own(topic)
                .is_some_and(|rest| rest == Channel::State.suffix() || rest.starts_with("u/")),
            Self::Operator => topic.split('/').next() != Some(ROOT),
            Self::Admin | Self::Anonymous => true,
        }
    }

    /// Whether the role lets its owner subscribe to the filter, or get a message to the topic.
    pub(super) fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Self::Station(scope) => scope.own(filter) == Some(Channel::Command.suffix()),
            Self::Operator | Self::Admin | Self::Anonymous => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_has_its_own_prefix_and_nothing_else() {
        let role = Role::Station(StationScope {
            region: Region::new("xinpu").unwrap(),
            station: StationId::new("bs0001").unwrap(),
            project: None,
        });
        for topic in ["nb1/xinpu/bs0001/u/t", "nb1/xinpu/bs0001/u/x/y", "nb1/xinpu/bs0001/state"] {
            assert!(role.may_publish(topic), "{topic}");
        }
        for topic in [
            "nb1/xinpu/bs0001/d",
            "nb1/xinpu/bs0001",
            "nb1/xinpu/bs0001/u",
            "nb1/xinpu/bs0001/state/x",
            "nb1/xinpu/bs00011/u/t",
            "nb1/xinpu/bs0002/u/t",
            "nb1/other/bs0001/u/t",
            "nb1xinpu/bs0001/u/t",
            "home/lamp",
            "$SYS/x",
        ] {
            assert!(!role.may_publish(topic), "{topic}");
        }
        assert!(role.may_subscribe("nb1/xinpu/bs0001/d"));
        for filter in ["nb1/xinpu/bs0001/#", "nb1/xinpu/+/d", "nb1/xinpu/bs0002/d", "#", "a"] {
            assert!(!role.may_subscribe(filter), "{filter}");
        }
    }

    #[test]
    fn an_operator_watches_everything_and_publishes_outside_nb1() {
        assert!(Role::Operator.may_subscribe("#") && Role::Operator.may_subscribe("$SYS/#"));
        assert!(Role::Operator.may_publish("home/lamp") && Role::Operator.may_publish("nb10/x"));
        for topic in ["nb1", "nb1/xinpu/bs0001/d", "nb1/x"] {
            assert!(!Role::Operator.may_publish(topic), "{topic}");
        }
        assert!(Role::Admin.may_publish("nb1/xinpu/bs0001/d"));
    }
}
