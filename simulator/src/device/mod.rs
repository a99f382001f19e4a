//! A device: one small physical model, a rhythm of reports, and an identity.
//!
//! A model knows two things: when something happens that the device reports at once, and what its
//! sensors would say at a moment. Models are advanced only forwards and only by their own device's
//! stream of chance, so what a device says depends on nobody else. What several devices share (a fire
//! in their house) each of them works out for itself from the seed, the place and the time.

mod clock;
mod elevator;
mod fire;
mod parking;
mod smoke;
mod spell;
mod street_light;
mod water;

use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Reading, TimeSource, Times};
use loushan_schemas::time::{DeviceTime, ReceiveTime};

use crate::battery::Turn;
use crate::city::{DAY, MINUTE, SECOND, day_start, local_day};
use crate::faults::{Counts, DeviceFaultRates, Incident};
use crate::radio::Radio;
use crate::seed::{Rng, Use, mix};
use crate::station::Setting;
use clock::Clock;

/// Never: later than any run.
pub(crate) const NEVER: i64 = i64::MAX;

/// Why a device speaks; the numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Periodic = 1,
    Event = 2,
    Alarm = 3,
}

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
    /// What befell it, one after the other; `None` when all was told.
    fn incident(&mut self) -> Option<Incident> {
        None
    }
    /// What stands between it and its station just now, in dB.
    fn shadow_db(&self) -> i64 {
        0
    }
}

/// One device.
pub(crate) struct Device {
    imei: Imei,
    key: [u64; 2],
    boot_epoch: u32,
    booted: i64,
    next_boot: i64,
    boots_per_million: u32,
    seq: u32,
    /// How far it can count.
    seq_mask: u32,
    rng: Rng,
    radio: Radio,
    clock: Clock,
    model: Box<dyn Model + Send + Sync>,
    rhythm: Rhythm,
    /// Nanoseconds after the start of the first report under [`Rhythm::Every`], and reports so far.
    phase_ns: u64,
    reports: u64,
    start: i64,
    next_report: i64,
    /// When it says that its battery is low.
    next_warning: i64,
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
    /// Its number among those of its kind at its station, from 0: neighbours are next to each other.
    pub(crate) neighbour: u32,
}

/// Reboots are told apart by whole seconds, so no two come in one.
const SHORTEST_LIFE: i64 = 10 * SECOND;
/// From booting, or from noticing a low battery, to saying so.
const WARNING_AFTER: i64 = 5 * SECOND;

