//! The service's figures of one moment, for the live feed.

use loushan_schemas::reject::RejectReason;

use super::dead_letter_dir;
use super::view::ServiceView;
use crate::http::pipeline::{Inside, Queue};
use crate::http::view::View as _;
use crate::live::Sample;
use crate::wal::SyncPolicy;

/// Where Linux says how much memory a process has.
const MEMORY: &str = "/proc/self/statm";

impl ServiceView {
    /// See the module. Blocks: free space and lags are looked up.
    pub(super) fn take_sample(&self) -> Sample {
        let log = self.pipeline.log().stats();
        let store = self.store.stats();
        let bytes = store.tables.values().map(|table| table.bytes).sum();
        let readings = store.tables.iter().filter(|(table, _)| table.kind().is_some());
        let in_files: u64 = readings.map(|(_, table)| table.rows).sum();
        Sample {
            books: self.conservation(),
            readiness: self.readiness(),
            broker: self.broker.load(),
            acks: self.acks.now(),
            log,
            log_limit: self.log_options.max_bytes,
            free_bytes: self.io.free_bytes(&self.data).ok(),
            floor_bytes: self.log_options.free_floor_bytes,
            store_bytes: bytes,
            store_readings: in_files + store.memory_rows,
            store_memory: store.memory_bytes as u64,
            resident_bytes: resident_bytes(),
            devices: self.registry.counts().devices,
            alarms: self.alarms().cloned(),
        }
    }

    /// What is held inside, and what was rejected. Blocks: files are looked at.
    pub(super) fn look_inside(&self) -> Inside {
        let (load, held) = (self.broker.load(), self.pipeline.held());
        let (log, store) = (self.pipeline.log(), self.store.stats());
        let stats = log.stats();
        let figures = self.pipeline.figures();
        let options = &self.pipeline_options;
        let queue = |name, bytes: usize, bound: usize, key| Queue {
            name,
            bytes: bytes as u64,
            bound: bound as u64,
            key,
        };
        Inside {
            queues: vec![
                queue(
                    "broker in flight",
                    load.in_flight_bytes,
                    load.in_flight_limit,
                    "mqtt.total_in_flight_bytes",
                ),
                queue(
                    "broker buffers",
                    load.buffer_bytes,
                    load.buffer_limit,
                    "mqtt.total_buffer_bytes",
                ),
                queue("wills", load.will_bytes, load.will_limit, "mqtt.total_will_bytes"),
                queue("lookups", held.lookups, options.lookup_bytes, "pipeline.lookup_bytes"),
                queue(
                    "duplicates of devices",
                    held.devices,
                    options.state.devices,
                    "pipeline.device_bytes",
                ),
                queue(
                    "duplicates of batches",
                    held.batches,
                    options.state.batches,
                    "pipeline.batch_bytes",
                ),
                queue("tail", held.tail, options.tail_bytes, "pipeline.tail_bytes"),
                queue(
                    "store in memory",
                    store.memory_bytes,
                    self.flush_bytes.saturating_mul(2),
                    "sink.embedded.flush_bytes",
                ),
            ],
            redelivered_batches: figures.redelivered_batches,
            seq_reuse: figures.seq_reuse,
            unknown_fields: figures.unknown_fields,
            tickets_waiting: held.tickets_waiting,
            lookups_waiting: held.lookups_waiting,
            rejected: RejectReason::ALL.iter().map(|it| (*it, figures.rejected_for(*it))).collect(),
            dead_letter: self.dead_letter_files(),
            dead_letter_bound: self.dead_letter_bound,
            segments: log
                .spans()
                .iter()
                .map(|span| (span.base.0, span.last.0, span.used, span.size))
                .collect(),
            log_work: (stats.syncs, stats.frames, stats.failures),
            sync_policy: match self.sync {
                SyncPolicy::Always => "always",
                SyncPolicy::Interval(_) => "interval",
            },
        }
    }

    /// Files of the dead letter and their bytes; what cannot be looked at counts as nothing.
    fn dead_letter_files(&self) -> (u64, u64) {
        let dir = dead_letter_dir(&self.data);
        let names = self.io.list(&dir).unwrap_or_default();
        let size = |name: &String| {
            let size = self.io.open_read(&dir.join(name)).and_then(|file| file.size());
            size.unwrap_or(0)
        };
        (names.len() as u64, names.iter().map(size).sum())
    }

    /// What a second brings beside a sample.
    pub(super) fn look_around(&self) {
        self.quotas.look(&self.registry, self.clock.now().ms());
    }
}

/// Memory of this process that is in RAM; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string(MEMORY).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_this_process_is_told() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
