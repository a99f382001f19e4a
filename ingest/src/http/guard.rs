//! What every request passes first: where it thinks it is, where it comes from, and who asks.
//!
//! A web page on the operator's machine can reach a loopback port: by a name of its own that it points
//! at 127.0.0.1 (DNS rebinding), or by a request across origins. So while the listener is on loopback,
//! `Host` must name loopback, and `Origin`, where a browser sends one, must be ours. On any other
//! address our name is whatever `Host` says; a page of another origin may not change anything there,
//! although the browser might add a password that it remembers. Then [`super::auth`] says who may ask.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::ApiError;
use super::limits::From;
use crate::live::Scope;

/// Lets a request through or answers it.
pub(super) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let begun = std::time::Instant::now();
    let response = match look(&app, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(refused) => {
            metrics::counter!("loushan_http_refused_total", "status" => refused.status_label())
                .increment(1);
            refused.into_response()
        }
    };
    metrics::histogram!("loushan_http_request_seconds").record(begun.elapsed());
    metrics::counter!("loushan_http_requests_total", "status" => class(response.status()))
        .increment(1);
    response
}

/// A status's class, as the metric's label.
fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

async fn look(app: &App, request: &mut Request) -> Result<(), ApiError> {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if app.access.is_loopback() {
        check_loopback(request)?;
    } else if changes {
        check_origin(request)?;
    }
    if !changes && is_anybodys(request.uri().path()) {
        return Ok(());
    }
    let peer = request.extensions().get::<ConnectInfo<From>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(From(peer))| peer.ip());
    let caller = app.access.caller(request.headers(), peer).await?;
    if changes {
        caller.require_admin()?;
    }
    if *caller.scope() != Scope::City && !is_of_projects(request.uri().path()) {
        let error = "this is not for those who watch one project";
        return Err(ApiError::new(StatusCode::FORBIDDEN, error)
            .accepting("the credentials of an operator or an admin"));
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

/// What says nothing of the city: that the process answers, and files that are in every binary.
fn is_anybodys(path: &str) -> bool {
    matches!(path, "/healthz" | "/" | "/docs" | "/api/v1/openapi.json")
        || path.starts_with("/console/")
        || path.starts_with("/docs/")
}

/// What those who watch one project may ask for: each of these answers with what is that project's.
/// Everything else is not theirs, whatever is added.
fn is_of_projects(path: &str) -> bool {
    let Some(path) = path.strip_prefix("/api/v1/") else { return false };
    let mut parts = path.split('/');
    let (first, rest): (_, Vec<&str>) = (parts.next().unwrap_or_default(), parts.collect());
    matches!(
        (first, rest.as_slice()),
        (
            "whoami"
                | "fields"
                | "live"
                | "stations"
                | "devices"
                | "kinds"
                | "projects"
                | "latest"
                | "history"
                | "aggregate"
                | "export"
                | "seen"
                | "gaps"
                | "alarms",
            [],
        ) | ("live", ["history"])
            | ("stations" | "devices" | "kinds" | "projects" | "alarms", [_])
            | ("stations", [_, "seen" | "gaps"])
            | ("devices", [_, "latest" | "history" | "seen" | "gaps"])
    )
}

fn forbidden(header: &str, value: &str) -> ApiError {
    let shown: String = value.chars().take(60).collect();
    let error = format!("{header} {shown:?} does not name this service");
    ApiError::new(StatusCode::FORBIDDEN, error)
}

fn check_loopback(request: &Request) -> Result<(), ApiError> {
    let forbidden = |header: &str, value: &str| {
        forbidden(header, value).accepting("localhost, 127.0.0.1 or [::1]")
    };
    let headers = request.headers();
    let text = |name| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()));
    if let Some(host) = text(header::HOST) {
        match host.parse::<Authority>() {
            Ok(authority) if is_loopback(authority.host()) => {}
            _ => return Err(forbidden("host", &host)),
        }
    } else if request.uri().host().is_none() {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "the request has no Host header"));
    }
    if let Some(host) = request.uri().host()
        && !is_loopback(host)
    {
        return Err(forbidden("host", host));
    }
    if let Some(origin) = text(header::ORIGIN) {
        let own = origin.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback));
        if !own {
            return Err(forbidden("origin", &origin));
        }
    }
    Ok(())
}

/// An origin, where one is named, is the host that was asked.
fn check_origin(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let same = origin.parse::<Uri>().is_ok_and(|uri| {
        uri.authority().is_some_and(|it| host.is_some_and(|h| h.eq_ignore_ascii_case(it.as_str())))
    });
    if same { Ok(()) } else { Err(forbidden("origin", &origin)) }
}

fn is_loopback(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
