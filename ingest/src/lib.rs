//! Decode, normalize, log, store: the acknowledged path, its sinks and its HTTP side.

mod ack;
pub mod clock;
pub mod config;
pub mod http;
pub mod io;
pub mod lock;
pub mod pipeline;
pub mod readiness;
pub mod registry;
pub mod sink;
pub mod stations;
mod tail;
pub mod wal;
