//! `/api/v1/devices`: the devices that are known, and one with the journey of its newest reading.
//!
//! A list has what the registry knows, which is bounded in bytes: of a device that was silent for very
//! long the store still has the history, and `/api/v1/devices/{imei}` finds it there.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use hashbrown::HashMap;
use loushan_schemas::field::{Field, FieldType, Value as FieldValue};
use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::label;
use loushan_schemas::model::Model;
use loushan_schemas::row::Row;
use serde_json::{Map, Value, json};

use super::App;
use super::api::{ask, imei, unstored};
use super::auth::Reader;
use super::commands::station_id;
use super::error::ApiError;
use super::kinds;
use super::params::Params;
use super::view::View;
use crate::live::Scope;
use crate::registry::{Registry, Site};

/// Devices of a page at most, and when nothing is said.
const PAGE: u64 = 1000;
const PAGE_DEFAULT: u64 = 100;

/// Which devices.
#[derive(Debug, Default)]
struct Filter {
    station: Option<StationId>,
    kind: Option<Kind>,
    project: Option<String>,
    area: Option<String>,
    /// A part of the IMEI.
    q: Option<String>,
}

/// Where stations stand, looked up once for a list.
pub(super) struct Sites(HashMap<StationId, Arc<Site>>);

impl Sites {
    pub(super) fn of(registry: &Registry) -> Self {
        let mut sites = HashMap::new();
        registry.each_station(&mut |station| {
            if let Some(site) = &station.site {
                sites.insert(station.station.clone(), Arc::new(site.clone()));
            }
        });
        Self(sites)
    }

    pub(super) fn get(&self, station: &StationId) -> Option<&Site> {
        self.0.get(station).map(|site| &**site)
    }

    pub(super) fn project(&self, station: &StationId) -> Option<&str> {
        self.get(station).map(|site| site.project.as_str())
    }
}

impl Filter {
    fn takes(&self, row: &Row, sites: &Sites) -> bool {
        let site = sites.get(&row.station);
        let is = |wanted: &Option<String>, of: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| of == Some(wanted))
        };
        self.station.as_ref().is_none_or(|station| row.station == *station)
            && self.kind.is_none_or(|kind| row.reading.kind() == kind)
            && is(&self.project, site.map(|site| &site.project))
            && is(&self.area, site.map(|site| &site.area))
            && self.q.as_ref().is_none_or(|q| {
                row.reading.imei.is_some_and(|imei| imei.to_string().contains(q.as_str()))
            })
    }
}

/// `GET /api/v1/devices`.
pub(super) async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&["station", "kind", "project", "area", "q", "limit", "after"])?;
    let text = |name| params.get(name).map(str::to_owned);
    let q = text("q");
    if let Some(q) = q.as_deref().filter(|q| !q.bytes().all(|b| b.is_ascii_digit())) {
        let error = "this is no part of an IMEI";
        return Err(ApiError::parameter("q", Some(q), error, "digits"));
    }
    let filter = Filter {
        station: params.get("station").map(station_id).transpose()?,
        kind: params.kind()?,
        project: text("project"),
        area: text("area"),
        q,
    };
    let limit = params.number("limit", 1..=PAGE, PAGE_DEFAULT)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let after = params.get("after").map(|text| imei("after", text)).transpose()?;
    let scope = caller.scope().clone();
    let page = ask(&app, move |view| Ok(page(view, &scope, &filter, limit, after)));
    Ok(Json(page.await?))
}

fn page(
    view: &dyn View,
    scope: &Scope,
    filter: &Filter,
    limit: usize,
    after: Option<Imei>,
) -> Value {
    let (mut devices, mut total, mut next) = (Vec::new(), 0_u64, None::<String>);
    if let Some((registry, now_ms)) = view.registry() {
        let sites = Sites::of(&registry);
        let wanted =
            |row: &Row| scope.covers(sites.project(&row.station)) && filter.takes(row, &sites);
        let mut last = None;
        registry.each_latest(&wanted, &mut |row| {
            total += 1;
            if after.is_none_or(|after| row.reading.imei > Some(after)) {
                if devices.len() < limit {
                    devices.push(brief(&row, &sites, now_ms));
                    last = row.reading.imei;
                } else if next.is_none() {
                    next = last.map(|imei| imei.to_string());
                }
            }
            ControlFlow::Continue(())
        });
    }
    json!({ "devices": devices, "next": next, "total": total })
}

/// A device as a list has it.
pub(super) fn brief(row: &Row, sites: &Sites, now_ms: i64) -> Value {
    let reading = &row.reading;
    let site = sites.get(&row.station);
    let (effective_ms, received_ms) = (reading.times.effective.ms(), reading.times.received.ms());
    #[allow(clippy::cast_precision_loss)] // of an age
    let age_s = (now_ms - received_ms).max(0) as f64 / 1000.0;
    json!({
        "imei": reading.imei.map(|imei| imei.to_string()),
        "kind": reading.kind().as_str(),
        "station": row.station.as_str(),
        "project": site.map(|site| &site.project),
        "area": site.map(|site| &site.area),
        "effective_ms": effective_ms,
        "received_ms": received_ms,
        "age_s": age_s,
        "quality": reading.quality.number(),
        "reason": reading.reason.map(|reason| reason.as_str()),
        "state": kinds::state_of(row),
        "battery_pct": reading.common.battery_pct,
    })
}

