//! `dead-letters`: what was rejected, read from the data folder, whether the service runs or not; and
//! decided again by the service, once a decoder is mended.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use loushan_ingest::io::Io;
use loushan_ingest::io::real::RealIo;
use loushan_ingest::service::{dead_letter_dir, letter_dirs};
use loushan_ingest::sink::dead_letter::{DeadLetter, DeadLetters, Marks, Why};
use loushan_schemas::time::DeviceTime;

use super::http::ServiceArgs;
use super::{Failure, config};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List them, oldest first.
    List(ListArgs),
    /// Show the letters of one publish, bytes and all.
    Show(ShowArgs),
    /// Have a running service decide them again. Without --write it only says what would become of them.
    Replay(ReplayArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The publish's lsn, as list tells it.
    lsn: u64,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// Only those of this reason.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only those of this station.
    #[arg(long, value_name = "NAME")]
    station: Option<String>,
    /// Only those from this lsn on.
    #[arg(long, value_name = "LSN", default_value_t = 0)]
    from_lsn: u64,
    /// Only those up to this lsn.
    #[arg(long, value_name = "LSN")]
    to_lsn: Option<u64>,
    /// Do it.
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

/// Which data folder.
#[derive(Debug, clap::Args)]
pub(super) struct Folder {
    /// The data folder [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file that names the data folder.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    config: Option<PathBuf>,
}

impl Folder {
    fn path(&self) -> Result<PathBuf, Failure> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => config::load(self.config.as_deref(), Vec::new())?.data_dir,
        };
        if data.is_dir() {
            return Ok(data);
        }
        let what = format!("{} is no data folder; name one with --data", data.display());
        Err(Failure::Usage(anyhow::anyhow!(what)))
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    folder: Folder,
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
        Command::Show(args) => show(args),
        Command::Replay(args) => replay(args),
    }
}

/// What servers refused is none of what can be decided again.
fn is_replayed(letter: &DeadLetter, marks: &Marks) -> bool {
    matches!(letter.why, Why::Rejected(_)) && marks.has(letter)
}

fn show(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let data = args.folder.path()?;
    let marks = Marks::read(Arc::new(RealIo), &dead_letter_dir(&data))?;
    let mut found = false;
    for letter in letters(&data)? {
        let letter = letter?;
        if letter.lsn != args.lsn {
            continue;
        }
        found = true;
        let mut line = String::new();
        describe(&letter, &mut line);
        println!("{line}");
        if let Some(station) = &letter.station {
            println!("  station   {station}");
        }
        println!("  digest    {:032x}", letter.digest);
        let kept = letter.payload.len();
        let whole = if letter.truncated { "the beginning of them" } else { "all of them" };
        println!("  bytes     {} ({kept} kept, {whole})", letter.subject_bytes);
        println!("  replayed  {}", if is_replayed(&letter, &marks) { "yes" } else { "no" });
        for (at, bytes) in letter.payload.chunks(16).enumerate() {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let plain = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
            let text: String = bytes.iter().map(plain).collect();
            println!("  {:06x}  {:<47}  {text}", at * 16, hex.join(" "));
        }
    }
    if !found {
        let what = format!("there is no dead letter of lsn {} in {}", args.lsn, data.display());
        return Err(Failure::Failed(anyhow::anyhow!(what)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Call by call, as the service takes so many at a time.
fn replay(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let client = args.service.client()?;
    let dry_run = if args.write { "false" } else { "true" };
    let to_lsn = args.to_lsn.map(|lsn| lsn.to_string());
    let mut from_lsn = args.from_lsn;
    let keys =
        ["letters", "submitted", "readings", "still_rejected", "incomplete", "replayed_before"];
    let mut sums = keys.map(|key| (key, 0));
    let failed = loop {
        let from = from_lsn.to_string();
        let mut parameters = vec![("from_lsn", from.as_str()), ("dry_run", dry_run)];
        parameters.extend(args.reason.as_deref().map(|reason| ("reason", reason)));
        parameters.extend(args.station.as_deref().map(|station| ("station", station)));
        parameters.extend(to_lsn.as_deref().map(|lsn| ("to_lsn", lsn)));
        let done = client.post("/api/v1/dead-letters/replay", &parameters, None)?.json()?;
        for (key, sum) in &mut sums {
            *sum += done[*key].as_u64().unwrap_or(0);
        }
        let failed = done["failed"].as_str().map(str::to_owned);
        match done["more_from_lsn"].as_u64() {
            // Letters of one publish that are more than a call takes would begin again for ever.
            Some(next) if failed.is_none() && next > from_lsn => from_lsn = next,
            _ => break failed,
        }
    };
    let would = if args.write { "" } else { "would be " };
    let [letters, submitted, readings, still, incomplete, before] = sums.map(|(_, sum)| sum);
    println!(
        "{letters} letters: {submitted} {would}submitted ({readings} readings), {still} rejected by this \
         build as well, {incomplete} not kept whole, {before} replayed before"
    );
    if let Some(why) = failed {
        return Err(Failure::Failed(anyhow::anyhow!("it ended early: {why}")));
    }
    if !args.write && submitted > 0 {
        println!("nothing was done; add --write to do it");
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let data = args.folder.path()?;
    let marks = Marks::read(Arc::new(RealIo), &dead_letter_dir(&data))?;
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
            if is_replayed(&letter, &marks) {
                line.push_str("  replayed");
            }
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
