//! The HTTP side: health, metrics and the API, on a listener that the caller made.
//!
//! Everything but the console, `/docs`, `/metrics` and the live feed is JSON, errors included. What there
//! is, is told by one table ([`openapi`]): the document at `/api/v1/openapi.json`, and what is said where
//! there is nothing, follow from it. Questions that may read files run on
//! blocking threads; exports stream in bounded memory and are bounded in number. Every request passes
//! the `guard`, and [`auth`] says who may ask what.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use loushan_broker::listen::tls::Tls;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

mod alarms;
mod api;
pub mod auth;
mod commands;
mod devices;
mod error;
mod export;
mod fields;
mod guard;
mod kinds;
mod limits;
mod live;
mod openapi;
mod params;
pub mod pipeline;
mod projects;
mod query;
mod retention;
mod routes;
mod sinks;
mod stations;
#[cfg(test)]
mod tests;
pub mod view;

use crate::sink::embedded::Turns;
use auth::Access;
use error::ApiError;
pub use limits::{HttpLimits, QueryLimits};
use routes::Routes;
use view::View;

/// Questions to the store at a time. More would only wait for each other's disk, each with rows in
/// memory; further ones wait without.
const QUESTIONS: usize = 16;

/// Of those, questions that may read much: they share one core, and leave places to the others.
const HEAVY: usize = 4;

/// What every request may use.
#[derive(Clone)]
pub(crate) struct App {
    view: Arc<dyn View>,
    metrics: PrometheusHandle,
    access: Arc<Access>,
    exports: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    query: QueryLimits,
    turns: Arc<Turns>,
    stop: CancellationToken,
}

/// Answers requests, in TLS where it is given, until `stop`, then finishes those under way. Exports
/// under way are broken off.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    view: Arc<dyn View>,
    metrics: PrometheusHandle,
    access: Access,
    limits: HttpLimits,
    stop: CancellationToken,
) {
    let app = App {
        view,
        metrics,
        access: Arc::new(access),
        exports: Arc::new(Semaphore::new(limits.exports.min(Semaphore::MAX_PERMITS))),
        questions: Arc::new(Semaphore::new(QUESTIONS)),
        heavy: Arc::new(Semaphore::new(HEAVY)),
        query: limits.query,
        turns: Arc::default(),
        stop: stop.clone(),
    };
    limits::serve(listener, tls, limits, router(app), stop).await;
}

fn router(app: App) -> Router {
    routes()
        .into_router()
        .merge(crate::console::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

/// Everything there is but the console.
fn routes() -> Routes {
    let routes = Routes::new()
        .get("/healthz", healthz)
        .get("/readyz", readyz)
        .get("/metrics", scrape)
        .get("/docs", openapi::page)
        .get("/docs/{file}", openapi::file)
        .get("/api/v1/openapi.json", openapi::document);
    retention::routes(query::routes(alarms::routes(api::routes(routes))))
}

/// The process answers: that is all it says.
async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn readyz(State(app): State<App>) -> Response {
    let readiness = app.view.readiness();
    let reasons: Vec<Value> = readiness
        .conditions()
        .map(|(component, condition)| {
            json!({ "component": component.as_str(), "red": condition.red, "what": condition.what })
        })
        .collect();
    let ready = readiness.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "reasons": reasons }))).into_response()
}

async fn scrape(State(app): State<App>) -> Result<Response, ApiError> {
    let text = tokio::task::spawn_blocking(move || {
        app.view.record_metrics();
        crate::metrics::publish(&app.view.conservation(), &app.view.readiness());
        app.metrics.render()
    })
    .await
    .map_err(|e| ApiError::internal("the metrics could not be gathered", &e))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

async fn not_found(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(60).collect();
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}"))
        .accepting(openapi::paths())
}

async fn wrong_method(method: Method) -> ApiError {
    let error = format!("the method {method} is not for this path");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, error).accepting("GET, HEAD")
}
