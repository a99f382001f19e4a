//! The service: log, pipeline, sinks, broker and HTTP, assembled, watched and stopped in order.
//!
//! # Data folder
//!
//! | path | what |
//! |---|---|
//! | `lock` | whose the folder is ([`crate::lock`]) |
//! | `admin.token` | by which HTTP lets its bearer change things ([`crate::http::auth`]) |
//! | `log/` | the write-ahead log |
//! | `pipeline.snapshot` | the pipeline's state at an lsn |
//! | `store/` | the embedded store |
//! | `snapshots/` | copies of it that were asked for |
//! | `dead-letter/` | what was rejected |
//! | `alarms/` | alarms, and what they follow from |
//! | `broker/` | retained messages, sessions, and messages for absent clients ([`persist`]) |
//! | `sinks/NAME/` | the cursor of a sink that writes to a server, and what that refused; of the one called *influx* in `influx/`, if that is there already |
//! | `sinks/orders.json` | which sinks are paused or removed |
//! | `projects.csv` | what projects may use a day, unless `stations.projects_file` says otherwise |
//! | `stations.csv` | what stands where, unless `stations.file` says otherwise |
//!
//! # Life
//!
//! [`Service::start`] opens everything and serves; [`Service::run`] watches until it is told to stop or
//! a part that the promise rests on ends, and then stops what is left, each step with a name and all
//! of them within one deadline:
//!
//! 1. *broker*: accepts no more, answers what it has taken, closes its connections;
//! 2. *log*: written, synced, closed; what could not be made durable was not acknowledged;
//! 3. *sinks*: take what is left and flush; the last snapshot;
//! 4. *trim*: segments that nobody needs any more;
//! 5. *http*: until here it told how far we are.
//!
//! A step that is not over in time is left, by name: whatever it still held is in the log.
//!
//! [`persist`]: loushan_broker::persist

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use loushan_broker::auth::Directory;
use loushan_broker::listen::tls::Tls;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Exposed};
use crate::http::view::View;
use crate::io::Io;
use crate::lock::DataLock;
use crate::pipeline;
use crate::readiness::{Component, Condition};
use crate::sink::{dead_letter, embedded, influx};

mod figures;
pub(crate) mod letters;
mod listeners;
mod open;
mod quota;
mod sample;
mod sinks;
mod stop;
mod stored;
#[cfg(test)]
mod tests;
mod view;
mod watch;

pub use listeners::{ListenError, Listeners, raise_file_limit};
pub use stop::{Left, Stopped};
use view::ServiceView;
use watch::Parts;

/// What the service is given from outside, so that a test can give its own.
#[derive(Debug)]
pub struct Outside {
    /// Where MQTT and HTTP are accepted.
    pub listeners: Listeners,
    /// The time.
    pub clock: Clock,
    /// The file system.
    pub io: Arc<dyn Io>,
    /// Where retained messages and sessions are kept: [`broker_dir`], or `None` beside a file system in
    /// memory.
    pub sessions: Option<PathBuf>,
    /// The data folder's lock, held until the service has ended. A file system in memory has none.
    pub lock: Option<DataLock>,
}

/// What is wrong with the files that a configuration names for TLS, users and rights. Blocks.
#[must_use]
pub fn faults_of_files(config: &Config) -> Vec<String> {
    let tls = [&config.mqtt_tls, &config.http_tls].into_iter().flatten();
    let tls = tls.filter_map(|files| Tls::load(files.clone()).err()).map(|fault| fault.to_string());
    let alarms = crate::alarm::faults_of_files(&crate::io::real::RealIo, &config.alarms);
    tls.chain(config.auth.check().err().map(|fault| fault.to_string())).chain(alarms).collect()
}

