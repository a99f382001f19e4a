//! What a run would send, found by letting some of its stations speak to nobody.

use std::fmt;

use loushan_schemas::kind::Kind;

use crate::clock::unix_ms;
use crate::fault::{Fault, FaultCounts};
use crate::fleet;
use crate::options::FleetOptions;
use crate::report::KINDS;
use crate::run::FleetError;
use crate::station::{Setting, Station};

/// Stations that speak, at most.
const STATIONS: u32 = 24;
/// Readings after which nothing more is listened to: a second or two of work.
const READINGS: u64 = 200_000;
/// Simulated time that is listened to where a run has no end.
const HOUR_MS: i64 = 3_600_000;

/// The load of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    stations: u32,
    devices: u64,
    heard_stations: u32,
    heard_ms: i64,
    /// Per second of the wall clock, for the whole share of the fleet.
    pub readings_per_s: f64,
    /// Publishes.
    pub batches_per_s: f64,
    /// Of payload.
    pub bytes_per_s: f64,
    kinds: Vec<(&'static str, f64)>,
    faults: Vec<(&'static str, f64)>,
    span_s: Option<f64>,
}

/// Finds the load of a run.
///
/// # Errors
/// When the options cannot be.
#[allow(clippy::cast_precision_loss)] // estimates
pub fn expect(options: &FleetOptions) -> Result<Expected, FleetError> {
    options.check()?;
    let records = fleet::stations(options.seed, options.stations)?;
    let mut plans = fleet::plan(options.seed, &records, options.devices_per_station);
    plans.retain(|plan| options.share.has(plan.number));
    let stations = u32::try_from(plans.len()).unwrap_or(u32::MAX);
    // Spread over the whole fleet: projects and regions change along it.
    let stride = stations.div_ceil(STATIONS).max(1);
    let start = options.start_ms(unix_ms());
    let setting = Setting {
        seed: options.seed,
        start,
        rhythm: options.rhythm(),
        traffic: options.traffic,
        cut: options.cut(),
        faults: options.faults,
        device_faults: options.device_faults,
        speed: options.speed,
    };
    let mut heard: Vec<Station> = plans
        .into_iter()
        .step_by(stride as usize)
        .map(|plan| Station::new(plan, setting))
        .collect();
    let span = options.span_ms().unwrap_or(HOUR_MS).max(1);
    let (mut readings, mut batches, mut bytes) = (0_u64, 0_u64, 0_u64);
    let mut kinds = [0_u64; KINDS];
    let mut faults: [u64; Fault::COUNT] = [0; Fault::COUNT];
    // All stations up to the same moment, a slice after the other, so that any end is a fair one.
    let slice = (span / 60).max(1000);
    let mut heard_ms = 0;
    let mut waiting: Vec<Option<crate::station::Batch>> = heard.iter().map(|_| None).collect();
    while heard_ms < span && readings < READINGS {
        heard_ms = (heard_ms + slice).min(span);
        for (station, waiting) in heard.iter_mut().zip(&mut waiting) {
            loop {
                let batch = waiting.take().unwrap_or_else(|| station.next_batch());
                if batch.due >= start + heard_ms {
                    *waiting = Some(batch);
                    break;
                }
                batches += 1;
                bytes += batch.payload.len() as u64;
                readings += batch.meant.len() as u64;
                for meant in batch.meant.iter() {
                    if let Some(count) = kinds.get_mut(usize::from(meant.kind)) {
                        *count += 1;
                    }
                }
                add(&mut faults, &batch.faults);
            }
        }
    }
    let share = f64::from(stations) / (heard.len().max(1) as f64);
    let wall_s = heard_ms as f64 / 1000.0 / f64::from(options.speed.max(1));
    let per_s = |count: u64| count as f64 * share / wall_s.max(0.001);
    let named = Kind::ALL.into_iter().map(|kind| {
        let count = kinds.get(usize::from(kind.number())).copied().unwrap_or(0);
        (kind.as_str(), per_s(count))
    });
    // Faults of sessions are not in the bytes; their chance is known.
    let done = Fault::ALL.into_iter().zip(faults).map(|(fault, count)| {
        let chance = options.faults.chance(fault).per_million;
        let per_minute = f64::from(chance) / 1e6 * f64::from(stations) / 60.0;
        (fault.as_str(), if fault.per_minute() { per_minute } else { per_s(count) })
    });
    Ok(Expected {
        stations,
        devices: u64::from(stations) * u64::from(options.devices_per_station),
        heard_stations: u32::try_from(heard.len()).unwrap_or(u32::MAX),
        heard_ms,
        readings_per_s: per_s(readings),
        batches_per_s: per_s(batches),
        bytes_per_s: per_s(bytes),
        kinds: named.filter(|(_, rate)| *rate > 0.0).collect(),
        faults: done.filter(|(_, rate)| *rate > 0.0).collect(),
        span_s: options.duration.map(|duration| duration.as_secs_f64()),
    })
}

fn add(sums: &mut [u64; Fault::COUNT], counts: &FaultCounts) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += u64::from(*count);
    }
}

impl fmt::Display for Expected {
    #[allow(clippy::cast_precision_loss)] // minutes for people
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stations     {}, {} devices", self.stations, self.devices)?;
        writeln!(f, "readings     {:.1}/s", self.readings_per_s)?;
        for (kind, rate) in &self.kinds {
            writeln!(f, "  {kind:<16}{rate:.2}/s")?;
        }
        writeln!(f, "publishes    {:.1}/s", self.batches_per_s)?;
        writeln!(f, "payload      {:.1} kB/s", self.bytes_per_s / 1000.0)?;
        for (fault, rate) in &self.faults {
            writeln!(f, "fault        {fault} {rate:.3}/s while it happens")?;
        }
        if let Some(seconds) = self.span_s {
            writeln!(
                f,
                "in all       {:.0} readings, {:.1} MB in {seconds:.0} s",
                self.readings_per_s * seconds,
                self.bytes_per_s * seconds / 1e6
            )?;
        }
        write!(
            f,
            "found by     {} stations over {:.1} simulated minutes",
            self.heard_stations,
            self.heard_ms as f64 / 60_000.0
        )
    }
}