impl Device {
    /// A device that was switched on before the start and reports from then on.
    pub(crate) fn new(plan: DevicePlan, setting: &Setting) -> Self {
        let Setting { seed, start, rhythm, device_faults: rates, .. } = *setting;
        // What a device *is* depends on the seed alone, what happens to it on the start as well.
        let key = [seed, plan.imei.get()];
        let mut nature = Rng::new(Use::Plan, &key);
        let mut rng = Rng::new(Use::Device, &[seed, start.unsigned_abs(), plan.imei.get()]);
        let basement;
        let model: Box<dyn Model + Send + Sync> = match plan.kind {
            Kind::Parking => {
                let space = parking::Space::new(start, key, &mut nature, &mut rng);
                basement = space.is_below_ground();
                Box::new(space)
            }
            Kind::StreetLight => {
                basement = false;
                Box::new(street_light::Lamp::new(start, key, &mut nature))
            }
            Kind::Smoke => {
                basement = false;
                let flat = fire::Flat::new(seed, plan.station, plan.neighbour);
                Box::new(smoke::Detector::new(start, key, flat, &mut nature))
            }
            Kind::Elevator => {
                basement = false;
                Box::new(elevator::Lift::new(start, key, &mut nature, &mut rng))
            }
            // A station's own figures are no device's; meters are the commonest.
            Kind::Water | Kind::StationStatus => {
                basement = water::in_the_cellar(key);
                Box::new(water::Meter::new(start, key, &mut nature))
            }
        };
        let radio = Radio::new(plan.kind, plan.station, basement, start, &mut nature);
        let clock = Clock::new(plan.kind == Kind::Water, &rates, &mut nature);
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
            key,
            // Every run is a reboot. Its number is its second, so that no two share keys and nothing
            // has to be remembered from the last run.
            boot_epoch: u32::try_from(start / SECOND).unwrap_or(u32::MAX),
            booted: start,
            next_boot: NEVER,
            boots_per_million: rates.reboot,
            seq: 0,
            seq_mask: seq_mask(&rates, &mut nature),
            radio,
            clock,
            model,
            rhythm,
            phase_ns,
            reports: 0,
            start,
            next_report: 0,
            next_warning: NEVER,
            rng,
        };
        device.next_report = match (plan.kind, rhythm) {
            (Kind::Water, Rhythm::Natural) => meter_reports_after(start, plan.imei),
            _ => device.start.saturating_add(ns_to_ms(device.phase_ns)),
        };
        device.plan_boot(start);
        device
    }

    /// Coverage enhancement level.
    pub(crate) const fn ce_level(&self) -> u8 {
        self.radio.ce_level()
    }

    /// When it speaks next, or may.
    pub(crate) fn next(&self) -> i64 {
        self.next_report.min(self.model.next_event()).min(self.next_boot).min(self.next_warning)
    }

    /// When it boots next: by a stream of its own, so that reboots move nothing else.
    fn plan_boot(&mut self, now: i64) {
        if let Some(mean) = (DAY * 1_000_000).checked_div(i64::from(self.boots_per_million)) {
            let [seed, imei] = self.key;
            let mut rng = Rng::new(Use::Device, &[seed, imei, now.unsigned_abs(), 8]);
            self.next_boot = now + SHORTEST_LIFE + rng.wait_ms(mean);
        }
    }

    fn boot(&mut self, now: i64, counts: &mut Counts) {
        counts.add(Incident::Rebooted);
        self.boot_epoch = u32::try_from(now / SECOND).unwrap_or(u32::MAX);
        self.booted = now;
        self.seq = 0;
        self.plan_boot(now);
    }

    /// Why it speaks at `now`, if it does.
    fn trigger(&mut self, now: i64, counts: &mut Counts) -> Option<Trigger> {
        if self.next_boot <= now {
            self.boot(now, counts);
            return Some(Trigger::Event);
        }
        if self.model.next_event() <= now {
            return self.model.event(now, &mut self.rng);
        }
        if self.next_warning <= now {
            self.next_warning = NEVER;
            return Some(Trigger::Event);
        }
        self.reports += 1;
        self.next_report = match self.rhythm {
            Rhythm::Natural => now.saturating_add(self.model.natural_period()),
            // From the start, not from the last one: rounding to a ms must not add up.
            Rhythm::Every(ns) | Rhythm::From { every: ns, .. } => self.start.saturating_add(
                ns_to_ms(self.phase_ns.saturating_add(ns.max(1).saturating_mul(self.reports))),
            ),
        };
        Some(Trigger::Periodic)
    }

    /// Goes on to `now`, which is [`Device::next`]. What it says, if it does: the reading, heard at
    /// no time yet, and how long it is under way. What befell it is added to `counts`.
    pub(crate) fn speak(
        &mut self,
        now: i64,
        counts: &mut Counts,
    ) -> Option<(Trigger, Reading, i64)> {
        let trigger = self.trigger(now, counts);
        while let Some(incident) = self.model.incident() {
            counts.add(incident);
        }
        let trigger = trigger?;
        let mut body = self.model.sample(now, &mut self.rng);
        while let Some(incident) = self.model.incident() {
            counts.add(incident);
        }
        self.radio.shade(self.model.shadow_db());
        match self.radio.send(now) {
            Some(Turn::Low) => {
                counts.add(Incident::BatteryLow);
                self.next_warning = now + WARNING_AFTER;
            }
            Some(Turn::Changed) => counts.add(Incident::BatteryChanged),
            None => {}
        }
        if self.radio.battery_low() {
            warn_of_battery(&mut body);
        }
        let shown = self.clock.show(now, self.booted);
        if let Some(wrong) = shown.wrong {
            counts.add(wrong);
        }
        let mut common = self.radio.describe(&mut self.rng);
        common.trigger = Some(trigger as i32);
        common.clock = Some(shown.state);
        common.model_id = Some(MODEL_CANONICAL);
        // Receive time, effective time and quality are the service's to find, and no part of what
        // was meant.
        let reading = Reading {
            imei: Some(self.imei),
            boot_epoch: self.boot_epoch,
            seq: u64::from(self.seq),
            times: unreceived(shown.ms)?,
            common,
            body,
            quality: Quality::Accepted,
            reason: None,
        };
        self.seq = self.seq.wrapping_add(1) & self.seq_mask;
        if self.seq == 0 {
            counts.add(Incident::SeqWrapped);
        }
        let latency = self.radio.latency_ms(&mut self.rng);
        Some((trigger, reading, latency))
    }
}

/// When a meter's daily report is due next: at a minute of the city's day by its serial number, so
/// that they spread and each keeps its own.
fn meter_reports_after(start: i64, imei: Imei) -> i64 {
    const MINUTES_A_DAY: u64 = 1440;
    // The last digit is the check digit.
    let minute = (imei.get() / 10 % MINUTES_A_DAY).cast_signed() * MINUTE;
    let due = day_start(local_day(start)) + minute;
    if due < start { due + DAY } else { due }
}

/// How far a device counts.
fn seq_mask(rates: &DeviceFaultRates, nature: &mut Rng) -> u32 {
    let draw = nature.below(1_000_000);
    let (in_8, in_16) = (u64::from(rates.seq_8), u64::from(rates.seq_16));
    if draw < in_8 {
        0xff
    } else if draw < in_8 + in_16 {
        0xffff
    } else {
        u32::MAX
    }
}

/// Kinds that have a word of their own for it say it.
fn warn_of_battery(body: &mut Body) {
    match body {
        Body::Smoke(smoke) => smoke.low_battery = Some(true),
        Body::Water(water) => water.alarms.push(water::LOW_BATTERY),
        _ => {}
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
mod tests;
