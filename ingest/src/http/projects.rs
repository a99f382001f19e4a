//! `/api/v1/projects`: the pilot projects, with what they use of their quotas.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use hashbrown::HashMap;
use loushan_schemas::kind::Kind;
use serde_json::{Value, json};

use super::App;
use super::api::ask;
use super::auth::Reader;
use super::devices::Sites;
use super::error::ApiError;
use super::params::Params;
use super::view::View;
use super::{kinds, stations};
use crate::live::Scope;
use crate::registry::{Project, Today};

/// `GET /api/v1/projects`.
pub(super) async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let scope = caller.scope().clone();
    let projects = ask(&app, move |view| Ok(all(view, &scope)));
    Ok(Json(json!({ "projects": projects.await? })))
}

fn all(view: &dyn View, scope: &Scope) -> Vec<Value> {
    let Some((registry, now_ms)) = view.registry() else { return Vec::new() };
    let sites = Sites::of(&registry);
    let mut devices: HashMap<String, u64> = HashMap::new();
    registry.each_latest(&|_| true, &mut |row| {
        if let Some(project) = sites.project(&row.station) {
            *devices.entry_ref(project).or_default() += 1;
        }
        std::ops::ControlFlow::Continue(())
    });
    let projects = registry.projects(now_ms);
    let mine = projects.iter().filter(|(name, _)| scope.covers(Some(name)));
    mine.map(|(name, project)| {
        let devices = devices.get(name).copied().unwrap_or(0);
        brief(view, name, project, devices)
    })
    .collect()
}

fn brief(view: &dyn View, name: &str, project: &Project, devices: u64) -> Value {
    let scope = Scope::Project(Arc::from(name));
    let figures = view.live().map(|live| live.tick().figures(&scope));
    let rate = figures.as_ref().and_then(|it| it.pointer("/rates/accepted")).cloned();
    let Project { quota, today, .. } = project;
    json!({
        "project": name,
        "stations": project.stations,
        "online": project.online,
        "devices": devices,
        "rate": rate,
        "readings": project.readings,
        "rejected": project.rejected,
        "today": { "day": Today::date(today.day), "readings": today.readings, "bytes": today.bytes },
        "quota": {
            "readings_per_day": quota.readings,
            "bytes_per_day": quota.bytes,
            "used": quota.used(*today),
            "state": quota.state(*today).as_str(),
        },
    })
}

/// `GET /api/v1/projects/{project}`.
pub(super) async fn one(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(project): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let scope = caller.scope().clone();
    let found = ask(&app, move |view| Ok(whole(view, &scope, &project)));
    let none = || ApiError::new(StatusCode::NOT_FOUND, "there is no such project");
    found.await?.map(Json).ok_or_else(none)
}

fn whole(view: &dyn View, scope: &Scope, name: &str) -> Option<Value> {
    if !scope.covers(Some(name)) {
        return None;
    }
    let (registry, now_ms) = view.registry()?;
    let project = registry.projects(now_ms).remove(name)?;
    let kinds = kinds::all_of(view, Some(name));
    let devices = kinds.iter().filter_map(|kind| kind.get("devices")?.as_u64()).sum();
    let in_url: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let exports: Vec<Value> = Kind::ALL
        .iter()
        .map(|kind| {
            let url = format!("/api/v1/export?project={in_url}&kind={kind}");
            json!({ "kind": kind.as_str(), "url": url })
        })
        .collect();
    Some(json!({
        "project": brief(view, name, &project, devices),
        "kinds": kinds,
        "stations": stations::list_of(view, &Scope::Project(Arc::from(name))),
        "areas": project.areas,
        "export": exports,
    }))
}
