//! A run: plan the fleet, open the ledger, start a task per station, and bring them home.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use loushan_schemas::ids::NameError;
use loushan_schemas::limits::PAYLOAD_BYTES;
use loushan_schemas::topic::Channel;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::access::{AccessError, Entrance};
use crate::clock::unix_ms;
use crate::fleet;
use crate::ledger::{Ledger, LedgerError, RunRecord};
use crate::link::LinkOptions;
use crate::options::FleetOptions;
use crate::playback;
use crate::publisher::{Pace, Publisher, Voice, topic};
use crate::report::{FleetStats, Summary};
use crate::station::{Outages, Setting, Station};
use crate::target::{Target, TargetError};
use crate::trace::TraceError;

/// Why a run could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Credentials or certificates cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Options that cannot be, all of them.
    #[error("{}", .0.join("\n"))]
    Options(Vec<String>),
    /// A name of the fleet does not fit the grammar.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The ledger cannot be used any more. What is not in it must not be sent, so the run ends.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The fleet's `stations.csv` could not be written.
    #[error("cannot write {path}: {source}")]
    StationsCsv {
        /// The file.
        path: PathBuf,
        /// Why.
        source: csv::Error,
    },
}

/// A fleet of simulated stations.
#[derive(Debug, Clone, Copy)]
pub struct Fleet;

impl Fleet {
    /// Runs a fleet until its duration is over or `stop` is cancelled, then waits for the
    /// acknowledgements that are still due, at most [`FleetOptions::drain`], and disconnects. A server
    /// that is away, from the beginning or in between, is waited for.
    ///
    /// Dropping the future ends all sessions without a DISCONNECT, as a power cut would.
    ///
    /// # Errors
    /// When the options cannot be used, or the ledger fails.
    pub async fn run(
        options: FleetOptions,
        stop: CancellationToken,
        stats: Arc<FleetStats>,
    ) -> Result<Summary, FleetError> {
        options.check()?;
        let more = options.more_targets.iter().map(String::as_str);
        let targets: Vec<Target> = std::iter::once(options.target.as_str())
            .chain(more)
            .map(Target::parse)
            .collect::<Result<_, _>>()?;
        let entrance = Entrance::read(&options.access, targets.iter().any(|target| target.tls))?;
        let records = fleet::stations(options.seed, options.stations)?;
        if let Some(path) = &options.stations_csv {
            let failed = |source| FleetError::StationsCsv { path: path.clone(), source };
            let file = File::create(path).map_err(|e| failed(e.into()))?;
            fleet::write_csv(&records, file).map_err(failed)?;
        }
        let start_ms = options.start_ms(unix_ms());
        let ledger = match &options.ledger {
            None => None,
            Some(path) => {
                let run = RunRecord { seed: options.seed, start_ms, shape: options.shape() };
                Some(Arc::new(Ledger::open(path, run)?))
            }
        };
        let begun = Instant::now();
        let pace = Pace {
            begun,
            start_ms,
            end_ms: options.span_ms().map_or(i64::MAX, |span| start_ms.saturating_add(span)),
            speed: if options.trace.is_some() { 1 } else { options.speed },
        };
        let setting = Setting {
            seed: options.seed,
            start: start_ms,
            rhythm: options.rhythm(),
            traffic: options.traffic,
            cut: options.cut(),
            faults: options.faults,
            speed: options.speed,
            device_faults: options.device_faults,
        };
        stats.recorder.lock().begun = begun;
        let ending = stop.child_token();
        let mut tasks = JoinSet::new();
        let voices: Vec<(u32, Voice)> = match options.playback() {
            Some(trace) => {
                let tapes = playback::tapes(&trace, options.share, options.qos, start_ms)?;
                (1..).zip(tapes).map(|(n, tape)| (n, Voice::Tape(Box::new(tape)))).collect()
            }
            None => {
                let mut plans = fleet::plan(options.seed, &records, options.devices_per_station);
                plans.retain(|plan| options.share.has(plan.number));
                let station = |plan| Voice::Station(Box::new(Station::new(plan, setting)));
                plans.into_iter().map(|plan| (plan.number, station(plan))).collect()
            }
        };
        let stations = voices.len();
        stats.stations.store(stations as u64, Ordering::Relaxed);
        for ((number, voice), target) in voices.into_iter().zip(targets.iter().cycle()) {
            let index = number - 1;
            let will = voice.station().map(|station| {
                let state = Station::state(station.session, false, start_ms);
                (topic(station, Channel::State), state)
            });
            let link = LinkOptions {
                version: options.mqtt_version,
                access: entrance.of(target, voice.name())?,
                source: options.sources.get(index as usize % options.sources.len().max(1)).copied(),
                client_id: voice.name().to_owned(),
                will,
                most_bytes: 2 * PAYLOAD_BYTES,
                // Bounded by the options; births and deaths come on top of the window.
                window: u16::try_from(options.window + 2).unwrap_or(u16::MAX),
            };
            let publisher = Publisher {
                voice,
                link,
                window: options.window,
                qos: options.qos,
                pace,
                ledger: ledger.clone(),
                stats: Arc::clone(&stats),
                stop: ending.clone(),
                first_connect: begun
                    + options.ramp * index / u32::try_from(stations).unwrap_or(u32::MAX).max(1),
                seed: options.seed,
                schedule: options.schedule,
                faults: options.faults,
                outages: Outages::of(&setting, number),
            };
            tasks.spawn(publisher.run());
        }
        tracing::info!(
            brokers = ?targets, stations, seed = options.seed,
            start = start_ms / 1000, "fleet started"
        );

        let over = async {
            match options.duration {
                Some(duration) => sleep_until(begun + duration).await,
                None => std::future::pending().await,
            }
        };
        let time_is_up = async {
            tokio::select! {
                () = over => {}
                () = stop.cancelled() => {}
            }
            ending.cancel();
            sleep(options.drain).await;
        };
        let mut outcome = Ok(());
        let all_home = async {
            while let Some(joined) = tasks.join_next().await {
                match joined {
                    Ok(Ok(())) => {}
                    Ok(Err(failed)) => return Err(failed),
                    // Nothing aborts a task but this function's end; a panic goes on as one.
                    Err(error) => {
                        if let Ok(panic) = error.try_into_panic() {
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
            }
            Ok(())
        };
        tokio::select! {
            ended = all_home => outcome = ended,
            () = time_is_up => {}
        }
        tasks.shutdown().await;
        outcome?;
        if let Some(ledger) = &ledger {
            ledger.flush()?;
        }
        let summary = Summary {
            seed: options.seed,
            start: u64::try_from(start_ms / 1000).unwrap_or(0),
            took: begun.elapsed(),
            figures: stats.snapshot(),
        };
        if summary.figures.counts.unacknowledged() > 0 {
            tracing::warn!(
                batches = summary.figures.counts.unacknowledged(),
                "the run ended before these were acknowledged"
            );
        }
        Ok(summary)
    }
}
