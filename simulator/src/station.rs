//! A base station in simulated time: it hears its devices, fills batches and cuts them.
//!
//! The station is a sequence of batches, each with the moment it was cut. Nothing here knows the
//! wall clock, the network or what was acknowledged: the n-th batch has the same bytes whether the
//! server answers at once or is down for an hour. A batch is cut when it is full or when its first
//! reading has waited for the linger; alarms wait for nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use loushan_schemas::ids::{Imei, Region, StationId};
use loushan_schemas::limits::SCHEMA_MAJOR;
use loushan_schemas::model::Model;
use loushan_schemas::pb;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Common, Reading, StationStatus};
use loushan_schemas::station::{StationState, state_to_wire, status_to_wire};
use loushan_schemas::time::DeviceTime;
use loushan_schemas::topic::Channel;
use prost::Message as _;

use crate::city::{MINUTE, SECOND, by_hour, outdoor_dc};
use crate::device::{Device, DevicePlan, Rhythm, Trigger, unreceived};
use crate::fault::FaultRates;
use crate::seed::{Rng, Use, mix};

/// How often a station reports its own figures.
const STATUS_PERIOD: i64 = MINUTE;

/// When batches are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Readings after which a batch is full, 1 to 1000.
    pub(crate) readings: usize,
    /// Simulated milliseconds its first reading waits at most.
    pub(crate) linger_ms: i64,
}

/// What one reading of a batch should be stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meant {
    /// The device; 0 for the station's own figures.
    pub imei: u64,
    /// The device's reboots.
    pub boot_epoch: u32,
    /// The device's counter.
    pub seq: u64,
    /// Number of the kind.
    pub kind: u8,
    /// [`Reading::digest`] of the reading before it was encoded.
    pub digest: u64,
}

impl Meant {
    fn of(reading: &Reading) -> Self {
        Self {
            imei: reading.imei.map_or(0, Imei::get),
            boot_epoch: reading.boot_epoch,
            seq: reading.seq,
            kind: reading.kind().number(),
            digest: reading.digest(),
        }
    }
}

/// One publish of a station.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// When it was cut, or is sent again: simulated.
    pub(crate) due: i64,
    pub(crate) channel: Channel,
    pub(crate) seq: u64,
    pub(crate) payload: Bytes,
    pub(crate) meant: Arc<[Meant]>,
    /// The same bytes were published before.
    pub(crate) again: bool,
    /// Its id in the ledger once it has one; shared by all that repeat it.
    pub(crate) ledger_id: Arc<OnceLock<u64>>,
}

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
    pub(crate) cut: Cut,
    pub(crate) faults: FaultRates,
}

/// Something that will happen at a station.
#[derive(Debug)]
enum Item {
    Device(usize),
    Heard(Lane, Box<Reading>),
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
    /// Counts the lane's batches, so that a linger knows whether its own was cut already.
    generation: u64,
}

