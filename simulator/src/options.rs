//! What a run is asked to do.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use loushan_schemas::limits::{PAST_MS, READINGS_PER_BATCH};
use xxhash_rust::xxh3::xxh3_64;

use crate::access::AccessOptions;
use crate::device::Rhythm;
use crate::fault::{Fault, FaultRates};
use crate::faults::DeviceFaultRates;
use crate::fleet::{DEVICES_PER_STATION, MAX_DEVICES_PER_STATION, MAX_STATIONS, STATIONS};
use crate::playback::TraceOptions;
use crate::run::FleetError;
use crate::station::Cut;
use crate::traffic::Traffic;

/// A rate at which a fleet can be watched: every device of the default fleet speaks every ten seconds.
/// In its own rhythm such a fleet says about five things a second.
pub const DEMO_RATE: u32 = 1000;

/// The MQTT version the stations speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MqttVersion {
    /// 3.1.1.
    #[default]
    V311,
    /// 5.
    V5,
}

/// The quality of service at which batches are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Qos {
    /// 0: sent and forgotten. Nobody acknowledges it, so nothing is promised and nothing is sent again.
    AtMostOnce,
    /// 1: until the PUBACK.
    #[default]
    AtLeastOnce,
    /// 2: until the PUBREC, and once only as long as the connection holds.
    ExactlyOnce,
}

impl Qos {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce];

    /// 0, 1 or 2.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// By its number; what is above 2 does not come out of a packet.
    pub(crate) const fn of(number: u8) -> Self {
        match number {
            0 => Self::AtMostOnce,
            1 => Self::AtLeastOnce,
            _ => Self::ExactlyOnce,
        }
    }
}

/// What a station does while its window is full of batches that are not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    /// The schedule goes on: batches have the moments that simulated time gives them, leave as soon as
    /// they can, and their latency counts from the moment they were meant to leave. What a slow server
    /// makes wait is in the figures (no *coordinated omission*).
    #[default]
    Open,
    /// The schedule waits, and is late by as much from then on. Latency counts from the send; what the
    /// server takes is in the throughput.
    Closed,
}

/// The part of a fleet that a process, or a machine, plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which, from 1.
    pub part: u32,
    /// Of how many.
    pub of: u32,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self { part: 1, of: 1 };

    /// Whether a station belongs to it; stations are dealt in turn, so that each part has all regions.
    pub(crate) const fn has(self, number: u32) -> bool {
        number % self.of == self.part - 1
    }
}

/// A run. Fields that do not matter keep their defaults:
/// `FleetOptions { rate: Some(1000), ..FleetOptions::new("mqtt://127.0.0.1:1883") }`.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.
    pub target: String,
    /// Further brokers of the same service; stations are dealt to all of them in turn.
    pub more_targets: Vec<String>,
    /// Which stations of the fleet are played.
    pub share: Share,
    /// Stations, each with a session of its own.
    pub stations: u32,
    /// Devices behind each station.
    pub devices_per_station: u32,
    /// What everything is derived from.
    pub seed: u64,
    /// When simulated time begins, in Unix seconds; by default such that it ends at now (with
    /// `speed` 1: now). The same seed and start give the same bytes.
    pub start: Option<u64>,
    /// How long the run takes by the wall clock; by default until it is stopped.
    pub duration: Option<Duration>,
    /// Device readings per second for the whole fleet: every device reports every *devices / rate*
    /// seconds, whatever its kind. By default kinds keep their own rhythm. Events (a car comes) and
    /// the stations' own figures (one a minute each) come on top.
    pub rate: Option<u32>,
    /// When devices report, where no rate is given.
    pub traffic: Traffic,
    /// What a full window does to the schedule.
    pub schedule: Schedule,
    /// How many times faster than the wall clock simulated time runs. More than 1 needs a duration,
    /// and *duration × speed* of at most 7 days: the service takes no older measured times.
    pub speed: u32,
    /// The trace to play in place of a simulated fleet.
    pub trace: Option<PathBuf>,
    /// How many times faster than it was recorded a trace is played.
    pub tempo: f64,
    /// Gives the stations, sessions and devices of a trace other names, which follow from this number.
    pub map_identities: Option<u64>,
    /// When a batch is full: readings.
    pub batch_readings: usize,
    /// How long a batch's first reading waits at most, in simulated time: a compressed run wants a
    /// longer one, or its batches hold one reading each.
    pub linger: Duration,
    /// Batches of one station that may be unacknowledged; no more leave until one is.
    pub window: usize,
    /// What goes wrong on purpose.
    pub faults: FaultRates,
    /// What is wrong with devices.
    pub device_faults: DeviceFaultRates,
    /// The ledger to append to.
    pub ledger: Option<PathBuf>,
    /// Where to write the fleet's `stations.csv`.
    pub stations_csv: Option<PathBuf>,
    /// The MQTT version.
    pub mqtt_version: MqttVersion,
    /// At which quality of service batches are published. What stations say of themselves (`state`, answers
    /// to commands) is always at QoS 1.
    pub qos: Qos,
    /// Credentials and TLS.
    pub access: AccessOptions,
    /// The addresses that stations connect from, in turn; the kernel's choice if there are none.
    pub sources: Vec<IpAddr>,
    /// Over how long the stations' first connects are spread.
    pub ramp: Duration,
    /// How long the end of the run waits for acknowledgements that are still due.
    pub drain: Duration,
}

