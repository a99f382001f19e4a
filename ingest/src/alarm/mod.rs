//! Alarms: what somebody must be told of.

mod book;
mod config;
mod db;
mod engine;
mod handle;
mod maintenance;
mod model;
mod mqtt;
mod outbox;
mod rule;
mod shelf;
mod sink;
mod webhook;

use std::sync::Arc;

use loushan_broker::Broker;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::io::Io;

pub use config::{AlarmConfig, Place, Policy, Thresholds, WebhookConfig};
pub use db::AlarmError;
pub use engine::Sites;
pub use handle::{AckError, Alarms, MAX_NAME, MAX_NOTE};
pub use maintenance::{Daily, Maintenance, When};
pub use model::{
    Acknowledged, Alarm, AlarmEvent, AlarmState, Change, Cleared, ClearedBy, Subject,
};
pub use mqtt::topic;
pub use rule::{Rule, Severity};
pub use shelf::{Counts, Filter, Page};
pub use sink::{AlarmSink, Hearing, Listen, Parts};
pub use webhook::MIN_SECRET;

/// Tells MQTT subscribers and webhooks what happens, until `stop`.
pub fn tell(
    alarms: &Alarms,
    broker: &Arc<Broker>,
    io: &Arc<dyn Io>,
    clock: &Clock,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    tasks.spawn(mqtt::run(alarms.clone(), Arc::clone(broker), stop.clone()));
    for (config, status) in alarms.hooks() {
        let hook = webhook::Hook {
            config: config.clone(),
            status: Arc::clone(status),
            outbox: Arc::clone(alarms.outbox()),
            io: Arc::clone(io),
            clock: clock.clone(),
        };
        tasks.spawn(hook.run(stop.clone()));
    }
}

/// What is wrong with the files that webhooks need, if anything is. Blocks.
#[must_use]
pub fn faults_of_files(io: &dyn Io, config: &AlarmConfig) -> Vec<String> {
    let faults = config.webhooks.iter().filter_map(|hook| {
        let fault = webhook::check(io, hook).err()?;
        Some(format!("alarms.webhook.{}: {fault}", hook.name))
    });
    faults.collect()
}
