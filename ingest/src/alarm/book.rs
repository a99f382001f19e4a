//! The engine together with what it leads to: alarms, events, and their place on disk.
//!
//! What happens is *pending* until one commit has made it durable together with the cursor; only then
//! is it shown, told live and put into the outbox. Nobody is told of what a crash could take back.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::broadcast;

use super::config::AlarmConfig;
use super::db::{AlarmError, Commit, Db, Loaded};
use super::engine::{Engine, Out, Sites};
use super::handle::AckError;
use super::model::{Acknowledged, Alarm, AlarmEvent, Change};
use super::outbox::Outbox;
use super::shelf::Shelf;
use crate::pipeline::frame::DurableFrame;

/// Alarms that are forgotten in one commit at most.
const FORGET_AT_ONCE: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    engine: Engine,
    db: Db,
    config: Arc<AlarmConfig>,
    shelf: Arc<RwLock<Shelf>>,
    live: broadcast::Sender<Arc<AlarmEvent>>,
    outbox: Arc<Outbox>,
    /// Everything up to here was taken in.
    position: u64,
    /// And up to here it is durable.
    cursor: u64,
    /// Alarms as they are after what is pending.
    alarms: BTreeMap<u64, Arc<Alarm>>,
    events: Vec<Arc<AlarmEvent>>,
}

/// Who reads the outbox for MQTT.
pub(super) const MQTT: &str = "mqtt";

impl Book {
    /// Goes on from what was kept. Alarms that the configuration has no rule for any more are ended.
    pub(super) fn new(
        db: Db,
        loaded: Loaded,
        config: &Arc<AlarmConfig>,
        sites: Arc<Sites>,
        started_ms: i64,
    ) -> Self {
        let Loaded { cursor, kept, alarms, events, readers } = loaded;
        let last_event = kept.next_event.max(1) - 1;
        let names = config.webhooks.iter().map(|it| Arc::clone(&it.name));
        let names = names.map(|name| webhook(&name)).chain([MQTT.into()]);
        let outbox = Outbox::new(config.outbox_bytes, names, &readers, events, last_event);
        let mut shelf = Shelf::default();
        alarms.into_iter().for_each(|alarm| shelf.put(alarm));
        let mut engine = Engine::new(Arc::clone(config), sites, kept);
        engine.begin_life(started_ms);
        engine.reconcile();
        let mut book = Self {
            engine,
            db,
            config: Arc::clone(config),
            shelf: Arc::new(RwLock::new(shelf)),
            live: broadcast::Sender::new(config.live_events),
            outbox: Arc::new(outbox),
            position: cursor,
            cursor,
            alarms: BTreeMap::new(),
            events: Vec::new(),
        };
        book.take_out();
        book
    }

    pub(super) fn shelf(&self) -> &Arc<RwLock<Shelf>> {
        &self.shelf
    }

    pub(super) fn live(&self) -> &broadcast::Sender<Arc<AlarmEvent>> {
        &self.live
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Everything up to here is durable.
    pub(super) const fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) const fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Takes in frames; everything up to `up_to` has been given with them.
    pub(super) fn apply(&mut self, frames: &[Arc<DurableFrame>], up_to: u64) {
        for frame in frames {
            self.engine.apply(frame);
        }
        self.position = self.position.max(up_to);
        self.take_out();
    }

    /// Nothing more is to come that was received before that moment.
    pub(super) fn advance(&mut self, to_ms: i64) {
        self.engine.advance(to_ms);
        self.take_out();
    }

    /// Whether something has happened that nobody has been told of.
    pub(super) fn has_news(&self) -> bool {
        !self.events.is_empty()
    }

    /// How much a commit would write, about.
    pub(super) fn changes(&self) -> usize {
        self.engine.changes()
    }

    /// Whether a commit would write anything but the time.
    pub(super) fn is_behind(&self) -> bool {
        self.has_news()
            || self.position > self.cursor
            || self.changes() > 0
            || self.outbox.has_moved()
    }

    fn take_out(&mut self) {
        for out in self.engine.take_out() {
            let (number, change, alarm) = match out {
                Out::Raised(alarm) => (alarm.number, Change::Raised, Arc::new(alarm)),
                Out::Cleared { event, alarm, cleared } => {
                    // An alarm that lasts is never forgotten.
                    let Some(alarm) = self.alarm(alarm) else { continue };
                    let alarm = Alarm { cleared: Some(cleared), ..Alarm::clone(&alarm) };
                    (event, Change::Cleared, Arc::new(alarm))
                }
            };
            self.note(number, change, alarm);
        }
    }

    fn alarm(&self, number: u64) -> Option<Arc<Alarm>> {
        let pending = self.alarms.get(&number).cloned();
        pending.or_else(|| self.shelf.read().by_number(number).cloned())
    }

