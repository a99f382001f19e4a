//! The task that runs a sink, again and again: until the service stops, or as an operator has it.
//!
//! A sink that ends by a fault of its own (its files, its client, a defect) is begun again after a
//! pause that grows; meanwhile the log keeps what comes, and nobody else notices. A sink is only ever
//! ended by its feed, as at a stop: nothing of it is still at work when its files are opened again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::trim::Trimmer;
use super::{Server, Sinks, Told};
use crate::causes::Chain;
use crate::config::SinkConfig;
use crate::io::Io;
use crate::pipeline::Pipeline;
use crate::pipeline::verdict::{self, Outcome, Verdict};
use crate::sink::cursor_file::CursorFile;
use crate::sink::influx::{InfluxError, InfluxSink};
use crate::sink::{RewindTo, SinkOrder, SinkOrderError, SinkState, SinkStatus};
use crate::wal::Lsn;

/// Pauses before a sink that ended is begun again, doubling from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How a turn of a sink ended.
enum End {
    /// The service stops.
    Stopped,
    /// It was told something, and stands still.
    Told(Told),
    /// By itself.
    Failed(String),
}

/// Runs one sink.
pub(in crate::service) struct Supervisor {
    server: Server,
    /// The sink that the start has opened, for its first turn.
    opened: Option<InfluxSink>,
    io: Arc<dyn Io>,
    pipeline: Arc<Pipeline>,
    sinks: Arc<Sinks>,
    trimmer: Arc<Trimmer>,
    stop: CancellationToken,
}

/// Opens a sink's folder.
pub(in crate::service) fn open(
    io: &Arc<dyn Io>,
    dir: &Path,
    config: &SinkConfig,
    log_id: [u8; 16],
    status: &Arc<SinkStatus>,
) -> Result<InfluxSink, InfluxError> {
    let (io, dir) = (Arc::clone(io), dir.to_owned());
    InfluxSink::open(io, dir, config.influx.clone(), log_id, Arc::clone(status))
}

impl Supervisor {
    pub(in crate::service) fn new(
        server: Server,
        opened: Option<InfluxSink>,
        io: Arc<dyn Io>,
        pipeline: Arc<Pipeline>,
        trimmer: Arc<Trimmer>,
        stop: CancellationToken,
    ) -> Self {
        let sinks = Arc::clone(trimmer.sinks());
        Self { server, opened, io, pipeline, sinks, trimmer, stop }
    }

    fn status(&self) -> &Arc<SinkStatus> {
        &self.server.status
    }

    fn name(&self) -> &str {
        &self.server.config.name
    }

    /// Until the service stops.
    pub(in crate::service) async fn run(mut self) {
        let mut pause = RETRY.0;
        loop {
            let state = self.sinks.orders.of(self.name());
            self.status().set_state(state);
            let told = if state == SinkState::Running {
                let begun = Instant::now();
                match self.turn().await {
                    End::Stopped => return,
                    End::Told(told) => told,
                    End::Failed(why) => {
                        if begun.elapsed() > RETRY.1 {
                            pause = RETRY.0;
                        }
                        tracing::error!(sink = self.name(), why, retry_in = ?pause, "a sink ended; it is begun again");
                        self.status().set_state(SinkState::Failed);
                        self.status().set_trouble(Some(format!(
                            "it ended and is begun again: {why}; the log keeps what it has not stored"
                        )));
                        let Some(told) = self.wait(Some(pause)).await else { return };
                        pause = (pause * 2).min(RETRY.1);
                        let Some(told) = told else { continue };
                        told
                    }
                }
            } else {
                self.opened = None;
                self.status().set_trouble(None);
                match self.wait(None).await {
                    Some(Some(told)) => told,
                    Some(None) | None => return,
                }
            };
            self.obey(told).await;
            pause = RETRY.0;
        }
    }

