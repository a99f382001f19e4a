//! `replay`: readings of the past given to a sink of a running service again, beside what comes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::Failure;
use super::http::ServiceArgs;
use super::sink::segment;

/// How often it is asked how far the replay is.
const LOOK: Duration = Duration::from_millis(500);
/// How often that is told.
const TELL: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The sink.
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// From this time: RFC 3339 or Unix milliseconds.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// To this time, which is not in it.
    #[arg(long, value_name = "TIME")]
    to: String,
    /// The log has what was received in the span, as far as it was kept (log.keep_for_replay); the store
    /// what has its time in it. Any: the log if it has all of it.
    #[arg(long, value_name = "any|log|store", default_value = "any")]
    source: String,
    /// Return as soon as it has begun.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let client = args.service.client()?;
    let path = format!("/api/v1/sinks/{}/replay", segment(&args.sink)?);
    let parameters =
        [("from", args.from.as_str()), ("to", args.to.as_str()), ("source", args.source.as_str())];
    let begun = client.post(&path, &parameters, None)?.json()?;
    println!("replaying from the {} into {}", begun["source"].as_str().unwrap_or("-"), args.sink);
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let mut told = Instant::now();
    loop {
        let now = client.get(&path, &[])?.json()?;
        let count = |key: &str| now[key].as_u64().unwrap_or(0);
        let figures = || {
            let (given, stored, refused) = (count("given"), count("stored"), count("refused"));
            format!("{given} readings given, {stored} stored, {refused} refused")
        };
        match now["state"].as_str() {
            Some("running") => {}
            Some("done") => {
                println!("{}", figures());
                let refused = count("refused") > 0;
                return Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS });
            }
            _ => {
                let why = now["trouble"].as_str().unwrap_or("it is not known why");
                return Err(Failure::Failed(anyhow!("{}; it ended early: {why}", figures())));
            }
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            let trouble = now["trouble"].as_str().map(|why| format!("; {why}"));
            println!("{}{}", figures(), trouble.unwrap_or_default());
        }
        std::thread::sleep(LOOK);
    }
}
