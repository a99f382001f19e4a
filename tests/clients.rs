//! Strangers' clients against the real binary: mosquitto's and paho's, both MQTT versions.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use support::{Service, python, run, wait_for, wire};

fn mosquitto_pub(service: &Service, version: &str, topic: &str, payload: &[u8]) -> (bool, String) {
    let mut child = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &service.mqtt.port().to_string(), "-V", version])
        .args(["-q", "1", "-t", topic, "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mosquitto_pub is missing: run the tests by tests/run, which installs it");
    child.stdin.take().unwrap().write_all(payload).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A `mosquitto_sub` whose subscription has been acknowledged; killed when dropped.
struct Subscriber {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Subscriber {
    fn start(service: &Service, version: &str, filter: &str) -> Self {
        // Into a pipe it would write by the block, and the SUBACK would wait in there.
        let mut child = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub"])
            .args(["-h", "127.0.0.1", "-p", &service.mqtt.port().to_string(), "-V", version])
            .args(["-q", "1", "-t", filter, "-d", "-F", "message %t %l"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub is missing: run the tests by tests/run, which installs it");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::sync_channel(10_000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let subscriber = Self { child, lines };
        subscriber.line_with("SUBACK");
        subscriber
    }

    fn line_with(&self, part: &str) -> String {
        loop {
            let line = self
                .lines
                .recv_timeout(support::DEADLINE)
                .unwrap_or_else(|_| panic!("no line with {part:?} came"));
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn mosquitto_clients_of_both_versions_publish_and_see_telemetry_live() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    for (n, version) in ["mqttv311", "mqttv5"].into_iter().enumerate() {
        let live = Subscriber::start(&service, version, "nb1/#");
        let station = format!("bs-mosquitto-{n}");
        let topic = format!("nb1/zunyi/{station}/u/t");
        let payload = wire::one(&station, 1, 0, 100 + n as u64);
        let (sent, errors) = mosquitto_pub(&service, version, &topic, &payload);
        assert!(sent, "{version}: {errors}");
        let line = live.line_with("message ");
        assert_eq!(line, format!("message {topic} {}", payload.len()), "{version}");
        let imei = wire::imei(100 + n as u64);
        let latest =
            wait_for("the reading", || service.get(&format!("/api/v1/devices/{imei}/latest")).ok());
        assert!(latest.contains("\"temp_c\":21.9"), "{latest}");
    }
    service.wait_until_quiet();
    assert_eq!(service.rows(), 2);
}

#[test]
fn paho_clients_of_both_versions_publish_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    for version in ["4", "5"] {
        let (done, output) = run(Command::new(python())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/publish.py"))
            .args(["--port", &service.mqtt.port().to_string(), "--version", version])
            .args(["--proto", concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/proto")])
            .args(["--station", &format!("paho-{version}"), "--session", version]));
        assert!(done, "{output}");
        let said: serde_json::Value = serde_json::from_str(output.trim()).unwrap();
        assert_eq!(said["answer"]["reason_code"], 0, "{said}");
        for (kind, imei) in said["imeis"].as_object().unwrap() {
            let imei = imei.as_str().unwrap();
            let latest = wait_for("the reading", || {
                service.get(&format!("/api/v1/devices/{imei}/latest")).ok()
            });
            assert!(latest.contains(&format!("\"kind\":\"{kind}\"")), "{latest}");
        }
    }
    service.wait_until_quiet();
    assert_eq!(service.rows(), 10);
}

#[test]
fn a_topic_that_is_not_ascii_and_a_v5_publisher_beside_a_v311_subscriber_are_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let old = Subscriber::start(&service, "mqttv311", "遵义/#");
    let new = Subscriber::start(&service, "mqttv5", "遵义/#");
    for round in 0..3 {
        let (sent, errors) = run(Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &service.mqtt.port().to_string(), "-V", "mqttv5"])
            .args(["-q", "1", "-t", "遵义/1", "-m", "街灯"])
            .args(["-D", "publish", "user-property", "colour", "red"])
            .args(["-D", "publish", "content-type", "text/plain"])
            .args(["-D", "publish", "response-topic", "answer/here"]));
        assert!(sent, "round {round}: {errors}");
        assert_eq!(old.line_with("message "), "message 遵义/1 6");
        assert_eq!(new.line_with("message "), "message 遵义/1 6");
    }
    // The acknowledged path beside it has noticed nothing.
    let (sent, errors) =
        mosquitto_pub(&service, "mqttv311", "nb1/zunyi/bs1/u/t", &wire::one("bs1", 1, 0, 1));
    assert!(sent, "{errors}");
    service.wait_until_quiet();
    assert_eq!(service.rows(), 1);
    // rumqttd's router ends by a panic of its own: nobody is to be frightened by it.
    assert!(service.terminate().success());
    let stderr = std::fs::read_to_string(dir.path().join("stderr.txt")).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
}
