//! The topics of the pilot, parsed and formatted.
//!
//! ```text
//! nb1/{region}/{station}/u/t     telemetry batch
//! nb1/{region}/{station}/u/a     alarm batch, priority lane
//! nb1/{region}/{station}/u/h     replay of stored readings
//! nb1/{region}/{station}/u/s     station status
//! nb1/{region}/{station}/u/r     command results
//! nb1/{region}/{station}/state   retained birth and last will
//! nb1/{region}/{station}/d       commands down
//! nb1/alarms/…                   the service's own: alarms that last
//! ```

use std::fmt;

use crate::ids::{NameError, Region, StationId};

/// First level of every topic of the pilot.
pub const ROOT: &str = "nb1";

/// Below it the service tells its alarms, and nobody else publishes:
/// `nb1/alarms/{region}/{station}/{device or "station"}/{alarm}`.
pub const ALARMS: &str = "nb1/alarms";

/// What a topic of the pilot carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// `u/t`: a telemetry batch.
    Telemetry,
    /// `u/a`: an alarm batch; its acknowledgements never wait behind the others'.
    Alarm,
    /// `u/h`: readings stored at the station during an outage.
    Replay,
    /// `u/s`: the station's own figures.
    Status,
    /// `u/r`: what became of commands.
    CommandResult,
    /// `state`: retained birth, and last will.
    State,
    /// `d`: commands to the station.
    Command,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Telemetry,
        Self::Alarm,
        Self::Replay,
        Self::Status,
        Self::CommandResult,
        Self::State,
        Self::Command,
    ];

    /// The topic's levels behind the station.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Telemetry => "u/t",
            Self::Alarm => "u/a",
            Self::Replay => "u/h",
            Self::Status => "u/s",
            Self::CommandResult => "u/r",
            Self::State => "state",
            Self::Command => "d",
        }
    }

    /// Whether an acknowledgement on this channel is our promise of durability.
    #[must_use]
    pub const fn is_uplink(self) -> bool {
        !matches!(self, Self::State | Self::Command)
    }
}

/// A topic of the pilot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Second level.
    pub region: Region,
    /// Third level.
    pub station: StationId,
    /// The rest.
    pub channel: Channel,
}

/// Why a topic is not one of the pilot's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Its first level is not `nb1`: an ordinary MQTT topic.
    #[error("the topic is not below nb1/")]
    Foreign,
    /// Below `nb1/`, with a bad region or station.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Below `nb1/`, with other levels than the grammar has.
    #[error(
        "a topic below nb1/ is nb1/REGION/STATION/ and one of u/t, u/a, u/h, u/s, u/r, state, d"
    )]
    Shape,
}

impl Topic {
    /// Parses a topic name.
    ///
    /// # Errors
    /// [`TopicError::Foreign`] when it is not below `nb1/`; the others when it is and the grammar
    /// does not know it.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let mut levels = text.splitn(4, '/');
        if levels.next() != Some(ROOT) {
            return Err(TopicError::Foreign);
        }
        let (Some(region), Some(station), Some(suffix)) =
            (levels.next(), levels.next(), levels.next())
        else {
            return Err(TopicError::Shape);
        };
        let channel =
            Channel::ALL.into_iter().find(|c| c.suffix() == suffix).ok_or(TopicError::Shape)?;
        Ok(Self { region: Region::new(region)?, station: StationId::new(station)?, channel })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}/{}/{}/{}", self.region, self.station, self.channel.suffix())
    }
}

#[cfg(test)]
mod tests;
