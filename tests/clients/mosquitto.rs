//! mosquitto's command line clients.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::support::{self, Service, run, wait_for, wire};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

/// How a client gets to the service.
#[derive(Clone, Copy)]
struct Way<'a> {
    port: u16,
    version: &'a str,
    /// Over TLS, whose authority this is.
    ca: Option<&'a Path>,
}

impl<'a> Way<'a> {
    fn plain(service: &Service, version: &'a str) -> Self {
        Self { port: service.mqtt.port(), version, ca: None }
    }

    fn command<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-V", self.version]);
        self.ca.iter().fold(command, |command, ca| command.arg("--cafile").arg(ca))
    }
}

fn mosquitto_pub(way: Way<'_>, topic: &str, payload: &[u8], args: &[&str]) -> (bool, String) {
    let mut child = way
        .command(&mut Command::new("mosquitto_pub"))
        // From the standard input it takes no empty message.
        .args(["-t", topic, if payload.is_empty() { "-n" } else { "-s" }])
        .args(args)
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
    /// Messages that came before the SUBACK: those of a session that was kept.
    early: RefCell<VecDeque<String>>,
}

impl Subscriber {
    fn start(way: Way<'_>, filter: &str, args: &[&str]) -> Self {
        // Into a pipe it would write by the block, and the SUBACK would wait in there.
        let mut child = way
            .command(Command::new("stdbuf").args(["-oL", "mosquitto_sub"]))
            .args(["-t", filter, "-d", "-F", "message %t %q %r %l %p"])
            .args(args)
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
        let subscriber = Self { child, lines, early: RefCell::default() };
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
            if line.starts_with("message ") {
                self.early.borrow_mut().push_back(line);
            }
        }
    }
}

