//! `dead-letters`: what was rejected, read from the data folder, whether the service runs or not.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use loushan_ingest::io::Io;
use loushan_ingest::io::real::RealIo;
use loushan_ingest::service::letter_dirs;
use loushan_ingest::sink::dead_letter::{DeadLetter, DeadLetters};
use loushan_schemas::time::DeviceTime;

use super::{Failure, config};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List them, oldest first.
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The data folder [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file that names the data folder.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// Only the newest N.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// One JSON object a line, payload included.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List(args) => list(args),
    }
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => config::load(args.config.as_deref(), Vec::new())?.data_dir,
    };
    if !data.is_dir() {
        let what = format!("{} is no data folder; name one with --data", data.display());
        return Err(Failure::Usage(anyhow::anyhow!(what)));
    }
    let skip = match args.limit {
        None => 0,
        Some(limit) => letters(&data)?.count().saturating_sub(limit),
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut line = String::new();
    for letter in letters(&data)?.skip(skip) {
        let letter = letter?;
        line.clear();
        if args.json {
            letter.write_json(&mut line);
        } else {
            describe(&letter, &mut line);
        }
        line.push('\n');
        match out.write_all(line.as_bytes()) {
            Ok(()) => {}
            // The reader (`| head`) has seen enough.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            Err(e) => return Err(e.into()),
        }
    }
    match out.flush() {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

type Letters = Box<
    dyn Iterator<Item = Result<DeadLetter, loushan_ingest::sink::dead_letter::DeadLetterError>>,
>;

/// What senders got wrong, then what servers refused.
fn letters(data: &std::path::Path) -> Result<Letters, Failure> {
    let io: Arc<dyn Io> = Arc::new(RealIo);
    let mut all: Letters = Box::new(std::iter::empty());
    for dir in letter_dirs(&*io, data)? {
        all = Box::new(all.chain(DeadLetters::open_read(Arc::clone(&io), &dir)?));
    }
    Ok(all)
}

fn describe(letter: &DeadLetter, out: &mut String) {
    let when = DeviceTime::from_ms(letter.received_ns.div_euclid(1_000_000));
    let when = when.map_or_else(|| "-".to_owned(), |time| time.to_string());
    let which = match letter.reading {
        Some(reading) => format!("reading {reading}"),
        None => "whole publish".to_owned(),
    };
    out.push_str(&format!(
        "{when}  lsn {}  {}  {which}  {} bytes  {:?}",
        letter.lsn,
        letter.why.as_str(),
        letter.subject_bytes,
        letter.topic
    ));
    if !letter.detail.is_empty() {
        out.push_str(&format!("  {:?}", letter.detail));
    }
}
