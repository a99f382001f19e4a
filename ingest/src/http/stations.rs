//! `/api/v1/stations`: every station, and one with all that is known of it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use loushan_schemas::field::Value as FieldValue;
use loushan_schemas::ids::StationId;
use loushan_schemas::row::Row;
use serde_json::{Map, Value, json};

use super::App;
use super::api::{ask, unstored};
use super::auth::Reader;
use super::commands::station_id;
use super::error::ApiError;
use super::params::Params;
use super::view::View;
use crate::live::{Batch, Live, Scope, state_of};
use crate::registry::{Registry, Station, Today};

/// Readings of a batch that are shown.
const READINGS: usize = 20;
/// Bytes of a payload that are shown.
const HEAD: usize = 256;

/// `GET /api/v1/stations`.
pub(super) async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let scope = caller.scope().clone();
    let stations = ask(&app, move |view| Ok(list_of(view, &scope))).await?;
    Ok(Json(json!({ "stations": stations })))
}

/// The stations that are in scope, by name.
pub(super) fn list_of(view: &dyn View, scope: &Scope) -> Vec<Value> {
    let Some((registry, now_ms)) = view.registry() else { return Vec::new() };
    let stations = registry.stations();
    let mine = stations.iter().filter(|station| scope.covers(project_of(station)));
    mine.map(|station| brief(station, view.live().map(|live| &**live), now_ms)).collect()
}

fn project_of(station: &Station) -> Option<&str> {
    station.site.as_ref().map(|site| site.project.as_str())
}

/// A station as a list has it.
fn brief(station: &Station, live: Option<&Live>, now_ms: i64) -> Value {
    let site = station.site.as_ref();
    json!({
        "station": station.station.as_str(),
        "region": station.region.as_str(),
        "registered": site.is_some(),
        "project": site.map(|site| &site.project),
        "name": site.map(|site| &site.name),
        "lat": site.map(|site| site.lat),
        "lon": site.map(|site| site.lon),
        "area": site.map(|site| &site.area),
        "online": station.online,
        "state": state_of(station, now_ms).as_str(),
        "rate": live.map(|live| live.rate(&station.station)),
        "session": station.session,
        "firmware": (!station.firmware.is_empty()).then_some(&station.firmware),
        "last_received_ms": station.last_heard.map(|time| time.ms()),
        "readings": station.readings,
        "duplicates": station.duplicates,
        "rejected": station.rejected,
    })
}

/// `GET /api/v1/stations/{station}`.
pub(super) async fn one(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(station): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let id = station_id(&station)?;
    let scope = caller.scope().clone();
    let named = id.clone();
    let found = ask(&app, move |view| {
        let Some((registry, now_ms)) = view.registry() else { return Ok(None) };
        let known = registry.station(&named).filter(|it| scope.covers(project_of(it)));
        Ok(known.map(|station| whole(view, &registry, &station, now_ms)))
    });
    let none = || ApiError::new(StatusCode::NOT_FOUND, format!("nobody knows a station {id}"));
    Ok(Json(found.await?.ok_or_else(none)?))
}

fn whole(view: &dyn View, registry: &Registry, station: &Station, now_ms: i64) -> Value {
    let live = view.live().map(|live| &**live);
    let id = &station.station;
    let batches = live.map(|live| live.batches(id)).unwrap_or_default();
    let (readings, bytes) = live.map(|live| live.traffic(id)).unwrap_or_default();
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    let mut radio = Radio::default();
    registry.each_latest(&|row| row.station == *id, &mut |row| {
        *kinds.entry(row.reading.kind().as_str()).or_default() += 1;
        radio.add(&row);
        std::ops::ControlFlow::Continue(())
    });
    let today = station.today.on(Today::day_of(now_ms));
    let state_ms = station.state_time.map(|time| time.ms());
    let total: u64 = kinds.values().sum();
    json!({
        "station": brief(station, live, now_ms),
        "born_or_died_ms": state_ms,
        "last_will": (station.online == Some(false)).then(|| json!({ "at_ms": state_ms })),
        "connected": view.is_connected(id.as_str()),
        "clock_skew_ms": skew(&batches),
        "radio": radio.json(),
        "status": station.status.as_deref().map(unstored),
        "traffic": { "step_ms": 1000, "readings": readings, "bytes": bytes },
        "kinds": kinds,
        "today": { "day": Today::date(today.day), "readings": today.readings, "bytes": today.bytes },
        "devices": { "total": total, "url": format!("/api/v1/devices?station={id}") },
        "batches": batches.iter().map(shown).collect::<Vec<_>>(),
    })
}

