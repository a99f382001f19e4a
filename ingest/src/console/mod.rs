//! The console: a page for people, of files that are in the binary.
//!
//! Nothing here knows the service. The page asks the API, as anybody would, so the files need no
//! credentials, and hold nothing worth hiding. They come from this process alone: no other host is
//! asked for anything, and the policy sent with each of them says so to the browser. It allows no script
//! and no style within the page, no frame around it, and (trusted types) no text that becomes HTML.
//!
//! A file's ETag is its digest. Browsers keep files and ask each time whether they have changed, so a
//! page never mixes files of two versions for longer than it takes to load it again.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use xxhash_rust::xxh3::xxh3_128;

#[cfg(test)]
mod tests;

/// What the browser may do with what it is given.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the console.
struct File {
    path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($media_type:ident: $($path:literal)+;)+) => {
        &[$($(File {
            path: $path,
            media_type: media_type!($media_type),
            bytes: include_bytes!(concat!("assets/", $path)),
        },)+)+]
    };
}

macro_rules! media_type {
    (html) => {
        "text/html; charset=utf-8"
    };
    (css) => {
        "text/css; charset=utf-8"
    };
    (js) => {
        "text/javascript; charset=utf-8"
    };
    (svg) => {
        "image/svg+xml"
    };
}

/// All files; a test holds the list against the folder.
const FILES: &[File] = files! {
    html: "index.html";
    svg: "icon.svg";
    css: "styles/base.css" "styles/parts.css" "styles/drawings.css";
    js:
        "alarm_table.js" "api.js" "app.js" "device_table.js" "dom.js" "fields.js" "format.js"
        "i18n.js" "live.js" "parts.js" "readings.js" "shares.js" "shell.js" "sign_in.js"
        "sound.js" "sse.js"
        "drawings/chart.js" "drawings/map.js" "drawings/points.js" "drawings/scale.js"
        "drawings/spark.js"
        "i18n/en.js" "i18n/zh.js"
        "pages/alarms.js" "pages/city.js" "pages/city_tiles.js" "pages/device.js"
        "pages/device_history.js" "pages/devices.js" "pages/kind.js" "pages/kinds.js"
        "pages/pipeline.js" "pages/pipeline_letters.js" "pages/pipeline_sinks.js"
        "pages/project.js" "pages/projects.js" "pages/station.js";
};

/// `/`, and the page's other files below `/console/`.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route(
            "/console/{*path}",
            get(
                |Path(path): Path<String>, headers: HeaderMap| async move { file(&path, &headers) },
            ),
        )
}

fn file(path: &str, asked: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.path == path) else {
        return (StatusCode::NOT_FOUND, "the console has no such file").into_response();
    };
    let etag = format!("\"{:032x}\"", xxh3_128(file.bytes));
    let known = asked.get_all(header::IF_NONE_MATCH).iter().any(|value| names(value, &etag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Bytes::from_static(file.bytes).into_response();
        set(&mut response, header::CONTENT_TYPE, file.media_type);
        response
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    set(&mut response, header::CACHE_CONTROL, "no-cache");
    set(&mut response, header::CONTENT_SECURITY_POLICY, POLICY);
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, header::X_FRAME_OPTIONS, "DENY");
    set(&mut response, header::REFERRER_POLICY, "no-referrer");
    response
}

fn set(response: &mut Response, name: header::HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// Whether an `If-None-Match` has the tag; weak tags count, as proxies make them (RFC 9110 13.1.2).
fn names(value: &HeaderValue, etag: &str) -> bool {
    let Ok(value) = value.to_str() else { return false };
    value
        .split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
