//! `sink`: look at the sinks of a running service, and tell them what to do.

use std::process::ExitCode;

use serde_json::Value;

use super::Failure;
use super::http::ServiceArgs;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List them: what each is doing, and how far it is behind.
    List(ListArgs),
    /// Have one stand still, over restarts as well; the log keeps what comes.
    Pause(Args),
    /// Have one go on; one that was removed begins anew.
    Resume(Args),
    /// Have one store again what the log still has from there on.
    Rewind(RewindArgs),
    /// Take one away, over restarts as well; the log keeps nothing for it any more.
    Remove(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The sink.
    name: String,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RewindArgs {
    /// The sink.
    name: String,
    /// Where to: an lsn, a time such as 2026-03-01T08:00:00Z, or Unix milliseconds. What has a greater
    /// lsn, or was received from then on, is stored again.
    #[arg(long, value_name = "TIME|LSN")]
    to: String,
    #[command(flatten)]
    service: ServiceArgs,
}

pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List(args) => list(args),
        Command::Pause(args) => order(&args.service, &args.name, "pause", &[]),
        Command::Resume(args) => order(&args.service, &args.name, "resume", &[]),
        Command::Remove(args) => order(&args.service, &args.name, "remove", &[]),
        Command::Rewind(args) => order(&args.service, &args.name, "rewind", &[("to", &args.to)]),
    }
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let answer = args.service.client()?.get("/api/v1/sinks", &[])?.json()?;
    if args.json {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{:<16} {:<8} {:>12} {:>10} {:>12} {:>9}",
        "sink", "state", "cursor", "behind", "bytes", "seconds"
    );
    for sink in answer["sinks"].as_array().into_iter().flatten() {
        println!("{}", line(sink));
        for key in ["trouble", "notice"] {
            if let Some(text) = sink[key].as_str() {
                println!("  {text}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(sink: &Value) -> String {
    let text = |key: &str| sink[key].as_str().unwrap_or("-");
    let lag = |key: &str| sink["lag"][key].as_u64().unwrap_or(0);
    format!(
        "{:<16} {:<8} {:>12} {:>10} {:>12} {:>9.0}",
        text("name"),
        text("state"),
        sink["cursor"].as_u64().unwrap_or(0),
        lag("frames"),
        lag("bytes"),
        sink["lag"]["seconds"].as_f64().unwrap_or(0.0)
    )
}

fn order(
    service: &ServiceArgs,
    name: &str,
    what: &str,
    parameters: &[(&str, &str)],
) -> Result<ExitCode, Failure> {
    let path = format!("/api/v1/sinks/{}/{what}", segment(name)?);
    let answer = service.client()?.post(&path, parameters, None)?.json()?;
    if answer["done"] == false {
        println!("{name}: it is being carried out, and takes long; see loushan sink list");
    } else {
        println!("{}", line(&answer["sink"]));
    }
    Ok(ExitCode::SUCCESS)
}

/// A sink's name as part of a path: what is none would name another path.
pub(super) fn segment(name: &str) -> Result<&str, Failure> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(plain) {
        return Ok(name);
    }
    Err(Failure::usage(anyhow::anyhow!("{name:?} is no sink's name: a-z 0-9 _ - are")))
}
