#![allow(clippy::unwrap_used)]

use loushan_schemas::kind::Kind;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TABLE: Table = Table::Readings(Kind::Smoke);
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn policy() -> Policy {
    Policy { min_files: 4, target_bytes: 64 * MIB, memory_bytes: 256 * MIB }
}

fn file(id: u64, bytes: u64, imei: (u64, u64), level: Level) -> Arc<FileEntry> {
    let entry = FileEntry::new(id, TABLE, 7);
    Arc::new(FileEntry { bytes, rows: bytes / 16, imei: Some(imei), level, ..entry })
}

fn flushed(id: u64, bytes: u64) -> Arc<FileEntry> {
    file(id, bytes, (1, 1000), Level::Flushed)
}

fn contents(files: impl IntoIterator<Item = Arc<FileEntry>>) -> Contents {
    let files = files.into_iter().map(|file| (file.id, file)).collect();
    Contents { files, ..Contents::default() }
}

fn planned(contents: &Contents, settles: bool) -> Option<Job> {
    plan(contents, &policy(), &BTreeSet::new(), |_| settles)
}

fn ids(job: &Job) -> Vec<u64> {
    let mut ids: Vec<u64> = job.inputs.iter().map(|file| file.id).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn small_files_are_merged_when_there_are_enough_of_one_size() {
    let mut all = contents((1..=3).map(|id| flushed(id, 20 * KIB)));
    assert_eq!(planned(&all, false), None);
    all.files.insert(4, flushed(4, 21 * KIB));
    all.files.insert(5, flushed(5, KIB));
    all.files.insert(6, flushed(6, 10 * MIB));
    let job = planned(&all, false).unwrap();
    assert_eq!(ids(&job), [1, 2, 3, 4, 5], "smaller ones go along, greater ones do not");
    assert_eq!((job.level, job.part_bytes), (Level::Merged, u64::MAX));
}

#[test]
fn files_of_half_the_target_wait_for_the_last_merge_which_cuts_at_the_target() {
    let all = contents((1..=5).map(|id| flushed(id, 40 * MIB)));
    assert_eq!(planned(&all, false), None);
    let job = planned(&all, true).unwrap();
    assert_eq!((job.level, ids(&job).len()), (Level::Settled, 5));
    assert_eq!(job.part_bytes, 200 * MIB / 3);
}

#[test]
fn files_without_a_device_in_common_are_not_merged_at_last() {
    let file = |id, imei| file(id, 40 * MIB, imei, Level::Flushed);
    assert_eq!(planned(&contents([file(1, (1, 9)), file(2, (10, 20))]), true), None);
    let all = contents([file(1, (1, 9)), file(2, (10, 20)), file(3, (20, 30)), file(4, (25, 40))]);
    assert_eq!(ids(&planned(&all, true).unwrap()), [2, 3, 4]);
}

#[test]
fn late_files_are_merged_with_settled_ones_when_it_is_worth_it() {
    let settled = || file(1, 30 * MIB, (1, 1000), Level::Settled);
    assert_eq!(planned(&contents([settled(), flushed(2, MIB), flushed(3, MIB)]), true), None);
    let all = contents([settled(), flushed(2, 2 * MIB), flushed(3, MIB)]);
    assert_eq!(ids(&planned(&all, true).unwrap()), [1, 2, 3]);
    // Of other devices than the late ones nothing is written again.
    let other = file(4, 60 * MIB, (1001, 2000), Level::Settled);
    let all = contents([settled(), flushed(2, 2 * MIB), flushed(3, MIB), other]);
    assert_eq!(ids(&planned(&all, true).unwrap()), [1, 2, 3]);
}

#[test]
fn what_does_not_fit_into_memory_is_merged_in_several_steps() {
    let all = contents((1..=100).map(|id| flushed(id, 40 * MIB)));
    let job = planned(&all, true).unwrap();
    assert!((2..100).contains(&job.inputs.len()));
    assert_eq!((job.level, job.part_bytes), (Level::Merged, u64::MAX));
}

#[test]
fn files_left_alone_are_in_no_job() {
    let all = contents((1..=5).map(|id| flushed(id, 20 * KIB)));
    let job = plan(&all, &policy(), &BTreeSet::from([2]), |_| true).unwrap();
    assert_eq!(ids(&job), [1, 3, 4, 5]);
}

/// Does what the plan says, with outputs as a merge would leave them.
fn carry_out(all: &mut Contents, job: &Job, next: &mut u64) -> u64 {
    job.inputs.iter().for_each(|file| drop(all.files.remove(&file.id)));
    let bytes = job.bytes();
    let parts = if job.part_bytes == u64::MAX { 1 } else { bytes.div_ceil(job.part_bytes) };
    let low = job.inputs.iter().filter_map(|file| file.imei).map(|range| range.0).min().unwrap();
    let high = job.inputs.iter().filter_map(|file| file.imei).map(|range| range.1).max().unwrap();
    for part in 0..parts {
        let width = (high - low + 1) / parts;
        let imei = (
            low + part * width,
            if part + 1 == parts { high } else { low + (part + 1) * width - 1 },
        );
        all.files.insert(*next, file(*next, bytes / parts, imei, job.level));
        *next += 1;
    }
    bytes
}

#[test]
fn a_day_of_flushes_is_written_a_few_times_over_and_leaves_one_file() {
    let policy = Policy { min_files: 8, ..policy() };
    let (mut all, mut next, mut written, mut most) = (Contents::default(), 1, 0, 0);
    let minutes = 1440;
    for _ in 0..minutes {
        all.files.insert(next, flushed(next, 10 * KIB));
        next += 1;
        while let Some(job) = plan(&all, &policy, &BTreeSet::new(), |_| false) {
            written += carry_out(&mut all, &job, &mut next);
        }
        most = most.max(all.files.len());
    }
    assert!(most <= 7 * 4, "{most} files");
    while let Some(job) = plan(&all, &policy, &BTreeSet::new(), |_| true) {
        written += carry_out(&mut all, &job, &mut next);
    }
    assert_eq!(all.files.len(), 1);
    let times = written as f64 / (minutes * 10 * KIB) as f64;
    assert!(times < 4.6, "every byte was written {times} times");
}

proptest! {
    #[test]
    fn merging_ends_with_fewer_files_and_no_device_in_two_settled_ones(
        files in vec((1..200 * MIB, 1..2000_u64, 0..500_u64, any::<bool>()), 1..60),
    ) {
        let files = files.into_iter().zip(1..).map(|((bytes, low, width, late), id)| {
            let level = if late { Level::Merged } else { Level::Flushed };
            file(id, bytes, (low, low + width), level)
        });
        let (mut all, mut next, mut steps) = (contents(files), 1000, 0);
        while let Some(job) = plan(&all, &policy(), &BTreeSet::new(), |_| true) {
            prop_assert!(job.inputs.len() >= 2);
            carry_out(&mut all, &job, &mut next);
            steps += 1;
            prop_assert!(steps < 200, "it never ends");
        }
        let files: Vec<&Arc<FileEntry>> = all.files.values().collect();
        let settled: Vec<_> =
            files.iter().filter(|file| file.level == Level::Settled).copied().collect();
        prop_assert!(overlapping(&settled).is_empty());
        // What is left unmerged is little beside what it would be merged with.
        for group in overlapping(&files) {
            let bytes = |settled| -> u64 {
                let of = group.iter().filter(|file| (file.level == Level::Settled) == settled);
                of.map(|file| file.bytes).sum()
            };
            prop_assert!(bytes(false) * LATE_SHARE < bytes(true));
        }
    }
}
