//! Stations: whether they are there.

use loushan_schemas::ids::StationId;
use loushan_schemas::topic::{Channel, Topic};

use super::condition::{Origin, find, find_or_new, ms};
use super::devices::stretched;
use super::emit::{Emit, Who, raise_after};
use super::judge::{MEASURED, SAID};
use super::rhythm::Rhythm;
use super::state::{self, Alive, Station};
use super::timers::Key;
use super::{Engine, Rule};
use crate::alarm::model::ClearedBy;
use crate::pipeline::decode::{Decoded, decode};
use crate::pipeline::frame::DurableFrame;

impl Engine {
    /// Something was published by a station, or for it: its will.
    pub(super) fn station_heard(&mut self, topic: &Topic, frame: &DurableFrame) {
        let said = match topic.channel {
            Channel::State if frame.rejects.is_empty() => {
                match decode(topic, &frame.payload) {
                    Ok(Decoded::State(state)) => Some(state),
                    // Accepted, and no state: an empty payload that only ends a retained one.
                    _ => return,
                }
            }
            _ => None,
        };
        let now = self.ear.listened();
        let at_ms = frame.received.ms();
        let alive = Alive { at_ms, listened: now, lsn: frame.lsn, effective_ms: at_ms };
        let station = self.stations.entry(topic.station.clone()).or_insert_with(|| {
            self.bytes += state::bytes(&[]);
            Station {
                region: topic.region.clone(),
                alive,
                rhythm: Rhythm::new(now),
                session: None,
                dead: false,
                replayed: 0,
                back: now,
                conditions: Vec::new(),
            }
        });
        self.bytes -= state::bytes(&station.conditions);
        station.region = topic.region.clone();
        let death = said.as_ref().is_some_and(|state| !state.online);
        let policy = self.config.policy(Rule::StationOffline);
        if death {
            // Of an older session it comes late: the station is back already.
            let of = said.map(|state| state.session);
            if station.session.is_none() || of == station.session {
                station.session = of;
                station.dead = true;
                if self.config.applies(Rule::StationOffline, None, self.sites.get(&topic.station)) {
                    let origin = Origin {
                        lsn: frame.lsn,
                        effective_ms: at_ms,
                        heard_ms: at_ms,
                        late: false,
                        why: "its last will, or it said goodbye".to_owned(),
                    };
                    let after = raise_after(&self.config, Rule::StationOffline, 0, false);
                    let condition = find_or_new(&mut station.conditions, Rule::StationOffline);
                    condition.set(SAID, origin, after, now);
                }
            }
        } else {
            if let Some(born) = said {
                station.session = Some(born.session);
            }
            let condition = find(&mut station.conditions, Rule::StationOffline);
            let was_away = station.dead || condition.is_some_and(|it| it.holds());
            let pause = now.saturating_sub(station.alive.listened);
            station.rhythm.heard(pause, now, was_away);
            station.alive = alive;
            station.dead = false;
            if was_away {
                station.back = now;
            }
            if topic.channel == Channel::Replay || frame.rows.iter().any(|row| row.replay) {
                station.replayed = now;
            }
            if let Some(condition) = find(&mut station.conditions, Rule::StationOffline) {
                for cause in [SAID, MEASURED] {
                    condition.clear(cause, frame.lsn, ms(policy.clear_after), now);
                }
            }
            station.conditions.retain(|condition| !condition.is_idle());
        }
        self.bytes += state::bytes(&station.conditions);
        self.changed.stations.insert(topic.station.clone());
        self.station_timer(&topic.station);
        self.make_room();
    }

