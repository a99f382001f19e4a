//! What the HTTP side asks of the service. It knows nothing else of it, so that it can be tested
//! without a log or a store, and so that the store can change without it.

use std::ops::ControlFlow;
use std::sync::Arc;

use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use loushan_schemas::time::DeviceTime;

use super::pipeline::Inside;
use crate::alarm::Alarms;
use crate::ask::Place;
use crate::commands::Commands;
use crate::live::{Live, Sample};
use crate::readiness::Readiness;
use crate::registry::Registry;
use crate::service::letters::{LetterFilter, LetterReplay};
use crate::sink::embedded::QueryError;
use crate::sink::{ReplayFigures, ReplayFrom, SinkFigures, SinkOrder, SinkOrderError};

/// The service, seen from outside. Methods may read files: they are called where that may block.
pub trait View: Send + Sync + 'static {
    /// Whether the service may be given work.
    fn readiness(&self) -> Readiness;

    /// The books: what came in and what became of it.
    fn conservation(&self) -> Conservation;

    /// Brings the metrics up to date that only the service can look up.
    fn record_metrics(&self);

    /// What is live, where there is a feed.
    fn live(&self) -> Option<&Arc<Live>> {
        None
    }

    /// The service's figures of this moment, for the live feed. Asked for once a second.
    fn sample(&self) -> Option<Sample> {
        None
    }

    /// Commands to stations, where there is a way to them.
    fn commands(&self) -> Option<&Commands> {
        None
    }

    /// The alarms; `None` where they are switched off.
    fn alarms(&self) -> Option<&Alarms> {
        None
    }

    /// Has a sink do something, and waits until it is done.
    ///
    /// # Errors
    /// When it was not done.
    fn order_sink(&self, name: &str, _order: SinkOrder) -> Result<(), SinkOrderError> {
        Err(SinkOrderError::Unknown { name: name.to_owned(), known: Vec::new() })
    }

    /// Begins to give a sink readings of the past again, beside what comes.
    ///
    /// # Errors
    /// When it was not begun.
    fn replay_into(
        &self,
        name: &str,
        _from: ReplayFrom,
        _span: Span,
    ) -> Result<ReplayFigures, SinkOrderError> {
        Err(SinkOrderError::Unknown { name: name.to_owned(), known: Vec::new() })
    }

    /// The last replay into a sink, if there was one; with `stop` it is ended.
    ///
    /// # Errors
    /// When there is no such sink.
    fn last_replay(
        &self,
        name: &str,
        _stop: bool,
    ) -> Result<Option<ReplayFigures>, SinkOrderError> {
        Err(SinkOrderError::Unknown { name: name.to_owned(), known: Vec::new() })
    }

    /// Has dead letters decided again.
    ///
    /// # Errors
    /// When they cannot be read, or what was replayed not be noted.
    fn replay_letters(&self, _filter: &LetterFilter) -> Result<LetterReplay, ViewError> {
        Ok(LetterReplay::default())
    }

    /// What is known of stations and devices, and what time it is, in Unix milliseconds.
    fn registry(&self) -> Option<(Arc<Registry>, i64)> {
        None
    }

    /// Whether an MQTT client of that name is connected.
    fn is_connected(&self, _client: &str) -> bool {
        false
    }

    /// What the service holds inside.
    fn inside(&self) -> Option<Inside> {
        None
    }

    /// A device's newest reading by effective time.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn latest(&self, imei: Imei) -> Result<Answer<Option<Row>>, ViewError>;

    /// Where questions in words are answered from, if there is such a place.
    fn place(&self) -> Option<Place> {
        None
    }

    /// A question in words was not answered because of this.
    fn note(&self, _error: &QueryError) {}

    /// How many readings of a kind, or of all, have an effective time in the span.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn count(&self, kind: Option<Kind>, span: Span) -> Result<Answer<u64>, ViewError>;

    /// Gives every stored row with a greater lsn, once for each time it is stored, until the
    /// receiver breaks.
    ///
    /// # Errors
    /// When the store cannot be read; what was given so far is then not all.
    fn export_rows(
        &self,
        after_lsn: u64,
        give: &mut dyn FnMut(&Row) -> ControlFlow<()>,
    ) -> Result<(), ViewError>;

    /// Gives every dead letter with a greater lsn as one JSON object, until the receiver breaks.
    ///
    /// # Errors
    /// When the dead letter cannot be read.
    fn export_dead_letters(
        &self,
        after_lsn: u64,
        give: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), ViewError>;
}

/// An answer, and how much of the log it covers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// Every durable reading up to here is in it.
    pub as_of_lsn: u64,
}

/// A span of effective time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From here, included.
    pub from: DeviceTime,
    /// To here, excluded.
    pub to: DeviceTime,
}

/// A question could not be answered; the text is for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ViewError(pub String);

/// The books (invariant I2), in readings since the start of the process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conservation {
    /// The greatest durable lsn.
    pub durable_lsn: u64,
    /// Everything that came.
    pub received: u64,
    /// Decided to be new and good.
    pub accepted: u64,
    /// Stored before.
    pub duplicate: u64,
    /// The sender's fault.
    pub rejected: u64,
    /// Refused before it was acknowledged.
    pub shed: u64,
    /// Between arrival and durability.
    pub undecided: u64,
    /// The sinks' side.
    pub sinks: Vec<SinkFigures>,
}

impl Conservation {
    /// What the figures leave unexplained; zero.
    #[must_use]
    pub fn residue(&self) -> i64 {
        let explained = self.accepted + self.duplicate + self.rejected + self.shed + self.undecided;
        signed(self.received) - signed(explained)
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
