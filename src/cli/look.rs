//! A look at a running service: readiness, books and metrics of one moment, and what two moments say of
//! the time between them. What `status` prints and `top` keeps printing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::{Value, json};

use super::Failure;
use super::http::Client;

/// One moment of a service.
pub(super) struct Look {
    at: Instant,
    ready: Value,
    books: Value,
    figures: Figures,
}

impl Look {
    /// Asks the service.
    pub(super) fn take(client: &Client) -> Result<Self, Failure> {
        let ready = client.get_any("/readyz")?;
        let books = client.get("/api/v1/conservation", &[])?.json()?;
        let figures = Figures::read(&client.get("/metrics", &[])?.text()?);
        if figures.0.is_empty() || ready["ready"].as_bool().is_none() {
            return Err(Failure::Failed(anyhow!("whoever answers there is no Loushan")));
        }
        Ok(Self { at: Instant::now(), ready, books, figures })
    }
}

/// Series of an exposition with their values.
struct Figures(BTreeMap<String, f64>);

impl Figures {
    fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(samples.filter_map(parse).collect())
    }

    /// A series, by its name and, if it has any, its labels as they are written.
    fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied().filter(|value| value.is_finite())
    }

    fn limit(&self, key: &str) -> Option<f64> {
        self.get(&format!("loushan_limit_bytes{{key=\"{key}\"}}"))
            .or_else(|| self.get(&format!("loushan_limit{{key=\"{key}\"}}")))
    }

    /// The value of a label of the one series of that name.
    fn label(&self, name: &str, label: &str) -> Option<&str> {
        let beginning = format!("{name}{{{label}=\"");
        self.0.keys().find_map(|series| series.strip_prefix(&beginning)?.split('"').next())
    }

    /// The buckets of a histogram without labels, with their upper bounds.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let beginning = format!("{name}_bucket{{le=\"");
        let mut buckets: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter_map(|(series, count)| {
                let bound = series.strip_prefix(&beginning)?.split('"').next()?;
                Some((bound.parse().unwrap_or(f64::INFINITY), *count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

/// A queue or a store, and how full it is.
const BOUNDED: [(&str, &str, &str); 8] = [
    ("in flight", "loushan_in_flight_bytes", "mqtt.total_in_flight_bytes"),
    ("buffers", "loushan_buffer_bytes", "mqtt.total_buffer_bytes"),
    ("for clients", "loushan_queue_bytes", "mqtt.total_queue_bytes"),
    ("lookups", "loushan_lookup_bytes", "pipeline.lookup_bytes"),
    ("log buffer", "loushan_wal_buffer_bytes", "log.buffer_bytes"),
    ("tail", "loushan_tail_bytes", "pipeline.tail_bytes"),
    ("store memory", "loushan_store_memory_bytes", "sink.embedded.flush_bytes"),
    ("dead letter", "loushan_dead_letter_bytes", "dead_letter.total_bytes"),
];

/// What the later of two looks and the time between them say, as JSON: numbers are in the unit of their
/// key's ending; `null` is not known.
pub(super) fn between(before: &Look, now: &Look) -> Value {
    let figures = &now.figures;
    let seconds = now.at.duration_since(before.at).max(Duration::from_millis(1)).as_secs_f64();
    let rate = |series: &str| {
        let (then, now) = (before.figures.get(series)?, figures.get(series)?);
        // A counter that fell is another process's.
        Some(round((now - then).max(0.0) / seconds))
    };
    let rejected = |all: &Figures| -> f64 {
        let mine = |series: &str| series.starts_with("loushan_readings_rejected_total{");
        all.0.iter().filter(|(series, _)| mine(series)).map(|(_, value)| value).sum()
    };
    let bounded = BOUNDED.iter().map(|(queue, series, key)| {
        json!({ "queue": queue, "bytes": figures.get(series), "bound_bytes": figures.limit(key), "key": key })
    });
    json!({
        "version": figures.label("loushan_build_info", "version"),
        "ready": now.ready["ready"],
        "reasons": now.ready["reasons"],
        "started_seconds": figures.get("process_start_time_seconds"),
        "over_seconds": round(seconds),
        "rates": {
            "received": rate("loushan_readings_received_total"),
            "accepted": rate("loushan_readings_accepted_total"),
            "duplicate": rate("loushan_readings_duplicate_total"),
            "rejected": round((rejected(figures) - rejected(&before.figures)).max(0.0) / seconds),
            "stored": rate("loushan_sink_stored_readings_total{sink=\"embedded\"}"),
            "publishes": rate("loushan_publishes_received_total"),
            "received_bytes": rate("loushan_mqtt_received_bytes_total"),
        },
        "ack": {
            "p50_seconds": quantile(before, now, 0.5),
            "p99_seconds": quantile(before, now, 0.99),
            "oldest_waiting_seconds": figures.get("loushan_undurable_seconds"),
        },
        "conservation": {
            "received": now.books["received"],
            "accepted": now.books["accepted"],
            "duplicate": now.books["duplicate"],
            "rejected": now.books["rejected"],
            "shed": now.books["shed"],
            "undecided": now.books["undecided"],
            "residue": now.books["residue"],
        },
        "sinks": now.books["sinks"],
        "log": {
            "durable_lsn": now.books["durable_lsn"],
            "disk_bytes": figures.get("loushan_wal_disk_bytes"),
            "max_bytes": figures.limit("log.max_bytes"),
            "segments": figures.get("loushan_wal_segments"),
            "oldest_seconds": figures.get("loushan_wal_oldest_seconds"),
        },
        "disk": {
            "free_bytes": figures.get("loushan_disk_free_bytes"),
            "floor_bytes": figures.limit("log.free_disk_floor"),
        },
        "memory": { "resident_bytes": figures.get("process_resident_memory_bytes") },
        "stations": {
            "known": figures.get("loushan_stations"),
            "registered": figures.get("loushan_stations_registered"),
            "online": figures.get("loushan_stations_online"),
        },
        "devices": figures.get("loushan_devices"),
        "connections": figures.get("loushan_connections"),
        "queues": bounded.collect::<Vec<_>>(),
    })
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A quantile of the acknowledgements between two looks, as Prometheus reckons it from buckets; of all
/// since the start where none came between. `None` where there are none at all.
fn quantile(before: &Look, now: &Look, q: f64) -> Option<f64> {
    const NAME: &str = "loushan_ack_latency_seconds";
    let (then, all) = (before.figures.buckets(NAME), now.figures.buckets(NAME));
    let since: Vec<(f64, f64)> =
        all.iter().zip(&then).map(|((le, now), (_, then))| (*le, now - then)).collect();
    let some = |buckets: &[(f64, f64)]| buckets.last().is_some_and(|(_, count)| *count > 0.0);
    let buckets = if some(&since) { since } else { all };
    if !some(&buckets) {
        return None;
    }
    let rank = buckets.last()?.1 * q;
    let (mut low, mut below) = (0.0, 0.0);
    for (le, count) in &buckets {
        if *count >= rank {
            let share = (rank - below) / (count - below).max(f64::MIN_POSITIVE);
            return Some(if le.is_finite() { low + (le - low) * share } else { low });
        }
        (low, below) = (*le, *count);
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn look(text: &str) -> Look {
        let ready = json!({ "ready": true, "reasons": [] });
        Look { at: Instant::now(), ready, books: json!({}), figures: Figures::read(text) }
    }

    #[test]
    fn two_looks_give_rates_and_quantiles_of_what_came_between() {
        let before = look(
            "# TYPE a counter\nloushan_readings_received_total 10\n\
             loushan_ack_latency_seconds_bucket{le=\"0.01\"} 100\n\
             loushan_ack_latency_seconds_bucket{le=\"0.1\"} 100\n\
             loushan_ack_latency_seconds_bucket{le=\"+Inf\"} 100\n",
        );
        let mut now = look(
            "loushan_build_info{version=\"1.2\"} 1\nloushan_readings_received_total 30\n\
             loushan_readings_rejected_total{reason=\"empty\"} 4\n\
             loushan_limit_bytes{key=\"log.buffer_bytes\"} 16\nloushan_disk_free_bytes NaN\n\
             loushan_ack_latency_seconds_bucket{le=\"0.01\"} 100\n\
             loushan_ack_latency_seconds_bucket{le=\"0.1\"} 110\n\
             loushan_ack_latency_seconds_bucket{le=\"+Inf\"} 110\n",
        );
        now.at = before.at + Duration::from_secs(2);
        let said = between(&before, &now);
        assert_eq!(said["version"], "1.2");
        assert_eq!(said["rates"]["received"], 10.0);
        assert_eq!(said["rates"]["rejected"], 2.0);
        assert_eq!(said["rates"]["stored"], Value::Null);
        assert_eq!(said["disk"]["free_bytes"], Value::Null);
        // All ten between lie in the second bucket, half of them below its middle.
        let p50 = said["ack"]["p50_seconds"].as_f64().unwrap();
        assert!((p50 - 0.055).abs() < 1e-9, "{p50}");
        assert_eq!(said["queues"][4]["bound_bytes"], 16.0);
        // A restart in between: counters fell, and nothing is negative.
        let mut again = look("loushan_readings_received_total 1\n");
        again.at = now.at + Duration::from_secs(1);
        assert_eq!(between(&now, &again)["rates"]["received"], 0.0);
        assert_eq!(between(&again, &again)["ack"]["p99_seconds"], Value::Null);
    }
}
