//! `/api/v1/kinds`: how all devices of a kind are now, by their latest readings.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use loushan_schemas::kind::Kind;
use loushan_schemas::reading::{
    Body, ELEVATOR_MODE, PARKING_STATE, SMOKE_STATE, WATER_ALARM, WATER_VALVE,
};
use loushan_schemas::row::Row;
use serde_json::{Map, Value, json};

use super::App;
use super::api::ask;
use super::auth::Reader;
use super::devices::{Sites, brief};
use super::error::ApiError;
use super::params::Params;
use super::view::View;
use crate::ask::Place;
use crate::live::Scope;
use crate::sink::embedded::{Aggregate, Bins, Bounds, By, Function, Stop, Which};

/// Devices that are named because something is the matter with them.
const NOTEWORTHY: usize = 100;
const HOUR_MS: i64 = 3_600_000;
/// Hours of water that are told.
const HOURS: i64 = 24;
/// Watts below which a lamp that is to be lit is not (DOMAIN 4: it draws about nothing).
const DARK_W: f64 = 1.0;

/// `GET /api/v1/kinds`.
pub(super) async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&["project"])?;
    let project = wanted_project(caller.scope(), &params)?;
    let kinds = ask(&app, move |view| Ok(all_of(view, project.as_deref())));
    Ok(Json(json!({ "kinds": kinds.await? })))
}

/// The project that is asked about: the one that is named, or the only one that may be.
pub(super) fn wanted_project(scope: &Scope, params: &Params) -> Result<Option<String>, ApiError> {
    match (scope.project(), params.get("project")) {
        (None, named) => Ok(named.map(str::to_owned)),
        (Some(own), None) => Ok(Some(own.to_owned())),
        (Some(own), Some(named)) if own == named => Ok(Some(own.to_owned())),
        (Some(own), Some(named)) => {
            let error = "this project is not yours to see";
            Err(ApiError::parameter("project", Some(named), error, own))
        }
    }
}

/// All kinds, of one project or of all.
pub(super) fn all_of(view: &dyn View, project: Option<&str>) -> Vec<Value> {
    let mut kinds: BTreeMap<Kind, Summary> =
        devices_kinds().map(|kind| (kind, Summary::default())).collect();
    each(view, project, &|_| true, &mut |row, _, _| {
        kinds.entry(row.reading.kind()).or_default().add(row);
    });
    kinds.iter().map(|(kind, summary)| summary.json(*kind)).collect()
}

/// The kinds that devices are of.
fn devices_kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::StationStatus)
}

/// Hands over the latest readings of devices, of one project or of all.
fn each(
    view: &dyn View,
    project: Option<&str>,
    wanted: &dyn Fn(&Row) -> bool,
    give: &mut dyn FnMut(&Row, &Sites, i64),
) {
    let Some((registry, now_ms)) = view.registry() else { return };
    let sites = Sites::of(&registry);
    let mine = |row: &Row| {
        wanted(row) && project.is_none_or(|own| sites.project(&row.station) == Some(own))
    };
    registry.each_latest(&mine, &mut |row| {
        give(&row, &sites, now_ms);
        ControlFlow::Continue(())
    });
}

/// `GET /api/v1/kinds/{kind}`.
pub(super) async fn one(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(kind): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&["project"])?;
    let words: Vec<&str> = devices_kinds().map(Kind::as_str).collect();
    let known = Kind::from_text(&kind).filter(|kind| *kind != Kind::StationStatus);
    let of = known.ok_or_else(|| {
        ApiError::new(axum::http::StatusCode::NOT_FOUND, "there are no devices of this kind")
            .accepting(words.join(", "))
    })?;
    let project = wanted_project(caller.scope(), &params)?;
    let named = project.clone();
    let mut told = ask(&app, move |view| Ok(whole(view, of, named.as_deref()))).await?;
    if of == Kind::Water
        && let Some(told) = told.as_object_mut()
    {
        told.insert("hours".to_owned(), hours(&app, project).await?);
    }
    Ok(Json(told))
}

