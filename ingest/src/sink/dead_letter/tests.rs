#![allow(clippy::unwrap_used)]

mod failing_io;
mod quotas;

use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use loushan_schemas::kind::Kind;
use proptest::prelude::*;
use prost::Message as _;

use self::failing_io::FailingIo;
use super::record::{HEADER_BYTES, Header, push_commit, push_letter, scan};
use super::*;
use crate::io::real::RealIo;
use crate::pipeline::frame::Reject;
use crate::sink::SinkFigures;
use crate::sink::influx::testing::{TestLog, frame, rejected, row};

const LOG: LogIdBytes = *b"sixteen byte id.";
const TOPIC: &str = "nb1/honghuagang/bs0001/u/t";

fn reject(reason: RejectReason, reading: Option<u32>) -> Reject {
    Reject { reason, reading }
}

fn files(dir: &Path, config: DeadLetterConfig) -> LetterFiles {
    LetterFiles::open(Arc::new(RealIo), dir.to_owned(), LOG, config).unwrap()
}

fn letter<'a>(lsn: u64, station: &'a str, subject: &'a [u8]) -> NewLetter<'a> {
    NewLetter {
        lsn,
        received_ns: 1_750_000_000_000_000_000,
        topic: TOPIC,
        station: Some(station),
        why: Why::Rejected(RejectReason::Undecodable),
        reading: None,
        subject,
        keep_whole: true,
        detail: "",
    }
}

fn read(dir: &Path) -> Vec<DeadLetter> {
    let letters = DeadLetters::open_read(Arc::new(RealIo), dir).unwrap();
    letters.collect::<Result<_, _>>().unwrap()
}

fn lsns(dir: &Path) -> Vec<u64> {
    read(dir).iter().map(|l| l.lsn).collect()
}

fn segment(dir: &Path, number: u64) -> std::path::PathBuf {
    dir.join(format!("{number:016}.dead"))
}

/// Runs the sink over a closed log, as a start of the service does.
async fn run(io: Arc<dyn Io>, dir: &Path, log: &TestLog) -> SinkFigures {
    let status = SinkStatus::new("dead_letter");
    let config = DeadLetterConfig::default();
    let sink = DeadLetterSink::open(io, dir.to_owned(), config, LOG, Arc::clone(&status)).unwrap();
    let feed = Feed::new(log.source(), sink.cursor(), Arc::clone(&status));
    sink.run(feed).await.unwrap();
    status.figures()
}

#[test]
fn the_bytes_on_disk_are_these() {
    let mut bytes = Header { log_id: LOG, after: 5 }.encode();
    let letter = NewLetter { reading: Some(2), detail: "why", ..letter(7, "bs0001", b"\x0a\x00") };
    push_letter(&LOG, &letter, 1, b"", &mut bytes);
    push_commit(&LOG, 9, &mut bytes);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, include_str!("golden.hex").trim_end().replace('\n', ""));
    let found = scan(&Bytes::from(bytes)).unwrap();
    assert_eq!((found.groups.len(), found.groups[0].cursor), (1, 9));
    let read = &found.groups[0].letters[0];
    assert_eq!(
        (read.payload.as_ref(), read.truncated, read.subject_bytes),
        (&b"\x0a"[..], true, 2)
    );
}

#[tokio::test]
async fn a_readings_letter_is_a_batch_of_its_own_again() {
    let dir = tempfile::tempdir().unwrap();
    let reading = |imei| loushan_schemas::pb::Reading { imei, ..Default::default() };
    let batch = |readings| loushan_schemas::pb::UplinkBatch {
        schema_major: 1,
        station: "bs0001".into(),
        session: 3,
        seq: 9,
        base_time_ms: 77,
        replay: true,
        readings,
    };
    let payload = batch(vec![reading(1), reading(2), reading(3)]).encode_to_vec();
    let log = TestLog::default();
    log.push(rejected(4, TOPIC, &payload, vec![reject(RejectReason::BadImei, Some(1))]));
    log.push(rejected(5, TOPIC, b"whole", vec![reject(RejectReason::Undecodable, None)]));
    log.close();
    run(Arc::new(RealIo), dir.path(), &log).await;
    let letters = read(dir.path());
    let again = |letter: &DeadLetter| match letter.again() {
        Again::Publish(bytes) => bytes,
        Again::Incomplete => panic!("{letter:?}"),
    };
    let decoded = loushan_schemas::pb::UplinkBatch::decode(again(&letters[0])).unwrap();
    assert_eq!(decoded, batch(vec![reading(2)]));
    assert_eq!(again(&letters[1]), &b"whole"[..]);
    assert_eq!(
        batch_of_one(&payload, 1).unwrap(),
        again(&letters[0]),
        "the log gives the same as the letter"
    );
    let old = DeadLetter { context: Bytes::new(), ..letters[0].clone() };
    assert_eq!(old.again(), Again::Incomplete);
}

