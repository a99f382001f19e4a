//! Which files to merge next: a function of what there is, nothing else.
//!
//! **While a day is live** its files are merged by size: as soon as [`Policy::min_files`] lie in one
//! step of sizes, each step that many times the one before, they and all smaller ones become one.
//! A row is thus written again once for each step, not for each flush: a day of 1,440 flushes,
//! eight to a merge, is rewritten between three and four times. Files of half the target and more
//! are left alone; merging them would write much and save nobody a file.
//!
//! **When a day is quiet** its last merge leaves files of about the target that have no device in
//! common: a question about a device reads one of them. What comes late is merged by size again, and
//! with the settled files it overlaps once it has grown to a tenth of them: a reading that comes a
//! week late does not have a day written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::manifest::{Contents, FileEntry, Level};
use super::super::schema::Table;

/// Bytes of the first step of sizes: what a flush of few rows makes.
const FIRST_STEP: u64 = 4096;
/// Late files are merged into settled ones once they have this part of their bytes.
const LATE_SHARE: u64 = 10;
/// Memory that reading a file takes for each row at hand, decoded.
const ROW_BYTES: u64 = 512;
/// Rows at hand, decoded: a page of each column.
const ROWS_AT_HAND: u64 = 8192;
/// Blocks of a file in memory while it is read.
const BLOCKS: u64 = 4 << 20;

/// A table's day.
pub(in super::super) type Partition = (Table, i64);

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Policy {
    /// Files of one step of sizes that are merged; at least 2.
    pub(in super::super) min_files: usize,
    /// Bytes a merged file should have.
    pub(in super::super) target_bytes: u64,
    /// Memory for the files that are read at once.
    pub(in super::super) memory_bytes: u64,
}

/// Files to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Job {
    pub(in super::super) partition: Partition,
    pub(in super::super) inputs: Vec<Arc<FileEntry>>,
    /// What becomes of them.
    pub(in super::super) level: Level,
    /// Bytes at which the next file is begun, at the next device.
    pub(in super::super) part_bytes: u64,
}

impl Job {
    pub(in super::super) fn bytes(&self) -> u64 {
        self.inputs.iter().map(|file| file.bytes).sum()
    }
}

/// The next files to merge, if any should be. `settles` says whether a partition's day is over and
/// nothing came to it lately; files in `left_alone` are not touched.
pub(in super::super) fn plan(
    contents: &Contents,
    policy: &Policy,
    left_alone: &BTreeSet<u64>,
    settles: impl Fn(Partition) -> bool,
) -> Option<Job> {
    let mut partitions: BTreeMap<Partition, Vec<&Arc<FileEntry>>> = BTreeMap::new();
    for file in contents.files.values().filter(|file| !left_alone.contains(&file.id)) {
        partitions.entry((file.table, file.day)).or_default().push(file);
    }
    partitions.retain(|_, files| files.len() > 1);
    // Where most files are, most is gained.
    let live = partitions
        .iter()
        .filter_map(|(partition, files)| by_size(*partition, files, policy))
        .max_by_key(|job| job.inputs.len());
    live.or_else(|| {
        let settled = partitions.iter().filter(|(partition, _)| settles(**partition));
        settled
            .filter_map(|(partition, files)| last_merge(*partition, files, policy))
            .max_by_key(|job| job.inputs.len())
    })
}

/// The step of sizes that a file is in.
fn step(bytes: u64, policy: &Policy) -> u32 {
    (bytes / FIRST_STEP).max(1).ilog(policy.min_files.max(2) as u64)
}

fn by_size(partition: Partition, files: &[&Arc<FileEntry>], policy: &Policy) -> Option<Job> {
    let small = |file: &&&Arc<FileEntry>| {
        file.level != Level::Settled && file.bytes < policy.target_bytes / 2
    };
    let mut small: Vec<&Arc<FileEntry>> = files.iter().filter(small).copied().collect();
    small.sort_by_key(|file| (file.bytes, file.id));
    let mut in_step: BTreeMap<u32, usize> = BTreeMap::new();
    for file in &small {
        *in_step.entry(step(file.bytes, policy)).or_default() += 1;
    }
    let (full, _) = in_step.into_iter().find(|(_, files)| *files >= policy.min_files.max(2))?;
    let inputs = small.into_iter().take_while(|file| step(file.bytes, policy) <= full);
    let inputs = within_memory(inputs, policy);
    let part_bytes = part_bytes(&inputs, policy);
    Some(Job { partition, inputs, level: Level::Merged, part_bytes })
}

fn last_merge(partition: Partition, files: &[&Arc<FileEntry>], policy: &Policy) -> Option<Job> {
    let job = |group: Vec<&Arc<FileEntry>>| {
        let bytes = |settled: bool| -> u64 {
            let of = group.iter().filter(|file| (file.level == Level::Settled) == settled);
            of.map(|file| file.bytes).sum()
        };
        if bytes(false).saturating_mul(LATE_SHARE) < bytes(true) {
            return None;
        }
        let all = group.len();
        let mut inputs = group;
        inputs.sort_by_key(|file| (file.bytes, file.id));
        let inputs = within_memory(inputs, policy);
        let (level, part_bytes) = if inputs.len() == all {
            (Level::Settled, part_bytes(&inputs, policy))
        } else {
            // Into one file, however long: then there are fewer, and in the end they fit.
            (Level::Merged, u64::MAX)
        };
        Some(Job { partition, inputs, level, part_bytes })
    };
    overlapping(files).into_iter().filter_map(job).max_by_key(|job| job.inputs.len())
}

/// The groups of several files that have devices in common, directly or through others.
fn overlapping<'a>(files: &[&'a Arc<FileEntry>]) -> Vec<Vec<&'a Arc<FileEntry>>> {
    let mut files = files.to_vec();
    // Whose devices are not known may have any.
    let range = |file: &FileEntry| file.imei.unwrap_or((0, u64::MAX));
    files.sort_by_key(|file| range(file));
    let mut groups: Vec<(u64, Vec<&Arc<FileEntry>>)> = Vec::new();
    for file in files {
        let (low, high) = range(file);
        match groups.last_mut() {
            Some((end, group)) if low <= *end => {
                *end = high.max(*end);
                group.push(file);
            }
            _ => groups.push((high, vec![file])),
        }
    }
    groups.into_iter().map(|(_, group)| group).filter(|group| group.len() > 1).collect()
}

/// As many of the files, in their order, as may be read at once; two at least.
fn within_memory<'a>(
    files: impl IntoIterator<Item = &'a Arc<FileEntry>>,
    policy: &Policy,
) -> Vec<Arc<FileEntry>> {
    let mut memory = 0_u64;
    let mut taken = Vec::new();
    for file in files {
        memory += file.bytes.min(BLOCKS) + file.rows.min(ROWS_AT_HAND) * ROW_BYTES;
        if memory > policy.memory_bytes && taken.len() >= 2 {
            break;
        }
        taken.push(Arc::clone(file));
    }
    taken
}

/// Parts of one length, and that length near the target: a last part of a few rows would be one more
/// small file.
fn part_bytes(files: &[Arc<FileEntry>], policy: &Policy) -> u64 {
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let target = policy.target_bytes.max(1);
    let parts = (bytes + target / 2) / target;
    if parts <= 1 { u64::MAX } else { bytes / parts }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