/// A batch as it came, and what was made of it.
fn shown(batch: &Batch) -> Value {
    let head = batch.payload.get(..HEAD).unwrap_or(&batch.payload);
    let rejects: Vec<Value> = batch
        .rejects
        .iter()
        .take(READINGS)
        .map(|reject| json!({ "reason": reject.reason.as_str(), "reading": reject.reading }))
        .collect();
    json!({
        "lsn": batch.lsn,
        "received_ms": batch.received.ms(),
        "topic": &*batch.topic,
        "bytes": batch.payload.len(),
        "payload_hex": hex(head),
        "cut": head.len() < batch.payload.len(),
        "readings": batch.rows.iter().take(READINGS).map(unstored).collect::<Vec<_>>(),
        "accepted": batch.rows.len(),
        "duplicate": batch.duplicates,
        "rejects": rejects,
    })
}

/// Bytes as pairs of digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(digit).collect()
}

fn digit(nibble: u8) -> Option<char> {
    char::from_digit(nibble.into(), 16)
}

/// How long after the station had heard readings they were received here, of what came live. A clock
/// that is wrong shows in it.
fn skew(batches: &[Batch]) -> Value {
    let live = batches.iter().flat_map(|batch| &batch.rows).filter(|row| !row.replay);
    let mut ms: Vec<i64> = live
        .filter_map(|row| {
            let times = &row.reading.times;
            Some(times.received.ms() - times.heard?.ms())
        })
        .collect();
    ms.sort_unstable();
    let at = |percent: usize| ms.get((ms.len() * percent / 100).min(ms.len().saturating_sub(1)));
    match (at(50), at(95)) {
        (Some(p50), Some(p95)) => json!({ "p50": p50, "p95": p95, "n": ms.len() }),
        _ => Value::Null,
    }
}

/// Levels of the radio of a station's devices, by their latest readings.
#[derive(Default)]
struct Radio {
    levels: BTreeMap<&'static str, Level>,
    ce: BTreeMap<i64, u64>,
}

#[derive(Default)]
struct Level {
    n: u32,
    sum: f64,
    min: f64,
    max: f64,
}

impl Radio {
    fn add(&mut self, row: &Row) {
        row.reading.visit(|field, value| match (field.name, value) {
            ("nrsrp_dbm" | "nrsrq_db" | "sinr_db", FieldValue::Float(value)) => {
                let level = self.levels.entry(field.name).or_default();
                let first = level.n == 0;
                level.n += 1;
                level.sum += value;
                level.min = if first { value } else { level.min.min(value) };
                level.max = if first { value } else { level.max.max(value) };
            }
            ("ce_level", FieldValue::Int(value)) => *self.ce.entry(value).or_default() += 1,
            _ => {}
        });
    }

    fn json(&self) -> Value {
        let mut radio = Map::new();
        for name in ["nrsrp_dbm", "nrsrq_db", "sinr_db"] {
            let level = self.levels.get(name).map(|level| {
                let mean = level.sum / f64::from(level.n);
                json!({ "min": level.min, "mean": mean, "max": level.max, "n": level.n })
            });
            radio.insert(name.to_owned(), level.unwrap_or_default());
        }
        let ce = self.ce.iter().map(|(level, n)| (level.to_string(), json!(n)));
        radio.insert("ce_level".to_owned(), Value::Object(ce.collect()));
        Value::Object(radio)
    }
}

/// A station's name in a path, if whoever asks may know of it.
pub(super) fn seen_by(scope: &Scope, registry: &Registry, station: &StationId) -> bool {
    match scope {
        Scope::City => true,
        Scope::Project(own) => registry.project_of(station).as_deref() == Some(own),
    }
}
