//! The table of all metrics, the recorder that gathers them, and those that are looked up at each
//! scrape rather than counted.
//!
//! A test holds the table against the sources: what is not in it is not emitted, and the reverse.

use std::sync::{Arc, OnceLock};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::view::Conservation;
use crate::readiness::Readiness;
use crate::sink::{SinkFigures, SinkState};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Type {
    /// Only rises; ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution over these upper bounds.
    Histogram(&'static [f64]),
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Type,
    /// What it says.
    pub help: &'static str,
}

/// From a sync on a fast disk to one that hangs.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Type::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Type::Gauge, help }
}

const fn seconds(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Type::Histogram(SECONDS), help }
}

/// All metrics there are.
pub static METRICS: &[Metric] = &[
    // The books.
    counter("loushan_readings_received_total", "Readings that came in."),
    counter("loushan_readings_accepted_total", "Readings that were new and good."),
    counter("loushan_readings_duplicate_total", "Readings that were stored before."),
    counter(
        "loushan_readings_rejected_total",
        "Readings rejected, by reason; see the dead letter.",
    ),
    counter("loushan_readings_shed_total", "Readings refused before they were acknowledged."),
    gauge("loushan_readings_undecided", "Readings between arrival and durability."),
    gauge(
        "loushan_conservation_residue_readings",
        "Readings the books leave unexplained: zero, or something is wrong.",
    ),
    counter("loushan_batches_redelivered_total", "Publishes that came again, byte for byte."),
    counter(
        "loushan_batches_seq_reuse_total",
        "Publishes with an earlier one's name and other bytes.",
    ),
    counter("loushan_publishes_unknown_fields_total", "Accepted publishes with unknown fields."),
    gauge("loushan_tickets_waiting", "Publishes that wait for their sync."),
    gauge("loushan_lookups_waiting", "Publishes that wait for an answer of the store."),
    gauge("loushan_tail_bytes", "Durable readings in memory for the sinks."),
    gauge("loushan_dedup_bytes", "Memory by which duplicates are known."),
    // The service.
    gauge("loushan_durable_lsn", "The greatest durable lsn of the log."),
    gauge("loushan_ready", "1 while the service is ready."),
    gauge("loushan_not_durable", "1 where a power loss may take what was acknowledged."),
    gauge("loushan_live_clients", "Clients of the live feed."),
    counter("loushan_live_frames_skipped_total", "Frames that the live feed passed over."),
    gauge("loushan_project_readings_today", "Readings of a project accepted today (UTC+8)."),
    gauge("loushan_project_bytes_today", "Bytes of a project's payloads received today (UTC+8)."),
    gauge("loushan_project_quota_used_ratio", "How much of its quota a project has used today."),
    // MQTT.
    gauge("loushan_connections", "Open MQTT connections."),
    gauge("loushan_handshakes", "TLS and WebSocket handshakes under way."),
    gauge("loushan_buffer_bytes", "Bytes read of incomplete packets and not yet taken by clients."),
    counter("loushan_read_pauses_total", "Times a client was not read for a while, by reason."),
    counter("loushan_connects_total", "What came of sockets that were accepted, by result."),
    counter("loushan_disconnects_total", "Ended connections, by reason."),
    counter("loushan_publishes_received_total", "PUBLISH packets received."),
    counter("loushan_publishes_sent_total", "PUBLISH packets sent to subscribers."),
    counter("loushan_acks_sent_total", "Acknowledgements sent, by class."),
    seconds("loushan_ack_latency_seconds", "From a PUBLISH's arrival to its acknowledgement."),
    gauge("loushan_in_flight_publishes", "Publishes taken and not acknowledged."),
    gauge("loushan_in_flight_bytes", "Their bytes."),
    counter(
        "loushan_live_feed_dropped_total",
        "Messages not shown to subscribers: too many at once.",
    ),
    counter("loushan_subscriber_messages_dropped_total", "Messages dropped for a slow subscriber."),
    counter("loushan_retained_refused_total", "Messages not retained: no room."),
    counter(
        "loushan_absent_messages_refused_total",
        "Messages not kept for an absent client: no room.",
    ),
    counter("loushan_session_commits_total", "Commits of sessions and retained messages."),
    counter(
        "loushan_session_commit_failures_total",
        "Commits of sessions that failed and were tried again.",
    ),
    seconds("loushan_session_commit_latency_seconds", "How long a commit of sessions took."),
    counter("loushan_session_records_written_total", "Records in those commits."),
    gauge("loushan_session_records_waiting", "Records for the next commit of sessions."),
    counter(
        "loushan_topics_refused_total",
        "Publishes, wills and filters whose topic is longer or deeper than configured.",
    ),
    counter("loushan_wills_refused_total", "Clients turned away: no room for their wills."),
    counter("loushan_publishes_denied_total", "Publishes that their clients may not make."),
    counter("loushan_subscriptions_refused_total", "Filters refused: the client has enough."),
    counter("loushan_subscriptions_denied_total", "Filters refused: not for the client."),
    counter("loushan_deliveries_denied_total", "Messages held back: not for the client."),
    counter("loushan_logins_total", "Credentials looked at, of MQTT and HTTP, by result."),
    counter(
        "loushan_http_refused_total",
        "HTTP requests refused before they were heard, by status.",
    ),
    counter("loushan_router_restarts_total", "Restarts of the live fan-out's router."),
    // HTTP, and the certificates of both.
    counter(
        "loushan_http_connections_refused_total",
        "HTTP connections closed as they came: too many.",
    ),
    counter("loushan_certificate_reloads_total", "Certificates read anew, by result."),
    // The write-ahead log.
    gauge("loushan_wal_disk_bytes", "Bytes of the log's segments on disk."),
    gauge("loushan_wal_segments", "Segments of the log."),
    seconds("loushan_wal_sync_seconds", "How long a sync of the log took."),
    counter("loushan_wal_frames_total", "Frames written."),
    counter("loushan_wal_written_bytes_total", "Bytes written."),
    counter(
        "loushan_wal_failures_total",
        "Writes and syncs that failed; a new segment follows each.",
    ),
    counter(
        "loushan_wal_corrupt_frames_total",
        "Frames that recovery found damaged and set aside.",
    ),
    counter("loushan_wal_skipped_frames_total", "Frames a reader found missing and passed over."),
    // The embedded store, the dead letter, InfluxDB.
    counter("loushan_store_flushes_total", "Flushes of the store from memory to files."),
    counter("loushan_store_flush_failures_total", "Flushes that failed and were tried again."),
    seconds("loushan_store_flush_seconds", "How long a flush took."),
    seconds(
        "loushan_query_seconds",
        "How long a question to the store took, its receiver included.",
    ),
    counter(
        "loushan_queries_unanswered_total",
        "Questions without an answer, or not to its end, by why.",
    ),
    gauge("loushan_store_files", "Files of the store, by table."),
    gauge("loushan_store_rows", "Rows in them, by table."),
    gauge("loushan_store_bytes", "Bytes of them, by table."),
    gauge("loushan_store_oldest_day_seconds", "When a table's oldest day begins; 0 without one."),
    counter("loushan_store_compactions_total", "Merges of files into fewer, by table."),
    counter("loushan_store_compaction_failures_total", "Merges that were not done, by reason."),
    seconds("loushan_store_compaction_seconds", "How long a merge took, pauses included."),
    counter("loushan_store_compaction_read_bytes_total", "Bytes of files that were merged."),
    counter("loushan_store_compaction_written_bytes_total", "Bytes of files they became."),
    counter("loushan_store_compaction_rows_total", "Rows in those."),
    gauge("loushan_store_files_left_alone", "Files left out of merging: damaged, or too new."),
    gauge("loushan_store_removed_files_read", "Files removed from the store and still read."),
    gauge("loushan_store_removed_bytes_read", "Bytes of them."),
    counter("loushan_retention_removed_partitions_total", "Days removed by retention, by kind."),
    counter("loushan_retention_removed_readings_total", "Readings in them, by kind."),
    counter("loushan_retention_removed_bytes_total", "Bytes of their files, by kind."),
    counter("loushan_dead_letters_total", "Dead letters written, by reason."),
    counter("loushan_dead_letters_cut_short_total", "Dead letters that kept only their beginning."),
    counter("loushan_dead_letters_replayed_total", "Dead letters decided again, and taken."),
    counter("loushan_dead_letters_deleted_total", "Dead letters deleted by the quota."),
    counter(
        "loushan_dead_letter_corrupt_total",
        "Damaged stretches of the dead letter passed over.",
    ),
    gauge("loushan_dead_letter_bytes", "Bytes of the dead letter on disk."),
    gauge("loushan_influx_held_bytes", "Bytes waiting in memory for an InfluxDB server."),
    seconds("loushan_influx_request_seconds", "How long an InfluxDB server took to answer."),
    counter("loushan_influx_requests_total", "Requests to an InfluxDB server, by answer."),
    // The sinks, by name.
    counter("loushan_sink_fed_readings_total", "Readings given to the sink."),
    counter("loushan_sink_stored_readings_total", "Readings the sink stored."),
    counter("loushan_sink_replayed_readings_total", "Readings the sink found stored already."),
    counter("loushan_sink_refused_readings_total", "Readings the far side refused for good."),
    counter("loushan_sink_let_go_readings_total", "Readings given up on purpose."),
    counter(
        "loushan_sink_rewound_readings_total",
        "Of those given, readings given before a rewind.",
    ),
    counter(
        "loushan_sink_returned_readings_total",
        "Readings the sink held when it was ended; it is given them again.",
    ),
    gauge("loushan_sink_pending_readings", "Readings the sink holds and has not stored."),
    gauge("loushan_sink_residue_readings", "Readings the sink's figures leave unexplained."),
    gauge("loushan_sink_cursor_lsn", "Up to here everything is durably stored by the sink."),
    gauge("loushan_sink_position_lsn", "Up to here everything was given to the sink."),
    gauge("loushan_sink_oldest_seconds", "How long the oldest reading a sink holds has been held."),
    gauge("loushan_sink_lag_frames", "Frames of the log the sink has not stored."),
    gauge("loushan_sink_lag_bytes", "Their bytes in the log, about."),
    gauge("loushan_sink_lag_seconds", "The age of the oldest of them."),
    gauge("loushan_sink_running", "0 while the sink is paused, removed, or to be begun again."),
    gauge("loushan_sink_trouble", "1 while something keeps the sink from storing."),
    // Alarms.
    gauge("loushan_alarms_open", "Alarms that last, by rule and severity."),
    gauge(
        "loushan_alarms_unacknowledged",
        "Alarms that nobody has acknowledged, whether they last or not.",
    ),
    gauge("loushan_alarms_cleared_kept", "Alarms that are over and still known."),
    counter(
        "loushan_alarm_events_total",
        "Alarms raised, cleared and acknowledged, by rule and change.",
    ),
    counter(
        "loushan_alarm_late_readings_total",
        "Readings that were no news of their device: they changed no alarm.",
    ),
    counter(
        "loushan_alarm_forgotten_total",
        "Devices and stations forgotten because alarms.memory was full.",
    ),
    gauge("loushan_alarm_devices", "Devices that alarms know."),
    gauge("loushan_alarm_stations", "Stations that alarms know."),
    gauge(
        "loushan_alarm_memory_bytes",
        "Memory of what alarms know of devices and stations, about.",
    ),
    gauge("loushan_alarm_outbox_bytes", "Events that wait for somebody to be told of them."),
    gauge("loushan_alarm_webhook_pending_events", "Events a webhook has not had."),
    gauge(
        "loushan_alarm_webhook_oldest_seconds",
        "Age of the oldest event that a webhook has not had.",
    ),
    counter("loushan_alarm_webhook_delivered_total", "Events a webhook has had."),
    counter("loushan_alarm_webhook_failures_total", "Attempts to tell a webhook that failed."),
    counter(
        "loushan_alarm_webhook_dropped_total",
        "Events a webhook will never get: alarms.outbox_bytes was full.",
    ),
];

