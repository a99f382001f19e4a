//! What the store keeps, and for how long.
//!
//! A *partition* here is a kind's day: for water its readings and its intervals, which follow them.
//! Partitions go whole or not at all, oldest first, by one record of the manifest; files that are
//! being read go when they have been read.
//!
//! | limit | what goes |
//! |---|---|
//! | a kind's age | its days that ended longer ago than that |
//! | a kind's bytes | its oldest days, until the rest is within |
//! | bytes of all | the oldest days of all kinds, until the rest is within |
//!
//! # What is never done
//! * A day that is not over is never removed, whatever its bytes: the disk's floor guards the disk.
//! * The time is not believed blindly: ages are counted from the newest reading of the store and a day
//!   at most, so a clock that is years ahead removes nothing while nothing comes.
//!
//! # What follows
//! A removed reading was accepted and stored, and stays so in the books. That it was there is
//! forgotten with it: if its sender sends it once more, and the dedup memory of its device does not
//! know it either, it is new, is accepted, and goes with its day at the next look. Until then it is
//! there once, as every reading is. To refuse it instead would refuse what a meter in a cellar sends
//! for the first time. Times by which readings are filed reach back 90 days at most: where ages are
//! longer than that, no day is filled again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loushan_schemas::kind::Kind;

use super::manifest::{Contents, DAY_MS, Edit, FileEntry, date_of};
use super::schema::Table;
use super::store::Shared;

/// Looks at what changed meanwhile before one gives up.
const TRIES: u32 = 10;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Bytes of all files.
    pub bytes: Option<u64>,
    /// By kind; one that is not named has no limit of its own.
    pub kinds: BTreeMap<Kind, KindRetention>,
}

/// What is kept of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindRetention {
    /// How long.
    pub age: Option<Duration>,
    /// Bytes of its files.
    pub bytes: Option<u64>,
}

impl RetentionConfig {
    /// Whether everything is kept.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let limited = |kind: &KindRetention| kind.age.is_some() || kind.bytes.is_some();
        self.bytes.is_none() && !self.kinds.values().any(limited)
    }
}

/// Why a partition goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// It is older than its kind is kept.
    Age,
    /// Its kind has more bytes than are kept of it.
    KindBytes,
    /// The store has more bytes than are kept.
    TotalBytes,
}

impl Expired {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::KindBytes => "kind_bytes",
            Self::TotalBytes => "total_bytes",
        }
    }
}

/// A partition that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Its kind.
    pub kind: Kind,
    /// Its day, `YYYY-MM-DD`.
    pub date: String,
    /// Why.
    pub why: Expired,
    /// Readings in it.
    pub rows: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files.
    pub files: u64,
    pub(super) ids: Vec<u64>,
}

/// The kind whose limits a table's files are under.
pub(super) fn kind_of(table: Table) -> Kind {
    table.kind().unwrap_or(Kind::Water)
}

/// What would go now.
pub(super) fn plan(contents: &Contents, config: &RetentionConfig, now_ms: i64) -> Vec<Removal> {
    let mut partitions: BTreeMap<(i64, Kind), Vec<&Arc<FileEntry>>> = BTreeMap::new();
    for file in contents.files.values() {
        partitions.entry((file.day, kind_of(file.table))).or_default().push(file);
    }
    let newest = contents.files.values().map(|file| file.max_ms).max().unwrap_or(i64::MIN);
    let now_ms = now_ms.min(newest.saturating_add(DAY_MS));
    let today = now_ms.div_euclid(DAY_MS);
    let bytes_of = |files: &[&Arc<FileEntry>]| files.iter().map(|file| file.bytes).sum::<u64>();
    let mut by_kind: BTreeMap<Kind, u64> = BTreeMap::new();
    for ((_, kind), files) in &partitions {
        *by_kind.entry(*kind).or_default() += bytes_of(files);
    }
    let mut total: u64 = by_kind.values().sum();
    let mut removals: BTreeMap<(i64, Kind), Removal> = BTreeMap::new();
    // Each limit looks at what those before it leave, and at old days first.
    for limit in [Expired::Age, Expired::KindBytes, Expired::TotalBytes] {
        for ((day, kind), files) in &partitions {
            if *day >= today || removals.contains_key(&(*day, *kind)) {
                continue;
            }
            let of_kind = by_kind.entry(*kind).or_default();
            let limits = config.kinds.get(kind).copied().unwrap_or_default();
            let goes = match limit {
                Expired::Age => limits.age.is_some_and(|age| {
                    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                    let end = day.saturating_add(1).saturating_mul(DAY_MS);
                    end <= now_ms.saturating_sub(age)
                }),
                Expired::KindBytes => limits.bytes.is_some_and(|most| *of_kind > most),
                Expired::TotalBytes => config.bytes.is_some_and(|most| total > most),
            };
            if !goes {
                continue;
            }
            let bytes = bytes_of(files);
            *of_kind = of_kind.saturating_sub(bytes);
            total = total.saturating_sub(bytes);
            let rows = files.iter().filter(|file| file.table.kind().is_some());
            let removal = Removal {
                kind: *kind,
                date: date_of(*day),
                why: limit,
                rows: rows.map(|file| file.rows).sum(),
                bytes,
                files: files.len() as u64,
                ids: files.iter().map(|file| file.id).collect(),
            };
            removals.insert((*day, *kind), removal);
        }
    }
    removals.into_values().collect()
}

/// Removes what is to go now, by one record; returns what went. Blocks.
pub(super) fn run(
    shared: &Shared,
    config: &RetentionConfig,
    now_ms: i64,
) -> std::io::Result<Vec<Removal>> {
    for _ in 0..TRIES {
        let contents = Arc::clone(&shared.state.read().files);
        let removals = plan(&contents, config, now_ms);
        if removals.is_empty() {
            return Ok(removals);
        }
        let edit = Edit {
            next_file: shared.next_file.load(Ordering::Relaxed),
            remove: removals.iter().flat_map(|removal| &removal.ids).copied().collect(),
            ..Edit::default()
        };
        // Otherwise a merge came first, and the files have other numbers now.
        if shared.replace(&edit)? {
            told(&removals);
            return Ok(removals);
        }
    }
    Err(std::io::Error::other("files are merged faster than they can be removed"))
}

/// One event and one count for each.
fn told(removals: &[Removal]) {
    for Removal { kind, date, why, rows, bytes, files, .. } in removals {
        let name = kind.as_str();
        let why = why.as_str();
        tracing::info!(kind = name, date, why, rows, bytes, files, "a partition was removed");
        metrics::counter!("loushan_retention_removed_partitions_total", "kind" => name)
            .increment(1);
        metrics::counter!("loushan_retention_removed_readings_total", "kind" => name)
            .increment(*rows);
        metrics::counter!("loushan_retention_removed_bytes_total", "kind" => name)
            .increment(*bytes);
    }
}

#[cfg(test)]
#[path = "retain_tests.rs"]
mod tests;
