//! The sinks of a running service: who there is, what an operator has ordered, and whose cursors hold
//! the log.
//!
//! | sink | pause | rewind | remove |
//! |---|---|---|---|
//! | `[sink.NAME]` | yes: it ends as at a stop | yes | yes |
//! | embedded | yes: it stores what it holds and is given nothing | no: its cursor is in its manifest | no: duplicates are known by it |
//! | dead letter | yes, the same way | no: letters would be there twice | no: what is rejected has to be somewhere |
//! | snapshot | no | no | no |
//!
//! A sink that is paused holds the log: in the end devices are held back. With the embedded store
//! paused that comes sooner, when the memory of duplicates is full of what it has not stored.
//!
//! An order is durable before it is carried out ([`orders`]), and a cursor that goes back is published
//! before it is written, so that the log deletes nothing it will name.

mod orders;
mod replay;
mod supervise;
mod trim;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::orders::Orders;
use self::replay::Replay;
pub(super) use self::supervise::{Supervisor, open as open_sink};
pub(super) use self::trim::{Trimmer, trim_now, trimming};
use crate::causes::Chain;
use crate::config::{OnFull, SinkConfig};
use crate::http::view::Span;
use crate::io::Io;
use crate::pipeline::Pipeline;
use crate::service::{StartError, sink_dir, sinks_dir};
use crate::sink::embedded::Store;
use crate::sink::{
    ReplayFigures, ReplayFrom, ReplayOf, SinkFigures, SinkOrder, SinkOrderError, SinkState,
    SinkStatus,
};

/// Orders that may wait at a sink.
const QUEUE: usize = 8;
/// How long whoever gave an order waits for it.
const WAIT: Duration = Duration::from_secs(20);

/// What a supervisor is told, and where it answers.
#[derive(Debug)]
pub(super) enum Told {
    /// By an operator.
    Order(SinkOrder, SyncSender<Result<(), SinkOrderError>>),
    /// By the log: it has no more room for what lies up to here.
    LetGo(u64),
}

/// A sink, and how it is told what to do.
#[derive(Debug)]
struct Entry {
    status: Arc<SinkStatus>,
    role: Role,
}

#[derive(Debug)]
enum Role {
    /// It stays, and is paused by its feed.
    Local(watch::Sender<bool>),
    /// The pipeline's snapshot: part of what every start needs.
    Snapshot,
    /// It writes to a server, and has a supervisor.
    Server {
        told: mpsc::Sender<Told>,
        config: Box<SinkConfig>,
        dir: PathBuf,
        /// The last replay into it.
        replay: Mutex<Option<Arc<Replay>>>,
    },
}

impl Role {
    fn lets_go(&self) -> bool {
        matches!(self, Self::Server { config, .. } if config.on_full == OnFull::LetGo)
    }
}

/// What a replay reads.
pub(super) struct Past {
    pub(super) io: Arc<dyn Io>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) store: Store,
}

/// All sinks.
#[derive(Debug)]
pub(super) struct Sinks {
    entries: Vec<Entry>,
    orders: Orders,
    /// Replays, which end with the service.
    replays: Mutex<JoinSet<()>>,
    /// Ends them, and what is given nothing just now.
    stop: CancellationToken,
}

/// A sink that writes to a server, before it has a supervisor.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) config: SinkConfig,
    pub(super) dir: PathBuf,
    pub(super) status: Arc<SinkStatus>,
    told: mpsc::Receiver<Told>,
}

/// The sinks while the data folder is opened.
#[derive(Debug)]
pub(super) struct Opening {
    entries: Vec<Entry>,
    orders: Orders,
}

impl Opening {
    pub(super) fn new(
        io: &Arc<dyn Io>,
        data: &std::path::Path,
        configured: &[SinkConfig],
    ) -> Result<Self, StartError> {
        let dir = sinks_dir(data);
        let orders = Orders::open(Arc::clone(io), &dir)?;
        let names: Vec<Arc<str>> = configured.iter().map(|sink| Arc::clone(&sink.name)).collect();
        orders.forget_but(&names).map_err(|source| StartError::Io { path: dir, source })?;
        Ok(Self { entries: Vec::new(), orders })
    }

