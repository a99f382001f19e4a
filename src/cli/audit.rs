//! `audit`: ledgers against a store.

use std::path::PathBuf;
use std::process::ExitCode;

use loushan_simulator::audit::{Http, Service, Victoria};
use loushan_simulator::{AuditError, AuditOptions, AuditReport, Secret, audit_store};

use super::http::Pass;
use super::{Failure, config, events};

mod folder;

use folder::Folder;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("store").required(true))]
pub(super) struct Args {
    /// The ledger that `simulate` wrote; several, if several processes shared the fleet.
    #[arg(long, value_name = "FILE", required = true)]
    ledger: Vec<PathBuf>,
    /// A running service's HTTP address, such as http://127.0.0.1:8080, or https:// with --ca.
    #[arg(long, value_name = "URL", group = "store")]
    target: Option<String>,
    /// With --target: not that service's own store, but the VictoriaMetrics at this address that its
    /// sink fills.
    #[arg(long, value_name = "URL", requires = "target")]
    victoria: Option<String>,
    /// With --victoria: the sink's name.
    #[arg(long, value_name = "NAME", default_value = "influx")]
    sink: String,
    /// A stopped service's data folder. Nothing in it is changed.
    #[arg(long, value_name = "DIR", group = "store")]
    data: Option<PathBuf>,
    /// With --data: the service's configuration file, which says what it does not keep.
    #[arg(long, value_name = "FILE", requires = "data")]
    config: Option<PathBuf>,
    #[command(flatten)]
    pass: Pass,
    /// Memory to work with, in MiB; what does not fit goes into files.
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = clap::value_parser!(u16).range(1..))]
    memory: u16,
    /// Where those files are made [default: the system's temporary folder].
    #[arg(long, value_name = "DIR")]
    temporary: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    events::start_by_environment("warn")?;
    let options = AuditOptions {
        ledgers: args.ledger.clone(),
        memory_bytes: usize::from(args.memory) * 1024 * 1024,
        temporary: args.temporary.clone(),
    };
    let report = match (&args.target, &args.data) {
        (Some(target), _) => over_http(args, &options, target)?,
        (None, Some(data)) => {
            let config = config::load(args.config.as_deref(), Vec::new())?;
            audit_store(&options, &mut Folder::open(data, config.embedded.retention)?)
        }
        // The command line asks for one of them.
        (None, None) => return Err(Failure::usage(anyhow::anyhow!("give --target or --data"))),
    };
    let report = report.map_err(|error| match error {
        AuditError::Target(_) | AuditError::Untrusted(_) => Failure::usage(error),
        error => error.into(),
    })?;
    println!("{report}");
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The store of a running service, or of the server that one of its sinks fills.
fn over_http(
    args: &Args,
    options: &AuditOptions,
    target: &str,
) -> Result<Result<AuditReport, AuditError>, Failure> {
    let tls = if args.pass.trusts() { Some(args.pass.tls()?) } else { None };
    let authorization = args.pass.authorization()?.map(Secret::new);
    let service = Http::new(target, tls.clone(), authorization).map(Service::new);
    Ok(service.and_then(|mut service| match &args.victoria {
        None => audit_store(options, &mut service),
        Some(url) => {
            let server = Http::new(url, tls, None)?;
            audit_store(options, &mut Victoria::new(server, service, &args.sink))
        }
    }))
}