/// A running station.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) plan: StationPlan,
    pub(crate) session: u32,
    setting: Setting,
    rng: Rng,
    devices: Vec<Device>,
    /// When each device was last heard: its messages do not overtake each other.
    last_heard: Vec<i64>,
    agenda: BinaryHeap<Reverse<Entry>>,
    order: u64,
    telemetry: Filling,
    alarm: Filling,
    batch_seq: u64,
    status_seq: u64,
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
            .map(|device| Device::new(*device, seed, start, setting.rhythm))
            .collect();
        let mut station = Self {
            // A station that boots again does so with another start.
            session: (mix(&[Use::Session as u64, mix(&key)]) >> 32) as u32,
            rng: Rng::new(Use::Station, &key),
            last_heard: vec![start; devices.len()],
            agenda: BinaryHeap::with_capacity(devices.len() + 4),
            order: 0,
            telemetry: Filling::default(),
            alarm: Filling::default(),
            batch_seq: 0,
            status_seq: 0,
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

    /// The next batch. Its moment is never before that of the batch before it.
    pub(crate) fn next_batch(&mut self) -> Batch {
        loop {
            // The status is always planned, so the agenda is never empty.
            let Some(Reverse(Entry { at, item, .. })) = self.agenda.pop() else {
                self.put(self.setting.start, Item::Status);
                continue;
            };
            let batch = match item {
                Item::Device(index) => {
                    self.device_speaks(index, at);
                    None
                }
                Item::Heard(lane, reading) => self.hear(lane, *reading, at),
                Item::Linger(lane, generation) => {
                    (self.filling(lane).generation == generation).then(|| self.cut(lane, at))
                }
                Item::Status => Some(self.status(at)),
                Item::Again(batch) => Some(*batch),
            };
            if let Some(batch) = batch {
                return batch;
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
        let said = self.devices.get_mut(index).and_then(|device| device.speak(now));
        self.plan_device(index);
        let Some((trigger, mut reading, latency)) = said else { return };
        let Some(last) = self.last_heard.get_mut(index) else { return };
        let heard = (now + latency).max(*last);
        *last = heard;
        reading.times.heard = DeviceTime::from_ms(heard);
        self.heard += 1;
        self.attempts += 1;
        let lane = if trigger == Trigger::Alarm { Lane::Alarm } else { Lane::Telemetry };
        let faults = self.setting.faults;
        let held = if self.rng.chance(faults.reorder) {
            self.rng.between(5 * SECOND, 90 * SECOND)
        } else {
            0
        };
        if self.rng.chance(faults.duplicate) {
            self.collisions += 1;
            let later = heard + held + self.rng.between(SECOND, 60 * SECOND);
            self.put(later, Item::Heard(lane, Box::new(reading.clone())));
        }
        self.put(heard + held, Item::Heard(lane, Box::new(reading)));
    }

    fn hear(&mut self, lane: Lane, reading: Reading, now: i64) -> Option<Batch> {
        let Cut { readings, linger_ms } = self.setting.cut;
        let filling = self.filling(lane);
        filling.readings.push(reading);
        if lane == Lane::Alarm || filling.readings.len() >= readings.max(1) {
            return Some(self.cut(lane, now));
        }
        if filling.readings.len() == 1 {
            let generation = filling.generation;
            self.put(now + linger_ms, Item::Linger(lane, generation));
        }
        None
    }

    fn cut(&mut self, lane: Lane, now: i64) -> Batch {
        let filling = self.filling(lane);
        filling.generation += 1;
        let readings = std::mem::take(&mut filling.readings);
        let seq = self.batch_seq;
        self.batch_seq += 1;
        let message = pb::UplinkBatch {
            schema_major: SCHEMA_MAJOR,
            station: self.plan.station.as_str().to_owned(),
            session: self.session,
            seq,
            base_time_ms: now.unsigned_abs(),
            replay: false,
            readings: readings.iter().map(|reading| encode(reading, now)).collect(),
        };
        let batch = Batch {
            due: now,
            channel: match lane {
                Lane::Telemetry => Channel::Telemetry,
                Lane::Alarm => Channel::Alarm,
            },
            seq,
            payload: message.encode_to_vec().into(),
            meant: readings.iter().map(Meant::of).collect(),
            again: false,
            ledger_id: Arc::default(),
        };
        if self.rng.chance(self.setting.faults.republish) {
            let later = now + self.rng.between(SECOND, 30 * SECOND);
            let copy = Batch { due: later, again: true, ..batch.clone() };
            self.put(later, Item::Again(Box::new(copy)));
        }
        batch
    }

    fn status(&mut self, now: i64) -> Batch {
        self.put(now + STATUS_PERIOD, Item::Status);
        let seq = self.status_seq;
        self.status_seq += 1;
        let figures = self.figures(now);
        let message = pb::StationStatus {
            session: self.session,
            seq,
            time_ms: now.unsigned_abs(),
            ..status_to_wire(&figures)
        };
        let meant = unreceived(now).map(|times| {
            Meant::of(&Reading {
                imei: None,
                boot_epoch: 0,
                seq,
                times,
                common: Common::default(),
                body: Body::StationStatus(figures),
                quality: Quality::Accepted,
                reason: None,
            })
        });
        Batch {
            due: now,
            channel: Channel::Status,
            seq,
            payload: message.encode_to_vec().into(),
            meant: meant.into_iter().collect(),
            again: false,
            ledger_id: Arc::default(),
        }
    }

    #[allow(clippy::cast_precision_loss)] // tenths
    fn figures(&mut self, now: i64) -> StationStatus {
        /// Load of the cell by hour, percent.
        const LOAD: [i64; 24] = [
            22, 14, 10, 9, 9, 12, 24, 42, 56, 60, 58, 57, //
            55, 54, 55, 57, 60, 66, 70, 68, 62, 52, 40, 30,
        ];
        let count = self.devices.len() as i64;
        let share = |level: u8| {
            let at = self.devices.iter().filter(|d| d.ce_level() == level).count() as i64;
            at * 100 / count.max(1)
        };
        let (ce1, ce2) = (share(1), share(2));
        let rng = &mut self.rng;
        let load = by_hour(&LOAD, now) + rng.between(-4, 4);
        self.attempts += rng.between(0, count / 8 + 1);
        self.collisions += i64::from(rng.chance(60_000));
        StationStatus {
            attached_ues: Some(count),
            rrc_connected: Some(rng.between(0, count / 10 + 1)),
            rrc_setup_success_permille: Some(rng.between(978, 1000)),
            ul_subcarrier_use_pct: Some(load),
            dl_subcarrier_use_pct: Some(load / 2),
            nprach_attempts: Some(self.attempts),
            nprach_collisions: Some(self.collisions),
            ce0_share_pct: Some(100 - ce1 - ce2),
            ce1_share_pct: Some(ce1),
            ce2_share_pct: Some(ce2),
            ul_interference_dbm: Some(rng.between(-122, -108)),
            backhaul_rtt_ms: Some(rng.between(8, 35)),
            backhaul_loss_permille: Some(i64::from(rng.chance(50_000))),
            cabinet_temp_c: Some((outdoor_dc(now) + 80 + rng.noise(6.0)) as f64 / 10.0),
            supply_v: Some((535 + rng.between(-6, 6)) as f64 / 10.0),
            backup_battery_pct: Some(100),
            mains_ok: Some(true),
            door_open: Some(false),
            cpu_pct: Some(load / 2 + 8),
            queue_depth: Some(self.telemetry.readings.len() as i64),
            dropped: Some(0),
        }
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

/// A reading as its device and station put it on the wire, against a base time.
fn encode(reading: &Reading, base_ms: i64) -> pb::Reading {
    let model = reading.common.model_id.and_then(|id| u32::try_from(id).ok()).map(Model::of);
    let model = model.unwrap_or(&Model::CANONICAL);
    let delta = |time: Option<DeviceTime>| time.map_or(0, |t| t.ms() - base_ms);
    pb::Reading {
        imei: reading.imei.map_or(0, Imei::get),
        // Devices count in 32 bits.
        seq: u32::try_from(reading.seq).unwrap_or(u32::MAX),
        measured_delta_ms: delta(reading.times.measured),
        heard_delta_ms: delta(reading.times.heard),
        boot_epoch: reading.boot_epoch,
        ..model.to_wire(&reading.common, &reading.body)
    }
}

#[cfg(test)]
mod tests;
