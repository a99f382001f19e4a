//! What the embedded store knows of readings the dedup memory has forgotten.
//!
//! Log and store need each other at the start: the pipeline, which opens the log, wants to know how
//! far the store is, and the store wants to know which log it is fed from. So the store's cursor is
//! read from its manifest first, and the store itself handed in when it is open. In between nothing
//! is asked: no publish is taken yet.

use std::io;
use std::sync::OnceLock;

use crate::pipeline::dedup::{Owner, ReadingKey, StoredKeys};
use crate::sink::embedded::Store;

/// The store, from the moment on that there is one.
#[derive(Debug)]
pub(super) struct Stored {
    cursor_at_start: u64,
    store: OnceLock<Store>,
}

impl Stored {
    pub(super) fn new(cursor_at_start: u64) -> Self {
        Self { cursor_at_start, store: OnceLock::new() }
    }

    /// Once, before the first publish.
    pub(super) fn opened(&self, store: Store) {
        let _second_time = self.store.set(store);
    }
}

impl StoredKeys for Stored {
    fn contains(&self, key: &ReadingKey) -> io::Result<bool> {
        let store =
            self.store.get().ok_or_else(|| io::Error::other("the store is not open yet"))?;
        let found = match &key.owner {
            Owner::Device(imei) => {
                store.contains(*imei, key.boot_epoch, key.seq, key.kind, key.measured)
            }
            Owner::Station { station, session } => {
                store.contains_status(station, *session, key.seq, key.measured)
            }
        };
        found.map_err(io::Error::other)
    }

    fn cursor(&self) -> u64 {
        self.store.get().map_or(self.cursor_at_start, Store::cursor)
    }
}
