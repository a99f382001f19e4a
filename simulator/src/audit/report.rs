//! What an audit found.

use std::fmt;

/// Differences that are told in full; the rest are counted.
pub(super) const EXPLAINED: usize = 20;

/// Readings by class, each reading once however often it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Readings in the ledger.
    pub sent: u64,
    /// Of them, those in a batch that was acknowledged and not refused.
    pub acknowledged: u64,
    /// Acknowledged, stored once, as meant.
    pub stored: u64,
    /// Not acknowledged, stored once, as meant.
    pub stored_unacknowledged: u64,
    /// Not acknowledged, not stored.
    pub unacknowledged: u64,
    /// Rejected as they were made to be.
    pub dead_lettered_expected: u64,
    /// Acknowledged, and not there.
    pub missing: u64,
    /// Rows beyond a reading's first.
    pub duplicate: u64,
    /// Stored as something else than was meant.
    pub altered: u64,
    /// Rejected though good, or for another reason, or stored though made to be rejected.
    pub dead_lettered_unexpected: u64,
    /// Rows of readings the ledger does not know.
    pub foreign_rows: u64,
    /// Dead letters of publishes the ledger does not know.
    pub foreign_letters: u64,
    /// Batches in the ledger, and those of them that were sent more than once.
    pub batches: u64,
    /// Batches that were sent more than once, on purpose or after a lost connection.
    pub batches_sent_again: u64,
    /// Whether the ledger's tail was torn: its writer was killed.
    pub torn_ledger: bool,
    /// By how much the service's own books do not balance; zero.
    pub residue: i64,
    /// The first differences, each with all that is known of it.
    pub differences: Vec<String>,
}

impl AuditReport {
    /// Whether every acknowledged reading is stored exactly once and unchanged, and there was one.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.failures() == 0 && self.acknowledged > 0
    }

    const fn failures(&self) -> u64 {
        self.missing + self.duplicate + self.altered + self.dead_lettered_unexpected
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("sent", self.sent),
            ("acknowledged", self.acknowledged),
            ("stored", self.stored),
            ("stored, unacknowledged", self.stored_unacknowledged),
            ("not stored, unacknowledged", self.unacknowledged),
            ("dead-lettered, expected", self.dead_lettered_expected),
            ("missing", self.missing),
            ("duplicate", self.duplicate),
            ("altered", self.altered),
            ("dead-lettered, unexpected", self.dead_lettered_unexpected),
            ("foreign rows", self.foreign_rows),
            ("foreign dead letters", self.foreign_letters),
        ];
        for (name, count) in rows {
            writeln!(f, "{name:<28}{count:>12}")?;
        }
        writeln!(f, "{} batches, {} sent more than once", self.batches, self.batches_sent_again)?;
        if self.torn_ledger {
            writeln!(f, "the ledger ends in a torn record: its writer was killed")?;
        }
        if self.residue != 0 {
            writeln!(f, "the service's own books are off by {} readings", self.residue)?;
        }
        for difference in &self.differences {
            writeln!(f, "- {difference}")?;
        }
        let untold = self.failures().saturating_sub(self.differences.len() as u64);
        if untold > 0 {
            writeln!(f, "- and {untold} more")?;
        }
        f.write_str(match (self.passed(), self.acknowledged) {
            (true, _) => "passed: every acknowledged reading is stored once and unchanged",
            (false, 0) => "failed: nothing was acknowledged, so nothing is shown",
            (false, _) => "FAILED",
        })
    }
}
