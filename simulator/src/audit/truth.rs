//! The ledger in memory, and what was found of it.
//!
//! About 100 bytes a reading: ten million take a gigabyte.

use std::path::Path;

use hashbrown::HashMap;
use loushan_schemas::ids::Imei;
use loushan_schemas::reject::RejectReason;
use loushan_schemas::row::Row;
use xxhash_rust::xxh3::xxh3_128;

use super::AuditError;
use super::report::{AuditReport, EXPLAINED};
use super::service::Letter;
use crate::ledger::{BatchRecord, LedgerReader, LedgerReading, Meant, Record};

/// One reading of the ledger.
#[derive(Debug)]
struct Entry {
    meant: Meant,
    expected: Option<RejectReason>,
    /// The first batch it was sent in.
    batch: u32,
    acknowledged: bool,
    rows: u32,
    altered: bool,
    letter_expected: bool,
    letter_unexpected: bool,
}

/// One batch of the ledger, without its readings.
#[derive(Debug)]
struct Sent {
    record: BatchRecord,
    entries: Vec<u32>,
    acknowledged: bool,
    again: bool,
}

/// What is true, by the ledger.
#[derive(Debug, Default)]
pub(super) struct Truth {
    entries: Vec<Entry>,
    by_key: HashMap<u128, u32>,
    batches: Vec<Sent>,
    by_payload: HashMap<u128, u32>,
    report: AuditReport,
}

/// How a reading is known again: a device's by its own counters, a station's by its session. The
/// measured time and the kind are left out, so that a row in which one of them was altered is still
/// recognised as that reading's.
fn key(imei: u64, boot_epoch: u32, seq: u64, station: &str, session: u32) -> u128 {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&imei.to_le_bytes());
    bytes.extend_from_slice(&boot_epoch.to_le_bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
    if imei == 0 {
        bytes.extend_from_slice(&session.to_le_bytes());
        bytes.extend_from_slice(station.as_bytes());
    }
    xxh3_128(&bytes)
}

impl Truth {
    pub(super) fn read(path: &Path) -> Result<Self, AuditError> {
        let mut reader = LedgerReader::open(path)?;
        let mut truth = Self::default();
        while let Some(record) = reader.next_record()? {
            match record {
                Record::Run(_) => {}
                Record::Batch(batch) => truth.batch(batch)?,
                Record::Acknowledged { id, refused, .. } => {
                    if let (false, Some(sent)) = (refused, truth.sent(id)) {
                        sent.acknowledged = true;
                    }
                }
                Record::SentAgain { id } => {
                    if let Some(sent) = truth.sent(id) {
                        sent.again = true;
                    }
                }
            }
        }
        truth.report.torn_ledger = reader.torn();
        for sent in truth.batches.iter().filter(|sent| sent.acknowledged) {
            for entry in &sent.entries {
                if let Some(entry) = truth.entries.get_mut(*entry as usize) {
                    entry.acknowledged = true;
                }
            }
        }
        Ok(truth)
    }

    /// Ids are ordinals.
    fn sent(&mut self, id: u64) -> Option<&mut Sent> {
        self.batches.get_mut(usize::try_from(id).ok()?)
    }

    fn batch(&mut self, mut record: BatchRecord) -> Result<(), AuditError> {
        let number = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
        let mut entries = Vec::with_capacity(record.readings.len());
        for LedgerReading { meant, expected, .. } in std::mem::take(&mut record.readings) {
            let key = key(meant.imei, meant.boot_epoch, meant.seq, &record.station, record.session);
            let next = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            let at = *self.by_key.entry(key).or_insert(next);
            if let Some(before) = self.entries.get(at as usize) {
                if (before.meant, before.expected) != (meant, expected) {
                    return Err(AuditError::Contradiction { reading: describe(&meant, &record) });
                }
            } else {
                self.entries.push(Entry {
                    meant,
                    expected,
                    batch: number,
                    acknowledged: false,
                    rows: 0,
                    altered: false,
                    letter_expected: false,
                    letter_unexpected: false,
                });
            }
            entries.push(at);
        }
        self.by_payload.insert(record.payload_digest, number);
        self.batches.push(Sent { record, entries, acknowledged: false, again: false });
        Ok(())
    }

    fn explain(&mut self, difference: impl FnOnce() -> String) {
        if self.report.differences.len() < EXPLAINED {
            self.report.differences.push(difference());
        }
    }

