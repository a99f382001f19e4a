//! The audit: the ledger against a service's store.
//!
//! It waits until the service has taken in everything it acknowledged, then reads every stored row
//! and every dead letter, and asks of each reading of the ledger: is it there, once, and what was
//! meant? The answer is by class:
//!
//! | class | meaning | passes |
//! |---|---|---|
//! | stored | acknowledged, one row, same digest | yes |
//! | stored, unacknowledged | one row; the acknowledgement did not reach us, or not the ledger | yes |
//! | not stored, unacknowledged | nothing was promised | yes |
//! | stored, sent at QoS 0 | one row; nobody acknowledges it | yes |
//! | not stored, sent at QoS 0 | nothing was promised: it may be missing, never doubled or altered | yes, counted |
//! | dead-lettered, expected | made to be rejected, and was, with the reason it was made for | yes |
//! | removed by retention | acknowledged, of a kind's day that the store lets go, and of which nothing is there | yes |
//! | collapsed into another | acknowledged; the store keeps one reading of a device's millisecond, and has one of it | yes, counted |
//! | not audited | such a store cannot be asked about it | yes, counted |
//! | missing | acknowledged, and neither a row nor an expected dead letter | **no** |
//! | duplicate | a row beyond the first | **no** |
//! | altered | a row of which the digest is not the one that was meant | **no** |
//! | dead-lettered, unexpected | rejected without cause or for another reason, or stored though it was made to be rejected | **no** |
//! | foreign | a row or letter of which the ledger knows nothing | yes, counted |
//!
//! An audit that found nothing acknowledged, and nothing of what was sent at QoS 0, has shown nothing and does not pass.
//!
//! # Memory
//!
//! Neither ledger nor store need fit into memory. Both are read as streams and sorted into heaps of
//! files in a temporary folder, by a hash of what a reading is known by (`spill`); then heap is
//! compared with heap (`judge`), and one that is too large is parted first. On disk a reading of the
//! ledger takes 70 bytes and a row 33, until the audit ends.

use std::path::{Path, PathBuf};

mod explain;
mod gather;
mod http;
mod judge;
mod report;
mod service;
mod source;
mod spill;
mod victoria;

pub use http::Http;
pub use report::{AuditReport, Sums};
pub use service::Service;
pub use source::{
    About, Each, Keeps, Letter, Store, Stored, identity, key, key_of, moment, tell_rows,
};
pub use victoria::Victoria;

use crate::ledger::LedgerError;
use gather::{Ledgers, Letters};
use judge::{Heaps, Judge};
use loushan_schemas::kind::Kind;
use source::{DAY_MS, Days};
use spill::Spill;

/// Memory of an audit, unless it is told otherwise.
const MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// On disk a ledger's readings take about so many times the ledger's bytes, rows included.
const GROWTH: u64 = 6;
/// Heaps at first: each takes a file.
const MOST_HEAPS: u64 = 1024;

/// Why an audit came to no result.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger says two things of one reading.
    #[error("the ledger contradicts itself about {reading}: it cannot be audited against")]
    Contradiction {
        /// The reading.
        reading: String,
    },
    /// The temporary folder cannot be used.
    #[error("{path}: {source}; name another folder for the audit's files with --temporary")]
    Temporary {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Store(String),
    /// The target is no address.
    #[error("the target {0:?} is not an address like http://127.0.0.1:8080")]
    Target(String),
    /// An `https://` address, and no authority that is trusted.
    #[error("{0:?} is reached over TLS: name the authority of its certificate, in PEM, with --ca")]
    Untrusted(String),
    /// The service does not answer as it should.
    #[error("{url}: {why}")]
    Service {
        /// What was asked for.
        url: String,
        /// What came.
        why: String,
    },
    /// The service did not take in what it acknowledged in time.
    #[error(
        "after {seconds} s the service still has {what}; look at its /readyz, or wait and audit again"
    )]
    Pending {
        /// How long was waited.
        seconds: u64,
        /// What is pending.
        what: String,
    },
}

/// What an audit works with.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// Ledgers of one fleet: of one run after the other, or of processes that shared it.
    pub ledgers: Vec<PathBuf>,
    /// About how much memory it takes.
    pub memory_bytes: usize,
    /// Where its temporary folder is made; the system's place if none is named.
    pub temporary: Option<PathBuf>,
}

