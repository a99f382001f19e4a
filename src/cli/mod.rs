//! The command line: what there is to say, which command says it, and with which exit code it ends.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done; for `audit`: ledger and store agree; for `status`: the service is ready |
//! | 1 | failed; for `audit`: they differ; for `status`: it is not ready |
//! | 2 | the command line or the configuration is wrong; for `status`: it could not be asked |

// What a command says is its output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod alarms;
mod audit;
mod certs;
mod config;
mod dead_letters;
mod demo;
mod events;
mod export;
mod http;
mod look;
mod query;
mod record;
mod replay;
mod retention;
mod serve;
mod signals;
mod simulate;
mod sink;
mod snapshot;
mod status;
mod store;
mod table;
mod top;
mod user;

use std::future::Future;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The telemetry front door of a city's NB-IoT pilot: a PUBACK means the reading is decoded, checked
/// and on disk.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve(serve::Args),
    /// Run the service with a simulated fleet inside, over real MQTT.
    Demo(demo::Args),
    /// Run a simulated fleet against any MQTT broker.
    Simulate(simulate::Args),
    /// Record what a live broker's subscribers see, for `simulate --trace`.
    Record(record::Args),
    /// Hold a fleet's ledger against a service's store. Exit code 1: they differ.
    Audit(audit::Args),
    /// Check a configuration file and name all its faults.
    CheckConfig(config::CheckArgs),
    /// Print the commented default configuration file.
    PrintConfig,
    /// Print what every metric means, in Markdown.
    PrintMetrics,
    /// Make certificates to try TLS with.
    #[command(subcommand)]
    Certs(certs::Command),
    /// Keep the users file: who may come in, by which password, in which role.
    #[command(subcommand)]
    User(user::Command),
    /// Look at a running service once. Exit code 1: it is not ready, 2: it could not be asked.
    Status(status::Args),
    /// Look at a running service again and again; q quits.
    Top(top::Args),
    /// Ask what is stored: latest readings, history, figures, silences.
    #[command(subcommand)]
    Query(query::Command),
    /// Write all readings of a kind to a file.
    Export(export::Args),
    /// Show what a running service keeps, and what would go now.
    Retention(retention::Args),
    /// Copy a running service's store, for other readers and for backups. Needs an admin's token.
    Snapshot(snapshot::Args),
    /// Look at what was rejected, and have it decided again.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// See what a running service has raised, and acknowledge it.
    #[command(subcommand)]
    Alarms(alarms::Command),
    /// Look at the sinks, and pause, resume, rewind or remove one.
    #[command(subcommand)]
    Sink(sink::Command),
    /// Give a sink readings of the past again.
    Replay(replay::Args),
}

/// Why a command did not succeed.
#[derive(Debug)]
enum Failure {
    /// The command line or the configuration is wrong.
    Usage(anyhow::Error),
    /// It could not be done.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Failure {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }
}

/// Parses the command line, runs the command, and says how it ended.
pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::CheckConfig(args) => config::check(&args),
        Command::PrintConfig => config::print(),
        Command::PrintMetrics => config::print_metrics(),
        Command::Certs(command) => certs::run(&command),
        Command::User(command) => user::run(&command),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Query(command) => query::run(&command),
        Command::Export(args) => export::run(&args),
        Command::Retention(args) => retention::run(&args),
        Command::Snapshot(args) => snapshot::run(&args),
        Command::DeadLetters(command) => dead_letters::run(&command),
        Command::Alarms(command) => alarms::run(&command),
        Command::Sink(command) => sink::run(&command),
        Command::Replay(args) => replay::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(Failure::Usage(error)) => {
            eprintln!("loushan: {}", describe(&error));
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            eprintln!("loushan: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, each once: some errors of the libraries tell their cause themselves,
/// as events show no chain.
fn describe(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

/// Runs a command that needs a runtime.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("loushan").build()?;
    let done = runtime.block_on(work);
    // Whatever had to end was waited for. A thread that hangs in a sync of a dead disk is not, or
    // it would outlast shutdown.deadline.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;

    use super::{Cli, describe};

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_told_once() {
        use anyhow::Context as _;

        let told = anyhow::anyhow!("no such file");
        let told = Err::<(), _>(told).context("ledger x: no such file").context("audit");
        assert_eq!(describe(&told.unwrap_err()), "audit: ledger x: no such file");
    }
}
