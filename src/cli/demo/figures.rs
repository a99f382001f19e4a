//! The demo's figures: the fleet's side and the service's, in one line and in a table.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use loushan_ingest::http::view::{Conservation, View};
use loushan_simulator::{FleetStats, Snapshot};

pub(super) struct Figures {
    view: Arc<dyn View>,
    stats: Arc<FleetStats>,
    acknowledged_before: u64,
}

impl Figures {
    pub(super) fn new(view: Arc<dyn View>, stats: Arc<FleetStats>) -> Self {
        Self { view, stats, acknowledged_before: 0 }
    }

    /// What there is now; `elapsed` since the last time.
    pub(super) fn line(&mut self, elapsed: Duration) -> String {
        let (fleet, books) = self.now();
        let new = fleet.counts.readings_acked.saturating_sub(self.acknowledged_before);
        self.acknowledged_before = fleet.counts.readings_acked;
        format!(
            "{}/{} stations · {:.0} readings/s · {} acknowledged · {} stored · {} duplicates · \
             {} dead letters · ack p50 {} p99 {}",
            fleet.connected,
            fleet.counts.stations,
            per_second(new, elapsed),
            fleet.counts.readings_acked,
            stored(&books),
            books.duplicate,
            books.rejected,
            millis(fleet.ack_p50),
            millis(fleet.ack_p99),
        )
    }

    /// The same figures of the whole run.
    pub(super) fn table(&self, took: Duration) -> String {
        let (fleet, books) = self.now();
        let mut table = String::new();
        let mut row = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ok = writeln!(table, "{name:<14}{value}");
        };
        row("stations", fleet.counts.stations.to_string());
        row("readings/s", format!("{:.0}", per_second(fleet.counts.readings_acked, took)));
        row("acknowledged", fleet.counts.readings_acked.to_string());
        row("stored", stored(&books).to_string());
        row("duplicates", books.duplicate.to_string());
        row("dead letters", books.rejected.to_string());
        row("ack p50", millis(fleet.ack_p50));
        row("ack p99", millis(fleet.ack_p99));
        row("residue", books.residue().to_string());
        table.truncate(table.trim_end().len());
        table
    }

    fn now(&self) -> (Snapshot, Conservation) {
        // The books may be looked at twice, with a pause.
        let books = tokio::task::block_in_place(|| self.view.conservation());
        (self.stats.snapshot(), books)
    }
}

/// Readings that the embedded store took in since the start: in files, or in memory and safe in the
/// log.
fn stored(books: &Conservation) -> u64 {
    let embedded = books.sinks.iter().find(|sink| &*sink.name == "embedded");
    embedded.map_or(0, |sink| sink.stored + sink.pending)
}

#[allow(clippy::cast_precision_loss)] // a rate for people
fn per_second(n: u64, elapsed: Duration) -> f64 {
    n as f64 / elapsed.as_secs_f64().max(0.001)
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
