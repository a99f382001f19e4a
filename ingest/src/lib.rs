//! Decode, normalize, log, store: the acknowledged path, its sinks and its HTTP side.

mod ack;
pub mod alarm;
pub mod ask;
mod causes;
pub mod clock;
pub mod commands;
pub mod config;
mod console;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod io;
pub mod live;
pub mod lock;
pub mod metrics;
pub mod pipeline;
pub mod readiness;
pub mod registry;
pub mod service;
pub mod sink;
mod tail;
pub mod wal;
