//! The tasks of a running service, and what it means when one of them ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use loushan_broker::ShutdownReport;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::listeners::{self, Listeners};
use super::open::{Local, Opened};
use super::sinks::{Supervisor, Trimmer, trimming};
use crate::alarm;
use crate::causes::Chain;
use crate::config::Config;
use crate::http;
use crate::http::auth::Access;
use crate::http::view::View;
use crate::live;
use crate::readiness::{Component, Condition, Health};

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
    /// Those of our own disk, which must not end.
    pub(super) sinks: JoinSet<SinkEnd>,
    /// Those that write to servers, each with a supervisor that ends with the service.
    pub(super) servers: JoinSet<()>,
    pub(super) trimmer: Arc<Trimmer>,
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
        let Opened { view, admin_token, keeper, embedded, dead_letter, alarms, .. } = opened;
        let (ours, trimmer) = (opened.servers, opened.trimmer);
        let pipeline = &view.pipeline;
        let sinks_stop = view.sinks.stop().clone();
        let mut sinks = JoinSet::new();
        let Local { sink, status, paused } = embedded;
        let feed = pipeline.feed(sink.cursor(), status);
        let feed = feed.until(sinks_stop.clone()).pausing(paused);
        sinks.spawn(async {
            (Component::Embedded, sink.run(feed).await.map_err(|e| Chain(&e).to_string()))
        });
        let Local { sink, status, paused } = dead_letter;
        let feed = pipeline.feed(sink.cursor(), status);
        let feed = feed.until(sinks_stop.clone()).pausing(paused);
        sinks.spawn(async {
            (Component::DeadLetter, sink.run(feed).await.map_err(|e| Chain(&e).to_string()))
        });
        let mut chores = JoinSet::new();
        if let Some(Local { sink, status, paused }) = alarms {
            let stop = sinks_stop.clone();
            alarm::tell(sink.alarms(), &view.broker, &view.io, &view.clock, &stop, &mut chores);
            let feed = pipeline.feed(sink.cursor(), status);
            let feed = feed.until(sinks_stop.clone()).pausing(paused);
            sinks.spawn(async {
                (Component::Alarms, sink.run(feed).await.map_err(|e| Chain(&e).to_string()))
            });
        }
        let mut servers = JoinSet::new();
        for (server, sink) in ours {
            let (io, pipeline) = (Arc::clone(&view.io), Arc::clone(pipeline));
            let (trimmer, stop) = (Arc::clone(&trimmer), sinks_stop.clone());
            servers.spawn(Supervisor::new(server, sink, io, pipeline, trimmer, stop).run());
        }
        sinks.spawn(async {
            (Component::Pipeline, keeper.run().await.map_err(|e| Chain(&e).to_string()))
        });

        chores.spawn(trimming(Arc::clone(&trimmer)));
        chores.spawn(upkeep(metrics.clone()));
        let Listeners { mqtt, http: http_socket, http_tls, tls } = listeners;
        if !tls.is_empty() {
            chores.spawn(listeners::reload(tls));
        }
        chores.spawn(Arc::clone(&view.directory).watch());
        chores.spawn(live::tap(Arc::clone(&view.live), Arc::clone(pipeline)));
        let seen = Arc::clone(&view) as Arc<dyn View>;
        chores.spawn(live::ticking(Arc::clone(&view.live), seen));

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
        Self { broker, broker_stop, sinks, servers, trimmer, http, http_stop, chores }
    }

    /// Waits until a part ends that must not: every one, as none is told to. Sinks that write to servers
    /// are no such parts: the promise does not rest on them. Cancel-safe.
    pub(super) async fn failure(&mut self, health: &Health) -> Failed {
        let (component, why) = self.end().await;
        health.set(component, Some(Condition::red(why.clone())));
        Failed { component, why }
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
                Err(e) => (Component::Service, died(&e)),
            },
        }
    }
}

fn died(error: &JoinError) -> String {
    format!("its task died: {error}")
}

async fn upkeep(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.run_upkeep();
    }
}
