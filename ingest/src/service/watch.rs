//! The tasks of a running service, and what it means when one of them ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use loushan_broker::ShutdownReport;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::listeners::{self, Listeners};
use super::open::Opened;
use crate::causes::Chain;
use crate::config::Config;
use crate::http;
use crate::http::auth::Access;
use crate::http::view::View;
use crate::pipeline::Pipeline;
use crate::readiness::{Component, Condition, Health};
use crate::sink::SinkStatus;

/// How often segments that nobody needs any more are looked for.
const TRIM: Duration = Duration::from_secs(1);
/// How often histograms are condensed, scraped or not: their samples take memory until then.
const UPKEEP: Duration = Duration::from_secs(5);

/// A part of the service that ended.
#[derive(Debug)]
pub struct Failed {
    /// Which.
    pub(super) component: Component,
    /// Why.
    pub(super) why: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.component.as_str(), self.why)
    }
}

/// How a sink's task ended.
pub(super) type SinkEnd = (Component, Result<(), String>);

/// The tasks.
pub(super) struct Parts {
    pub(super) broker: JoinHandle<ShutdownReport>,
    pub(super) broker_stop: CancellationToken,
    pub(super) sinks: JoinSet<SinkEnd>,
    /// The InfluxDB sink's task, which may end alone.
    influx: Option<tokio::task::Id>,
    pub(super) http: JoinHandle<()>,
    pub(super) http_stop: CancellationToken,
    /// Chores that end with the service.
    pub(super) chores: JoinSet<()>,
}

impl Parts {
    /// Starts everything: the sinks first, the broker last, so that nothing is taken in that nobody
    /// would carry on.
    pub(super) fn start(
        opened: Opened,
        config: &Config,
        listeners: Listeners,
        metrics: PrometheusHandle,
    ) -> Self {
        let Opened { view, admin_token, keeper, embedded, dead_letter, influx } = opened;
        let pipeline = &view.pipeline;
        let mut sinks = JoinSet::new();
        let (sink, status) = embedded;
        let feed = pipeline.feed(sink.cursor(), status);
        sinks.spawn(async {
            (Component::Embedded, sink.run(feed).await.map_err(|e| Chain(&e).to_string()))
        });
        let (sink, status) = dead_letter;
        let feed = pipeline.feed(sink.cursor(), status);
        sinks.spawn(async {
            (Component::DeadLetter, sink.run(feed).await.map_err(|e| Chain(&e).to_string()))
        });
        let influx = influx.map(|(sink, status)| {
            let feed = pipeline.feed(sink.cursor(), status);
            let run = async {
                (Component::Influx, sink.run(feed).await.map_err(|e| Chain(&e).to_string()))
            };
            sinks.spawn(run).id()
        });
        sinks.spawn(async {
            (Component::Pipeline, keeper.run().await.map_err(|e| Chain(&e).to_string()))
        });

        let mut chores = JoinSet::new();
        chores.spawn(trim(Arc::clone(pipeline), view.sinks.clone()));
        chores.spawn(upkeep(metrics.clone()));
        let Listeners { mqtt, http: http_socket, http_tls, tls } = listeners;
        if !tls.is_empty() {
            chores.spawn(listeners::reload(tls));
        }
        chores.spawn(Arc::clone(&view.directory).watch());

        // An address that cannot be told is none that only this machine can reach.
        let loopback = http_socket.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let access = Access::new(Arc::clone(&view.directory), admin_token, loopback);
        let http_stop = CancellationToken::new();
        let http = tokio::spawn(http::serve(
            http_socket,
            http_tls,
            Arc::clone(&view) as Arc<dyn View>,
            metrics,
            access,
            config.http,
            http_stop.clone(),
        ));

        let broker_stop = CancellationToken::new();
        let (broker, stop) = (Arc::clone(&view.broker), broker_stop.clone());
        let broker = tokio::spawn(async move { broker.serve_on(mqtt, stop).await });
        Self { broker, broker_stop, sinks, influx, http, http_stop, chores }
    }

    /// Waits until a part ends that must not: every one, as none is told to. Only the InfluxDB sink
    /// may, for the promise does not rest on it: readiness turns red, its cursor keeps in the log what
    /// it has not stored, and the others go on. Cancel-safe.
    pub(super) async fn failure(&mut self, health: &Health) -> Failed {
        loop {
            let (component, why) = self.end().await;
            if component == Component::Influx {
                let what = format!("{why}; the log keeps what it has not stored, restart to go on");
                health.set(component, Some(Condition::red(what)));
                continue;
            }
            health.set(component, Some(Condition::red(why.clone())));
            return Failed { component, why };
        }
    }

    /// The next part that ends, and why. Cancel-safe.
    async fn end(&mut self) -> (Component, String) {
        tokio::select! {
            ended = &mut self.broker => (Component::Broker, match ended {
                Ok(_) => "it stopped accepting connections".to_owned(),
                Err(e) => died(&e),
            }),
            ended = &mut self.http => (Component::Http, match ended {
                Ok(()) => "it ended by itself".to_owned(),
                Err(e) => died(&e),
            }),
            // Never empty before the stop.
            Some(ended) = self.sinks.join_next() => match ended {
                Ok((component, Ok(()))) => (component, "it ended by itself".to_owned()),
                Ok((component, Err(why))) => (component, why),
                Err(e) if Some(e.id()) == self.influx => (Component::Influx, died(&e)),
                Err(e) => (Component::Service, died(&e)),
            },
        }
    }
}

fn died(error: &JoinError) -> String {
    format!("its task died: {error}")
}

/// Deletes the log's segments that lie below all cursors.
pub(super) async fn trim_once(pipeline: &Arc<Pipeline>, sinks: &[Arc<SinkStatus>]) {
    let (pipeline, sinks) = (Arc::clone(pipeline), sinks.to_vec());
    let trimmed = tokio::task::spawn_blocking(move || pipeline.trim(&sinks)).await;
    match trimmed {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(segments)) => tracing::debug!(segments, "log segments were deleted"),
        // Disk that is not freed; the next look tries again.
        Ok(Err(e)) => tracing::warn!(error = %Chain(&e), "the log cannot be shortened"),
    }
}

async fn trim(pipeline: Arc<Pipeline>, sinks: Vec<Arc<SinkStatus>>) {
    let mut lowest = None;
    loop {
        tokio::time::sleep(TRIM).await;
        let now = sinks.iter().map(|status| status.cursor()).min();
        if now != lowest {
            trim_once(&pipeline, &sinks).await;
            lowest = now;
        }
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.run_upkeep();
    }
}
