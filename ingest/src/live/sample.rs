//! The service's own figures at one moment: what a tick is made of beside what the tap saw.

use loushan_broker::Load;
use loushan_broker::latency::LatencyCounts;
use serde_json::{Value, json};

use crate::alarm::{Alarms, Counts};
use crate::http::view::Conservation;
use crate::readiness::Readiness;
use crate::wal::LogStats;

/// See the module.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The books, with the sinks' lags.
    pub books: Conservation,
    /// Whether work may be given.
    pub readiness: Readiness,
    /// What the broker holds.
    pub broker: Load,
    /// How long acknowledgements took, since the start.
    pub acks: LatencyCounts,
    /// The log.
    pub log: LogStats,
    /// The log's bound, where it has one.
    pub log_limit: Option<u64>,
    /// Free bytes of the log's disk, where that can be told.
    pub free_bytes: Option<u64>,
    /// What is to stay free.
    pub floor_bytes: u64,
    /// The store's files.
    pub store_bytes: u64,
    /// Readings in them and in memory.
    pub store_readings: u64,
    /// Bytes of memory that the store's newest readings take.
    pub store_memory: u64,
    /// Memory of the process, where that can be told.
    pub resident_bytes: Option<u64>,
    /// Devices with a latest reading.
    pub devices: usize,
    /// The alarms, where they are not switched off.
    pub alarms: Option<Alarms>,
}

impl Sample {
    /// How many alarms last, of one project or of all; `null` where they are switched off.
    pub(super) fn alarms_json(&self, project: Option<&str>) -> Value {
        let Some(alarms) = &self.alarms else { return Value::Null };
        let Counts { critical, major, minor, unacknowledged } = alarms.counts(project);
        json!({
            "critical": critical,
            "major": major,
            "minor": minor,
            "unacknowledged": unacknowledged,
        })
    }

    /// How many alarms last, as a figure.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn alarms(&self, project: Option<&str>) -> Option<f64> {
        let counts = self.alarms.as_ref()?.counts(project);
        Some((counts.critical + counts.major + counts.minor) as f64)
    }

    /// The log's figures, as the API shows them.
    #[must_use]
    pub fn log_json(&self) -> Value {
        json!({
            "segments": self.log.segments,
            "disk_bytes": self.log.disk_bytes,
            "used_bytes": self.log.used_bytes,
            "max_bytes": self.log_limit,
            "refuses": self.log.refuses.as_ref().map(ToString::to_string),
            "free_bytes": self.free_bytes,
            "floor_bytes": self.floor_bytes,
        })
    }

    /// Why the service is not ready, or not well.
    pub(super) fn readiness_json(&self) -> Value {
        let reasons: Vec<Value> = self.readiness.conditions().map(|(component, condition)| {
            json!({ "component": component.as_str(), "red": condition.red, "what": condition.what })
        }).collect();
        json!({ "ready": self.readiness.is_ready(), "reasons": reasons })
    }
}
