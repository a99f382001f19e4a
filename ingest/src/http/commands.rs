//! `/api/v1/stations/{station}/commands`: commands down to a station.
//!
//! `POST`, for admins, with a JSON object:
//!
//! | field | what |
//! |---|---|
//! | `name` | what is to be done, 1 to 64 bytes; required |
//! | `imei` | the device behind the station; without it the command is the station's own |
//! | `arguments` | text, or `arguments_hex` for bytes; 64 KiB at most |
//! | `expiry_s` | seconds that the command is of use, 1 to 604800; 3600 without it |
//! | `id` | a number of the sender's, 1 to 2^53 - 1; sent again with the same command it does nothing |
//!
//! and `?wait=` seconds to wait for the station's acknowledgement, 0 to 60, 5 without it. The answer's
//! `state` is `delivered` or `expired` (200), or `queued` (202): the command is on disk and goes to
//! the station as soon as that is connected and subscribes. `GET …/commands/{id}` tells the same later,
//! with the station's `result` when there is one; it is remembered for a day after the expiry, or less
//! where there is no room for a new one otherwise.
//!
//! So many wait for one station (429) and for all of them (507); both are over when stations take what
//! waits, or when it expires.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use loushan_schemas::ids::{Imei, StationId};
use serde::Deserialize;
use serde_json::Value;

use super::App;
use super::auth::Admin;
use super::error::ApiError;
use super::params::Params;
use crate::commands::{CommandError, Commands, Order};

/// Bytes of a command's arguments: what a device behind a narrow radio can take is far less.
const MAX_ARGUMENTS: usize = 64 * 1024;
/// Bytes of a command's name.
const MAX_NAME: usize = 64;
/// Seconds that a command is of use at most: a week.
const MAX_EXPIRY_S: u64 = 7 * 24 * 3600;
/// Seconds that a command is of use, when nothing is said.
const EXPIRY_S: u64 = 3600;
/// Seconds to wait for the station at most, and when nothing is said.
const MAX_WAIT_S: u64 = 60;
const WAIT_S: u64 = 5;
/// The greatest id: the greatest number that JSON means the same everywhere.
const MAX_ID: u64 = (1 << 53) - 1;

/// Bytes of a request: the arguments where JSON escapes each of them, and the rest.
const MAX_BODY: usize = 6 * MAX_ARGUMENTS + 4096;

/// What a request may have. Of values whatever is JSON: serde's own words would not name the field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: Option<Value>,
    id: Option<Value>,
    imei: Option<Value>,
    arguments: Option<Value>,
    arguments_hex: Option<Value>,
    expiry_s: Option<Value>,
}

/// What answers `POST`.
pub(super) fn sending() -> MethodRouter<App> {
    post(send).layer(DefaultBodyLimit::max(MAX_BODY))
}

async fn send(
    State(app): State<App>,
    Path(station): Path<String>,
    params: Params,
    Admin(caller): Admin,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    params.only(&["wait"])?;
    let body = body.map_err(unread)?;
    let station = station_id(&station)?;
    let wait = Duration::from_secs(params.number("wait", 0..=MAX_WAIT_S, WAIT_S)?);
    let order = order(&body, wait)?;
    let commands = commands(&app)?;
    tracing::info!(by = ?caller.name, %station, name = order.name, "a command is sent");
    let sent = commands.send(&station, order);
    // A stop does not wait for stations.
    let sent = tokio::select! {
        sent = sent => sent,
        () = app.stop.cancelled() => {
            let error = "the service stops; whether the command was taken is not known";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error));
        }
    };
    let described = sent.map_err(refused)?;
    let status = if described["state"] == "queued" { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(described)).into_response())
}

/// `GET`.
pub(super) async fn get(
    State(app): State<App>,
    Path((station, id)): Path<(String, String)>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let station = station_id(&station)?;
    let id = id.parse().map_err(|_| {
        ApiError::parameter("id", Some(&id), "this is no id of a command", "a whole number")
    })?;
    let described = commands(&app)?.get(&station, id);
    described.map(Json).ok_or_else(|| {
        let error = format!("station {station} has no command {id}, or not any more");
        ApiError::new(StatusCode::NOT_FOUND, error)
    })
}

fn commands(app: &App) -> Result<Commands, ApiError> {
    let none = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "there is no way to stations");
    app.view.commands().cloned().ok_or_else(none)
}

