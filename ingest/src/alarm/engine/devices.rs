//! Readings of devices, and their silence.

use hashbrown::hash_map::Entry;
use loushan_schemas::ids::Imei;
use loushan_schemas::pb;
use loushan_schemas::reading::Body;
use loushan_schemas::row::Row;
use loushan_schemas::topic::{Channel, Topic};

use super::condition::{Origin, find, find_or_new, ms};
use super::emit::{Emit, Who, is_late, raise_after};
use super::judge::{SAID, Word, judge};
use super::order::Place;
use super::rhythm::Rhythm;
use super::state::{self, Alive, Device};
use super::timers::Key;
use super::{Engine, Rule};
use crate::alarm::model::ClearedBy;

/// How long to wait before a silence is looked at again that may be the station's.
const LOOK_AGAIN_MS: i64 = 60_000;

impl Engine {
    /// A reading of a device. It may be no news, and is a sign of life all the same.
    pub(super) fn reading(&mut self, topic: &Topic, row: &Row) {
        let Some(imei) = row.reading.imei else { return };
        let common = &row.reading.common;
        let kept_back = row.replay
            || topic.channel == Channel::Replay
            || common.trigger == Some(pb::Trigger::Replay as i32);
        let place = Place::of(row, kept_back);
        let now = self.ear.listened();
        let received = row.reading.times.received.ms();
        // While its station was away nobody could hear it.
        let back = self.stations.get(&row.station).map_or(i64::MIN, |station| station.back);
        let Self { devices, changed, bytes, late, .. } = self;
        let device = match devices.entry(imei) {
            Entry::Occupied(entry) => {
                let device = entry.into_mut();
                *bytes -= state::bytes(&device.conditions);
                device.heard(row, kept_back, &place, now, back);
                if !place.is_news_after(&device.newest) {
                    *late += 1;
                    *bytes += state::bytes(&device.conditions);
                    changed.devices.insert(imei);
                    self.device_timer(imei);
                    return;
                }
                device
            }
            Entry::Vacant(entry) => {
                // What a station had kept back was heard before; how long before is in its own time.
                let ago = received.saturating_sub(place.heard).max(0);
                entry.insert(Device {
                    region: row.region.clone(),
                    station: row.station.clone(),
                    kind: row.reading.kind(),
                    newest: place,
                    alive: Alive {
                        at_ms: place.heard,
                        listened: now.saturating_sub(ago),
                        lsn: row.lsn,
                        effective_ms: place.effective,
                    },
                    rhythm: Rhythm::new(now),
                    look: i64::MIN,
                    reverse_l: None,
                    conditions: Vec::new(),
                })
            }
        };
        device.newest = place;
        device.kind = row.reading.kind();
        device.judged(
            row,
            &place,
            kept_back && is_late(place.heard, received),
            &self.config,
            |rule| {
                self.config.applies(rule, Some(row.reading.kind()), self.sites.get(&row.station))
            },
            now,
        );
        *bytes += state::bytes(&device.conditions);
        changed.devices.insert(imei);
        self.device_timer(imei);
        self.make_room();
    }

