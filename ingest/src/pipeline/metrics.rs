//! The pipeline's figures as metrics.
//!
//! Set from the books when somebody is about to read the metrics, not counted on the way: the hot
//! path stays free of them, and what is read together adds up.

use loushan_schemas::reject::RejectReason;
use metrics::{counter, gauge};

use super::Pipeline;
use crate::wal::Lsn;

impl Pipeline {
    /// Brings the metrics up to date. To be called before they are rendered.
    #[allow(clippy::cast_precision_loss)] // gauges are f64, and exact up to 2^53
    pub fn record_metrics(&self) {
        let figures = self.figures();
        counter!("loushan_readings_received_total").absolute(figures.received);
        counter!("loushan_readings_accepted_total").absolute(figures.accepted);
        counter!("loushan_readings_duplicate_total").absolute(figures.duplicate);
        for reason in RejectReason::ALL {
            counter!("loushan_readings_rejected_total", "reason" => reason.as_str())
                .absolute(figures.rejected_for(*reason));
        }
        counter!("loushan_readings_shed_total").absolute(figures.shed);
        gauge!("loushan_readings_undecided").set(figures.undecided as f64);
        gauge!("loushan_conservation_residue_readings").set(figures.residue() as f64);
        counter!("loushan_batches_redelivered_total").absolute(figures.redelivered_batches);
        counter!("loushan_batches_seq_reuse_total").absolute(figures.seq_reuse);
        counter!("loushan_publishes_unknown_fields_total").absolute(figures.unknown_fields);
        gauge!("loushan_tickets_waiting").set(self.core.acks.waiting() as f64);
        gauge!("loushan_undurable_seconds").set(self.undurable_seconds());
        let last = self.core.tail.marks.lock().last().unwrap_or(0);
        gauge!("loushan_last_received_timestamp_seconds").set(last as f64 / 1e9);
        gauge!("loushan_lookups_waiting").set(self.lookup.waiting() as f64);
        gauge!("loushan_lookup_bytes").set(self.lookup.bytes() as f64);
        gauge!("loushan_tail_bytes").set(self.core.tail.bytes() as f64);
        let (devices, batches) = {
            let decider = self.core.decider.lock();
            (decider.state.devices.bytes(), decider.state.batches.bytes())
        };
        gauge!("loushan_dedup_bytes", "of" => "devices").set(devices as f64);
        gauge!("loushan_dedup_bytes", "of" => "batches").set(batches as f64);
        let log = self.log().stats();
        gauge!("loushan_wal_buffer_bytes").set(log.buffered_bytes as f64);
        gauge!("loushan_wal_oldest_seconds").set(self.oldest_seconds(log.first, log.durable));
    }

    /// How long the oldest publish waits that is appended and not durable.
    fn undurable_seconds(&self) -> f64 {
        let (durable, next) = (self.log().durable().0, self.log().next_lsn().0);
        if next <= durable.saturating_add(1) {
            return 0.0;
        }
        self.age(durable + 1)
    }

    /// The age of the oldest frame that the log has.
    fn oldest_seconds(&self, first: Lsn, durable: Lsn) -> f64 {
        if first > durable { 0.0 } else { self.age(first.0) }
    }

    #[allow(clippy::cast_precision_loss)] // of a gauge
    fn age(&self, lsn: u64) -> f64 {
        match self.received(lsn) {
            Ok(Some(at)) => self.clock.now().ns().saturating_sub(at).max(0) as f64 / 1e9,
            Ok(None) => 0.0,
            Err(error) => {
                tracing::warn!(%error, "the age of a frame of the log is unknown");
                0.0
            }
        }
    }
}
