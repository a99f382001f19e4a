//! A base station in simulated time: it hears its devices, fills batches and cuts them.
//!
//! The station is a sequence of batches, each with the moment it was cut. Nothing here knows the
//! wall clock, the network or what was acknowledged: the n-th batch has the same bytes whether the
//! server answers at once or is down for an hour. A batch is cut when it is full or when its first
//! reading has waited for the linger; alarms wait for nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;
use loushan_schemas::ids::{Region, StationId};
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Common, Reading};
use loushan_schemas::station::{StationState, state_to_wire};
use loushan_schemas::time::DeviceTime;
use loushan_schemas::topic::Channel;
use prost::Message as _;

use crate::city::{MINUTE, SECOND};
use crate::device::{Device, DevicePlan, Rhythm, Trigger, unreceived};
use crate::fault::{Fault, FaultCounts, FaultRates};
use crate::faults::{Counts, DeviceFaultRates};
use crate::seed::{Rng, Use, mix};
use crate::traffic::Traffic;

mod batch;
mod command;
mod figures;
mod outage;
mod spoil;

pub use batch::Meant;
pub(crate) use batch::{Batch, Cut, Gathered};
use command::Answers;
pub(crate) use outage::Outages;

/// How often a station reports its own figures.
const STATUS_PERIOD: i64 = MINUTE;

/// What a station is, before it runs.
#[derive(Debug, Clone)]
pub(crate) struct StationPlan {
    pub(crate) number: u32,
    pub(crate) station: StationId,
    pub(crate) region: Region,
    pub(crate) devices: Vec<DevicePlan>,
}

/// What all stations of a run share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    /// Simulated ms.
    pub(crate) start: i64,
    pub(crate) rhythm: Rhythm,
    /// Where it is a model of its own, it goes before the rhythm.
    pub(crate) traffic: Traffic,
    pub(crate) cut: Cut,
    pub(crate) faults: FaultRates,
    pub(crate) device_faults: DeviceFaultRates,
    /// How many times faster than the wall clock, by which faults have their windows.
    pub(crate) speed: u32,
}

impl Setting {
    /// How often a fault happens at a moment, in a million.
    fn chance(&self, fault: Fault, now: i64) -> u32 {
        let chance = self.faults.chance(fault);
        let elapsed = (now - self.start).max(0).unsigned_abs() / u64::from(self.speed.max(1));
        if chance.at(Duration::from_millis(elapsed)) { chance.per_million } else { 0 }
    }
}

/// Something that will happen at a station.
#[derive(Debug)]
enum Item {
    Device(usize),
    /// A reading reaches its batch, for the sake of a fault or not.
    Heard(Lane, Box<Reading>, Option<Fault>),
    Linger(Lane, u64),
    Status,
    Again(Box<Batch>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Telemetry,
    Alarm,
}

#[derive(Debug, Default)]
struct Filling {
    readings: Vec<Reading>,
    /// Of readings.
    faults: FaultCounts,
    /// Counts the lane's batches, so that a linger knows whether its own was cut already.
    generation: u64,
}

/// What is due at a station next.
enum Due {
    Gathered(Gathered),
    Again(Box<Batch>),
}

/// A running station.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) plan: StationPlan,
    pub(crate) session: u32,
    setting: Setting,
    rng: Rng,
    /// For payloads that are spoiled: switching that on moves nobody else's numbers.
    spoiler: Rng,
    outages: Outages,
    devices: Vec<Device>,
    /// When each device was last heard: its messages do not overtake each other.
    last_heard: Vec<i64>,
    agenda: BinaryHeap<Reverse<Entry>>,
    order: u64,
    telemetry: Filling,
    alarm: Filling,
    batch_seq: u64,
    status_seq: u64,
    answers: Answers,
    /// What befell its devices so far.
    incidents: Counts,
    heard: i64,
    attempts: i64,
    collisions: i64,
}

