#![allow(clippy::unwrap_used)]

mod commands;
mod console;
mod questions;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use loushan_broker::auth::{AuthConfig, BearerToken, Directory};
use loushan_schemas::ids::{Imei, Region, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Common, Reading, TimeSource, Times};
use loushan_schemas::row::Row;
use loushan_schemas::time::{DeviceTime, ReceiveTime};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::task::JoinHandle;

use super::view::{Answer, Conservation, Span, ViewError};
use super::*;
use crate::ask::Place;
use crate::commands::Commands;
use crate::live::Live;
use crate::readiness::{Component, Condition, Readiness};
use crate::registry::Registry;
use crate::sink::SinkStatus;
use crate::sink::embedded::Store;

const ROWS: u64 = 20_000;
const NOW_MS: i64 = 1_795_564_800_000;

/// A service with one device and twenty thousand readings.
#[derive(Debug, Default)]
struct Fake {
    red: AtomicBool,
    broken: AtomicBool,
    endless: AtomicBool,
    commands: OnceLock<Commands>,
    store: OnceLock<Store>,
    registry: OnceLock<Arc<Registry>>,
    live: OnceLock<Arc<Live>>,
}

fn device() -> Imei {
    Imei::from_body(86_000_000_000_001)
}

fn row(lsn: u64) -> Row {
    let effective = DeviceTime::from_ms(1_772_352_000_000).unwrap();
    Row {
        lsn,
        region: Region::new("r1").unwrap(),
        station: StationId::new("bs0001").unwrap(),
        session: 1,
        batch_seq: lsn,
        replay: false,
        reading: Reading {
            imei: Some(device()),
            boot_epoch: 0,
            seq: lsn,
            times: Times {
                measured: None,
                heard: None,
                received: ReceiveTime::from_ns(0),
                effective,
                source: TimeSource::Received,
            },
            common: Common::default(),
            body: Body::empty(Kind::Parking),
            quality: Quality::Accepted,
            reason: None,
        },
    }
}

impl View for Fake {
    fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::default();
        if self.red.load(Ordering::SeqCst) {
            readiness.note(Component::Log, Condition::red("a sync failed"));
        }
        readiness
    }

    fn conservation(&self) -> Conservation {
        let status = SinkStatus::new("embedded");
        status.set_trouble(Some("slow".to_owned()));
        Conservation {
            durable_lsn: 7,
            received: 5,
            accepted: 3,
            duplicate: 1,
            sinks: vec![status.figures()],
            ..Conservation::default()
        }
    }

    fn record_metrics(&self) {}

    fn commands(&self) -> Option<&Commands> {
        self.commands.get()
    }

    fn live(&self) -> Option<&Arc<Live>> {
        self.live.get()
    }

    fn registry(&self) -> Option<(Arc<Registry>, i64)> {
        Some((Arc::clone(self.registry.get()?), NOW_MS))
    }

    fn place(&self) -> Option<Place> {
        let store = self.store.get()?.clone();
        Some(Place { store, registry: self.registry.get().cloned(), now_ms: NOW_MS })
    }

    fn latest(&self, imei: Imei) -> Result<Answer<Option<Row>>, ViewError> {
        Ok(Answer { value: (imei == device()).then(|| row(9)), as_of_lsn: 9 })
    }

    fn count(&self, _: Option<Kind>, span: Span) -> Result<Answer<u64>, ViewError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(ViewError("/secret/path is unreadable".to_owned()));
        }
        Ok(Answer { value: u64::from(span.from < span.to), as_of_lsn: 9 })
    }

    fn export_rows(
        &self,
        after_lsn: u64,
        give: &mut dyn FnMut(&Row) -> ControlFlow<()>,
    ) -> Result<(), ViewError> {
        let endless = self.endless.load(Ordering::SeqCst);
        for lsn in after_lsn + 1.. {
            if (lsn > ROWS && !endless) || give(&row(lsn)).is_break() {
                break;
            }
        }
        if self.broken.load(Ordering::SeqCst) { Err(ViewError("torn".to_owned())) } else { Ok(()) }
    }

    fn export_dead_letters(
        &self,
        _: u64,
        give: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), ViewError> {
        let _asked_to_stop = give("{\"lsn\":1}");
        Ok(())
    }
}

const LIMITS: HttpLimits = HttpLimits {
    exports: 1,
    connections: 64,
    query: QueryLimits { memory: 64 << 20, timeout: std::time::Duration::from_secs(60) },
};