    /// Something is due at a station.
    pub(super) fn station_due(&mut self, name: &StationId) {
        let now = self.ear.listened();
        let silent = self.stations.get(name).and_then(|it| self.station_silent_at(name, it));
        let after = raise_after(&self.config, Rule::StationOffline, 0, false);
        let Self { stations, config, sites, ear, next_event, out, changed, bytes, .. } = self;
        let Some(station) = stations.get_mut(name) else { return };
        *bytes -= state::bytes(&station.conditions);
        if silent.is_some_and(|due| due <= now) {
            let pause = now.saturating_sub(station.alive.listened) / 1000;
            let origin = station.alive.origin(format!("not heard for {pause} s"));
            let condition = find_or_new(&mut station.conditions, Rule::StationOffline);
            condition.set(MEASURED, origin, 0, now);
            if condition.alarm.is_none() {
                condition.due = Some(now.saturating_add(after));
            }
        }
        let who = Who { region: &station.region, station: name, imei: None, kind: None };
        let replayed = station.replayed;
        let mut emit = Emit { config, sites, ear: *ear, next_event, out };
        emit.due(who, &mut station.conditions, replayed);
        *bytes += state::bytes(&station.conditions);
        changed.stations.insert(name.clone());
        self.station_timer(name);
    }

    /// When a station's silence is an alarm; `None` where it is one, or is none ever.
    fn station_silent_at(&self, name: &StationId, station: &Station) -> Option<i64> {
        let holds =
            |it: &super::condition::Condition| it.rule == Rule::StationOffline && it.holds();
        if station.conditions.iter().any(holds) {
            return None;
        }
        if !self.config.applies(Rule::StationOffline, None, self.sites.get(name)) {
            return None;
        }
        Some(station.alive.listened.saturating_add(self.station_patience(station)))
    }

    /// How long a station may be silent: as configured, or longer if it is one of few words.
    fn station_patience(&self, station: &Station) -> i64 {
        let limits = &self.config.thresholds;
        let expected = station.rhythm.expected().unwrap_or(0);
        stretched(expected, limits.silent_factor).max(ms(limits.station_silent))
    }

    /// Whether a station is away, as far as is known.
    pub(super) fn is_offline(&self, station: &Station) -> bool {
        let silent = self.ear.listened().saturating_sub(station.alive.listened);
        station.dead || silent >= self.station_patience(station)
    }

    /// Sets when a station is to be looked at next.
    pub(super) fn station_timer(&mut self, name: &StationId) {
        let due = self.stations.get(name).and_then(|station| {
            let due = station.conditions.iter().filter_map(|condition| condition.due);
            due.chain(self.station_silent_at(name, station)).min()
        });
        self.timers.set(Key::Station(name.clone()), due);
    }

    /// Sets all moments anew, after a start.
    pub(super) fn all_timers(&mut self) {
        let devices: Vec<_> = self.devices.keys().copied().collect();
        let stations: Vec<_> = self.stations.keys().cloned().collect();
        devices.into_iter().for_each(|imei| self.device_timer(imei));
        stations.iter().for_each(|name| self.station_timer(name));
    }

    /// Ends alarms that the configuration has no rule for any more.
    pub(crate) fn reconcile(&mut self) {
        let Self { devices, stations, config, sites, ear, next_event, out, changed, bytes, .. } =
            self;
        let mut emit = Emit { config, sites, ear: *ear, next_event, out };
        // In an order that does not depend on the maps.
        let mut all: Vec<_> = devices.iter_mut().collect();
        all.sort_unstable_by_key(|(imei, _)| **imei);
        for (imei, device) in all {
            let place = sites.get(&device.station);
            let kind = Some(device.kind);
            let off = |rule| !config.applies(rule, kind, place);
            if device.conditions.iter().any(|it| off(it.rule)) {
                *bytes -= state::bytes(&device.conditions);
                for it in device.conditions.iter_mut().filter(|it| off(it.rule)) {
                    emit.end_all(std::slice::from_mut(it), ClearedBy::RuleOff);
                    it.causes = 0;
                    it.due = None;
                }
                device.conditions.retain(|it| !it.is_idle());
                *bytes += state::bytes(&device.conditions);
                changed.devices.insert(*imei);
            }
        }
        let mut all: Vec<_> = stations.iter_mut().collect();
        all.sort_unstable_by(|a, b| a.0.cmp(b.0));
        for (name, station) in all {
            let off = !config.applies(Rule::StationOffline, None, sites.get(name));
            if off && !station.conditions.is_empty() {
                *bytes -= state::bytes(&station.conditions);
                emit.end_all(&mut station.conditions, ClearedBy::RuleOff);
                station.conditions.clear();
                *bytes += state::bytes(&station.conditions);
                changed.stations.insert(name.clone());
            }
        }
        self.all_timers();
    }
}
