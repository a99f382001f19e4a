//! What kinds of clients there are, and what each may do where no rule says otherwise.
//!
//! | role | publishes | subscribes |
//! |---|---|---|
//! | `station` | below its own `nb1/{region}/{station}/u/`, and to `…/state` | to its own `…/d` |
//! | `project` | nothing | to what its own project's stations publish, and their alarms, by any filter below `nb1/` |
//! | `operator` | to everything but what is below `nb1/` | to everything, `$SYS` too |
//! | `admin` | to everything | to everything, `$SYS` too |
//! | `anonymous` | to everything | to everything, `$SYS` too |
//!
//! Which stations are a project's is told by whoever owns the broker ([`Projects`]): of the others a
//! reader gets nothing, whatever it has subscribed to.
//!
//! Below `$SYS/` and `nb1/alarms/` nobody publishes, whatever a role or rule says: what is there is the
//! broker's and the service's to say.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use loushan_schemas::ids::{Region, StationId};
use loushan_schemas::topic::{ALARMS, Channel, ROOT};

/// The project of a station, by the station's name; `None` where it has none.
pub type Projects = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A kind of client, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// A base station, or a device that publishes for itself.
    Station,
    /// Watches one project.
    Project,
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
            Self::Project => "project",
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
        [Self::Station, Self::Project, Self::Operator, Self::Admin, Self::Anonymous]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.chars().take(40).collect()))
    }
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; there are station, project, operator and admin")]
pub struct UnknownRole(String);

/// A role that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A station, with its place among the topics.
    Station(StationScope),
    /// See [`RoleName::Project`]: the project that it watches.
    Project(Arc<str>),
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
            Self::Project(_) => RoleName::Project,
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
            Self::Project(_) => false,
            Self::Operator => topic.split('/').next() != Some(ROOT),
            Self::Admin | Self::Anonymous => true,
        }
    }

    /// Whether the role lets its owner get a message to the topic.
    pub(super) fn may_receive(&self, topic: &str, projects: Option<&Projects>) -> bool {
        let Self::Project(own) = self else { return self.may_subscribe(topic) };
        // nb1/{region}/{station}/…, and of alarms nb1/alarms/{region}/{station}/…: a station may be
        // called as a region is.
        let alarm = topic.strip_prefix(ALARMS).and_then(|rest| rest.strip_prefix('/'));
        let of_root = topic.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/'));
        let station = alarm.or(of_root).and_then(|rest| rest.split('/').nth(1));
        station.zip(projects).is_some_and(|(station, projects)| {
            projects(station).is_some_and(|project| *project == **own)
        })
    }

    /// Whether the role lets its owner subscribe to the filter.
    pub(super) fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Self::Station(scope) => scope.own(filter) == Some(Channel::Command.suffix()),
            // What is not its project's is held back message by message.
            Self::Project(_) => filter.split('/').next() == Some(ROOT),
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
    fn a_projects_reader_gets_its_own_stations_messages_and_publishes_nothing() {
        let role = Role::Project("water".into());
        let projects: Projects = Arc::new(|station| (station == "bs1").then(|| "water".to_owned()));
        for filter in ["nb1/#", "nb1/+/+/u/t", "nb1/xinpu/bs2/state"] {
            assert!(role.may_subscribe(filter), "{filter}");
        }
        for filter in ["#", "+/xinpu/bs1/u/t", "$SYS/#", "home/lamp", "nb10/x"] {
            assert!(!role.may_subscribe(filter), "{filter}");
        }
        assert!(role.may_receive("nb1/xinpu/bs1/u/t", Some(&projects)));
        // Alarms are its stations' too, and no station's that stands in a region of that name.
        assert!(role.may_receive("nb1/alarms/xinpu/bs1/station/station_offline", Some(&projects)));
        assert!(!role.may_receive("nb1/alarms/bs1/bs2/station/station_offline", Some(&projects)));
        for topic in ["nb1/xinpu/bs2/u/t", "nb1/bs1", "nb1/bs1/x", "home/x/bs1", "$SYS/x/bs1"] {
            assert!(!role.may_receive(topic, Some(&projects)), "{topic}");
        }
        assert!(!role.may_receive("nb1/xinpu/bs1/u/t", None), "nobody says whose it is");
        assert!(!role.may_publish("home/lamp") && !role.may_publish("nb1/xinpu/bs1/d"));
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
