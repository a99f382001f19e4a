//! What an audit found.

use std::fmt;

/// Differences that are told in full; the rest are counted.
pub(super) const EXPLAINED: usize = 20;
/// Stations that are told by name; the rest only when they have a difference.
const STATIONS_TOLD: usize = 10;

/// Readings by class, each once however often it was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// In the ledger.
    pub sent: u64,
    /// Of them, those in a batch that was acknowledged and not refused.
    pub acknowledged: u64,
    /// Acknowledged, stored once, as meant.
    pub stored: u64,
    /// Not acknowledged, stored once, as meant.
    pub stored_unacknowledged: u64,
    /// Not acknowledged, not stored.
    pub unacknowledged: u64,
    /// Sent at QoS 0, which promises nothing, and stored once, as meant.
    pub unpromised_stored: u64,
    /// Sent at QoS 0, and not stored.
    pub unpromised_absent: u64,
    /// Rejected as they were made to be.
    pub dead_lettered_expected: u64,
    /// Acknowledged, of a day that the store does not keep any more.
    pub removed_by_retention: u64,
    /// Acknowledged, and not kept apart from another one of its device and millisecond, which is there.
    pub collapsed: u64,
    /// Of which such a store cannot be asked.
    pub unaudited: u64,
    /// Acknowledged, and not there.
    pub missing: u64,
    /// Rows beyond a reading's first.
    pub duplicate: u64,
    /// Stored as something else than was meant.
    pub altered: u64,
    /// Rejected though good, or for another reason, or stored though made to be rejected.
    pub dead_lettered_unexpected: u64,
}

impl Sums {
    const NAMES: [&'static str; 15] = [
        "sent",
        "acknowledged",
        "stored",
        "stored, unacknowledged",
        "not stored, unacknowledged",
        "stored, sent at QoS 0",
        "not stored, sent at QoS 0",
        "dead-lettered, expected",
        "removed by retention",
        "collapsed into another",
        "not audited",
        "missing",
        "duplicate",
        "altered",
        "dead-lettered, unexpected",
    ];

    const fn values(&self) -> [u64; 15] {
        [
            self.sent,
            self.acknowledged,
            self.stored,
            self.stored_unacknowledged,
            self.unacknowledged,
            self.unpromised_stored,
            self.unpromised_absent,
            self.dead_lettered_expected,
            self.removed_by_retention,
            self.collapsed,
            self.unaudited,
            self.missing,
            self.duplicate,
            self.altered,
            self.dead_lettered_unexpected,
        ]
    }

    /// Differences that must not be.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.missing + self.duplicate + self.altered + self.dead_lettered_unexpected
    }

    /// In a line, without what there is none of.
    fn line(&self) -> String {
        let named = Self::NAMES.iter().zip(self.values());
        let some: Vec<String> =
            named.filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        some.join(" · ")
    }
}

/// What an audit found. The sums of all readings are at hand directly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// All readings.
    pub total: Sums,
    /// By kind.
    pub by_kind: Vec<(String, Sums)>,
    /// By station.
    pub by_station: Vec<(String, Sums)>,
    /// By the faults that were done to them; one with two faults counts in both.
    pub by_fault: Vec<(String, Sums)>,
    /// Rows of readings the ledger does not know.
    pub foreign_rows: u64,
    /// Dead letters of publishes the ledger does not know.
    pub foreign_letters: u64,
    /// Batches in the ledger.
    pub batches: u64,
    /// Batches that were sent more than once, on purpose or after a lost connection.
    pub batches_sent_again: u64,
    /// Whether the ledger's tail was torn: its writer was killed.
    pub torn_ledger: bool,
    /// By how much the service's own books do not balance; zero.
    pub residue: i64,
    /// What could not be seen in such a store.
    pub blind: Vec<String>,
    /// The first differences, each with all that is known of it.
    pub differences: Vec<String>,
}

impl std::ops::Deref for AuditReport {
    type Target = Sums;

    fn deref(&self) -> &Sums {
        &self.total
    }
}

impl AuditReport {
    /// Whether every acknowledged reading is stored exactly once and unchanged, and there was one; or, where
    /// all was sent at QoS 0, whether what is stored is so and there is some.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.total.failures() == 0 && self.total.acknowledged + self.total.unpromised_stored > 0
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let foreign =
            [("foreign rows", self.foreign_rows), ("foreign dead letters", self.foreign_letters)];
        for (name, count) in Sums::NAMES.into_iter().zip(self.total.values()).chain(foreign) {
            writeln!(f, "{name:<28}{count:>12}")?;
        }
        writeln!(f, "{} batches, {} sent more than once", self.batches, self.batches_sent_again)?;
        for (what, sums) in [("kind", &self.by_kind), ("fault", &self.by_fault)] {
            for (name, sums) in sums {
                writeln!(f, "{what} {name}: {}", sums.line())?;
            }
        }
        let told = |n: usize, sums: &Sums| n < STATIONS_TOLD || sums.failures() > 0;
        let stations = self.by_station.iter().enumerate();
        let mut untold = 0;
        for (n, (name, sums)) in stations {
            if told(n, sums) {
                writeln!(f, "station {name}: {}", sums.line())?;
            } else {
                untold += 1;
            }
        }
        if untold > 0 {
            writeln!(f, "and {untold} more stations without a difference")?;
        }
        if self.torn_ledger {
            writeln!(f, "the ledger ends in a torn record: its writer was killed")?;
        }
        if self.residue != 0 {
            writeln!(f, "the service's own books are off by {} readings", self.residue)?;
        }
        for what in &self.blind {
            writeln!(f, "not seen: {what}")?;
        }
        for difference in &self.differences {
            writeln!(f, "- {difference}")?;
        }
        let untold = self.total.failures().saturating_sub(self.differences.len() as u64);
        if untold > 0 {
            writeln!(f, "- and {untold} more")?;
        }
        f.write_str(match (self.passed(), self.acknowledged) {
            (true, 0) => {
                "passed: all was sent at QoS 0, which promises nothing; what is stored is there once and \
                 unchanged"
            }
            (true, _) => "passed: every acknowledged reading is stored once and unchanged",
            (false, 0) if self.failures() == 0 => "failed: nothing was acknowledged, so nothing is shown",
            (false, _) => "FAILED",
        })
    }
}