    /// Adds the embedded store or the dead letter; what comes back says whether it is paused.
    pub(super) fn local(&mut self, status: &Arc<SinkStatus>) -> watch::Receiver<bool> {
        let state = self.orders.of(status.name());
        status.set_state(state);
        let (paused, watched) = watch::channel(state == SinkState::Paused);
        self.entries.push(Entry { status: Arc::clone(status), role: Role::Local(paused) });
        watched
    }

    pub(super) fn snapshot(&mut self, status: Arc<SinkStatus>) {
        self.entries.push(Entry { status, role: Role::Snapshot });
    }

    /// Adds a sink that writes to a server.
    pub(super) fn server(
        &mut self,
        io: &dyn Io,
        data: &std::path::Path,
        config: &SinkConfig,
    ) -> Result<Server, StartError> {
        let dir = sink_dir(io, data, &config.name)?;
        let status = SinkStatus::new(Arc::clone(&config.name));
        status.set_state(self.orders.of(&config.name));
        let (sender, told) = mpsc::channel(QUEUE);
        let role = Role::Server {
            told: sender,
            config: Box::new(config.clone()),
            dir: dir.clone(),
            replay: Mutex::default(),
        };
        self.entries.push(Entry { status: Arc::clone(&status), role });
        Ok(Server { config: config.clone(), dir, status, told })
    }

    pub(super) fn done(self) -> Arc<Sinks> {
        Arc::new(Sinks {
            entries: self.entries,
            orders: self.orders,
            replays: Mutex::default(),
            stop: CancellationToken::new(),
        })
    }
}

impl Sinks {
    /// Every sink.
    pub(super) fn statuses(&self) -> impl Iterator<Item = &Arc<SinkStatus>> {
        self.entries.iter().map(|entry| &entry.status)
    }

    /// Cancelled when the service has closed its log.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Waits until no replay is at work, after a stop.
    pub(super) async fn replays_ended(&self) {
        let mut replays = std::mem::take(&mut *self.replays.lock());
        while replays.join_next().await.is_some() {}
    }

    fn entry(&self, name: &str) -> Result<&Entry, SinkOrderError> {
        self.entries.iter().find(|entry| **entry.status.name() == *name).ok_or_else(|| {
            let known = self.statuses().map(|status| status.name().to_string()).collect();
            SinkOrderError::Unknown { name: name.to_owned(), known }
        })
    }

    /// Begins to give a sink readings of the past again. Blocks for looking into the log.
    pub(super) fn replay(
        &self,
        name: &str,
        from: ReplayFrom,
        span: Span,
        past: Past,
    ) -> Result<ReplayFigures, SinkOrderError> {
        let entry = self.entry(name)?;
        let Role::Server { config, dir, replay, .. } = &entry.role else {
            let why =
                "is fed from the log alone; only a sink that writes to a server is replayed into";
            return Err(SinkOrderError::Never { name: name.to_owned(), why });
        };
        let mut last = replay.lock();
        if last.as_ref().is_some_and(|last| last.is_running()) {
            let what = format!("a replay into {name} is at work; stop it, or wait for its end");
            return Err(SinkOrderError::NotNow(what));
        }
        let pipeline = &past.pipeline;
        let since = span.from.ms().saturating_mul(1_000_000);
        let after = match from {
            ReplayFrom::Store => None,
            ReplayFrom::Any | ReplayFrom::Log => pipeline
                .lsn_before(since)
                .map_err(|e| SinkOrderError::NotNow(Chain(&e).to_string()))?
                // A log from which nothing was ever deleted has all there is.
                .or((pipeline.log().stats().begins_after.0 == 0).then_some(0)),
        };
        let of = match (after, from) {
            (Some(after), _) => ReplayOf::Log { after },
            (None, ReplayFrom::Log) => {
                let begins_after = pipeline.log().stats().begins_after.0;
                return Err(SinkOrderError::Gone { name: name.to_owned(), begins_after });
            }
            (None, _) => ReplayOf::Store,
        };
        let this = Replay::new(entry.status.name(), of, self.stop.child_token());
        let Past { io, pipeline, store } = past;
        let (dir, config) = (dir.clone(), (**config).clone());
        let making =
            replay::Making { io, dir, config, pipeline, store, from: span.from, to: span.to };
        tracing::warn!(sink = name, ?of, from = %span.from, to = %span.to, "a replay begins");
        let mut replays = self.replays.lock();
        while replays.try_join_next().is_some() {}
        replays.spawn_on(Arc::clone(&this).run(making), &tokio::runtime::Handle::current());
        let figures = this.figures();
        *last = Some(this);
        Ok(figures)
    }

