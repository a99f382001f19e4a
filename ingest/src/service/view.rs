//! The service as the HTTP side sees it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loushan_broker::Broker;
use loushan_broker::auth::Directory;
use loushan_broker::latency::Latencies;
use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;
use loushan_schemas::limits::FUTURE_MS;
use loushan_schemas::row::Row;
use metrics::{counter, gauge};
use parking_lot::Mutex;

use super::letters::{self, LetterFilter, LetterReplay};
use super::quota::{self, Quotas};
use super::sinks::{Past, Sinks};
use super::{dead_letter_dir, letter_dirs};
use crate::alarm::Alarms;
use crate::ask::Place;
use crate::clock::Clock;
use crate::commands::Commands;
use crate::config::Limit;
use crate::http::pipeline::Inside;
use crate::http::view::{Answer, Conservation, Span, View, ViewError};
use crate::io::Io;
use crate::live::{Live, Sample};
use crate::pipeline::{Pipeline, PipelineOptions};
use crate::readiness::{Component, Condition, Health, Readiness};
use crate::registry::Registry;
use crate::sink::dead_letter::{DeadLetters, Marks, Why};
use crate::sink::embedded::{QueryError, Store};
use crate::sink::{ReplayFigures, ReplayFrom, SinkOrder, SinkOrderError, SinkState};
use crate::wal::{AppendError, LogOptions, SyncPolicy};

/// How often the books are read again before a residue in them is believed. They are read while they
/// are written: a sink may be between two figures.
const LOOKS: u32 = 20;
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// What there is to see.
pub(super) struct ServiceView {
    pub(super) broker: Arc<Broker>,
    pub(super) commands: Commands,
    pub(super) directory: Arc<Directory>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) store: Store,
    pub(super) registry: Arc<Registry>,
    pub(super) sinks: Arc<Sinks>,
    pub(super) health: Arc<Health>,
    pub(super) sync: SyncPolicy,
    pub(super) clock: Clock,
    pub(super) io: Arc<dyn Io>,
    /// The data folder.
    pub(super) data: PathBuf,
    /// Held while dead letters are replayed.
    pub(super) letters_turn: Mutex<()>,
    /// The alarms, where they are switched on.
    pub(super) alarms: Option<Alarms>,
    /// The log's bounds, for the messages.
    pub(super) log_options: LogOptions,
    /// The pipeline's bounds, and those of the store's memory and of the dead letter.
    pub(super) pipeline_options: PipelineOptions,
    pub(super) flush_bytes: usize,
    pub(super) dead_letter_bound: u64,
    pub(super) live: Arc<Live>,
    /// How long acknowledgements take.
    pub(super) acks: Arc<Latencies>,
    pub(super) quotas: Quotas,
    /// All bounds of the configuration, for the metrics.
    pub(super) limits: Vec<Limit>,
}

/// Which component a sink's trouble belongs to.
fn component(sink: &str) -> Component {
    match sink {
        "embedded" => Component::Embedded,
        "dead_letter" => Component::DeadLetter,
        "alarms" => Component::Alarms,
        "snapshot" => Component::Pipeline,
        _ => Component::Sinks,
    }
}

impl ServiceView {
    fn books(&self) -> Conservation {
        let figures = self.pipeline.figures();
        Conservation {
            durable_lsn: self.pipeline.log().durable().0,
            received: figures.received,
            accepted: figures.accepted,
            duplicate: figures.duplicate,
            rejected: figures.rejected,
            shed: figures.shed,
            undecided: figures.undecided,
            sinks: self.sinks.figures(&self.pipeline),
        }
    }

    /// The store's error as an answer. Damage stays, and whoever asked may tell nobody: it is shown
    /// until the next start.
    fn unanswered(&self, error: QueryError) -> ViewError {
        self.note(&error);
        view_error(error)
    }
}

