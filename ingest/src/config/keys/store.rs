//! The keys of the embedded store's upkeep: how files are merged, and how long what is stored is kept.

use super::{DAY, GIB, KIB, MIB, TIB, key, section};
use crate::config::table::Default::{Is, Unset};
use crate::config::table::{Key, Kind, Section};

/// `[store.compaction]`.
pub(super) const COMPACTION: Section = section(
    "store.compaction",
    "Small files of a day become few large ones, in the background.",
    &[
        key("enabled", Kind::Bool, Is("true"), "Whether files are merged at all."),
        key(
            "min_files",
            Kind::Count(2, 64),
            Is("8"),
            "Files of about one size that are merged into one. Fewer mean fewer files to read and more\nbytes written.",
        ),
        key(
            "target_bytes",
            Kind::Size(MIB, 16 * GIB),
            Is("128MiB"),
            "Bytes that a file should have in the end. No two such files of a day have a device in\ncommon.",
        ),
        key(
            "memory_bytes",
            Kind::Size(16 * MIB, 64 * GIB),
            Is("256MiB"),
            "Memory for the files that are merged at once; what does not fit is done in several steps.",
        ),
        key(
            "quiet",
            Kind::Duration(0, 365 * DAY),
            Is("10m"),
            "How long nothing must have come to a day that is over before its last merge.",
        ),
        key(
            "share_percent",
            Kind::Count(1, 100),
            Is("50"),
            "The share of one processor's time that is spent on it at most.",
        ),
    ],
);

/// `[store.retention]`.
pub(super) const RETENTION: Section = section(
    "store.retention",
    "What is kept. Days go whole, oldest first, and never the day that is not over; `loushan retention` shows what would go.",
    &[key(
        "bytes",
        Kind::Size(KIB, 1024 * TIB),
        Unset("200GiB"),
        "Bytes of all kinds together. Not set: no bound.",
    )],
);

const OF_KIND: &[Key] = &[
    key(
        "age",
        Kind::Duration(DAY, 36_500 * DAY),
        Unset("3650days"),
        "Days go that ended longer ago than this. Not set: none goes for its age. What is sent late\nis filed up to 90 days back: below that a reading may come whose day has gone already; it\nis stored, and goes at the next look.",
    ),
    key(
        "bytes",
        Kind::Size(KIB, 1024 * TIB),
        Unset("50GiB"),
        "Bytes of its files; past it the oldest days go. Not set: no bound of its own.",
    ),
];

const fn of(name: &'static str, doc: &'static str) -> Section {
    section(name, doc, OF_KIND)
}

pub(super) const PARKING: Section = of("store.retention.parking", "Parking.");
pub(super) const STREET_LIGHT: Section = of("store.retention.street_light", "Street lights.");
pub(super) const SMOKE: Section = of("store.retention.smoke", "Smoke detectors.");
pub(super) const ELEVATOR: Section = of("store.retention.elevator", "Elevators.");
pub(super) const WATER: Section =
    of("store.retention.water", "Water meters; their intervals go with their readings.");
pub(super) const STATION_STATUS: Section =
    of("store.retention.station_status", "The stations' own figures.");