#[tokio::test]
async fn a_letter_has_everything_and_a_readings_letter_only_that_readings_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let reading = |imei| loushan_schemas::pb::Reading { imei, ..Default::default() };
    let batch = loushan_schemas::pb::UplinkBatch {
        schema_major: 1,
        station: "bs0001".into(),
        session: 3,
        readings: vec![reading(1), reading(2), reading(3)],
        ..Default::default()
    };
    let payload = batch.encode_to_vec();
    let log = TestLog::default();
    log.push(rejected(4, TOPIC, &payload, vec![reject(RejectReason::BadImei, Some(1))]));
    log.push(frame(5, vec![row(Kind::Parking, 1)]));
    let odd = "nb1/\"quoted\"/x y/\n";
    log.push(rejected(6, odd, b"", vec![reject(RejectReason::MalformedTopic, None)]));
    log.close();
    let figures = run(Arc::new(RealIo), dir.path(), &log).await;
    assert_eq!((figures.cursor, figures.stored, figures.residue()), (6, 1, 0));

    let mut json: Vec<serde_json::Value> = Vec::new();
    for letter in read(dir.path()) {
        let mut line = String::new();
        letter.write_json(&mut line);
        assert!(!line.contains('\n'));
        json.push(serde_json::from_str(&line).unwrap());
    }
    let of_reading = reading(2).encode_to_vec();
    let hex: String = of_reading.iter().map(|b| format!("{b:02x}")).collect();
    let digest = |bytes: &[u8]| format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes));
    assert_eq!(
        json,
        [
            serde_json::json!({
                "lsn": 4, "received_us": 1_750_000_000_000_000_u64, "topic": TOPIC,
                "station": "bs0001", "reason": "bad_imei", "reading": 1,
                "payload_digest": digest(&of_reading), "payload_bytes": of_reading.len(),
                "payload": hex, "truncated": false,
            }),
            serde_json::json!({
                "lsn": 6, "received_us": 1_750_000_000_000_000_u64, "topic": odd,
                "reason": "malformed_topic", "payload_digest": digest(b""), "payload_bytes": 0,
                "payload": "", "truncated": false,
            }),
        ]
    );
}

#[tokio::test]
async fn where_readings_cannot_be_pointed_at_the_payload_is_kept_whole_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut payload = vec![0x28, 0xb5, 0x2f, 0xfd];
    payload.resize(5000, 7);
    let rejects = (0..100).map(|i| reject(RejectReason::BadImei, Some(i))).collect();
    let log = TestLog::default();
    log.push(rejected(1, TOPIC, &payload, rejects));
    log.close();
    run(Arc::new(RealIo), dir.path(), &log).await;
    let letters = read(dir.path());
    assert_eq!(letters.len(), 100);
    assert_eq!((letters[0].payload.as_ref(), letters[0].truncated), (&payload[..], false));
    for letter in &letters[1..] {
        assert_eq!((letter.payload.len(), letter.truncated), (HEAD_BYTES, true));
        assert_eq!((letter.digest, letter.subject_bytes), (letters[0].digest, 5000));
    }
}

/// Three frames with letters, fed to the sink one by one, so that each is a group.
async fn three_groups(dir: &Path) -> TestLog {
    let log = TestLog::default();
    let mut files = files(dir, DeadLetterConfig::default());
    for lsn in [2, 4, 6] {
        let reason = reject(RejectReason::Undecodable, None);
        let frame = rejected(lsn, TOPIC, &[7; 40], vec![reason.clone(), reason]);
        files.append(&letters_of(&frame).letters, lsn).unwrap();
        log.push(frame);
    }
    log.close();
    log
}

#[tokio::test]
async fn wherever_power_is_lost_every_letter_is_there_once_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let log = three_groups(dir.path()).await;
    let sound = std::fs::read(segment(dir.path(), 0)).unwrap();
    for len in 0..=sound.len() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(segment(dir.path(), 0), &sound[..len]).unwrap();
        let figures = run(Arc::new(RealIo), dir.path(), &log).await;
        assert_eq!(figures.cursor, 6);
        assert_eq!(lsns(dir.path()), [2, 2, 4, 4, 6, 6], "cut at {len}");
    }
}

