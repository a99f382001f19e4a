//! The sinks, each by its name.

use super::{Metric, SERVER, SINK, counter, gauge, label, seconds};

pub(super) const METRICS: &[Metric] = &[
    counter("loushan_sink_fed_readings_total", "readings", "Readings given to the sink.")
        .by(&[SINK]),
    counter("loushan_sink_stored_readings_total", "readings", "Readings the sink stored.")
        .by(&[SINK]),
    counter(
        "loushan_sink_replayed_readings_total",
        "readings",
        "Readings the sink found stored already.",
    )
    .by(&[SINK])
    .means("After a start or a rewind: storing twice equals storing once."),
    counter(
        "loushan_sink_refused_readings_total",
        "readings",
        "Readings the far side refused for good.",
    )
    .by(&[SINK])
    .means("They are in the sink's dead letter with the server's words.")
    .alert("increase(loushan_sink_refused_readings_total[10m]) > 0"),
    counter("loushan_sink_let_go_readings_total", "readings", "Readings given up on purpose.")
        .by(&[SINK])
        .means("`on_full = \"let_go\"`, and the log had no more room. The embedded store has them.")
        .alert("increase(loushan_sink_let_go_readings_total[10m]) > 0"),
    counter(
        "loushan_sink_rewound_readings_total",
        "readings",
        "Of those given, readings given before a rewind.",
    )
    .by(&[SINK]),
    counter(
        "loushan_sink_returned_readings_total",
        "readings",
        "Readings the sink held when it was ended; it is given them again.",
    )
    .by(&[SINK]),
    gauge(
        "loushan_sink_pending_readings",
        "readings",
        "Readings the sink holds and has not stored.",
    )
    .by(&[SINK]),
    gauge(
        "loushan_sink_residue_readings",
        "readings",
        "Readings the sink's figures leave unexplained.",
    )
    .by(&[SINK])
    .means("fed − stored − replayed − refused − let go − returned − pending. Not zero is a defect.")
    .alert("loushan_sink_residue_readings != 0"),
    gauge(
        "loushan_sink_cursor_lsn",
        "lsn",
        "Up to here everything is durably stored by the sink.",
    )
    .by(&[SINK])
    .means("The log keeps everything above the lowest one."),
    gauge("loushan_sink_position_lsn", "lsn", "Up to here everything was given to the sink.")
        .by(&[SINK]),
    gauge("loushan_sink_lag_frames", "frames", "Frames of the log the sink has not stored.")
        .by(&[SINK]),
    gauge("loushan_sink_lag_bytes", "bytes", "Their bytes in the log, about.").by(&[SINK]),
    gauge("loushan_sink_lag_seconds", "seconds", "The age of the oldest of them.")
        .by(&[SINK])
        .means(
            "How late what the sink shows is, at most. The embedded store answers from memory \
             meanwhile, and flushes once in `sink.embedded.flush_age`; the snapshot is written once in \
             `pipeline.snapshot_interval`.",
        )
        .alert("loushan_sink_lag_seconds > 600"),
    gauge(
        "loushan_sink_running",
        "0 or 1",
        "0 while the sink is paused, removed, or to be begun again.",
    )
    .by(&[SINK])
    .alert("loushan_sink_running == 0"),
    gauge("loushan_sink_trouble", "0 or 1", "1 while something keeps the sink from storing.")
        .by(&[SINK])
        .means("`loushan sink list` says what.")
        .alert("loushan_sink_trouble == 1"),
];

const ONLY: &str = "where an InfluxDB sink is configured";
const ASKED: &str = "where an InfluxDB sink is configured, from its first request";

pub(super) const INFLUX: &[Metric] = &[
    gauge("loushan_influx_held_bytes", "bytes", "Bytes waiting in memory for an InfluxDB server.")
        .by(&[SERVER])
        .bounded("sink.NAME.held_bytes")
        .means("At its bound the log keeps what comes, and the sink reads it from there.")
        .only(ONLY),
    seconds("loushan_influx_request_seconds", "How long an InfluxDB server took to answer.")
        .by(&[SERVER])
        .only(ASKED),
    counter(
        "loushan_influx_requests_total",
        "requests",
        "Requests to an InfluxDB server, by answer.",
    )
    .by(&[
        SERVER,
        label(
            "answer",
            &[
                "stored",
                "again",
                "broke_off",
                "too_large",
                "bad_points",
                "uncompressed",
                "denied",
                "missing",
                "stop",
            ],
        ),
    ])
    .means(
        "`again`, `broke_off`: tried again. `denied`: the token. `missing`: the bucket. \
             `bad_points`, `too_large`: divided until the bad ones are found.",
    )
    .alert("rate(loushan_influx_requests_total{answer=~\"denied|missing|stop\"}[5m]) > 0")
    .only(ASKED),
];
