//! When what is due where.
//!
//! Of each device and station the earliest moment stands in a heap; one that has moved since leaves a
//! stale entry behind, which wakes nobody. When stale entries are the most, all are thrown away.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use loushan_schemas::ids::{Imei, StationId};

/// Fewer entries are not worth the sweeping.
const FEW: usize = 1024;

/// Whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Device(Imei),
    Station(StationId),
}

/// See the module. Moments are in time listened.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(i64, Key)>>,
    due: HashMap<Key, i64>,
}

impl Timers {
    /// Sets the one moment of a key, or none.
    pub(super) fn set(&mut self, key: Key, due: Option<i64>) {
        match due {
            None => {
                self.due.remove(&key);
            }
            Some(due) => {
                if self.due.insert(key.clone(), due) != Some(due) {
                    self.heap.push(Reverse((due, key)));
                }
            }
        }
        if self.heap.len() > FEW && self.heap.len() > 4 * self.due.len() {
            self.heap = self.due.iter().map(|(key, due)| Reverse((*due, key.clone()))).collect();
        }
        self.drop_stale();
    }

    /// The next moment there is.
    pub(super) fn next(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Whose moment is not after `now`, if anybody's; it is gone with that.
    pub(super) fn due(&mut self, now: i64) -> Option<Key> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, key)) = self.heap.pop()?;
        self.due.remove(&key);
        self.drop_stale();
        Some(key)
    }

    fn drop_stale(&mut self) {
        while let Some(Reverse((due, key))) = self.heap.peek() {
            if self.due.get(key) == Some(due) {
                return;
            }
            self.heap.pop();
        }
    }
}
