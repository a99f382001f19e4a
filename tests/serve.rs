//! The service as a user meets it: started, published to, asked, stopped, killed, started again.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use support::mqtt::Publisher;
use support::wire::{batch, imei, parking};
use support::{Service, loushan, run, wait_for};

use prost::Message as _;

const TOPIC: &str = "nb1/xinpu/bs0001/u/t";

fn data() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Three devices' readings in one batch.
fn three() -> Vec<u8> {
    batch("bs0001", 7, 0, (1..=3).map(|n| parking(n, 1)).collect()).encode_to_vec()
}

#[test]
fn an_acknowledged_batch_is_read_back_and_is_a_duplicate_after_a_restart() {
    let data = data();
    let payload = three();
    let service = Service::start(data.path());
    let answer = Publisher::connect(service.mqtt, "bs0001").publish(TOPIC, payload.clone());
    assert_eq!(answer.reason(), "Success");
    service.wait_until_quiet();
    assert_eq!(service.rows(), 3);
    let latest = service.json(&format!("/api/v1/devices/{}/latest", imei(2)));
    assert_eq!(latest["reading"]["station"], "bs0001");
    assert_eq!(latest["reading"]["temp_c"], 21.9);
    let history = service.json(&format!("/api/v1/devices/{}/history?limit=5", imei(3)));
    assert_eq!(history["readings"].as_array().unwrap().len(), 1);
    assert_eq!(service.json("/api/v1/readings/count?kind=water")["count"], 0);
    assert!(service.terminate().success());

    let service = Service::start(data.path());
    assert_eq!(service.rows(), 3);
    let answer = Publisher::connect(service.mqtt, "bs0001").publish(TOPIC, payload);
    assert_eq!(answer.reason(), "Success");
    service.wait_until_quiet();
    assert_eq!((service.rows(), service.figure("duplicate")), (3, 3));
    assert_eq!(service.get("/api/v1/readings/export").unwrap().lines().count(), 3);
    let stations = service.json("/api/v1/stations");
    assert_eq!(stations["stations"][0]["station"], "bs0001");
    assert!(service.terminate().success());
}

#[test]
fn an_acknowledged_batch_outlives_a_kill_at_once() {
    let data = data();
    let payload = three();
    let service = Service::start(data.path());
    let mut publisher = Publisher::connect(service.mqtt, "bs0001");
    assert_eq!(publisher.publish(TOPIC, payload.clone()).reason(), "Success");
    service.kill();
    let service = Service::start(data.path());
    service.wait_until_quiet();
    assert_eq!(service.rows(), 3);
    Publisher::connect(service.mqtt, "bs0001").publish(TOPIC, payload);
    service.wait_until_quiet();
    assert_eq!((service.rows(), service.figure("duplicate")), (3, 3));
}

#[test]
fn a_second_process_in_the_folder_is_refused_by_the_firsts_pid() {
    let data = data();
    let service = Service::start(data.path());
    let (ok, text) = run(loushan()
        .arg("serve")
        .env("LOUSHAN__DATA__DIR", data.path())
        .env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0")
        .env("LOUSHAN__HTTP__LISTEN", "127.0.0.1:0"));
    let pid = std::fs::read_to_string(data.path().join("lock")).unwrap();
    assert!(!ok && text.contains(&format!("in use by process {}", pid.trim())), "{text}");
    assert!(service.terminate().success());
}

#[test]
fn a_taken_port_is_named_with_its_key_and_remedy() {
    let (data, other) = (data(), data());
    let service = Service::start(data.path());
    let (ok, text) = run(loushan()
        .arg("serve")
        .env("LOUSHAN__DATA__DIR", other.path())
        .env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0")
        .env("LOUSHAN__HTTP__LISTEN", service.http.to_string()));
    assert!(
        !ok && text.contains("http.listen") && text.contains("LOUSHAN__HTTP__LISTEN"),
        "{text}"
    );
}

#[test]
fn readiness_and_metrics_say_what_an_acknowledgement_is_worth() {
    let data = data();
    let interval = [("LOUSHAN__LOG__SYNC", "interval")];
    let service = Service::start_with(data.path(), "127.0.0.1:0", "127.0.0.1:0", &interval);
    let ready = service.json("/readyz");
    assert_eq!(ready["ready"], true);
    assert_eq!(ready["reasons"][0]["component"], "durability");
    assert!(ready["reasons"][0]["what"].as_str().unwrap().contains("not durable"));
    assert!((service.metric("loushan_not_durable") - 1.0).abs() < f64::EPSILON);
    Publisher::connect(service.mqtt, "bs0001").publish(TOPIC, three());
    // Acknowledged before the sync: the store gets it after the next one.
    wait_for("the interval's sync", || (service.rows() == 3).then_some(()));
    let metrics = service.get("/metrics").unwrap();
    for name in [
        "loushan_readings_received_total 3",
        "loushan_sink_stored_readings_total{sink=\"embedded\"}",
        "loushan_readings_duplicate_total 0",
        "loushan_readings_rejected_total{reason=\"bad_imei\"} 0",
        "loushan_sink_pending_readings{sink=\"embedded\"}",
        "loushan_wal_disk_bytes ",
        "loushan_wal_segments ",
        "loushan_wal_sync_seconds_bucket{le=\"0.001\"}",
        "loushan_ack_latency_seconds_bucket{le=\"0.001\"}",
        "loushan_connections ",
        "loushan_conservation_residue_readings 0",
    ] {
        assert!(metrics.contains(name), "{name}\n{metrics}");
    }
}