/// The process's recorder. There can be one only, whoever asks first installs it.
///
/// # Panics
/// Never: the buckets are constants that a test builds.
pub fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = builder().build_recorder();
            let handle = recorder.handle();
            // Somebody else's recorder may be there already, in a test; this one then stays empty.
            if metrics::set_global_recorder(recorder).is_ok() {
                describe();
            }
            handle
        })
        .clone()
}

fn builder() -> PrometheusBuilder {
    let buckets = METRICS.iter().filter_map(|metric| match metric.kind {
        Type::Histogram(bounds) => Some((metric.name, bounds)),
        _ => None,
    });
    buckets.fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
        // Fails for an empty list of bounds only.
        builder
            .set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
            .unwrap_or_else(|_empty| PrometheusBuilder::new())
    })
}

fn describe() {
    for Metric { name, kind, help } in METRICS {
        match kind {
            Type::Counter => describe_counter!(*name, *help),
            Type::Gauge => describe_gauge!(*name, *help),
            Type::Histogram(_) => describe_histogram!(*name, *help),
        }
    }
}

/// Brings the sinks' figures and readiness up to date. The process's books are the pipeline's.
pub(super) fn publish(books: &Conservation, readiness: &Readiness) {
    gauge!("loushan_durable_lsn").set(float(books.durable_lsn));
    gauge!("loushan_ready").set(flag(readiness.is_ready()));
    gauge!("loushan_not_durable").set(flag(
        readiness.conditions().any(|(part, _)| part == crate::readiness::Component::Durability),
    ));
    books.sinks.iter().for_each(publish_sink);
}

