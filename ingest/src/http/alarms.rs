//! `/api/v1/alarms`: what somebody must know of.
//!
//! Lists are newest first. A page ends with `next`, which is the next one's `after`. To acknowledge is for
//! admins, as is whatever changes something: an operator watches. Who holds the shared `admin.token` says
//! their name by `by`. A project's reader is shown that project's.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use loushan_schemas::ids::{Imei, StationId};
use serde_json::{Value, json};

use super::App;
use super::api::ask;
use super::auth::{ADMIN_TOKEN_FILE, Admin, Reader};
use super::error::ApiError;
use super::params::Params;
use super::routes::Routes;
use crate::alarm::{
    AckError, Alarm, AlarmState, Alarms, Filter, MAX_NAME, MAX_NOTE, Rule, Severity,
};
use crate::live::Scope;

/// Parameters that say which alarms.
const FILTER: [&str; 11] = [
    "state",
    "severity",
    "rule",
    "kind",
    "station",
    "device",
    "project",
    "area",
    "acknowledged",
    "shown",
    "q",
];
/// Alarms of a page at most, and when nothing is said.
const MAX_LIMIT: u64 = 1000;
const LIMIT: u64 = 100;
/// The columns of a CSV export.
const COLUMNS: [&str; 20] = [
    "id",
    "rule",
    "severity",
    "state",
    "region",
    "station",
    "imei",
    "kind",
    "project",
    "area",
    "why",
    "lsn",
    "raised_ms",
    "effective_ms",
    "late",
    "cleared_ms",
    "cleared_by",
    "acknowledged_by",
    "acknowledged_ms",
    "note",
];

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/alarms", list)
        .get("/api/v1/alarms/export", export)
        .get("/api/v1/alarms/{id}", one)
        .post("/api/v1/alarms/{id}/acknowledge", acknowledge)
}

fn alarms(app: &App) -> Result<Alarms, ApiError> {
    app.view.alarms().cloned().ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "there are no alarms here: alarms.enabled is false")
    })
}

async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let known: Vec<&str> = FILTER.into_iter().chain(["limit", "after"]).collect();
    params.only(&known)?;
    let filter = filter(&params, caller.scope())?;
    let limit = params.number("limit", 1..=MAX_LIMIT, LIMIT)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let after = match params.get("after") {
        None => None,
        Some(_) => Some(params.number("after", 1..=u64::MAX, 0)?),
    };
    let alarms = alarms(&app)?;
    let (page, counts) = ask(&app, move |_| {
        Ok((alarms.list(&filter, limit, after), alarms.counts(filter.project.as_deref())))
    })
    .await?;
    Ok(Json(json!({
        "alarms": page.alarms.iter().map(|alarm| alarm.to_json()).collect::<Vec<_>>(),
        "next": page.next,
        "total": page.total,
        "counts": {
            "critical": counts.critical,
            "major": counts.major,
            "minor": counts.minor,
            "unacknowledged": counts.unacknowledged,
        },
    })))
}

async fn one(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let alarm = alarms(&app)?.get(&id);
    let alarm = alarm.filter(|alarm| caller.scope().covers(alarm.project.as_deref()));
    let alarm = alarm.ok_or_else(unknown)?;
    Ok(Json(alarm.to_json()))
}

