//! `snapshot`: a copy of a running service's store, for other readers and for backups.

use std::process::ExitCode;

use super::Failure;
use super::http::ServiceArgs;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    service: ServiceArgs,
    /// Its name: it becomes a folder of snapshots/ in the service's data folder. Remove it when it is
    /// not needed any more: until then it keeps the disk of what the store has let go of.
    name: String,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let client = args.service.client()?;
    let taken =
        client.post("/api/v1/store/snapshot", &[("name", args.name.as_str())], None)?.json()?;
    let (rows, files, bytes) = (&taken["rows"], &taken["files"], &taken["bytes"]);
    eprintln!("{rows} readings in {files} files, {bytes} bytes, as of lsn {}", taken["as_of_lsn"]);
    println!("{}", taken["path"].as_str().unwrap_or(""));
    Ok(ExitCode::SUCCESS)
}
