//! Readings for clients that want to see each of a device or a station.
//!
//! The tap renders a reading once, if anybody wants it, and puts it into the queues of those who do. A
//! queue is emptied with each tick; what does not fit until then is counted and told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::row::Row;
use parking_lot::Mutex;

use super::Scope;
use crate::pipeline::frame::DurableFrame;
use crate::registry::Registry;

/// Readings of one event at most.
const AT_ONCE: usize = 100;

/// What a client wants to see reading by reading.
#[derive(Debug)]
pub(super) struct Watching {
    station: Option<StationId>,
    device: Option<Imei>,
    scope: Scope,
    limit: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    rows: VecDeque<Arc<str>>,
    bytes: usize,
    missed: u64,
}

impl Watching {
    fn wants(&self, row: &Row, registry: &Registry) -> bool {
        let named = self.station.as_ref() == Some(&row.station)
            || self.device.is_some_and(|device| row.reading.imei == Some(device));
        // A device may report by a station of another project: then it is not shown.
        named
            && match &self.scope {
                Scope::City => true,
                Scope::Project(own) => registry.project_of(&row.station).as_deref() == Some(own),
            }
    }

    fn push(&self, row: &Arc<str>) {
        let mut queue = self.queue.lock();
        if queue.rows.len() >= AT_ONCE || queue.bytes + row.len() > self.limit {
            queue.missed += 1;
            return;
        }
        queue.bytes += row.len();
        queue.rows.push_back(Arc::clone(row));
    }

    /// What has come, as an event's data; `None` where nothing did.
    pub(super) fn take(&self, tick: u64) -> Option<String> {
        let Queue { rows, bytes, missed } = std::mem::take(&mut *self.queue.lock());
        if rows.is_empty() && missed == 0 {
            return None;
        }
        let mut data = String::with_capacity(bytes + rows.len() + 64);
        data.push_str(&format!("{{\"tick\":{tick},\"missed\":{missed},\"readings\":["));
        for (at, row) in rows.iter().enumerate() {
            if at > 0 {
                data.push(',');
            }
            data.push_str(row);
        }
        data.push_str("]}");
        Some(data)
    }
}

/// All that is wanted.
#[derive(Debug)]
pub(super) struct Watches {
    all: Mutex<Vec<Weak<Watching>>>,
    /// How many, about: nobody wants anything most of the time.
    any: AtomicUsize,
    limit: usize,
}

impl Watches {
    pub(super) fn new(limit: usize) -> Self {
        Self { all: Mutex::default(), any: AtomicUsize::new(0), limit }
    }

    /// Begins to watch; ends when what comes back is dropped.
    pub(super) fn begin(
        &self,
        station: Option<StationId>,
        device: Option<Imei>,
        scope: Scope,
    ) -> Option<Arc<Watching>> {
        if station.is_none() && device.is_none() {
            return None;
        }
        let queue = Mutex::default();
        let watching = Arc::new(Watching { station, device, scope, limit: self.limit, queue });
        let mut all = self.all.lock();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&watching));
        self.any.store(all.len(), Ordering::Release);
        Some(watching)
    }

    /// Shows a frame's readings to whoever wants them.
    pub(super) fn show(&self, frame: &DurableFrame, registry: &Registry) {
        if self.any.load(Ordering::Acquire) == 0 || frame.rows.is_empty() {
            return;
        }
        let watching: Vec<Arc<Watching>> = {
            let mut all = self.all.lock();
            all.retain(|other| other.strong_count() > 0);
            self.any.store(all.len(), Ordering::Release);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        for row in &frame.rows {
            let mut rendered: Option<Arc<str>> = None;
            for who in watching.iter().filter(|who| who.wants(row, registry)) {
                let text = rendered.get_or_insert_with(|| {
                    let mut text = String::new();
                    row.write_json(&mut text);
                    text.into()
                });
                who.push(text);
            }
        }
    }
}
