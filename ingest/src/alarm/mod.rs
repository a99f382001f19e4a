//! Alarms: what somebody must be told of.
//!
//! A sink of the log: durable frames in, in order, and a cursor ([`AlarmSink`]). The rules are a pure
//! `engine`; the cursor, what the engine remembers, the alarms and the outbox are committed together
//! (`db`), and only what is committed is shown, told live ([`Alarms::subscribe`]), over MQTT and to
//! webhooks. An alarm's name follows from rule, subject and lsn: what is fed again after a crash leads to
//! the same alarms, once. `docs/alarms.md` has the rules, thresholds, topics and formats.
//!
//! # Life
//!
//! A rule *holds* at a device or station, from the reading that says so to one that says otherwise. When
//! it has held for `raise_after` (at once, unless configured; two minutes for a lift that stands between
//! landings) the alarm is **raised**, once; when it has not held for `clear_after` it is **cleared**,
//! once. Thresholds of setting and clearing differ, and what lies between changes nothing.
//! Acknowledging is latched: the first to do it is remembered, and an alarm that is over is shown until
//! somebody has.
//!
//! # Which clock counts
//!
//! * **What is news**: a reading changes what is known of its device only if it is no older than the one
//!   that did so last, and of that three witnesses decide, two of them at least: the device's clock (the
//!   effective time), the clock on which it was heard (ours for what comes live, the station's for what
//!   it had kept back), and the device's counter. A clock of 1970, one eight hours off and one that is
//!   put right are outvoted; what is backfilled loses by all three, and neither raises an old alarm nor
//!   ends a new one. Such readings are counted.
//! * **How long** something lasts is counted on the clock on which it was heard, and by a timer on ours
//!   where nothing more comes. The device's clock is never used for it.
//! * **What a station had kept back** for more than a minute, and is news all the same, is raised when no
//!   more of that replay has come for 30 s, and after ten minutes in any case; it is marked `late`. What
//!   began and ended within an outage is no alarm: it is in the store.
//! * **Silence** is judged by our clock and by what comes live. What was kept back counts as of when the
//!   station heard it, and only forward.
//!
//! # Silence, and us
//!
//! A device's silence is measured by its own rhythm: the longest pause of the last one to two days, known
//! from four pauses on. A station that is known for longer pauses than `station_offline_after` has its own
//! rhythm too. Only time in which we **listened** counts. It stands still while the service does not run
//! and for `start_grace` after a start, while the log refuses, while a sync hangs, and over a step of more
//! than a minute between two looks (the machine slept, or its clock leapt). So our own outage makes nobody
//! silent. A sink that lags goes by the receive times in the log; the time beyond them is told to the
//! engine only when it has all that is durable. While a station is away none of its devices is silent, and
//! their time begins anew when it is back.

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
#[cfg(test)]
mod tests;
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
pub use model::{Acknowledged, Alarm, AlarmEvent, AlarmState, Change, Cleared, ClearedBy, Subject};
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