impl Subscriber {
    /// The next message: its topic, quality of service, RETAIN, length and payload.
    fn message(&self) -> String {
        let early = self.early.borrow_mut().pop_front();
        early.unwrap_or_else(|| self.line_with("message ")).split_off("message ".len())
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
    for (n, version) in VERSIONS.into_iter().enumerate() {
        let live = Subscriber::start(
            Way::plain(&service, version),
            "nb1/#",
            &["-q", "1", "-F", "message %t %l"],
        );
        let station = format!("bs-mosquitto-{n}");
        let topic = format!("nb1/zunyi/{station}/u/t");
        let payload = wire::one(&station, 1, 0, 100 + n as u64);
        let (sent, errors) =
            mosquitto_pub(Way::plain(&service, version), &topic, &payload, &["-q", "1"]);
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

/// What clients expect of a broker.
fn scenarios(way: Way<'_>, name: &str) {
    let publish = |topic: &str, payload: &str, args: &[&str]| {
        let (sent, errors) = mosquitto_pub(way, topic, payload.as_bytes(), args);
        assert!(sent, "{topic}: {errors}");
    };
    let topic = |rest: &str| format!("clients/{name}/{rest}");
    // Every quality of service, both ways.
    let subscriber = Subscriber::start(way, &topic("qos/+"), &["-q", "2"]);
    for qos in ["0", "1", "2"] {
        publish(&topic(&format!("qos/{qos}")), "x", &["-q", qos]);
        assert_eq!(subscriber.message(), format!("{} {qos} 0 1 x", topic(&format!("qos/{qos}"))));
    }
    // Retained.
    publish(&topic("retained"), "kept", &["-q", "1", "-r"]);
    let early = Subscriber::start(way, &topic("retained"), &["-q", "1"]);
    assert_eq!(early.message(), format!("{} 1 1 4 kept", topic("retained")));
    publish(&topic("retained"), "", &["-q", "1", "-r"]);
    assert_eq!(early.message(), format!("{} 1 0 0 ", topic("retained")));
    let late = Subscriber::start(way, &topic("retained"), &["-q", "1"]);
    publish(&topic("retained"), "live", &["-q", "1"]);
    assert_eq!(late.message(), format!("{} 1 0 4 live", topic("retained")));
    // A will, of a client that is killed.
    let watcher = Subscriber::start(way, &topic("will"), &["-q", "1"]);
    let will = topic("will");
    let args = ["--will-topic", &will, "--will-payload", "lost", "--will-qos", "1"];
    drop(Subscriber::start(way, &topic("nothing"), &args));
    assert_eq!(watcher.message(), format!("{will} 1 0 4 lost"));
    // A session, with what came while its client was away.
    let id = format!("{name}-kept");
    let mut kept = vec!["-i", &id, "-q", "2", "-c"];
    if way.version == "mqttv5" {
        kept.extend(["-x", "600"]);
    }
    drop(Subscriber::start(way, &topic("kept"), &kept));
    for qos in ["1", "2"] {
        publish(&topic("kept"), qos, &["-q", qos]);
    }
    let back = Subscriber::start(way, &topic("kept"), &kept);
    let mut came = [back.message(), back.message()];
    came.sort();
    assert_eq!(came, ["1", "2"].map(|qos| format!("{} {qos} 0 1 {qos}", topic("kept"))));
}

#[test]
fn mosquitto_clients_of_both_versions_find_what_clients_expect() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    for version in VERSIONS {
        scenarios(Way::plain(&service, version), version);
    }
}

#[test]
fn mosquitto_clients_of_both_versions_find_it_over_tls_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = support::certificates(dir.path());
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let service = Service::start_with(
        dir.path(),
        "127.0.0.1:0",
        "127.0.0.1:0",
        &[
            ("LOUSHAN__MQTT__TLS_LISTEN", "127.0.0.1:0"),
            ("LOUSHAN__MQTT__TLS__CERTIFICATE", &file("server.crt")),
            ("LOUSHAN__MQTT__TLS__KEY", &file("server.key")),
        ],
    );
    let ca = certificates.join("ca.crt");
    for version in VERSIONS {
        let way = Way { port: service.address("mqtts").port(), version, ca: Some(&ca) };
        scenarios(way, version);
        let station = format!("bs-tls-{version}");
        let rows = service.rows();
        let batch = wire::one(&station, 1, 0, rows);
        let topic = format!("nb1/zunyi/{station}/u/t");
        let (sent, errors) = mosquitto_pub(way, &topic, &batch, &["-q", "1"]);
        assert!(sent, "{version}: {errors}");
        service.wait_until_quiet();
        assert_eq!(service.rows(), rows + 1);
    }
}

#[test]
fn a_topic_that_is_not_ascii_and_a_v5_publisher_beside_a_v311_subscriber_are_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let [old, new] = VERSIONS
        .map(|version| Subscriber::start(Way::plain(&service, version), "遵义/#", &["-q", "1"]));
    for round in 0..3 {
        let (sent, errors) = run(Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &service.mqtt.port().to_string(), "-V", "mqttv5"])
            .args(["-q", "1", "-t", "遵义/1", "-m", "街灯"])
            .args(["-D", "publish", "user-property", "colour", "red"])
            .args(["-D", "publish", "content-type", "text/plain"])
            .args(["-D", "publish", "response-topic", "answer/here"]));
        assert!(sent, "round {round}: {errors}");
        assert_eq!(old.message(), "遵义/1 1 0 6 街灯");
        assert_eq!(new.message(), "遵义/1 1 0 6 街灯");
    }
    // The acknowledged path beside it has noticed nothing.
    let (sent, errors) = mosquitto_pub(
        Way::plain(&service, "mqttv311"),
        "nb1/zunyi/bs1/u/t",
        &wire::one("bs1", 1, 0, 1),
        &["-q", "1"],
    );
    assert!(sent, "{errors}");
    service.wait_until_quiet();
    assert_eq!(service.rows(), 1);
    // rumqttd's router ends by a panic of its own: nobody is to be frightened by it.
    assert!(service.terminate().success());
    let stderr = std::fs::read_to_string(dir.path().join("stderr.txt")).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
}
