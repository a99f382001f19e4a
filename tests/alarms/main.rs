//! Alarms by the real binary: from a smoke reading to the API, to MQTT subscribers and to a webhook;
//! acknowledged; through SIGKILLs.

// How long it took is worth reading.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod receiver;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use loushan_schemas::pb;
use prost::Message as _;
use receiver::{Receiver, SECRET};
use support::mqtt::Publisher;
use support::{Service, loushan, run, wait_for, wire};

const STATION: &str = "bs1";
const ALARMS: &str = "nb1/zunyi/bs1/u/a";

struct Setup {
    _dir: tempfile::TempDir,
    data: PathBuf,
    receiver: Receiver,
    env: Vec<(&'static str, String)>,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let line = "station,region,project,name,lat,lon,area\nbs1,zunyi,smoke-pilot,Hill,27.7,106.9,east\n";
        std::fs::write(data.join("stations.csv"), line).unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let receiver = Receiver::start();
        let env = vec![
            ("LOUSHAN__ALARMS__CLEAR_AFTER", "0s".to_owned()),
            ("LOUSHAN__ALARMS__WEBHOOK__DUTY__URL", receiver.url()),
            ("LOUSHAN__ALARMS__WEBHOOK__DUTY__SECRET_FILE", secret.display().to_string()),
            ("LOUSHAN__ALARMS__WEBHOOK__DUTY__MAX_BACKOFF", "200ms".to_owned()),
        ];
        Self { _dir: dir, data, receiver, env }
    }

    fn start(&self) -> Service {
        let env: Vec<_> = self.env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Service::start_with(&self.data, "127.0.0.1:0", "127.0.0.1:0", &env)
    }
}

/// A batch of one smoke reading.
fn smoke(seq: u64, device: u64, state: pb::smoke::State) -> Vec<u8> {
    let body = pb::Smoke { state: state.into(), ..Default::default() };
    let reading = pb::Reading {
        body: Some(pb::reading::Body::Smoke(body)),
        trigger: pb::Trigger::Alarm.into(),
        ..wire::parking(device, u32::try_from(seq).unwrap())
    };
    wire::batch(STATION, 1, seq, vec![reading]).encode_to_vec()
}

fn publish(publisher: &mut Publisher, payload: Vec<u8>) {
    assert_eq!(publisher.publish(ALARMS, payload).reason(), "Success");
}

/// What is retained below the alarms' root: topic and payload.
fn retained(service: &Service) -> Vec<(String, serde_json::Value)> {
    let output = Command::new("mosquitto_sub")
        .args(["-V", "5", "-h", "127.0.0.1", "-p", &service.mqtt.port().to_string()])
        .args(["-t", "nb1/alarms/#", "-q", "1", "--retained-only", "-W", "1", "-F", "%t %p"])
        .stdout(Stdio::piped())
        .output()
        .expect("mosquitto_sub, of Debian's mosquitto-clients");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let (topic, payload) = line.split_once(' ').unwrap();
        (topic.to_owned(), serde_json::from_str(payload).unwrap())
    };
    text.lines().map(line).collect()
}

fn cli(service: &Service, args: &[&str]) -> String {
    let mut command = loushan();
    command.arg("alarms").args(args).args(["--url", &format!("http://{}", service.http)]);
    command.arg("--token-file").arg(service.data.join("admin.token"));
    let (done, output) = run(&mut command);
    assert!(done, "{output}");
    output
}

#[test]
fn a_smoke_alarm_reaches_the_api_subscribers_and_a_webhook_and_is_acknowledged() {
    let setup = Setup::new();
    let service = setup.start();
    let mut publisher = Publisher::connect(service.mqtt, STATION);
    publish(&mut publisher, smoke(1, 1, pb::smoke::State::Normal));
    publish(&mut publisher, smoke(2, 1, pb::smoke::State::Alarm));
    let open = "/api/v1/alarms?state=open&rule=smoke";
    let alarm = wait_for("the alarm in the API", || service.json(open)["alarms"].get(0).cloned());
    let id = alarm["id"].as_str().unwrap().to_owned();
    let imei = wire::imei(1).to_string();
    assert!(id.starts_with(&format!("smoke-{imei}-")), "{id}");
    let expected = [
        ("severity", "critical"),
        ("station", STATION),
        ("imei", &imei),
        ("kind", "smoke"),
        ("project", "smoke-pilot"),
        ("area", "east"),
        ("state", "open"),
    ];
    for (key, value) in expected {
        assert_eq!(alarm[key], value, "{key} of {alarm}");
    }
    assert_eq!(service.json(&format!("/api/v1/alarms/{id}")), alarm);

    let told = wait_for("the webhook", || setup.receiver.event(&id, "raised"));
    assert_eq!(told.event["alarm"], alarm);
    let topic = format!("nb1/alarms/zunyi/bs1/{imei}/smoke");
    let there =
        wait_for("a retained alarm", || Some(retained(&service)).filter(|it| !it.is_empty()));
    assert_eq!(there, [(topic.clone(), alarm)]);
    // Nobody else publishes there.
    let denied = publisher.publish(&topic, b"{}".to_vec());
    assert_eq!(denied.reason(), "NotAuthorized");
    assert_eq!(service.metric("loushan_alarms_open"), 1.0);

    // A change needs a token, on loopback too; and says who.
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = format!("http://{}/api/v1/alarms/{id}/acknowledge", service.http);
    assert_eq!(agent.post(&url).send_empty().unwrap().status().as_u16(), 401);
    assert!(cli(&service, &["list"]).contains(&id));
    let acked = cli(&service, &["ack", &id, "--by", "Li Na", "--note", "the kitchen"]);
    assert!(acked.contains("known to Li Na"), "{acked}");
    let told = wait_for("the acknowledgement", || setup.receiver.event(&id, "acknowledged"));
    assert_eq!(told.event["alarm"]["note"], "the kitchen");
    wait_for("the retained acknowledgement", || {
        (retained(&service).first()?.1["state"] == "acknowledged").then_some(())
    });

    drop(publisher);
    assert!(service.terminate().success());
    let service = setup.start();
    let kept = service.json(&format!("/api/v1/alarms/{id}"));
    assert_eq!(
        (&kept["state"], &kept["acknowledged_by"]),
        (&"acknowledged".into(), &"Li Na".into())
    );
    let mut publisher = Publisher::connect(service.mqtt, STATION);
    publish(&mut publisher, smoke(3, 1, pb::smoke::State::Normal));
    wait_for("the end", || setup.receiver.event(&id, "cleared"));
    wait_for("an empty tree", || retained(&service).is_empty().then_some(()));
    let over = service.json("/api/v1/alarms?state=cleared&rule=smoke");
    assert_eq!(over["alarms"][0]["id"], id.as_str());
    assert_eq!(service.json("/api/v1/alarms?shown=true&rule=smoke")["total"], 0);
    let csv = service.get("/api/v1/alarms/export?format=csv&rule=smoke").unwrap();
    assert_eq!(csv.lines().count(), 2, "{csv}");
    service.wait_until_quiet();
    let sinks = service.json("/api/v1/sinks");
    assert!(sinks["sinks"].as_array().unwrap().iter().any(|sink| sink["name"] == "alarms"));
}

