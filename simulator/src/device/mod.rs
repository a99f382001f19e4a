//! A device: one small physical model, a rhythm of reports, and an identity.
//!
//! A model knows two things: when something happens that the device reports at once, and what its
//! sensors would say at a moment. Models are advanced only forwards and only by their own device's
//! stream of chance, so what a device says depends on nobody else.

mod elevator;
mod parking;
mod smoke;
mod street_light;
mod water;

use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Reading, TimeSource, Times};
use loushan_schemas::time::{DeviceTime, ReceiveTime};

use crate::city::SECOND;
use crate::faults::Counts;
use crate::radio::Radio;
use crate::seed::{Rng, Use, mix};
use crate::station::Setting;

/// Never: later than any run.
pub(crate) const NEVER: i64 = i64::MAX;

/// Why a device speaks; the numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Periodic = 1,
    Event = 2,
    Alarm = 3,
}

/// The wire's number for a clock that was set by the network.
const CLOCK_SYNCED: i32 = 1;
/// The model that speaks the schema's own units.
const MODEL_CANONICAL: i64 = 1;

/// How often a device reports without being asked by its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rhythm {
    /// As its kind does: parking 30 min, lights 15 min lit and 1 h by day, smoke and water once a
    /// day, elevators once a minute.
    Natural,
    /// Every so many nanoseconds, whatever its kind.
    Every(u64),
    /// The same, but for the first report's moment, which is given: nanoseconds after the start.
    From { first: u64, every: u64 },
}

/// What a kind of device does.
trait Model {
    /// When something happens next that is reported at once.
    fn next_event(&self) -> i64;
    /// It happens; whether and why it is reported.
    fn event(&mut self, now: i64, rng: &mut Rng) -> Option<Trigger>;
    /// What the sensors say.
    fn sample(&mut self, now: i64, rng: &mut Rng) -> Body;
    /// Milliseconds between the periodic reports of this kind.
    fn natural_period(&self) -> i64;
}

/// One device.
pub(crate) struct Device {
    imei: Imei,
    boot_epoch: u32,
    seq: u32,
    rng: Rng,
    radio: Radio,
    model: Box<dyn Model + Send + Sync>,
    rhythm: Rhythm,
    /// Nanoseconds after the start of the first report under [`Rhythm::Every`], and reports so far.
    phase_ns: u64,
    reports: u64,
    start: i64,
    next_report: i64,
    clock_offset_ms: i64,
    whole_seconds: bool,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("imei", &self.imei).finish_non_exhaustive()
    }
}

/// What a device is, before it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DevicePlan {
    pub(crate) imei: Imei,
    pub(crate) kind: Kind,
    /// The number of its station.
    pub(crate) station: u32,
}

impl Device {
    /// A device that was switched on before `start` and reports from then on.
    pub(crate) fn new(plan: DevicePlan, setting: &Setting) -> Self {
        let Setting { seed, start, rhythm, .. } = *setting;
        // What a device *is* depends on the seed alone, what happens to it on the start as well.
        let mut nature = Rng::new(Use::Plan, &[seed, plan.imei.get()]);
        let mut rng = Rng::new(Use::Device, &[seed, start.unsigned_abs(), plan.imei.get()]);
        let key = [seed, plan.imei.get()];
        let radio = Radio::new(plan.kind, plan.station, &mut nature);
        let model: Box<dyn Model + Send + Sync> = match plan.kind {
            Kind::Parking => Box::new(parking::Space::new(start, &mut nature, &mut rng)),
            Kind::StreetLight => Box::new(street_light::Lamp::new(start, &mut nature)),
            Kind::Smoke => {
                Box::new(smoke::Detector::new(start, key, radio.battery_low(), &mut nature))
            }
            Kind::Elevator => Box::new(elevator::Lift::new(start, &mut nature, &mut rng)),
            // A station's own figures are no device's; meters are the commonest.
            Kind::Water | Kind::StationStatus => {
                Box::new(water::Meter::new(start, key, &mut nature))
            }
        };
        let whole_seconds = plan.kind == Kind::Water;
        let period_ns = match rhythm {
            Rhythm::Natural => model.natural_period().unsigned_abs().saturating_mul(1_000_000),
            Rhythm::Every(ns) | Rhythm::From { every: ns, .. } => ns.max(1),
        };
        let phase_ns = match rhythm {
            Rhythm::From { first, .. } => first,
            _ => mix(&[seed, plan.imei.get(), 7]) % period_ns,
        };
        let mut device = Self {
            imei: plan.imei,
            // Every run is a reboot. Its number is the start's second, so that no two starts share keys
            // and nothing has to be remembered from the last run.
            boot_epoch: u32::try_from(start / SECOND).unwrap_or(u32::MAX),
            seq: 0,
            radio,
            model,
            rhythm,
            phase_ns,
            reports: 0,
            start,
            next_report: 0,
            // Network time is good to a second or two. A meter's stamps end its hourly intervals, so
            // it keeps whole seconds and no offset: the same interval must not get two ends.
            clock_offset_ms: if whole_seconds { 0 } else { nature.between(-1500, 1500) },
            whole_seconds,
            rng,
        };
        device.next_report = device.start.saturating_add(ns_to_ms(device.phase_ns));
        device
    }

