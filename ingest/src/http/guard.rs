//! Who may ask. A web page on the operator's machine can reach a loopback port: by
//! a name of its own that it points at 127.0.0.1 (DNS rebinding), or by a request across origins.
//! So while the listener is on loopback, `Host` must name loopback, and `Origin`, where a browser
//! sends one, must be ours.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// Lets a request through or answers it. `loopback` says where the listener is.
pub(super) async fn guard(State(loopback): State<bool>, request: Request, next: Next) -> Response {
    if loopback && let Err(refused) = check(&request) {
        return refused.into_response();
    }
    next.run(request).await
}

fn check(request: &Request) -> Result<(), ApiError> {
    let forbidden = |header: &str, value: &str| {
        let shown: String = value.chars().take(60).collect();
        let error = format!("{header} {shown:?} does not name this service");
        ApiError::new(StatusCode::FORBIDDEN, error).accepting("localhost, 127.0.0.1 or [::1]")
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

fn is_loopback(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
