//! Events that somebody has still to be told of: MQTT, and each webhook, each at its own place.
//!
//! An event is here from the commit that has it until all readers have it, in memory and on disk alike.
//! Past the bound the oldest go, and a reader that had not had them counts them as *dropped*: a receiver
//! that is dead costs bounded room, and the alarms themselves are not concerned.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::model::AlarmEvent;

/// How far each reader is, by its name.
pub(super) type Places = Vec<(Arc<str>, u64)>;

/// Bytes of an event beside its JSON: pointers, keys, the alarm itself.
const OVERHEAD: usize = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
    limit: u64,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<(Arc<AlarmEvent>, u64)>,
    bytes: u64,
    /// Events up to here are gone.
    gone: u64,
    readers: BTreeMap<Arc<str>, Reader>,
    /// A reader's place, or what is gone, is not on disk as it is here.
    moved: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Reader {
    /// It has all events up to here.
    at: u64,
    dropped: u64,
}

/// A reader's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    /// Events it has not had.
    pub(super) events: u64,
    /// When the oldest of them happened, in Unix milliseconds.
    pub(super) oldest_ms: Option<i64>,
    /// Events it will never get.
    pub(super) dropped: u64,
}

impl Outbox {
    /// With what was kept. A reader that is new begins behind the last event; one that is configured no
    /// more holds nothing.
    pub(super) fn new(
        limit: u64,
        readers: impl IntoIterator<Item = Arc<str>>,
        places: &BTreeMap<String, u64>,
        events: Vec<Arc<AlarmEvent>>,
        last_event: u64,
    ) -> Self {
        let mut inner = Inner::default();
        for name in readers {
            let at = places.get(&*name).copied().unwrap_or(last_event);
            inner.readers.insert(name, Reader { at, dropped: 0 });
        }
        // A place that is not on disk yet would be the last event's again after a crash.
        inner.moved = true;
        let this = Self { inner: Mutex::new(inner), changed: watch::Sender::new(()), limit };
        this.push(events);
        this
    }

    /// Adds events that are durable.
    pub(super) fn push(&self, events: impl IntoIterator<Item = Arc<AlarmEvent>>) {
        let mut inner = self.inner.lock();
        for event in events {
            let bytes = (event.to_json().to_string().len() + OVERHEAD) as u64;
            inner.bytes += bytes;
            inner.events.push_back((event, bytes));
        }
        inner.trim(self.limit);
        drop(inner);
        self.changed.send_replace(());
    }

    /// The next event that a reader has not had.
    pub(super) fn next(&self, reader: &str) -> Option<Arc<AlarmEvent>> {
        let inner = self.inner.lock();
        let at = inner.readers.get(reader)?.at;
        let first = inner.events.partition_point(|(event, _)| event.number <= at);
        inner.events.get(first).map(|(event, _)| Arc::clone(event))
    }

    /// A reader has everything up to an event.
    pub(super) fn done(&self, reader: &str, number: u64) {
        let mut inner = self.inner.lock();
        if let Some(reader) = inner.readers.get_mut(reader) {
            reader.at = reader.at.max(number);
        }
        inner.moved = true;
        inner.trim(self.limit);
    }

    /// Tells when there may be something new.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The readers' places and up to which event all are gone, if that is not on disk yet.
    pub(super) fn moved(&self) -> Option<(Places, u64)> {
        let mut inner = self.inner.lock();
        std::mem::take(&mut inner.moved).then(|| {
            let places = inner.readers.iter().map(|(name, it)| (Arc::clone(name), it.at));
            (places.collect(), inner.gone)
        })
    }

    /// What [`Outbox::moved`] gave was not kept.
    pub(super) fn moved_still(&self) {
        self.inner.lock().moved = true;
    }

    pub(super) fn has_moved(&self) -> bool {
        self.inner.lock().moved
    }

    /// Bytes of all events.
    pub(super) fn bytes(&self) -> u64 {
        self.inner.lock().bytes
    }

    /// A reader's figures.
    pub(super) fn backlog(&self, reader: &str) -> Backlog {
        let inner = self.inner.lock();
        let Some(it) = inner.readers.get(reader) else { return Backlog::default() };
        let first = inner.events.partition_point(|(event, _)| event.number <= it.at);
        let oldest = inner.events.get(first).map(|(event, _)| event.at_ms());
        let events = (inner.events.len() - first) as u64;
        Backlog { events, oldest_ms: oldest, dropped: it.dropped }
    }
}

impl Inner {
    fn trim(&mut self, limit: u64) {
        let had_by_all = self.readers.values().map(|it| it.at).min().unwrap_or(u64::MAX);
        while let Some((event, bytes)) = self.events.front() {
            let number = event.number;
            if number > had_by_all && self.bytes <= limit {
                return;
            }
            self.bytes -= bytes;
            self.events.pop_front();
            self.gone = number;
            self.moved = true;
            for reader in self.readers.values_mut().filter(|it| it.at < number) {
                reader.at = number;
                reader.dropped += 1;
            }
        }
    }
}
