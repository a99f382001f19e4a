//! Commands by HTTP, to stations that are away: what is refused, how, and what is sent once.

use loushan_broker::Broker;
use loushan_broker::config::BrokerConfig;
use loushan_broker::handler::{AckTicket, Busy, Lane, Publish, PublishHandler};
use loushan_broker::persist::{Opened, StoreOptions};

use super::*;
use crate::clock::Clock;
use crate::registry::{Registry, RegistryLimits};

const PATH: &str = "/api/v1/stations/bs1/commands";

/// Claims nothing.
struct Nobody;

impl PublishHandler for Nobody {
    fn claims(&self, _: &str) -> Option<Lane> {
        None
    }

    fn handle(&self, publish: Publish, ticket: AckTicket) -> Result<(), Busy> {
        Err(Busy { publish, ticket })
    }

    fn ready(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// A server with stations bs1 and bs2, which are away.
async fn start() -> Server {
    let server = Server::start().await;
    let options = StoreOptions { folder: None, clock: Arc::new(|| 1_000) };
    let opened = Opened::open(options).unwrap();
    let everybody = Arc::new(loushan_broker::auth::AllowAll);
    let config = BrokerConfig::default();
    let broker = Arc::new(Broker::restored(config, Arc::new(Nobody), everybody, Some(opened)));
    let registry = Arc::new(Registry::new(RegistryLimits::default()));
    registry.load(
        b"station,region,project,name,lat,lon,area\n\
          bs1,zunyi,water,Hill,27.7,106.9,east\nbs2,zunyi,water,Vale,27.7,106.9,east\n",
    );
    let commands = Commands::new(broker, registry, Clock::manual(1_000_000_000));
    server.fake.commands.set(commands).unwrap();
    server
}

/// Status, whether it says when to come again, and body.
async fn post(server: &Server, path: &str, body: impl Into<reqwest::Body>) -> (u16, bool, Value) {
    let client = reqwest::Client::new();
    let post = client.post(server.url(path)).bearer_auth(&server.token).body(body);
    let answer = post.send().await.unwrap();
    let (status, again) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
    let bytes = answer.bytes().await.unwrap();
    (status, again, serde_json::from_slice(&bytes).expect("JSON, whatever happened"))
}

async fn send(server: &Server, body: &Value) -> (u16, bool, Value) {
    post(server, &format!("{PATH}?wait=0"), body.to_string()).await
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_said_by_field_value_and_remedy() {
    let server = start().await;
    let long = "x".repeat(65 * 1024);
    for (body, field, value) in [
        (json!({}), "name", None),
        (json!({ "name": "" }), "name", Some("")),
        (json!({ "name": 7 }), "name", Some("7")),
        (json!({ "name": "x", "id": "77" }), "id", Some("\"77\"")),
        (json!({ "name": "x", "id": 0 }), "id", Some("0")),
        (json!({ "name": "x", "id": 1_u64 << 53 }), "id", Some("9007199254740992")),
        (json!({ "name": "x", "id": -1 }), "id", Some("-1")),
        (json!({ "name": "x", "expiry_s": 1.5 }), "expiry_s", Some("1.5")),
        (json!({ "name": "x", "expiry_s": 604_801 }), "expiry_s", Some("604801")),
        (json!({ "name": "x", "imei": "1" }), "imei", Some("1")),
        (json!({ "name": "x", "arguments": [1] }), "arguments", Some("[1]")),
        (json!({ "name": "x", "arguments_hex": "0" }), "arguments_hex", Some("0")),
        (json!({ "name": "x", "arguments_hex": "é" }), "arguments_hex", Some("é")),
        (json!({ "name": "x", "arguments": "a", "arguments_hex": "00" }), "arguments", Some("a")),
        (json!({ "name": "x", "arguments": long }), "arguments", Some("66560 bytes")),
    ] {
        let (status, _, said) = send(&server, &body).await;
        assert_eq!((status, said["parameter"].as_str()), (400, Some(field)), "{said}");
        assert_eq!(said["value"].as_str(), value, "{said}");
        assert!(said["accepted"].is_string() && said["error"].is_string(), "{said}");
    }
    for body in ["", "[]", "{\"name\":\"a\",\"name\":\"b\"}", "{\"name\":\"x\",\"colour\":1}"] {
        let (status, _, said) = post(&server, PATH, body).await;
        assert_eq!((status, &said["parameter"]), (400, &json!("body")), "{body}: {said}");
    }
    let (status, _, said) = post(&server, &format!("{PATH}?wait=61"), "{\"name\":\"x\"}").await;
    assert_eq!((status, &said["parameter"]), (400, &json!("wait")));
    let (status, _, said) = post(&server, "/api/v1/stations/BS%2F1/commands", "{}").await;
    assert_eq!((status, &said["parameter"]), (400, &json!("station")));
    let (status, _, said) = post(&server, PATH, vec![b' '; 1024 * 1024]).await;
    assert!(status == 413 && said["accepted"].is_string(), "{said}");
    let nowhere = "/api/v1/stations/bs3/commands";
    let (status, _, said) = post(&server, nowhere, "{\"name\":\"x\"}").await;
    assert!(status == 404 && said["error"].as_str().unwrap().contains("bs3"), "{said}");
}

#[tokio::test]
async fn only_an_admin_sends_commands() {
    let server = start().await;
    let client = reqwest::Client::new();
    let post = || client.post(server.url(PATH)).body("{\"name\":\"x\"}");
    assert_eq!(post().send().await.unwrap().status().as_u16(), 401);
    assert_eq!(post().bearer_auth("guess").send().await.unwrap().status().as_u16(), 401);
    let forged = post().bearer_auth(&server.token).header("origin", "https://example.org");
    assert_eq!(forged.send().await.unwrap().status().as_u16(), 403);
    // Of all that, nothing came.
    let (status, _, sent) = send(&server, &json!({ "name": "x", "id": 5 })).await;
    assert_eq!((status, &sent["state"]), (202, &json!("queued")));
    assert_eq!(server.get(&format!("{PATH}/5")).await, (200, sent));
    assert_eq!(server.get(&format!("{PATH}/6")).await.0, 404);
    assert_eq!(server.get(&format!("{PATH}/six")).await.0, 400);
    assert_eq!(server.get("/api/v1/stations/bs2/commands/5").await.0, 404, "it is bs1's");
}

#[tokio::test]
async fn a_command_that_is_repeated_with_its_id_is_one_and_another_by_that_id_is_refused() {
    let server = start().await;
    let command = json!({ "name": "x", "arguments": "a", "id": 5 });
    let first = send(&server, &command).await;
    assert_eq!(first.0, 202);
    assert_eq!(send(&server, &command).await, first);
    for other in [
        json!({ "name": "y", "arguments": "a", "id": 5 }),
        json!({ "name": "x", "arguments": "b", "id": 5 }),
    ] {
        assert_eq!(send(&server, &other).await.0, 409);
    }
    let elsewhere = post(&server, "/api/v1/stations/bs2/commands", command.to_string()).await;
    assert!(elsewhere.0 == 409 && elsewhere.2["accepted"].is_string(), "{elsewhere:?}");
    // Without an id each is one of its own.
    let [(_, _, one), (_, _, two)] = [
        send(&server, &json!({ "name": "x" })).await,
        send(&server, &json!({ "name": "x" })).await,
    ];
    assert!(one["id"].as_u64() < two["id"].as_u64());
}

#[tokio::test]
async fn so_many_commands_wait_for_one_station_and_other_stations_are_not_concerned() {
    let server = start().await;
    for id in 1..=100 {
        assert_eq!(send(&server, &json!({ "name": "x", "id": id })).await.0, 202);
    }
    let (status, again, said) = send(&server, &json!({ "name": "x", "id": 101 })).await;
    assert!(status == 429 && again, "{said}");
    assert!(said["error"].as_str().unwrap().contains("bs1") && said["accepted"].is_string());
    assert_eq!(send(&server, &json!({ "name": "x", "id": 7 })).await.0, 202, "it waits already");
    let path = "/api/v1/stations/bs2/commands?wait=0";
    assert_eq!(post(&server, path, "{\"name\":\"x\"}").await.0, 202);
}
