#![allow(clippy::unwrap_used)]

use super::*;
use crate::io::sim::{Failure, Fault, Op, SimIo};

fn log() -> LogId {
    let mut bytes = [0; 16];
    bytes[0] = 1;
    bytes[8] = 2;
    LogId::from_bytes(bytes)
}

fn file(id: u64) -> Arc<FileEntry> {
    Arc::new(FileEntry {
        id,
        table: Table::WaterInterval,
        day: 20_781,
        rows: 24,
        bytes: 70_000,
        min_lsn: 3,
        max_lsn: 9,
        min_ms: 1_795_478_400_000,
        max_ms: 1_795_478_400_001,
        imei: Some((10, 20)),
        measured_ms: None,
        unmeasured: false,
        blocks: vec![1, u32::MAX],
        level: Level::Flushed,
    })
}

fn edit(cursor: u64, add: &[u64], remove: &[u64]) -> Edit {
    Edit {
        cursor,
        next_lsn: cursor + 1,
        next_file: add.iter().max().map_or(0, |id| id + 1),
        add: add.iter().map(|id| file(*id)).collect(),
        remove: remove.to_vec(),
    }
}

fn fresh() -> (SimIo, PathBuf, Manifest) {
    let io = SimIo::new();
    let dir = PathBuf::from("/store");
    io.create_dir_all(&dir).unwrap();
    let manifest = Manifest::open(Arc::new(io.clone()), &dir, log(), None).unwrap();
    (io, dir, manifest)
}

fn found(io: &SimIo, dir: &Path) -> Contents {
    Manifest::find(io, dir).unwrap().unwrap().contents
}

#[test]
fn the_bytes_are_pinned() {
    let (io, dir, mut manifest) = fresh();
    manifest.commit(&edit(9, &[1], &[])).unwrap();
    manifest.commit(&edit(12, &[], &[1])).unwrap();
    let text = String::from_utf8(read_all(&io, &dir.join(NAME)).unwrap()).unwrap();
    let golden = include_str!("golden_manifest.txt");
    assert_eq!(text, golden);
}

#[test]
fn a_file_lies_in_the_folder_of_its_table_and_date() {
    assert_eq!(
        file(7).path(),
        PathBuf::from("kind=water_interval/date=2026-11-24/0000000007.parquet")
    );
}

#[test]
fn records_add_up_and_survive_reopening_and_rewriting() {
    let (io, dir, mut manifest) = fresh();
    for n in 1..=RECORDS_BEFORE_CHECKPOINT + 10 {
        let remove = if n > 2 { vec![n - 2] } else { vec![] };
        manifest.commit(&edit(n * 10, &[n], &remove)).unwrap();
        if n % 400 == 0 {
            assert_eq!(found(&io, &dir), **manifest.contents());
        }
    }
    let end = RECORDS_BEFORE_CHECKPOINT + 10;
    let lines = read_all(&io, &dir.join(NAME)).unwrap().split(|b| *b == b'\n').count();
    assert!(lines < 100, "the manifest was not written anew: {lines} lines");
    let contents = found(&io, &dir);
    assert_eq!(contents.files.keys().copied().collect::<Vec<_>>(), [end - 1, end]);
    assert_eq!((contents.cursor, contents.next_file), (end * 10, end + 1));
    let again = Manifest::find(&io, &dir).unwrap();
    let manifest = Manifest::open(Arc::new(io), &dir, log(), again).unwrap();
    assert_eq!(**manifest.contents(), contents);
}

#[test]
fn any_cut_of_the_last_record_is_taken_as_torn_and_any_other_damage_is_refused() {
    let (io, dir, mut manifest) = fresh();
    manifest.commit(&edit(5, &[1], &[])).unwrap();
    let before = read_all(&io, &dir.join(NAME)).unwrap();
    let committed = Contents::clone(manifest.contents());
    manifest.commit(&edit(9, &[2], &[])).unwrap();
    let whole = read_all(&io, &dir.join(NAME)).unwrap();
    for len in before.len()..whole.len() {
        assert_eq!(parse(&whole[..len]).unwrap().contents, committed, "cut to {len}");
    }
    for len in 0..before.len() {
        match parse(&whole[..len]) {
            Ok(found) => assert_eq!(found.contents.cursor, 0, "cut to {len}"),
            Err(why) => assert!(why.contains("damaged"), "cut to {len}: {why}"),
        }
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        match parse(&bytes) {
            Ok(found) => {
                assert!(at >= before.len(), "a flip at {at} went unnoticed");
                assert_eq!(found.contents, committed, "a flip at {at}");
            }
            Err(why) => assert!(at < before.len(), "a flip at {at}: {why}"),
        }
    }
}

#[test]
fn a_foreign_log_is_refused() {
    let (io, dir, manifest) = fresh();
    drop(manifest);
    let found = Manifest::find(&io, &dir).unwrap();
    let error = Manifest::open(Arc::new(io), &dir, LogId::from_bytes([9; 16]), found).unwrap_err();
    assert!(matches!(error, OpenError::ForeignLog { .. }), "{error}");
}

#[test]
fn after_a_failed_sync_the_old_file_is_never_written_again() {
    for failure in [Failure::SyncLosesPages, Failure::SyncKeepsPages, Failure::Errno(5)] {
        let (io, dir, mut manifest) = fresh();
        manifest.commit(&edit(5, &[1], &[])).unwrap();
        io.inject(Fault::next(Op::Sync, failure));
        manifest.commit(&edit(9, &[2], &[])).unwrap_err();
        assert_eq!(manifest.contents().cursor, 5);
        manifest.commit(&edit(9, &[2], &[])).unwrap();
        manifest.commit(&edit(11, &[3], &[])).unwrap();
        let io = io.power_loss(1, crate::io::sim::PowerLoss::ForgetAll);
        let contents = found(&io, &dir);
        assert_eq!(contents.files.keys().copied().collect::<Vec<_>>(), [1, 2, 3], "{failure:?}");
        assert_eq!(contents.cursor, 11);
    }
}
