//! `tests/python/scenarios.py` and `tests/node/scenarios.js` over every transport.

use std::path::Path;
use std::process::Command;

use super::support::{self, Service, python, run, wire};

const DIR: &str = env!("CARGO_MANIFEST_DIR");

/// By paho.
fn paho() -> Command {
    let mut command = Command::new(python());
    command.arg(format!("{DIR}/tests/python/scenarios.py"));
    command
}

/// By npm's mqtt.
fn npm() -> Command {
    let mut command = Command::new("node");
    command.arg(format!("{DIR}/tests/node/scenarios.js"));
    command.env("LOUSHAN_TEST_NODE", support::node());
    command
}

/// Runs the scenarios with each client in both versions, as stations of their own, and looks for the
/// readings that they publish.
fn pass(service: &Service, scheme: &str, url: &str, ca: Option<&Path>) {
    let clients: [(_, fn() -> Command); 2] = [("paho", paho), ("npm", npm)];
    for (name, client) in clients {
        for version in ["4", "5"] {
            let station = format!("{name}-{scheme}-{version}");
            let rows = service.rows();
            let batch = service.data.join(format!("{station}.batch"));
            std::fs::write(&batch, wire::one(&station, 1, 0, rows)).unwrap();
            let mut command = client();
            command
                .args(["--url", url, "--version", version, "--name", &station])
                .args(["--topic", &format!("nb1/zunyi/{station}/u/t"), "--batch"])
                .arg(&batch);
            if let Some(ca) = ca {
                command.arg("--ca").arg(ca);
            }
            let (done, output) = run(&mut command);
            assert!(done, "{station} at {url}: {output}");
            let passed: Vec<String> = serde_json::from_str(output.trim()).unwrap();
            assert_eq!(passed.len(), 5, "{output}");
            service.wait_until_quiet();
            assert_eq!(service.rows(), rows + 1, "{station}'s batch of one reading");
        }
    }
}

#[test]
fn paho_and_npm_clients_of_both_versions_find_what_clients_expect() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    pass(&service, "mqtt", &format!("mqtt://{}", service.mqtt), None);
}

#[test]
fn they_find_it_over_tls_and_websocket_and_both_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = support::certificates(dir.path());
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let anywhere = "127.0.0.1:0";
    let service = Service::start_with(
        dir.path(),
        anywhere,
        anywhere,
        &[
            ("LOUSHAN__MQTT__TLS_LISTEN", anywhere),
            ("LOUSHAN__MQTT__WS_LISTEN", anywhere),
            ("LOUSHAN__MQTT__WSS_LISTEN", anywhere),
            ("LOUSHAN__MQTT__TLS__CERTIFICATE", &file("server.crt")),
            ("LOUSHAN__MQTT__TLS__KEY", &file("server.key")),
        ],
    );
    for scheme in ["mqtts", "ws", "wss"] {
        let path = if scheme == "mqtts" { "" } else { "/mqtt" };
        let url = format!("{scheme}://{}{path}", service.address(scheme));
        pass(&service, scheme, &url, Some(&certificates.join("ca.crt")));
    }
}
