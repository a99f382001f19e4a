//! `simulate`: the fleet alone, against any broker.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use loushan_simulator::options::Schedule;
use loushan_simulator::playback;
use loushan_simulator::report::Report;
use loushan_simulator::scenario::{self, Plan, Said, ScenarioError};
use loushan_simulator::{Fleet, FleetError, FleetOptions, FleetStats, Secret};

use self::keys::KeyFlags;
use super::demo::progress::Progress;
use super::http::PASSWORD_VARIABLE;
use super::{Failure, block_on, events, signals};

mod keys;
mod processes;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A scenario: ordinary-day, design-load, replay-storm, midnight-meters, flaky-radio, hostile, or a
    /// file. Flags go before what it says.
    #[arg(long, value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// Say what load it would be, and end.
    #[arg(long)]
    dry_run: bool,
    /// Write the report as JSON (- for standard output, which then has nothing else).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one HTML file with charts.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write what was asked of the run as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The same as --mqtt 5.
    #[arg(long)]
    v5: bool,
    #[command(flatten)]
    keys: KeyFlags,
}

/// What `demo` can be told of its fleet.
#[derive(Debug, clap::Args)]
pub(super) struct FleetArgs {
    /// Stations, each with a session of its own.
    #[arg(long, default_value_t = 500)]
    pub(super) stations: u32,
    /// Devices behind each station [default: 20].
    #[arg(long)]
    devices_per_station: Option<u32>,
    /// What everything is derived from.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How long to run, such as 60s [default: until it is stopped].
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Readings per second of the whole fleet [default: 1000].
    #[arg(long)]
    pub(super) rate: Option<u32>,
    /// Readings of a full batch.
    #[arg(long)]
    batch_readings: Option<usize>,
    /// Unacknowledged batches of one station.
    #[arg(long)]
    window: Option<usize>,
}

impl FleetArgs {
    pub(super) fn options(&self, target: &str) -> FleetOptions {
        let defaults = FleetOptions::new(target);
        FleetOptions {
            stations: self.stations,
            devices_per_station: self.devices_per_station.unwrap_or(defaults.devices_per_station),
            seed: self.seed,
            duration: self.duration,
            rate: self.rate,
            batch_readings: self.batch_readings.unwrap_or(defaults.batch_readings),
            window: self.window.unwrap_or(defaults.window),
            ..defaults
        }
    }
}

impl Args {
    /// The scenario, then the flags.
    fn said(&self) -> Result<Vec<Said>, Failure> {
        let mut flags: Said = self.keys.said.clone();
        if self.v5 {
            flags.push(("mqtt".to_owned(), vec!["5".to_owned()]));
        }
        let mut parts = Vec::new();
        if let Some(name) = &self.scenario {
            parts.push(scenario::read(name).map_err(Failure::usage)?);
        }
        parts.push(flags);
        Ok(parts)
    }

    fn only_json(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }

    /// The report in all forms that were asked for, and the exit code that it deserves.
    fn tell(&self, report: &Report) -> Result<ExitCode, Failure> {
        let write = |path: &Path, text: String| {
            std::fs::write(path, text).with_context(|| path.display().to_string())
        };
        if let Some(path) = &self.json {
            let json = serde_json::to_string_pretty(report)? + "\n";
            if self.only_json() { print!("{json}") } else { write(path, json)? }
        }
        if let Some(path) = &self.html {
            write(path, report.to_html())?;
        }
        if let Some(path) = &self.junit {
            write(path, report.to_junit())?;
        }
        if !self.only_json() {
            println!("{report}");
        }
        Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let quiet = args.only_json() || std::io::stdout().is_terminal();
    events::start_by_environment(if quiet { "warn" } else { "info" })?;
    let said = args.said()?;
    let mut plan = Plan::of(&said).map_err(|error: ScenarioError| Failure::usage(error))?;
    plan.fleet.access.password = password();
    if args.dry_run {
        match plan.fleet.playback() {
            Some(trace) => println!("{}", playback::outline(&trace)?),
            None => println!("{}", scenario::expect(&plan.fleet).map_err(failure)?),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if plan.fleet.target.is_empty() {
        return Err(Failure::usage(anyhow!("no target is given; give --target mqtt://HOST:PORT")));
    }
    let mut report = if plan.processes > 1 {
        processes::play(&plan, &said)?
    } else {
        play(&plan, args.only_json())?
    };
    report.verdicts = plan.fail_if.iter().map(|condition| condition.judge(&report)).collect();
    args.tell(&report)
}

/// The password that the environment has, out of sight of whoever lists processes.
pub(super) fn password() -> Option<Secret> {
    std::env::var(PASSWORD_VARIABLE).ok().filter(|word| !word.is_empty()).map(Secret::new)
}

/// Runs the fleet in this process.
fn play(plan: &Plan, silent: bool) -> Result<Report, Failure> {
    let schedule = match plan.fleet.schedule {
        Schedule::Open => "open",
        Schedule::Closed => "closed",
    };
    block_on(async {
        let stop = signals::stop_on_signal()?;
        let stats = Arc::new(FleetStats::default());
        let fleet = Fleet::run(plan.fleet.clone(), stop, Arc::clone(&stats));
        let summary = if silent {
            fleet.await
        } else {
            let mut earlier = stats.snapshot();
            let line = |elapsed| {
                let now = stats.snapshot();
                let line = now.line(&earlier, elapsed);
                earlier = now;
                line
            };
            Progress::new().beside(fleet, line).await
        };
        let summary = summary.map_err(failure)?;
        // A fleet that was never let in has shown nothing: a script must not take it for success.
        if let (0, Some(trouble)) = (summary.figures.counts.batches_sent, &summary.figures.trouble)
        {
            return Err(anyhow!("nothing could be sent: {trouble}").into());
        }
        Ok(Report::of(&summary, &stats, &plan.about, schedule))
    })
}

/// Options that cannot be are the command line's fault, whatever else is the world's.
pub(super) fn failure(error: FleetError) -> Failure {
    match error {
        FleetError::Options(_)
        | FleetError::Target(_)
        | FleetError::Access(_)
        | FleetError::Trace(_) => Failure::usage(error),
        error => error.into(),
    }
}