    /// Coverage enhancement level.
    pub(crate) const fn ce_level(&self) -> u8 {
        self.radio.ce_level
    }

    /// When it speaks next, or may.
    pub(crate) fn next(&self) -> i64 {
        self.next_report.min(self.model.next_event())
    }

    /// Goes on to `now`, which is [`Device::next`]. What it says, if it does: the reading, heard at
    /// no time yet, and how long it is under way.
    pub(crate) fn speak(
        &mut self,
        now: i64,
        _counts: &mut Counts,
    ) -> Option<(Trigger, Reading, i64)> {
        let trigger = if self.model.next_event() <= now {
            self.model.event(now, &mut self.rng)?
        } else {
            self.reports += 1;
            self.next_report = match self.rhythm {
                Rhythm::Natural => now.saturating_add(self.model.natural_period()),
                // From the start, not from the last one: rounding to a ms must not add up.
                Rhythm::Every(ns) | Rhythm::From { every: ns, .. } => self.start.saturating_add(
                    ns_to_ms(self.phase_ns.saturating_add(ns.max(1).saturating_mul(self.reports))),
                ),
            };
            Trigger::Periodic
        };
        let body = self.model.sample(now, &mut self.rng);
        let mut common = self.radio.describe(&mut self.rng);
        common.trigger = Some(trigger as i32);
        common.clock = Some(CLOCK_SYNCED);
        common.model_id = Some(MODEL_CANONICAL);
        let measured = if self.whole_seconds {
            now - now.rem_euclid(SECOND)
        } else {
            now + self.clock_offset_ms
        };
        // Receive time, effective time and quality are the service's to find, and no part of what
        // was meant.
        let reading = Reading {
            imei: Some(self.imei),
            boot_epoch: self.boot_epoch,
            seq: u64::from(self.seq),
            times: unreceived(measured)?,
            common,
            body,
            quality: Quality::Accepted,
            reason: None,
        };
        self.seq = self.seq.wrapping_add(1);
        let latency = self.radio.latency_ms(&mut self.rng);
        Some((trigger, reading, latency))
    }
}

fn ns_to_ms(ns: u64) -> i64 {
    i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX)
}

/// Clocks of a reading that was not received yet; `None` where the time is none.
pub(crate) fn unreceived(measured_ms: i64) -> Option<Times> {
    let measured = DeviceTime::from_ms(measured_ms)?;
    Some(Times {
        measured: Some(measured),
        heard: None,
        received: ReceiveTime::from_ns(0),
        effective: measured,
        source: TimeSource::Measured,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use loushan_schemas::field::Value;

    use super::*;
    use crate::city::HOUR;
    use crate::fault::FaultRates;
    use crate::faults::DeviceFaultRates;
    use crate::station::Cut;

    fn setting(start: i64, rhythm: Rhythm) -> Setting {
        Setting {
            seed: 5,
            start,
            rhythm,
            traffic: crate::traffic::Traffic::Kinds,
            speed: 1,
            cut: Cut { readings: 1, linger_ms: 0 },
            faults: FaultRates::NONE,
            device_faults: DeviceFaultRates::default(),
        }
    }

    /// A service that knows a device from the last run would take a lower counter for a reset.
    #[test]
    fn no_counter_falls_from_one_run_to_the_next() {
        let start = 1_790_000_000_000;
        for kind in [Kind::Parking, Kind::StreetLight, Kind::Smoke, Kind::Elevator, Kind::Water] {
            for serial in 0..20 {
                let plan = DevicePlan { imei: Imei::from_body(86_000 + serial), kind, station: 1 };
                let device =
                    |start| Device::new(plan, &setting(start, Rhythm::Every(1_000_000_000)));
                let last = |device: &mut Device, until: i64| {
                    let mut last = None;
                    while device.next() < until {
                        let now = device.next();
                        last = device
                            .speak(now, &mut Counts::default())
                            .map(|(_, reading, _)| reading)
                            .or(last);
                    }
                    last.unwrap()
                };
                let before = last(&mut device(start), start + HOUR);
                let after = last(&mut device(start + HOUR + 1000), start + HOUR + 3000);
                for (field, value) in after.values().filter(|(field, _)| field.counter.is_some()) {
                    let old = before.values().find(|(f, _)| f.name == field.name).unwrap().1;
                    let (Value::Int(old), Value::Int(new)) = (old, value) else {
                        panic!("{field:?}")
                    };
                    assert!(new >= old, "{} fell from {old} to {new}", field.name);
                }
            }
        }
    }
}