struct Server {
    fake: Arc<Fake>,
    address: SocketAddr,
    token: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        Self::start_as(true).await
    }

    /// As if the listener were on loopback, or were not.
    async fn start_as(loopback: bool) -> Self {
        Self::start_with(loopback, LIMITS).await
    }

    async fn start_with(loopback: bool, limits: HttpLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fake, stop) = (Arc::new(Fake::default()), CancellationToken::new());
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let view: Arc<dyn View> = fake.clone();
        let config = AuthConfig::open();
        let directory = Directory::open(config, Arc::new(|| std::time::UNIX_EPOCH)).unwrap();
        let admin = BearerToken::draw().unwrap();
        let token = admin.reveal().to_owned();
        let access = Access::new(Arc::new(directory), admin, loopback);
        let task = tokio::spawn(serve(listener, None, view, metrics, access, limits, stop.clone()));
        Self { fake, address, token, stop, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(self.url(path)).await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }
}

#[tokio::test]
async fn readiness_names_its_reasons() {
    let server = Server::start().await;
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/readyz").await, (200, json!({ "ready": true, "reasons": [] })));
    server.fake.red.store(true, Ordering::SeqCst);
    let reason = json!({ "component": "log", "red": true, "what": "a sync failed" });
    assert_eq!(server.get("/readyz").await, (503, json!({ "ready": false, "reasons": [reason] })));
}

#[tokio::test]
async fn a_device_has_a_latest_reading() {
    let server = Server::start().await;
    let (status, body) = server.get(&format!("/api/v1/devices/{}/latest", device())).await;
    assert_eq!((status, &body["as_of_lsn"], &body["reading"]["lsn"]), (200, &json!(9), &json!(9)));
    let other = Imei::from_body(86_000_000_000_002);
    assert_eq!(server.get(&format!("/api/v1/devices/{other}/latest")).await.0, 404);
}