#[tokio::test]
async fn damage_in_the_middle_costs_only_what_it_hit_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    three_groups(dir.path()).await;
    let sound = std::fs::read(segment(dir.path(), 0)).unwrap();
    let ends: Vec<usize> =
        scan(&Bytes::from(sound.clone())).unwrap().groups.iter().map(|g| g.end).collect();
    for at in (HEADER_BYTES..ends[1]).step_by(3) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        std::fs::write(segment(dir.path(), 0), &bytes).unwrap();
        let opened = files(dir.path(), DeadLetterConfig::default());
        assert_eq!((opened.cursor(), opened.corrupt()), (6, 1), "byte {at}");
        assert_eq!(std::fs::read(segment(dir.path(), 0)).unwrap(), bytes, "left in place");
        let mut reader = DeadLetters::open_read(Arc::new(RealIo), dir.path()).unwrap();
        let found: Vec<u64> = reader.by_ref().map(|l| l.unwrap().lsn).collect();
        assert!(found.ends_with(&[6, 6]) && found.len() >= 5, "byte {at}: {found:?}");
        assert_eq!(reader.corrupt(), 1);
    }
    // Above the last commit the same damage is a torn tail: its frame comes again.
    let mut bytes = sound.clone();
    bytes[ends[1] + 20] ^= 0x10;
    std::fs::write(segment(dir.path(), 0), &bytes).unwrap();
    let opened = files(dir.path(), DeadLetterConfig::default());
    // The commit of the third group is sound, so its damaged letter is corrupt, not torn.
    assert_eq!((opened.cursor(), opened.corrupt()), (6, 1));
    let mut bytes = sound;
    let last = bytes.len() - 1;
    bytes[last] ^= 0x10;
    std::fs::write(segment(dir.path(), 0), &bytes).unwrap();
    let opened = files(dir.path(), DeadLetterConfig::default());
    assert_eq!((opened.cursor(), opened.corrupt()), (4, 0));
    assert_eq!(std::fs::metadata(segment(dir.path(), 0)).unwrap().len(), ends[1] as u64);
}

#[test]
fn records_that_a_sender_put_into_a_payload_are_not_letters() {
    let dir = tempfile::tempdir().unwrap();
    let mut forged = Vec::new();
    push_letter(&[0; 16], &letter(99, "bs0666", b"forged"), 100, b"", &mut forged);
    push_commit(&[0; 16], 1_000_000, &mut forged);
    let mut files = files(dir.path(), DeadLetterConfig::default());
    files.append(&[letter(1, "bs0001", &forged)], 1).unwrap();
    files.append(&[letter(2, "bs0001", b"after")], 2).unwrap();
    let path = segment(dir.path(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER_BYTES + 5] ^= 0x40; // the first letter's length: the scan loses its place
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(lsns(dir.path()), [2]);
}

#[test]
fn after_a_failed_sync_the_group_is_written_elsewhere_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let io = FailingIo::default();
    let failing = Arc::clone(&io.failing);
    let config = DeadLetterConfig::default();
    let mut files = LetterFiles::open(Arc::new(io), dir.path().to_owned(), LOG, config).unwrap();
    files.append(&[letter(1, "bs0001", b"one")], 1).unwrap();
    failing.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        files.append(&[letter(2, "bs0001", b"two")], 2).unwrap_err();
    }
    assert_eq!(files.cursor(), 1);
    failing.store(false, Ordering::SeqCst);
    let left = std::fs::read(segment(dir.path(), 0)).unwrap();
    assert_eq!(scan(&Bytes::from(left.clone())).unwrap().groups.len(), 2, "it reached the disk");
    files.append(&[letter(2, "bs0001", b"two")], 2).unwrap();
    assert_eq!(std::fs::read(segment(dir.path(), 0)).unwrap(), left, "never written again");
    assert_eq!(lsns(dir.path()), [1, 2]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "attempts leave no litter");
    drop(files);
    assert_eq!(super::tests::files(dir.path(), config).cursor(), 2);
}

#[test]
fn a_group_whose_sync_failed_does_not_count_once_a_later_segment_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeadLetterConfig::default();
    let mut opened = files(dir.path(), config);
    opened.append(&[letter(1, "bs0001", b"one")], 1).unwrap();
    opened.append(&[letter(2, "bs0001", b"two")], 2).unwrap();
    drop(opened);
    // As if the second sync had failed, the next segment been made, and power been lost then.
    let next = Header { log_id: LOG, after: 1 }.encode();
    std::fs::write(segment(dir.path(), 1), next).unwrap();
    assert_eq!(lsns(dir.path()), [1]);
    let mut opened = files(dir.path(), config);
    assert_eq!(opened.cursor(), 1);
    opened.append(&[letter(2, "bs0001", b"two")], 2).unwrap();
    assert_eq!(lsns(dir.path()), [1, 2]);
}