/// The service could not start. Nothing was acknowledged yet.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Log or snapshot.
    #[error(transparent)]
    Pipeline(#[from] pipeline::OpenError),
    /// The embedded store.
    #[error("the embedded store cannot be opened")]
    Store(#[from] embedded::OpenError),
    /// Users and rights.
    #[error(transparent)]
    Identity(#[from] loushan_broker::auth::LoadError),
    /// The admin's token.
    #[error(transparent)]
    AdminToken(#[from] crate::http::auth::AdminTokenError),
    /// The dead letter.
    #[error(transparent)]
    DeadLetter(#[from] dead_letter::DeadLetterError),
    /// The alarms.
    #[error(transparent)]
    Alarms(#[from] crate::alarm::AlarmError),
    /// Retained messages and sessions.
    #[error(transparent)]
    Sessions(#[from] loushan_broker::persist::OpenError),
    /// A sink that writes to a server.
    #[error("the sink {name} cannot be opened")]
    Sink {
        /// Its name.
        name: Arc<str>,
        /// Why.
        #[source]
        source: influx::InfluxError,
    },
    /// Which sinks are paused or removed cannot be told.
    #[error(
        "{} cannot be read: {why}; mend it, or remove it and pause or remove again what was", path.display()
    )]
    Orders {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A sink has seen more of the log than the log has.
    #[error(
        "{sink} has taken in the log up to lsn {cursor}, and the log ends at {end}: the log lost \
         what it had synced; bring the matching data folder back"
    )]
    LogBehind {
        /// The sink.
        sink: Arc<str>,
        /// Its cursor.
        cursor: u64,
        /// The log's last lsn.
        end: u64,
    },
    /// What a sink has not taken in is no longer in the log.
    #[error(
        "{sink} has taken in the log up to lsn {cursor}, and frames up to {begins_after} were \
         deleted from the log: {remedy}"
    )]
    LogShortened {
        /// The sink.
        sink: Arc<str>,
        /// Its cursor.
        cursor: u64,
        /// The log has everything above.
        begins_after: u64,
        /// What helps.
        remedy: String,
    },
    /// The runtime is being torn down.
    #[error("the start did not end")]
    Interrupted,
}

/// A running service.
pub struct Service {
    view: Arc<ServiceView>,
    parts: Parts,
    deadline: Duration,
    // Let go of last.
    lock: Option<DataLock>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Service {
    /// Recovers what is in the data folder and serves on the listeners.
    ///
    /// # Errors
    /// When something cannot be opened; see [`StartError`].
    pub async fn start(config: Config, outside: Outside) -> Result<Self, StartError> {
        let Outside { listeners, clock, io, sessions, lock } = outside;
        // Before anything takes handles of metrics.
        let metrics = crate::metrics::recorder();
        let opening = config.clone();
        // Recovery reads and syncs files.
        let opened =
            tokio::task::spawn_blocking(move || open::open(&opening, &clock, &io, sessions));
        let opened = opened.await.map_err(|_| StartError::Interrupted)??;
        let view = Arc::clone(&opened.view);
        warn_of_exposed(&config, &view);
        let parts = Parts::start(opened, &config, listeners, metrics);
        Ok(Self { view, parts, deadline: config.shutdown_deadline, lock })
    }

    /// The service from outside: readiness, books, questions.
    #[must_use]
    pub fn view(&self) -> Arc<dyn View> {
        Arc::clone(&self.view) as Arc<dyn View>
    }

    /// Users and rights, to reload them when asked to. When their files change it is done without.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.view.directory)
    }

    /// Serves until `stop`, or until a part fails that the promise rests on; then stops in order.
    pub async fn run(self, stop: CancellationToken) -> Stopped {
        let Self { view, mut parts, deadline, lock } = self;
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            failed = parts.failure(&view.health) => Some(failed),
        };
        let stopped = stop::stop(&view, parts, deadline, failed).await;
        drop(lock);
        stopped
    }
}

/// Says loudly, and for as long as it is so, that a listener is not guarded as it should be.
fn warn_of_exposed(config: &Config, view: &ServiceView) {
    for (part, section) in [(Component::Broker, "mqtt"), (Component::Http, "http")] {
        let exposed = config.exposed.iter().filter(|it| it.section == section);
        let problems: Vec<String> = exposed.map(Exposed::problem).collect();
        if !problems.is_empty() {
            let what = format!("{}, as {section}.allow_insecure has it", problems.join("; "));
            view.health.set(part, Some(Condition::amber(what)));
        }
    }
}

/// The folder of retained messages and sessions in a data folder.
#[must_use]
pub fn broker_dir(data: &Path) -> PathBuf {
    data.join("broker")
}

/// The embedded store's folder in a data folder.
#[must_use]
pub fn store_dir(data: &Path) -> PathBuf {
    data.join("store")
}

/// The dead letter's folder in a data folder.
#[must_use]
pub fn dead_letter_dir(data: &Path) -> PathBuf {
    data.join("dead-letter")
}

/// The alarms' folder in a data folder.
#[must_use]
pub fn alarms_dir(data: &Path) -> PathBuf {
    data.join("alarms")
}

/// The folder of what belongs to sinks.
fn sinks_dir(data: &Path) -> PathBuf {
    data.join("sinks")
}

/// A sink's folder. Earlier builds had one sink only, and its folder beside the others.
fn sink_dir(io: &dyn Io, data: &Path, name: &str) -> Result<PathBuf, StartError> {
    let early = data.join("influx");
    let there = name == "influx"
        && io.exists(&early).map_err(|source| StartError::Io { path: early.clone(), source })?;
    Ok(if there { early } else { sinks_dir(data).join(name) })
}

/// All folders of dead letters in a data folder: what senders got wrong, then what servers refused,
/// also those of sinks that are configured no more.
///
/// # Errors
/// When a folder cannot be listed.
pub fn letter_dirs(io: &dyn Io, data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut dirs = vec![dead_letter_dir(data)];
    let mut sinks = vec![data.join("influx")];
    let all = sinks_dir(data);
    if io.exists(&all)? {
        sinks.extend(io.list(&all)?.iter().map(|name| all.join(name)));
    }
    for sink in sinks {
        for refused in [sink.join("refused"), sink.join("replay").join("refused")] {
            if io.exists(&refused)? {
                dirs.push(refused);
            }
        }
    }
    Ok(dirs)
}
