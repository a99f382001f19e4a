//! Files become fewer, rows stay what they are: whatever is cut off, damaged, full or in the way.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loushan_schemas::kind::Kind;
use loushan_schemas::reading::{Body, Water};

use super::super::compact::plan::Job;
use super::super::compact::{self, CompactError, Done, Leave};
use super::super::manifest::{FileEntry, Level};
use super::super::schema::Table;
use super::super::upkeep::{Bell, Keeper, Turn, Upkeep};
use super::super::{CompactionConfig, EmbeddedConfig, Store};
use super::crash::data_files;
use super::support::{
    DAY, DAY_MS, Driven, dir, exported, frame, imei, open_with, row, rows_of, sorted,
};
use crate::clock::Clock;
use crate::io::Io;
use crate::io::sim::{Failure, Fault, Op, PowerLoss, SimIo};
use crate::pipeline::frame::DurableFrame;

/// Two days after the rows'.
pub(super) const NOW: i64 = DAY + 3 * DAY_MS;

pub(super) fn config() -> EmbeddedConfig {
    let compaction = CompactionConfig {
        min_files: 4,
        quiet: std::time::Duration::ZERO,
        share_percent: 100,
        ..CompactionConfig::default()
    };
    EmbeddedConfig { compaction, ..EmbeddedConfig::default() }
}

/// The upkeep of a store, driven by the test.
pub(super) fn keeper(store: &Store, config: &EmbeddedConfig) -> Keeper {
    let outside = Upkeep { clock: Clock::manual(NOW * 1_000_000), free_floor_bytes: 0 };
    Keeper::new(Arc::clone(&store.0), config, outside, Arc::<Bell>::default())
}

/// Takes steps until there is none to take.
pub(super) fn compact(keeper: &mut Keeper) {
    for _ in 0..100 {
        match keeper.turn() {
            Turn::Again => {}
            Turn::Rest(_) => return,
            Turn::Pause(_) => panic!("a step failed"),
        }
    }
    panic!("it never ends");
}

/// Frame `lsn`: smoke of three devices, a meter with a history, a station's figures.
fn one_frame(lsn: u64) -> Arc<DurableFrame> {
    let at = DAY + i64::try_from(lsn).unwrap() * 60_000;
    let mut water = row(Kind::Water, 5, lsn, at);
    let history = Water {
        history_first_end_s: Some(DAY / 1000 + 60 - at / 1000),
        history_interval_s: Some(60),
        history_delta_l: vec![i32::try_from(lsn).unwrap(), 2],
        ..Water::default()
    };
    // The same interval in every frame: the last word stands. A clock that was not believed says
    // nothing of when it was.
    water.reading.times.measured = loushan_schemas::time::DeviceTime::from_ms(at + DAY_MS / 2);
    water.reading.body = Body::Water(history);
    let mut rows: Vec<_> = (0..3).map(|n| row(Kind::Smoke, n, lsn, at)).collect();
    rows.extend([water, row(Kind::StationStatus, 3, lsn, at)]);
    frame(lsn, rows)
}

pub(super) fn frames(lsns: std::ops::RangeInclusive<u64>) -> Vec<Arc<DurableFrame>> {
    lsns.map(one_frame).collect()
}

/// A store in which every frame has files of its own.
pub(super) fn scattered(io: impl Io, log: &[Arc<DurableFrame>]) -> Driven {
    let mut driven = Driven::with(open_with(io, config()).0);
    for frame in log {
        driven.push(std::slice::from_ref(frame));
        driven.flush().unwrap();
    }
    driven
}

pub(super) fn files(store: &Store) -> Vec<Arc<FileEntry>> {
    store.0.state.read().files.files.values().cloned().collect()
}

/// All files of a table as one step.
fn job(store: &Store, table: Table) -> Job {
    let all = files(store);
    let inputs: Vec<_> = all.into_iter().filter(|file| file.table == table).collect();
    let partition = (table, inputs[0].day);
    Job { partition, inputs, level: Level::Settled, part_bytes: u64::MAX }
}

fn run(store: &Store, table: Table, go_on: &mut dyn FnMut() -> bool) -> Result<Done, CompactError> {
    let job = job(store, table);
    compact::run(&store.0, &job, &mut Leave { floor_bytes: 0, go_on })
}

pub(super) fn intervals(store: &Store) -> Vec<(i64, i32, u64)> {
    let found = store.water_intervals(imei(5), 0, i64::MAX).unwrap();
    found.iter().map(|i| (i.interval_end.ms(), i.delta_l, i.lsn)).collect()
}

