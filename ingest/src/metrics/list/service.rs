//! The service as a whole, the fleet, and the process.

use super::{COMPONENT, Label, Metric, Values, counter, gauge, label};

const VERSION: Label = Label { name: "version", values: Values::Named("this build's version") };
const KEY: Label = Label { name: "key", values: Values::Named("keys of the configuration") };

pub(super) const METRICS: &[Metric] = &[
    gauge("loushan_build_info", "1", "1, labelled with the version that runs.").by(&[VERSION]),
    gauge("loushan_ready", "0 or 1", "1 while the service is ready.")
        .means("0: telemetry is not being acknowledged. `/readyz` and `loushan status` say why.")
        .alert("loushan_ready == 0"),
    gauge(
        "loushan_component_condition",
        "0 to 2",
        "How a component is: 0 well, 1 amber (to be seen to), 2 red (nothing is acknowledged).",
    )
    .by(&[COMPONENT])
    .means("The reasons of `/readyz`, one a component, without their words.")
    .alert("loushan_component_condition == 1"),
    gauge("loushan_not_durable", "0 or 1", "1 where a power loss may take what was acknowledged.")
        .means("`log.sync = \"interval\"`: an acknowledgement is worth less than the promise.")
        .alert("loushan_not_durable == 1"),
    gauge("loushan_limit_bytes", "bytes", "A bound of the configuration, in bytes, by its key.")
        .by(&[KEY])
        .means(
            "Divide what is bounded by it: a metric's *Bound* names the key. Keys that are not set are \
             not exported.",
        ),
    gauge("loushan_limit", "count", "A bound of the configuration, as a number, by its key.")
        .by(&[KEY])
        .means("The same for bounds that are no bytes."),
    counter("loushan_certificate_reloads_total", "reloads", "Certificates read anew, by result.")
        .by(&[label("result", &["ok", "failed"])])
        .means("After `failed` those of before are in use; the log says what is wrong.")
        .alert("increase(loushan_certificate_reloads_total{result=\"failed\"}[10m]) > 0"),
    gauge(
        "loushan_certificate_expiry_timestamp_seconds",
        "seconds",
        "When the server's certificate ends, in Unix time, by the configuration's section.",
    )
    .by(&[label("section", &["mqtt.tls", "http.tls"])])
    .alert("loushan_certificate_expiry_timestamp_seconds - time() < 14 * 86400")
    .only("where a listener has TLS"),
    counter(
        "loushan_logins_total",
        "credentials",
        "Credentials looked at, of MQTT and HTTP, by result.",
    )
    .by(&[label("result", &["accepted", "wrong", "not_authorized", "limited", "busy"])])
    .means("`limited`: too many wrong passwords within a minute, so none is looked at.")
    .alert("rate(loushan_logins_total{result=~\"wrong|limited\"}[5m]) > 1"),
];

pub(super) const FLEET: &[Metric] = &[
    gauge("loushan_stations", "stations", "Stations that are registered or were heard of."),
    gauge("loushan_stations_registered", "stations", "Of those, stations of the stations file."),
    gauge("loushan_stations_online", "stations", "Of those, stations that were born and not dead.")
        .means("A station that was never born, because it sends no StationState, is not online.")
        .alert("loushan_stations_online < 0.9 * max_over_time(loushan_stations_online[1d])"),
    gauge("loushan_devices", "devices", "Devices of which the latest reading is remembered.")
        .means("Bounded by 128 MiB of memory: those silent longest go first."),
];

const PROJECT: Label = Label { name: "project", values: Values::Named("the pilot projects") };

pub(super) const WATCHED: &[Metric] = &[
    gauge(
        "loushan_project_readings_today",
        "readings",
        "Readings of a project accepted today (UTC+8).",
    )
    .by(&[PROJECT])
    .only("for projects of the stations file"),
    gauge(
        "loushan_project_bytes_today",
        "bytes",
        "Bytes of a project's payloads received today (UTC+8).",
    )
    .by(&[PROJECT])
    .only("for projects of the stations file"),
    gauge(
        "loushan_project_quota_used_ratio",
        "ratio",
        "How much of its quota a project has used today.",
    )
    .by(&[PROJECT])
    .means("Beyond 1 it is past its quota: that is counted and said, and nothing is refused.")
    .alert("loushan_project_quota_used_ratio > 1")
    .only("for projects with a quota"),
    gauge("loushan_live_clients", "clients", "Clients of the live feed, consoles among them.")
        .bounded("live.clients"),
    counter(
        "loushan_live_frames_skipped_total",
        "frames",
        "Frames that the live feed passed over.",
    )
    .means("It shows what it can and holds nobody up; the figures of the others are right."),
];

pub(super) const PROCESS: &[Metric] = &[
    counter(
        "process_cpu_seconds_total",
        "seconds",
        "Processor time, user and system, in whole seconds.",
    ),
    gauge("process_resident_memory_bytes", "bytes", "Memory in use."),
    gauge("process_virtual_memory_bytes", "bytes", "Address space in use."),
    gauge("process_open_fds", "files", "Open file descriptors.")
        .alert("process_open_fds / process_max_fds > 0.8"),
    gauge("process_max_fds", "files", "The limit on them."),
    gauge("process_start_time_seconds", "seconds", "When the process started, in Unix time.")
        .alert("changes(process_start_time_seconds[15m]) > 2"),
    gauge("process_threads", "threads", "Threads of the process."),
];
