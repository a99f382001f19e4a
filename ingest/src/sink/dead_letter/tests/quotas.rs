//! What is kept when there is too much, and reading beside the writer that deletes.

use super::*;

#[test]
fn a_station_over_its_quota_keeps_beginnings_and_the_others_keep_everything() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeadLetterConfig { station_bytes: 1000, ..DeadLetterConfig::default() };
    let payload: Vec<u8> = (0..600_u32).map(|i| (i % 251) as u8).collect();
    let mut opened = files(dir.path(), config);
    assert_eq!(opened.append(&[letter(1, "bs0001", &payload)], 1).unwrap(), 0);
    // What is already on disk counts after a restart too.
    drop(opened);
    let mut opened = files(dir.path(), config);
    let cut = opened.append(&[letter(2, "bs0001", &payload), letter(2, "bs0002", &payload)], 2);
    assert_eq!(cut.unwrap(), 1);
    let letters = read(dir.path());
    let kept: Vec<_> = letters.iter().map(|l| (l.payload.len(), l.truncated)).collect();
    assert_eq!(kept, [(600, false), (256, true), (600, false)]);
    assert_eq!(letters[1].payload, payload[..256]);
    assert!(letters.iter().all(|l| l.digest == letters[0].digest && l.subject_bytes == 600));
}

#[test]
fn a_payload_longer_than_any_allowed_one_keeps_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let payload = vec![1; KEEP_BYTES + 1];
    let mut opened = files(dir.path(), DeadLetterConfig::default());
    opened.append(&[letter(1, "bs0001", &payload)], 1).unwrap();
    opened.append(&[letter(2, "bs0002", &payload[1..])], 2).unwrap();
    let kept: Vec<_> = read(dir.path()).iter().map(|l| l.payload.len()).collect();
    assert_eq!(kept, [HEAD_BYTES, KEEP_BYTES]);
}

#[test]
fn past_the_total_quota_the_oldest_go_and_their_stations_have_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeadLetterConfig { total_bytes: 64 * 1024, station_bytes: 8 * 1024 };
    let mut opened = files(dir.path(), config);
    opened.append(&[letter(1, "first", &[1; 8 * 1024])], 1).unwrap();
    let mut gone = 0;
    for lsn in 2..500 {
        let station = format!("bs{lsn:04}");
        opened.append(&[letter(lsn, &station, &[1; 500])], lsn).unwrap();
        gone += opened.enforce_quota().unwrap();
        assert!(opened.bytes() <= config.total_bytes);
    }
    let on_disk: u64 =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(on_disk, opened.bytes());
    let left = lsns(dir.path());
    assert_eq!(left.len() as u64 + gone, 499);
    assert_eq!(left, (500 - left.len() as u64..500).collect::<Vec<_>>());
    assert_eq!(opened.append(&[letter(500, "first", &[1; 8 * 1024])], 500).unwrap(), 0);
    // The cursor outlives the segments it was in.
    drop(opened);
    assert_eq!(files(dir.path(), config).cursor(), 500);
}

#[test]
fn reading_beside_the_writer_sees_whole_groups_and_passes_over_deleted_segments() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeadLetterConfig { total_bytes: 16 * 1024, station_bytes: 1 << 20 };
    let mut opened = files(dir.path(), config);
    for lsn in 1..=20 {
        opened.append(&[letter(lsn, "bs0001", &[1; 900])], lsn).unwrap();
    }
    let mut reader = DeadLetters::open_read(Arc::new(RealIo), dir.path()).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().lsn, 1);
    assert!(opened.enforce_quota().unwrap() > 0);
    // Half a group, as a reader may meet it.
    let newest = DeadLetters::open_read(Arc::new(RealIo), dir.path()).unwrap();
    assert_eq!(newest.last().unwrap().unwrap().lsn, 20);
    let mut half = Vec::new();
    push_letter(&LOG, &letter(21, "bs0001", b"x"), 1, b"", &mut half);
    let numbers = super::files::numbers(&RealIo, dir.path()).unwrap();
    let path = segment(dir.path(), *numbers.last().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(&half);
    std::fs::write(&path, bytes).unwrap();
    let rest: Vec<u64> = reader.map(|l| l.unwrap().lsn).collect();
    assert_eq!(rest.last(), Some(&20));
    assert!(rest.windows(2).all(|w| w[0] < w[1]), "{rest:?}");
}