#[test]
fn a_quiet_day_becomes_one_file_of_each_table_and_every_answer_stays() {
    let io = SimIo::new();
    let log = frames(1..=30);
    let driven = scattered(io.clone(), &log);
    let store = &driven.store;
    let asked = |store: &Store| {
        let history = store.history(imei(1), DAY, DAY + DAY_MS, 100).unwrap();
        let count = store.count(None, DAY + 5 * 60_000, DAY + 20 * 60_000).unwrap();
        let contains = (0..40).map(|seq| {
            let at = loushan_schemas::time::DeviceTime::from_ms(DAY + seq * 60_000);
            store.contains(imei(1), 1, u64::try_from(seq).unwrap(), Kind::Smoke, at).unwrap()
        });
        (history, count, contains.collect::<Vec<_>>(), intervals(store), exported(store, 7))
    };
    let before = asked(store);
    compact(&mut keeper(store, &config()));
    let entries = files(store);
    assert_eq!(entries.len(), 4, "smoke, water, its intervals, station status");
    assert!(entries.iter().all(|file| file.level != Level::Flushed));
    assert_eq!(asked(store), before);
    assert_eq!(intervals(store), [(DAY + 60_000, 30, 30), (DAY + 120_000, 2, 30)]);
    let smoke = entries.iter().find(|file| file.table == Table::Readings(Kind::Smoke)).unwrap();
    assert_eq!((smoke.rows, smoke.min_lsn, smoke.max_lsn), (90, 1, 30));
    assert_eq!(smoke.imei, Some((imei(0).get(), imei(2).get())));
    assert_eq!((smoke.min_ms, smoke.max_ms), (DAY + 60_000, DAY + 30 * 60_000));
    assert_eq!(smoke.measured_ms, Some((smoke.min_ms, smoke.max_ms)));
    assert!(!smoke.unmeasured);
    // What was merged is deleted, and only that.
    assert_eq!(store.0.clear_graves(), 0);
    assert_eq!(data_files(&io).len(), 4);
    let again = open_with(io, config()).0;
    assert_eq!(asked(&again), before);
    assert_eq!(exported(&again, 0), rows_of(&log));
}

#[test]
fn a_live_day_is_merged_by_size_and_a_day_is_left_alone_until_it_is_over() {
    let io = SimIo::new();
    let driven = scattered(io, &frames(1..=3));
    let mut keeper = keeper(&driven.store, &config());
    let live = Upkeep { clock: Clock::manual((DAY + DAY_MS / 2) * 1_000_000), free_floor_bytes: 0 };
    let mut today =
        Keeper::new(Arc::clone(&driven.store.0), &config(), live, Arc::<Bell>::default());
    compact(&mut today);
    assert_eq!(files(&driven.store).len(), 12, "three of a size are too few");
    compact(&mut keeper);
    assert_eq!(files(&driven.store).len(), 4, "two days later they are not waited for");
}

#[test]
fn rows_that_come_while_files_are_merged_are_seen_once_at_every_moment() {
    let io = SimIo::new();
    let log = frames(1..=24);
    let mut driven = scattered(io.clone(), &log[..8]);
    let store = driven.store.clone();
    let mut given = 8;
    let done = run(&store, Table::Readings(Kind::Smoke), &mut || {
        // A frame comes, is flushed, is asked for, in the middle of the merge.
        driven.push(&log[given..=given]);
        assert_eq!(exported(&store, 0), rows_of(&log[..=given]));
        driven.flush().unwrap();
        given += 1;
        assert_eq!(exported(&store, 0), rows_of(&log[..given]));
        true
    });
    assert_eq!(done.unwrap().files_in, 8);
    assert!(given > 8);
    assert_eq!(exported(&store, 0), rows_of(&log[..given]));
    let again = open_with(io.kill(), config()).0;
    assert_eq!(exported(&again, 0), rows_of(&log[..given]));
}

#[test]
fn flushes_merges_and_questions_at_once_lose_and_double_nothing() {
    let io = SimIo::new();
    let log = frames(1..=120);
    let driven = scattered(io.clone(), &[]);
    let store = driven.store.clone();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut driven = driven;
            for frame in &log {
                driven.push(std::slice::from_ref(frame));
                driven.flush().unwrap();
            }
            over.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            let mut keeper = keeper(&store, &config());
            while !over.load(Ordering::SeqCst) {
                assert!(!matches!(keeper.turn(), Turn::Pause(_)), "a step failed");
                store.0.clear_graves();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let least = store.as_of_lsn();
                    let mut seen = Vec::new();
                    let as_of = store.export(0, &mut |row| {
                        seen.push((row.lsn, row.reading.kind() as u8, row.reading.imei));
                        ControlFlow::Continue(())
                    });
                    let as_of = as_of.unwrap();
                    assert!(as_of >= least);
                    let rows = seen.len() as u64;
                    seen.sort_unstable();
                    seen.dedup();
                    assert_eq!((seen.len() as u64, rows), (as_of * 5, as_of * 5));
                }
            });
        }
    });
    compact(&mut keeper(&store, &config()));
    assert_eq!(exported(&store, 0), rows_of(&log));
    assert_eq!(files(&store).len(), 4);
    assert_eq!(store.0.clear_graves(), 0);
    assert_eq!(data_files(&io).len(), 4);
}

