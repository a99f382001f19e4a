//! What an operator may have a sink do.

use loushan_schemas::time::DeviceTime;

/// An order to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkOrder {
    /// Stand still, over restarts as well. The log keeps what comes.
    Pause,
    /// Go on. One that was removed begins anew.
    Resume,
    /// Store again what the log has from there on.
    Rewind(RewindTo),
    /// End, over restarts as well. The log keeps nothing for it any more.
    Remove,
}

/// How far a sink is set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewindTo {
    /// What has a greater lsn is stored again.
    Lsn(u64),
    /// What was received then or later is stored again.
    Time(DeviceTime),
}

/// An order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SinkOrderError {
    /// There is no such sink.
    #[error("there is no sink {name}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It cannot do that, whenever it is asked.
    #[error("{name} {why}")]
    Never {
        /// Its name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// It cannot do that now.
    #[error("{0}")]
    NotNow(String),
    /// The log does not go back so far.
    #[error(
        "the log has nothing up to lsn {begins_after} any more: rewind as far as that, and replay from \
         the embedded store what lies before (loushan replay --sink {name} --from TIME --to TIME)"
    )]
    Gone {
        /// Its name.
        name: String,
        /// The log has everything above.
        begins_after: u64,
    },
    /// Our own disk did not take it.
    #[error("it could not be made durable, and was not done: {0}")]
    Disk(String),
    /// It was taken and is still being carried out.
    #[error("it is being carried out, and takes long: the sink's trouble says why")]
    Slow,
}

/// Where a replay has its readings from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOf {
    /// The log's retained past: what was received in the span.
    Log {
        /// Above this lsn.
        after: u64,
    },
    /// The embedded store: what has an effective time in the span.
    Store,
}

/// From where an operator wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplayFrom {
    /// The log where it still has all that was received since the span's beginning, else the store.
    #[default]
    Any,
    /// The log only.
    Log,
    /// The store only.
    Store,
}

/// How a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayState {
    /// At work.
    Running,
    /// Everything was given, and stored or refused.
    Done,
    /// Broken off; begun again it stores nothing twice.
    Failed,
}

impl ReplayState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// A moment's figures of a replay, in readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayFigures {
    /// How it stands.
    pub state: ReplayState,
    /// Where it has its readings from.
    pub of: ReplayOf,
    /// Given to the sink.
    pub given: u64,
    /// Stored there, for the first time or again.
    pub stored: u64,
    /// Refused there for good.
    pub refused: u64,
    /// Held, and not stored yet.
    pub pending: u64,
    /// What keeps it, or ended it.
    pub trouble: Option<String>,
}