impl View for ServiceView {
    fn readiness(&self) -> Readiness {
        let mut readiness = self.health.now();
        match self.pipeline.log().stats().refuses {
            None | Some(AppendError::Full | AppendError::TooLarge { .. }) => {}
            Some(AppendError::DiskFull) => readiness.note(
                Component::Disk,
                Condition::red(format!(
                    "the disk has less than log.free_disk_floor = {} free: nothing more is \
                     acknowledged until there is room",
                    crate::config::units::show_size(self.log_options.free_floor_bytes)
                )),
            ),
            Some(AppendError::LimitReached) => readiness.note(
                Component::Log,
                Condition::red(format!(
                    "the log has reached log.max_bytes = {}: nothing more is acknowledged until sinks \
                     have caught up",
                    crate::config::units::show_size(self.log_options.max_bytes.unwrap_or(0))
                )),
            ),
            Some(AppendError::Failed) => readiness.note(
                Component::Log,
                Condition::red(
                    "a write or sync failed: nothing is acknowledged until a new segment is synced",
                ),
            ),
            Some(AppendError::Closed) => {
                readiness.note(Component::Log, Condition::red("the log is closed"));
            }
        }
        if let Some(what) = self.quotas.what(self.clock.now().ms()) {
            readiness.note(Component::Quota, Condition::amber(what));
        }
        if let SyncPolicy::Interval(interval) = self.sync {
            let what = format!(
                "not durable: log.sync = \"interval\", a power loss may take what was acknowledged \
                 within the last {}",
                crate::config::units::show_duration(interval)
            );
            readiness.note(Component::Durability, Condition::amber(what));
        }
        if let Some(trouble) = self.store.upkeep_trouble() {
            readiness.note(Component::Embedded, Condition::amber(trouble));
        }
        if let Some(fault) = self.directory.fault() {
            let what = format!("{fault}; until then the users and rights of before hold");
            readiness.note(Component::Identity, Condition::amber(what));
        }
        if !self.broker.health().router_running {
            let what =
                "live messages reach no subscriber; what is published is stored all the same";
            readiness.note(Component::Router, Condition::amber(what));
        }
        if let Some(trouble) = self.broker.session_trouble() {
            readiness.note(Component::Sessions, Condition::amber(trouble));
        }
        // Several sinks are one component.
        let mut said: BTreeMap<Component, Vec<String>> = BTreeMap::new();
        for figures in self.sinks.statuses().map(|status| status.figures()) {
            let component = component(&figures.name);
            let said = said.entry(component).or_default();
            let name = &figures.name;
            let word = match figures.state {
                SinkState::Paused => Some("paused, and the log keeps what it has not stored"),
                SinkState::Removed => Some("removed, and gets nothing until it is resumed"),
                SinkState::Running | SinkState::Failed => None,
            };
            said.extend(word.map(|word| format!("{name} is {word}")));
            let named = |what| match component {
                Component::Sinks => format!("{name}: {what}"),
                _ => what,
            };
            said.extend(figures.trouble.map(named));
            said.extend(figures.notice);
        }
        if let Some(trouble) = self.alarms.as_ref().and_then(Alarms::trouble) {
            said.entry(Component::Alarms).or_default().push(trouble);
        }
        for (component, what) in said.into_iter().filter(|(_, what)| !what.is_empty()) {
            readiness.note(component, Condition::amber(what.join("; ")));
        }
        readiness
    }

    fn conservation(&self) -> Conservation {
        let mut books = self.books();
        for _ in 0..LOOKS {
            if books.residue() == 0 && books.sinks.iter().all(|sink| sink.residue() == 0) {
                break;
            }
            std::thread::sleep(LOOK);
            books = self.books();
        }
        books
    }

    #[allow(clippy::cast_precision_loss)] // gauges are f64
    fn record_metrics(&self) {
        self.pipeline.record_metrics();
        quota::record(&self.registry, self.clock.now().ms());
        gauge!("loushan_live_clients").set(self.live.clients() as f64);
        counter!("loushan_live_frames_skipped_total").absolute(self.live.skipped());
        self.record_figures();
        if let Some(alarms) = &self.alarms {
            alarms.record_metrics();
        }
    }

    fn live(&self) -> Option<&Arc<Live>> {
        Some(&self.live)
    }

    fn sample(&self) -> Option<Sample> {
        self.look_around();
        Some(self.take_sample())
    }

    fn alarms(&self) -> Option<&Alarms> {
        self.alarms.as_ref()
    }

    fn commands(&self) -> Option<&Commands> {
        Some(&self.commands)
    }

