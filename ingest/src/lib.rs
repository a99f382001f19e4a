//! Decode, normalize, log, store: the acknowledged path, its sinks and its HTTP side.

pub mod io;
pub mod wal;
