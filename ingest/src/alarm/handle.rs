//! The alarms as the rest of the service sees them: asked for, watched, acknowledged.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::broadcast;

use super::model::{Alarm, AlarmEvent};
use super::shelf::{Counts, Filter, Page, Shelf};

/// All alarms of a running service. Copies are the same alarms.
#[derive(Debug, Clone)]
pub struct Alarms {
    shelf: Arc<RwLock<Shelf>>,
    live: broadcast::Sender<Arc<AlarmEvent>>,
}

impl Alarms {
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
}