    /// What the ledger knows of a reading, in words.
    fn known(&self, at: u32) -> String {
        let Some(entry) = self.entries.get(at as usize) else { return String::new() };
        let Some(sent) = self.batches.get(entry.batch as usize) else { return String::new() };
        let acknowledged = if entry.acknowledged { "acknowledged" } else { "not acknowledged" };
        let again = if sent.again { ", sent more than once" } else { "" };
        format!("{}, {acknowledged}{again}", describe(&entry.meant, &sent.record))
    }

    /// A stored row.
    pub(super) fn row(&mut self, row: &Row, line: &str) {
        let r = &row.reading;
        let imei = r.imei.map_or(0, Imei::get);
        let key = key(imei, r.boot_epoch, r.seq, row.station.as_str(), row.session);
        let Some(at) = self.by_key.get(&key).copied() else {
            self.report.foreign_rows += 1;
            return;
        };
        let Some(entry) = self.entries.get_mut(at as usize) else { return };
        entry.rows = entry.rows.saturating_add(1);
        let rows = entry.rows;
        // A further row is judged as well: it may be the altered one.
        let altered = r.digest() != entry.meant.digest && !entry.altered;
        entry.altered |= altered;
        let unexpected = entry.expected.is_some() && rows == 1;
        if altered {
            self.report.altered += 1;
            let known = self.known(at);
            self.explain(|| format!("altered: {known}; stored as {}", short(line)));
        }
        if rows > 1 {
            self.report.duplicate += 1;
            let known = self.known(at);
            self.explain(|| format!("duplicate: {known}; row {rows} is {}", short(line)));
        }
        if unexpected {
            self.report.dead_lettered_unexpected += 1;
            let known = self.known(at);
            self.explain(|| format!("stored though made to be rejected: {known}"));
        }
    }

    /// A dead letter.
    pub(super) fn letter(&mut self, letter: &Letter, line: &str) {
        let about = match (letter.publish, letter.reading) {
            (Some(digest), _) => self
                .by_payload
                .get(&digest)
                .and_then(|batch| self.batches.get(*batch as usize))
                .map(|sent| sent.entries.clone()),
            // A station's own figures are a publish, never a reading of one.
            (None, Some((imei, boot_epoch, seq))) => {
                self.by_key.get(&key(imei, boot_epoch, seq, "", 0)).map(|at| vec![*at])
            }
            (None, None) => None,
        };
        let Some(about) = about else {
            self.report.foreign_letters += 1;
            return;
        };
        for at in about {
            let Some(entry) = self.entries.get_mut(at as usize) else { continue };
            if entry.expected.is_some_and(|reason| reason.as_str() == letter.reason) {
                entry.letter_expected = true;
            } else if !entry.letter_unexpected {
                entry.letter_unexpected = true;
                self.report.dead_lettered_unexpected += 1;
                let known = self.known(at);
                self.explain(|| {
                    format!("dead-lettered ({}): {known}; {}", letter.reason, short(line))
                });
            }
        }
    }

    /// Every reading of the ledger in its class.
    pub(super) fn verdict(mut self) -> AuditReport {
        self.report.batches = self.batches.len() as u64;
        self.report.batches_sent_again = self.batches.iter().filter(|s| s.again).count() as u64;
        self.report.sent = self.entries.len() as u64;
        let mut missing = Vec::new();
        for (at, entry) in (0..).zip(&self.entries) {
            let report = &mut self.report;
            report.acknowledged += u64::from(entry.acknowledged);
            match (entry.rows, entry.acknowledged) {
                _ if entry.letter_expected && entry.rows == 0 => report.dead_lettered_expected += 1,
                // Counted when the letter was read; a good reading in the dead letters is not stored.
                (0, _) if entry.letter_unexpected => {}
                (0, false) => report.unacknowledged += 1,
                (0, true) => {
                    report.missing += 1;
                    missing.push(at);
                }
                (1, true) if !entry.altered => report.stored += 1,
                (1, false) if !entry.altered => report.stored_unacknowledged += 1,
                _ => {}
            }
            missing.truncate(EXPLAINED);
        }
        for at in missing {
            let known = self.known(at);
            self.explain(|| format!("missing: {known}"));
        }
        self.report
    }
}

fn describe(meant: &Meant, batch: &BatchRecord) -> String {
    let kind = loushan_schemas::kind::Kind::from_number(meant.kind)
        .map_or("unknown kind", loushan_schemas::kind::Kind::as_str);
    format!(
        "{kind} of imei {:015} boot {} seq {} digest {:016x}, {} session {:08x} {} seq {}",
        meant.imei,
        meant.boot_epoch,
        meant.seq,
        meant.digest,
        batch.station,
        batch.session,
        batch.channel.suffix(),
        batch.seq,
    )
}

/// The beginning of a line.
fn short(line: &str) -> String {
    let mut short: String = line.chars().take(600).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}
