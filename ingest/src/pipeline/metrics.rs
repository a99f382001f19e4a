//! The pipeline's figures as metrics.
//!
//! Set from the books when somebody is about to read the metrics, not counted on the way: the hot
//! path stays free of them, and what is read together adds up.

use loushan_schemas::reject::RejectReason;
use metrics::{counter, gauge};

use super::Pipeline;

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
        gauge!("loushan_lookups_waiting").set(self.lookup.waiting() as f64);
        gauge!("loushan_tail_bytes").set(self.core.tail.bytes() as f64);
        let (devices, batches) = {
            let decider = self.core.decider.lock();
            (decider.state.devices.bytes(), decider.state.batches.bytes())
        };
        gauge!("loushan_dedup_bytes", "of" => "devices").set(devices as f64);
        gauge!("loushan_dedup_bytes", "of" => "batches").set(batches as f64);
    }
}
