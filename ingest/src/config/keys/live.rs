//! The keys of what is known of the city now, and of who watches it.

use super::{GIB, KIB, MIB, key, section};
use crate::config::table::Default::{Is, Unset};
use crate::config::table::{Kind, Section};

/// `[stations]`.
pub(super) const STATIONS: Section = section(
    "stations",
    "What stands where.",
    &[
        key(
            "file",
            Kind::Path,
            Unset("stations.csv"),
            "A CSV file: station, region, project, name, lat, lon, area. Not set: stations.csv in\nthe data folder, if there is one. Stations it does not name are taken in as unregistered.",
        ),
        key(
            "projects_file",
            Kind::Path,
            Unset("projects.csv"),
            "A CSV file: project, readings_per_day, bytes_per_day; what a project may use a day.\nWhat comes beyond is taken in, counted and said. Not set: projects.csv in the data\nfolder, if there is one.",
        ),
    ],
);

/// `[live]`.
pub(super) const LIVE: Section = section(
    "live",
    "What the console and other clients of /api/v1/live are shown, once a second.",
    &[
        key(
            "clients",
            Kind::Count(1, 10_000),
            Is("64"),
            "Clients at a time; a further one is answered 503.",
        ),
        key(
            "history",
            Kind::Count(60, 300),
            Is("180"),
            "Seconds of figures that a new client gets at once.",
        ),
        key(
            "batch_bytes",
            Kind::Size(64 * KIB, 4 * GIB),
            Is("32MiB"),
            "Recent batches kept in memory, for the stations' pages.",
        ),
        key(
            "reading_bytes",
            Kind::Size(4 * KIB, 16 * MIB),
            Is("256KiB"),
            "Readings of a device or station that wait for one client; more are left out and\ncounted.",
        ),
    ],
);
