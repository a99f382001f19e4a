//! The machine stops at every step of a merge and of a removal; what is removed; snapshots.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loushan_schemas::kind::Kind;
use loushan_schemas::time::DeviceTime;

use super::super::manifest::Manifest;
use super::super::upkeep::Turn;
use super::super::{EmbeddedConfig, KindRetention, RetentionConfig, SnapshotError, Store};
use super::compaction::{NOW, compact, config, files, frames, intervals, keeper, scattered};
use super::crash::{Fuel, data_files};
use super::support::{DAY, Driven, dir, exported, frame, imei, open_with, row, rows_of};
use crate::io::sim::{Failure, Fault, Op, PowerLoss, SimIo};

/// Ways for a machine to stop.
const ENDINGS: [fn(&SimIo) -> SimIo; 4] = [
    SimIo::kill,
    |io| io.power_loss(1, PowerLoss::ForgetAll),
    |io| io.power_loss(2, PowerLoss::RandomPart),
    |io| io.power_loss(3, PowerLoss::RandomPart),
];

/// What is on the disk is what the manifest names.
fn assert_no_strays(io: &SimIo, what: &str) {
    let named = Manifest::find(io, &dir()).unwrap().unwrap().contents.files;
    let mut named: Vec<_> = named.values().map(|file| file.path().display().to_string()).collect();
    named.sort();
    assert_eq!(data_files(io), named, "{what}");
}

#[test]
fn whenever_the_machine_stops_during_a_merge_every_row_is_there_once() {
    let log = frames(1..=5);
    let mut outcomes = BTreeSet::new();
    for fuel in 0.. {
        let mut over = false;
        for end in ENDINGS {
            let io = SimIo::new();
            let tank = Fuel::full(&io);
            let driven = scattered(tank.clone(), &log);
            tank.leave(fuel);
            let mut upkeep = keeper(&driven.store, &config());
            while upkeep.turn() == Turn::Again {
                driven.store.0.clear_graves();
            }
            over = driven.store.upkeep_trouble().is_none();
            let io = end(&io);
            let store = open_with(io.clone(), config()).0;
            let what = format!("fuel {fuel}");
            assert_eq!(store.cursor(), 5, "{what}");
            assert_eq!(exported(&store, 0), rows_of(&log), "{what}");
            assert_eq!(intervals(&store)[0], (DAY + 60_000, 5, 5), "{what}");
            assert_no_strays(&io, &what);
            outcomes.insert(files(&store).len());
            compact(&mut keeper(&store, &config()));
            assert_eq!(files(&store).len(), 4, "{what}");
            assert_eq!(exported(&store, 0), rows_of(&log), "{what}");
        }
        if over {
            assert!(fuel > 30, "four merges take more steps than {fuel}");
            break;
        }
    }
    assert_eq!(outcomes, BTreeSet::from([20, 16, 12, 8, 4]), "every number of merges was seen");
}

/// Keeps a kind for a day.
fn keeping_a_day(kind: Kind) -> EmbeddedConfig {
    let limits = KindRetention { age: Some(Duration::from_secs(86_400)), bytes: None };
    let retention = RetentionConfig { bytes: None, kinds: [(kind, limits)].into() };
    EmbeddedConfig { retention, ..config() }
}

