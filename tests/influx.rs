//! The whole way to a real server that speaks InfluxDB's write protocol, and an outage of it that
//! delays nobody else.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::net::{SocketAddr, TcpListener};

use support::mqtt::Publisher;
use support::victoria::Victoria;
use support::{Service, wait_for, wire};

/// Samples of a metric by device.
fn samples(address: SocketAddr, metric: &str) -> Vec<(String, Vec<i64>, Vec<f64>)> {
    support::get(address, "/internal/force_flush").unwrap();
    let text = support::get(address, &format!("/api/v1/export?match%5B%5D={metric}")).unwrap();
    let mut found: Vec<_> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let times = line["timestamps"].as_array().unwrap().iter();
            let values = line["values"].as_array().unwrap().iter();
            (
                line["metric"]["imei"].as_str().unwrap().to_owned(),
                times.map(|t| t.as_i64().unwrap()).collect(),
                values.map(|v| v.as_f64().unwrap()).collect(),
            )
        })
        .collect();
    found.sort_by(|a: &(String, _, _), b| a.0.cmp(&b.0));
    found
}

#[test]
fn readings_reach_a_real_server_and_its_outage_delays_neither_acks_nor_the_embedded_store() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let server_data = dir.path().join("victoria");
    // Taken and given back: the server cannot be asked which port it was given.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let victoria = Victoria::start(&server_data, address);
    let url = format!("http://{address}");
    let env = [
        ("LOUSHAN__SINK__INFLUX__URL", url.as_str()),
        ("LOUSHAN__SINK__INFLUX__ORG", "city"),
        ("LOUSHAN__SINK__INFLUX__BUCKET", "loushan"),
        ("LOUSHAN__SINK__INFLUX__TOKEN", "not-a-secret"),
        ("LOUSHAN__SINK__INFLUX__BATCH_AGE", "50ms"),
        ("LOUSHAN__SINK__INFLUX__MAX_BACKOFF", "500ms"),
    ];
    let service = Service::start_with(&data, "127.0.0.1:0", "127.0.0.1:0", &env);
    let mut publisher = Publisher::connect(service.mqtt, "bs1");
    let mut publish = |seq: u64| {
        let payload = wire::one("bs1", 1, seq, seq % 5);
        assert_eq!(publisher.publish("nb1/zunyi/bs1/u/t", payload).reason(), "Success");
    };
    let influx = |service: &Service| {
        let figures = service.json("/api/v1/conservation");
        let sinks = figures["sinks"].as_array().unwrap();
        sinks.iter().find(|sink| sink["name"] == "influx").unwrap().clone()
    };
    let stored = |service: &Service, count: u64| {
        wait_for("the influx sink", || (influx(service)["stored"] == count).then_some(()));
    };

    (0..20).for_each(&mut publish);
    stored(&service, 20);
    drop(victoria);
    // The server is away: acknowledgements and the embedded store go on.
    (20..40).for_each(&mut publish);
    wait_for("the outage to be noticed", || influx(&service)["trouble"].is_string().then_some(()));
    assert_eq!(service.rows(), 40);
    // Even a restart in the middle of the outage loses nothing of it.
    let (mqtt, http) = (service.mqtt.to_string(), service.http.to_string());
    service.kill();
    let service = Service::start_with(&data, &mqtt, &http, &env);
    let victoria = Victoria::start(&server_data, address);
    wait_for("the influx sink to catch up", || {
        let sink = influx(&service);
        (sink["trouble"].is_null() && sink["pending"] == 0 && sink["cursor"] == sink["position"])
            .then_some(())
    });
    service.wait_until_quiet();
    assert_eq!(service.rows(), 40);

    let found = samples(address, "parking_temp_c");
    assert_eq!(found.len(), 5);
    for (imei, times, values) in found {
        assert_eq!(values, [21.9; 8], "{imei}");
        // The same readings under the same times as the embedded store has them.
        let path = format!("/api/v1/devices/{imei}/history?from=0&to=4102444800000&limit=100");
        let history = service.json(&path);
        let rows = history["readings"].as_array().unwrap_or_else(|| panic!("{history}"));
        let embedded: Vec<i64> =
            rows.iter().map(|row| row["effective_ms"].as_i64().unwrap()).collect();
        assert_eq!(times, embedded, "{imei}");
    }
    assert!(!service.stderr().contains("not-a-secret"));
    assert!(service.terminate().success());
    drop(victoria);
}

#[test]
fn the_audit_finds_every_reading_in_a_real_server_and_misses_one_that_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _victoria = Victoria::start(&dir.path().join("victoria"), address);
    let url = format!("http://{address}");
    let env = [
        ("LOUSHAN__SINK__INFLUX__URL", url.as_str()),
        ("LOUSHAN__SINK__INFLUX__ORG", "city"),
        ("LOUSHAN__SINK__INFLUX__BUCKET", "loushan"),
        ("LOUSHAN__SINK__INFLUX__TOKEN", "not-a-secret"),
        ("LOUSHAN__SINK__INFLUX__BATCH_AGE", "50ms"),
    ];
    let service = Service::start_with(&data, "127.0.0.1:0", "127.0.0.1:0", &env);
    let (done, output) = support::run(
        support::loushan()
            .current_dir(&data)
            .args(["simulate", "--target", &format!("mqtt://{}", service.mqtt)])
            .args(["--stations", "5", "--seed", "3", "--rate", "300", "--for", "3s"])
            .args(["--ledger", "ledger"]),
    );
    assert!(done, "{output}");
    let audit = || {
        support::run(
            support::loushan()
                .current_dir(&data)
                .args(["audit", "--ledger", "ledger", "--victoria", &url])
                .args(["--target", &format!("http://{}", service.http)]),
        )
    };
    let (passed, report) = audit();
    assert!(passed, "{report}");
    assert!(report.contains("not seen: values"), "{report}");
    let water = report.lines().find(|line| line.starts_with("kind water: ")).unwrap();
    assert!(water.contains(" stored"), "{report}");

    // All of one device is deleted from the server.
    let export = support::get(address, "/api/v1/export?match%5B%5D=water_seq&start=0").unwrap();
    let line: serde_json::Value = serde_json::from_str(export.lines().next().unwrap()).unwrap();
    let imei = line["metric"]["imei"].as_str().unwrap();
    let deleted = format!("/api/v1/admin/tsdb/delete_series?match%5B%5D=%7Bimei%3D%22{imei}%22%7D");
    support::get(address, &deleted).unwrap();
    let (passed, report) = audit();
    assert!(!passed, "{report}");
    assert!(report.contains(&format!("- missing: water of imei {imei}")), "{report}");
    assert!(service.terminate().success());
}
