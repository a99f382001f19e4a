//! What the store keeps, and copies of it.
//!
//! | route | does |
//! |---|---|
//! | `GET /api/v1/retention` | what is kept, what there is, and what would go now and why |
//! | `POST /api/v1/retention/run` | has that go now; the service looks every ten minutes by itself |
//! | `POST /api/v1/store/snapshot?name=` | makes `snapshots/NAME` in the data folder a copy of the store |

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use loushan_schemas::kind::Kind;
use serde_json::{Value, json};

use super::App;
use super::auth::Admin;
use super::error::ApiError;
use super::params::Params;
use super::routes::Routes;
use crate::ask::Place;
use crate::config::units::show_duration;
use crate::sink::embedded::{Removal, RetentionConfig, SnapshotError};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/retention", show)
        .post("/api/v1/retention/run", run)
        .post("/api/v1/store/snapshot", snapshot)
}

async fn show(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    work(&app, |place| {
        let removes = place.store.expired(place.now_ms);
        Ok(json!({
            "keeps": keeps(place.store.retention()),
            "stored": stored(&place),
            "removes": removed(&removes),
        }))
    })
    .await
}

async fn run(
    State(app): State<App>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    tracing::info!(by = ?caller.name, "what has expired is removed");
    work(&app, |place| {
        let removals = place.store.expire(place.now_ms);
        let removals =
            removals.map_err(|e| ApiError::internal("the manifest could not be written", &e))?;
        Ok(json!({ "removed": removed(&removals), "stored": stored(&place) }))
    })
    .await
}

async fn snapshot(
    State(app): State<App>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Json<Value>, ApiError> {
    params.only(&["name"])?;
    let Some(name) = params.get("name").map(str::to_owned) else {
        return Err(ApiError::parameter("name", None, "it is missing", "a name for the snapshot"));
    };
    tracing::info!(by = ?caller.name, name, "a snapshot of the store is taken");
    work(&app, move |place| {
        let taken = place.store.snapshot(&place.store.snapshots_dir(), &name);
        let taken = taken.map_err(|error| match &error {
            SnapshotError::Name(_) => ApiError::parameter(
                "name",
                Some(&name),
                error.to_string(),
                "1 to 64 of a-z A-Z 0-9 . _ -, the first no dot",
            ),
            SnapshotError::Exists(_) => ApiError::new(StatusCode::CONFLICT, error.to_string()),
            SnapshotError::Io { .. } => {
                ApiError::internal("the snapshot could not be written", &error)
            }
        })?;
        Ok(json!({
            "path": taken.path.display().to_string(),
            "as_of_lsn": taken.cursor,
            "files": taken.files,
            "rows": taken.rows,
            "bytes": taken.bytes,
        }))
    })
    .await
}

/// Works on the store where that may block.
async fn work(
    app: &App,
    work: impl FnOnce(Place) -> Result<Value, ApiError> + Send + 'static,
) -> Result<Json<Value>, ApiError> {
    let none = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "there is no store");
    let place = app.view.place().ok_or_else(none)?;
    let worked = tokio::task::spawn_blocking(move || work(place)).await;
    worked
        .map_err(|e| ApiError::internal("the store could not be worked on", &e))
        .and_then(|worked| worked)
        .map(Json)
}

fn keeps(config: &RetentionConfig) -> Value {
    let kinds: serde_json::Map<String, Value> = config
        .kinds
        .iter()
        .map(|(kind, limits)| {
            let age = limits.age.map(show_duration);
            (kind.as_str().to_owned(), json!({ "age": age, "bytes": limits.bytes }))
        })
        .collect();
    json!({ "bytes": config.bytes, "kinds": kinds })
}

/// What there is, by kind.
fn stored(place: &Place) -> Value {
    let days = place.store.days();
    let kinds: serde_json::Map<String, Value> = Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let mine: Vec<_> = days.iter().filter(|((of, _), _)| *of == kind).collect();
            let ((_, oldest), _) = mine.first()?;
            let ((_, newest), _) = mine.last()?;
            let sum = |of: fn(&crate::sink::embedded::TableStats) -> u64| -> u64 {
                mine.iter().map(|(_, stats)| of(stats)).sum()
            };
            let told = json!({
                "oldest": oldest,
                "newest": newest,
                "days": mine.len(),
                "files": sum(|stats| stats.files),
                "readings": sum(|stats| stats.rows),
                "bytes": sum(|stats| stats.bytes),
            });
            Some((kind.as_str().to_owned(), told))
        })
        .collect();
    Value::Object(kinds)
}

fn removed(removals: &[Removal]) -> Vec<Value> {
    let told = |removal: &Removal| {
        json!({
            "kind": removal.kind.as_str(),
            "date": removal.date,
            "why": removal.why.as_str(),
            "readings": removal.rows,
            "bytes": removal.bytes,
            "files": removal.files,
        })
    };
    removals.iter().map(told).collect()
}
