//! The database under a broker's feet: bytes, differences, failures, and kills.

mod bytes_on_disk;
pub(crate) mod disk;
mod kills;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::codec::{NEVER, StoredMessage};
use super::pending::{Changes, Pending};
use super::{ClockMs, Store, open, tables};
use crate::handler::{AckOutcome, AckReceiver, AckTicket};
use crate::message::tests::message;

/// A clock that the test moves.
pub(super) fn clock(now: &Arc<AtomicU64>) -> ClockMs {
    let now = Arc::clone(now);
    Arc::new(move || now.load(Ordering::SeqCst))
}

/// Remembers how its tickets ended.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Vec<AckOutcome>>);

impl Answers {
    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl AckReceiver for Answers {
    fn resolve(&self, _: u64, outcome: AckOutcome) {
        self.0.lock().push(outcome);
    }
}

/// Waits until everything that was noted has an outcome, and says whether it is on disk.
pub(crate) fn is_durable(store: &Store) -> bool {
    let answers = Arc::new(Answers::default());
    store.when_durable(AckTicket::new(answers.clone(), 0));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(outcome) = answers.0.lock().first() {
            return matches!(outcome, AckOutcome::Durable(_));
        }
        assert!(std::time::Instant::now() < deadline, "no outcome");
        std::thread::yield_now();
    }
}

#[test]
fn what_comes_and_goes_before_a_commit_is_not_written_and_what_was_written_is_removed() {
    let mut changes = Changes::<u64, &str>::default();
    changes.put(1, "new", false);
    changes.put(1, "newer", false);
    changes.remove(1);
    assert!(changes.is_empty());
    changes.put(2, "replaces one that may be there", true);
    changes.remove(2);
    changes.remove(3);
    let mut removed: Vec<_> = changes.iter().map(|(key, value)| (*key, value.copied())).collect();
    removed.sort_unstable();
    assert_eq!(removed, [(2, None), (3, None)]);
}

#[test]
fn what_a_failed_commit_may_have_written_is_removed_all_the_same() {
    let mut earlier = Changes::<u64, &str>::default();
    earlier.put(1, "one", false);
    earlier.put(2, "two", false);
    let mut later = Changes::default();
    later.put(2, "two again", true);
    later.remove(3);
    earlier.doubt();
    earlier.then(later);
    earlier.remove(1);
    let mut all: Vec<_> = earlier.iter().map(|(key, value)| (*key, value.copied())).collect();
    all.sort_unstable();
    assert_eq!(all, [(1, None), (2, Some("two again")), (3, None)]);
}

#[test]
fn a_file_that_is_mostly_free_is_made_smaller_and_keeps_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.redb");
    let (database, ..) = open::open(Some(dir.path())).unwrap();
    let large = "x".repeat(64 * 1024);
    let write = |topics: std::ops::Range<u32>, there: bool| {
        let mut pending = Pending::default();
        for topic in topics {
            let topic = format!("t{topic}");
            let message = message(&topic, &large);
            if there {
                let stored = StoredMessage { message, expires_ms: NEVER };
                pending.retained.put((*topic).into(), stored, true);
            } else {
                pending.retained.remove((*topic).into());
            }
        }
        tables::write(&database, &pending).unwrap();
    };
    write(0..128, true);
    write(2..128, false);
    // What a commit frees is free with the next one.
    write(0..1, true);
    let size = || std::fs::metadata(&path).unwrap().len();
    let full = size();
    let database = open::compacted(database, &path, 2 * full).unwrap();
    assert_eq!(size(), full, "it is not worth it");
    let database = open::compacted(database, &path, 1024).unwrap();
    assert!(size() < full / 4, "{} of {full}", size());
    drop(database);
    let (.., loaded) = open::open(Some(dir.path())).unwrap();
    assert_eq!(loaded.retained.len(), 2);
}