/// `GET /api/v1/devices/{imei}`.
pub(super) async fn one(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(device): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let device = imei("imei", &device)?;
    let scope = caller.scope().clone();
    let found = ask(&app, move |view| {
        let answer = view.latest(device)?;
        let Some(row) = answer.value else { return Ok(None) };
        let Some((registry, now_ms)) = view.registry() else { return Ok(None) };
        let sites = Sites::of(&registry);
        if !scope.covers(sites.project(&row.station)) {
            return Ok(None);
        }
        Ok(Some(whole(view, &row, &sites, now_ms, answer.as_of_lsn)))
    });
    found.await?.map(Json).ok_or_else(|| unknown(device))
}

/// Nothing is known of a device, or nothing that whoever asks may know.
pub(super) fn unknown(device: Imei) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("nothing is stored of device {device}"))
}

fn whole(view: &dyn View, row: &Row, sites: &Sites, now_ms: i64, as_of_lsn: u64) -> Value {
    let model = row.reading.common.model_id.and_then(|id| u32::try_from(id).ok());
    let model = model.map(|id| {
        let known = Model::ALL.iter().find(|model| model.id == id);
        json!({ "id": id, "name": known.map(|model| model.name) })
    });
    let site = sites.get(&row.station);
    json!({
        "device": brief(row, sites, now_ms),
        "model": model,
        "values": values(row),
        "reading": unstored(row),
        "site": site.map(|site| json!({ "name": site.name, "lat": site.lat, "lon": site.lon })),
        "journey": journey(view, row),
        "as_of_lsn": as_of_lsn,
    })
}

/// The values that a reading has, in the order of the field table.
fn values(row: &Row) -> Vec<Value> {
    let mut values = Vec::new();
    row.reading.visit(|field, value| {
        values.push(json!({
            "field": field.name,
            "value": shown(field, value),
            "unit": label::unit(field.name),
            "quality": quality(field, value),
        }));
    });
    values
}

/// A value as an export has it.
fn shown(field: &Field, value: FieldValue<'_>) -> Value {
    match (value, field.ty) {
        (FieldValue::Int(n), _) => n.into(),
        (FieldValue::Float(n), _) => n.into(),
        (FieldValue::Bool(yes), _) => yes.into(),
        (FieldValue::Enum(n), FieldType::Enum(table)) => {
            let mut word = String::new();
            table.write(n, &mut word);
            word.into()
        }
        (FieldValue::EnumList(list), FieldType::EnumList(table)) => {
            let word = |n: &i32| {
                let mut word = String::new();
                table.write(*n, &mut word);
                word
            };
            list.iter().map(word).collect::<Vec<_>>().into()
        }
        (FieldValue::Enum(n), _) => n.into(),
        (FieldValue::EnumList(list) | FieldValue::IntList(list), _) => list.into(),
    }
}

/// What the value's own ranges say of it.
fn quality(field: &Field, value: FieldValue<'_>) -> u8 {
    let Some(number) = value.as_number() else { return 4 };
    let outside = |range: Option<loushan_schemas::field::Range>| {
        range.is_some_and(|range| number < range.low || number > range.high)
    };
    match (outside(field.hard), outside(field.plausible)) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 4,
    }
}

/// From the device to the store, with the times that are known.
fn journey(view: &dyn View, row: &Row) -> Vec<Value> {
    let times = &row.reading.times;
    let live = view.live();
    let books = view.conservation();
    let embedded = books.sinks.iter().find(|sink| &*sink.name == "embedded");
    let place = match embedded {
        Some(sink) if sink.cursor >= row.lsn => "file",
        Some(sink) if sink.position >= row.lsn => "memory",
        _ => "on its way",
    };
    let stored_ms = live.and_then(|live| live.stored_ms(row.lsn));
    let measured = times.measured.map(|time| time.ms());
    let heard = times.heard.map(|time| time.ms());
    let durable_ms = live.and_then(|live| live.durable_ms(row.lsn));
    vec![
        json!({ "step": "measured", "at_ms": measured, "by": "device" }),
        json!({ "step": "heard", "at_ms": heard, "by": row.station.as_str() }),
        json!({ "step": "received", "at_ms": times.received.ms(), "by": "loushan" }),
        json!({ "step": "durable", "at_ms": durable_ms, "lsn": row.lsn }),
        json!({ "step": "stored", "at_ms": stored_ms, "where": place }),
    ]
}

/// The fields of a kind, for people: see [`super::fields`].
pub(super) fn labelled(label: Option<label::Label>) -> Value {
    label.map_or(Value::Null, |label| {
        let mut both = Map::new();
        both.insert("en".to_owned(), label.en.into());
        both.insert("zh".to_owned(), label.zh.into());
        Value::Object(both)
    })
}
