//! A ledger of any number of readings, and a store that has them, but for what is said to be wrong with it.

use std::path::Path;

use loushan_schemas::topic::Channel;

use crate::AuditError;
use crate::audit::{Each, Keeps, Letter, Store, Stored, key};
use crate::ledger::{BatchRecord, Ledger, LedgerError, LedgerReading, Meant, RunRecord};

/// When they were measured, the first of them.
pub const START_MS: i64 = 1_790_000_000_000;
/// Readings of a batch.
pub const BATCH: u64 = 50;

/// Reading `n` of a fleet of a hundred thousand devices.
#[must_use]
pub fn meant(n: u64) -> Meant {
    let (device, seq) = (n % 100_000, n / 100_000);
    let imei = 860_000_000_000_000 + device * 7_919_113 % 1_000_000_000;
    let digest = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let measured_ms = Some(START_MS + (n / 500).cast_signed());
    Meant { imei, boot_epoch: 1_790_000_000, seq, kind: (n % 5 + 1) as u8, measured_ms, digest }
}

/// A ledger of so many readings, all acknowledged.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, readings: u64) -> Result<(), LedgerError> {
    let run = RunRecord { seed: 1, start_ms: START_MS, shape: 3 };
    let ledger = Ledger::open(path, run)?;
    let reorder = ledger.marks(&["reorder"])?;
    for batch in 0..readings / BATCH {
        let of = |n| {
            let marks = if n % 100 == 7 { reorder } else { crate::ledger::Marks::default() };
            LedgerReading { marks, ..meant(n).into() }
        };
        let id = ledger.batch(&BatchRecord {
            id: 0,
            station: format!("bs{:04}", batch % 500).into(),
            session: 7,
            seq: batch / 500,
            channel: Channel::Telemetry,
            payload_digest: u128::from(batch),
            promised: true,
            due_ms: START_MS + (batch / 10).cast_signed(),
            sent_ms: START_MS + (batch / 10).cast_signed() + 3,
            readings: (batch * BATCH..(batch + 1) * BATCH).map(of).collect(),
        })?;
        ledger.acknowledged(id, START_MS + 9, false)?;
    }
    ledger.flush()
}

/// A store that has them all but what is said to be wrong with it.
#[derive(Debug, Default)]
pub struct Made {
    /// How many there should be.
    pub readings: u64,
    /// What it does not keep.
    pub keeps: Keeps,
    /// Those that are not there.
    pub without: Vec<u64>,
    /// Those that are there twice.
    pub twice: Vec<u64>,
    /// Those that are not what was meant.
    pub altered: Vec<u64>,
}

impl Made {
    fn row(&self, n: u64) -> Stored {
        let m = meant(n);
        Stored {
            key: key(m.imei, m.boot_epoch, m.seq, "", 0),
            digest: m.digest ^ u64::from(self.altered.contains(&n)),
            kind: m.kind,
            effective_ms: m.measured_ms.unwrap_or(0),
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
