//! Who speaks in a session: a simulated station, or the tape of one.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::unix_ms;
use crate::faults::Counts;
use crate::playback::Tape;
use crate::run::FleetError;
use crate::station::{Batch, Station};

/// Where a session's batches come from.
#[derive(Debug)]
pub(crate) enum Voice {
    Station(Box<Station>),
    Tape(Box<Tape>),
}

impl Voice {
    /// What its chances are drawn by.
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Station(station) => station.plan.number.into(),
            Self::Tape(tape) => xxh3_64(tape.name.as_bytes()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Station(station) => station.plan.station.as_str(),
            Self::Tape(tape) => &tape.name,
        }
    }

    /// The station, which says when it comes and goes, and does what it is told; a tape does not.
    pub(crate) fn station(&self) -> Option<&Station> {
        match self {
            Self::Station(station) => Some(station),
            Self::Tape(_) => None,
        }
    }

    /// The next batch; none at the end of a tape.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        match self {
            Self::Station(station) => Some(station.next_batch()),
            Self::Tape(tape) => tape.next_batch(),
        }
    }

    /// The answer to a command.
    pub(super) fn answer(&mut self, command: &Bytes) -> Option<Bytes> {
        match self {
            Self::Station(station) => station.answer(command, unix_ms()),
            Self::Tape(_) => None,
        }
    }

    pub(super) fn incidents(&self) -> Counts {
        match self {
            Self::Station(station) => *station.incidents(),
            Self::Tape(_) => Counts::default(),
        }
    }

    /// Whether it could say all that it had to.
    pub(super) fn end(&mut self) -> Result<(), FleetError> {
        match self {
            Self::Tape(tape) => tape.end().map_err(FleetError::from),
            Self::Station(_) => Ok(()),
        }
    }
}
