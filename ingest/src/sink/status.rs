//! A sink's public figures, and what an operator wants of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::pipeline::frame::DurableFrame;

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SinkState {
    /// It takes what is durable and stores it.
    #[default]
    Running,
    /// An operator has it stand still. The log keeps what comes.
    Paused,
    /// It ended, and is begun again after a pause. The log keeps what comes.
    Failed,
    /// An operator took it away. The log keeps nothing for it.
    Removed,
}

impl SinkState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }
}

/// How far a sink is behind the log.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lag {
    /// Frames of the log above its cursor.
    pub frames: u64,
    /// Their bytes in the log, exact to a segment and estimated within one.
    pub bytes: u64,
    /// The age of the oldest of them, in seconds, and up to a second more.
    pub seconds: f64,
}

/// A sink's public figures, in readings unless said otherwise:
/// `fed = stored + replayed + refused + let_go + returned + pending`.
#[derive(Debug)]
pub struct SinkStatus {
    name: Arc<str>,
    cursor: AtomicU64,
    pub(super) position: AtomicU64,
    fed: AtomicU64,
    rewound: AtomicU64,
    stored: AtomicU64,
    replayed: AtomicU64,
    refused: AtomicU64,
    let_go: AtomicU64,
    returned: AtomicU64,
    pending: AtomicU64,
    /// Frames up to here were given before a rewind, and count as rewound when they are given again.
    rewound_up_to: AtomicU64,
    said: Mutex<Said>,
}

/// What is said of a sink.
#[derive(Debug, Default)]
struct Said {
    state: SinkState,
    trouble: Option<String>,
    feed_trouble: Option<String>,
    notice: Option<String>,
}

/// A moment's figures of a sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkFigures {
    /// The sink's name.
    pub name: Arc<str>,
    /// What it is doing.
    pub state: SinkState,
    /// Everything up to this lsn is durably stored.
    pub cursor: u64,
    /// Everything up to this lsn was given to it and taken in: what is not stored yet it holds, and
    /// what it answers for can be asked of it.
    pub position: u64,
    /// Readings given to it since the start.
    pub fed: u64,
    /// Of these, readings that were given once before it was rewound.
    pub rewound: u64,
    /// Readings it stored.
    pub stored: u64,
    /// Readings it found stored already (a replay after a start).
    pub replayed: u64,
    /// Readings the far side refused for good; they are in the dead letter.
    pub refused: u64,
    /// Readings given up on purpose, where the configuration allows it.
    pub let_go: u64,
    /// Readings it held when it was stopped; the log has them, and gives them again.
    pub returned: u64,
    /// Readings it holds and has not yet stored.
    pub pending: u64,
    /// How far it is behind the log; nobody but the service can tell.
    pub lag: Lag,
    /// What keeps it from storing, if anything does.
    pub trouble: Option<String>,
    /// What an operator should know of it until the next start, if anything.
    pub notice: Option<String>,
}

impl SinkFigures {
    /// What the figures leave unexplained; zero (invariant I2).
    #[must_use]
    pub fn residue(&self) -> i64 {
        let explained =
            self.stored + self.replayed + self.refused + self.let_go + self.returned + self.pending;
        i64::try_from(self.fed).unwrap_or(i64::MAX) - i64::try_from(explained).unwrap_or(i64::MAX)
    }
}