/// Sorted by time, then by when it was planned: never by chance.
#[derive(Debug)]
struct Entry {
    at: i64,
    order: u64,
    item: Item,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl Station {
    pub(crate) fn new(plan: StationPlan, setting: Setting) -> Self {
        let Setting { seed, start, .. } = setting;
        let number = u64::from(plan.number);
        let key = [seed, start.unsigned_abs(), number];
        let devices: Vec<Device> = plan
            .devices
            .iter()
            .map(|device| {
                let rhythm = setting.traffic.rhythm(seed, device.imei, device.kind);
                let rhythm = rhythm.unwrap_or(setting.rhythm);
                Device::new(*device, &Setting { rhythm, ..setting })
            })
            .collect();
        let mut station = Self {
            // A station that boots again does so with another start.
            session: (mix(&[Use::Session as u64, mix(&key)]) >> 32) as u32,
            rng: Rng::new(Use::Station, &key),
            spoiler: Rng::new(Use::Station, &[mix(&key), Fault::Corrupt as u64]),
            outages: Outages::of(&setting, plan.number),
            last_heard: vec![start; devices.len()],
            agenda: BinaryHeap::with_capacity(devices.len() + 4),
            order: 0,
            telemetry: Filling::default(),
            alarm: Filling::default(),
            batch_seq: 0,
            status_seq: 0,
            answers: Answers::default(),
            incidents: Counts::default(),
            heard: 0,
            attempts: 0,
            collisions: 0,
            devices,
            plan,
            setting,
        };
        for index in 0..station.devices.len() {
            station.plan_device(index);
        }
        let phase = station.rng.between(0, STATUS_PERIOD - 1);
        station.put(start + phase, Item::Status);
        station
    }

    fn put(&mut self, at: i64, item: Item) {
        self.order += 1;
        self.agenda.push(Reverse(Entry { at, order: self.order, item }));
    }

    fn plan_device(&mut self, index: usize) {
        if let Some(next) = self.devices.get(index).map(Device::next) {
            self.put(next, Item::Device(index));
        }
    }

    /// What befell its devices so far.
    pub(crate) const fn incidents(&self) -> &Counts {
        &self.incidents
    }

    /// The next batch. Its moment is never before that of the batch before it.
    pub(crate) fn next_batch(&mut self) -> Batch {
        match self.next_due() {
            Due::Gathered(gathered) => self.seal(gathered),
            Due::Again(batch) => *batch,
        }
    }

    /// The next batch's readings, for whoever wants no bytes; nothing is published again.
    pub(crate) fn next_readings(&mut self) -> Gathered {
        loop {
            if let Due::Gathered(gathered) = self.next_due() {
                return gathered;
            }
        }
    }

    fn next_due(&mut self) -> Due {
        loop {
            // The status is always planned, so the agenda is never empty.
            let Some(Reverse(Entry { at, item, .. })) = self.agenda.pop() else {
                self.put(self.setting.start, Item::Status);
                continue;
            };
            let gathered = match item {
                Item::Device(index) => {
                    self.device_speaks(index, at);
                    None
                }
                Item::Heard(lane, reading, fault) => self.hear(lane, *reading, fault, at),
                Item::Linger(lane, generation) => {
                    (self.filling(lane).generation == generation).then(|| self.cut(lane, at))
                }
                Item::Status => Some(self.status(at)),
                Item::Again(batch) => return Due::Again(batch),
            };
            if let Some(gathered) = gathered {
                return Due::Gathered(gathered);
            }
        }
    }

    fn filling(&mut self, lane: Lane) -> &mut Filling {
        match lane {
            Lane::Telemetry => &mut self.telemetry,
            Lane::Alarm => &mut self.alarm,
        }
    }

    fn device_speaks(&mut self, index: usize, now: i64) {
        let incidents = &mut self.incidents;
        let said = self.devices.get_mut(index).and_then(|device| device.speak(now, incidents));
        self.plan_device(index);
        let Some((trigger, mut reading, latency)) = said else { return };
        let Some(last) = self.last_heard.get_mut(index) else { return };
        let heard = (now + latency).max(*last);
        *last = heard;
        reading.times.heard = DeviceTime::from_ms(heard);
        self.heard += 1;
        self.attempts += 1;
        let lane = if trigger == Trigger::Alarm { Lane::Alarm } else { Lane::Telemetry };
        let setting = self.setting;
        let stuck = self.rng.chance(setting.chance(Fault::Reorder, now));
        let held = if stuck { self.rng.between(5 * SECOND, 90 * SECOND) } else { 0 };
        if self.rng.chance(setting.chance(Fault::Duplicate, now)) {
            self.collisions += 1;
            let later = heard + held + self.rng.between(SECOND, 60 * SECOND);
            let again = Item::Heard(lane, Box::new(reading.clone()), Some(Fault::Duplicate));
            self.put(later, again);
        }
        let fault = stuck.then_some(Fault::Reorder);
        self.put(heard + held, Item::Heard(lane, Box::new(reading), fault));
    }

    fn hear(
        &mut self,
        lane: Lane,
        reading: Reading,
        fault: Option<Fault>,
        now: i64,
    ) -> Option<Gathered> {
        let Cut { readings, linger_ms } = self.setting.cut;
        let filling = self.filling(lane);
        filling.readings.push(reading);
        if let Some(count) = fault.and_then(|fault| filling.faults.get_mut(fault as usize)) {
            *count += 1;
        }
        if lane == Lane::Alarm || filling.readings.len() >= readings.max(1) {
            return Some(self.cut(lane, now));
        }
        if filling.readings.len() == 1 {
            let generation = filling.generation;
            self.put(now + linger_ms, Item::Linger(lane, generation));
        }
        None
    }

    fn cut(&mut self, lane: Lane, now: i64) -> Gathered {
        let filling = self.filling(lane);
        filling.generation += 1;
        let readings = std::mem::take(&mut filling.readings);
        let faults = std::mem::take(&mut filling.faults);
        let seq = self.batch_seq;
        self.batch_seq += 1;
        let channel = match lane {
            Lane::Telemetry if self.outages.at(now) => Channel::Replay,
            Lane::Telemetry => Channel::Telemetry,
            Lane::Alarm => Channel::Alarm,
        };
        Gathered { due: now, channel, seq, readings, faults }
    }

    fn status(&mut self, now: i64) -> Gathered {
        self.put(now + STATUS_PERIOD, Item::Status);
        let seq = self.status_seq;
        self.status_seq += 1;
        let figures = self.figures(now);
        let reading = unreceived(now).map(|times| Reading {
            imei: None,
            boot_epoch: 0,
            seq,
            times,
            common: Common::default(),
            body: Body::StationStatus(figures),
            quality: Quality::Accepted,
            reason: None,
        });
        Gathered {
            due: now,
            channel: Channel::Status,
            seq,
            readings: reading.into_iter().collect(),
            faults: FaultCounts::default(),
        }
    }

    /// Puts a batch on the wire: once, or as chance has it a second time later, or spoiled as well.
    fn seal(&mut self, gathered: Gathered) -> Batch {
        let batch = gathered.encode(self);
        if batch.channel == Channel::Status {
            return batch;
        }
        let due = batch.due;
        if self.rng.chance(self.setting.chance(Fault::Republish, due)) {
            let later = due + self.rng.between(SECOND, 30 * SECOND);
            let mut faults = FaultCounts::default();
            if let Some(count) = faults.get_mut(Fault::Republish as usize) {
                *count = 1;
            }
            let copy = Batch { due: later, again: true, faults, ..batch.clone() };
            self.put(later, Item::Again(Box::new(copy)));
        }
        for fault in Fault::PAYLOAD {
            let chance = self.setting.chance(fault, due);
            if chance > 0 && self.spoiler.chance(chance) {
                let later = due + self.spoiler.between(1, 5 * SECOND);
                if let Some(copy) = spoil::spoiled(&batch, fault, later, &mut self.spoiler) {
                    self.put(later, Item::Again(Box::new(copy)));
                }
            }
        }
        batch
    }

    /// The station's `state` message.
    pub(crate) fn state(session: u32, online: bool, now: i64) -> Bytes {
        let state = StationState {
            session,
            online,
            time: DeviceTime::from_ms(now),
            firmware: concat!("loushan-simulator ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        state_to_wire(&state).encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests;
