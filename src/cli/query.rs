//! `query`: what is stored, as a table for people, or as CSV, NDJSON or JSON for programs.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use loushan_ingest::ask::What;

use super::store::{Question, Whom, is_broken_pipe};
use super::{Failure, table};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// The newest reading of each device.
    Latest(LatestArgs),
    /// Readings in the order of their times.
    History(HistoryArgs),
    /// Figures of a field, by time and by device, station or kind.
    Aggregate(AggregateArgs),
    /// When a device or station was first and last heard of.
    Seen(SeenArgs),
    /// When a device or station was silent.
    Gaps(GapsArgs),
}

/// How and whom.
#[derive(Debug, clap::Args)]
struct Common {
    /// table, csv, ndjson or json [default: table on a terminal, else csv; ndjson for readings of
    /// several kinds].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Output>,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Csv,
    Ndjson,
    Json,
}

/// Of which.
#[derive(Debug, clap::Args)]
struct Which {
    /// Of this device (IMEI).
    #[arg(long, value_name = "IMEI")]
    device: Option<String>,
    /// Of this station.
    #[arg(long, value_name = "NAME")]
    station: Option<String>,
    /// Of this kind: parking, street_light, smoke, elevator, water or station_status.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

/// Of when.
#[derive(Debug, clap::Args)]
struct Span {
    /// From this time: RFC 3339, Unix milliseconds, or a time before now such as -24h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// To this time, which is not in it.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Readings of at least this quality, 1 to 4 [default: 1; of aggregates 2, as 1 is impossible].
    #[arg(long, value_name = "N")]
    min_quality: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct LatestArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    span: Span,
    /// oldest or newest first.
    #[arg(long, value_name = "ORDER")]
    order: Option<String>,
    /// How many at most; up to 10000.
    #[arg(long, value_name = "N")]
    limit: Option<String>,
    /// The page after another one: the next_page that json has.
    #[arg(long, value_name = "PAGE", allow_hyphen_values = true)]
    page: Option<String>,
    /// Only these fields, joined by commas.
    #[arg(long, value_name = "FIELDS")]
    fields: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct AggregateArgs {
    /// Of this field.
    #[arg(long, value_name = "FIELD")]
    field: String,
    /// Which figures, joined by commas: count, sum, mean, min, max, first, last, p50, p95, p99; of a
    /// counter increase and rate.
    #[arg(long = "fn", value_name = "FIGURES", default_value = "mean")]
    functions: String,
    /// In bins of this length, such as 5m, 1h or 1d [default: all in one].
    #[arg(long, value_name = "LENGTH")]
    every: Option<String>,
    /// Bins begin at midnight of this zone, such as +08:00.
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true)]
    zone: Option<String>,
    /// Of each device, station or kind [default: all together].
    #[arg(long, value_name = "WHAT")]
    by: Option<String>,
    /// The unit of time of a rate [default: 1s].
    #[arg(long, value_name = "LENGTH")]
    per: Option<String>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct SeenArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct GapsArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    span: Span,
    /// Silences longer than this, such as 2h.
    #[arg(long, value_name = "LENGTH")]
    longer_than: Option<String>,
    /// Silences longer than so many times the usual one [default: 2.5].
    #[arg(long, value_name = "N", conflicts_with = "longer_than")]
    factor: Option<String>,
    #[command(flatten)]
    common: Common,
}

type Parameters<'a> = Vec<(&'static str, &'a Option<String>)>;

impl Which {
    fn is_of_one_kind(&self) -> bool {
        self.kind.is_some() || self.device.is_some()
    }

    fn parameters(&self) -> Parameters<'_> {
        vec![("device", &self.device), ("station", &self.station), ("kind", &self.kind)]
    }
}

impl Span {
    fn parameters(&self) -> Parameters<'_> {
        vec![("from", &self.from), ("to", &self.to), ("min_quality", &self.min_quality)]
    }
}

pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Latest(args) => {
            let parameters = args.which.parameters();
            let of_one_kind = args.which.is_of_one_kind();
            args.common.run(What::Latest, "/api/v1/latest", parameters, of_one_kind)
        }
        Command::History(args) => {
            let mut parameters = args.which.parameters();
            parameters.extend(args.span.parameters());
            parameters.extend([
                ("order", &args.order),
                ("limit", &args.limit),
                ("page", &args.page),
                ("fields", &args.fields),
            ]);
            let of_one_kind = args.which.is_of_one_kind();
            args.common.run(What::History, "/api/v1/history", parameters, of_one_kind)
        }
        Command::Aggregate(args) => {
            let (field, functions) = (Some(args.field.clone()), Some(args.functions.clone()));
            let mut parameters: Parameters<'_> = vec![
                ("field", &field),
                ("fn", &functions),
                ("every", &args.every),
                ("zone", &args.zone),
                ("by", &args.by),
                ("per", &args.per),
            ];
            parameters.extend(args.which.parameters());
            parameters.extend(args.span.parameters());
            args.common.run(What::Aggregate, "/api/v1/aggregate", parameters, true)
        }
        Command::Seen(args) => {
            args.common.run(What::Seen, "/api/v1/seen", args.which.parameters(), true)
        }
        Command::Gaps(args) => {
            let mut parameters = args.which.parameters();
            parameters.extend(args.span.parameters());
            parameters.extend([("longer_than", &args.longer_than), ("factor", &args.factor)]);
            args.common.run(What::Gaps, "/api/v1/gaps", parameters, true)
        }
    }
}

impl Common {
    /// `table`: whether its rows have the same columns.
    fn run(
        &self,
        what: What,
        path: &'static str,
        parameters: Parameters<'_>,
        table: bool,
    ) -> Result<ExitCode, Failure> {
        let parameters = parameters.into_iter();
        let parameters = parameters.filter_map(|(name, value)| Some((name, value.clone()?)));
        let question = Question { what, path, parameters: parameters.collect() };
        let output = self.format.unwrap_or(match (table, std::io::stdout().is_terminal()) {
            (false, _) => Output::Ndjson,
            (true, true) => Output::Table,
            (true, false) => Output::Csv,
        });
        let format = match output {
            Output::Table | Output::Csv => "csv",
            Output::Ndjson => "ndjson",
            Output::Json => "json",
        };
        let answered = if output == Output::Table {
            let mut csv = Vec::new();
            self.whom.ask(&question, format, &mut csv).and_then(|()| {
                let mut out = std::io::stdout().lock();
                out.write_all(table::of_csv(&csv)?.as_bytes())?;
                Ok(out.flush()?)
            })
        } else {
            self.whom.ask(&question, format, &mut std::io::stdout())
        };
        match answered {
            // The reader (`| head`) has seen enough.
            Err(failure) if is_broken_pipe(&failure) => Ok(ExitCode::SUCCESS),
            answered => answered.map(|()| ExitCode::SUCCESS),
        }
    }
}
