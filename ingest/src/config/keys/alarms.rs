//! The keys of alarms: what raises them, when not, how much is kept, and who is told.

use super::{DAY, GIB, HOUR, KIB, MINUTE, SECOND, TIB, key, section};
use crate::alarm::Severity;
use crate::config::table::Default::{Is, Required, Unset};
use crate::config::table::{Kind, Section};

/// `[alarms]`.
pub(super) const ALARMS: Section = section(
    "alarms",
    "What somebody must be told of; docs/alarms.md has all rules. Lists are separated by commas.",
    &[
        key("enabled", Kind::Bool, Is("true"), "Whether there are alarms at all."),
        key(
            "off",
            Kind::Text,
            Unset("covered, lamp_tilt"),
            "Rules that raise nothing. Alarms of theirs that last are ended at the next start.",
        ),
        key(
            "severity",
            Kind::Text,
            Unset("lamp_failure=major, day_burner=minor"),
            "How bad rules are, where it is not as documented: RULE=critical, major or minor.",
        ),
        key(
            "raise_after",
            Kind::Text,
            Unset("water_leak=10m"),
            "How long a rule has to hold before it is an alarm, where it is not at once: RULE=DURATION.",
        ),
        key(
            "clear_after",
            Kind::Duration(0, DAY),
            Is("30s"),
            "How long it has to be over before an alarm is cleared, so that one that comes and goes is one.",
        ),
        key(
            "kinds",
            Kind::Text,
            Unset("smoke, elevator"),
            "Only of devices of these kinds. Not set: all.",
        ),
        key(
            "projects",
            Kind::Text,
            Unset("smoke-pilot"),
            "Only at stations of these projects of the stations file. Not set: all.",
        ),
        key(
            "areas",
            Kind::Text,
            Unset("Xinpu"),
            "Only at stations in these areas of the stations file. Not set: all.",
        ),
        key(
            "low_battery_pct",
            Kind::Count(0, 100),
            Is("10"),
            "Charge below which a battery is low.",
        ),
        key(
            "low_battery_clear_pct",
            Kind::Count(0, 100),
            Is("15"),
            "Charge from which it is well again.",
        ),
        key(
            "burst_l_h",
            Kind::Count(1, 4700),
            Is("3125"),
            "Flow above which a pipe has burst, in litres an hour: the meter's Q4.",
        ),
        key(
            "burst_clear_l_h",
            Kind::Count(0, 4700),
            Is("2500"),
            "Flow up to which it is well again.",
        ),
        key("tilt_deg", Kind::Count(1, 180), Is("15"), "Tilt above which a lamp post leans."),
        key("tilt_clear_deg", Kind::Count(0, 180), Is("12"), "Tilt up to which it stands again."),
        key(
            "entrapment_after",
            Kind::Duration(SECOND, HOUR),
            Is("2m"),
            "How long a lift may stand outside the door zone with somebody inside.",
        ),
        key(
            "silent_percent",
            Kind::Count(110, 10_000),
            Is("250"),
            "A device is silent after so much of the longest pause that it is known for.",
        ),
        key("silent_min", Kind::Duration(SECOND, 365 * DAY), Is("3m"), "But not sooner than this."),
        key(
            "station_offline_after",
            Kind::Duration(SECOND, DAY),
            Is("3m"),
            "A station is offline when nothing of it has come for so long; later, if it is known for\nlonger pauses.",
        ),
        key(
            "start_grace",
            Kind::Duration(0, DAY),
            Is("2m"),
            "How long after a start nobody's silence counts: devices and stations have to come back first.",
        ),
        key(
            "memory",
            Kind::Size(64 * KIB, 64 * GIB),
            Is("128MiB"),
            "What is remembered of devices and stations, their alarms that last among it. Past it those\nheard longest ago are forgotten, counted.",
        ),
        key(
            "history_age",
            Kind::Duration(MINUTE, 10 * 365 * DAY),
            Is("90d"),
            "How long an alarm that is over is kept.",
        ),
        key(
            "history_count",
            Kind::Count(0, 1_000_000),
            Is("20000"),
            "How many of them are kept, about a KiB of memory each; past it the oldest go.",
        ),
        key(
            "live_events",
            Kind::Count(16, 65_536),
            Is("1024"),
            "Events that a slow reader of the live feed may be behind before it misses some.",
        ),
        key(
            "outbox_bytes",
            Kind::Size(64 * KIB, TIB),
            Is("16MiB"),
            "Events that wait for webhooks, in memory and on disk. Past it the oldest go untold, counted.",
        ),
    ],
);

/// `[alarms.webhook.NAME]`.
pub(super) const WEBHOOK: Section = Section {
    name: "alarms.webhook.duty",
    doc: "Tells a receiver of alarms by HTTP, signed. Off unless set; there may be any number of them, each\n# with a name of its own; this one is called duty.",
    optional: true,
    keys: &[
        key(
            "url",
            Kind::Url,
            Required("https://duty.example/loushan"),
            "Where to; redirects are not followed.",
        ),
        key(
            "secret_file",
            Kind::Path,
            Required("/run/secrets/loushan-webhook"),
            "A file with the secret that requests are signed with, 16 bytes at least. Read again after a\nfailure.",
        ),
        key(
            "severity",
            Kind::Choice(&Severity::WORDS),
            Is("minor"),
            "The least severity that it is told of.",
        ),
        key(
            "ca_file",
            Kind::Path,
            Unset("/etc/loushan/ca.pem"),
            "Certificates (PEM) of the authorities that may vouch for an https:// receiver, instead of\nthe system's.",
        ),
        key(
            "timeout",
            Kind::Duration(100, 10 * MINUTE),
            Is("10s"),
            "How long the receiver may take to answer.",
        ),
        key(
            "max_backoff",
            Kind::Duration(100, HOUR),
            Is("1m"),
            "The longest pause between two attempts.",
        ),
    ],
};

/// `[alarms.maintenance.NAME]`.
pub(super) const MAINTENANCE: Section = Section {
    name: "alarms.maintenance.night",
    doc: "A time in which nothing is raised; what lasts beyond its end is raised then. Off unless set; any\n# number of them, each with a name of its own; this one is called night. Lists that are not set leave nobody out.",
    optional: true,
    keys: &[
        key(
            "from",
            Kind::Text,
            Unset("2026-03-01T22:00:00+08:00"),
            "When it begins, in RFC 3339. Not set: it has always been.",
        ),
        key("to", Kind::Text, Unset("2026-03-02T04:00:00+08:00"), "When it ends. Not set: never."),
        key(
            "daily",
            Kind::Text,
            Unset("02:00-04:30"),
            "Only in this span of each day, in the city's time (UTC+8); it may pass midnight.",
        ),
        key("rules", Kind::Text, Unset("station_offline, device_silent"), "Only these rules."),
        key(
            "stations",
            Kind::Text,
            Unset("bs0001, bs0002"),
            "Only these stations, and their devices.",
        ),
        key("devices", Kind::Text, Unset("867770000000018"), "Only these devices, by IMEI."),
        key("projects", Kind::Text, Unset("smoke-pilot"), "Only stations of these projects."),
        key("areas", Kind::Text, Unset("Xinpu"), "Only stations in these areas."),
    ],
};
