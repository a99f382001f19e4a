//! The alarms as the rest of the service sees them: asked for, watched, acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::{counter, gauge};
use parking_lot::{Mutex, RwLock};
use tokio::sync::broadcast;

use super::book::{Book, webhook};
use super::config::{AlarmConfig, WebhookConfig};
use super::model::{Acknowledged, Alarm, AlarmEvent, Change};
use super::outbox::Outbox;
use super::rule::Rule;
use super::shelf::{Counts, Filter, Page, Shelf};
use super::webhook::HookStatus;
use crate::clock::Clock;

/// A webhook whose oldest event has waited longer is in trouble.
const LATE_MS: i64 = 60_000;

/// Bytes of a name and of a note that are kept.
pub const MAX_NAME: usize = 128;
/// See [`MAX_NAME`].
pub const MAX_NOTE: usize = 1024;

/// An alarm was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// There is none with that id, or not any more.
    #[error("there is no such alarm, or not any more")]
    Unknown,
    /// The disk refuses.
    #[error("it could not be made durable: {0}")]
    NotDurable(String),
}

/// What of the engine is shown in metrics.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    pub(super) devices: AtomicUsize,
    pub(super) stations: AtomicUsize,
    pub(super) bytes: AtomicUsize,
}

/// All alarms of a running service. Copies are the same alarms.
#[derive(Debug, Clone)]
pub struct Alarms {
    book: Arc<Mutex<Book>>,
    shelf: Arc<RwLock<Shelf>>,
    live: broadcast::Sender<Arc<AlarmEvent>>,
    outbox: Arc<Outbox>,
    sizes: Arc<Sizes>,
    hooks: Arc<[(WebhookConfig, Arc<HookStatus>)]>,
    clock: Clock,
}

impl Alarms {
    pub(super) fn new(book: Book, config: &AlarmConfig, clock: Clock) -> (Self, Arc<Mutex<Book>>) {
        let (shelf, live) = (Arc::clone(book.shelf()), book.live().clone());
        let outbox = Arc::clone(book.outbox());
        let book = Arc::new(Mutex::new(book));
        let hooks = config.webhooks.iter().map(|hook| (hook.clone(), Arc::default())).collect();
        let alarms = Self {
            book: Arc::clone(&book),
            shelf,
            live,
            outbox,
            sizes: Arc::default(),
            hooks,
            clock,
        };
        (alarms, book)
    }

    /// Every event from now on, right after it is durable. Bounded: whoever is too slow misses the
    /// oldest, and is told how many.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<AlarmEvent>> {
        self.live.subscribe()
    }

    /// Alarms, newest first, at most `limit` of those with a number below `after`.
    #[must_use]
    pub fn list(&self, filter: &Filter, limit: usize, after: Option<u64>) -> Page {
        self.shelf.read().page(filter, limit, after)
    }

    /// One alarm.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Alarm>> {
        self.shelf.read().get(id).cloned()
    }

    /// How many last, and how many wait for somebody; of one project, or of all.
    #[must_use]
    pub fn counts(&self, project: Option<&str>) -> Counts {
        self.shelf.read().counts(project)
    }

    /// Somebody knows of an alarm; the alarm then. Who said so first is remembered, and saying it again
    /// changes nothing. Durable when it returns. Blocks for a commit.
    ///
    /// # Errors
    /// When there is no such alarm, or the disk refuses.
    pub fn acknowledge(
        &self,
        id: &str,
        by: String,
        note: Option<String>,
    ) -> Result<Arc<Alarm>, AckError> {
        let acknowledged = Acknowledged { by, at_ms: self.clock.now().ms(), note };
        self.book.lock().acknowledge(id, acknowledged)
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub(super) fn sizes(&self) -> &Arc<Sizes> {
        &self.sizes
    }

    pub(super) fn hooks(&self) -> &[(WebhookConfig, Arc<HookStatus>)] {
        &self.hooks
    }

    /// What keeps somebody from being told, if anything does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let now = self.clock.now().ms();
        let mut said = Vec::new();
        for (hook, status) in &*self.hooks {
            let backlog = self.outbox.backlog(&webhook(&hook.name));
            let late = backlog.oldest_ms.is_some_and(|oldest| now.saturating_sub(oldest) > LATE_MS);
            if late && let Some(trouble) = status.trouble() {
                said.push(format!(
                    "webhook {} has not had {} events: {trouble}",
                    hook.name, backlog.events
                ));
            }
            if backlog.dropped > 0 {
                said.push(format!(
                    "webhook {} will never get {} events: alarms.outbox_bytes had no room for them",
                    hook.name, backlog.dropped
                ));
            }
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Brings the metrics up to date that are looked up.
    pub fn record_metrics(&self) {
        #[allow(clippy::cast_precision_loss)] // far below 2^53
        let float = |n: u64| n as f64;
        let (mut lasting, mut unacknowledged) = (vec![0_u64; Rule::ALL.len() + 1], 0);
        let mut severities: Vec<_> = Rule::ALL.iter().map(|rule| rule.severity()).collect();
        let shelf = self.shelf.read();
        for alarm in shelf.all().filter(|alarm| alarm.is_shown()) {
            unacknowledged += u64::from(alarm.acknowledged.is_none());
            if alarm.cleared.is_none() {
                let at = usize::from(alarm.rule.number()) - 1;
                if let (Some(count), Some(severity)) = (lasting.get_mut(at), severities.get_mut(at))
                {
                    *count += 1;
                    *severity = alarm.severity;
                }
            }
        }
        let cleared = shelf.cleared() as u64;
        drop(shelf);
        for ((rule, count), severity) in Rule::ALL.iter().zip(lasting).zip(severities) {
            gauge!("loushan_alarms_open", "rule" => rule.as_str(), "severity" => severity.as_str())
                .set(float(count));
            for change in Change::ALL {
                // There from the start: a rate needs a zero to begin with.
                counter!("loushan_alarm_events_total", "rule" => rule.as_str(), "change" => change.as_str())
                    .increment(0);
            }
        }
        gauge!("loushan_alarms_unacknowledged").set(float(unacknowledged));
        gauge!("loushan_alarms_cleared_kept").set(float(cleared));
        let size = |it: &AtomicUsize| float(it.load(Ordering::Relaxed) as u64);
        gauge!("loushan_alarm_devices").set(size(&self.sizes.devices));
        gauge!("loushan_alarm_stations").set(size(&self.sizes.stations));
        gauge!("loushan_alarm_memory_bytes").set(size(&self.sizes.bytes));
        gauge!("loushan_alarm_outbox_bytes").set(float(self.outbox.bytes()));
        let now = self.clock.now().ms();
        for (hook, status) in &*self.hooks {
            let label = [("webhook", hook.name.to_string())];
            let backlog = self.outbox.backlog(&webhook(&hook.name));
            let oldest = backlog.oldest_ms.map_or(0, |oldest| now.saturating_sub(oldest).max(0));
            gauge!("loushan_alarm_webhook_pending_events", &label).set(float(backlog.events));
            gauge!("loushan_alarm_webhook_oldest_seconds", &label)
                .set(float(oldest.unsigned_abs()) / 1000.0);
            counter!("loushan_alarm_webhook_dropped_total", &label).absolute(backlog.dropped);
            counter!("loushan_alarm_webhook_delivered_total", &label).absolute(status.delivered());
            counter!("loushan_alarm_webhook_failures_total", &label).absolute(status.failures());
        }
    }
}
