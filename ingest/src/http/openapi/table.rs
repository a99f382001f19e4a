//! Every operation there is: what it is for, what it takes, what it answers.

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// Its name for generated clients.
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) in_path: &'static [Param],
    pub(super) query: &'static [Param],
    /// The shape of its body, where it takes one.
    pub(super) body: Option<&'static str>,
    /// Answers beside the errors that all have.
    pub(super) answers: &'static [Answer],
    /// It needs no credentials anywhere.
    pub(super) anybody: bool,
}

/// A parameter.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) ty: Type,
    pub(super) required: bool,
    pub(super) says: &'static str,
    pub(super) example: Option<&'static str>,
}

/// What a parameter's values are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    /// Any text; what is accepted is told in words.
    Text,
    /// Text of this form.
    Pattern(&'static str),
    /// One of these words.
    Words(&'static [&'static str]),
    /// A kind.
    Kind,
    /// A whole number, both ends included.
    Number(u64, u64),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) says: &'static str,
    pub(super) shape: Shape,
}

/// What an answer's body is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// There is none.
    Nothing,
    /// JSON of a shape in `schemas.json`.
    Json(&'static str),
    /// Bytes of one of these media types.
    Bytes(&'static [&'static str]),
    /// JSON of a shape, or one of [`TABLES`], by `format` or `Accept`.
    Table(&'static str),
}

/// The media types of tables.
pub(super) const TABLES: &[&str] = &[
    "application/x-ndjson",
    "text/csv; charset=utf-8",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.parquet",
];

/// What operations are about.
pub(super) const TAGS: &[(&str, &str)] = &[
    ("service", "The process: alive, ready, figures, who asks."),
    ("live", "The city as it is now, once a second."),
    ("city", "Stations, devices, kinds and projects."),
    ("alarms", "What somebody must be told of."),
    ("readings", "Questions about what is stored."),
    ("commands", "Commands down to stations."),
    ("pipeline", "What happens inside, and orders to sinks."),
    ("store", "What is kept, and copies of it."),
];

const fn param(name: &'static str, ty: Type, says: &'static str) -> Param {
    Param { name, ty, required: false, says, example: None }
}

const fn needed(name: &'static str, ty: Type, says: &'static str) -> Param {
    Param { required: true, ..param(name, ty, says) }
}

const fn ok(shape: Shape) -> Answer {
    Answer { status: 200, says: "The answer.", shape }
}

const IMEI_FORM: &str = "^[0-9]{15}$";
const STATION_FORM: &str = "^[a-z0-9-]{1,32}$";

const IMEI: Param = Param {
    example: Some("860000000000017"),
    ..needed("imei", Type::Pattern(IMEI_FORM), "15 digits, the last one Luhn's.")
};
const STATION: Param = Param {
    example: Some("bs0001"),
    ..needed("station", Type::Pattern(STATION_FORM), "A station's name.")
};
const SINK: Param = needed("sink", Type::Text, "A sink's name, as /api/v1/sinks has it.");

const OF_DEVICE: Param =
    param("device", Type::Pattern(IMEI_FORM), "Only this device, by its IMEI.");
const OF_STATION: Param = param("station", Type::Pattern(STATION_FORM), "Only by this station.");
const OF_PROJECT: Param = param("project", Type::Text, "Only by this project's stations.");
const OF_KIND: Param = param("kind", Type::Kind, "Only of this kind.");
const FROM: Param = param(
    "from",
    Type::Text,
    "From this effective time on: RFC 3339, Unix milliseconds, or a time before now such as -24h.",
);
const TO: Param = param("to", Type::Text, "Before this effective time.");
const MIN_QUALITY: Param = param(
    "min_quality",
    Type::Number(1, 4),
    "Of at least this quality; 4: nothing speaks against it.",
);
const FIELDS: Param =
    param("fields", Type::Text, "Only these columns, by name, separated by commas.");
const FORMAT: Param = param(
    "format",
    Type::Words(&["json", "ndjson", "csv", "arrow", "parquet"]),
    "The answer's format; else that of Accept, else JSON.",
);
const AFTER_LSN: Param =
    param("after_lsn", Type::Number(0, u64::MAX), "Only what has a greater lsn.");
const LONGER_THAN: Param =
    param("longer_than", Type::Text, "Silences longer than this, such as 5m or 1d.");
const FACTOR: Param = param(
    "factor",
    Type::Text,
    "Silences longer than so many times the usual one; 2.5 without it.",
);
const HISTORY: &[Param] =
    &[FROM, TO, MIN_QUALITY, ORDER, LIMIT, PAGE, FIELDS, OF_STATION, OF_PROJECT, OF_KIND, FORMAT];
