//! What the console asks: the live feed over HTTP, pages of stations, devices, kinds and projects, and
//! what those see who watch one project.

use loushan_broker::auth::{PasswordHash, RoleName, User, Users};
use loushan_schemas::reading::Water;

use super::*;
use crate::clock::Clock;
use crate::io::sim::SimIo;
use crate::live::LiveLimits;
use crate::pipeline::frame::DurableFrame;
use crate::registry::RegistryLimits;
use crate::sink::embedded::tests::support::{DAY, imei, row as plain, store_of};

const STATIONS: &str = "station,region,project,name,lat,lon,area\n\
                        bs1,xinpu,water,A,27.7,106.9,X\nbs2,xinpu,lights,B,27.8,106.8,Y\n";

fn readings() -> Vec<Row> {
    let row = |station: &str, kind, n| {
        let mut row = plain(kind, n, 1, DAY);
        row.station = StationId::new(station).unwrap();
        row.reading.body = Body::empty(kind);
        row
    };
    let mut meter = row("bs1", Kind::Water, 1);
    let alarms = vec![1];
    meter.reading.body = Body::Water(Water { total_l: Some(5), alarms, ..Water::default() });
    vec![meter, row("bs1", Kind::Smoke, 2), row("bs2", Kind::StreetLight, 3)]
}

/// Two stations of two projects, three devices.
async fn city(loopback: bool) -> Server {
    let server = Server::start_as(loopback).await;
    let registry = Arc::new(Registry::new(RegistryLimits::default()));
    registry.load(STATIONS.as_bytes());
    for row in readings() {
        let frame = DurableFrame {
            lsn: row.lsn,
            received: row.reading.times.received,
            topic: format!("nb1/xinpu/{}/u/t", row.station).into(),
            payload: "payload".into(),
            rows: vec![row],
            rejects: Vec::new(),
            duplicates: 0,
        };
        registry.apply(&frame);
    }
    let clock = Clock::manual(NOW_MS * 1_000_000);
    let live =
        Live::new(LiveLimits { clients: 1, ..LiveLimits::default() }, registry.clone(), clock);
    assert!(server.fake.live.set(Arc::new(live)).is_ok());
    assert!(server.fake.registry.set(registry).is_ok());
    server.fake.store.set(store_of(&SimIo::new(), vec![readings()])).unwrap();
    server
}

#[tokio::test]
async fn the_feed_is_an_event_stream_that_is_bounded_and_ends_with_the_service() {
    let server = city(true).await;
    let mut first = reqwest::get(server.url("/api/v1/live")).await.unwrap();
    assert_eq!(first.status().as_u16(), 200);
    assert_eq!(first.headers()["content-type"], "text/event-stream");
    assert_eq!(first.headers()["cache-control"], "no-store");
    let mut text = String::new();
    while !text.contains("event: hello") {
        text.push_str(std::str::from_utf8(&first.chunk().await.unwrap().unwrap()).unwrap());
    }
    let second = reqwest::get(server.url("/api/v1/live")).await.unwrap();
    assert_eq!(second.status().as_u16(), 503);
    assert!(second.headers().contains_key("retry-after"));
    for (query, parameter) in [("station=A_B", "station"), ("device=1", "device"), ("x=1", "x")] {
        let (status, body) = server.get(&format!("/api/v1/live?{query}")).await;
        assert_eq!((status, &body["parameter"]), (400, &json!(parameter)), "{query}");
    }
    server.stop.cancel();
    while let Ok(Some(chunk)) = first.chunk().await {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.contains("event: bye\ndata: {\"why\":\"the service stops\"}\n\n"), "{text}");
    server.task.await.unwrap();
}

#[tokio::test]
async fn stations_and_devices_are_told_with_places_states_and_units() {
    let server = city(true).await;
    let (_, stations) = server.get("/api/v1/stations").await;
    assert_eq!(stations["stations"][0]["name"], json!("A"));
    assert_eq!(stations["stations"][0]["state"], json!("unknown"));
    let (status, station) = server.get("/api/v1/stations/bs1").await;
    assert_eq!((status, &station["devices"]["total"]), (200, &json!(2)));
    assert_eq!(station["kinds"], json!({ "smoke": 1, "water": 1 }));
    assert_eq!(server.get("/api/v1/stations/bs9").await.0, 404);
    assert_eq!(server.get("/api/v1/stations/B S").await.0, 400);

    let (_, page) = server.get("/api/v1/devices?limit=2").await;
    assert_eq!(page["total"], json!(3));
    let next = page["next"].as_str().unwrap();
    let (_, rest) = server.get(&format!("/api/v1/devices?limit=2&after={next}")).await;
    assert_eq!((rest["devices"].as_array().unwrap().len(), &rest["next"]), (1, &json!(null)));
    let (_, filtered) = server.get("/api/v1/devices?area=Y&kind=street_light").await;
    assert_eq!(filtered["total"], json!(1));
    assert_eq!(server.get("/api/v1/devices?q=x").await.0, 400);

    let fields = server.get("/api/v1/fields").await.1;
    let water =
        fields["kinds"].as_array().unwrap().iter().find(|it| it["kind"] == "water").unwrap();
    let field = &water["fields"][0];
    assert_eq!((&field["field"], &field["unit"]), (&json!("total_l"), &json!("L")));
    assert_eq!(field["label"]["zh"], json!("累计水量"));
    let tag = reqwest::get(server.url("/api/v1/fields")).await.unwrap().headers()["etag"].clone();
    let again = reqwest::Client::new().get(server.url("/api/v1/fields"));
    let again = again.header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status().as_u16(), 304);
}

