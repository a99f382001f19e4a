//! Strangers' clients against the real binary: mosquitto's, paho's, npm's and rumqttc, in both MQTT
//! versions, and over every transport that they speak.

#![allow(missing_docs, clippy::unwrap_used)]

mod mosquitto;
mod rumqttc;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

use support::{Service, python, run, wait_for};

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
