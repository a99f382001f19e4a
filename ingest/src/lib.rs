//! Decode, normalize, log, store: the acknowledged path, its sinks and its HTTP side.

pub mod clock;
pub mod io;
pub mod pipeline;
pub mod sink;
pub mod wal;
