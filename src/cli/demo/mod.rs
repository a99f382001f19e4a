//! `demo`: the service with a fleet inside, on real sockets.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use loushan_ingest::config::variable;
use loushan_simulator::{Fleet, FleetOptions, FleetStats, fleet};
use tokio_util::sync::CancellationToken;

use self::figures::Figures;
use self::progress::Progress;
use super::serve::{Place, ended};
use super::simulate::{FleetArgs, failure};
use super::{Failure, block_on, config, events, signals};

mod figures;
pub(super) mod progress;

/// Readings per second where no rate is asked for. In their own rhythm ten thousand devices say
/// something a few times a second, which shows little.
const DEMO_RATE: u32 = 1000;

/// The service with a fleet inside.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    /// The data folder; a second start goes on with it.
    #[arg(long, value_name = "DIR", default_value = "loushan-data")]
    data: PathBuf,
    /// Where MQTT listens [default: 127.0.0.1:1883].
    #[arg(long, value_name = "ADDRESS")]
    mqtt_listen: Option<String>,
    /// Where HTTP listens [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// Keep a ledger of the fleet, for `audit`.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

impl Args {
    /// What the command line says, as the environment would say it.
    fn overrides(&self) -> Vec<(String, String)> {
        let mut overrides = vec![(variable("data.dir"), self.data.to_string_lossy().into_owned())];
        for (key, value) in [("mqtt.listen", &self.mqtt_listen), ("http.listen", &self.http_listen)]
        {
            overrides.extend(value.clone().map(|value| (variable(key), value)));
        }
        // The line that renews itself should be all there is, unless something is wrong.
        if std::env::var_os(variable("tracing.level")).is_none() {
            overrides.push((variable("tracing.level"), "warn".to_owned()));
        }
        overrides
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let options = FleetOptions {
        ledger: args.ledger.clone(),
        rate: Some(args.fleet.rate.unwrap_or(DEMO_RATE)),
        ..args.fleet.options("")
    };
    // Before a folder is made and a port is taken.
    options.check().map_err(failure)?;
    let config = config::load(None, args.overrides())?;
    if config.mqtt_listen.tcp.is_none() {
        return Err(Failure::usage(anyhow!("the fleet connects to mqtt.listen, which is off")));
    }
    events::start(&config.tracing)?;
    block_on(async {
        let stop = signals::stop_on_signal()?;
        let place = Place::take(config).await?;
        // Before the service starts, which reads it.
        write_stations(args, &place.data().join("stations.csv"))?;
        let running = place.start().await?;
        running.announce();

        let view = running.service.view();
        let stats = Arc::new(FleetStats::default());
        let mqtt = running.mqtt().context("mqtt.listen is off")?;
        let options = FleetOptions { target: format!("mqtt://{mqtt}"), ..options };
        let (fleet_stop, service_stop) = (stop.child_token(), CancellationToken::new());
        let fleet = async {
            let summary = Fleet::run(options, fleet_stop.clone(), Arc::clone(&stats)).await;
            service_stop.cancel();
            summary
        };
        let service = async {
            let stopped = running.service.run(service_stop.clone()).await;
            // A service that ends by itself ends the demo.
            fleet_stop.cancel();
            stopped
        };
        let both = async { tokio::join!(fleet, service) };
        let mut figures = Figures::new(view, Arc::clone(&stats));
        let (summary, stopped) =
            Progress::new().beside(both, |elapsed| figures.line(elapsed)).await;
        let summary = summary.map_err(failure)?;
        println!("{}", figures.table(summary.took));
        ended(&stopped)
    })
}

/// What stands where, of the fleet that is about to run.
fn write_stations(args: &Args, path: &Path) -> Result<(), Failure> {
    let stations = fleet::stations(args.fleet.seed, args.fleet.stations).map_err(Failure::usage)?;
    let file = File::create(path).with_context(|| path.display().to_string())?;
    fleet::write_csv(&stations, file).with_context(|| path.display().to_string())?;
    Ok(())
}