async fn acknowledge(
    State(app): State<App>,
    Path(id): Path<String>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Json<Value>, ApiError> {
    params.only(&["by", "note"])?;
    let by = match (&caller.name, bounded(&params, "by", MAX_NAME)?) {
        // Whoever has a name of their own cannot sign with another's.
        (Some(name), Some(by)) if **name != *ADMIN_TOKEN_FILE && **name != *by => {
            let accepted = format!("{name}, or nothing");
            let error = "you are asking under another name";
            return Err(ApiError::parameter("by", Some(&by), error, accepted));
        }
        (_, Some(by)) => by,
        (Some(name), None) => name.to_string(),
        (None, None) => return Err(ApiError::parameter("by", None, "it is missing", "a name")),
    };
    let note = bounded(&params, "note", MAX_NOTE)?;
    tracing::info!(by, id, "an alarm is acknowledged");
    let alarms = alarms(&app)?;
    let done = ask(&app, move |_| Ok(alarms.acknowledge(&id, by, note))).await?;
    match done {
        Ok(alarm) => Ok(Json(alarm.to_json())),
        Err(AckError::Unknown) => Err(unknown()),
        Err(error @ AckError::NotDurable(_)) => {
            let of = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
            Err(of.retry_soon())
        }
    }
}

async fn export(
    State(app): State<App>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Response, ApiError> {
    let known: Vec<&str> = FILTER.into_iter().chain(["format"]).collect();
    params.only(&known)?;
    let filter = filter(&params, caller.scope())?;
    let csv = match params.get("format").unwrap_or("ndjson") {
        "ndjson" => false,
        "csv" => true,
        other => {
            let error = "there is no such format";
            return Err(ApiError::parameter("format", Some(other), error, "ndjson or csv"));
        }
    };
    let alarms = alarms(&app)?;
    let permit = app.exports.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many exports at a time").retry_soon()
    })?;
    // All alarms are in memory, and bounded: so is their text.
    let text = ask(&app, move |_| {
        let page = alarms.list(&filter, usize::MAX, None);
        Ok(if csv { to_csv(&page.alarms) } else { to_lines(&page.alarms) })
    })
    .await?;
    drop(permit);
    let kind = if csv { "text/csv; charset=utf-8" } else { "application/x-ndjson" };
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn to_lines(alarms: &[std::sync::Arc<Alarm>]) -> Vec<u8> {
    let lines = alarms.iter().map(|alarm| format!("{}\n", alarm.to_json()));
    lines.collect::<String>().into_bytes()
}

fn to_csv(alarms: &[std::sync::Arc<Alarm>]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail.
    drop(writer.write_record(COLUMNS));
    for alarm in alarms {
        let json = alarm.to_json();
        let cells = COLUMNS.iter().map(|column| match json.get(column) {
            None | Some(Value::Null) => String::new(),
            // A spreadsheet would take it for a formula.
            Some(Value::String(text)) if text.starts_with(['=', '+', '-', '@']) => {
                format!("'{text}")
            }
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        });
        drop(writer.write_record(cells));
    }
    writer.into_inner().unwrap_or_default()
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, AckError::Unknown.to_string())
}

/// A text that is not empty and not longer than it may be, if it is there.
fn bounded(params: &Params, name: &'static str, most: usize) -> Result<Option<String>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    if text.trim().is_empty() || text.len() > most || text.chars().any(char::is_control) {
        let accepted = format!("text of 1 to {most} bytes without control characters");
        return Err(ApiError::parameter(name, Some(text), "the value is not accepted", accepted));
    }
    Ok(Some(text.trim().to_owned()))
}

/// Words between commas, each read.
fn several<T>(
    params: &Params,
    name: &'static str,
    read: impl Fn(&str) -> Option<T>,
    accepted: impl Fn() -> String,
) -> Result<Vec<T>, ApiError> {
    let text = params.get(name).unwrap_or_default();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let read = |word| {
        let bad = || ApiError::parameter(name, Some(word), "there is none such", accepted());
        read(word).ok_or_else(bad)
    };
    words.map(read).collect()
}

fn filter(params: &Params, scope: &Scope) -> Result<Filter, ApiError> {
    let yes_or_no = |name: &'static str| match params.get(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => {
            Err(ApiError::parameter(name, Some(other), "it is neither", "true or false"))
        }
    };
    let station = match params.get("station") {
        None => None,
        Some(text) => Some(StationId::new(text).map_err(|e| {
            ApiError::parameter("station", Some(text), e.to_string(), "1 to 32 of a-z 0-9 -")
        })?),
    };
    let imei = match params.get("device") {
        None => None,
        Some(text) => Some(text.parse::<Imei>().map_err(|e| {
            let accepted = "15 digits, the last one Luhn's";
            ApiError::parameter("device", Some(text), e.to_string(), accepted)
        })?),
    };
    let project = match (scope.project(), params.get("project")) {
        (Some(own), Some(other)) if own != other => {
            let error = "this project is not yours to see";
            return Err(ApiError::parameter("project", Some(other), error, own));
        }
        (own, asked) => own.or(asked).map(str::to_owned),
    };
    Ok(Filter {
        states: several(params, "state", AlarmState::from_text, || {
            AlarmState::ALL.map(AlarmState::as_str).join(", ")
        })?,
        severities: several(params, "severity", Severity::from_text, || {
            Severity::WORDS.join(", ")
        })?,
        rules: several(params, "rule", Rule::from_text, Rule::words)?,
        kind: params.kind()?,
        station,
        imei,
        project,
        area: params.get("area").map(str::to_owned),
        acknowledged: yes_or_no("acknowledged")?,
        shown: yes_or_no("shown")?,
        q: bounded(params, "q", MAX_NAME)?,
    })
}
