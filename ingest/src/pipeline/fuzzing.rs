//! A payload until its verdict: never a panic, no reading uncounted, and no more of them than a
//! batch may have.

use std::sync::Arc;

use bytes::Bytes;
use loushan_schemas::limits;
use loushan_schemas::reject::RejectReason;
use loushan_schemas::time::ReceiveTime;
use loushan_schemas::topic::Channel;

use super::prepare::{Content, Prepared};
use super::verdict::Outcome;

/// 2026-01-01, midnight UTC.
const RECEIVED_NS: i64 = 1_767_225_600_000_000_000;

pub(crate) fn uplink(data: &[u8]) {
    let Some((&how, payload)) = data.split_first() else { return };
    let channel = Channel::ALL[usize::from(how) % Channel::ALL.len()];
    let topic: Arc<str> = format!("nb1/zunyi/bs0001/{}", channel.suffix()).into();
    let payload = Bytes::copy_from_slice(payload);
    let received = ReceiveTime::from_ns(RECEIVED_NS);
    let prepared = Prepared::new(topic, payload.clone(), received);
    assert_eq!(prepared.payload, payload, "the frame holds the payload as received");
    let Content::Readings(readings) = &prepared.content else {
        assert!(prepared.readings() <= 1);
        return;
    };
    let count = readings.count as usize;
    assert!((1..=limits::READINGS_PER_BATCH).contains(&count));
    assert_eq!(readings.rows.len() + readings.rejects.len(), count);
    assert_eq!(readings.keys.len(), readings.rows.len());
    // Every second one was there before.
    let duplicate: Vec<bool> = (0..readings.rows.len()).map(|n| n % 2 == 1).collect();
    let outcomes: Vec<_> = readings.outcomes(&duplicate).collect();
    assert_eq!(outcomes.len(), count, "a reading without an outcome");
    let tally = readings.tally(&duplicate);
    let of = |outcome: fn(&Outcome) -> bool| outcomes.iter().filter(|o| outcome(o)).count();
    assert_eq!(of(|o| matches!(o, Outcome::Accepted(_))), tally.accepted as usize);
    assert_eq!(of(|o| matches!(o, Outcome::Duplicate)), tally.duplicate as usize);
    assert_eq!(of(|o| matches!(o, Outcome::Rejected(_))), tally.rejected.len());
    let frame = prepared.into_frame(1, &duplicate);
    let unknown = frame.rejects.iter().filter(|r| r.reason == RejectReason::UnknownFields).count();
    let kept = frame.rows.len() + frame.duplicates as usize + frame.rejects.len() - unknown;
    assert!(kept == count || unknown > 1, "{kept} of {count} readings in the frame");
    for row in &frame.rows {
        assert_eq!((row.lsn, row.station.as_str()), (1, "bs0001"));
    }
}