fn whole(view: &dyn View, kind: Kind, project: Option<&str>) -> Value {
    let mut summary = Summary::default();
    let mut areas: BTreeMap<String, Summary> = BTreeMap::new();
    let mut noteworthy = Vec::new();
    each(view, project, &|row| row.reading.kind() == kind, &mut |row, sites, now_ms| {
        summary.add(row);
        let area = sites.get(&row.station).map_or("", |site| site.area.as_str());
        match areas.get_mut(area) {
            Some(area) => area.add(row),
            None => areas.entry(area.to_owned()).or_default().add(row),
        }
        if noteworthy.len() < NOTEWORTHY
            && let Some(why) = why(row)
        {
            let mut device = brief(row, sites, now_ms);
            if let Some(device) = device.as_object_mut() {
                device.insert("why".to_owned(), why.into());
            }
            noteworthy.push(device);
        }
    });
    let areas: Vec<Value> = areas
        .iter()
        .map(|(area, of)| {
            let area = Some(area).filter(|area| !area.is_empty());
            json!({ "area": area, "devices": of.devices, "states": of.states(kind) })
        })
        .collect();
    json!({ "summary": summary.json(kind), "areas": areas, "noteworthy": noteworthy })
}

/// How many are how.
#[derive(Debug, Default)]
struct Summary {
    devices: u64,
    states: BTreeMap<&'static str, u64>,
    flags: BTreeMap<&'static str, u64>,
    /// By quality, from 1.
    quality: [u64; 4],
}

impl Summary {
    fn add(&mut self, row: &Row) {
        self.devices += 1;
        if let Some(state) = condition_of(row) {
            *self.states.entry(state).or_default() += 1;
        }
        for flag in flags(row) {
            *self.flags.entry(flag).or_default() += 1;
        }
        let quality = usize::from(row.reading.quality.number().saturating_sub(1));
        if let Some(count) = self.quality.get_mut(quality) {
            *count += 1;
        }
    }

    /// With the states that nobody is in, so that a page has the same rows always.
    fn states(&self, kind: Kind) -> Map<String, Value> {
        let mut states: Map<String, Value> =
            conditions(kind).iter().map(|word| ((*word).to_owned(), json!(0))).collect();
        states.extend(self.states.iter().map(|(word, n)| ((*word).to_owned(), json!(n))));
        states
    }

    fn json(&self, kind: Kind) -> Value {
        let quality: Map<String, Value> = (1..=4)
            .zip(self.quality)
            .map(|(number, n)| (i32::to_string(&number), json!(n)))
            .collect();
        json!({
            "kind": kind.as_str(),
            "devices": self.devices,
            "states": self.states(kind),
            "flags": self.flags,
            "quality": quality,
        })
    }
}

/// The conditions that devices of a kind are told by.
const fn conditions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Parking => &["free", "occupied", "unknown"],
        Kind::StreetLight => &["on", "off", "failed"],
        Kind::Smoke => &["normal", "alarm", "muted", "fault", "test", "removed"],
        Kind::Elevator => &["in_service", "out_of_service", "fault", "entrapment"],
        Kind::Water => &["normal", "leak", "burst", "backflow"],
        Kind::StationStatus => &[],
    }
}

/// The one word that says most of a device's latest reading: what it says of itself.
pub(super) fn state_of(row: &Row) -> Option<&'static str> {
    match &row.reading.body {
        Body::Elevator(lift) => lift.mode.and_then(|mode| ELEVATOR_MODE.word(mode)),
        Body::Water(meter) => meter.valve.and_then(|valve| WATER_VALVE.word(valve)),
        _ => condition_of(row),
    }
}

