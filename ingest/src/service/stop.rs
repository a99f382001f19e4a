//! The ordered stop; the order is in the module's doc above.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::sinks::trim_now;
use super::view::ServiceView;
use super::watch::{Failed, Parts, SinkEnd};
use crate::readiness::{Component, Condition};

/// How long HTTP may take to answer what was asked before. Exports were broken off.
const HTTP_GRACE: Duration = Duration::from_secs(2);

/// How a service ended.
#[derive(Debug, Default)]
pub struct Stopped {
    /// The part whose end ended the service, where it was not told to stop.
    pub failed: Option<Failed>,
    /// What was left undone. None of it was acknowledged and lost.
    pub left: Vec<Left>,
}

impl Stopped {
    /// Told to, and nothing left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failed.is_none() && self.left.is_empty()
    }
}

/// Something that a stop left undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Whose it was.
    pub step: &'static str,
    /// What.
    pub what: String,
}

struct Stop {
    deadline: Instant,
    left: Vec<Left>,
}

impl Stop {
    fn leave(&mut self, step: &'static str, what: String) {
        tracing::warn!(step, what, "left undone");
        self.left.push(Left { step, what });
    }

    /// A step, as long as there is time.
    async fn step<T>(&mut self, name: &'static str, work: impl Future<Output = T>) -> Option<T> {
        let begun = Instant::now();
        match timeout_at(self.deadline, work).await {
            Ok(done) => {
                tracing::debug!(step = name, took = ?begun.elapsed(), "stopped");
                Some(done)
            }
            Err(_) => {
                self.leave(name, "it was not over by shutdown.deadline".to_owned());
                None
            }
        }
    }
}

pub(super) async fn stop(
    view: &Arc<ServiceView>,
    parts: Parts,
    within: Duration,
    failed: Option<Failed>,
) -> Stopped {
    let Parts { broker, broker_stop, mut sinks, mut http, http_stop, mut chores, .. } = parts;
    let (mut servers, trimmer) = (parts.servers, parts.trimmer);
    if let Some(failed) = &failed {
        tracing::error!(%failed, "the service stops");
    }
    view.health.set(Component::Service, Some(Condition::red("stopping")));
    let mut stop = Stop { deadline: Instant::now() + within, left: Vec::new() };
    // Who watches is told at once, and not when everything else has ended.
    view.live.close();
    chores.shutdown().await;

    broker_stop.cancel();
    // A broker whose end ended us has been waited for already.
    if failed.as_ref().is_none_or(|failed| failed.component != Component::Broker)
        && let Some(Ok(report)) = stop.step("broker", broker).await
    {
        if report.unanswered_publishes > 0 {
            let what = format!("{} publishes without an answer", report.unanswered_publishes);
            stop.leave("broker", what);
        }
        if report.cut_connections > 0 {
            stop.leave("broker", format!("{} connections were cut", report.cut_connections));
        }
    }

    let pipeline = Arc::clone(&view.pipeline);
    let closed = stop.step("log", tokio::task::spawn_blocking(move || pipeline.close())).await;
    match closed {
        Some(Ok(Err(e))) => stop.leave("log", e.to_string()),
        Some(Err(e)) => stop.leave("log", format!("its end died: {e}")),
        Some(Ok(Ok(()))) | None => {}
    }

    let mut ends: Vec<SinkEnd> = Vec::new();
    // For those that are given nothing at the moment; the others see the end of the log.
    view.sinks.stop().cancel();
    let all = async {
        while let Some(ended) = sinks.join_next().await {
            ends.push(ended.unwrap_or_else(|e| (Component::Service, Err(e.to_string()))));
        }
        while servers.join_next().await.is_some() {}
        view.sinks.replays_ended().await;
    };
    let in_time = stop.step("sinks", all).await.is_some();
    for (component, ended) in ends {
        if let Err(why) = ended {
            stop.leave(component.as_str(), why);
        }
    }
    if !in_time {
        sinks.shutdown().await;
        servers.shutdown().await;
    }
    for figures in view.sinks.statuses().map(|status| status.figures()) {
        if figures.pending > 0 {
            tracing::warn!(
                sink = &*figures.name,
                pending = figures.pending,
                cursor = figures.cursor,
                "readings are left to the log, from which the next start goes on"
            );
        }
    }

    let _over = stop.step("trim", trim_now(&trimmer)).await;

    http_stop.cancel();
    if !http.is_finished() && timeout(HTTP_GRACE, &mut http).await.is_err() {
        // A connection on which nobody asks anything: no work is cut short by cutting it.
        tracing::debug!("HTTP connections were cut");
        http.abort();
    }
    tracing::info!(left = stop.left.len(), "the service has stopped");
    Stopped { failed, left: stop.left }
}