impl FleetOptions {
    /// The pilot's fleet in its own rhythm, against a target.
    #[must_use]
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            more_targets: Vec::new(),
            share: Share::WHOLE,
            stations: STATIONS,
            devices_per_station: DEVICES_PER_STATION,
            seed: 1,
            start: None,
            duration: None,
            rate: None,
            traffic: Traffic::default(),
            schedule: Schedule::default(),
            speed: 1,
            trace: None,
            tempo: 1.0,
            map_identities: None,
            batch_readings: 50,
            linger: Duration::from_secs(2),
            window: 20,
            faults: FaultRates::default(),
            device_faults: DeviceFaultRates::default(),
            ledger: None,
            stations_csv: None,
            mqtt_version: MqttVersion::default(),
            qos: Qos::default(),
            access: AccessOptions::default(),
            sources: Vec::new(),
            ramp: Duration::from_secs(2),
            drain: Duration::from_secs(10),
        }
    }

    /// Whether a fleet can run with these options; the target is not looked at.
    ///
    /// # Errors
    /// With all that is wrong with them.
    pub fn check(&self) -> Result<(), FleetError> {
        let faults = self.faults();
        if faults.is_empty() { Ok(()) } else { Err(FleetError::Options(faults)) }
    }

    /// Every fault of the options, each naming key, value and remedy.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut between = |key: &str, value: u128, low: u128, high: u128| {
            if !(low..=high).contains(&value) {
                faults.push(format!("{key} is {value}; give {low} to {high}"));
            }
        };
        between("stations", self.stations.into(), 1, MAX_STATIONS.into());
        let most_devices = MAX_DEVICES_PER_STATION.into();
        between("devices_per_station", self.devices_per_station.into(), 0, most_devices);
        between("speed", self.speed.into(), 1, 604_800);
        between("batch_readings", self.batch_readings as u128, 1, READINGS_PER_BATCH as u128);
        between("linger in ms", self.linger.as_millis(), 0, 3_600_000);
        // MQTT has 65,535 packet ids; the session wants some in reserve.
        between("window", self.window as u128, 1, 10_000);
        if let Some(rate) = self.rate {
            between("rate", rate.into(), 1, 100_000_000);
        }
        if let Some(start) = self.start {
            // Boot epochs are the start's seconds in 32 bits.
            between("start in seconds", start.into(), 0, u32::MAX.into());
        }
        if self.rate.is_some() && self.devices_per_station == 0 {
            faults.push("a rate needs devices; give devices_per_station of at least 1".to_owned());
        }
        if self.rate.is_some() && self.traffic != Traffic::Kinds {
            let traffic = self.traffic.as_str();
            faults.push(format!(
                "a rate is given and traffic is {traffic}, which has rates of its own; give one of them"
            ));
        }
        let Share { part, of } = self.share;
        if !(1..=self.stations.max(1)).contains(&of) || !(1..=of).contains(&part) {
            faults.push(format!(
                "share is {part}/{of}; give PART/OF such as 1/4, with no more parts than stations"
            ));
        }
        self.trace_faults(&mut faults);
        if self.speed > 1 && self.trace.is_none() {
            match self.span_ms() {
                None => faults.push(format!(
                    "speed is {} and no duration is given; a compressed run ends at now, so say how \
                     long it takes",
                    self.speed
                )),
                Some(span) if span > PAST_MS => faults.push(format!(
                    "speed × duration spans {:.1} days; at most 7 are taken, lower one of them",
                    (span / 3_600_000) as f64 / 24.0
                )),
                Some(_) => {}
            }
        }
        faults
    }

    #[allow(clippy::float_cmp)] // the default, as it was written here
    fn trace_faults(&self, faults: &mut Vec<String>) {
        match &self.trace {
            None if self.tempo != 1.0 => faults.push(format!(
                "speed is {}; simulated time runs a whole number of times faster, only traces any",
                self.tempo
            )),
            None if self.map_identities.is_some() => {
                faults.push("map_identities is for traces; give --trace FILE".to_owned());
            }
            Some(_) if self.rate.is_some() => faults.push(
                "a rate is given and a trace, which has its own; give --speed to play it faster"
                    .to_owned(),
            ),
            Some(_) if !(0.001..=1e6).contains(&self.tempo) => {
                faults.push(format!("speed is {}; give 0.001 to 1000000", self.tempo));
            }
            _ => {}
        }
    }

    /// How the trace is played, if one is.
    #[must_use]
    pub fn playback(&self) -> Option<TraceOptions> {
        let (speed, map_identities) = (self.tempo * f64::from(self.speed), self.map_identities);
        self.trace.clone().map(|path| TraceOptions { path, speed, map_identities })
    }

    /// Simulated milliseconds of the whole run.
    pub(crate) fn span_ms(&self) -> Option<i64> {
        let wall = i64::try_from(self.duration?.as_millis()).unwrap_or(i64::MAX);
        Some(wall.saturating_mul(self.speed.into()))
    }

    /// When simulated time begins, in ms, for a run that begins now. Whole seconds, since boot epochs
    /// count them.
    pub(crate) fn start_ms(&self, now_ms: i64) -> i64 {
        let start = match self.start {
            Some(seconds) => i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000),
            None => {
                let wall = self.span_ms().map_or(0, |span| span / i64::from(self.speed.max(1)));
                let ahead = self.span_ms().unwrap_or(0).saturating_sub(wall);
                now_ms.saturating_sub(ahead)
            }
        };
        start - start.rem_euclid(1000)
    }

    pub(crate) fn rhythm(&self) -> Rhythm {
        match self.rate {
            None => Rhythm::Natural,
            Some(rate) => {
                let devices = u64::from(self.stations) * u64::from(self.devices_per_station);
                Rhythm::Every(devices.saturating_mul(1_000_000_000) / u64::from(rate.max(1)))
            }
        }
    }

    pub(crate) fn cut(&self) -> Cut {
        let linger_ms = i64::try_from(self.linger.as_millis()).unwrap_or(i64::MAX);
        Cut { readings: self.batch_readings, linger_ms }
    }

    /// Digest of everything but seed and start that the bytes depend on.
    pub(crate) fn shape(&self) -> u64 {
        let faults = Fault::ALL.map(|fault| self.faults.chance(fault));
        // The number of stations is not in it: each station's bytes are its own.
        let text = format!(
            "3|{}|{:?}|{:?}|{:?}|{:?}|{faults:?}|{}",
            self.devices_per_station,
            self.device_faults,
            self.rhythm(),
            self.traffic,
            self.cut(),
            // Faults have their windows by the wall clock.
            if self.faults.in_windows() { self.speed } else { 0 },
        );
        xxh3_64(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_run_ends_at_now_and_spans_seven_days_at_most() {
        let mut options = FleetOptions { speed: 1440, ..FleetOptions::new("mqtt://h") };
        assert_eq!(options.faults().len(), 1, "no duration");
        options.duration = Some(Duration::from_secs(60));
        assert_eq!(options.faults(), Vec::<String>::new());
        let now = 1_790_000_000_500;
        let end = options.start_ms(now) + 60_000 * 1440;
        // It ends when the run ends, a minute from now, to the second.
        assert!((now + 59_000..=now + 60_000).contains(&end));
        options.duration = Some(Duration::from_secs(600));
        assert!(options.faults()[0].contains("10.0 days"), "{:?}", options.faults());
        options.speed = 1;
        assert_eq!(options.start_ms(now), 1_790_000_000_000);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let options = FleetOptions {
            stations: 0,
            window: 0,
            batch_readings: 1001,
            ..FleetOptions::new("mqtt://h")
        };
        let faults = options.faults();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("stations is 0; give 1 to 100000"));
    }
}