const ORDER: Param = param("order", Type::Words(&["oldest", "newest"]), "Which comes first.");
const LIMIT: Param =
    param("limit", Type::Number(1, 10_000), "Readings of a page; 1000 without it.");
const PAGE: Param = param("page", Type::Text, "next_page of the page before.");
const GAPS: &[Param] =
    &[OF_STATION, OF_PROJECT, OF_KIND, FROM, TO, MIN_QUALITY, LONGER_THAN, FACTOR, FORMAT];

const ALARM_STATE: Param =
    param("state", Type::Text, "Of these states: open, acknowledged, cleared; by commas.");
const ALARM_SEVERITY: Param =
    param("severity", Type::Text, "Of these severities: critical, major, minor; by commas.");
const ALARM_RULE: Param = param("rule", Type::Text, "By these rules; by commas.");
const ALARM_AREA: Param = param("area", Type::Text, "Only in this area.");
const ALARM_ACKNOWLEDGED: Param = param(
    "acknowledged",
    Type::Words(&["true", "false"]),
    "Only such as somebody has, or has not.",
);
const ALARM_SHOWN: Param = param(
    "shown",
    Type::Words(&["true", "false"]),
    "Only such as last or nobody has acknowledged.",
);
const ALARM_Q: Param = param("q", Type::Text, "Only such as have this text in them.");
const ALARM_ID: Param = needed("id", Type::Text, "The alarm's id.");

const JSON: Shape = Shape::Json("Object");
const DONE: &[Answer] = &[
    Answer { status: 200, says: "It is done, and durable.", shape: Shape::Json("SinkDone") },
    Answer { status: 202, says: "It is being done.", shape: Shape::Json("SinkDone") },
    Answer { status: 409, says: "Not with this sink, or not now.", shape: Shape::Json("Error") },
];

const fn get(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    query: &'static [Param],
    answers: &'static [Answer],
) -> Operation {
    let (in_path, body) = (&[], None);
    Operation {
        method: "GET",
        path,
        id,
        tag,
        summary,
        in_path,
        query,
        body,
        answers,
        anybody: false,
    }
}

const fn post(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    query: &'static [Param],
    answers: &'static [Answer],
) -> Operation {
    Operation { method: "POST", ..get(path, id, tag, summary, query, answers) }
}

const fn about(in_path: &'static [Param], operation: Operation) -> Operation {
    Operation { in_path, ..operation }
}

const fn anybody(operation: Operation) -> Operation {
    Operation { anybody: true, ..operation }
}