#[tokio::test]
async fn kinds_and_projects_are_told_by_area_with_what_is_the_matter() {
    let server = city(true).await;
    let (_, kind) = server.get("/api/v1/kinds/water").await;
    assert_eq!(kind["summary"]["states"]["leak"], json!(1));
    assert_eq!(kind["areas"][0]["area"], json!("X"));
    assert_eq!(kind["noteworthy"][0]["why"], json!("leak"));
    let hours = kind["hours"].as_array().unwrap();
    assert_eq!(hours.len(), 24);
    assert_eq!(server.get("/api/v1/kinds/lamp").await.0, 404);
    let (_, kinds) = server.get("/api/v1/kinds?project=lights").await;
    let devices = |kinds: &Value| -> u64 {
        kinds["kinds"].as_array().unwrap().iter().map(|it| it["devices"].as_u64().unwrap()).sum()
    };
    assert_eq!(devices(&kinds), 1);
    assert_eq!(devices(&server.get("/api/v1/kinds").await.1), 3);
    let (_, projects) = server.get("/api/v1/projects").await;
    let names: Vec<&str> = projects["projects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|project| project["project"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["lights", "water"]);
    let (_, water) = server.get("/api/v1/projects/water").await;
    assert_eq!(water["project"]["devices"], json!(2));
    assert_eq!(water["project"]["quota"]["state"], json!("none"));
    assert_eq!(water["stations"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/api/v1/projects/gas").await.0, 404);
}

#[tokio::test]
async fn a_question_about_a_project_is_answered_of_its_stations_readings() {
    let server = city(true).await;
    let count = async |query: &str| {
        let text = reqwest::get(server.url(query)).await.unwrap().text().await.unwrap();
        text.lines().count()
    };
    assert_eq!(count("/api/v1/export?kind=water&project=water&format=ndjson").await, 1);
    assert_eq!(count("/api/v1/export?kind=street_light&project=water&format=ndjson").await, 0);
    assert_eq!(count("/api/v1/history?kind=street_light&project=lights&format=ndjson").await, 1);
    let (status, body) = server.get("/api/v1/export?kind=water&project=gas").await;
    assert_eq!((status, &body["parameter"]), (400, &json!("project")));
    assert_eq!(body["accepted"], json!("lights, water"));
}

/// A service that knows somebody who watches the project `water`, and how to ask as that.
struct Watched(Server, reqwest::Client);

impl Watched {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let mut users = Users::default();
        let hash = PasswordHash::make(b"secret").unwrap();
        let user = User::new("wang", RoleName::Project, None, Some("water"), Some(hash));
        users.insert("wang", user.unwrap());
        users.write(&path).unwrap();
        let config = AuthConfig { users_file: Some(path), ..AuthConfig::default() };
        let server = city(true).await;
        let directory = Directory::open(config, Arc::new(|| std::time::UNIX_EPOCH)).unwrap();
        let access = Access::new(Arc::new(directory), BearerToken::draw().unwrap(), false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (view, stop): (Arc<dyn View>, _) = (server.fake.clone(), server.stop.clone());
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let task = tokio::spawn(serve(listener, None, view, metrics, access, LIMITS, stop));
        let server = Server { address, task, ..server };
        Self(server, reqwest::Client::new())
    }

    async fn ask(&self, path: &str) -> (u16, String) {
        let get = self.1.get(self.0.url(path)).basic_auth("wang", Some("secret"));
        let answer = get.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test]
async fn whoever_watches_one_project_sees_that_one_and_nothing_of_the_others() {
    let watched = Watched::start().await;
    let (_, me) = watched.ask("/api/v1/whoami").await;
    assert!(me.contains("\"role\":\"project\"") && me.contains("\"project\":\"water\""), "{me}");
    for path in [
        "/api/v1/stations",
        "/api/v1/stations/bs1",
        "/api/v1/devices",
        "/api/v1/kinds",
        "/api/v1/kinds/street_light",
        "/api/v1/projects",
        "/api/v1/projects/water",
        "/api/v1/latest",
        "/api/v1/history?kind=street_light",
        "/api/v1/export?kind=street_light",
        "/api/v1/aggregate?field=battery_pct&by=station",
        "/api/v1/live/history",
    ] {
        let (status, text) = watched.ask(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        assert!(!text.contains("bs2") && !text.contains("lights"), "{path}: {text}");
        assert!(!text.contains(&imei(3).to_string()), "{path}: {text}");
    }
    let foreign = imei(3);
    for path in [
        "/api/v1/stations/bs2".to_owned(),
        "/api/v1/projects/lights".to_owned(),
        format!("/api/v1/devices/{foreign}"),
        format!("/api/v1/devices/{foreign}/seen"),
        "/api/v1/stations/bs2/seen".to_owned(),
    ] {
        assert_eq!(watched.ask(&path).await.0, 404, "{path}");
    }
    for path in ["/api/v1/kinds?project=lights", "/api/v1/export?kind=water&project=lights"] {
        assert_eq!(watched.ask(path).await.0, 400, "{path}");
    }
    for path in [
        "/metrics",
        "/readyz",
        "/api/v1/pipeline",
        "/api/v1/sinks",
        "/api/v1/conservation",
        "/api/v1/retention",
        "/api/v1/readings/export",
        "/api/v1/readings/count",
        "/api/v1/dead-letters/export",
        "/api/v1/stations/bs1/commands/1",
        "/api/v1/%73inks",
        "/api/v1/anything/new",
    ] {
        assert_eq!(watched.ask(path).await.0, 403, "{path}");
    }
}