#[test]
fn whenever_the_machine_stops_while_a_day_is_removed_it_is_there_whole_or_not_at_all() {
    let config = keeping_a_day(Kind::Water);
    let log = frames(1..=3);
    let mut rest = rows_of(&log);
    rest.retain(|row| row.reading.kind() != Kind::Water);
    let mut outcomes = BTreeSet::new();
    for fuel in 0..20 {
        for end in ENDINGS {
            let io = SimIo::new();
            let tank = Fuel::full(&io);
            let mut driven = Driven::with(open_with(tank.clone(), config.clone()).0);
            // The clock is believed up to a day after the newest reading.
            let newest = frame(4, vec![row(Kind::Elevator, 1, 1, NOW)]);
            for frame in log.iter().chain([&newest]) {
                driven.push(std::slice::from_ref(frame));
                driven.flush().unwrap();
            }
            let planned = driven.store.expired(NOW);
            assert_eq!(planned.len(), 1);
            assert_eq!((planned[0].kind, planned[0].rows, planned[0].files), (Kind::Water, 3, 6));
            tank.leave(fuel);
            let went = driven.store.expire(NOW);
            driven.store.0.clear_graves();
            if let Ok(went) = &went {
                assert_eq!(*went, planned);
                assert_eq!(driven.store.expired(NOW), []);
            }
            let io = end(&io);
            let store = open_with(io.clone(), config.clone()).0;
            assert_no_strays(&io, &format!("fuel {fuel}"));
            let mut found = exported(&store, 0);
            found.retain(|row| row.reading.kind() != Kind::Elevator);
            let whole = found == rows_of(&log);
            assert!(whole || (found == rest && intervals(&store).is_empty()), "fuel {fuel}");
            assert!(!whole || went.is_err(), "what was told to be gone is gone");
            outcomes.insert((whole, went.is_ok()));
        }
    }
    assert!(outcomes.contains(&(true, false)) && outcomes.contains(&(false, true)));
}

#[test]
fn a_reading_sent_again_after_its_day_was_removed_is_new_and_there_once_until_the_next_look() {
    let mut driven = Driven::with(open_with(SimIo::new(), keeping_a_day(Kind::Smoke)).0);
    let old = |lsn| frame(lsn, vec![row(Kind::Smoke, 1, 1, DAY)]);
    let newest = frame(2, vec![row(Kind::Elevator, 1, 1, NOW)]);
    driven.push(&[old(1), newest]);
    driven.flush().unwrap();
    let known = |store: &Store| {
        store.contains(imei(1), 1, 1, Kind::Smoke, DeviceTime::from_ms(DAY)).unwrap()
    };
    assert!(known(&driven.store));
    assert_eq!(driven.store.expire(NOW).unwrap().len(), 1);
    assert!(!known(&driven.store));
    driven.push(&[old(3)]);
    driven.flush().unwrap();
    assert!(known(&driven.store));
    assert_eq!(driven.store.count(Some(Kind::Smoke), 0, i64::MAX).unwrap(), 1);
    assert_eq!(driven.store.expire(NOW).unwrap().len(), 1);
    assert_eq!(driven.store.count(None, 0, i64::MAX).unwrap(), 1);
}

#[test]
fn a_snapshot_is_a_store_of_its_own_that_nothing_is_taken_from() {
    let io = SimIo::new();
    let log = frames(1..=8);
    let driven = scattered(io.clone(), &log[..7]);
    driven.push(&log[7..]);
    let parent = PathBuf::from("/data/snapshots");
    let taken = driven.store.snapshot(&parent, "monday").unwrap();
    assert_eq!((taken.cursor, taken.files, taken.rows), (7, 28, 35));
    assert_eq!(taken.path, parent.join("monday"));
    compact(&mut keeper(&driven.store, &config()));
    driven.store.0.clear_graves();
    let opened = |io: SimIo| {
        Store::open_read_only(Arc::new(io), &parent.join("monday"), &config()).unwrap().unwrap()
    };
    assert_eq!(exported(&opened(io.clone()), 0), rows_of(&log[..7]));
    for name in ["", ".", "..", "a/b", "a b", "é", &"x".repeat(65)] {
        let refused = driven.store.snapshot(&parent, name);
        assert!(matches!(refused, Err(SnapshotError::Name(_))), "{name:?}: {refused:?}");
    }
    let again = driven.store.snapshot(&parent, "monday");
    assert!(matches!(again, Err(SnapshotError::Exists(_))));
    let used = io.used_bytes();
    let failure = Failure::Errno(28);
    let of = "snapshots/tuesday".to_owned();
    io.inject(Fault { op: Op::Create, path: of, after: 2, times: 1, failure });
    assert!(matches!(driven.store.snapshot(&parent, "tuesday"), Err(SnapshotError::Io { .. })));
    assert_eq!(io.used_bytes(), used, "what was made of it is gone");
    let io = io.power_loss(1, PowerLoss::ForgetAll);
    assert_eq!(exported(&opened(io), 0), rows_of(&log[..7]));
}
