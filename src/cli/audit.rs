//! `audit`: a ledger against a store.

use std::path::PathBuf;
use std::process::ExitCode;

use loushan_simulator::{AuditError, audit};

use super::{Failure, events};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The ledger that `simulate` wrote.
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// The service's HTTP address, such as http://127.0.0.1:8080.
    #[arg(long, value_name = "URL")]
    target: String,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    events::start_by_environment("warn")?;
    let report = audit(&args.ledger, &args.target).map_err(|error| match error {
        AuditError::Target(_) => Failure::usage(error),
        error => error.into(),
    })?;
    println!("{report}");
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