    /// The last replay into a sink, if there was one; ended, if `stop` says so.
    pub(super) fn last_replay(
        &self,
        name: &str,
        stop: bool,
    ) -> Result<Option<ReplayFigures>, SinkOrderError> {
        let Role::Server { replay, .. } = &self.entry(name)?.role else { return Ok(None) };
        let last = replay.lock().clone();
        if let Some(last) = last.as_ref().filter(|_| stop) {
            last.stop.cancel();
        }
        Ok(last.map(|last| last.figures()))
    }

    /// Those whose cursors hold the log.
    fn holding(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.status.state() != SinkState::Removed)
    }

    /// Behind which lsn running replays still want the log, the furthest back of them.
    fn replays_want_after(&self) -> Option<u64> {
        let roles = self.entries.iter().map(|entry| &entry.role);
        let replays = roles.filter_map(|role| match role {
            Role::Server { replay, .. } => replay.lock().as_ref().and_then(|r| r.wants_after()),
            _ => None,
        });
        replays.min()
    }

    /// The sinks' figures, with their lag.
    pub(super) fn figures(&self, pipeline: &Pipeline) -> Vec<SinkFigures> {
        let figures = |status: &Arc<SinkStatus>| {
            let mut figures = status.figures();
            if figures.state != SinkState::Removed {
                match pipeline.lag(figures.cursor) {
                    Ok(lag) => figures.lag = lag,
                    Err(error) => tracing::warn!(%error, "the age of what a sink lacks is unknown"),
                }
            }
            figures
        };
        self.statuses().map(figures).collect()
    }

    /// Carries an order out. Blocks until it is done.
    pub(super) fn order(&self, name: &str, order: SinkOrder) -> Result<(), SinkOrderError> {
        let entry = self.entry(name)?;
        let never = |why| Err(SinkOrderError::Never { name: name.to_owned(), why });
        let stops = || SinkOrderError::NotNow("the service stops".to_owned());
        let state = match (&entry.role, order) {
            (Role::Server { told, .. }, _) => {
                let (answer, answered) = sync_channel(1);
                return match told.try_send(Told::Order(order, answer)) {
                    Ok(()) => match answered.recv_timeout(WAIT) {
                        Ok(done) => done,
                        Err(RecvTimeoutError::Timeout) => Err(SinkOrderError::Slow),
                        Err(RecvTimeoutError::Disconnected) => Err(stops()),
                    },
                    Err(TrySendError::Closed(_)) => Err(stops()),
                    // It has not yet done what it was told before: more would only wait with it.
                    Err(TrySendError::Full(_)) => Err(SinkOrderError::Slow),
                };
            }
            (Role::Snapshot, _) => {
                return never("is what a start goes on from; it cannot be told anything");
            }
            (_, SinkOrder::Rewind(_)) => {
                return never("is no copy that could be made again; it cannot be rewound");
            }
            (_, SinkOrder::Remove) => return never("is part of the promise; it cannot be removed"),
            (Role::Local(_), SinkOrder::Pause) => SinkState::Paused,
            (Role::Local(_), SinkOrder::Resume) => SinkState::Running,
        };
        self.orders.set(name, state).map_err(|e| SinkOrderError::Disk(e.to_string()))?;
        entry.status.set_state(state);
        if let Role::Local(paused) = &entry.role {
            paused.send_replace(state == SinkState::Paused);
        }
        tracing::warn!(sink = name, state = state.as_str(), "a sink was told");
        Ok(())
    }
}
