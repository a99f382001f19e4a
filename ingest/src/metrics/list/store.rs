//! The embedded store and the dead letter.

use super::{KIND, LETTER, Metric, TABLE, counter, gauge, label, seconds};

pub(super) const METRICS: &[Metric] = &[
    gauge("loushan_store_memory_rows", "readings", "Readings that are in no file yet.")
        .bounded("sink.embedded.flush_rows")
        .means("They are in the log, and questions are answered from them."),
    gauge("loushan_store_memory_bytes", "bytes", "Memory of those readings.")
        .bounded("sink.embedded.flush_bytes")
        .means("Up to twice the bound: as much again gathers while files are written.")
        .alert("loushan_store_memory_bytes / on(instance) loushan_limit_bytes{key=\"sink.embedded.flush_bytes\"} > 1.8"),
    gauge("loushan_store_cache_bytes", "bytes", "Footers and filters of files kept in memory.")
        .bounded("sink.embedded.footer_cache_bytes"),
    counter("loushan_store_flushes_total", "flushes", "Flushes of the store from memory to files."),
    counter(
        "loushan_store_flush_failures_total",
        "flushes",
        "Flushes that failed and were tried again.",
    )
    .alert("increase(loushan_store_flush_failures_total[10m]) > 0"),
    seconds("loushan_store_flush_seconds", "How long a flush took."),
    gauge("loushan_store_files", "files", "Files of the store, by table.").by(&[TABLE]),
    gauge("loushan_store_rows", "readings", "Rows in them, by table.")
        .by(&[TABLE])
        .means("Derived rows of `water_interval` are counted too."),
    gauge("loushan_store_bytes", "bytes", "Bytes of them, by table.").by(&[TABLE]),
    gauge(
        "loushan_store_oldest_day_timestamp_seconds",
        "seconds",
        "When a table's oldest day begins, in Unix time; 0 without one.",
    )
    .by(&[TABLE]),
    counter("loushan_store_compactions_total", "merges", "Merges of files into fewer, by table.")
        .by(&[TABLE]),
    counter(
        "loushan_store_compaction_failures_total",
        "merges",
        "Merges that were not done, by reason.",
    )
    .by(&[label("reason", &["no_room", "left_alone", "io", "defect"])])
    .alert("increase(loushan_store_compaction_failures_total[1h]) > 0"),
    seconds("loushan_store_compaction_seconds", "How long a merge took, pauses included."),
    counter(
        "loushan_store_compaction_read_bytes_total",
        "bytes",
        "Bytes of files that were merged.",
    ),
    counter(
        "loushan_store_compaction_written_bytes_total",
        "bytes",
        "Bytes of files they became.",
    ),
    counter("loushan_store_compaction_rows_total", "readings", "Rows in those."),
    gauge(
        "loushan_store_files_left_alone",
        "files",
        "Files left out of merging: damaged, or too new.",
    )
    .means("The log names them when it finds them.")
    .alert("loushan_store_files_left_alone > 0"),
    gauge(
        "loushan_store_removed_files_read",
        "files",
        "Files removed from the store and still read.",
    ),
    gauge("loushan_store_removed_bytes_read", "bytes", "Their bytes."),
    counter(
        "loushan_retention_removed_partitions_total",
        "days",
        "Days removed by retention, by kind.",
    )
    .by(&[KIND]),
    counter("loushan_retention_removed_readings_total", "readings", "Readings in them, by kind.")
        .by(&[KIND]),
    counter("loushan_retention_removed_bytes_total", "bytes", "Bytes of their files, by kind.")
        .by(&[KIND]),
];

pub(super) const DEAD_LETTER: &[Metric] = &[
    counter("loushan_dead_letters_total", "letters", "Dead letters written, by reason.")
        .by(&[LETTER])
        .means("`loushan dead-letters list` shows them.")
        .alert("rate(loushan_dead_letters_total[10m]) > 1"),
    counter(
        "loushan_dead_letters_cut_short_total",
        "letters",
        "Dead letters that kept only their beginning.",
    )
    .means("Of a station past `dead_letter.station_bytes`."),
    counter(
        "loushan_dead_letters_replayed_total",
        "letters",
        "Dead letters decided again, and taken.",
    ),
    counter("loushan_dead_letters_deleted_total", "letters", "Dead letters deleted by the quota.")
        .alert("increase(loushan_dead_letters_deleted_total[1h]) > 0"),
    counter(
        "loushan_dead_letter_corrupt_total",
        "stretches",
        "Damaged stretches of the dead letter passed over.",
    )
    .alert("loushan_dead_letter_corrupt_total > 0"),
    gauge("loushan_dead_letter_bytes", "bytes", "Bytes of the dead letter on disk.")
        .bounded("dead_letter.total_bytes"),
];