    fn order_sink(&self, name: &str, order: SinkOrder) -> Result<(), SinkOrderError> {
        self.sinks.order(name, order)
    }

    fn replay_into(
        &self,
        name: &str,
        from: ReplayFrom,
        span: Span,
    ) -> Result<ReplayFigures, SinkOrderError> {
        let past = Past {
            io: Arc::clone(&self.io),
            pipeline: Arc::clone(&self.pipeline),
            store: self.store.clone(),
        };
        self.sinks.replay(name, from, span, past)
    }

    fn last_replay(&self, name: &str, stop: bool) -> Result<Option<ReplayFigures>, SinkOrderError> {
        self.sinks.last_replay(name, stop)
    }

    fn replay_letters(&self, filter: &LetterFilter) -> Result<LetterReplay, ViewError> {
        // One at a time: two would write each other's marks over.
        let _turn = self.letters_turn.lock();
        let dir = dead_letter_dir(&self.data);
        letters::replay(&self.io, &dir, &self.pipeline, filter).map_err(ViewError)
    }

    fn registry(&self) -> Option<(Arc<Registry>, i64)> {
        Some((Arc::clone(&self.registry), self.clock.now().ms()))
    }

    fn is_connected(&self, client: &str) -> bool {
        self.broker.is_connected(client)
    }

    fn inside(&self) -> Option<Inside> {
        Some(self.look_inside())
    }

    fn latest(&self, imei: Imei) -> Result<Answer<Option<Row>>, ViewError> {
        let as_of_lsn = self.store.as_of_lsn();
        let value = match self.registry.latest(imei) {
            Some(row) => Some(Arc::unwrap_or_clone(row)),
            // The registry is bounded: the store still has what it let go.
            None => {
                // No effective time lies further ahead of our clock.
                let end_ms = self.clock.now().ms().saturating_add(FUTURE_MS + 1);
                self.store.latest(imei, end_ms).map_err(|e| self.unanswered(e))?
            }
        };
        let as_of_lsn = value.as_ref().map_or(as_of_lsn, |row| as_of_lsn.max(row.lsn));
        Ok(Answer { value, as_of_lsn })
    }

    fn place(&self) -> Option<Place> {
        let registry = Some(Arc::clone(&self.registry));
        Some(Place { store: self.store.clone(), registry, now_ms: self.clock.now().ms() })
    }

    fn note(&self, error: &QueryError) {
        if let QueryError::Corrupt { .. } = error {
            self.health.set(Component::Embedded, Some(Condition::amber(error.to_string())));
        }
    }

    fn count(&self, kind: Option<Kind>, span: Span) -> Result<Answer<u64>, ViewError> {
        let as_of_lsn = self.store.as_of_lsn();
        let count = self.store.count(kind, span.from.ms(), span.to.ms());
        Ok(Answer { value: count.map_err(|e| self.unanswered(e))?, as_of_lsn })
    }

    fn export_rows(
        &self,
        after_lsn: u64,
        give: &mut dyn FnMut(&Row) -> ControlFlow<()>,
    ) -> Result<(), ViewError> {
        let as_of = self.store.export(after_lsn, &mut |row| give(&row));
        as_of.map(drop).map_err(|e| self.unanswered(e))
    }

    fn export_dead_letters(
        &self,
        after_lsn: u64,
        give: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), ViewError> {
        let mut line = String::new();
        let marks = Marks::read(Arc::clone(&self.io), &dead_letter_dir(&self.data));
        let marks = marks.map_err(view_error)?;
        for dir in letter_dirs(&*self.io, &self.data).map_err(view_error)? {
            let letters = DeadLetters::open_read(Arc::clone(&self.io), &dir).map_err(view_error)?;
            for letter in letters {
                let letter = letter.map_err(view_error)?;
                if letter.lsn <= after_lsn {
                    continue;
                }
                line.clear();
                letter.write_json(&mut line);
                if matches!(letter.why, Why::Rejected(_)) && marks.has(&letter) {
                    line.truncate(line.len() - 1);
                    line.push_str(",\"replayed\":true}");
                }
                if give(&line).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn view_error(error: impl std::fmt::Display) -> ViewError {
    ViewError(error.to_string())
}
