//! Every key there is, with its default, bounds and the text of the default file.

mod alarms;
mod front;
mod live;
mod store;

use super::table::Default::{Is, Required, Unset};
use super::table::{Key, Kind, Section};
use crate::sink::influx::Scheme;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const fn key(
    name: &'static str,
    kind: Kind,
    default: super::table::Default,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, doc }
}

const fn section(name: &'static str, doc: &'static str, keys: &'static [Key]) -> Section {
    Section { name, doc, optional: false, keys }
}

/// All sections, in the order of the default file.
pub static SECTIONS: &[Section] = &[
    section(
        "data",
        "Where everything is kept that must survive a restart.",
        &[key(
            "dir",
            Kind::Path,
            Is("loushan-data"),
            "The data folder. One process at a time may have it.",
        )],
    ),
    front::MQTT,
    front::MQTT_TLS,
    front::AUTH,
    front::AUTH_JWT,
    front::HTTP,
    front::HTTP_TLS,
    section(
        "log",
        "The write-ahead log: a PUBACK leaves after its sync.",
        &[
            key(
                "sync",
                Kind::Choice(&["always", "interval"]),
                Is("always"),
                "always: an acknowledged reading survives a power loss.\ninterval: it survives a crash of the process, but a power loss may take what was\nacknowledged within the last sync_interval. Readiness and metrics then say so.",
            ),
            key(
                "sync_interval",
                Kind::Duration(1, 10 * SECOND),
                Is("50ms"),
                "The loss window of sync = \"interval\".",
            ),
            key(
                "segment_bytes",
                Kind::Size(8 * MIB, 4 * GIB),
                Is("64MiB"),
                "A segment's size on disk, reserved when it is made.",
            ),
            key(
                "buffer_bytes",
                Kind::Size(8 * MIB, 4 * GIB),
                Is("16MiB"),
                "Publishes waiting to be written; past it devices are held back.",
            ),
            key(
                "free_disk_floor",
                Kind::Size(0, 16 * TIB),
                Is("512MiB"),
                "Free space below which nothing more is acknowledged. It leaves room for the\nstore to flush and for a snapshot, without which the disk could never be emptied.",
            ),
            key(
                "max_bytes",
                Kind::Size(32 * MIB, 1024 * TIB),
                Unset("64GiB"),
                "Bytes of the log at most, at which nothing more is acknowledged until sinks have caught\nup. It has to hold what comes while the longest outage lasts. Not set: the disk.",
            ),
            key(
                "keep_for_replay",
                Kind::Duration(SECOND, 10 * 365 * DAY),
                Unset("2d"),
                "How long the log keeps what every sink has stored, so that one can be rewound. It gives\nway when max_bytes or free_disk_floor come near. Not set, and no bytes either: not at all.",
            ),
            key(
                "keep_for_replay_bytes",
                Kind::Size(8 * MIB, 1024 * TIB),
                Unset("16GiB"),
                "How many bytes of it are kept at most; alone: so many, however old.",
            ),
        ],
    ),
    section(
        "pipeline",
        "Verdicts, duplicates and the memory between log and sinks.",
        &[
            key(
                "tail_bytes",
                Kind::Size(MIB, 64 * GIB),
                Is("128MiB"),
                "Durable readings kept in memory for sinks; one that falls behind reads the log.",
            ),
            key(
                "device_bytes",
                Kind::Size(MIB, 64 * GIB),
                Is("256MiB"),
                "What is remembered of devices, to know duplicates. Held twice.",
            ),
            key(
                "batch_bytes",
                Kind::Size(MIB, 64 * GIB),
                Is("64MiB"),
                "What is remembered of stations' batches, to know duplicates. Held twice.",
            ),
            key(
                "lookup_bytes",
                Kind::Size(2 * MIB, 64 * GIB),
                Is("32MiB"),
                "Publishes that wait for the store to say whether it has their readings.",
            ),
            key(
                "snapshot_interval",
                Kind::Duration(SECOND, DAY),
                Is("5m"),
                "How often the pipeline's state is written; a start reads the log from there.",
            ),
            key(
                "snapshot_bytes",
                Kind::Size(MIB, TIB),
                Is("256MiB"),
                "It is written sooner after so many bytes of payload.",
            ),
        ],
    ),
    section(
        "sink.embedded",
        "The embedded store: Parquet files under <data>/store.",
        &[
            key(
                "flush_age",
                Kind::Duration(100, DAY),
                Is("1m"),
                "The longest a reading stays in memory before it is in a file. It is safe in the log and\nanswered for meanwhile; a short age makes many small files.",
            ),
            key(
                "flush_rows",
                Kind::Count(1, 100_000_000),
                Is("200000"),
                "Readings in memory at which files are written.",
            ),
            key(
                "flush_bytes",
                Kind::Size(MIB, 64 * GIB),
                Is("128MiB"),
                "Bytes of readings in memory at which files are written; as much again may gather\nmeanwhile.",
            ),
            key(
                "footer_cache_bytes",
                Kind::Size(KIB, 16 * GIB),
                Is("64MiB"),
                "File footers kept in memory.",
            ),
        ],
    ),
    section(
        "query",
        "Questions over HTTP to what is stored.",
        &[
            key(
                "memory",
                Kind::Size(MIB, 64 * GIB),
                Is("64MiB"),
                "Memory of one question; one that needs more is refused. 16 at a time are answered.",
            ),
            key(
                "timeout",
                Kind::Duration(100, HOUR),
                Is("1m"),
                "How long an answer may take. Exports may take as long as their receiver does.",
            ),
        ],
    ),
    store::COMPACTION,
    store::RETENTION,
    store::PARKING,
    store::STREET_LIGHT,
    store::SMOKE,
    store::ELEVATOR,
    store::WATER,
    store::STATION_STATUS,
    Section {
        name: "sink.influx",
        doc: "Writes to an InfluxDB v2 server as well. Off unless set. There may be any number of them, each\n# with a name of its own, [sink.NAME]; this one is called influx.",
        optional: true,
        keys: &[
            key(
                "url",
                Kind::Url,
                Required("https://influx.example:8086"),
                "The server. A path is kept: a proxy's, or \"/v1/influxdb\" of GreptimeDB.",
            ),
            key(
                "org",
                Kind::Text,
                Required("city"),
                "The organisation. Servers other than InfluxDB 2 ignore it.",
            ),
            key(
                "bucket",
                Kind::Text,
                Required("loushan"),
                "The bucket, or what the server has instead (a database).",
            ),
            key(
                "create_bucket",
                Kind::Bool,
                Is("true"),
                "Make the bucket if the server says that it has none of that name.",
            ),
            key(
                "token",
                Kind::Secret,
                Unset("secret"),
                "The API token. Better set as LOUSHAN__SINK__INFLUX__TOKEN than written here.",
            ),
            key(
                "token_file",
                Kind::Path,
                Unset("/run/secrets/influx-token"),
                "A file with the token, which goes before token. Read again when the server refuses it.",
            ),
            key(
                "auth",
                Kind::Choice(&Scheme::WORDS),
                Is("token"),
                "How the token is shown: InfluxDB 2's \"Token\", \"Bearer\", \"Basic\" (the token is then\nuser:password), or not at all.",
            ),
            key(
                "ca_file",
                Kind::Path,
                Unset("/etc/loushan/ca.pem"),
                "Certificates (PEM) of the authorities that may vouch for an https:// server, instead of\nthe system's.",
            ),
            key(
                "client_certificate",
                Kind::Path,
                Unset("/etc/loushan/client.pem"),
                "Our certificate (PEM), for a server that asks for one.",
            ),
            key(
                "client_key",
                Kind::Path,
                Unset("/etc/loushan/client.key"),
                "The key (PEM) of that certificate.",
            ),
            key("connections", Kind::Count(1, 64), Is("2"), "Requests on their way at a time."),
            key(
                "batch_points",
                Kind::Count(1, 1_000_000),
                Is("5000"),
                "Points of one request at most.",
            ),
            key("batch_bytes", Kind::Size(KIB, 64 * MIB), Is("1MiB"), "Its bytes at most."),
            key(
                "batch_age",
                Kind::Duration(1, HOUR),
                Is("1s"),
                "How long a point may wait for others.",
            ),
            key(
                "timeout",
                Kind::Duration(100, 10 * MINUTE),
                Is("10s"),
                "How long the server may take to answer.",
            ),
            key(
                "connect_timeout",
                Kind::Duration(100, 10 * MINUTE),
                Is("5s"),
                "How long a connection may take, TLS included.",
            ),
            key(
                "write_timeout",
                Kind::Duration(100, 10 * MINUTE),
                Is("10s"),
                "How long the server may take nothing of a request.",
            ),
            key("gzip", Kind::Bool, Is("true"), "Compress requests."),
            key(
                "max_backoff",
                Kind::Duration(100, HOUR),
                Is("30s"),
                "The longest pause between two attempts.",
            ),
            key(
                "max_retry_after",
                Kind::Duration(0, 24 * HOUR),
                Is("10m"),
                "The longest pause that the server may ask for.",
            ),
            key(
                "late_after",
                Kind::Duration(100, 24 * HOUR),
                Is("15s"),
                "When the oldest reading has been held for so long, the sink is in trouble, whatever its\nconnections look like.",
            ),
            key(
                "held_bytes",
                Kind::Size(2 * MIB, 16 * GIB),
                Is("16MiB"),
                "Held in memory while the server is away; past it the log keeps what comes. At least\ntwice batch_bytes.",
            ),
            key(
                "flush_within",
                Kind::Duration(0, HOUR),
                Is("5s"),
                "How long a stop waits for the server; the rest is written after the next start.",
            ),
            key(
                "on_full",
                Kind::Choice(&["hold", "let_go"]),
                Is("hold"),
                "When the log reaches log.max_bytes or log.free_disk_floor because this sink lags.\nhold: devices are held back until there is room, and nothing is lost.\nlet_go: the oldest of what this sink has not stored is given up, counted and said; the\nembedded store has it.",
            ),
        ],
    },
    section(
        "dead_letter",
        "What senders got wrong, kept with raw bytes and reason under <data>/dead-letter.",
        &[
            key(
                "total_bytes",
                Kind::Size(MIB, TIB),
                Is("1GiB"),
                "Bytes of all its files; past it the oldest go, counted.",
            ),
            key(
                "station_bytes",
                Kind::Size(KIB, TIB),
                Is("16MiB"),
                "Raw bytes kept of one station; past it reason, digest and the first 256 bytes are.",
            ),
        ],
    ),
    live::STATIONS,
    live::LIVE,
    alarms::ALARMS,
    alarms::WEBHOOK,
    alarms::MAINTENANCE,
    section(
        "tracing",
        "What the service says on standard error.",
        &[
            key(
                "format",
                Kind::Choice(&["human", "json"]),
                Is("human"),
                "Lines for people, or one JSON object a line.",
            ),
            key(
                "level",
                Kind::Text,
                Is("info"),
                "A level, or a filter such as \"info,loushan_broker=debug\".",
            ),
        ],
    ),
    section(
        "shutdown",
        "How the service ends.",
        &[key(
            "deadline",
            Kind::Duration(SECOND, HOUR),
            Is("30s"),
            "How long an ordered stop may take before the process ends anyway. What was\nacknowledged is on disk in either case.",
        )],
    ),
];
