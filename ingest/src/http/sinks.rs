//! `/api/v1/sinks/{sink}/…`: what admins have a sink do. Each answers when it is done and durable, with
//! the sink's figures; 202 where it is being carried out and takes long. A replay answers when it has
//! begun, and is asked for later.
//!
//! `/api/v1/dead-letters/replay`: dead letters decided again. Unless `dry_run=false` is given it only
//! says what would become of them.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use loushan_schemas::reject::RejectReason;
use serde_json::{Value, json};

use super::App;
use super::api::{ask, sink};
use super::auth::{Admin, Caller};
use super::error::ApiError;
use super::params::Params;
use super::routes::Routes;
use crate::service::letters::LetterFilter;
use crate::sink::{ReplayFigures, ReplayFrom, ReplayOf, RewindTo, SinkOrder, SinkOrderError};

/// What a place in the log may be.
const PLACE: &str = "an lsn of up to 12 digits, Unix milliseconds, or RFC 3339 such as \
                     2026-03-01T08:00:00Z";

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .post("/api/v1/sinks/{sink}/pause", pause)
        .post("/api/v1/sinks/{sink}/resume", resume)
        .post("/api/v1/sinks/{sink}/rewind", rewind)
        .post("/api/v1/sinks/{sink}/remove", remove)
        .post("/api/v1/sinks/{sink}/replay", replay)
        .get("/api/v1/sinks/{sink}/replay", replayed)
        .post("/api/v1/sinks/{sink}/replay/stop", stop_replay)
        .post("/api/v1/dead-letters/replay", replay_letters)
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

async fn replay(
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Response, ApiError> {
    params.only(&["from", "to", "source"])?;
    let span = params.span()?;
    let from = match params.get("source").unwrap_or("any") {
        "any" => ReplayFrom::Any,
        "log" => ReplayFrom::Log,
        "store" => ReplayFrom::Store,
        other => {
            let error = "there is no such source";
            return Err(ApiError::parameter("source", Some(other), error, "any, log, store"));
        }
    };
    tracing::info!(by = caller.name.as_deref(), sink = name, "a replay is to begin");
    let begun = ask(&app, move |view| Ok(view.replay_into(&name, from, span))).await?;
    let figures = begun.map_err(|error| refused(&error))?;
    Ok((StatusCode::ACCEPTED, Json(of_replay(&figures))).into_response())
}

async fn replayed(
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    params.only(&[])?;
    last_replay(&app, name, false).await
}

async fn stop_replay(
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Response, ApiError> {
    params.only(&[])?;
    tracing::info!(by = caller.name.as_deref(), sink = name, "a replay is to end");
    last_replay(&app, name, true).await
}

async fn last_replay(app: &App, name: String, stop: bool) -> Result<Response, ApiError> {
    let last = ask(app, move |view| Ok(view.last_replay(&name, stop))).await?;
    let last = last.map_err(|error| refused(&error))?;
    let none = || ApiError::new(StatusCode::NOT_FOUND, "nothing was replayed since the start");
    Ok(Json(of_replay(&last.ok_or_else(none)?)).into_response())
}

fn of_replay(figures: &ReplayFigures) -> Value {
    json!({
        "state": figures.state.as_str(),
        "source": match figures.of {
            ReplayOf::Log { .. } => "log",
            ReplayOf::Store => "store",
        },
        "given": figures.given,
        "stored": figures.stored,
        "refused": figures.refused,
        "pending": figures.pending,
        "trouble": figures.trouble,
    })
}

/// Letters of one call: more of them come with `more_from_lsn`.
const LETTERS: u64 = 10_000;

async fn replay_letters(
    State(app): State<App>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Response, ApiError> {
    params.only(&["reason", "station", "from_lsn", "to_lsn", "limit", "dry_run"])?;
    let reason = params.get("reason").map(str::to_owned);
    if let Some(reason) = reason.as_deref()
        && !RejectReason::ALL.iter().any(|known| known.as_str() == reason)
    {
        let known: Vec<&str> = RejectReason::ALL.iter().map(|known| known.as_str()).collect();
        let error = "there is no such reason";
        return Err(ApiError::parameter("reason", Some(reason), error, known.join(", ")));
    }
    let dry_run = match params.get("dry_run").unwrap_or("true") {
        "true" => true,
        "false" => false,
        other => {
            let error = "it is neither";
            return Err(ApiError::parameter("dry_run", Some(other), error, "true or false"));
        }
    };
    let filter = LetterFilter {
        reason,
        station: params.get("station").map(str::to_owned),
        from_lsn: params.number("from_lsn", 0..=u64::MAX, 0)?,
        to_lsn: match params.number("to_lsn", 0..=u64::MAX, u64::MAX)? {
            u64::MAX => None,
            lsn => Some(lsn),
        },
        limit: params.number("limit", 1..=LETTERS, LETTERS)?,
        dry_run,
    };
    tracing::info!(by = caller.name.as_deref(), ?filter, "dead letters are to be replayed");
    let done = ask(&app, move |view| view.replay_letters(&filter)).await?;
    Ok(Json(json!({
        "dry_run": dry_run,
        "letters": done.letters,
        "submitted": done.submitted,
        "readings": done.readings,
        "still_rejected": done.still_rejected,
        "incomplete": done.incomplete,
        "replayed_before": done.replayed_before,
        "more_from_lsn": done.more_from_lsn,
        "failed": done.failed,
    }))
    .into_response())
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
