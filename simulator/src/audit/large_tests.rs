//! The audit of more than fits: any memory gives the same answer, and a measure of many.

use std::path::Path;
use std::time::Instant;

use loushan_schemas::topic::Channel;

use super::*;
use crate::ledger::{BatchRecord, Ledger, LedgerReading, Meant, RunRecord};

const START_MS: i64 = 1_790_000_000_000;
const BATCH: u64 = 50;

/// Reading `n` of a fleet of a hundred thousand devices.
fn meant(n: u64) -> Meant {
    let (device, seq) = (n % 100_000, n / 100_000);
    let imei = 860_000_000_000_000 + device * 7_919_113 % 1_000_000_000;
    let digest = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let measured_ms = Some(START_MS + i64::try_from(n / 500).unwrap());
    Meant { imei, boot_epoch: 1_790_000_000, seq, kind: (n % 5 + 1) as u8, measured_ms, digest }
}

/// A ledger of so many readings, all acknowledged.
fn write(path: &Path, readings: u64) {
    let run = RunRecord { seed: 1, start_ms: START_MS, shape: 3 };
    let ledger = Ledger::open(path, run).unwrap();
    let reorder = ledger.marks(&["reorder"]).unwrap();
    let stations: Vec<std::sync::Arc<str>> = (0..500).map(|n| format!("bs{n:04}").into()).collect();
    for batch in 0..readings / BATCH {
        let of = |n| {
            let marks = if n % 100 == 7 { reorder } else { crate::ledger::Marks::default() };
            LedgerReading { marks, ..meant(n).into() }
        };
        let id = ledger
            .batch(&BatchRecord {
                id: 0,
                station: stations[usize::try_from(batch % 500).unwrap()].clone(),
                session: 7,
                seq: batch / 500,
                channel: Channel::Telemetry,
                payload_digest: u128::from(batch),
                promised: true,
                due_ms: START_MS + i64::try_from(batch / 10).unwrap(),
                sent_ms: START_MS + i64::try_from(batch / 10).unwrap() + 3,
                readings: (batch * BATCH..(batch + 1) * BATCH).map(of).collect(),
            })
            .unwrap();
        ledger.acknowledged(id, START_MS + 9, false).unwrap();
    }
}

/// A store that has them all but what is said to be wrong with it.
#[derive(Default)]
struct Made {
    readings: u64,
    keeps: Keeps,
    without: Vec<u64>,
    twice: Vec<u64>,
    altered: Vec<u64>,
}

impl Made {
    fn row(&self, n: u64) -> Stored {
        let m = meant(n);
        Stored {
            key: key(m.imei, m.boot_epoch, m.seq, "", 0),
            digest: m.digest ^ u64::from(self.altered.contains(&n)),
            kind: m.kind,
            effective_ms: m.measured_ms.unwrap(),
            lsn: n,
        }
    }
}

impl Store for Made {
    fn settle(&mut self) -> Result<i64, AuditError> {
        Ok(0)
    }
    fn keeps(&mut self) -> Result<Keeps, AuditError> {
        Ok(self.keeps.clone())
    }
    fn rows(&mut self, each: &mut Each<'_, Stored>) -> Result<(), AuditError> {
        for n in (0..self.readings).rev().filter(|n| !self.without.contains(n)) {
            each(self.row(n))?;
            if self.twice.contains(&n) {
                each(self.row(n))?;
            }
        }
        Ok(())
    }
    fn letters(&mut self, _: &mut Each<'_, Letter>) -> Result<Option<()>, AuditError> {
        Ok(Some(()))
    }
    fn tell(
        &mut self,
        wanted: &std::collections::HashSet<(u64, u128)>,
    ) -> Result<std::collections::HashMap<(u64, u128), String>, AuditError> {
        Ok(wanted.iter().map(|named| (*named, format!("row {}", named.0))).collect())
    }
}

