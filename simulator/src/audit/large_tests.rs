//! The audit of more than fits: any memory gives the same answer.

use super::*;
use crate::testing::many::{Made, START_MS, meant, write};

#[test]
fn any_memory_gives_the_same_answer_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (path, temporary) = (folder.path().join("ledger"), folder.path().join("temporary"));
    std::fs::create_dir(&temporary).unwrap();
    let readings = 20_000;
    write(&path, readings).unwrap();
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
    write(&path, 1000).unwrap();
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
