//! What is remembered of a device and of a station.

use loushan_schemas::ids::{Region, StationId};
use loushan_schemas::kind::Kind;

use super::condition::{Condition, Origin};
use super::order::Place;
use super::rhythm::Rhythm;

/// Bytes of a device or station in memory and of its place in maps, about, without its conditions.
const BYTES: usize = 400;
/// Bytes of a condition.
const CONDITION_BYTES: usize = 200;
/// Bytes of an alarm that lasts: here, and where it is shown.
const ALARM_BYTES: usize = 800;

/// The last sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alive {
    /// By our clock, in Unix milliseconds.
    pub(crate) at_ms: i64,
    /// In time listened.
    pub(crate) listened: i64,
    /// Its lsn.
    pub(crate) lsn: u64,
    /// Its effective time.
    pub(crate) effective_ms: i64,
}

impl Alive {
    /// What an alarm of a silence goes back to.
    pub(crate) fn origin(&self, why: String) -> Origin {
        Origin {
            lsn: self.lsn,
            effective_ms: self.effective_ms,
            heard_ms: self.at_ms,
            late: false,
            why,
        }
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) region: Region,
    /// The station that heard it last.
    pub(crate) station: StationId,
    pub(crate) kind: Kind,
    /// The newest reading that was taken in.
    pub(crate) newest: Place,
    pub(crate) alive: Alive,
    pub(crate) rhythm: Rhythm,
    /// When a silence that may be its station's is looked at again, in time listened. Kept, so that a
    /// restart does not look sooner.
    pub(crate) look: i64,
    /// What a meter has counted backwards.
    pub(crate) reverse_l: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
}

/// A station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Station {
    pub(crate) region: Region,
    pub(crate) alive: Alive,
    pub(crate) rhythm: Rhythm,
    /// The session it was born with.
    pub(crate) session: Option<u32>,
    /// Its last word was that it dies.
    pub(crate) dead: bool,
    /// When it last sent what it had kept back, in time listened.
    pub(crate) replayed: i64,
    /// Since when it is there again, in time listened: its devices have been heard since at best.
    pub(crate) back: i64,
    pub(crate) conditions: Vec<Condition>,
}

/// What conditions cost in memory.
pub(crate) fn bytes(conditions: &[Condition]) -> usize {
    let alarms = conditions.iter().filter(|it| it.alarm.is_some()).count();
    BYTES + conditions.len() * CONDITION_BYTES + alarms * ALARM_BYTES
}
