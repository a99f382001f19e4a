#![allow(clippy::unwrap_used)]

//! Histories written by hand, and random ones, replayed through the engine.

use bytes::Bytes;
use loushan_schemas::ids::{Region, StationId};
use loushan_schemas::pb;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Common, Reading, Smoke, TimeSource, Times};
use loushan_schemas::row::Row;
use loushan_schemas::time::{DeviceTime, ReceiveTime};
use prost::Message as _;

use super::*;
use crate::alarm::maintenance::{Daily, Maintenance, When};
use crate::alarm::model::ClearedBy;

mod clocks;
mod histories;
mod model;
mod silence;

/// 2026-03-01, midnight in the city.
pub(in crate::alarm) const T0: i64 = 1_772_323_200_000 - 8 * 3_600_000;
pub(in crate::alarm) const SECOND: i64 = 1000;
pub(in crate::alarm) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;

/// What a device says, and when.
#[derive(Debug, Clone)]
pub(in crate::alarm) struct Said {
    pub(in crate::alarm) station: &'static str,
    pub(in crate::alarm) channel: &'static str,
    pub(in crate::alarm) device: u64,
    pub(in crate::alarm) seq: u64,
    pub(in crate::alarm) effective: i64,
    pub(in crate::alarm) heard: i64,
    pub(in crate::alarm) received: i64,
    pub(in crate::alarm) body: Body,
    pub(in crate::alarm) battery: Option<f64>,
}

pub(super) fn imei(device: u64) -> Imei {
    Imei::from_body(86_777_000_000_000 + device)
}

/// A smoke detector's state.
pub(super) fn smoke(state: pb::smoke::State) -> Body {
    Body::Smoke(Smoke {
        state: Some(state as i32),
        removed: Some(false),
        low_battery: Some(false),
        ..Smoke::default()
    })
}

pub(in crate::alarm) fn alarm() -> Body {
    smoke(pb::smoke::State::Alarm)
}

pub(in crate::alarm) fn normal() -> Body {
    smoke(pb::smoke::State::Normal)
}

/// Said live at a moment, all clocks right.
pub(in crate::alarm) fn live(at: i64, seq: u64, body: Body) -> Said {
    Said {
        station: "bs1",
        channel: "u/t",
        device: 1,
        seq,
        effective: at,
        heard: at,
        received: at,
        body,
        battery: None,
    }
}

/// One batch; the first says where.
pub(in crate::alarm) fn batch(lsn: u64, all: &[Said]) -> DurableFrame {
    let first = &all[0];
    let rows = all.iter().map(|said| row(lsn, said)).collect();
    frame(lsn, first.station, first.channel, first.received, Bytes::new(), rows)
}

fn row(lsn: u64, said: &Said) -> Row {
    let time = |ms| DeviceTime::from_ms(ms).unwrap();
    Row {
        lsn,
        region: Region::new("xinpu").unwrap(),
        station: StationId::new(said.station).unwrap(),
        session: 1,
        batch_seq: said.seq,
        replay: said.channel == "u/h",
        reading: Reading {
            imei: Some(imei(said.device)),
            boot_epoch: 1,
            seq: said.seq,
            times: Times {
                measured: Some(time(said.effective)),
                heard: DeviceTime::from_ms(said.heard),
                received: ReceiveTime::from_ns(said.received * 1_000_000),
                effective: time(said.effective),
                source: TimeSource::Measured,
            },
            common: Common { battery_pct: said.battery, ..Common::default() },
            body: said.body.clone(),
            quality: Quality::Accepted,
            reason: None,
        },
    }
}

fn frame(
    lsn: u64,
    station: &str,
    channel: &str,
    at: i64,
    payload: Bytes,
    rows: Vec<Row>,
) -> DurableFrame {
    DurableFrame {
        lsn,
        received: ReceiveTime::from_ns(at * 1_000_000),
        topic: format!("nb1/xinpu/{station}/{channel}").into(),
        payload,
        rows,
        rejects: Vec::new(),
        duplicates: 0,
    }
}

/// An engine, and what came out of it.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) lsn: u64,
    pub(super) raised: Vec<Alarm>,
    /// Raised and cleared, in order, as `+rule` and `-rule`.
    pub(super) log: Vec<String>,
}

pub(in crate::alarm) fn config() -> AlarmConfig {
    let mut config = AlarmConfig::default();
    config.thresholds.start_grace = std::time::Duration::ZERO;
    config
}

/// Only the rules named.
pub(super) fn only(rules: &[Rule]) -> AlarmConfig {
    let mut config = config();
    for rule in Rule::ALL {
        config.policy_mut(*rule).unwrap().on = rules.contains(rule);
    }
    config
}

impl Bench {
    pub(super) fn new(config: AlarmConfig) -> Self {
        Self::on(config, Kept::default(), 0)
    }

    pub(super) fn on(config: AlarmConfig, kept: Kept, lsn: u64) -> Self {
        let engine = Engine::new(Arc::new(config), Arc::default(), kept);
        Self { engine, lsn, raised: Vec::new(), log: Vec::new() }
    }

    /// Time passes, listened to.
    pub(super) fn until(&mut self, to: i64) {
        while self.engine.ear.time < to && self.engine.ear.time != 0 {
            let next = (self.engine.ear.time + 30 * SECOND).min(to);
            self.engine.advance(next);
        }
        self.engine.advance(to);
        self.take();
    }

    pub(super) fn say(&mut self, said: &Said) {
        self.say_all(std::slice::from_ref(said));
    }

    /// One batch; the first says where.
    pub(super) fn say_all(&mut self, all: &[Said]) {
        let first = &all[0];
        if self.engine.ear.time != 0 && first.received > self.engine.ear.time {
            self.until(first.received);
        }
        self.lsn += 1;
        self.engine.apply(&batch(self.lsn, all));
        self.take();
    }

    /// A station's birth or death.
    pub(super) fn state(&mut self, at: i64, station: &str, session: u32, online: bool) {
        self.until(at);
        self.lsn += 1;
        let state = pb::StationState {
            session,
            online,
            time_ms: u64::try_from(at).unwrap(),
            schema_major: 1,
            firmware: String::new(),
        };
        let payload = Bytes::from(state.encode_to_vec());
        self.engine.apply(&frame(self.lsn, station, "state", at, payload, Vec::new()));
        self.take();
    }

    pub(super) fn take(&mut self) {
        for out in self.engine.take_out() {
            match out {
                Out::Raised(alarm) => {
                    self.log.push(format!("+{}", alarm.rule));
                    self.raised.push(alarm);
                }
                Out::Cleared { alarm, cleared, .. } => {
                    let of = self.raised.iter_mut().find(|it| it.number == alarm).unwrap();
                    assert_eq!(of.cleared, None, "cleared twice");
                    of.cleared = Some(cleared);
                    self.log.push(format!("-{}", of.rule));
                }
            }
        }
    }

    /// What a crash leaves: all of it is as it was kept.
    pub(super) fn crash(self, config: AlarmConfig) -> Self {
        let Self { engine, lsn, raised, log } = self;
        let device =
            |(imei, device): (&Imei, &Device)| (*imei, Device::decode(&device.encode()).unwrap());
        let station = |(name, it): (&StationId, &Station)| {
            (name.clone(), Station::decode(&it.encode()).unwrap())
        };
        let kept = Kept {
            ear: engine.ear,
            next_event: engine.next_event,
            devices: engine.devices.iter().map(device).collect(),
            stations: engine.stations.iter().map(station).collect(),
        };
        Self { raised, log, ..Self::on(config, kept, lsn) }
    }
}
