//! Commands down to stations by the real binary: delivered, queued, expired, and through a SIGKILL.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use loushan_schemas::pb;
use loushan_simulator::FleetOptions;
use prost::Message as _;
use serde_json::{Value, json};
use support::fleet::Running;
use support::{DEADLINE, Service, wait_for};

const STATION: &str = "bs9001";
const DOWN: &str = "nb1/zunyi/bs9001/d";

fn data() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let line =
        "station,region,project,name,lat,lon,area\nbs9001,zunyi,water,Hill,27.7,106.9,east\n";
    std::fs::write(data.join("stations.csv"), line).unwrap();
    (dir, data)
}

fn token(data: &Path) -> String {
    std::fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned()
}

/// Status and body of a POST.
fn post(service: &Service, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(DEADLINE))
        .build()
        .into();
    let mut request = agent
        .post(format!("http://{}{path}", service.http))
        .header("Content-Type", "application/json");
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut answer = request.send(body.to_string()).unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn send(service: &Service, wait: u64, body: &Value) -> (u16, Value) {
    let path = format!("/api/v1/stations/{STATION}/commands?wait={wait}");
    post(service, &path, Some(&token(&service.data)), body)
}

fn told(service: &Service, id: &Value) -> Value {
    service.json(&format!("/api/v1/stations/{STATION}/commands/{id}"))
}

/// A station by mosquitto that takes `count` commands and ends.
fn station(service: &Service, count: u32) -> Child {
    Command::new("mosquitto_sub")
        .args(["-V", "5", "-h", "127.0.0.1", "-p", &service.mqtt.port().to_string()])
        .args(["-i", STATION, "-t", DOWN, "-q", "1", "-F", "%x", "-C", &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub, of Debian's mosquitto-clients")
}

/// The commands that it took.
fn taken(station: Child) -> Vec<pb::Command> {
    let output = station.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let decode = |line: &str| {
        let bytes: Vec<u8> = line.as_bytes().chunks(2).map(byte).collect();
        pb::Command::decode(&*bytes).unwrap()
    };
    text.lines().map(decode).collect()
}

#[test]
fn a_command_waits_on_disk_for_a_station_that_was_never_here_and_reaches_it_after_a_kill() {
    let (_dir, data) = data();
    let service = Service::start(&data);
    let first = json!({ "name": "reboot", "arguments": "now", "expiry_s": 600 });
    let (status, queued) = send(&service, 0, &first);
    assert_eq!((status, &queued["state"]), (202, &json!("queued")), "{queued}");
    let (_, second) = send(&service, 0, &json!({ "name": "open", "arguments_hex": "00ff" }));
    service.kill();

    let service = Service::start(&data);
    assert_eq!(told(&service, &queued["id"])["state"], "queued");
    let commands = taken(station(&service, 2));
    let named: Vec<_> = commands.iter().map(|c| (c.name.as_str(), &c.arguments[..])).collect();
    assert_eq!(named, [("reboot", &b"now"[..]), ("open", &[0x00, 0xff])]);
    assert_eq!(Some(commands[0].command_id), queued["id"].as_u64());
    for id in [&queued["id"], &second["id"]] {
        wait_for("the acknowledgement", || {
            (told(&service, id)["state"] == "delivered").then_some(())
        });
    }
    // It stays delivered, and does not come again.
    service.kill();
    let service = Service::start(&data);
    assert_eq!(told(&service, &queued["id"])["state"], "delivered");
    let here = station(&service, 1);
    let (status, third) = send(&service, 30, &json!({ "name": "third" }));
    assert_eq!((status, &third["state"]), (200, &json!("delivered")), "{third}");
    let commands = taken(here);
    assert_eq!(commands[0].name, "third");

    // What the station says of it is told.
    let result = pb::CommandResult {
        command_id: third["id"].as_u64().unwrap(),
        outcome: pb::command_result::Outcome::Refused.into(),
        detail: "no".to_owned(),
        time_ms: 5,
        session: 7,
        seq: 0,
        schema_major: 1,
        ..Default::default()
    };
    let mut publisher = support::mqtt::Publisher::connect(service.mqtt, STATION);
    let answer = publisher.publish("nb1/zunyi/bs9001/u/r", result.encode_to_vec());
    assert_eq!(answer.reason(), "Success");
    let told = wait_for("the result", || {
        let told = told(&service, &third["id"]);
        (!told["result"].is_null()).then_some(told)
    });
    let expected = json!({ "outcome": "refused", "detail": "no", "time_ms": 5 });
    assert_eq!(told["result"], expected);
    assert!(service.terminate().success());
}

#[test]
fn a_command_expires_and_is_refused_to_strangers_and_for_strangers() {
    let (_dir, data) = data();
    let service = Service::start(&data);
    let (status, late) = send(&service, 30, &json!({ "name": "soon", "expiry_s": 1 }));
    assert_eq!((status, &late["state"]), (200, &json!("expired")), "{late}");
    let path = format!("/api/v1/stations/{STATION}/commands");
    let body = json!({ "name": "x" });
    assert_eq!(post(&service, &path, None, &body).0, 401);
    assert_eq!(post(&service, &path, Some("wrong"), &body).0, 401);
    let token = token(&data);
    let token = Some(token.as_str());
    assert_eq!(post(&service, "/api/v1/stations/nowhere/commands", token, &body).0, 404);
    for bad in [
        json!({}),
        json!({ "name": "" }),
        json!({ "name": "x", "expiry_s": 0 }),
        json!({ "name": "x", "imei": "1" }),
        json!({ "name": "x", "arguments_hex": "0" }),
        json!({ "name": "x", "colour": "red" }),
    ] {
        assert_eq!(post(&service, &path, token, &bad).0, 400, "{bad}");
    }
    // The same again is the same; another one by its id is refused.
    let named = json!({ "name": "x", "id": 77, "expiry_s": 600 });
    let (_, first) = send(&service, 0, &named);
    let (_, again) = send(&service, 0, &named);
    assert_eq!(first, again);
    assert_eq!(send(&service, 0, &json!({ "name": "y", "id": 77 })).0, 409);
    assert!(service.get(&format!("{path}/78")).is_err_and(|(status, _)| status == 404));
    let commands = taken(station(&service, 1));
    assert_eq!(commands[0].name, "x");
    assert!(service.terminate().success());
}

#[test]
fn the_simulators_stations_answer() {
    let (_dir, data) = data();
    let service = Service::start(&data);
    let fleet = Running::start(FleetOptions {
        stations: 2,
        seed: 5,
        rate: Some(20),
        ..FleetOptions::new(format!("mqtt://{}", service.mqtt))
    });
    let station = wait_for("a station", || {
        let stations = service.json("/api/v1/stations");
        let mut all = stations["stations"].as_array()?.iter();
        let online = all.find(|station| station["online"] == true)?;
        Some(online["station"].as_str()?.to_owned())
    });
    let path = format!("/api/v1/stations/{station}/commands");
    let token = token(&data);
    let (status, sent) =
        post(&service, &format!("{path}?wait=30"), Some(&token), &json!({ "name": "test" }));
    assert_eq!((status, &sent["state"]), (200, &json!("delivered")), "{sent}");
    let told = wait_for("the answer", || {
        let told = service.json(&format!("{path}/{}", sent["id"]));
        (!told["result"].is_null()).then_some(told)
    });
    assert_eq!(told["result"]["outcome"], "done");
    let summary = fleet.stop();
    assert!(summary.figures.counts.commands_answered >= 1, "{summary}");
    assert!(service.terminate().success());
}
