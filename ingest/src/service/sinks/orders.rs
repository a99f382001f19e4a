//! Which sinks an operator has paused or removed: a file, so that it holds over restarts.
//!
//! JSON, replaced whole. A file that cannot be read is never guessed at: a sink that was removed would
//! begin anew, or one that was paused would go on.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::io::{Io, read_all, replace_file};
use crate::service::StartError;
use crate::sink::SinkState;

const VERSION: u32 = 1;

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    paused: BTreeSet<String>,
    removed: BTreeSet<String>,
}

/// The orders that stand.
#[derive(Debug)]
pub(super) struct Orders {
    io: Arc<dyn Io>,
    path: PathBuf,
    file: Mutex<File>,
}

impl Orders {
    /// Reads the file `orders.json` of the folder of sinks; where there is none, none stand.
    pub(super) fn open(io: Arc<dyn Io>, sinks_dir: &Path) -> Result<Self, StartError> {
        let path = sinks_dir.join("orders.json");
        let failed = |source| StartError::Io { path: path.clone(), source };
        let mut file = File { version: VERSION, ..File::default() };
        if io.exists(&path).map_err(failed)? {
            let bytes = read_all(&*io, &path).map_err(failed)?;
            file = serde_json::from_slice(&bytes)
                .map_err(|e| StartError::Orders { path: path.clone(), why: e.to_string() })?;
            if file.version != VERSION {
                let why = format!("its version is {}, this build reads {VERSION}", file.version);
                return Err(StartError::Orders { path, why });
            }
        }
        Ok(Self { io, path, file: Mutex::new(file) })
    }

    /// What a sink is to do.
    pub(super) fn of(&self, name: &str) -> SinkState {
        let file = self.file.lock();
        if file.removed.contains(name) {
            SinkState::Removed
        } else if file.paused.contains(name) {
            SinkState::Paused
        } else {
            SinkState::Running
        }
    }

    /// Has a sink do something, from now on and after every start. Blocks for two syncs.
    pub(super) fn set(&self, name: &str, state: SinkState) -> io::Result<()> {
        // Held over the write: two orders are written in the order in which they are taken.
        let mut file = self.file.lock();
        let mut next = file.clone();
        next.removed.remove(name);
        next.paused.remove(name);
        match state {
            SinkState::Removed => drop(next.removed.insert(name.to_owned())),
            SinkState::Paused => drop(next.paused.insert(name.to_owned())),
            SinkState::Running | SinkState::Failed => {}
        }
        if next == *file {
            return Ok(());
        }
        let bytes = serde_json::to_vec_pretty(&next).map_err(io::Error::other)?;
        if let Some(dir) = self.path.parent() {
            self.io.create_dir_all(dir)?;
        }
        replace_file(&*self.io, &self.path, &bytes)?;
        *file = next;
        Ok(())
    }

    /// Forgets removed sinks that the configuration does not name any more: if it names them again,
    /// they are meant to begin.
    pub(super) fn forget_but(&self, configured: &[Arc<str>]) -> io::Result<()> {
        let gone: Vec<String> = {
            let file = self.file.lock();
            let there = |name: &String| configured.iter().any(|it| **it == **name);
            file.removed.iter().filter(|name| !there(name)).cloned().collect()
        };
        gone.iter().try_for_each(|name| self.set(name, SinkState::Running))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::io::sim::{Failure, Fault, Op, SimIo};

    #[test]
    fn orders_hold_over_a_restart_and_one_that_was_not_durable_was_not_given() {
        let io = SimIo::new();
        let dir = Path::new("/data/sinks");
        let open = || Orders::open(Arc::new(io.clone()), dir).unwrap();
        let orders = open();
        orders.set("a", SinkState::Paused).unwrap();
        orders.set("b", SinkState::Removed).unwrap();
        io.inject(Fault::next(Op::Sync, Failure::Errno(5)));
        orders.set("a", SinkState::Running).unwrap_err();
        for orders in [orders, open()] {
            assert_eq!(orders.of("a"), SinkState::Paused);
            assert_eq!(orders.of("b"), SinkState::Removed);
            assert_eq!(orders.of("c"), SinkState::Running);
        }
        open().forget_but(&["a".into()]).unwrap();
        assert_eq!(open().of("b"), SinkState::Running);
        replace_file(&io, &dir.join("orders.json"), b"{}").unwrap();
        assert!(matches!(Orders::open(Arc::new(io.clone()), dir), Err(StartError::Orders { .. })));
    }
}
