//! The live feed of the real binary, and what the console asks beside it: from a publish to an event,
//! over a restart, and for those who watch one project.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Lines, Read};
use std::net::SocketAddr;

use prost::Message as _;
use serde_json::Value;

mod support;

use support::mqtt::Publisher;
use support::wire::{batch, imei, one, parking};
use support::{DEADLINE, Service, loushan, wait_for};

const STATIONS: &str = "station,region,project,name,lat,lon,area\n\
                        bs0001,xinpu,parking,Gate,27.7,106.9,Xinpu\n\
                        bs0002,xinpu,lights,Square,27.8,106.8,Huichuan\n";

/// A client of the feed. Its reads end with a deadline.
struct Feed(Lines<BufReader<Box<dyn Read>>>);

impl Feed {
    fn open(http: SocketAddr, query: &str) -> Self {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_recv_body(Some(4 * DEADLINE)).build().into();
        let answer = agent.get(format!("http://{http}/api/v1/live{query}")).call().unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let body: Box<dyn Read> = Box::new(answer.into_body().into_reader());
        Self(BufReader::new(body).lines())
    }

    /// The next event of that name for which `wanted` gives something; `None` at the end of the stream.
    fn find<T>(&mut self, name: &str, mut wanted: impl FnMut(&Value) -> Option<T>) -> Option<T> {
        let mut event = String::new();
        loop {
            let line = self.0.next()?.unwrap();
            if let Some(named) = line.strip_prefix("event: ") {
                named.clone_into(&mut event);
            }
            if event == name
                && let Some(data) = line.strip_prefix("data: ")
                && let Some(found) = wanted(&serde_json::from_str(data).unwrap())
            {
                return Some(found);
            }
        }
    }
}

fn start(data: &tempfile::TempDir) -> Service {
    std::fs::write(data.path().join("stations.csv"), STATIONS).unwrap();
    Service::start(data.path())
}

#[test]
fn what_is_published_is_seen_live_with_its_station_its_figures_and_each_reading() {
    let data = tempfile::tempdir().unwrap();
    let service = start(&data);
    let mut feed = Feed::open(service.http, "?station=bs0001");
    let hello = feed.find("hello", |data| Some(data.clone())).unwrap();
    assert_eq!(hello["stations"]["rows"].as_array().unwrap().len(), 2);
    assert_eq!(hello["city"]["books"]["residue"], 0);

    let mut station = Publisher::connect(service.mqtt, "bs0001");
    let readings = (1..=3).map(|n| parking(n, 1)).collect();
    let payload = batch("bs0001", 1, 0, readings).encode_to_vec();
    assert_eq!(station.publish("nb1/xinpu/bs0001/u/t", payload).reason(), "Success");
    assert_eq!(service.json("/api/v1/stations/bs0001")["connected"], true);

    let heard = feed.find("stations", |data| {
        let rows = data["rows"].as_array()?;
        rows.iter().find(|row| row[0] == "bs0001" && row[2].as_f64() > Some(0.0)).cloned()
    });
    assert!(heard.unwrap()[3].is_i64());
    let seen = feed.find("reading", |data| Some(data["readings"].as_array()?.len()));
    assert_eq!(seen, Some(3));
    let accepted = feed
        .find("city", |data| data["books"]["accepted"].as_u64().filter(|accepted| *accepted == 3));
    assert_eq!(accepted, Some(3));

    // The pages say the same.
    let kind = wait_for("the registry to have the devices", || {
        let kind = service.json("/api/v1/kinds/parking");
        (kind["summary"]["devices"] == 3).then_some(kind)
    });
    assert_eq!(kind["areas"][0]["area"], "Xinpu");
    let page = service.json("/api/v1/stations/bs0001");
    assert_eq!(page["station"]["readings"], 3);
    assert_eq!(page["batches"][0]["accepted"], 3);
    assert_eq!(page["kinds"]["parking"], 3);
    let device = wait_for("the store to have the reading", || {
        let device = service.json(&format!("/api/v1/devices/{}", imei(1)));
        (device["journey"][4]["where"] != "on its way").then_some(device)
    });
    assert_eq!(device["device"]["station"], "bs0001");
    let at = |step: usize| device["journey"][step]["at_ms"].as_i64().unwrap();
    assert!(at(0) <= at(1) && at(1) <= at(2) && at(2) <= at(3), "{device}");
    let history = service.json("/api/v1/live/history");
    assert!(history["points"].as_u64() > Some(0));
    assert_eq!(service.json("/api/v1/projects/lights")["project"]["devices"], 0);

    // An ordered end is told.
    service.signal_terminate();
    assert!(feed.find("bye", |_| Some(())).is_some(), "it is told that the service stops");
    assert!(feed.find("city", |_| Some(())).is_none(), "and the stream ends");
    service.terminate();
}