#[test]
fn a_reader_keeps_the_files_of_its_version_readable_until_it_lets_go() {
    let io = SimIo::new();
    let log = frames(1..=8);
    let driven = scattered(io.clone(), &log);
    let held = Arc::clone(&driven.store.0.state.read().files);
    let mut keeper = keeper(&driven.store, &config());
    compact(&mut keeper);
    assert_eq!(driven.store.0.clear_graves(), 32, "all are still read");
    assert_eq!(data_files(&io).len(), 36);
    for file in held.files.values() {
        let mut rows = 0;
        for batch in driven.store.0.files.scan(file, &[], None).unwrap() {
            rows += batch.unwrap().num_rows() as u64;
        }
        assert_eq!(rows, file.rows, "file {}", file.id);
    }
    drop(held);
    assert_eq!(driven.store.0.clear_graves(), 0);
    assert_eq!(data_files(&io).len(), 4);
    assert_eq!(exported(&driven.store, 0), rows_of(&log));
}

#[test]
fn a_damaged_file_is_left_alone_and_named_and_the_others_are_merged() {
    let io = SimIo::new();
    let log = frames(1..=8);
    let driven = scattered(io.clone(), &log);
    let smoke = |store: &Store| -> Vec<Arc<FileEntry>> {
        let of = |file: &Arc<FileEntry>| file.table == Table::Readings(Kind::Smoke);
        files(store).into_iter().filter(of).collect()
    };
    let bad = Arc::clone(&smoke(&driven.store)[3]);
    let path: PathBuf = dir().join(bad.path());
    io.flip_bit(&path, bad.bytes / 2, 3).unwrap();
    let mut keeper = keeper(&driven.store, &config());
    compact(&mut keeper);
    let left = smoke(&driven.store);
    assert_eq!(left.len(), 2);
    assert!(left.contains(&bad));
    assert_eq!(left.iter().map(|file| file.rows).sum::<u64>(), 24);
    let told = driven.store.upkeep_trouble().unwrap();
    assert!(told.contains(&format!("{:010}.parquet", bad.id)), "{told}");
    driven.store.0.clear_graves();
    // Mended, it is as it was.
    io.flip_bit(&path, bad.bytes / 2, 3).unwrap();
    assert_eq!(exported(&driven.store, 0), rows_of(&log));
}

#[test]
fn a_file_that_cannot_be_read_is_tried_again_and_keeps_no_other_from_being_merged() {
    let io = SimIo::new();
    let log = frames(1..=8);
    let driven = scattered(io.clone(), &log);
    let bad = Arc::clone(&files(&driven.store)[0]);
    let path = format!("{:010}", bad.id);
    io.inject(Fault { op: Op::Read, path, after: 0, times: u64::MAX, failure: Failure::Errno(5) });
    let mut keeper = keeper(&driven.store, &config());
    let mut failed = 0;
    loop {
        match keeper.turn() {
            Turn::Again => {}
            Turn::Pause(_) => failed += 1,
            Turn::Rest(_) => break,
        }
    }
    assert_eq!(failed, 4, "the fifth time it is left alone");
    assert_eq!(files(&driven.store).len(), 5);
    assert!(files(&driven.store).contains(&bad));
    assert!(driven.store.upkeep_trouble().unwrap().contains("left out"));
    io.clear_faults();
    assert_eq!(exported(&driven.store, 0), rows_of(&log));
}