    fn note(&mut self, number: u64, change: Change, alarm: Arc<Alarm>) {
        self.events.push(Arc::new(AlarmEvent { number, change, alarm: Arc::clone(&alarm) }));
        self.alarms.insert(alarm.number, alarm);
    }

    /// Somebody knows of an alarm. The first to say so is who is remembered. Blocks for a commit.
    pub(super) fn acknowledge(
        &mut self,
        id: &str,
        acknowledged: Acknowledged,
    ) -> Result<Arc<Alarm>, AckError> {
        let pending = self.alarms.values().find(|alarm| *alarm.id == *id).cloned();
        let known = pending.clone().or_else(|| self.shelf.read().get(id).cloned());
        let known = known.ok_or(AckError::Unknown)?;
        if known.acknowledged.is_some() {
            return Ok(known);
        }
        let alarm = Alarm { acknowledged: Some(acknowledged), ..Alarm::clone(&known) };
        let alarm = Arc::new(alarm);
        let number = self.engine.number();
        self.note(number, Change::Acknowledged, Arc::clone(&alarm));
        match self.commit() {
            Ok(()) => Ok(alarm),
            Err(why) => {
                // It was not done: what is committed later must not have it. Should the disk have it
                // all the same, the next commit writes it over.
                self.events.pop();
                self.engine.give_back_number();
                self.alarms.insert(known.number, known);
                Err(AckError::NotDurable(why))
            }
        }
    }

    /// Makes durable what has happened, and tells of it. Blocks for a sync.
    ///
    /// # Errors
    /// When it is not durable: it is pending still.
    pub(super) fn commit(&mut self) -> Result<(), String> {
        let changed = self.engine.take_changed();
        let moved = self.outbox.moved();
        let ear = self.engine.ear();
        let mut commit = Commit {
            cursor: self.position,
            next_event: self.engine.next_event(),
            ear,
            ..Commit::default()
        };
        for imei in &changed.devices {
            commit.devices.push((*imei, self.engine.device(*imei).map(|it| it.encode())));
        }
        for name in &changed.stations {
            commit.stations.push((name.clone(), self.engine.station(name).map(|it| it.encode())));
        }
        for (number, alarm) in &self.alarms {
            commit.alarms.push((*number, Some(alarm.to_json().to_string().into_bytes())));
        }
        let age = i64::try_from(self.config.history_age.as_millis()).unwrap_or(i64::MAX);
        let mut gone =
            self.shelf.read().surplus(self.config.history_count, ear.time.saturating_sub(age));
        gone.truncate(FORGET_AT_ONCE);
        gone.retain(|number| !self.alarms.contains_key(number));
        commit.alarms.extend(gone.iter().map(|number| (*number, None)));
        for event in &self.events {
            commit.events.push((event.number, event.to_json().to_string().into_bytes()));
        }
        if let Some((readers, events_gone)) = &moved {
            commit.readers.clone_from(readers);
            commit.events_gone = *events_gone;
        }
        if let Err(error) = self.db.write(&commit) {
            self.engine.changed_still(changed);
            if moved.is_some() {
                self.outbox.moved_still();
            }
            return Err(error);
        }
        self.cursor = self.position;
        let mut shelf = self.shelf.write();
        std::mem::take(&mut self.alarms).into_values().for_each(|alarm| shelf.put(alarm));
        gone.into_iter().for_each(|number| shelf.remove(number));
        drop(shelf);
        let events = std::mem::take(&mut self.events);
        for event in &events {
            let (alarm, change) = (&event.alarm, event.change);
            metrics::counter!("loushan_alarm_events_total",
                "rule" => alarm.rule.as_str(), "change" => change.as_str())
            .increment(1);
            tracing::info!(
                id = &*alarm.id,
                severity = alarm.severity.as_str(),
                why = alarm.why,
                change = change.as_str(),
                "an alarm"
            );
            // Nobody may be listening.
            drop(self.live.send(Arc::clone(event)));
        }
        if !events.is_empty() {
            self.outbox.push(events);
        }
        Ok(())
    }

    /// Opens a folder and goes on from there. Blocks.
    pub(super) fn open(
        io: Arc<dyn crate::io::Io>,
        dir: &std::path::Path,
        log_id: crate::sink::cursor_file::LogIdBytes,
        config: &Arc<AlarmConfig>,
        sites: Arc<Sites>,
        started_ms: i64,
    ) -> Result<Self, AlarmError> {
        let (db, loaded) = Db::open(io, dir, log_id)?;
        Ok(Self::new(db, loaded, config, sites, started_ms))
    }
}

/// How a webhook's place in the outbox is called.
pub(super) fn webhook(name: &str) -> Arc<str> {
    format!("webhook.{name}").into()
}