#[test]
fn a_client_that_says_nothing_holds_up_no_stop() {
    let data = data();
    let service = Service::start(data.path());
    let _mqtt = std::net::TcpStream::connect(service.mqtt).unwrap();
    let _http = std::net::TcpStream::connect(service.http).unwrap();
    let begun = std::time::Instant::now();
    assert!(service.terminate().success());
    assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn the_printed_configuration_is_a_good_one() {
    let dir = data();
    let (ok, printed) = run(loushan().arg("print-config"));
    assert!(ok, "{printed}");
    let file = dir.path().join("loushan.toml");
    std::fs::write(&file, printed).unwrap();
    let (ok, text) = run(loushan().arg("check-config").arg(&file));
    assert!(ok, "{text}");
}

#[test]
fn the_demo_shows_what_it_did_and_a_second_start_goes_on_with_its_data() {
    let data = data();
    let acknowledged = || {
        let (ok, text) = run(loushan()
            .args(["demo", "--stations", "20", "--for", "3s", "--rate", "200", "--data"])
            .arg(data.path())
            .args(["--mqtt-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]));
        assert!(ok, "{text}");
        let figure = |name: &str| -> u64 {
            let line = text.lines().rfind(|line| line.starts_with(name));
            let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
            line.trim_start_matches(name).trim().parse().unwrap()
        };
        assert_eq!((figure("residue"), figure("dead letters")), (0, 0), "{text}");
        assert_eq!(figure("acknowledged"), figure("stored") + figure("duplicates"), "{text}");
        figure("stored")
    };
    let (first, second) = (acknowledged(), acknowledged());
    assert!(first > 0 && second > 0);
    let service = Service::start(data.path());
    assert_eq!(service.rows(), first + second);
    assert!(service.json("/api/v1/stations")["stations"].as_array().unwrap().len() == 20);
}

#[test]
fn a_damaged_file_is_an_error_and_is_shown_by_readiness() {
    let data = data();
    let service = Service::start(data.path());
    Publisher::connect(service.mqtt, "bs0001").publish(TOPIC, three());
    assert!(service.terminate().success());
    let days = data.path().join("store/kind=parking").read_dir().unwrap();
    let file = days.flat_map(|day| day.unwrap().path().read_dir().unwrap()).next().unwrap();
    let path = file.unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let service = Service::start(data.path());
    assert_eq!(service.json("/readyz")["reasons"], serde_json::json!([]));
    let history = format!("/api/v1/devices/{}/history", imei(3));
    assert!(service.get(&history).is_err());
    let ready = service.json("/readyz");
    assert_eq!(ready["ready"], true, "{ready}");
    assert_eq!(ready["reasons"][0]["component"], "embedded", "{ready}");
    let what = ready["reasons"][0]["what"].as_str().unwrap();
    assert!(what.contains(path.file_name().unwrap().to_str().unwrap()), "{what}");
    assert!(what.contains("does not match its checksum") && !what.contains("External"), "{what}");
}

#[test]
fn a_demo_that_cannot_be_takes_no_port_and_makes_no_folder() {
    let dir = data();
    let (ok, text) = run(loushan().args(["demo", "--rate", "0"]).current_dir(dir.path()));
    assert!(!ok && text.contains("rate is 0"), "{text}");
    assert!(!text.contains("MQTT") && !dir.path().join("loushan-data").exists(), "{text}");
}

#[test]
fn a_fleet_that_is_never_let_in_fails() {
    // Bound and closed again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = format!("mqtt://127.0.0.1:{port}");
    let (ok, text) =
        run(loushan().args(["simulate", "--stations", "2", "--for", "1s", "--target", &target]));
    assert!(!ok && text.contains("nothing could be sent: connect failed"), "{text}");
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let data = data();
    let service = Service::start(data.path());
    Publisher::connect(service.mqtt, "bs0001").publish(TOPIC, three());
    service.signal_terminate();
    assert!(service.terminate().success());
}
