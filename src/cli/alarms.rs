//! `alarms`: see what a running service has raised, and say that somebody knows.

use std::process::ExitCode;

use serde_json::Value;

use super::Failure;
use super::http::ServiceArgs;
use super::sink::segment;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List them, newest first: those that last, and those nobody has acknowledged.
    List(ListArgs),
    /// Say that somebody knows of one.
    Ack(AckArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Also those that are over and acknowledged.
    #[arg(long)]
    all: bool,
    /// Only in these states: open, acknowledged, cleared.
    #[arg(long, value_name = "STATES")]
    state: Option<String>,
    /// Only of these severities: critical, major, minor.
    #[arg(long, value_name = "SEVERITIES")]
    severity: Option<String>,
    /// Only of these rules, such as smoke or station_offline.
    #[arg(long, value_name = "RULES")]
    rule: Option<String>,
    /// Only of this station, its devices' among them.
    #[arg(long)]
    station: Option<String>,
    /// Only of this device, by IMEI.
    #[arg(long, value_name = "IMEI")]
    device: Option<String>,
    /// Only of this project.
    #[arg(long)]
    project: Option<String>,
    /// Only those with these words in them.
    #[arg(long, value_name = "WORDS")]
    q: Option<String>,
    /// So many at most, 1 to 1000.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// The answer as one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct AckArgs {
    /// The alarm, as `alarms list` shows it.
    id: String,
    /// Who says so [default: whose token it is].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// What there is to say.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    service: ServiceArgs,
}

pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List(args) => list(args),
        Command::Ack(args) => ack(args),
    }
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let limit = args.limit.to_string();
    let given = [
        ("state", &args.state),
        ("severity", &args.severity),
        ("rule", &args.rule),
        ("station", &args.station),
        ("device", &args.device),
        ("project", &args.project),
        ("q", &args.q),
    ];
    let mut parameters: Vec<(&str, &str)> =
        given.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    parameters.push(("limit", &limit));
    if !args.all && args.state.is_none() {
        parameters.push(("shown", "true"));
    }
    let answer = args.service.client()?.get("/api/v1/alarms", &parameters)?.json()?;
    if args.json {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let alarms = answer["alarms"].as_array().map(Vec::as_slice).unwrap_or_default();
    println!("{:<24} {:<8} {:<12} {:<40} why", "raised", "severity", "state", "id");
    for alarm in alarms {
        println!("{}", line(alarm));
    }
    let total = answer["total"].as_u64().unwrap_or(0);
    if total > alarms.len() as u64 {
        println!("{} of {total}; --limit shows more", alarms.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn line(alarm: &Value) -> String {
    let text = |key: &str| alarm[key].as_str().unwrap_or("-");
    let raised = alarm["raised_ms"].as_u64().unwrap_or(0);
    let raised = std::time::UNIX_EPOCH + std::time::Duration::from_millis(raised);
    let raised = humantime::format_rfc3339_millis(raised);
    let mut line = format!(
        "{raised} {:<8} {:<12} {:<40} {}",
        text("severity"),
        text("state"),
        text("id"),
        text("why")
    );
    if let Some(by) = alarm["acknowledged_by"].as_str() {
        line.push_str(&format!(" (known to {by})"));
    }
    line
}

fn ack(args: &AckArgs) -> Result<ExitCode, Failure> {
    let path = format!("/api/v1/alarms/{}/acknowledge", segment(&args.id)?);
    let given = [("by", &args.by), ("note", &args.note)];
    let parameters: Vec<(&str, &str)> =
        given.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let alarm = args.service.client()?.post(&path, &parameters, None)?.json()?;
    println!("{}", line(&alarm));
    Ok(ExitCode::SUCCESS)
}