/// In which of [`conditions`] a device is; `None` where it does not say.
fn condition_of(row: &Row) -> Option<&'static str> {
    match &row.reading.body {
        Body::Parking(space) => space.state.and_then(|state| PARKING_STATE.word(state)),
        Body::StreetLight(light) => {
            let commanded = light.dim_command_pct.or(light.dim_pct);
            let lit = light.power_w.map(|watts| watts >= DARK_W);
            match (commanded.map(|pct| pct > 0.0), lit) {
                (Some(true), Some(false)) => Some("failed"),
                (_, Some(true)) | (Some(true), None) => Some("on"),
                (_, Some(false)) | (Some(false), None) => Some("off"),
                (None, None) => None,
            }
        }
        Body::Smoke(detector) => detector.state.and_then(|state| SMOKE_STATE.word(state)),
        Body::Elevator(lift) if lift.entrapment == Some(true) => Some("entrapment"),
        Body::Elevator(lift) if !lift.faults.is_empty() => Some("fault"),
        Body::Elevator(lift) => match ELEVATOR_MODE.word(lift.mode?)? {
            "out_of_service" | "inspection" | "earthquake" => Some("out_of_service"),
            _ => Some("in_service"),
        },
        // The worst that it reports.
        Body::Water(meter) => {
            let words: Vec<&str> =
                meter.alarms.iter().filter_map(|alarm| WATER_ALARM.word(*alarm)).collect();
            let worst = ["burst", "leak", "backflow"].into_iter().find(|it| words.contains(it));
            Some(worst.or(words.first().copied()).unwrap_or("normal"))
        }
        Body::StationStatus(_) => None,
    }
}

/// What a device says is the matter with it beside its condition.
fn flags(row: &Row) -> Vec<&'static str> {
    let set = |flags: &[(&'static str, Option<bool>)]| {
        flags.iter().filter(|(_, is)| *is == Some(true)).map(|(word, _)| *word).collect()
    };
    match &row.reading.body {
        Body::Parking(it) => {
            set(&[("tamper", it.tamper), ("covered", it.covered), ("fault", it.fault)])
        }
        Body::StreetLight(it) => set(&[("faults", Some(!it.faults.is_empty()))]),
        Body::Smoke(it) => set(&[("removed", it.removed), ("low_battery", it.low_battery)]),
        Body::Elevator(it) => set(&[("occupied", it.occupied), ("entrapment", it.entrapment)]),
        Body::Water(it) => it.alarms.iter().filter_map(|alarm| WATER_ALARM.word(*alarm)).collect(),
        Body::StationStatus(_) => Vec::new(),
    }
}

/// Why somebody should look at a device, if somebody should.
fn why(row: &Row) -> Option<&'static str> {
    let well = ["free", "occupied", "on", "off", "normal", "test", "in_service"];
    let condition = condition_of(row).filter(|condition| !well.contains(condition));
    condition.or_else(|| flags(row).into_iter().find(|flag| *flag != "occupied"))
}

/// Litres by hour of the last day, of one project or of all. It reads the store: in turns with other
/// questions that read much, and as long as they may take.
async fn hours(app: &App, project: Option<String>) -> Result<Value, ApiError> {
    let Some(place) = app.view.place() else { return Ok(json!([])) };
    let now_ms = place.now_ms;
    let begin = (now_ms.div_euclid(HOUR_MS) + 1 - HOURS) * HOUR_MS;
    let busy = || {
        let error = "too many questions at a time";
        ApiError::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, error).retry_soon()
    };
    let waited = Arc::clone(&app.heavy).acquire_owned();
    let permit = tokio::time::timeout(app.query.timeout, waited).await;
    let permit = permit.ok().and_then(Result::ok).ok_or_else(busy)?;
    let stop = Stop::default();
    let turns = Some(Arc::clone(&app.turns));
    let bounds = Bounds { stop: stop.clone(), memory: app.query.memory, turns };
    let view = Arc::clone(&app.view);
    let work = tokio::task::spawn_blocking(move || {
        let litres = litres(&place, project.as_deref(), begin, now_ms, &bounds);
        drop(permit);
        litres.inspect_err(|error| view.note(error))
    });
    let ended = StopOnDrop(stop);
    let litres = match tokio::time::timeout(app.query.timeout, work).await {
        Ok(done) => done.map_err(|e| ApiError::internal("the hours could not be told", &e))?,
        // The device's page is of more use without the hours than not at all.
        Err(_) => return Ok(json!([])),
    };
    drop(ended);
    let litres = litres.map_err(|e| ApiError::internal("the store could not be read", &e))?;
    let hour = |at: i64| {
        let from_ms = begin + at * HOUR_MS;
        json!({ "from_ms": from_ms, "litres": litres.get(&from_ms) })
    };
    Ok((0..HOURS).map(hour).collect())
}