#[test]
fn kills_in_the_middle_lose_and_double_no_alarm() {
    const DEVICES: u64 = 5;
    const ROUNDS: u64 = 12;
    let setup = Setup::new();
    let mut service = setup.start();
    let mut publisher = Publisher::connect(service.mqtt, STATION);
    let mut seq = 0;
    for round in 0..ROUNDS {
        let state = if round % 2 == 0 { pb::smoke::State::Alarm } else { pb::smoke::State::Normal };
        for device in 0..DEVICES {
            seq += 1;
            publish(&mut publisher, smoke(seq, device, state));
        }
        match round % 4 {
            // While alarms are on their way, and while the receiver is away.
            1 => setup.receiver.refuse(true),
            2 => {
                wait_for("the receiver's refusal", || (setup.receiver.refused() > 0).then_some(()));
                service.kill();
                service = setup.start();
                publisher = Publisher::connect(service.mqtt, STATION);
                setup.receiver.refuse(false);
            }
            _ => {}
        }
    }
    setup.receiver.refuse(false);
    let expected = usize::try_from(DEVICES * ROUNDS / 2).unwrap();
    let all = "/api/v1/alarms?rule=smoke&state=cleared&limit=1000";
    wait_for("all alarms to be over", || (service.json(all)["total"] == expected).then_some(()));
    assert_eq!(service.json("/api/v1/alarms?rule=smoke")["total"], expected);
    let list = service.json(all);
    let ids: Vec<&str> =
        list["alarms"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    for id in &ids {
        for change in ["raised", "cleared"] {
            wait_for(&format!("{id} {change}"), || setup.receiver.event(id, change));
        }
    }
    // An event may come twice, under one key and with one content; no other comes at all.
    let mut first: BTreeMap<String, (usize, serde_json::Value)> = BTreeMap::new();
    for (at, told) in setup.receiver.told().into_iter().enumerate() {
        if told.event["alarm"]["rule"] != "smoke" {
            continue;
        }
        let (_, known) = first.entry(told.key).or_insert_with(|| (at, told.event.clone()));
        assert_eq!(*known, told.event);
    }
    assert_eq!(first.len(), 2 * expected);
    for id in ids {
        let place = |change: &str| first[&format!("{id}/{change}")].0;
        assert!(place("raised") < place("cleared"), "{id}");
    }
    service.wait_until_quiet();
}

#[test]
fn the_way_from_a_smoke_reading_to_the_webhook_is_measured() {
    const ALARMS: u64 = 300;
    let setup = Setup::new();
    let service = setup.start();
    let mut publisher = Publisher::connect(service.mqtt, STATION);
    let mut took = Vec::new();
    for device in 0..ALARMS {
        let sent = Instant::now();
        publish(&mut publisher, smoke(device + 1, device, pb::smoke::State::Alarm));
        let id = format!("smoke-{}-", wire::imei(device));
        let told = wait_for("the webhook", || {
            setup.receiver.told().into_iter().find(|told| told.key.starts_with(&id))
        });
        took.push(told.at - sent);
    }
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100];
    println!(
        "smoke reading published -> webhook received, {ALARMS} alarms: p50 {:?}, p90 {:?}, p99 {:?}, \
         worst {:?}",
        at(50),
        at(90),
        at(99),
        took[took.len() - 1]
    );
}

#[test]
fn what_is_wrong_with_a_webhook_is_named_before_the_start() {
    let check = |file: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path: &Path = &dir.path().join("loushan.toml");
        std::fs::write(path, file).unwrap();
        let (good, output) = run(loushan().arg("check-config").arg(path));
        assert!(!good, "{output}");
        output
    };
    let told = check("[alarms]\noff = \"smoke, fire\"\nseverity = \"smoke=awful\"\n");
    for part in ["alarms.off", "\"fire\"", "water_leak", "alarms.severity", "smoke=awful"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let told = check("[alarms.webhook.duty]\nurl = \"http://127.0.0.1:1/\"\n");
    assert!(told.contains("alarms.webhook.duty.secret_file"), "{told}");
    let told = check("[alarms.maintenance.night]\ndaily = \"25:00-26:00\"\n");
    assert!(told.contains("alarms.maintenance.night.daily"), "{told}");
}