#[test]
fn a_full_disk_ends_a_step_leaves_nothing_behind_and_is_waited_out() {
    let io = SimIo::new();
    let log = frames(1..=8);
    let driven = scattered(io.clone(), &log);
    let before = data_files(&io);
    let used = io.used_bytes();
    // No room at all: nothing is begun.
    io.set_free_bytes(Some(100));
    let mut keeper = keeper(&driven.store, &config());
    assert!(matches!(keeper.turn(), Turn::Pause(_)));
    assert!(driven.store.upkeep_trouble().unwrap().contains("free"));
    assert_eq!((data_files(&io), io.used_bytes()), (before.clone(), used));
    // It becomes full in the middle.
    io.set_free_bytes(None);
    for after in 0..3 {
        let failure = Failure::Errno(28);
        let path = ".tmp".to_owned();
        io.inject(Fault { op: Op::Write, path, after, times: 1, failure });
        let failed = matches!(keeper.turn(), Turn::Pause(_));
        assert_eq!(failed, !io.clear_faults(), "write {after}");
        if failed {
            assert_eq!((data_files(&io), io.used_bytes()), (before.clone(), used));
            assert!(driven.store.upkeep_trouble().is_some());
        }
    }
    compact(&mut keeper);
    assert_eq!(driven.store.upkeep_trouble(), None);
    assert_eq!(files(&driven.store).len(), 4);
    assert_eq!(exported(&driven.store, 0), rows_of(&log));
}

#[test]
fn a_commit_that_fails_is_made_again_and_nothing_is_deleted_before_it_succeeds() {
    for crash in [false, true] {
        let io = SimIo::new();
        let log = frames(1..=8);
        let mut driven = scattered(io.clone(), &log[..7]);
        let mut keeper = keeper(&driven.store, &config());
        for op in [Op::Write, Op::Sync] {
            let failure = if op == Op::Sync { Failure::SyncKeepsPages } else { Failure::Errno(28) };
            io.inject(Fault { op, path: "MANIFEST".to_owned(), after: 0, times: 1, failure });
            assert!(matches!(keeper.turn(), Turn::Pause(_)));
            assert!(!io.clear_faults());
            driven.store.0.clear_graves();
            assert_eq!(exported(&driven.store, 0), rows_of(&log[..7]));
        }
        if crash {
            let found = open_with(io.power_loss(3, PowerLoss::RandomPart), config()).0;
            assert_eq!(exported(&found, 0), rows_of(&log[..7]));
            continue;
        }
        driven.push(&log[7..]);
        driven.flush().unwrap();
        compact(&mut keeper);
        assert_eq!(exported(&driven.store, 0), rows_of(&log));
    }
}

#[test]
fn a_step_that_is_cancelled_or_overtaken_leaves_the_store_as_it_was() {
    let io = SimIo::new();
    let log = frames(1..=8);
    let driven = scattered(io.clone(), &log);
    let store = &driven.store;
    let before = data_files(&io);
    let stopped = run(store, Table::Readings(Kind::Smoke), &mut || false);
    assert!(matches!(stopped, Err(CompactError::Stopped)));
    assert_eq!(data_files(&io), before);
    // Another merge of the same files commits first.
    let mut once = true;
    let overtaken = run(store, Table::Readings(Kind::Smoke), &mut || {
        if std::mem::take(&mut once) {
            run(store, Table::Readings(Kind::Smoke), &mut || true).unwrap();
        }
        true
    });
    assert!(matches!(overtaken, Err(CompactError::Overtaken)));
    assert_eq!(exported(store, 0), rows_of(&log));
    store.0.clear_graves();
    assert_eq!(data_files(&io).len(), 25);
}

#[test]
fn large_files_are_cut_between_devices_and_a_step_may_end_in_the_middle_of_one() {
    let io = SimIo::new();
    let rows = |from: u64| -> Vec<_> {
        let one = |n: u64| {
            row(
                Kind::Elevator,
                n / 40,
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                DAY + i64::try_from(n % 40 + from).unwrap(),
            )
        };
        (0..200_000).map(one).collect()
    };
    let log = [frame(1, rows(0)), frame(2, rows(100))];
    let driven = scattered(io.clone(), &log);
    let before = data_files(&io);
    let mut batches = 0;
    let stopped = run(&driven.store, Table::Readings(Kind::Elevator), &mut || {
        batches += 1;
        batches < 30
    });
    assert!(matches!(stopped, Err(CompactError::Stopped)), "in the middle of a file");
    assert_eq!(data_files(&io), before);
    let bytes: u64 = files(&driven.store).iter().map(|file| file.bytes).sum();
    let small = CompactionConfig { target_bytes: bytes / 3, ..config().compaction };
    let config = EmbeddedConfig { compaction: small, ..config() };
    compact(&mut keeper(&driven.store, &config));
    let mut ranges: Vec<_> =
        files(&driven.store).iter().map(|f| (f.imei.unwrap(), f.rows)).collect();
    ranges.sort_unstable();
    assert!(ranges.len() >= 2, "{ranges:?}");
    assert!(ranges.windows(2).all(|two| two[0].0.1 < two[1].0.0), "{ranges:?}");
    assert_eq!(ranges.iter().map(|(_, rows)| rows).sum::<u64>(), 400_000);
    assert_eq!(sorted(exported(&driven.store, 0)), rows_of(&log));
}
