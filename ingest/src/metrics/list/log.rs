//! The write-ahead log and its disk.

use super::{Metric, counter, gauge, seconds};

pub(super) const METRICS: &[Metric] = &[
    gauge("loushan_durable_lsn", "lsn", "The greatest durable lsn of the log.")
        .means("Every frame up to here was synced. Its rate is that of durable publishes."),
    gauge("loushan_wal_buffer_bytes", "bytes", "Bytes of publishes that wait to be written.")
        .bounded("log.buffer_bytes")
        .means("Near its bound the disk is slower than the devices, which are then held back.")
        .alert("loushan_wal_buffer_bytes / on(instance) loushan_limit_bytes{key=\"log.buffer_bytes\"} > 0.8"),
    gauge("loushan_wal_disk_bytes", "bytes", "Bytes of the log's segments on disk.")
        .bounded("log.max_bytes")
        .means("Grows while a sink lags, and by what is kept for replay.")
        .alert("loushan_wal_disk_bytes / on(instance) loushan_limit_bytes{key=\"log.max_bytes\"} > 0.8"),
    gauge("loushan_wal_segments", "segments", "Segments of the log."),
    gauge(
        "loushan_wal_oldest_seconds",
        "seconds",
        "The age of the oldest frame the log still has; 0 if it has none.",
    )
    .means("How far back a sink can be rewound."),
    seconds("loushan_wal_sync_seconds", "How long a sync of the log took.")
        .means("Acknowledgements wait for it: this is the disk's share of their latency.")
        .alert("histogram_quantile(0.99, rate(loushan_wal_sync_seconds_bucket[5m])) > 1"),
    counter("loushan_wal_frames_total", "frames", "Frames written."),
    counter("loushan_wal_written_bytes_total", "bytes", "Bytes written."),
    counter(
        "loushan_wal_failures_total",
        "failures",
        "Writes and syncs that failed; a new segment follows each.",
    )
    .means("What was in them was not acknowledged. Look at the disk.")
    .alert("increase(loushan_wal_failures_total[10m]) > 0"),
    counter(
        "loushan_wal_corrupt_frames_total",
        "frames",
        "Frames that recovery found damaged and set aside.",
    )
    .means("The disk lost what it had synced. The frames are kept beside the log.")
    .alert("loushan_wal_corrupt_frames_total > 0"),
    counter(
        "loushan_wal_skipped_frames_total",
        "frames",
        "Frames a reader found missing and passed over.",
    )
    .alert("increase(loushan_wal_skipped_frames_total[10m]) > 0"),
    gauge(
        "loushan_disk_free_bytes",
        "bytes",
        "Free space of the data folder's file system.",
    )
    .means("At `log.free_disk_floor` nothing more is acknowledged.")
    .alert("loushan_disk_free_bytes / on(instance) loushan_limit_bytes{key=\"log.free_disk_floor\"} < 2"),
];