    /// Something is due at a device.
    pub(super) fn device_due(&mut self, imei: Imei) {
        let now = self.ear.listened();
        let silent = self.silent_at(imei).filter(|due| *due <= now);
        let is_its_own = silent.is_some_and(|due| self.is_its_own(imei, due));
        let device = self.devices.get_mut(&imei).filter(|device| device.look <= now);
        match device {
            Some(device) if is_its_own => {
                let why = match device.rhythm.expected() {
                    Some(expected) => {
                        format!("not heard; its longest pause was {} s", expected / 1000)
                    }
                    None => String::new(),
                };
                let after = raise_after(&self.config, Rule::DeviceSilent, 0, false);
                self.bytes -= state::bytes(&device.conditions);
                let condition = find_or_new(&mut device.conditions, Rule::DeviceSilent);
                condition.set(SAID, device.alive.origin(why), 0, now);
                condition.due = Some(now.saturating_add(after));
                self.bytes += state::bytes(&device.conditions);
            }
            Some(device) if silent.is_some() => device.look = now.saturating_add(LOOK_AGAIN_MS),
            _ => {}
        }
        let Self { devices, stations, config, sites, ear, next_event, out, changed, bytes, .. } =
            self;
        let Some(device) = devices.get_mut(&imei) else { return };
        *bytes -= state::bytes(&device.conditions);
        let who = Who {
            region: &device.region,
            station: &device.station,
            imei: Some(imei),
            kind: Some(device.kind),
        };
        let replayed = stations.get(&device.station).map_or(0, |station| station.replayed);
        let mut emit = Emit { config, sites, ear: *ear, next_event, out };
        emit.due(who, &mut device.conditions, replayed);
        *bytes += state::bytes(&device.conditions);
        changed.devices.insert(imei);
        self.device_timer(imei);
    }

    /// When a device's silence is an alarm, in time listened; `None` where it is one already, or is
    /// none ever.
    fn silent_at(&self, imei: Imei) -> Option<i64> {
        let device = self.devices.get(&imei)?;
        let silent = |it: &super::condition::Condition| it.rule == Rule::DeviceSilent && it.holds();
        if device.conditions.iter().any(silent) {
            return None;
        }
        let place = self.sites.get(&device.station);
        if !self.config.applies(Rule::DeviceSilent, Some(device.kind), place) {
            return None;
        }
        let since = match self.stations.get(&device.station) {
            // Nobody could hear it while its station was away.
            Some(station) => device.alive.listened.max(station.back),
            None => device.alive.listened,
        };
        let limits = &self.config.thresholds;
        let longest = stretched(device.rhythm.expected()?, limits.silent_factor);
        Some(since.saturating_add(longest.max(ms(limits.silent_min))))
    }

    /// Whether a silence is the device's own: its station is there, and was heard when the device
    /// should have been.
    fn is_its_own(&self, imei: Imei, due: i64) -> bool {
        if !self.config.policy(Rule::StationOffline).on {
            return true;
        }
        let station = self.devices.get(&imei).and_then(|it| self.stations.get(&it.station));
        station.is_none_or(|station| {
            !self.is_offline(station) && station.alive.listened.saturating_add(LOOK_AGAIN_MS) >= due
        })
    }

    /// Sets when a device is to be looked at next.
    pub(super) fn device_timer(&mut self, imei: Imei) {
        let device = self.devices.get(&imei);
        let look = device.map_or(i64::MIN, |device| device.look);
        let due = device.and_then(|device| {
            device.conditions.iter().filter_map(|condition| condition.due).min()
        });
        let silent = self.silent_at(imei).map(|at| at.max(look));
        self.timers.set(Key::Device(imei), due.into_iter().chain(silent).min());
    }

    /// Over the bound, the eighth of devices that was heard longest ago is forgotten; of stations as well,
    /// where they are many.
    pub(super) fn make_room(&mut self) {
        if self.bytes <= self.config.memory {
            return;
        }
        let oldest = eighth(self.devices.values().map(|it| it.alive.at_ms).collect());
        let go: Vec<Imei> = self
            .devices
            .iter()
            .filter(|(_, it)| Some(it.alive.at_ms) <= oldest)
            .map(|(imei, _)| *imei)
            .collect();
        // Stations are few, unless somebody makes them up.
        let few = self.stations.len() * state::bytes(&[]) <= self.config.memory / 8;
        let oldest = eighth(self.stations.values().map(|it| it.alive.at_ms).collect());
        let oldest = oldest.filter(|_| !few);
        let silent = self.stations.iter().filter(|(_, it)| Some(it.alive.at_ms) <= oldest);
        let stations: Vec<_> = silent.map(|(station, _)| station.clone()).collect();
        // In an order that does not depend on the maps.
        let (mut go, mut stations) = (go, stations);
        go.sort_unstable();
        stations.sort_unstable();
        let Self { config, sites, ear, next_event, out, .. } = self;
        let mut emit = Emit { config, sites, ear: *ear, next_event, out };
        for imei in go {
            let Some(mut device) = self.devices.remove(&imei) else { continue };
            self.bytes -= state::bytes(&device.conditions);
            emit.end_all(&mut device.conditions, ClearedBy::Forgotten);
            self.changed.devices.insert(imei);
            self.timers.set(Key::Device(imei), None);
            self.forgotten += 1;
        }
        for name in stations {
            let Some(mut station) = self.stations.remove(&name) else { continue };
            self.bytes -= state::bytes(&station.conditions);
            emit.end_all(&mut station.conditions, ClearedBy::Forgotten);
            self.timers.set(Key::Station(name.clone()), None);
            self.changed.stations.insert(name);
            self.forgotten += 1;
        }
    }
}

