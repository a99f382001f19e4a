//! `simulate`: the fleet alone, against any broker.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use loushan_simulator::options::MqttVersion;
use loushan_simulator::{Fleet, FleetError, FleetOptions, FleetStats};

use super::demo::progress::Progress;
use super::{Failure, block_on, events, signals};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The broker: `mqtt://[user[:password]@]host[:port]`.
    #[arg(long)]
    target: String,
    /// The ledger to append to: what was sent, what was meant by it, what was acknowledged.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Where to write the fleet's stations.csv.
    #[arg(long)]
    stations_csv: Option<PathBuf>,
    /// Unix seconds at which simulated time begins; the same seed and start give the same bytes.
    #[arg(long)]
    start: Option<u64>,
    /// How many times faster than the wall clock simulated time runs; more than 1 needs --for.
    #[arg(long, default_value_t = 1)]
    speed: u32,
    /// Speak MQTT 5 instead of 3.1.1.
    #[arg(long)]
    v5: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// What `simulate` and `demo` have in common.
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
    /// Readings per second of the whole fleet [default: each kind's own rhythm; demo: 1000].
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

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    events::start_by_environment(if std::io::stdout().is_terminal() { "warn" } else { "info" })?;
    let options = FleetOptions {
        ledger: args.ledger.clone(),
        stations_csv: args.stations_csv.clone(),
        start: args.start,
        speed: args.speed,
        mqtt_version: if args.v5 { MqttVersion::V5 } else { MqttVersion::V311 },
        ..args.fleet.options(&args.target)
    };
    block_on(async {
        let stop = signals::stop_on_signal()?;
        let stats = Arc::new(FleetStats::default());
        let mut progress = Progress::new();
        let fleet = Fleet::run(options, stop, Arc::clone(&stats));
        let mut earlier = stats.snapshot();
        let summary = progress
            .beside(fleet, |elapsed| {
                let now = stats.snapshot();
                let line = now.line(&earlier, elapsed);
                earlier = now;
                line
            })
            .await
            .map_err(failure)?;
        println!("{summary}");
        // A fleet that was never let in has shown nothing: a script must not take it for success.
        if let (0, Some(trouble)) = (summary.figures.batches_sent, &summary.figures.trouble) {
            return Err(anyhow!("nothing could be sent: {trouble}").into());
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Options that cannot be are the command line's fault, whatever else is the world's.
pub(super) fn failure(error: FleetError) -> Failure {
    match error {
        FleetError::Options(_) | FleetError::Target(_) => Failure::usage(error),
        error => error.into(),
    }
}