pub(super) fn station_id(text: &str) -> Result<StationId, ApiError> {
    StationId::new(text).map_err(|e| {
        ApiError::parameter("station", Some(text), e.to_string(), "1 to 32 of a-z 0-9 -")
    })
}

fn order(body: &[u8], wait: Duration) -> Result<Order, ApiError> {
    let body: Body = serde_json::from_slice(body).map_err(|e| {
        let accepted = "a JSON object of name, and id, imei, arguments or arguments_hex, expiry_s as \
                        needed";
        ApiError::parameter("body", None, e.to_string(), accepted)
    })?;
    let name = text("name", body.name)?
        .ok_or_else(|| ApiError::parameter("name", None, "it is missing", named()))?;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(bad("name", &name, named()));
    }
    let id = number("id", body.id, MAX_ID)?;
    let expiry_s = number("expiry_s", body.expiry_s, MAX_EXPIRY_S)?.unwrap_or(EXPIRY_S);
    let imei = match text("imei", body.imei)? {
        None => None,
        Some(text) => Some(
            text.parse::<Imei>()
                .map_err(|_| bad("imei", &text, "15 digits, the last one Luhn's"))?,
        ),
    };
    let hex = text("arguments_hex", body.arguments_hex)?;
    let (field, arguments) = match (text("arguments", body.arguments)?, hex) {
        (None, None) => ("arguments", Vec::new()),
        (Some(text), None) => ("arguments", text.into_bytes()),
        (None, Some(hex)) => {
            let bytes = unhex(&hex);
            let pairs = || bad("arguments_hex", &hex, "pairs of hexadecimal digits");
            ("arguments_hex", bytes.ok_or_else(pairs)?)
        }
        (Some(text), Some(_)) => {
            return Err(bad("arguments", &text, "arguments or arguments_hex, and not both"));
        }
    };
    if arguments.len() > MAX_ARGUMENTS {
        let has = format!("{} bytes", arguments.len());
        return Err(bad(field, &has, format!("{MAX_ARGUMENTS} bytes at most")));
    }
    let (arguments, expiry) = (arguments.into(), Duration::from_secs(expiry_s));
    Ok(Order { id, imei, name, arguments, expiry, wait })
}

fn named() -> String {
    format!("text of 1 to {MAX_NAME} bytes")
}

fn bad(field: &str, value: &str, accepted: impl Into<String>) -> ApiError {
    ApiError::parameter(field, Some(value), "the value is not accepted", accepted)
}

/// A field that is text, if it is there.
fn text(field: &str, value: Option<Value>) -> Result<Option<String>, ApiError> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(bad(field, &other.to_string(), "text in quotes")),
    }
}

/// A field that is a whole number from 1 to `max`, if it is there.
fn number(field: &str, value: Option<Value>, max: u64) -> Result<Option<u64>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let number = value.as_u64().filter(|number| (1..=max).contains(number));
    let refused = || bad(field, &value.to_string(), format!("a whole number from 1 to {max}"));
    number.map(Some).ok_or_else(refused)
}

/// Why there is no body.
fn unread(rejection: BytesRejection) -> ApiError {
    let status = rejection.status();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let error = "the request's body is too long";
        return ApiError::new(status, error).accepting(format!("{MAX_BODY} bytes at most"));
    }
    ApiError::new(status, rejection.body_text())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let pairs = digits?;
    let pairs = pairs.chunks(2).map(|pair| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    });
    pairs.collect()
}

fn refused(error: CommandError) -> ApiError {
    let error_of = |status| ApiError::new(status, error.to_string());
    match &error {
        CommandError::UnknownStation(_) => error_of(StatusCode::NOT_FOUND)
            .accepting("a station of the stations file, or one that was connected before"),
        CommandError::OtherCommand(_) => error_of(StatusCode::CONFLICT)
            .accepting("an id of its own for each command, or none: one is given then"),
        CommandError::TooMany(_) => error_of(StatusCode::TOO_MANY_REQUESTS)
            .accepting("more once the station has taken some, or some have expired")
            .with(header::RETRY_AFTER, "60"),
        CommandError::Full => error_of(StatusCode::INSUFFICIENT_STORAGE)
            .accepting("more once stations have taken some, or some have expired")
            .with(header::RETRY_AFTER, "60"),
        CommandError::NotDurable => error_of(StatusCode::SERVICE_UNAVAILABLE)
            .accepting("the same again with the same id: it is sent once")
            .retry_soon(),
    }
}