    /// Waits for orders, at most so long: `None` when the service stops.
    async fn wait(&mut self, at_most: Option<Duration>) -> Option<Option<Told>> {
        let over = async {
            match at_most {
                Some(at_most) => tokio::time::sleep(at_most).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => None,
            told = self.server.told.recv() => told.map(Some),
            () = over => Some(None),
        }
    }

    /// Runs the sink once.
    async fn turn(&mut self) -> End {
        let sink = match self.opened.take() {
            Some(sink) => sink,
            None => {
                let (io, dir) = (Arc::clone(&self.io), self.server.dir.clone());
                let (config, status) = (self.server.config.clone(), Arc::clone(self.status()));
                let log_id = self.pipeline.log().id().to_bytes();
                let opened = tokio::task::spawn_blocking(move || {
                    open(&io, &dir, &config, log_id, &status).map_err(|e| Chain(&e).to_string())
                });
                match opened.await.unwrap_or_else(|e| Err(e.to_string())) {
                    Ok(sink) => {
                        self.status().set_trouble(None);
                        sink
                    }
                    Err(why) => return End::Failed(why),
                }
            }
        };
        let end = CancellationToken::new();
        let feed = self.pipeline.feed(sink.cursor(), Arc::clone(self.status())).until(end.clone());
        // A set, so that a sink does not outlive its supervisor.
        let mut task = JoinSet::new();
        task.spawn(async move { sink.run(feed).await.map_err(|e| Chain(&e).to_string()) });
        let mut told = None;
        let ended = loop {
            tokio::select! {
                ended = task.join_next() => break ended,
                order = self.server.told.recv(), if told.is_none() => match order {
                    Some(Told::Order(SinkOrder::Resume, answer)) => answered(&answer, Ok(())),
                    // Said again while it was being done.
                    Some(Told::LetGo(up_to)) if up_to <= self.status().cursor() => {}
                    Some(order) => {
                        told = Some(order);
                        end.cancel();
                    }
                    // The service is being torn down.
                    None => return End::Stopped,
                }
            }
        };
        self.status().give_back();
        if told.is_some() {
            // Whatever it was, nobody tries at the moment.
            self.status().set_trouble(None);
        }
        match (ended, told) {
            (Some(Ok(Ok(()))) | None, Some(told)) => End::Told(told),
            (Some(Ok(Ok(()))) | None, None) => End::Stopped,
            (Some(Ok(Err(why))), told) => self.failed(why, told),
            (Some(Err(died)), told) => self.failed(format!("its task died: {died}"), told),
        }
    }

    /// A sink that fails while it is told something is told it all the same.
    fn failed(&self, why: String, told: Option<Told>) -> End {
        match told {
            Some(told) => {
                tracing::error!(sink = self.name(), why, "a sink failed as it was ended");
                End::Told(told)
            }
            None => End::Failed(why),
        }
    }

    /// Does what it is told. The sink stands still.
    async fn obey(&mut self, told: Told) {
        let work = Obeying {
            name: Arc::clone(&self.server.config.name),
            cursor_file: self.server.dir.join("cursor"),
            io: Arc::clone(&self.io),
            pipeline: Arc::clone(&self.pipeline),
            status: Arc::clone(self.status()),
            sinks: Arc::clone(&self.sinks),
            trimmer: Arc::clone(&self.trimmer),
        };
        let done = tokio::task::spawn_blocking(move || match told {
            Told::Order(order, answer) => answered(&answer, work.order(order)),
            Told::LetGo(up_to) => {
                if let Err(error) = work.let_go(up_to) {
                    tracing::error!(sink = &*work.name, %error, "nothing was let go");
                }
            }
        });
        if let Err(error) = done.await {
            tracing::error!(sink = self.name(), %error, "an order died");
        }
    }
}

fn answered(
    answer: &std::sync::mpsc::SyncSender<Result<(), SinkOrderError>>,
    done: Result<(), SinkOrderError>,
) {
    // Whoever asked may have gone; what was done is done.
    drop(answer.try_send(done));
}

/// What is needed to carry an order out. Blocks.
struct Obeying {
    name: Arc<str>,
    cursor_file: std::path::PathBuf,
    io: Arc<dyn Io>,
    pipeline: Arc<Pipeline>,
    status: Arc<SinkStatus>,
    sinks: Arc<Sinks>,
    trimmer: Arc<Trimmer>,
}

impl Obeying {
    fn order(&self, order: SinkOrder) -> Result<(), SinkOrderError> {
        let state = self.sinks.orders.of(&self.name);
        match (order, state) {
            (SinkOrder::Pause, SinkState::Removed) => {
                return Err(SinkOrderError::NotNow(format!(
                    "{} was removed; resume it to have it begin anew",
                    self.name
                )));
            }
            (SinkOrder::Pause, _) => self.set(SinkState::Paused)?,
            (SinkOrder::Resume, SinkState::Removed) => self.begin_anew()?,
            (SinkOrder::Resume, _) => self.set(SinkState::Running)?,
            (SinkOrder::Remove, _) => self.remove()?,
            (SinkOrder::Rewind(_), SinkState::Removed) => {
                return Err(SinkOrderError::NotNow(format!(
                    "{} was removed; resume it to have it begin anew",
                    self.name
                )));
            }
            (SinkOrder::Rewind(to), _) => self.rewind(to)?,
        }
        tracing::warn!(sink = &*self.name, ?order, "a sink was told");
        Ok(())
    }

    fn set(&self, state: SinkState) -> Result<(), SinkOrderError> {
        self.sinks.orders.set(&self.name, state).map_err(disk)?;
        self.status.set_state(state);
        Ok(())
    }

