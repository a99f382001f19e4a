//! `/api/v1/live`: the live feed as Server-Sent Events, and its figures of the last minutes.
//!
//! Bytes are rendered once and shared ([`crate::live`]); a client's are asked for when its socket has
//! room, so that a slow one is sent the newest there is. The stream has no `Content-Length`, is not kept
//! by proxies, and ends with a `bye` when the service stops.

use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use loushan_schemas::ids::{Imei, StationId};
use serde_json::Value;

use super::App;
use super::api::imei;
use super::auth::Reader;
use super::commands::station_id;
use super::error::ApiError;
use super::params::Params;
use crate::live::Live;

/// The feed of the service.
pub(super) fn live_of(app: &App) -> Result<&std::sync::Arc<Live>, ApiError> {
    let none = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "there is no live feed here");
    app.view.live().ok_or_else(none)
}

/// `GET /api/v1/live`.
pub(super) async fn events(
    State(app): State<App>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Response, ApiError> {
    params.only(&["station", "device"])?;
    let station: Option<StationId> = params.get("station").map(station_id).transpose()?;
    let device: Option<Imei> = params.get("device").map(|text| imei("device", text)).transpose()?;
    let live = live_of(&app)?;
    let (scope, alarms) = (caller.scope().clone(), app.view.alarms());
    let client = live.subscribe(scope, station, device, alarms, app.stop.clone());
    let client = client.map_err(|full| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string())
            .accepting("another try later, or a greater live.clients")
            .retry_soon()
    })?;
    let events = stream::unfold(client, |mut client| async {
        let bytes = client.next().await?;
        Some((Ok::<_, Infallible>(bytes), client))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx keeps answers back unless it is told not to.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// `GET /api/v1/live/history`.
pub(super) async fn history(
    State(app): State<App>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    Ok(Json(live_of(&app)?.history(caller.scope())))
}