fn publish_sink(sink: &SinkFigures) {
    let label = [("sink", Arc::clone(&sink.name))];
    counter!("loushan_sink_fed_readings_total", &label).absolute(sink.fed);
    counter!("loushan_sink_stored_readings_total", &label).absolute(sink.stored);
    counter!("loushan_sink_replayed_readings_total", &label).absolute(sink.replayed);
    counter!("loushan_sink_refused_readings_total", &label).absolute(sink.refused);
    counter!("loushan_sink_let_go_readings_total", &label).absolute(sink.let_go);
    counter!("loushan_sink_rewound_readings_total", &label).absolute(sink.rewound);
    counter!("loushan_sink_returned_readings_total", &label).absolute(sink.returned);
    gauge!("loushan_sink_pending_readings", &label).set(float(sink.pending));
    gauge!("loushan_sink_residue_readings", &label).set(signed(sink.residue()));
    gauge!("loushan_sink_cursor_lsn", &label).set(float(sink.cursor));
    gauge!("loushan_sink_position_lsn", &label).set(float(sink.position));
    gauge!("loushan_sink_lag_frames", &label).set(float(sink.lag.frames));
    gauge!("loushan_sink_lag_bytes", &label).set(float(sink.lag.bytes));
    gauge!("loushan_sink_lag_seconds", &label).set(sink.lag.seconds);
    gauge!("loushan_sink_trouble", &label).set(flag(sink.trouble.is_some()));
    gauge!("loushan_sink_running", &label).set(flag(sink.state == SinkState::Running));
}

