//! What came in and what became of it, and where it waits meanwhile.

use super::{Metric, REJECTED, counter, gauge, label};

pub(super) const BOOKS: &[Metric] = &[
    counter("loushan_readings_received_total", "readings", "Readings that came in.")
        .means("A publish that cannot be decoded counts as one.")
        .alert("rate(loushan_readings_received_total[5m]) == 0"),
    counter("loushan_readings_accepted_total", "readings", "Readings that were new and good."),
    counter("loushan_readings_duplicate_total", "readings", "Readings that were stored before.")
        .means("Stations send again what was not acknowledged: many mean lost acknowledgements."),
    counter(
        "loushan_readings_rejected_total",
        "readings",
        "Readings rejected, by reason; see the dead letter.",
    )
    .by(&[REJECTED])
    .means("The sender's fault. They are acknowledged, and kept with their bytes.")
    .alert(
        "sum(rate(loushan_readings_rejected_total[10m])) > 0.05 * \
         sum(rate(loushan_readings_received_total[10m]))",
    ),
    counter(
        "loushan_readings_shed_total",
        "readings",
        "Readings refused before they were acknowledged.",
    )
    .means("Their connections broke off while they waited; the senders have them, and send again.")
    .alert("rate(loushan_readings_shed_total[5m]) > 0"),
    gauge(
        "loushan_readings_undecided",
        "readings",
        "Readings between arrival and durability.",
    ),
    gauge(
        "loushan_conservation_residue_readings",
        "readings",
        "Readings the books leave unexplained: zero, or something is wrong.",
    )
    .means("received − accepted − duplicate − rejected − shed − undecided. Not zero is a defect.")
    .alert("loushan_conservation_residue_readings != 0"),
    counter(
        "loushan_batches_redelivered_total",
        "publishes",
        "Publishes that came again, byte for byte.",
    ),
    counter(
        "loushan_batches_seq_reuse_total",
        "publishes",
        "Publishes with an earlier one's name and other bytes.",
    )
    .means("A station counts its batches wrongly, or two stations have one name.")
    .alert("increase(loushan_batches_seq_reuse_total[1h]) > 0"),
    counter(
        "loushan_publishes_unknown_fields_total",
        "publishes",
        "Accepted publishes with unknown fields.",
    )
    .means("Senders speak a newer schema than this build: update it."),
    gauge(
        "loushan_last_received_timestamp_seconds",
        "seconds",
        "When the newest durable or waiting publish came, in Unix time, within a second; 0 if none since \
         the start.",
    )
    .alert("time() - loushan_last_received_timestamp_seconds > 300"),
];

pub(super) const QUEUES: &[Metric] = &[
    gauge("loushan_tickets_waiting", "publishes", "Publishes that wait for their sync."),
    gauge(
        "loushan_undurable_seconds",
        "seconds",
        "The age of the oldest publish that waits for its sync, within a second; 0 if none does.",
    )
    .means("More than a second or two: the disk hangs, and acknowledgements with it.")
    .alert("loushan_undurable_seconds > 5"),
    gauge(
        "loushan_lookups_waiting",
        "publishes",
        "Publishes that wait for an answer of the store.",
    )
    .means("They hold readings older than what is remembered of their devices."),
    gauge("loushan_lookup_bytes", "bytes", "Bytes of those publishes.")
        .bounded("pipeline.lookup_bytes")
        .alert("loushan_lookup_bytes / on(instance) loushan_limit_bytes{key=\"pipeline.lookup_bytes\"} > 0.8"),
    gauge("loushan_tail_bytes", "bytes", "Durable readings in memory for the sinks.")
        .bounded("pipeline.tail_bytes")
        .means("Full is normal: a sink that needs what has left it reads the log."),
    gauge("loushan_dedup_bytes", "bytes", "Memory by which duplicates are known.")
        .by(&[label("of", &["devices", "batches"])])
        .bounded("pipeline.device_bytes, pipeline.batch_bytes")
        .means("At its bound the store is asked more often, which is slower."),
];