/// All operations.
#[rustfmt::skip] // a line each
pub(super) static OPERATIONS: &[Operation] = &[
    anybody(get("/healthz", "health", "service", "Whether the process answers.", &[],
        &[ok(Shape::Json("Health"))])),
    get("/readyz", "readiness", "service", "Whether work may be given, and why not.", &[],
        &[ok(Shape::Json("Readiness")),
          Answer { status: 503, says: "It is not ready.", shape: Shape::Json("Readiness") }]),
    get("/metrics", "metrics", "service", "Figures for Prometheus.", &[],
        &[ok(Shape::Bytes(&["text/plain; version=0.0.4; charset=utf-8"]))]),
    anybody(get("/docs", "docs", "service", "This document, to read.", &[],
        &[ok(Shape::Bytes(&["text/html; charset=utf-8"]))])),
    anybody(about(&[needed("file", Type::Words(&["docs.js", "docs.css"]), "A file of the page.")],
        get("/docs/{file}", "docs_file", "service", "What that page is made of.", &[],
        &[ok(Shape::Bytes(&["text/javascript; charset=utf-8", "text/css; charset=utf-8"]))]))),
    anybody(get("/api/v1/openapi.json", "openapi", "service", "This document.", &[], &[ok(JSON)])),
    get("/api/v1/whoami", "whoami", "service", "Who asks, and what for.", &[],
        &[ok(Shape::Json("Caller"))]),
    post("/api/v1/identity/reload", "reload_identity", "service",
        "Read users and rights again.", &[],
        &[ok(JSON), Answer { status: 422, says: "A file cannot be used.", shape: Shape::Json("Error") }]),

    get("/api/v1/live", "live", "live",
        "Server-Sent Events: hello with everything, then city, stations, alarm and reading.",
        &[param("station", Type::Pattern(STATION_FORM), "Each reading of this station as well."),
          param("device", Type::Pattern(IMEI_FORM), "Each reading of this device as well.")],
        &[ok(Shape::Bytes(&["text/event-stream"]))]),
    get("/api/v1/alarms", "alarms", "alarms", "Alarms, newest first.",
        &[ALARM_STATE, ALARM_SEVERITY, ALARM_RULE, OF_KIND, OF_STATION, OF_DEVICE, OF_PROJECT, ALARM_AREA,
          ALARM_ACKNOWLEDGED, ALARM_SHOWN, ALARM_Q,
          param("limit", Type::Number(1, 1000), "Alarms of a page; 100 without it."),
          param("after", Type::Number(1, u64::MAX), "next of the page before.")],
        &[ok(Shape::Json("Alarms"))]),
    get("/api/v1/alarms/export", "export_alarms", "alarms", "All such alarms as lines.",
        &[ALARM_STATE, ALARM_SEVERITY, ALARM_RULE, OF_KIND, OF_STATION, OF_DEVICE, OF_PROJECT, ALARM_AREA,
          ALARM_ACKNOWLEDGED, ALARM_SHOWN, ALARM_Q,
          param("format", Type::Words(&["ndjson", "csv"]), "ndjson without it.")],
        &[ok(Shape::Bytes(&["application/x-ndjson", "text/csv; charset=utf-8"]))]),
    about(&[ALARM_ID], get("/api/v1/alarms/{id}", "alarm", "alarms", "An alarm.", &[],
        &[ok(Shape::Json("Alarm"))])),
    about(&[ALARM_ID], post("/api/v1/alarms/{id}/acknowledge", "acknowledge_alarm", "alarms",
        "Acknowledge an alarm; the first to do it is remembered.",
        &[param("by", Type::Text, "Who it is, where the admin's shared token is used."),
          param("note", Type::Text, "What is to be known of it.")],
        &[ok(Shape::Json("Alarm"))])),
    get("/api/v1/live/history", "live_history", "live", "The figures of the last minutes.", &[],
        &[ok(Shape::Json("History"))]),

    get("/api/v1/stations", "stations", "city", "Every station.", &[],
        &[ok(Shape::Json("Stations"))]),
    about(&[STATION], get("/api/v1/stations/{station}", "station", "city",
        "A station, its radio, traffic and last batches.", &[], &[ok(Shape::Json("StationPage"))])),
    get("/api/v1/devices", "devices", "city", "Devices, a page of them.",
        &[OF_STATION, OF_KIND, OF_PROJECT,
          param("area", Type::Text, "Only in this part of the city."),
          param("q", Type::Pattern("^[0-9]*$"), "Only with these digits in their IMEI."),
          param("limit", Type::Number(1, 1000), "Devices of a page; 100 without it."),
          param("after", Type::Pattern(IMEI_FORM), "next of the page before.")],
        &[ok(Shape::Json("Devices"))]),
    about(&[IMEI], get("/api/v1/devices/{imei}", "device", "city",
        "A device, its latest values, and their way here.", &[], &[ok(Shape::Json("DevicePage"))])),
    get("/api/v1/fields", "fields", "city", "The field table: units, ranges, names for people.", &[],
        &[ok(Shape::Json("Fields")),
          Answer { status: 304, says: "As it was.", shape: Shape::Nothing }]),
    get("/api/v1/kinds", "kinds", "city", "How all devices of each kind are.", &[OF_PROJECT],
        &[ok(Shape::Json("Kinds"))]),
    about(&[needed("kind", Type::Kind, "A kind of devices.")],
        get("/api/v1/kinds/{kind}", "kind", "city",
        "How the devices of a kind are, by area.", &[OF_PROJECT], &[ok(Shape::Json("KindPage"))])),
    get("/api/v1/projects", "projects", "city", "The pilot projects.", &[],
        &[ok(Shape::Json("Projects"))]),
    about(&[needed("project", Type::Text, "A project's name.")],
        get("/api/v1/projects/{project}", "project", "city",
        "A project: kinds, stations, quota, exports.", &[], &[ok(Shape::Json("ProjectPage"))])),

    about(&[IMEI], get("/api/v1/devices/{imei}/latest", "latest_of_device", "readings",
        "A device's newest reading.", &[], &[ok(Shape::Json("Latest"))])),
    get("/api/v1/latest", "latest", "readings", "The newest reading of each device.",
        &[OF_DEVICE, OF_STATION, OF_PROJECT, OF_KIND, FORMAT], &[ok(Shape::Table("Object"))]),
    get("/api/v1/history", "history", "readings",
        "A page of readings, by effective time; of a device, a station or a kind.",
        &[OF_DEVICE, OF_STATION, OF_PROJECT, OF_KIND, FROM, TO, MIN_QUALITY, ORDER, LIMIT, PAGE,
          FIELDS, FORMAT],
        &[ok(Shape::Table("Object"))]),
    about(&[IMEI], get("/api/v1/devices/{imei}/history", "history_of_device", "readings",
        "A page of a device's readings.", HISTORY, &[ok(Shape::Table("Object"))])),
    get("/api/v1/aggregate", "aggregate", "readings", "Figures of a field, in bins and by group.",
        &[needed("field", Type::Text, "A field, as /api/v1/fields has it."),
          param("fn", Type::Text, "count, sum, mean, min, max, first, last, p50, p95, p99, increase, rate; several by commas."),
          param("every", Type::Text, "Bins of this length, such as 1h or 1d."),
          param("zone", Type::Text, "The zone in which days and hours begin, such as +08:00."),
          param("by", Type::Words(&["none", "device", "station", "kind"]), "What has figures of its own."),
          param("per", Type::Text, "The unit of time of rates."),
          OF_DEVICE, OF_STATION, OF_PROJECT, OF_KIND, FROM, TO, MIN_QUALITY, FORMAT],
        &[ok(Shape::Table("Object"))]),
    get("/api/v1/export", "export", "readings", "All readings of a kind.",
        &[needed("kind", Type::Kind, "The kind."), OF_DEVICE, OF_STATION, OF_PROJECT, FROM, TO,
          MIN_QUALITY, FIELDS, FORMAT],
        &[ok(Shape::Table("Object"))]),
    get("/api/v1/seen", "seen", "readings", "When a device or station was first and last heard of.",
        &[OF_DEVICE, OF_STATION, OF_PROJECT, OF_KIND, FORMAT],
        &[ok(Shape::Table("Object")),
          Answer { status: 404, says: "Nothing is stored of it.", shape: Shape::Json("Error") }]),
    about(&[IMEI], get("/api/v1/devices/{imei}/seen", "seen_of_device", "readings",
        "When a device was first and last heard of.", &[OF_STATION, OF_PROJECT, OF_KIND, FORMAT],
        &[ok(Shape::Table("Object"))])),
    about(&[STATION], get("/api/v1/stations/{station}/seen", "seen_of_station", "readings",
        "When a station was first and last heard of.", &[OF_DEVICE, OF_PROJECT, OF_KIND, FORMAT],
        &[ok(Shape::Table("Object"))])),
    get("/api/v1/gaps", "gaps", "readings", "When a device or station was silent.",
        &[OF_DEVICE, OF_STATION, OF_PROJECT, OF_KIND, FROM, TO, MIN_QUALITY, LONGER_THAN, FACTOR, FORMAT],
        &[ok(Shape::Table("Object"))]),
    about(&[IMEI], get("/api/v1/devices/{imei}/gaps", "gaps_of_device", "readings",
        "When a device was silent.", GAPS, &[ok(Shape::Table("Object"))])),
    about(&[STATION], get("/api/v1/stations/{station}/gaps", "gaps_of_station", "readings",
        "When a station was silent.",
        &[OF_DEVICE, OF_PROJECT, OF_KIND, FROM, TO, MIN_QUALITY, LONGER_THAN, FACTOR, FORMAT],
        &[ok(Shape::Table("Object"))])),
    get("/api/v1/readings/count", "count", "readings", "How many readings there are.",
        &[OF_KIND, FROM, TO], &[ok(Shape::Json("Count"))]),
    get("/api/v1/readings/export", "export_rows", "readings",
        "Every stored row as often as it is stored, for an audit.", &[AFTER_LSN],
        &[ok(Shape::Bytes(&["application/x-ndjson"]))]),

    Operation { body: Some("Command"), ..about(&[STATION], post("/api/v1/stations/{station}/commands",
        "send_command", "commands", "Send a command to a station.",
        &[param("wait", Type::Number(0, 60), "Seconds to wait for the station; 5 without it.")],
        &[Answer { status: 200, says: "It was delivered, or has expired.", shape: JSON },
          Answer { status: 202, says: "It is on disk, and waits for the station.", shape: JSON },
          Answer { status: 409, says: "Another command has this id.", shape: Shape::Json("Error") },
          Answer { status: 413, says: "The body is too long.", shape: Shape::Json("Error") },
          Answer { status: 429, says: "So many wait for this station.", shape: Shape::Json("Error") },
          Answer { status: 507, says: "So many wait for all.", shape: Shape::Json("Error") }])) },
    about(&[STATION, needed("id", Type::Number(0, u64::MAX), "The command's id.")],
        get("/api/v1/stations/{station}/commands/{id}", "command", "commands",
        "What became of a command.", &[], &[ok(JSON)])),

    get("/api/v1/pipeline", "pipeline", "pipeline",
        "Every stage: rates, queues, rejects with examples, sinks, segments.", &[],
        &[ok(Shape::Json("Pipeline"))]),
    get("/api/v1/conservation", "conservation", "pipeline", "The books.", &[],
        &[ok(Shape::Json("Conservation"))]),
    get("/api/v1/sinks", "sinks", "pipeline", "Every sink, and how far it is behind.", &[],
        &[ok(Shape::Json("Sinks"))]),
    about(&[SINK], post("/api/v1/sinks/{sink}/pause", "pause_sink", "pipeline",
        "Have a sink stand still; the log keeps what comes.", &[], DONE)),
    about(&[SINK], post("/api/v1/sinks/{sink}/resume", "resume_sink", "pipeline",
        "Have a sink go on.", &[], DONE)),
    about(&[SINK], post("/api/v1/sinks/{sink}/rewind", "rewind_sink", "pipeline",
        "Give a sink again what the log has.",
        &[needed("to", Type::Text, "An lsn of up to 12 digits, or a time.")], DONE)),
    about(&[SINK], post("/api/v1/sinks/{sink}/remove", "remove_sink", "pipeline",
        "Take a sink away; the log keeps nothing for it.", &[], DONE)),
    about(&[SINK], post("/api/v1/sinks/{sink}/replay", "replay_sink", "pipeline",
        "Give a sink readings of the past again, beside what comes.",
        &[FROM, TO, param("source", Type::Words(&["any", "log", "store"]), "Where they are read from.")],
        &[Answer { status: 202, says: "It has begun.", shape: Shape::Json("Replay") },
          Answer { status: 409, says: "Not with this sink, or not now.", shape: Shape::Json("Error") }])),
    about(&[SINK], get("/api/v1/sinks/{sink}/replay", "sink_replay", "pipeline",
        "How the last replay into a sink stands.", &[], &[ok(Shape::Json("Replay")),
          Answer { status: 409, says: "Not with this sink.", shape: Shape::Json("Error") }])),
    about(&[SINK], post("/api/v1/sinks/{sink}/replay/stop", "stop_sink_replay", "pipeline",
        "End the replay into a sink.", &[], &[ok(Shape::Json("Replay")),
          Answer { status: 409, says: "Not with this sink.", shape: Shape::Json("Error") }])),
    get("/api/v1/dead-letters/export", "dead_letters", "pipeline", "What was rejected, raw.",
        &[AFTER_LSN], &[ok(Shape::Bytes(&["application/x-ndjson"]))]),
    post("/api/v1/dead-letters/replay", "replay_dead_letters", "pipeline",
        "Have dead letters decided again; without dry_run=false only say what would come of it.",
        &[param("reason", Type::Text, "Only those rejected for this reason."),
          param("station", Type::Text, "Only this station's."),
          param("from_lsn", Type::Number(0, u64::MAX), "From this lsn on."),
          param("to_lsn", Type::Number(0, u64::MAX), "Up to this lsn."),
          param("limit", Type::Number(1, 10_000), "So many at most."),
          param("dry_run", Type::Words(&["true", "false"]), "false: do it.")],
        &[ok(Shape::Json("LetterReplay"))]),

    get("/api/v1/retention", "retention", "store", "What is kept, what there is, what would go.", &[],
        &[ok(JSON)]),
    post("/api/v1/retention/run", "run_retention", "store", "Remove now what has expired.", &[],
        &[ok(JSON)]),
    post("/api/v1/store/snapshot", "snapshot", "store", "Make a copy of the store.",
        &[needed("name", Type::Pattern("^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}$"), "What to call it.")],
        &[ok(JSON), Answer { status: 409, says: "There is one.", shape: Shape::Json("Error") }]),
];

/// Errors that an operation may answer beside its own.
pub(super) fn errors_of(operation: &Operation) -> Vec<(u16, &'static str)> {
    let mut errors = vec![
        (400, "A parameter is unknown, twice there, missing or wrong; the answer names it."),
        (500, "What failed is ours; the service's log says what."),
    ];
    if !operation.anybody {
        errors.push((401, "Credentials are missing or wrong."));
        errors.push((403, "They are not for this."));
        errors.push((429, "Too many attempts have failed."));
        errors.push((503, "There is no place now, or the service stops."));
    }
    if !operation.in_path.is_empty() {
        errors.push((404, "There is none of that name."));
    }
    if operation.tag == "readings" {
        errors.push((404, "There is nothing to be asked."));
        errors.push((413, "The answer would take more than query.memory."));
        errors.push((504, "It would take longer than query.timeout."));
    }
    errors
}
