//! The few differences that are told in full: the ledger is read once more for all it knows of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, SecondsFormat};
use loushan_schemas::kind::Kind;
use loushan_schemas::reject::RejectReason;

use super::AuditError;
use super::gather::Ledgers;
use super::judge::{Class, Difference};
use super::source::Store;
use crate::ledger::{BatchRecord, LedgerReading, Record};

/// What the ledger knows of a batch.
#[derive(Debug, Default)]
struct Known {
    batch: Option<BatchRecord>,
    acknowledged: Option<(i64, bool)>,
    times: u32,
}

/// The differences in words, in their order.
pub(super) fn explain<'a>(
    differences: impl Iterator<Item = &'a Difference> + Clone,
    ledgers: &mut Ledgers,
    store: &mut dyn Store,
) -> Result<Vec<String>, AuditError> {
    let mut known: BTreeMap<u64, Known> =
        differences.clone().map(|d| (d.id, Known::default())).collect();
    if known.is_empty() {
        return Ok(Vec::new());
    }
    ledgers.read(|_, record| {
        let (Record::Acknowledged { id, .. }
        | Record::SentAgain { id }
        | Record::Batch(BatchRecord { id, .. })) = &record
        else {
            return Ok(());
        };
        let Some(known) = known.get_mut(id) else { return Ok(()) };
        match record {
            Record::Batch(batch) => known.batch = Some(batch),
            Record::Acknowledged { at_ms, refused, .. } => {
                // A repeated one may be acknowledged again; the first that took it counts.
                if known.acknowledged.is_none_or(|(_, refused)| refused) {
                    known.acknowledged = Some((at_ms, refused));
                }
            }
            _ => known.times += 1,
        }
        Ok(())
    })?;
    let wanted: HashSet<(u64, u128)> =
        differences.clone().filter_map(|d| Some((d.lsn?, d.key))).collect();
    let rows = if wanted.is_empty() { HashMap::new() } else { store.tell(&wanted)? };
    Ok(differences
        .map(|d| {
            let told = known.get(&d.id).map(|known| tell(known, d.place, &ledgers.faults));
            let told = told.unwrap_or_default();
            let row = d.lsn.map(|lsn| match rows.get(&(lsn, d.key)) {
                Some(row) => short(row),
                None => format!("a row of lsn {lsn}"),
            });
            let row = row.unwrap_or_default();
            match d.class {
                Class::Missing => format!("missing: {told}"),
                Class::Altered => format!("altered: {told}; stored as {row}"),
                Class::Duplicate { row: n } => format!("duplicate: {told}; row {n} is {row}"),
                Class::StoredThoughBad => format!("stored though made to be rejected: {told}"),
                Class::DeadLettered { reason } => {
                    let reason = RejectReason::from_number(reason);
                    let reason = reason.map_or("for an unknown reason", RejectReason::as_str);
                    format!("dead-lettered ({reason}): {told}")
                }
            }
        })
        .collect())
}

/// All that the ledger knows of a reading.
fn tell(known: &Known, place: u16, faults: &[std::sync::Arc<str>]) -> String {
    let Some(batch) = &known.batch else { return String::new() };
    let Some(LedgerReading { meant, expected, marks }) = batch.readings.get(usize::from(place))
    else {
        return String::new();
    };
    let kind = Kind::from_number(meant.kind).map_or("unknown kind", Kind::as_str);
    let mut told = format!(
        "{kind} of imei {:015} boot {} seq {} digest {:016x}, measured {}, {} session {:08x} {} seq \
         {} (reading {place}), sent {}",
        meant.imei,
        meant.boot_epoch,
        meant.seq,
        meant.digest,
        meant.measured_ms.map_or_else(|| "never".to_owned(), time),
        batch.station,
        batch.session,
        batch.channel.suffix(),
        batch.seq,
        time(batch.sent_ms),
    );
    match known.acknowledged {
        None => told.push_str(", not acknowledged"),
        Some((at, true)) => told.push_str(&format!(", refused {}", time(at))),
        Some((at, false)) => told.push_str(&format!(", acknowledged {}", time(at))),
    }
    if known.times > 0 {
        told.push_str(&format!(", sent {} times", known.times + 1));
    }
    if let Some(reason) = expected {
        told.push_str(&format!(", made to be rejected as {}", reason.as_str()));
    }
    for fault in marks.numbers().filter_map(|number| faults.get(number)) {
        told.push_str(&format!(", fault {fault}"));
    }
    told
}

fn time(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |t| t.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The beginning of a line.
fn short(line: &str) -> String {
    let mut short: String = line.chars().take(600).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}
