//! `/api/v1`: questions about what is stored. Every answer says up to which lsn it reaches.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use loushan_schemas::ids::{Imei, ImeiError};
use loushan_schemas::row::Row;
use serde_json::{Value, json};

use super::App;
use super::auth::Reader;
use super::error::ApiError;
use super::export::{self, What};
use super::params::Params;
use super::routes::Routes;
use super::view::{View, ViewError};
use super::{commands, devices, fields, kinds, live, pipeline, projects, stations};
use crate::live::Scope;
use crate::sink::SinkFigures;

pub(super) fn routes(routes: Routes) -> Routes {
    let routes = super::sinks::routes(routes);
    routes
        .get("/api/v1/live", live::events)
        .get("/api/v1/live/history", live::history)
        .get("/api/v1/stations", stations::list)
        .get("/api/v1/stations/{station}", stations::one)
        .on("/api/v1/stations/{station}/commands", &["POST"], commands::sending())
        .get("/api/v1/stations/{station}/commands/{id}", commands::get)
        .get("/api/v1/devices", devices::list)
        .get("/api/v1/devices/{imei}", devices::one)
        .get("/api/v1/devices/{imei}/latest", latest)
        .get("/api/v1/fields", fields::get)
        .get("/api/v1/kinds", kinds::list)
        .get("/api/v1/kinds/{kind}", kinds::one)
        .get("/api/v1/projects", projects::list)
        .get("/api/v1/projects/{project}", projects::one)
        .get("/api/v1/pipeline", pipeline::get)
        .get("/api/v1/readings/count", count)
        .get("/api/v1/readings/export", export_rows)
        .get("/api/v1/dead-letters/export", export_dead_letters)
        .get("/api/v1/sinks", sinks)
        .get("/api/v1/conservation", conservation)
        .get("/api/v1/whoami", super::auth::whoami)
        .post("/api/v1/identity/reload", super::auth::reload)
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

/// A device's IMEI, in a path or a parameter.
pub(super) fn imei(name: &'static str, text: &str) -> Result<Imei, ApiError> {
    text.parse().map_err(|e: ImeiError| {
        ApiError::parameter(name, Some(text), e.to_string(), "15 digits, the last one Luhn's")
    })
}

/// A row as an export has it. `null` is never seen: what we wrote, we can read.
pub(super) fn unstored(row: &Row) -> Value {
    let mut text = String::new();
    row.write_json(&mut text);
    serde_json::from_str(&text).unwrap_or_default()
}

async fn latest(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(device): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    params.only(&[])?;
    let imei = imei("imei", &device)?;
    let scope = caller.scope().clone();
    let answer = ask(&app, move |view| {
        let mut answer = view.latest(imei)?;
        let registry = view.registry().map(|(registry, _)| registry);
        let seen = |row: &Row| match (&scope, &registry) {
            (Scope::City, _) => true,
            (_, Some(registry)) => super::stations::seen_by(&scope, registry, &row.station),
            (Scope::Project(_), None) => false,
        };
        answer.value = answer.value.filter(|row| seen(row));
        Ok(answer)
    });
    let answer = answer.await?;
    let row = answer.value.ok_or_else(|| super::devices::unknown(imei))?;
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