/// A question that nobody waits for any more ends.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn litres(
    place: &Place,
    project: Option<&str>,
    begin: i64,
    now_ms: i64,
    bounds: &Bounds,
) -> Result<BTreeMap<i64, f64>, crate::sink::embedded::QueryError> {
    let among = match (project, &place.registry) {
        (None, _) => None,
        (Some(project), Some(registry)) => Some(registry.stations_of(project)),
        (Some(_), None) => Some(Arc::default()),
    };
    let question = Aggregate {
        which: Which {
            kind: Some(Kind::Water),
            among,
            from_ms: begin,
            to_ms: now_ms,
            ..Which::default()
        },
        field: "total_l",
        functions: vec![Function::Increase],
        bins: Some(Bins::new(HOUR_MS, 0)),
        by: By::Nothing,
        per_ms: 1000,
    };
    let answer = place.store.aggregate(&question, bounds)?;
    let cells = answer.cells.iter();
    Ok(cells.filter_map(|cell| Some((cell.start_ms, cell.values.first().copied()??))).collect())
}

#[cfg(test)]
mod tests {
    use loushan_schemas::reading::{Elevator, StreetLight, Water};

    use super::*;
    use crate::sink::embedded::tests::support::row;

    fn with(kind: Kind, body: Body) -> Row {
        let mut row = row(kind, 1, 1, 0);
        row.reading.body = body;
        row
    }

    #[test]
    fn a_lamp_that_is_to_be_lit_and_draws_nothing_has_failed() {
        let lamp = |dim_command_pct, power_w| {
            let light = StreetLight { dim_command_pct, power_w, ..StreetLight::default() };
            condition_of(&with(Kind::StreetLight, Body::StreetLight(light)))
        };
        assert_eq!(lamp(Some(80.0), Some(0.0)), Some("failed"));
        assert_eq!(lamp(Some(80.0), Some(60.0)), Some("on"));
        assert_eq!(lamp(Some(0.0), Some(0.2)), Some("off"));
        assert_eq!(lamp(None, Some(60.0)), Some("on"));
        assert_eq!(lamp(Some(50.0), None), Some("on"));
        assert_eq!(lamp(None, None), None);
    }

    #[test]
    fn the_worst_that_is_reported_is_what_is_told() {
        let meter = |alarms| {
            let water = Water { alarms, ..Water::default() };
            condition_of(&with(Kind::Water, Body::Water(water)))
        };
        assert_eq!(meter(vec![]), Some("normal"));
        assert_eq!(meter(vec![1, 2]), Some("burst"));
        assert_eq!(meter(vec![3, 5]), Some("backflow"));
        assert_eq!(meter(vec![7]), Some("frost"));
        let lift = |mode, faults, entrapment| {
            let lift = Elevator { mode, faults, entrapment, ..Elevator::default() };
            let row = with(Kind::Elevator, Body::Elevator(lift));
            (condition_of(&row), why(&row))
        };
        assert_eq!(lift(Some(1), vec![2], Some(true)), (Some("entrapment"), Some("entrapment")));
        assert_eq!(lift(Some(1), vec![2], None), (Some("fault"), Some("fault")));
        assert_eq!(lift(Some(10), vec![], None), (Some("out_of_service"), Some("out_of_service")));
        assert_eq!(lift(Some(1), vec![], Some(false)), (Some("in_service"), None));
    }
}
