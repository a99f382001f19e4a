//! What happens is told on standard error, for people or for machines. Standard output is the
//! command's own.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use loushan_ingest::config::{Tracing, variable};
use tracing_subscriber::EnvFilter;

use super::Failure;

/// What of libraries is not shown unless `tracing.level` asks for it: rumqttd's router tells of every
/// subscription, in names of its own.
const QUIET: &str = "rumqttd=warn";

/// Starts telling. Once per process.
pub(super) fn start(config: &Tracing) -> Result<(), Failure> {
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET},{}", config.level))
        .with_context(|| {
            format!(
                "tracing.level {:?} is no filter; write a level such as \"info\", or set {}",
                config.level,
                variable("tracing.level")
            )
        })
        .map_err(Failure::Usage)?;
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // What cannot be told is not told elsewhere: by default that is printed to standard error, and
        // panics where that fails, which on a full disk would end the thread that had something to say.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = if config.json { events.json().try_init() } else { events.try_init() };
    started.map_err(|e| Failure::Failed(anyhow::anyhow!("events cannot be shown: {e}")))
}

/// The same for commands without a configuration file: the environment alone says how.
pub(super) fn start_by_environment(default_level: &str) -> Result<(), Failure> {
    let level =
        std::env::var(variable("tracing.level")).unwrap_or_else(|_| default_level.to_owned());
    let json = std::env::var(variable("tracing.format")).is_ok_and(|format| format == "json");
    start(&Tracing { json, level })
}