impl SinkStatus {
    /// Figures of a sink that has done nothing yet. The name is a metric label, so it comes from a
    /// closed list: the configuration's.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            cursor: AtomicU64::new(0),
            position: AtomicU64::new(0),
            fed: AtomicU64::new(0),
            rewound: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            replayed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            let_go: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            rewound_up_to: AtomicU64::new(0),
            said: Mutex::new(Said::default()),
        })
    }

    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The published cursor.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Acquire)
    }

    /// Publishes the cursor. Call it only after the cursor itself is durable.
    pub fn advance(&self, cursor: u64) {
        self.cursor.fetch_max(cursor, Ordering::AcqRel);
    }

    /// Publishes a cursor that may lie behind the last one: the log keeps what is above it from now
    /// on, if it still has it. The sink must stand still.
    pub(crate) fn hold_from(&self, cursor: u64) {
        self.cursor.store(cursor, Ordering::Release);
        self.position.store(cursor, Ordering::Release);
    }

    /// Frames above the cursor and up to `position` were given once, and will be given again.
    pub(crate) fn rewound_from(&self, position: u64) {
        self.rewound_up_to.fetch_max(position, Ordering::AcqRel);
    }

    pub(super) fn fed(&self, frames: &[Arc<DurableFrame>]) {
        let readings: usize = frames.iter().map(|f| f.rows.len()).sum();
        self.fed.fetch_add(readings as u64, Ordering::Relaxed);
        let again = self.rewound_up_to.load(Ordering::Acquire);
        if frames.first().is_some_and(|frame| frame.lsn <= again) {
            let frames = frames.iter().take_while(|frame| frame.lsn <= again);
            let readings: usize = frames.map(|frame| frame.rows.len()).sum();
            self.rewound.fetch_add(readings as u64, Ordering::Relaxed);
        }
    }

    /// Readings were durably stored.
    pub fn stored(&self, readings: u64) {
        self.stored.fetch_add(readings, Ordering::Relaxed);
    }

    /// Readings were found stored already.
    pub fn replayed(&self, readings: u64) {
        self.replayed.fetch_add(readings, Ordering::Relaxed);
    }

    /// Readings were refused for good.
    pub fn refused(&self, readings: u64) {
        self.refused.fetch_add(readings, Ordering::Relaxed);
    }

    /// Readings of the log that were not given to it were given up on purpose.
    pub(crate) fn let_go(&self, readings: u64) {
        self.fed.fetch_add(readings, Ordering::Relaxed);
        self.let_go.fetch_add(readings, Ordering::Relaxed);
    }

    /// How many readings the sink holds now, counted by the sink from what it holds (never by
    /// subtraction, or the residue would prove nothing).
    pub fn set_pending(&self, readings: u64) {
        self.pending.store(readings, Ordering::Relaxed);
    }

    /// The sink has ended: what it held is the log's again.
    pub(crate) fn give_back(&self) {
        let held = self.pending.swap(0, Ordering::Relaxed);
        self.returned.fetch_add(held, Ordering::Relaxed);
    }

    /// What keeps the sink from storing; `None` when nothing does any more.
    pub fn set_trouble(&self, trouble: Option<String>) {
        self.said.lock().trouble = trouble;
    }

    /// What keeps the log from giving it anything; the sink itself does not know of it.
    pub(super) fn set_feed_trouble(&self, trouble: Option<String>) {
        self.said.lock().feed_trouble = trouble;
    }

    /// What an operator should know until the next start.
    pub(crate) fn set_notice(&self, notice: Option<String>) {
        self.said.lock().notice = notice;
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> SinkState {
        self.said.lock().state
    }

    pub(crate) fn set_state(&self, state: SinkState) {
        self.said.lock().state = state;
    }

    /// The figures now, without the lag. While the sink is at work they may be a moment apart.
    #[must_use]
    pub fn figures(&self) -> SinkFigures {
        let said = self.said.lock();
        SinkFigures {
            name: Arc::clone(&self.name),
            state: said.state,
            cursor: self.cursor(),
            position: self.position.load(Ordering::Acquire),
            fed: self.fed.load(Ordering::Relaxed),
            rewound: self.rewound.load(Ordering::Relaxed),
            stored: self.stored.load(Ordering::Relaxed),
            replayed: self.replayed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            let_go: self.let_go.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            lag: Lag::default(),
            trouble: said.trouble.clone().or_else(|| said.feed_trouble.clone()),
            notice: said.notice.clone(),
        }
    }
}