impl Device {
    /// A sign of life, as of when it was heard.
    fn heard(&mut self, row: &Row, kept_back: bool, place: &Place, now: i64, back: i64) {
        let received = row.reading.times.received.ms();
        let silent = find(&mut self.conditions, Rule::DeviceSilent);
        let was_silent = silent.is_some_and(|it| it.holds());
        if kept_back {
            if place.heard <= self.alive.at_ms {
                return;
            }
            let ago = received.saturating_sub(place.heard);
            let listened = now.saturating_sub(ago).max(self.alive.listened);
            self.alive =
                Alive { at_ms: place.heard, listened, lsn: row.lsn, effective_ms: place.effective };
            return;
        }
        self.region = row.region.clone();
        self.station = row.station.clone();
        let since = self.alive.listened.max(back);
        self.rhythm.heard(now.saturating_sub(since), now, was_silent);
        self.alive =
            Alive { at_ms: received, listened: now, lsn: row.lsn, effective_ms: place.effective };
        // Only what comes live shows that it is there now.
        if let Some(silent) = find(&mut self.conditions, Rule::DeviceSilent) {
            silent.clear(SAID, row.lsn, 0, now);
        }
    }

    /// What a reading that is news says.
    fn judged(
        &mut self,
        row: &Row,
        place: &Place,
        late: bool,
        config: &super::AlarmConfig,
        applies: impl Fn(Rule) -> bool,
        now: i64,
    ) {
        for verdict in judge(&row.reading, &config.thresholds, self.reverse_l) {
            match verdict.word {
                Word::Holds { after, why } if applies(verdict.rule) => {
                    let origin = Origin {
                        lsn: row.lsn,
                        effective_ms: place.effective,
                        heard_ms: place.heard,
                        late,
                        why,
                    };
                    let after = raise_after(config, verdict.rule, ms(after), late);
                    let condition = find_or_new(&mut self.conditions, verdict.rule);
                    condition.set(verdict.cause, origin, after, now);
                }
                Word::Holds { .. } => {}
                Word::HoldsNot => {
                    if let Some(condition) = find(&mut self.conditions, verdict.rule) {
                        let after = ms(config.policy(verdict.rule).clear_after);
                        condition.clear(verdict.cause, row.lsn, after, now);
                    }
                }
            }
        }
        self.conditions.retain(|condition| !condition.is_idle());
        if let Body::Water(water) = &row.reading.body {
            self.reverse_l = water.reverse_l.or(self.reverse_l);
        }
    }
}

/// So many times as long.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // pauses are far below 2^53 ms
pub(super) fn stretched(pause: i64, factor: f64) -> i64 {
    (pause as f64 * factor) as i64
}

/// The value at or below which an eighth of them lies.
fn eighth(mut values: Vec<i64>) -> Option<i64> {
    if values.is_empty() {
        return None;
    }
    let at = values.len() / 8;
    let (_, bound, _) = values.select_nth_unstable(at);
    Some(*bound)
}
