//! The rules at work: durable frames and the time go in, alarms raised and cleared come out. Pure: no
//! file, no clock, no thread. See the module above for what it promises.

mod condition;
mod ear;
mod judge;
mod order;
mod rhythm;
mod state;
mod timers;

mod codec;
mod devices;
mod emit;
mod stations;
#[cfg(test)]
pub(in crate::alarm) mod tests;

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::topic::{Channel, Topic};

use super::config::{AlarmConfig, Place as Site};
use super::model::{Alarm, Cleared};
pub(crate) use super::rule::Rule;
use crate::pipeline::frame::DurableFrame;
pub(crate) use ear::Ear;
pub(crate) use state::{Device, Station};
use timers::{Key, Timers};

/// What stands where, by station.
pub type Sites = HashMap<StationId, Site>;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Out {
    /// An alarm began; its number is the event's.
    Raised(Alarm),
    /// An alarm is over.
    Cleared {
        /// The event's number.
        event: u64,
        /// The alarm's.
        alarm: u64,
        /// How it ended.
        cleared: Cleared,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    config: Arc<AlarmConfig>,
    sites: Arc<Sites>,
    ear: Ear,
    /// The next life begins there: what lies between is not listened to.
    life: Option<i64>,
    devices: HashMap<Imei, Device>,
    stations: HashMap<StationId, Station>,
    timers: Timers,
    bytes: usize,
    next_event: u64,
    /// What is not in the database as it is here.
    changed: Changed,
    out: Vec<Out>,
    /// Readings that were no news.
    late: u64,
    /// Devices and stations that there was no room for.
    forgotten: u64,
}

/// What has changed since it was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) devices: HashSet<Imei>,
    pub(crate) stations: HashSet<StationId>,
}

/// What an engine goes on from.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) ear: Ear,
    pub(crate) next_event: u64,
    pub(crate) devices: HashMap<Imei, Device>,
    pub(crate) stations: HashMap<StationId, Station>,
}

impl Engine {
    pub(crate) fn new(config: Arc<AlarmConfig>, sites: Arc<Sites>, kept: Kept) -> Self {
        let Kept { ear, next_event, devices, stations } = kept;
        let mut bytes = 0;
        bytes += devices.values().map(|it| state::bytes(&it.conditions)).sum::<usize>();
        bytes += stations.values().map(|it| state::bytes(&it.conditions)).sum::<usize>();
        let mut engine = Self {
            config,
            sites,
            ear,
            life: None,
            devices,
            stations,
            timers: Timers::default(),
            bytes,
            next_event: next_event.max(1),
            changed: Changed::default(),
            out: Vec::new(),
            late: 0,
            forgotten: 0,
        };
        engine.all_timers();
        engine
    }

    /// The service began to listen then. What was received before is of its former life; between the
    /// last of that and `start_grace` after this moment nothing could be heard.
    pub(crate) fn begin_life(&mut self, started_ms: i64) {
        self.life = Some(started_ms);
    }

    /// Takes in what a durable frame says. Frames come in order.
    pub(crate) fn apply(&mut self, frame: &DurableFrame) {
        let now = frame.received.ms();
        self.advance(now);
        // What was published below a malformed topic is nobody's.
        let Ok(topic) = Topic::parse(&frame.topic) else { return };
        if topic.channel == Channel::Command {
            return;
        }
        self.station_heard(&topic, frame);
        for row in &frame.rows {
            self.reading(&topic, row);
            // What is due at once is due before the next reading: it may end it.
            self.fire_due();
        }
        self.fire_due();
    }

    /// Nothing more is to come that was received before that moment: what is due by then happens.
    pub(crate) fn advance(&mut self, to_ms: i64) {
        if let Some(started) = self.life.filter(|started| to_ms >= *started) {
            self.life = None;
            if self.ear.time != 0 {
                let grace = condition::ms(self.config.thresholds.start_grace);
                self.ear.deafen(started.saturating_add(grace));
            }
        }
        self.ear.prepare(to_ms);
        while let Some(due) = self.timers.next() {
            let at = self.ear.when(due);
            if at > to_ms {
                break;
            }
            self.ear.go(at);
            self.fire_due();
        }
        self.ear.go(to_ms);
        self.fire_due();
    }

    /// Nothing can have been heard up to that moment, and from the last one on.
    pub(crate) fn deafen(&mut self, until_ms: i64) {
        self.ear.deafen(until_ms);
    }

    fn fire_due(&mut self) {
        while let Some(key) = self.timers.due(self.ear.listened()) {
            match key {
                Key::Device(imei) => self.device_due(imei),
                Key::Station(station) => self.station_due(&station),
            }
        }
    }

    /// What happened since it was last asked.
    pub(crate) fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// What has changed since it was last asked.
    pub(crate) fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// What was said to have changed could not be kept: it has changed still.
    pub(crate) fn changed_still(&mut self, changed: Changed) {
        self.changed.devices.extend(changed.devices);
        self.changed.stations.extend(changed.stations);
    }

    /// How many devices and stations have changed.
    pub(crate) fn changes(&self) -> usize {
        self.changed.devices.len() + self.changed.stations.len()
    }

    pub(crate) fn device(&self, imei: Imei) -> Option<&Device> {
        self.devices.get(&imei)
    }

    pub(crate) fn station(&self, station: &StationId) -> Option<&Station> {
        self.stations.get(station)
    }

    pub(crate) const fn ear(&self) -> Ear {
        self.ear
    }

    /// The number of the next event; it is used up.
    pub(crate) fn number(&mut self) -> u64 {
        let number = self.next_event;
        self.next_event += 1;
        number
    }

    pub(crate) const fn next_event(&self) -> u64 {
        self.next_event
    }

    /// The event with the last number was not kept, and never told of.
    pub(crate) fn give_back_number(&mut self) {
        self.next_event -= 1;
    }

    /// Readings that were no news, and devices and stations forgotten, since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.late), std::mem::take(&mut self.forgotten))
    }

    /// Devices and stations that are remembered, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize, usize) {
        (self.devices.len(), self.stations.len(), self.bytes)
    }
}
