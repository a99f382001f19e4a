//! What the fuzz targets run, and the replay of their corpus in the tests. Each function panics where
//! a promise is broken and returns where none is.

/// A payload of a channel of the pilot, as a station could send it: the first byte says which.
pub fn uplink_batch(data: &[u8]) {
    crate::pipeline::fuzzing::uplink(data);
}

/// A folder of segment files, sound and damaged ones.
pub fn wal_recovery(data: &[u8]) {
    crate::wal::fuzzing::recovery(data);
}

/// The text of a configuration file, with a secret in it or beside it.
pub fn config(data: &[u8]) {
    crate::config::fuzzing::read(data);
}
