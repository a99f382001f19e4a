//! `/api/v1/sinks/{sink}/…`: what admins have a sink do. Each answers when it is done and durable, with
//! the sink's figures; 202 where it is being carried out and takes long.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;

use super::App;
use super::api::{ask, sink};
use super::auth::{Admin, Caller};
use super::error::ApiError;
use super::params::Params;
use crate::sink::{RewindTo, SinkOrder, SinkOrderError};

/// What a place in the log may be.
const PLACE: &str = "an lsn of up to 12 digits, Unix milliseconds, or RFC 3339 such as \
                     2026-03-01T08:00:00Z";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/sinks/{sink}/pause", post(pause))
        .route("/api/v1/sinks/{sink}/resume", post(resume))
        .route("/api/v1/sinks/{sink}/rewind", post(rewind))
        .route("/api/v1/sinks/{sink}/remove", post(remove))
}

async fn pause(
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Response, ApiError> {
    params.only(&[])?;
    order(&app, name, SinkOrder::Pause, &caller).await
}

async fn resume(
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Response, ApiError> {
    params.only(&[])?;
    order(&app, name, SinkOrder::Resume, &caller).await
}

async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Response, ApiError> {
    params.only(&[])?;
    order(&app, name, SinkOrder::Remove, &caller).await
}

async fn rewind(
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Response, ApiError> {
    params.only(&["to"])?;
    let to = place(params.get("to"))?;
    order(&app, name, SinkOrder::Rewind(to), &caller).await
}

/// An lsn or a time. A number that is small enough is an lsn: as Unix milliseconds it would lie before
/// 2001.
fn place(text: Option<&str>) -> Result<RewindTo, ApiError> {
    let Some(text) = text else {
        return Err(ApiError::parameter("to", None, "it is missing", PLACE));
    };
    if let Some(lsn) = text.parse().ok().filter(|_| text.len() <= 12) {
        return Ok(RewindTo::Lsn(lsn));
    }
    let time = crate::ask::time(text).map(RewindTo::Time);
    time.ok_or_else(|| ApiError::parameter("to", Some(text), "it is neither", PLACE))
}

async fn order(
    app: &App,
    name: String,
    order: SinkOrder,
    caller: &Caller,
) -> Result<Response, ApiError> {
    tracing::info!(by = caller.name.as_deref(), sink = name, ?order, "a sink is to be told");
    let done = ask(app, move |view| {
        let done = view.order_sink(&name, order);
        let figures = view.conservation().sinks;
        Ok((done, figures.into_iter().find(|figures| *figures.name == *name)))
    });
    let (done, figures) = done.await?;
    let figures = figures.as_ref().map(sink);
    match done {
        Ok(()) => Ok(Json(json!({ "done": true, "sink": figures })).into_response()),
        Err(SinkOrderError::Slow) => {
            let body = Json(json!({ "done": false, "sink": figures }));
            Ok((StatusCode::ACCEPTED, body).into_response())
        }
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &SinkOrderError) -> ApiError {
    let of = |status| ApiError::new(status, error.to_string());
    match error {
        SinkOrderError::Unknown { known, .. } => {
            of(StatusCode::NOT_FOUND).accepting(known.join(", "))
        }
        SinkOrderError::Gone { begins_after, .. } => {
            of(StatusCode::CONFLICT).accepting(format!("an lsn from {begins_after} on"))
        }
        SinkOrderError::Never { .. } | SinkOrderError::NotNow(_) => of(StatusCode::CONFLICT),
        SinkOrderError::Disk(_) => of(StatusCode::SERVICE_UNAVAILABLE).retry_soon(),
        SinkOrderError::Slow => of(StatusCode::ACCEPTED),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use loushan_schemas::time::DeviceTime;

    use super::*;

    #[test]
    fn a_place_in_the_log_is_an_lsn_or_a_time() {
        let time = |ms| Some(RewindTo::Time(DeviceTime::from_ms(ms).unwrap()));
        assert_eq!(place(Some("0")).ok(), Some(RewindTo::Lsn(0)));
        assert_eq!(place(Some("999999999999")).ok(), Some(RewindTo::Lsn(999_999_999_999)));
        assert_eq!(place(Some("1772352000000")).ok(), time(1_772_352_000_000));
        assert_eq!(place(Some("2026-03-01T08:00:00Z")).ok(), time(1_772_352_000_000));
        assert!(place(Some("yesterday")).is_err());
        assert!(place(None).is_err());
    }
}
