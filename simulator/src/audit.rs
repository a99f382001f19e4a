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
//! | dead-lettered, expected | made to be rejected, and was, with the reason it was made for | yes |
//! | missing | acknowledged, and neither a row nor an expected dead letter | **no** |
//! | duplicate | a row beyond the first | **no** |
//! | altered | a row of which the digest is not the one that was meant | **no** |
//! | dead-lettered, unexpected | rejected without cause or for another reason, or stored though it was made to be rejected | **no** |
//! | foreign | a row or letter of which the ledger knows nothing | yes, counted |
//!
//! An audit that found nothing acknowledged has shown nothing and does not pass.

use std::path::Path;

use loushan_schemas::row::Row;

mod report;
mod service;
mod truth;

pub use report::AuditReport;

use crate::ledger::LedgerError;
use service::{Letter, Service};
use truth::Truth;

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
    /// The target is no address.
    #[error("the target {0:?} is not an address like http://127.0.0.1:8080")]
    Target(String),
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

/// Audits a ledger against the service whose HTTP address is `target`.
///
/// # Errors
/// When no verdict could be reached; a verdict, good or bad, is the report's.
pub fn audit(ledger: &Path, target: &str) -> Result<AuditReport, AuditError> {
    let service = Service::new(target)?;
    let mut truth = Truth::read(ledger)?;
    let residue = service.wait_until_settled()?;
    service.each_line("/api/v1/readings/export?after_lsn=0", |line| {
        let row = Row::from_json(line).map_err(|e| e.to_string())?;
        truth.row(&row, line);
        Ok(())
    })?;
    service.each_line("/api/v1/dead-letters/export?after_lsn=0", |line| {
        let letter = Letter::from_json(line)?;
        truth.letter(&letter, line);
        Ok(())
    })?;
    let mut report = truth.verdict();
    report.residue = residue;
    Ok(report)
}

#[cfg(test)]
mod tests;