#[tokio::test]
async fn errors_name_parameter_value_and_what_is_accepted() {
    let server = Server::start().await;
    for (path, parameter, value) in [
        ("/api/v1/devices/123/latest", "imei", "123"),
        ("/api/v1/readings/count?kind=lamp", "kind", "lamp"),
        ("/api/v1/readings/count?from=yesterday", "from", "yesterday"),
        ("/api/v1/readings/count?from=2&to=1", "to", "1"),
        ("/api/v1/readings/count?colour=red", "colour", "red"),
        ("/api/v1/readings/count?from=1&from=2", "from", "1"),
        ("/api/v1/readings/export?after_lsn=-1", "after_lsn", "-1"),
        ("/api/v1/stations?page=2", "page", "2"),
    ] {
        let (status, body) = server.get(path).await;
        assert_eq!((status, body["parameter"].as_str()), (400, Some(parameter)), "{path}");
        assert_eq!(body["value"].as_str(), Some(value), "{path}");
        assert!(body["accepted"].is_string() && body["error"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_json() {
    let server = Server::start().await;
    let (status, body) = server.get("/api/v2/all").await;
    assert_eq!(status, 404);
    assert!(body["accepted"].as_str().unwrap().contains("/api/v1/stations"));
    let post = reqwest::Client::new().post(server.url("/api/v1/stations"));
    let post = post.bearer_auth(&server.token).send().await.unwrap();
    assert_eq!(post.status().as_u16(), 405);
    let body: Value = serde_json::from_slice(&post.bytes().await.unwrap()).unwrap();
    assert_eq!(body["accepted"], json!("GET, HEAD"));
}

#[tokio::test]
async fn what_fails_inside_is_not_told_outside() {
    let server = Server::start().await;
    server.fake.broken.store(true, Ordering::SeqCst);
    let (status, body) = server.get("/api/v1/readings/count").await;
    assert_eq!(status, 500);
    assert!(!body.to_string().contains("secret"));
}

#[tokio::test]
async fn the_books_are_shown_with_their_residue() {
    let server = Server::start().await;
    let (_, body) = server.get("/api/v1/conservation").await;
    assert_eq!((&body["durable_lsn"], &body["residue"]), (&json!(7), &json!(1)));
    assert_eq!(body["sinks"][0]["name"], json!("embedded"));
    assert_eq!(body["sinks"][0]["trouble"], json!("slow"));
    assert_eq!(server.get("/api/v1/sinks").await.1["sinks"][0]["residue"], json!(0));
}

#[tokio::test]
async fn an_export_gives_every_row_once_from_where_it_is_asked_to() {
    let server = Server::start().await;
    let path = format!("/api/v1/readings/export?after_lsn={}", 10);
    let text = reqwest::get(server.url(&path)).await.unwrap().text().await.unwrap();
    let lsns: Vec<u64> = text.lines().map(|line| Row::from_json(line).unwrap().lsn).collect();
    assert!(lsns.iter().copied().eq(11..=ROWS), "{} rows", lsns.len());
    let text = reqwest::get(server.url("/api/v1/dead-letters/export")).await.unwrap();
    assert_eq!(text.text().await.unwrap(), "{\"lsn\":1}\n");
}

#[tokio::test]
async fn an_export_that_fails_midway_is_broken_off() {
    let server = Server::start().await;
    server.fake.broken.store(true, Ordering::SeqCst);
    let answer = reqwest::get(server.url("/api/v1/readings/export")).await.unwrap();
    assert!(answer.bytes().await.is_err());
}

#[tokio::test]
async fn exports_are_bounded_and_a_stop_breaks_them_off() {
    let server = Server::start().await;
    server.fake.endless.store(true, Ordering::SeqCst);
    let mut first = reqwest::get(server.url("/api/v1/readings/export")).await.unwrap();
    assert!(first.chunk().await.unwrap().is_some());
    let second = reqwest::get(server.url("/api/v1/readings/export")).await.unwrap();
    assert_eq!(second.status().as_u16(), 503);
    assert!(second.headers().contains_key("retry-after"));
    server.stop.cancel();
    while let Ok(Some(_)) = first.chunk().await {}
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_page_of_another_name_or_origin_is_refused() {
    let server = Server::start().await;
    let client = reqwest::Client::new();
    for (header, value, status) in [
        ("host", "localhost:8080", 200),
        ("host", "[::1]", 200),
        ("host", "rebound.example:8080", 403),
        ("host", "127.0.0.1.example", 403),
        ("host", "192.0.2.1", 403),
        ("origin", "http://localhost:3000", 200),
        ("origin", "https://example.org", 403),
        ("origin", "null", 403),
    ] {
        let answer = client.get(server.url("/healthz")).header(header, value).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{header}: {value}");
    }
}

#[tokio::test]
async fn whatever_changes_something_needs_the_token_on_loopback_too() {
    let server = Server::start().await;
    let client = reqwest::Client::new();
    let post = || client.post(server.url("/api/v1/stations"));
    let answer = post().send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 401);
    assert!(answer.headers().contains_key("www-authenticate"));
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert!(body["accepted"].as_str().unwrap().contains("Bearer"), "{body}");
    assert_eq!(post().bearer_auth("guess").send().await.unwrap().status().as_u16(), 401);
    // Past the guard: there is nothing to post to.
    assert_eq!(post().bearer_auth(&server.token).send().await.unwrap().status().as_u16(), 405);
    let forged = post().bearer_auth(&server.token).header("origin", "https://example.org");
    assert_eq!(forged.send().await.unwrap().status().as_u16(), 403);
}

#[tokio::test]
async fn a_caller_is_told_who_it_is_and_an_admin_reloads_users_and_rights() {
    let server = Server::start().await;
    let anybody = json!({
        "name": null, "role": "operator", "admin": false, "project": null, "needs_token": false,
    });
    assert_eq!(server.get("/api/v1/whoami").await.1, anybody);
    let client = reqwest::Client::new();
    let me = client.get(server.url("/api/v1/whoami")).bearer_auth(&server.token);
    let me: Value =
        serde_json::from_slice(&me.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let admin = json!({
        "name": "admin.token", "role": "admin", "admin": true, "project": null, "needs_token": false,
    });
    assert_eq!(me, admin);
    let reload = || client.post(server.url("/api/v1/identity/reload"));
    assert_eq!(reload().send().await.unwrap().status().as_u16(), 401);
    let answer = reload().bearer_auth(&server.token).send().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(answer, json!({ "users": 0, "disconnected": 0 }));
}

#[tokio::test]
async fn beyond_loopback_everything_but_the_health_check_needs_credentials() {
    let server = Server::start_as(false).await;
    let client = reqwest::Client::new();
    for path in ["/healthz", "/", "/docs", "/docs/docs.js", "/api/v1/openapi.json"] {
        let answer = reqwest::get(server.url(path)).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
    }
    for path in ["/readyz", "/metrics", "/api/v1/stations", "/nowhere"] {
        let get = || client.get(server.url(path)).header("host", "loushan.example.org");
        assert_eq!(get().send().await.unwrap().status().as_u16(), 401, "{path}");
        let answer = get().bearer_auth(&server.token).send().await.unwrap();
        let expected = if path == "/nowhere" { 404 } else { 200 };
        assert_eq!(answer.status().as_u16(), expected, "{path}");
    }
    let post = |origin: &str| {
        let post = client.post(server.url("/healthz")).bearer_auth(&server.token);
        post.header("host", "loushan.example.org").header("origin", origin)
    };
    let status = post("https://loushan.example.org").send().await.unwrap().status();
    assert_eq!(status.as_u16(), 405);
    let status = post("https://example.org").send().await.unwrap().status();
    assert_eq!(status.as_u16(), 403);
}
