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
//! with the station's `result` when there is one; it is remembered for a day after the expiry.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
    id: Option<u64>,
    imei: Option<String>,
    arguments: Option<String>,
    arguments_hex: Option<String>,
    expiry_s: Option<u64>,
}

/// `POST`.
pub(super) async fn send(
    State(app): State<App>,
    Path(station): Path<String>,
    params: Params,
    Admin(caller): Admin,
    body: Bytes,
) -> Result<Response, ApiError> {
    params.only(&["wait"])?;
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

fn station_id(text: &str) -> Result<StationId, ApiError> {
    StationId::new(text).map_err(|e| {
        ApiError::parameter("station", Some(text), e.to_string(), "1 to 32 of a-z 0-9 -")
    })
}

fn order(body: &[u8], wait: Duration) -> Result<Order, ApiError> {
    let Body { name, id, imei, arguments, arguments_hex, expiry_s } = serde_json::from_slice(body)
        .map_err(|e| {
            let accepted = "a JSON object of name, and id, imei, arguments or arguments_hex, \
                            expiry_s as needed";
            ApiError::parameter("body", None, e.to_string(), accepted)
        })?;
    let bad = |field: &str, value: &str, accepted: String| {
        ApiError::parameter(field, Some(value), "the value is not accepted", accepted)
    };
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(bad("name", &name, format!("1 to {MAX_NAME} bytes")));
    }
    if let Some(id) = id.filter(|id| !(1..=MAX_ID).contains(id)) {
        return Err(bad("id", &id.to_string(), format!("a whole number from 1 to {MAX_ID}")));
    }
    let expiry_s = expiry_s.unwrap_or(EXPIRY_S);
    if !(1..=MAX_EXPIRY_S).contains(&expiry_s) {
        let accepted = format!("whole seconds from 1 to {MAX_EXPIRY_S}");
        return Err(bad("expiry_s", &expiry_s.to_string(), accepted));
    }
    let imei = match imei {
        None => None,
        Some(text) => Some(
            text.parse::<Imei>()
                .map_err(|_| bad("imei", &text, "15 digits, the last one Luhn's".to_owned()))?,
        ),
    };
    let arguments = match (arguments, arguments_hex) {
        (None, None) => Vec::new(),
        (Some(text), None) => text.into_bytes(),
        (None, Some(hex)) => unhex(&hex)
            .ok_or_else(|| bad("arguments_hex", &hex, "pairs of hexadecimal digits".to_owned()))?,
        (Some(text), Some(_)) => {
            return Err(bad("arguments", &text, "arguments or arguments_hex".to_owned()));
        }
    };
    if arguments.len() > MAX_ARGUMENTS {
        return Err(bad("arguments", "…", format!("{MAX_ARGUMENTS} bytes at most")));
    }
    let (arguments, expiry) = (arguments.into(), Duration::from_secs(expiry_s));
    Ok(Order { id, imei, name, arguments, expiry, wait })
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
    let status = match &error {
        CommandError::UnknownStation(_) => StatusCode::NOT_FOUND,
        CommandError::OtherCommand(_) => StatusCode::CONFLICT,
        CommandError::Full(_) => StatusCode::TOO_MANY_REQUESTS,
        CommandError::NotDurable => StatusCode::SERVICE_UNAVAILABLE,
    };
    ApiError::new(status, error.to_string())
}
