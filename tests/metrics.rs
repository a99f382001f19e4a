//! What a running service exports is what the list of metrics says, and Prometheus's own checker has
//! nothing against it.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use loushan_ingest::metrics::all;
use prost::Message as _;
use support::exposition::{Family, families};
use support::mqtt::Publisher;
use support::victoria::Victoria;
use support::wire::{batch, one, parking};
use support::{Service, certificates, loushan, run, wait_for};

const TOPIC: &str = "nb1/xinpu/bs0001/u/t";

/// Something of everything: new, sent again, rejected; a question, a refused one, and one for nothing.
fn traffic(service: &Service) {
    let mut station = Publisher::connect(service.mqtt, "bs0001");
    let three = batch("bs0001", 7, 0, (1..=3).map(|n| parking(n, 1)).collect()).encode_to_vec();
    assert_eq!(station.publish(TOPIC, three.clone()).reason(), "Success");
    assert_eq!(station.publish(TOPIC, three).reason(), "Success");
    station.publish(TOPIC, b"no batch".to_vec());
    assert_eq!(station.publish(TOPIC, one("bs0001", 7, 2, 4)).reason(), "Success");
    service.get("/api/v1/latest?kind=parking").unwrap();
    service.get("/nothing/here").unwrap_err();
    service.wait_until_quiet();
}

/// Every family is listed, with the list's type, sentence, labels and values.
fn hold_against_the_list(found: &BTreeMap<String, Family>) {
    for (name, family) in found {
        let metric = all().find(|metric| metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is exported and not listed"));
        assert_eq!(family.kind, metric.kind.as_str(), "{name}");
        assert_eq!(family.help, metric.help, "{name}");
        let listed: Vec<&str> = metric.labels.iter().map(|label| label.name).collect();
        for (label, values) in &family.labels {
            assert!(listed.contains(&label.as_str()), "{name} has a label {label}");
            let known = metric.labels.iter().find(|other| other.name == label).unwrap();
            if let Some(known) = known.values.known() {
                for value in values {
                    assert!(
                        known.contains(&value.as_str()),
                        "{name}: {label}={value} is not listed"
                    );
                }
            }
        }
        assert_eq!(family.labels.len(), listed.len(), "{name}: {:?}", family.labels);
    }
}

#[test]
fn a_service_exports_what_is_listed_and_what_is_said_to_be_conditional_only_then() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path());
    // Before anything happened: rates need a zero to begin with.
    let found = families(&service.get("/metrics").unwrap());
    hold_against_the_list(&found);
    for metric in all() {
        assert_eq!(found.contains_key(metric.name), metric.only.is_none(), "{}", metric.name);
    }
    traffic(&service);
    wait_for("the dead letter", || {
        (service.metric("loushan_dead_letters_total") > 0.0).then_some(())
    });
    let text = service.get("/metrics").unwrap();
    let found = families(&text);
    hold_against_the_list(&found);
    let value = |name: &str| found[name].sum;
    for (name, expected) in [
        ("loushan_readings_received_total", 8.0),
        ("loushan_readings_accepted_total", 4.0),
        ("loushan_readings_duplicate_total", 3.0),
        ("loushan_readings_rejected_total", 1.0),
        ("loushan_batches_redelivered_total", 1.0),
        ("loushan_conservation_residue_readings", 0.0),
        ("loushan_component_condition", 0.0),
        ("loushan_build_info", 1.0),
        ("loushan_ready", 1.0),
        ("loushan_stations", 1.0),
        ("loushan_devices", 4.0),
        ("loushan_undurable_seconds", 0.0),
        ("loushan_wal_buffer_bytes", 0.0),
        ("loushan_dead_letters_total", 1.0),
    ] {
        assert_eq!(value(name), expected, "{name}\n{text}");
    }
    for name in [
        "loushan_ack_latency_seconds",
        "loushan_wal_sync_seconds",
        "loushan_disk_free_bytes",
        "loushan_limit",
        "loushan_limit_bytes",
        "loushan_http_requests_total",
        "loushan_http_request_seconds",
        "loushan_query_seconds",
        "loushan_tail_bytes",
        "loushan_last_received_timestamp_seconds",
        "loushan_wal_oldest_seconds",
        "process_resident_memory_bytes",
    ] {
        assert!(value(name) > 0.0, "{name}\n{text}");
    }
    // Looked up once a second.
    wait_for("the bytes of connections", || {
        (service.metric("loushan_mqtt_received_bytes_total") > 0.0).then_some(())
    });
    promtool_checks(&text);
    assert!(service.terminate().success());
}

#[test]
fn what_needs_a_sink_or_certificates_is_exported_where_they_are() {
    let data = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let victoria = data.path().join("victoria");
    let _victoria = Victoria::start(&victoria, address);
    let certificates = certificates(data.path());
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let url = format!("http://{address}");
    let stations =
        "station,region,project,name,lat,lon,area\nbs0001,zunyi,parking,A,27.7,106.9,X\n";
    std::fs::write(data.path().join("stations.csv"), stations).unwrap();
    let quotas = "project,readings_per_day,bytes_per_day\nparking,1000,\n";
    std::fs::write(data.path().join("projects.csv"), quotas).unwrap();
    let secret = data.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef").unwrap();
    let secret = secret.to_str().unwrap().to_owned();
    let service = Service::start_with(
        data.path(),
        "127.0.0.1:0",
        "127.0.0.1:0",
        &[
            ("LOUSHAN__MQTT__TLS_LISTEN", "127.0.0.1:0"),
            ("LOUSHAN__MQTT__TLS__CERTIFICATE", &file("server.crt")),
            ("LOUSHAN__MQTT__TLS__KEY", &file("server.key")),
            ("LOUSHAN__SINK__CITY__URL", &url),
            ("LOUSHAN__ALARMS__WEBHOOK__DUTY__URL", &url),
            ("LOUSHAN__ALARMS__WEBHOOK__DUTY__SECRET_FILE", &secret),
            ("LOUSHAN__SINK__CITY__ORG", "city"),
            ("LOUSHAN__SINK__CITY__BUCKET", "loushan"),
            ("LOUSHAN__SINK__CITY__AUTH", "none"),
            ("LOUSHAN__SINK__CITY__CREATE_BUCKET", "false"),
            ("LOUSHAN__SINK__CITY__BATCH_AGE", "10ms"),
        ],
    );
    traffic(&service);
    let text = wait_for("everything that is listed", || {
        let text = service.get("/metrics").unwrap();
        let found = families(&text);
        hold_against_the_list(&found);
        all().all(|metric| found.contains_key(metric.name)).then_some(text)
    });
    let found = families(&text);
    assert!(found["loushan_influx_requests_total"].labels["sink"].contains("city"), "{text}");
    // `certs dev` makes them for a year.
    let expires = found["loushan_certificate_expiry_timestamp_seconds"].sum;
    let days = (expires - support::wire::now_ms() as f64 / 1000.0) / 86_400.0;
    assert!((360.0..367.0).contains(&days), "{days} days");
    promtool_checks(&text);
    assert!(service.terminate().success());
}

fn promtool_checks(exposition: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: run the tests by tests/run, which installs it");
    promtool.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn the_document_of_metrics_is_printed_by_the_command_that_it_names() {
    let (printed, text) = run(loushan().arg("print-metrics"));
    assert!(printed, "{text}");
    assert!(text == include_str!("../docs/metrics.md"), "docs/metrics.md is not what is printed");
}
