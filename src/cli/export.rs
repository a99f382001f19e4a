//! `export`: all readings of a kind, into one file.
//!
//! It is written beside the file it becomes and renamed when it is whole: what bears the name is never
//! a part.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use loushan_ingest::ask::What;

use super::Failure;
use super::store::{Question, Whom, is_broken_pipe};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The kind: parking, street_light, smoke, elevator, water or station_status.
    #[arg(long, value_name = "KIND")]
    kind: String,
    /// From this time: RFC 3339, Unix milliseconds, or a time before now such as -24h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// To this time, which is not in it.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Of this device (IMEI).
    #[arg(long, value_name = "IMEI")]
    device: Option<String>,
    /// Of this station.
    #[arg(long, value_name = "NAME")]
    station: Option<String>,
    /// Of at least this quality, 1 to 4.
    #[arg(long, value_name = "N")]
    min_quality: Option<String>,
    /// Only these fields, joined by commas.
    #[arg(long, value_name = "FIELDS")]
    fields: Option<String>,
    /// csv, ndjson, parquet or arrow (its IPC stream).
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// The file, which must not be there; - is standard output.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Csv,
    Ndjson,
    Parquet,
    Arrow,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let parameters = [
        ("kind", Some(args.kind.clone())),
        ("from", args.from.clone()),
        ("to", args.to.clone()),
        ("device", args.device.clone()),
        ("station", args.station.clone()),
        ("min_quality", args.min_quality.clone()),
        ("fields", args.fields.clone()),
    ];
    let parameters = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let question =
        Question { what: What::Export, path: "/api/v1/export", parameters: parameters.collect() };
    let format = match args.format {
        Format::Csv => "csv",
        Format::Ndjson => "ndjson",
        Format::Parquet => "parquet",
        Format::Arrow => "arrow",
    };
    if args.out.as_os_str() == "-" {
        return match args.whom.ask(&question, format, &mut std::io::stdout()) {
            Err(failure) if is_broken_pipe(&failure) => Ok(ExitCode::SUCCESS),
            answered => answered.map(|()| ExitCode::SUCCESS),
        };
    }
    if args.out.symlink_metadata().is_ok() {
        let what = format!("{} is there already; name another --out", args.out.display());
        return Err(Failure::usage(anyhow!(what)));
    }
    let aside = aside(&args.out);
    let written = write(args, &question, format, &aside);
    if written.is_err() {
        // A part is of no use to anybody.
        drop(fs::remove_file(&aside));
    }
    written.map(|()| ExitCode::SUCCESS)
}

fn write(args: &Args, question: &Question, format: &str, aside: &Path) -> Result<(), Failure> {
    let named = || format!("{} cannot be written", args.out.display());
    let mut out = BufWriter::new(File::create(aside).with_context(named)?);
    args.whom.ask(question, format, &mut out)?;
    out.flush().with_context(named)?;
    out.get_ref().sync_all().with_context(named)?;
    fs::rename(aside, &args.out).with_context(named)?;
    Ok(())
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}
