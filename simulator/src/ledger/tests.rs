#![allow(clippy::unwrap_used)]

use std::fs;

use loushan_schemas::reject::RejectReason;
use loushan_schemas::topic::Channel;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;

const RUN: RunRecord = RunRecord { seed: 1, start_ms: 1_790_000_000_000, shape: 5 };

fn batch(seq: u64, readings: u64) -> BatchRecord {
    BatchRecord {
        id: seq,
        station: "bs0001".into(),
        session: 0xfeed,
        seq,
        channel: Channel::Telemetry,
        payload_digest: u128::MAX - u128::from(seq),
        promised: true,
        due_ms: 1_790_000_000_000,
        sent_ms: 1_790_000_005_000,
        readings: (0..readings)
            .map(|n| {
                let measured_ms = (n != 2).then_some(1_790_000_000_000 - i64::try_from(n).unwrap());
                let digest = n.wrapping_mul(7);
                let meant = Meant { imei: 86, boot_epoch: 3, seq: n, kind: 5, measured_ms, digest };
                let expected = (n == 1).then_some(RejectReason::BadImei);
                LedgerReading { meant, expected, marks: Marks::default() }
            })
            .collect(),
    }
}

fn read(path: &Path) -> (Vec<Record>, LedgerReader) {
    let mut reader = LedgerReader::open(path).unwrap();
    let mut all = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        all.push(record);
    }
    (all, reader)
}

fn records(path: &Path) -> (Vec<Record>, bool) {
    let (all, reader) = read(path);
    (all, reader.torn())
}

#[test]
fn what_was_written_is_read_and_ids_go_on_in_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::open(&path, RUN).unwrap();
    assert_eq!(ledger.batch(&batch(0, 3)).unwrap(), 0);
    ledger.acknowledged(0, 17, true).unwrap();
    assert_eq!(records(&path).0.len(), 2, "acknowledgements wait for the next batch");
    assert_eq!(ledger.batch(&batch(1, 0)).unwrap(), 1);
    ledger.sent_again(1).unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path, RunRecord { start_ms: 1_790_000_001_000, ..RUN }).unwrap();
    assert_eq!(ledger.batch(&batch(2, 1)).unwrap(), 2);
    let (all, torn) = records(&path);
    assert!(!torn);
    assert_eq!(all.len(), 7);
    assert_eq!(all[0], Record::Run(RUN));
    assert_eq!(all[1], Record::Batch(batch(0, 3)));
    assert_eq!(all[2], Record::Acknowledged { id: 0, at_ms: 17, refused: true });
    assert_eq!(all[4], Record::SentAgain { id: 1 });
    assert_eq!(all[6], Record::Batch(batch(2, 1)));
}

#[test]
fn faults_keep_their_numbers_from_run_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::open(&path, RUN).unwrap();
    let both = ledger.marks(&["clock_1970", "reorder"]).unwrap();
    assert_eq!(
        both,
        ledger.marks(&["reorder"]).unwrap().and(ledger.marks(&["clock_1970"]).unwrap())
    );
    let mut marked = batch(0, 3);
    marked.readings[2].marks = both;
    ledger.batch(&marked).unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path, RUN).unwrap();
    assert_eq!(ledger.marks(&["reorder", "clock_1970"]).unwrap(), both);
    let (all, reader) = read(&path);
    assert_eq!(all[1], Record::Batch(marked));
    assert_eq!(reader.faults().iter().map(|f| &**f).collect::<Vec<_>>(), ["clock_1970", "reorder"]);
    for n in 2..MARKS {
        ledger.marks(&[&format!("fault {n}")]).unwrap();
    }
    let error = ledger.marks(&["one too many"]).unwrap_err().to_string();
    assert!(error.contains("one too many"), "{error}");
}

#[test]
fn a_tail_cut_anywhere_leaves_the_records_before_it_and_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::open(&path, RUN).unwrap();
    ledger.batch(&batch(0, 2)).unwrap();
    let before = fs::metadata(&path).unwrap().len();
    ledger.batch(&batch(1, 2)).unwrap();
    drop(ledger);
    let whole = fs::read(&path).unwrap();
    for cut in usize::try_from(before).unwrap()..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (all, torn) = records(&path);
        assert_eq!(all.len(), 2, "cut at {cut}");
        assert_eq!(torn, cut as u64 != before);
        let ledger = Ledger::open(&path, RUN).unwrap();
        assert_eq!(ledger.batch(&batch(1, 1)).unwrap(), 1);
        drop(ledger);
        let (all, torn) = records(&path);
        assert_eq!((all.len(), torn), (4, false));
    }
}

#[test]
fn a_run_whose_keys_would_mean_two_things_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    drop(Ledger::open(&path, RUN).unwrap());
    drop(Ledger::open(&path, RUN).unwrap());
    let error = Ledger::open(&path, RunRecord { shape: 6, ..RUN }).unwrap_err().to_string();
    assert!(error.contains("--start"), "{error}");
}

#[test]
fn a_file_of_something_else_or_of_another_version_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    for bytes in [&b"something else"[..], b"LSLE", b"LSLEDGxx and more"] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(Ledger::open(&path, RUN), Err(LedgerError::Foreign { .. })));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, b"LSLEDG01 and what version 1 wrote").unwrap();
    let error = Ledger::open(&path, RUN).unwrap_err().to_string();
    assert!(error.contains("is of version 1, this program reads and writes version 2"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"LSLEDG01 and what version 1 wrote");
}