    fn remove(&self) -> Result<(), SinkOrderError> {
        self.set(SinkState::Removed)?;
        self.status.set_notice(None);
        // From here on it is removed and the log is free. A cursor that stays is deleted before it
        // begins anew.
        if let Err(error) = self.forget_cursor() {
            tracing::warn!(sink = &*self.name, %error, "the cursor of a removed sink stays");
        }
        Ok(())
    }

    fn forget_cursor(&self) -> Result<(), SinkOrderError> {
        if self.io.exists(&self.cursor_file).map_err(disk)? {
            self.io.remove_file(&self.cursor_file).map_err(disk)?;
            if let Some(dir) = self.cursor_file.parent() {
                self.io.sync_dir(dir).map_err(disk)?;
            }
        }
        Ok(())
    }

    fn begin_anew(&self) -> Result<(), SinkOrderError> {
        self.forget_cursor()?;
        let begins_after = {
            // No trim is between its look at the cursors and its deletion.
            let _still = self.trimmer.still();
            let begins_after = self.pipeline.log().stats().begins_after.0;
            self.status.hold_from(begins_after);
            self.set(SinkState::Running)?;
            begins_after
        };
        let notice = format!(
            "{} was removed and begins anew: it has nothing of what was deleted from the log, up to \
             lsn {begins_after}, but what it had before",
            self.name
        );
        tracing::warn!(notice, "a sink begins anew");
        self.status.set_notice(Some(notice));
        Ok(())
    }

    fn rewind(&self, to: RewindTo) -> Result<(), SinkOrderError> {
        let log = self.pipeline.log();
        let gone = || SinkOrderError::Gone {
            name: self.name.to_string(),
            begins_after: log.stats().begins_after.0,
        };
        let to = match to {
            RewindTo::Lsn(lsn) => lsn,
            RewindTo::Time(time) => {
                let ns = time.ms().saturating_mul(1_000_000);
                let found = self.pipeline.lsn_before(ns);
                let found = found.map_err(|e| SinkOrderError::NotNow(Chain(&e).to_string()))?;
                match found {
                    Some(lsn) => lsn,
                    // A log from which nothing was ever deleted has all there is.
                    None if log.stats().begins_after == Lsn::ZERO => 0,
                    None => return Err(gone()),
                }
            }
        };
        let file =
            CursorFile::open(Arc::clone(&self.io), self.cursor_file.clone(), log.id().to_bytes());
        let file = file.map_err(|e| disk(std::io::Error::other(e)))?;
        let cursor = file.cursor();
        if to > cursor {
            return Err(SinkOrderError::NotNow(format!(
                "{} has stored everything up to lsn {cursor} only: a cursor goes back, not ahead to {to}",
                self.name
            )));
        }
        let position = self.status.figures().position;
        {
            let _still = self.trimmer.still();
            if to < log.stats().begins_after.0 {
                return Err(gone());
            }
            self.status.hold_from(to);
        }
        if let Err(error) = file.rewind(to) {
            self.status.hold_from(cursor);
            return Err(disk(std::io::Error::other(error)));
        }
        self.status.rewound_from(position.max(cursor));
        Ok(())
    }

    /// Gives up what the sink has not stored up to there: counted, said, durable, in this order.
    fn let_go(&self, up_to: u64) -> std::io::Result<()> {
        let log = self.pipeline.log();
        let file =
            CursorFile::open(Arc::clone(&self.io), self.cursor_file.clone(), log.id().to_bytes());
        let file = file.map_err(std::io::Error::other)?;
        let (cursor, up_to) = (file.cursor(), up_to.min(log.durable().0));
        if up_to <= cursor {
            return Ok(());
        }
        let mut readings = 0;
        let mut reader = log.reader(Lsn(cursor));
        while let Some(frame) = reader.next().map_err(std::io::Error::other)? {
            if frame.lsn.0 > up_to {
                break;
            }
            // What cannot be read would not have been stored either.
            if let Ok(body) = verdict::decode(frame.body)
                && let Verdict::Readings { outcomes, .. } = body.verdict
            {
                let accepted = outcomes.iter().filter(|it| matches!(it, Outcome::Accepted(_)));
                readings += accepted.count() as u64;
            }
        }
        tracing::error!(
            sink = &*self.name,
            readings,
            from = cursor,
            up_to,
            "the log has no more room: readings that the sink has not stored are let go, as on_full has it"
        );
        file.advance(up_to).map_err(std::io::Error::other)?;
        self.status.let_go(readings);
        self.status.hold_from(up_to);
        let all = self.status.figures().let_go;
        self.status.set_notice(Some(format!(
            "{all} readings were let go since the start, the last up to lsn {up_to}: the log had no more \
             room for what the sink had not stored; the embedded store has them (loushan replay --sink {})",
            self.name
        )));
        Ok(())
    }
}

fn disk(error: std::io::Error) -> SinkOrderError {
    SinkOrderError::Disk(error.to_string())
}
