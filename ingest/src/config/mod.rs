//! The configuration: a TOML file and the environment, read into one resolved [`Config`].
//!
//! * [`keys`] is the table of all keys. Reading, checking, printing and documentation go by it, so
//!   that none can know a key the others do not.
//! * Every key `section.key` can be set by the environment as `LOUSHAN__SECTION__KEY`, which wins
//!   over the file. Environment values are taken as text and read by the key's kind, so that a
//!   token `007` stays a token.
//! * Unknown keys are refused, in the file and in the environment. Sizes and durations carry their
//!   unit. All faults are reported at once, each with its key, value and remedy.
//! * Of some sections there may be any number, each with a name: `[sink.NAME]`, and the webhooks and
//!   maintenance windows of alarms. The table has one for all of a family, such as `[sink.influx]`.
//! * Whatever is not set has a default on loopback: the service runs without any file.
//! * A secret is never shown: not in errors, not in `Debug`, not by quoting a line of the file.

mod alarms;
mod exposure;
mod fault;
#[cfg(feature = "testing")]
pub(crate) mod fuzzing;
pub mod keys;
mod limits;
mod listeners;
mod print;
mod raw;
mod resolved;
pub mod table;
#[cfg(test)]
mod tests;
pub mod units;

pub use exposure::Exposed;
pub use fault::{Fault, Faults, Origin};
pub use limits::Limit;
pub use print::default_file;
pub use raw::{ENVIRONMENT_PREFIX, variable};
pub use resolved::{Config, Keep, MqttListen, OnFull, SinkConfig, Tracing};
