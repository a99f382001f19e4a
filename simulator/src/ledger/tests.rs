#![allow(clippy::unwrap_used)]

use std::fs;

use loushan_schemas::reject::RejectReason;
use loushan_schemas::topic::Channel;
use proptest::prelude::*;

use super::*;

const RUN: RunRecord = RunRecord { seed: 1, start_ms: 1_790_000_000_000, shape: 5 };

fn batch(seq: u64, readings: u64) -> BatchRecord {
    BatchRecord {
        id: 0,
        station: "bs0001".to_owned(),
        session: 0xfeed,
        seq,
        channel: Channel::Telemetry,
        payload_digest: u128::MAX - u128::from(seq),
        readings: (0..readings)
            .map(|n| {
                let meant =
                    Meant { imei: 86, boot_epoch: 3, seq: n, kind: 5, digest: n.wrapping_mul(7) };
                (meant, (n == 1).then_some(RejectReason::BadImei))
            })
            .collect(),
    }
}

fn records(path: &Path) -> (Vec<Record>, bool) {
    let mut reader = LedgerReader::open(path).unwrap();
    let mut all = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        all.push(record);
    }
    (all, reader.torn())
}

#[test]
fn what_was_written_is_read_and_ids_go_on_in_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::open(&path, RUN).unwrap();
    assert_eq!(ledger.batch(batch(0, 3)).unwrap(), 0);
    ledger.acknowledged(0, 17, true).unwrap();
    assert_eq!(records(&path).0.len(), 2, "acknowledgements wait for the next batch");
    assert_eq!(ledger.batch(batch(1, 0)).unwrap(), 1);
    ledger.sent_again(1).unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path, RunRecord { start_ms: 1_790_000_001_000, ..RUN }).unwrap();
    assert_eq!(ledger.batch(batch(2, 1)).unwrap(), 2);
    let (all, torn) = records(&path);
    assert!(!torn);
    assert_eq!(all.len(), 7);
    assert_eq!(all[0], Record::Run(RUN));
    assert_eq!(all[1], Record::Batch(batch(0, 3)));
    assert_eq!(all[2], Record::Acknowledged { id: 0, at_ms: 17, refused: true });
    assert_eq!(all[4], Record::SentAgain { id: 1 });
    assert_eq!(all[6], Record::Batch(BatchRecord { id: 2, ..batch(2, 1) }));
}

#[test]
fn a_tail_cut_anywhere_leaves_the_records_before_it_and_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::open(&path, RUN).unwrap();
    ledger.batch(batch(0, 2)).unwrap();
    let before = fs::metadata(&path).unwrap().len();
    ledger.batch(batch(1, 2)).unwrap();
    drop(ledger);
    let whole = fs::read(&path).unwrap();
    for cut in usize::try_from(before).unwrap()..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (all, torn) = records(&path);
        assert_eq!(all.len(), 2, "cut at {cut}");
        assert_eq!(torn, cut as u64 != before);
        let ledger = Ledger::open(&path, RUN).unwrap();
        assert_eq!(ledger.batch(batch(1, 1)).unwrap(), 1);
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
    fs::write(&path, b"something else").unwrap();
    assert!(matches!(Ledger::open(&path, RUN), Err(LedgerError::Foreign { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"something else", "and was not touched");
}

proptest! {
    #[test]
    fn a_flipped_bit_never_gives_another_record(at in 8_usize..400, bit in 0_u8..8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = Ledger::open(&path, RUN).unwrap();
        for seq in 0..4 {
            ledger.batch(batch(seq, 2)).unwrap();
        }
        drop(ledger);
        let good = records(&path).0;
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        if at >= 8 {
            bytes[at] ^= 1 << bit;
            fs::write(&path, &bytes).unwrap();
            let (all, torn) = records(&path);
            prop_assert!(torn && all.len() < good.len());
            prop_assert_eq!(&all[..], &good[..all.len()]);
        }
    }
}
