//! `check-config`, `print-config`, and how commands come by their configuration.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use loushan_ingest::config::{Config, ENVIRONMENT_PREFIX, default_file};
use loushan_ingest::service::faults_of_files;

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The file.
    file: PathBuf,
}

/// Checks the file alone, and those it names for TLS, users and rights: what the environment adds is
/// not the file's fault.
pub(super) fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let text = read(&args.file)?;
    let config = Config::read(Some(&text), [])
        .with_context(|| args.file.display().to_string())
        .map_err(Failure::Usage)?;
    let faults = faults_of_files(&config);
    if !faults.is_empty() {
        let faults = faults.join("\n  ");
        return Err(Failure::usage(anyhow!("{}:\n  {faults}", args.file.display())));
    }
    println!("{}: no faults", args.file.display());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn print() -> Result<ExitCode, Failure> {
    print_text(&default_file())
}

/// Prints the document of all metrics: `docs/metrics.md`.
pub(super) fn print_metrics() -> Result<ExitCode, Failure> {
    print_text(&loushan_ingest::metrics::document())
}

fn print_text(text: &str) -> Result<ExitCode, Failure> {
    // Not print!, which panics when the reader (`| head`) has gone.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The configuration of a file, if one is named, of the environment, and of what the command line
/// says, which wins: `overrides` are environment variables by name.
pub(super) fn load(
    file: Option<&Path>,
    overrides: Vec<(String, String)>,
) -> Result<Config, Failure> {
    let text = file.map(read).transpose()?;
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        if !name.starts_with(ENVIRONMENT_PREFIX) || overrides.iter().any(|(o, _)| *o == name) {
            continue;
        }
        // A path need not be UTF-8; a replacement character in it is refused by the file system.
        environment.push((name, value.to_string_lossy().into_owned()));
    }
    environment.extend(overrides);
    let what = file.map_or_else(|| "the environment".to_owned(), |file| file.display().to_string());
    Config::read(text.as_deref(), environment).context(what).map_err(Failure::Usage)
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .with_context(|| format!("the configuration file {} cannot be read", file.display()))
        .map_err(Failure::Usage)
}
