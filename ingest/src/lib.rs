//! Decode, normalize, log, store: the acknowledged path, its sinks and its HTTP side.

mod ack;
pub mod clock;
pub mod io;
pub mod pipeline;
pub mod registry;
pub mod sink;
mod tail;
pub mod wal;
