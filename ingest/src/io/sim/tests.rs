#![allow(clippy::unwrap_used)]

use super::*;
use crate::io::{read_all, write_all_at};

fn folder() -> (SimIo, PathBuf) {
    let io = SimIo::new();
    let dir = PathBuf::from("/data");
    io.create_dir_all(&dir).unwrap();
    (io, dir)
}

#[test]
fn what_was_synced_survives_and_what_was_not_is_forgotten() {
    let (io, dir) = folder();
    let path = dir.join("a");
    let file = io.create_new(&path).unwrap();
    write_all_at(&*file, b"kept", 0).unwrap();
    file.sync_data().unwrap();
    io.sync_dir(&dir).unwrap();
    write_all_at(&*file, b"lost", 4).unwrap();
    assert_eq!(read_all(&io, &path).unwrap(), b"keptlost");
    let after = io.power_loss(1, PowerLoss::ForgetAll);
    assert_eq!(read_all(&after, &path).unwrap(), b"kept");
    assert!(file.write_at(b"x", 0).is_err(), "a handle of the old boot is dead");
    assert!(io.open(&path).is_err(), "the old boot is dead");
}

#[test]
fn a_name_that_was_not_synced_is_forgotten_and_a_killed_process_keeps_all() {
    let (io, dir) = folder();
    let file = io.create_new(&dir.join("a")).unwrap();
    write_all_at(&*file, b"x", 0).unwrap();
    file.sync_data().unwrap();
    let io = io.kill();
    assert_eq!(read_all(&io, &dir.join("a")).unwrap(), b"x");
    let io = io.power_loss(1, PowerLoss::ForgetAll);
    assert_eq!(io.list(&dir).unwrap(), Vec::<String>::new());
}

#[test]
fn a_sync_that_marks_pages_clean_lies_when_it_is_tried_again() {
    let (io, dir) = folder();
    let path = dir.join("a");
    let file = io.create_new(&path).unwrap();
    file.allocate(8).unwrap();
    file.sync_data().unwrap();
    io.sync_dir(&dir).unwrap();
    write_all_at(&*file, b"x", 0).unwrap();
    io.inject(Fault::next(Op::Sync, Failure::SyncLosesPages));
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_ok());
    assert_eq!(read_all(&io, &path).unwrap()[0], b'x');
    let io = io.power_loss(1, PowerLoss::ForgetAll);
    assert_eq!(read_all(&io, &path).unwrap(), [0; 8]);
}

#[test]
fn a_random_part_survives_by_sectors() {
    let mut kinds = BTreeSet::new();
    for seed in 0..64 {
        let (io, dir) = folder();
        let path = dir.join("a");
        let file = io.create_new(&path).unwrap();
        file.allocate(2048).unwrap();
        file.sync_data().unwrap();
        io.sync_dir(&dir).unwrap();
        write_all_at(&*file, &[1; 2048], 0).unwrap();
        let io = io.power_loss(seed, PowerLoss::RandomPart);
        let bytes = read_all(&io, &path).unwrap();
        assert!(bytes.chunks(SECTOR).all(|s| s.iter().all(|b| *b == s[0])));
        kinds.insert(bytes.chunks(SECTOR).map(|s| s[0]).collect::<Vec<_>>());
    }
    assert!(kinds.len() > 8, "all, nothing, and torn ones: {}", kinds.len());
}

#[test]
fn a_full_disk_says_so_and_deleting_makes_room() {
    let (io, dir) = folder();
    io.set_capacity(Some(1000));
    let file = io.create_new(&dir.join("a")).unwrap();
    file.allocate(900).unwrap();
    assert_eq!(io.free_bytes(&dir).unwrap(), 100);
    let error = file.allocate(1001).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    io.remove_file(&dir.join("a")).unwrap();
    assert_eq!(io.free_bytes(&dir).unwrap(), 1000);
}