#[test]
fn what_is_rejected_is_shown_with_its_reason_and_an_example() {
    let data = tempfile::tempdir().unwrap();
    let service = start(&data);
    let mut station = Publisher::connect(service.mqtt, "bs0001");
    station.publish("nb1/xinpu/bs0001/u/t", b"no batch".to_vec());
    let example = wait_for("the example of a reject", || {
        let pipeline = service.json("/api/v1/pipeline");
        let rejects = pipeline["rejects"].as_array()?;
        rejects
            .iter()
            .find(|it| it["examples"].as_array().is_some_and(|all| !all.is_empty()))
            .cloned()
    });
    assert_eq!(example["reason"], "undecodable");
    assert_eq!(example["examples"][0]["station"], "bs0001");
    assert_eq!(example["examples"][0]["payload_hex"], "6e6f206261746368");
    let pipeline = service.json("/api/v1/pipeline");
    for queue in pipeline["queues"].as_array().unwrap() {
        assert!(queue["bytes"].as_u64() <= queue["bound_bytes"].as_u64(), "{queue}");
    }
    service.terminate();
}

#[test]
fn a_quota_is_counted_over_a_restart_and_what_comes_beyond_it_is_taken_in_and_said() {
    let data = tempfile::tempdir().unwrap();
    let quotas = "project,readings_per_day,bytes_per_day\nparking,2,\n";
    std::fs::write(data.path().join("projects.csv"), quotas).unwrap();
    let service = start(&data);
    let mut station = Publisher::connect(service.mqtt, "bs0001");
    for n in 0..2 {
        let answer = station.publish("nb1/xinpu/bs0001/u/t", one("bs0001", 1, n, n));
        assert_eq!(answer.reason(), "Success");
    }
    let quota = |service: &Service| service.json("/api/v1/projects/parking")["project"].clone();
    wait_for("both readings to be counted", || {
        (quota(&service)["today"]["readings"] == 2).then_some(())
    });
    assert_eq!(quota(&service)["quota"]["state"], "near");
    drop(station);
    service.terminate();

    let service = Service::start(data.path());
    assert_eq!(quota(&service)["today"]["readings"], 2, "the day goes on");
    let mut station = Publisher::connect(service.mqtt, "bs0001");
    let answer = station.publish("nb1/xinpu/bs0001/u/t", one("bs0001", 2, 2, 2));
    assert_eq!(answer.reason(), "Success", "it is taken in all the same");
    wait_for("readiness to say who is past its quota", || {
        let ready = service.json("/readyz");
        let reasons = ready["reasons"].as_array()?;
        reasons.iter().find(|it| it["component"] == "quota" && it["red"] == false).map(drop)
    });
    assert_eq!(quota(&service)["quota"]["state"], "over");
    assert!(service.metric("loushan_project_quota_used_ratio") > 1.0);
    service.terminate();
}

#[test]
fn whoever_watches_one_project_gets_its_messages_by_mqtt_and_no_others() {
    use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

    let data = tempfile::tempdir().unwrap();
    let users = data.path().join("users");
    let add = |name: &str, rest: &[&str]| {
        use std::io::Write as _;
        let mut command = loushan();
        command.args(["user", "add", name, "--password-stdin", "--users"]).arg(&users).args(rest);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"secret\n").unwrap();
        assert!(child.wait().unwrap().success(), "{name}");
    };
    add("wang", &["--role", "project", "--project", "parking"]);
    add("root", &["--role", "admin"]);
    std::fs::write(data.path().join("stations.csv"), STATIONS).unwrap();
    let env = [("LOUSHAN__AUTH__USERS_FILE", users.to_str().unwrap())];
    let service = Service::start_with(data.path(), "127.0.0.1:0", "127.0.0.1:0", &env);
    let connect = |id: &str, name: &str| {
        let mut options = MqttOptions::new(id, service.mqtt.ip().to_string(), service.mqtt.port());
        options.set_credentials(name, "secret");
        Client::new(options, 16)
    };
    let (reader, mut heard) = connect("reader", "wang");
    reader.subscribe("nb1/#", QoS::AtLeastOnce).unwrap();
    let mut next = || heard.recv_timeout(DEADLINE).unwrap().unwrap();
    loop {
        if let Event::Incoming(Packet::SubAck(_)) = next() {
            break;
        }
    }
    let (admin, mut sent) = connect("admin", "root");
    let drive = std::thread::spawn(move || sent.iter().take_while(Result::is_ok).for_each(drop));
    // The other project's first: what comes in its place would come before.
    for (station, n) in [("bs0002", 1), ("bs0001", 2)] {
        let topic = format!("nb1/xinpu/{station}/u/t");
        admin.publish(topic, QoS::AtLeastOnce, false, one(station, 1, n, n)).unwrap();
    }
    let first = loop {
        if let Event::Incoming(Packet::Publish(publish)) = next() {
            break publish.topic;
        }
    };
    assert_eq!(first, "nb1/xinpu/bs0001/u/t");
    service.terminate();
    drive.join().unwrap();
}