#[tokio::test]
async fn a_disk_that_refuses_is_named_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let io = FailingIo::default();
    let (failing, failures) = (Arc::clone(&io.failing), Arc::clone(&io.failures));
    let log = TestLog::default();
    log.push(rejected(3, TOPIC, b"x", vec![reject(RejectReason::Undecodable, None)]));
    log.close();
    let status = SinkStatus::new("dead_letter");
    let config = DeadLetterConfig::default();
    let dir_of = dir.path().to_owned();
    let sink = DeadLetterSink::open(Arc::new(io), dir_of, config, LOG, Arc::clone(&status));
    let sink = sink.unwrap();
    failing.store(true, Ordering::SeqCst);
    let task = tokio::spawn(sink.run(Feed::new(log.source(), 0, Arc::clone(&status))));
    let deadline = Instant::now() + Duration::from_secs(30);
    while failures.load(Ordering::SeqCst) < 2 {
        assert!(Instant::now() < deadline, "it does not try again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let figures = status.figures();
    assert_eq!(figures.cursor, 0);
    assert_eq!(figures.trouble.as_deref(), Some("dead letters: the disk does not sync"));
    failing.store(false, Ordering::SeqCst);
    task.await.unwrap().unwrap();
    assert_eq!((status.figures().cursor, status.figures().trouble), (3, None));
    assert_eq!(lsns(dir.path()), [3]);
}

#[test]
fn a_folder_of_another_log_or_a_later_build_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path(), DeadLetterConfig::default()).append(&[letter(1, "bs0001", b"x")], 1).unwrap();
    let open = |log| {
        let config = DeadLetterConfig::default();
        LetterFiles::open(Arc::new(RealIo), dir.path().to_owned(), log, config)
    };
    let error = open([1; 16]).unwrap_err();
    assert!(matches!(error, DeadLetterError::ForeignLog { .. }));
    assert!(error.to_string().contains("0000000000000000.dead"), "{error}");

    let mut bytes = std::fs::read(segment(dir.path(), 0)).unwrap();
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]).to_le_bytes();
    bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc);
    std::fs::write(segment(dir.path(), 0), bytes).unwrap();
    assert!(matches!(open(LOG).unwrap_err(), DeadLetterError::Version { found: 2, .. }));
}

#[tokio::test]
async fn without_letters_the_cursor_moves_too_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = TestLog::default();
    log.push(rejected(2, TOPIC, b"x", vec![reject(RejectReason::Undecodable, None)]));
    log.push(frame(9, vec![row(Kind::Smoke, 1), row(Kind::Smoke, 2)]));
    log.up_to(12);
    log.close();
    let figures = run(Arc::new(RealIo), dir.path(), &log).await;
    assert_eq!((figures.cursor, figures.fed, figures.stored, figures.pending), (12, 2, 2, 0));
    let figures = run(Arc::new(RealIo), dir.path(), &log).await;
    assert_eq!((figures.cursor, figures.fed), (12, 0));
    assert_eq!(lsns(dir.path()), [2]);
}

#[test]
fn a_folder_that_does_not_exist_has_no_letters() {
    assert!(read(Path::new("/nonexistent/dead-letter")).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_bytes_can_panic_the_scan(bytes: Vec<u8>, flips in prop::collection::vec((0_usize..4000, any::<u8>()), 0..8)) {
        let mut segment = Header { log_id: LOG, after: 0 }.encode();
        push_letter(&LOG, &letter(1, "bs0001", &bytes), bytes.len(), b"", &mut segment);
        push_commit(&LOG, 1, &mut segment);
        segment.extend_from_slice(&bytes);
        for (at, mask) in flips {
            if let Some(byte) = segment.get_mut(at) {
                *byte ^= mask;
            }
        }
        if let Ok(found) = scan(&Bytes::from(segment.clone())) {
            prop_assert!(found.end() <= segment.len());
        }
        drop(scan(&Bytes::from(bytes)));
    }

    #[test]
    fn no_payload_can_panic_the_search_for_its_readings(payload: Vec<u8>, reading: Option<u32>) {
        let reject = reject(RejectReason::Undecodable, reading);
        let frame = rejected(1, TOPIC, &payload, vec![reject]);
        prop_assert_eq!(letters_of(&frame).letters.len(), 1);
    }
}