#[test]
fn any_memory_gives_the_same_answer_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (path, temporary) = (folder.path().join("ledger"), folder.path().join("temporary"));
    std::fs::create_dir(&temporary).unwrap();
    let readings = 20_000;
    write(&path, readings);
    let mut reports = Vec::new();
    for memory_bytes in [1, 40_000, 1 << 20, 1 << 28] {
        let mut store = Made {
            readings,
            without: vec![17, 107, 19_999],
            twice: vec![18],
            altered: vec![19, 20],
            ..Made::default()
        };
        let options = AuditOptions {
            memory_bytes,
            temporary: Some(temporary.clone()),
            ..AuditOptions::new(&path)
        };
        reports.push(audit_store(&options, &mut store).unwrap());
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    }
    let first = &reports[0];
    assert!(reports.iter().all(|report| report == first), "{reports:#?}");
    assert_eq!((first.sent, first.acknowledged, first.stored), (20_000, 20_000, 19_994));
    assert_eq!((first.missing, first.duplicate, first.altered), (3, 1, 2));
    assert_eq!(first.by_station.len(), 400);
    assert_eq!(first.by_kind.iter().map(|(_, sums)| sums.missing).sum::<u64>(), 3);
    let (fault, sums) = &first.by_fault[0];
    assert_eq!((fault.as_str(), sums.sent, sums.missing), ("reorder", 200, 1));
    assert_eq!(first.differences.len(), 6);
    assert!(first.differences[0].starts_with("missing: smoke of imei 86"), "{first}");
    assert!(first.differences[1].ends_with("row 2 is row 18"), "{first}");
    assert!(first.differences[4].ends_with("fault reorder"), "{first}");
}

#[test]
fn what_retention_let_go_is_not_missing_and_what_is_of_a_kept_day_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    write(&path, 1000);
    let kind = meant(2).kind;
    let end = (START_MS / source::DAY_MS + 1) * source::DAY_MS;
    let of_kind: Vec<u64> = (0..1000).filter(|n| meant(*n).kind == kind).collect();
    let audited = |keeps: Keeps, without: Vec<u64>| {
        let mut store = Made { readings: 1000, keeps, without, ..Made::default() };
        audit_store(&AuditOptions::new(&path), &mut store).unwrap()
    };
    let aged = |now_ms| Keeps { now_ms, ages: [(kind, source::DAY_MS)].into(), ..Keeps::default() };
    let gone = audited(aged(end + source::DAY_MS), of_kind.clone());
    assert!(gone.passed(), "{gone}");
    assert_eq!((gone.removed_by_retention, gone.stored), (200, 800));
    // A day goes whole: where one reading of it is there, the others are missing.
    let part = audited(aged(end + source::DAY_MS), of_kind[1..].to_vec());
    assert_eq!((part.removed_by_retention, part.missing), (0, 199));
    // It is too young, or nothing was said of its kind.
    let young = audited(aged(end + source::DAY_MS - 1), of_kind.clone());
    let other = Keeps { now_ms: end + source::DAY_MS, ..Keeps::default() };
    assert_eq!((young.missing, audited(other, of_kind.clone()).missing), (200, 200));
    // Bounded bytes take the oldest days, and never one that is not over.
    let bounded = |now_ms| Keeps { now_ms, bounded: vec![kind], ..Keeps::default() };
    assert_eq!(audited(bounded(end), of_kind.clone()).removed_by_retention, 200);
    assert_eq!(audited(bounded(end - 1), of_kind).missing, 200);
}

/// Not a test of every day: `LOUSHAN_AUDIT_READINGS=100000000 cargo test --release -p
/// loushan-simulator --lib -- --ignored --nocapture audit_of_many`.
#[test]
#[ignore = "a measure"]
#[allow(clippy::print_stdout)]
fn audit_of_many_readings() {
    let readings = std::env::var("LOUSHAN_AUDIT_READINGS").ok().and_then(|n| n.parse().ok());
    let readings = readings.unwrap_or(1_000_000_u64) / BATCH * BATCH;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let begun = Instant::now();
    write(&path, readings);
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!(
        "{readings} readings written in {:?}, {:.1} bytes each",
        begun.elapsed(),
        bytes as f64 / readings as f64
    );
    let begun = Instant::now();
    let mut store = Made { readings, ..Made::default() };
    let report = audit_store(&AuditOptions::new(&path), &mut store).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("audited in {:?}; {peak}", begun.elapsed());
    assert!(report.passed(), "{report}");
    assert_eq!(report.stored, readings);
}
