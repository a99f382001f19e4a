//! `/api/v1`: questions about what is stored. Every answer says up to which lsn it reaches.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{
    Json, Router,
    routing::{get, post},
};
use loushan_schemas::ids::{Imei, ImeiError};
use serde_json::{Value, json};

use super::App;
use super::commands;
use super::error::ApiError;
use super::export::{self, What};
use super::params::Params;
use super::view::{View, ViewError};
use crate::sink::SinkFigures;

/// The routes, for the index page and for 404s.
pub(super) const PATHS: &[&str] = &[
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/stations",
    "/api/v1/stations/{station}/commands (POST)",
    "/api/v1/stations/{station}/commands/{id}",
    "/api/v1/devices/{imei}/latest",
    "/api/v1/readings/count?kind=&from=&to=",
    "/api/v1/readings/export?after_lsn=",
    "/api/v1/dead-letters/export?after_lsn=",
    "/api/v1/sinks",
    "/api/v1/sinks/{sink}/pause (POST)",
    "/api/v1/sinks/{sink}/resume (POST)",
    "/api/v1/sinks/{sink}/rewind?to= (POST)",
    "/api/v1/sinks/{sink}/remove (POST)",
    "/api/v1/sinks/{sink}/replay?from=&to=&source= (POST)",
    "/api/v1/sinks/{sink}/replay",
    "/api/v1/sinks/{sink}/replay/stop (POST)",
    "/api/v1/dead-letters/replay?reason=&station=&from_lsn=&to_lsn=&limit=&dry_run= (POST)",
    "/api/v1/conservation",
    "/api/v1/whoami",
    "/api/v1/identity/reload (POST)",
];

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/stations", get(stations))
        .route("/api/v1/stations/{station}/commands", commands::sending())
        .route("/api/v1/stations/{station}/commands/{id}", get(commands::get))
        .route("/api/v1/devices/{imei}/latest", get(latest))
        .route("/api/v1/readings/count", get(count))
        .route("/api/v1/readings/export", get(export_rows))
        .route("/api/v1/dead-letters/export", get(export_dead_letters))
        .route("/api/v1/sinks", get(sinks))
        .merge(super::sinks::routes())
        .route("/api/v1/conservation", get(conservation))
        .route("/api/v1/whoami", get(super::auth::whoami))
        .route("/api/v1/identity/reload", post(super::auth::reload))
}

/// Asks the view where it may block.
pub(super) async fn ask<T: Send + 'static>(
    app: &App,
    question: impl FnOnce(&dyn View) -> Result<T, ViewError> + Send + 'static,
) -> Result<T, ApiError> {
    let view = Arc::clone(&app.view);
    // Never closed, so there is always a permit to come.
    let permit = Arc::clone(&app.questions).acquire_owned().await;
    let asked = tokio::task::spawn_blocking(move || {
        let answer = question(&*view);
        // Not before: a client that goes away does not end the question.
        drop(permit);
        answer
    });
    match asked.await {
        Ok(answer) => answer.map_err(|e| ApiError::internal("the store could not be read", &e)),
        Err(e) => Err(ApiError::internal("the question could not be answered", &e)),
    }
}

fn imei(text: &str) -> Result<Imei, ApiError> {
    text.parse().map_err(|e: ImeiError| {
        ApiError::parameter("imei", Some(text), e.to_string(), "15 digits, the last one Luhn's")
    })
}

async fn stations(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let stations = ask(&app, |view| Ok(view.stations())).await?;
    Ok(Json(json!({ "stations": stations })))
}

async fn latest(
    State(app): State<App>,
    Path(device): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    params.only(&[])?;
    let imei = imei(&device)?;
    let answer = ask(&app, move |view| view.latest(imei)).await?;
    let row = answer.value.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, format!("nothing is stored of device {imei}"))
    })?;
    let mut body = format!("{{\"as_of_lsn\":{},\"reading\":", answer.as_of_lsn);
    row.write_json(&mut body);
    body.push('}');
    Ok(json_text(body))
}

async fn count(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&["kind", "from", "to"])?;
    let kind = params.kind()?;
    let span = params.span()?;
    let answer = ask(&app, move |view| view.count(kind, span)).await?;
    Ok(Json(json!({
        "count": answer.value,
        "kind": kind.map(|kind| kind.as_str()),
        "from_ms": span.from.ms(),
        "to_ms": span.to.ms(),
        "as_of_lsn": answer.as_of_lsn,
    })))
}

async fn export_rows(State(app): State<App>, params: Params) -> Result<Response, ApiError> {
    params.only(&["after_lsn"])?;
    export::start(&app, What::Rows, params.number("after_lsn", 0..=u64::MAX, 0)?)
}

async fn export_dead_letters(State(app): State<App>, params: Params) -> Result<Response, ApiError> {
    params.only(&["after_lsn"])?;
    export::start(&app, What::DeadLetters, params.number("after_lsn", 0..=u64::MAX, 0)?)
}

async fn sinks(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let books = ask(&app, |view| Ok(view.conservation())).await?;
    let sinks: Vec<Value> = books.sinks.iter().map(sink).collect();
    Ok(Json(json!({ "durable_lsn": books.durable_lsn, "sinks": sinks })))
}

async fn conservation(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let books = ask(&app, |view| Ok(view.conservation())).await?;
    let sinks: Vec<Value> = books.sinks.iter().map(sink).collect();
    Ok(Json(json!({
        "durable_lsn": books.durable_lsn,
        "received": books.received,
        "accepted": books.accepted,
        "duplicate": books.duplicate,
        "rejected": books.rejected,
        "shed": books.shed,
        "undecided": books.undecided,
        "residue": books.residue(),
        "sinks": sinks,
    })))
}

pub(super) fn sink(figures: &SinkFigures) -> Value {
    json!({
        "name": &*figures.name,
        "state": figures.state.as_str(),
        "cursor": figures.cursor,
        "position": figures.position,
        "fed": figures.fed,
        "rewound": figures.rewound,
        "stored": figures.stored,
        "replayed": figures.replayed,
        "refused": figures.refused,
        "let_go": figures.let_go,
        "returned": figures.returned,
        "pending": figures.pending,
        "residue": figures.residue(),
        "lag": {
            "frames": figures.lag.frames,
            "bytes": figures.lag.bytes,
            "seconds": figures.lag.seconds,
        },
        "trouble": figures.trouble,
        "notice": figures.notice,
    })
}

fn json_text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