impl AuditOptions {
    /// Of one ledger.
    #[must_use]
    pub fn new(ledger: &Path) -> Self {
        Self { ledgers: vec![ledger.to_owned()], memory_bytes: MEMORY_BYTES, temporary: None }
    }
}

/// Audits a ledger against the service whose HTTP address is `target`.
///
/// # Errors
/// When no verdict could be reached; a verdict, good or bad, is the report's.
pub fn audit(ledger: &Path, target: &str) -> Result<AuditReport, AuditError> {
    audit_service(&AuditOptions::new(ledger), target)
}

/// Audits ledgers against the service whose HTTP address is `target`.
///
/// # Errors
/// When no verdict could be reached.
pub fn audit_service(options: &AuditOptions, target: &str) -> Result<AuditReport, AuditError> {
    audit_store(options, &mut Service::new(Http::new(target, None, None)?))
}

/// Audits ledgers against a store.
///
/// # Errors
/// When no verdict could be reached.
pub fn audit_store(
    options: &AuditOptions,
    store: &mut dyn Store,
) -> Result<AuditReport, AuditError> {
    let parent = options.temporary.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("loushan-audit-").tempdir_in(&parent);
    let folder = folder.map_err(|source| AuditError::Temporary { path: parent, source })?;
    let dir = folder.path();
    // A quarter each: the buffers of the ledger's heaps and of the rows', and what is judged at once,
    // which takes about twice its bytes on disk.
    let budget = (options.memory_bytes / 4).max(4096);
    let heaps = heaps(&options.ledgers, budget)?;
    let mut ledgers = Ledgers::new(&options.ledgers);

    let residue = store.settle()?;
    let keeps = store.keeps()?;
    let mut letters = Letters::new(dir, heaps, budget / 4);
    let kept = store.letters(&mut |letter| letters.put(&letter))?.is_some();
    let mut entries = Spill::new(dir, "entries", budget);
    let counted =
        ledgers.gather(&mut letters, &mut entries, heaps, store.by_moment(), dir, budget / 4)?;
    entries.write_all()?;
    let (mut rows, mut days) = (Spill::new(dir, "rows", budget), Days::new());
    store.rows(&mut |row| {
        let day = row.effective_ms.div_euclid(DAY_MS);
        *days.entry(row.kind).or_default().entry(day).or_default() += 1;
        rows.put(gather::heap(row.key, heaps), &judge::pack(&row))
    })?;
    rows.write_all()?;

    let mut all = Heaps { entries, rows, letters: letters.readings };
    let mut judge = Judge::new(keeps, days, kept, store.unseen(), store.by_moment(), budget as u64);
    for number in 0..heaps {
        judge.heap(&mut all, number, heaps as u128)?;
    }
    let differences = explain::explain(judge.differences.values(), &mut ledgers, store)?;
    let kind = |number| Kind::from_number(number).map_or("unknown", Kind::as_str).to_owned();
    let station = |number: u32| ledgers.stations.get(number as usize).map(ToString::to_string);
    let fault = |number: usize| ledgers.faults.get(number).map(ToString::to_string);
    let mut by_station: Vec<_> = judge
        .by_station
        .iter()
        .map(|(number, sums)| (station(*number).unwrap_or_default(), *sums))
        .collect();
    by_station.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(AuditReport {
        total: judge.total,
        by_kind: judge.by_kind.iter().map(|(number, sums)| (kind(*number), *sums)).collect(),
        by_station,
        by_fault: judge
            .by_fault
            .iter()
            .map(|(number, sums)| (fault(*number).unwrap_or_default(), *sums))
            .collect(),
        foreign_rows: judge.foreign_rows,
        foreign_letters: judge.foreign_letters + counted.foreign_letters + letters.unknown,
        batches: counted.batches,
        batches_sent_again: counted.sent_again,
        torn_ledger: ledgers.torn,
        residue,
        blind: store.blind().iter().map(ToString::to_string).collect(),
        differences,
    })
}

/// So many that each of them probably fits into memory.
fn heaps(ledgers: &[PathBuf], budget: usize) -> Result<usize, AuditError> {
    let mut bytes = 0;
    for path in ledgers {
        let length = std::fs::metadata(path)
            .map_err(|source| LedgerError::Io { path: path.clone(), source })?;
        bytes += length.len();
    }
    let heaps = (bytes * GROWTH / budget as u64 + 1).next_power_of_two().min(MOST_HEAPS);
    Ok(usize::try_from(heaps).unwrap_or(1))
}

#[cfg(test)]
mod tests;