// Gauges are floats: exact up to 2^53, which no figure of ours reaches.
#[allow(clippy::cast_precision_loss)]
fn float(n: u64) -> f64 {
    n as f64
}

#[allow(clippy::cast_precision_loss)]
fn signed(n: i64) -> f64 {
    n as f64
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::readiness::{Component, Condition};
    use crate::sink::SinkStatus;

    /// Every quoted name that starts as our metrics do, tests included.
    fn names_in(dir: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                names_in(&path, names);
            } else if path.extension().is_some_and(|e| e == "rs")
                && !path.ends_with("http/metrics.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                for part in text.split("!(\"loushan_").skip(1) {
                    names.insert(format!("loushan_{}", part.split('"').next().unwrap()));
                }
            }
        }
    }

    #[test]
    fn the_table_and_the_sources_name_the_same_metrics() {
        let mut emitted = BTreeSet::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        names_in(&root.join("src"), &mut emitted);
        names_in(&root.join("../broker/src"), &mut emitted);
        let own = include_str!("metrics.rs").split("mod tests").next().unwrap();
        for part in own.split("!(\"loushan_").skip(1) {
            emitted.insert(format!("loushan_{}", part.split('"').next().unwrap()));
        }
        let listed: BTreeSet<String> = METRICS.iter().map(|m| m.name.to_owned()).collect();
        assert_eq!(listed.len(), METRICS.len(), "a metric is listed twice");
        assert_eq!(
            emitted.difference(&listed).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "not listed"
        );
        assert_eq!(
            listed.difference(&emitted).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "not emitted"
        );
    }

    #[test]
    fn only_counters_are_totals() {
        for metric in METRICS {
            let total = metric.name.ends_with("_total");
            assert_eq!(total, metric.kind == Type::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn every_sink_and_readiness_are_rendered() {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        let status = SinkStatus::new("embedded");
        status.stored(2);
        let books = Conservation {
            durable_lsn: 7,
            sinks: vec![status.figures()],
            ..Conservation::default()
        };
        let mut readiness = Readiness::default();
        readiness.note(Component::Durability, Condition::amber("sync = interval"));
        metrics::with_local_recorder(&recorder, || {
            describe();
            publish(&books, &readiness);
        });
        let text = handle.render();
        for line in [
            "# TYPE loushan_sink_stored_readings_total counter",
            "# HELP loushan_durable_lsn The greatest durable lsn",
            "loushan_durable_lsn 7",
            "loushan_sink_stored_readings_total{sink=\"embedded\"} 2",
            "loushan_sink_residue_readings{sink=\"embedded\"} -2",
            "loushan_ready 1",
            "loushan_not_durable 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