/// What this build does not know is no torn tail that may be cut off.
#[test]
fn a_whole_block_of_a_later_program_is_refused_and_not_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    drop(Ledger::open(&path, RUN).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let mut body = Vec::new();
    Base::default().encode(&mut body);
    body.push(200);
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(Ledger::open(&path, RUN), Err(LedgerError::Unknown { .. })));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn version_2_is_these_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::open(&path, RUN).unwrap();
    let mut first = batch(0, 2);
    first.readings[0].marks = ledger.marks(&["reorder"]).unwrap();
    ledger.batch(&first).unwrap();
    ledger.acknowledged(0, 1_790_000_005_017, false).unwrap();
    ledger.sent_again(0).unwrap();
    drop(ledger);
    let hex: String = fs::read(&path).unwrap().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

/// A new one goes with another [`VERSION`].
const GOLDEN: &str = concat!(
    "4c534c454447303220000000201fe002ffc1e73b80b083c5986800010100000000000000006c50c4a001000005",
    "00000000000000500000003539631dbf38007c80b083c5986800070772656f7264657206066273303030310200",
    "edfe00000001ffffffffffffffffffffffffffffffff00904e0265ac01030000000000000000000001d5000201",
    "07000000000000000e0c000000b86edd405e7ee9e7b2fe83c59868010301000501",
);

fn any_reading() -> impl Strategy<Value = LedgerReading> {
    let identity = (any::<u64>(), any::<u32>(), any::<u64>(), 0_u8..16);
    let matter = (any::<Option<i64>>(), any::<u64>(), 0_u8..18, any::<u64>());
    (identity, matter).prop_map(
        |((imei, boot_epoch, seq, kind), (measured_ms, digest, why, marks))| LedgerReading {
            meant: Meant { imei, boot_epoch, seq, kind, measured_ms, digest },
            expected: RejectReason::from_number(why),
            marks: Marks(marks),
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Batch(BatchRecord),
    Acknowledged { back: u64, at_ms: i64, refused: bool },
    Again { back: u64 },
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let batch = (
        "[a-c]{1,3}",
        any::<(u32, u64, u128, bool, i64, i64)>(),
        0_usize..7,
        proptest::collection::vec(any_reading(), 0..5),
    );
    prop_oneof![
        4 => batch.prop_map(|(station, (session, seq, payload_digest, promised, due_ms, sent_ms), channel, readings)| {
            let channel = Channel::ALL[channel];
            let station = station.into();
            Step::Batch(BatchRecord {
                id: 0, station, session, seq, channel, payload_digest, promised, due_ms, sent_ms,
                readings,
            })
        }),
        3 => (0_u64..5, any::<i64>(), any::<bool>())
            .prop_map(|(back, at_ms, refused)| Step::Acknowledged { back, at_ms, refused }),
        1 => (0_u64..5).prop_map(|back| Step::Again { back }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    /// The file after every step, cut anywhere, is a beginning of what was written, and can be gone on
    /// with: what is read then is that beginning and what came new.
    #[test]
    fn a_ledger_cut_anywhere_reads_as_a_beginning_and_goes_on_from_there(
        steps in proptest::collection::vec(any_step(), 1..12), cut in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut ledger = Ledger::open(&path, RUN).unwrap();
        let mut written = vec![Record::Run(RUN)];
        let mut next = 0;
        for step in steps {
            match step {
                Step::Batch(mut batch) => {
                    prop_assert_eq!(ledger.batch(&batch).unwrap(), next);
                    batch.id = next;
                    next += 1;
                    written.push(Record::Batch(batch));
                    // Nothing may be sent that is not in the file.
                    prop_assert_eq!(&records(&path).0, &written);
                }
                Step::Acknowledged { back, at_ms, refused } if next > back => {
                    let id = next - 1 - back;
                    ledger.acknowledged(id, at_ms, refused).unwrap();
                    written.push(Record::Acknowledged { id, at_ms, refused });
                }
                Step::Again { back } if next > back => {
                    ledger.sent_again(next - 1 - back).unwrap();
                    written.push(Record::SentAgain { id: next - 1 - back });
                }
                Step::Reopen => {
                    drop(ledger);
                    ledger = Ledger::open(&path, RUN).unwrap();
                    written.push(Record::Run(RUN));
                }
                Step::Acknowledged { .. } | Step::Again { .. } => {}
            }
        }
        drop(ledger);
        let (all, torn) = records(&path);
        prop_assert!(!torn);
        prop_assert_eq!(&all, &written);

        let bytes = fs::read(&path).unwrap();
        let cut = MAGIC.len() + cut.index(bytes.len() + 1 - MAGIC.len());
        fs::write(&path, &bytes[..cut]).unwrap();
        let (mut beginning, _) = records(&path);
        prop_assert_eq!(&beginning[..], &written[..beginning.len()]);
        let ledger = Ledger::open(&path, RUN).unwrap();
        let mut new = batch(0, 3);
        new.id = ledger.batch(&new).unwrap();
        drop(ledger);
        beginning.extend([Record::Run(RUN), Record::Batch(new)]);
        prop_assert_eq!(records(&path), (beginning, false));
    }

    #[test]
    fn a_flipped_bit_never_gives_another_record(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = Ledger::open(&path, RUN).unwrap();
        for seq in 0..4 {
            ledger.batch(&batch(seq, 2)).unwrap();
        }
        drop(ledger);
        let good = records(&path).0;
        let mut bytes = fs::read(&path).unwrap();
        let at = MAGIC.len() + at.index(bytes.len() - MAGIC.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        let (all, torn) = records(&path);
        prop_assert!(torn && all.len() < good.len());
        prop_assert_eq!(&all[..], &good[..all.len()]);
    }

    /// Whole blocks of any bytes: an error or records, never a panic.
    #[test]
    fn a_block_of_any_bytes_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        fs::write(&path, &bytes).unwrap();
        let mut reader = LedgerReader::open(&path).unwrap();
        while let Ok(Some(_)) = reader.next_record() {}
    }
}
