//! What docs/simulator.md tells people to type does what it says, with the real binary.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use loushan_simulator::trace::{Entry, TraceReader};
use serde_json::Value;
use support::mosquitto::Mosquitto;
use support::{Service, certificates, loushan, wait_for};

/// The commands of the document, with the service's address for the document's.
fn commands(mqtt: &str) -> Vec<Vec<String>> {
    let text = include_str!("../docs/simulator.md");
    let blocks = text.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let lines = blocks.flat_map(str::lines).filter(|line| line.starts_with("loushan "));
    lines
        .map(|line| {
            // Quotes hold conditions only.
            let quoted = line.split('\'').enumerate();
            quoted
                .flat_map(|(place, part)| match place % 2 {
                    0 => part.split_whitespace().map(str::to_owned).collect(),
                    _ => vec![part.to_owned()],
                })
                .skip(1)
                .map(|word| word.replace("127.0.0.1:1883", mqtt))
                .collect()
        })
        .collect()
}

fn run(folder: &Path, words: &[String]) -> (Output, String) {
    let output = loushan().args(words).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output, said)
}

#[test]
fn what_the_document_says_can_be_typed_and_a_condition_decides_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let service = Service::start(&data);
    let commands = commands(&service.mqtt.to_string());
    assert_eq!(commands.len(), 6, "{commands:?}");
    for words in &commands {
        let (output, said) = run(folder.path(), words);
        assert!(output.status.success(), "{words:?}\n{said}");
    }

    let report: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["counts"]["stations"], 10);
    // How many come within three seconds is the radio's doing; all that left were acknowledged.
    let acked = report["counts"]["readings_acked"].as_u64().unwrap();
    assert!(acked > 0 && report["counts"]["readings_sent"] == acked, "{report}");
    assert_eq!(report["verdicts"].as_array().unwrap().len(), 2);
    let html = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(html.contains("<svg") && html.ends_with("</html>\n"));
    for outside in ["<script", "http://", "https://", "src=", "@import"] {
        assert!(!html.contains(outside), "{outside} is in the report");
    }
    let junit = std::fs::read_to_string(folder.path().join("report.xml")).unwrap();
    assert!(junit.contains("tests=\"2\" failures=\"0\""), "{junit}");

    // The same with a condition that cannot be met, and with a key that is none.
    let mut failing = commands[2].clone();
    failing.extend(["--fail-if".to_owned(), "readings_per_s < 1000000".to_owned()]);
    let (output, said) = run(folder.path(), &failing);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED"), "{said}");
    let wrong = ["simulate", "--loop", "ajar"].map(str::to_owned);
    let (output, said) = run(folder.path(), &wrong);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("loop is \"ajar\"; give one of open, closed"), "{said}");
}

/// The report of a run of two stations that ended well.
fn report(folder: &Path, more: &[&str]) -> Value {
    let output = loushan()
        .current_dir(folder)
        .args(["simulate", "--stations", "2", "--rate", "200", "--for", "4s", "--ramp", "0s"])
        .args(["--linger", "100ms", "--json", "-"])
        .args(more)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{more:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{more:?}: {e}: {errors}"))
}

#[test]
fn stations_of_both_versions_and_every_quality_of_service_get_into_mosquitto_by_certificate_and_password()
 {
    let folder = tempfile::tempdir().unwrap();
    let dir = certificates(folder.path());
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let made = Command::new("mosquitto_passwd")
        .current_dir(folder.path())
        .args(["-b", "-c", "passwords", "fleet", "open sesame"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let passwords = folder.path().join("passwords");
    let broker = Mosquitto::start(
        folder.path(),
        &format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nallow_anonymous false\n\
             password_file {}\nmax_inflight_messages 0",
            file("ca.crt"),
            file("server.crt"),
            file("server.key"),
            passwords.display()
        ),
    );
    std::fs::write(folder.path().join("password"), "open sesame\n").unwrap();
    let target = format!("mqtts://localhost:{}", broker.port);
    let (ca, certificate) = (file("ca.crt"), file("bs0001.crt"));
    let key = file("bs0001.key");
    let tls = [
        "--target",
        &target,
        "--ca",
        &ca,
        "--client-certificate",
        &certificate,
        "--client-key",
        &key,
    ];
    let user = ["--user", "fleet", "--password-file", "password"];
    for version in ["3.1.1", "5"] {
        for qos in ["0", "1", "2"] {
            let ledger = format!("ledger-{version}-{qos}");
            let how = ["--mqtt", version, "--qos", qos, "--ledger", &ledger];
            let report = report(folder.path(), &[&tls[..], &user, &how].concat());
            let count = |name: &str| report["counts"][name].as_u64().unwrap();
            assert!(count("batches_sent") > 0 && count("refused") == 0, "{report}");
            let unpromised = if qos == "0" { count("batches_sent") } else { 0 };
            assert_eq!(count("unpromised"), unpromised, "{report}");
            assert_eq!(count("batches_acked"), count("batches_sent") - unpromised, "{report}");
            assert_eq!(report["connect"]["count"].as_u64(), Some(2), "{report}");
        }
    }

    // Who has the wrong password, or no certificate, sends nothing, and the exit code says so.
    std::fs::write(folder.path().join("password"), "sesame\n").unwrap();
    let bare = ["--target", target.as_str(), "--ca", ca.as_str()];
    for (version, bad) in [("3.1.1", [&tls[..], &user].concat()), ("5", bare.to_vec())] {
        let mut words =
            vec!["simulate", "--stations", "1", "--for", "1s", "--drain", "0s", "--mqtt", version];
        words.extend(bad);
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let (output, said) = run(folder.path(), &words);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("nothing could be sent: ") && !said.contains("sesame"), "{said}");
    }
}

/// A `serve` with TLS on both sides and a users file, and where it listens.
struct Closed {
    child: Child,
    mqtt: String,
    http: String,
}

impl Closed {
    fn start(data: &Path, dir: &Path, users: &Path) -> Self {
        let mut child = loushan()
            .arg("serve")
            .env("LOUSHAN__DATA__DIR", data)
            .env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0")
            .env("LOUSHAN__MQTT__TLS_LISTEN", "127.0.0.1:0")
            .env("LOUSHAN__MQTT__TLS__CERTIFICATE", dir.join("server.crt"))
            .env("LOUSHAN__MQTT__TLS__KEY", dir.join("server.key"))
            .env("LOUSHAN__HTTP__LISTEN", "127.0.0.1:0")
            .env("LOUSHAN__HTTP__TLS__CERTIFICATE", dir.join("server.crt"))
            .env("LOUSHAN__HTTP__TLS__KEY", dir.join("server.key"))
            .env("LOUSHAN__AUTH__USERS_FILE", users)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut mqtt, mut http) = (None, None);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while mqtt.is_none() || http.is_none() {
            let line = lines.next().expect("it ended before it told its addresses").unwrap();
            let behind = |scheme: &str| {
                let (_, rest) = line.split_once(scheme)?;
                let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
                Some(format!("{scheme}{}", rest.get(..end.unwrap_or(rest.len()))?))
            };
            mqtt = mqtt.or_else(|| behind("mqtts://"));
            http = http.or_else(|| behind("https://"));
        }
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, mqtt: mqtt.unwrap(), http: http.unwrap() }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_fleet_with_passwords_of_its_own_is_audited_through_tls_with_a_token_and_with_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let dir = certificates(folder.path());
    let (data, users) = (folder.path().join("data"), folder.path().join("users"));
    let regions = ["honghuagang", "huichuan"];
    for (name, role) in [("bs0001", "station"), ("bs0002", "station"), ("ada", "admin")] {
        let mut add = loushan();
        add.args(["user", "add", name, "--role", role, "--password-stdin", "--users"]).arg(&users);
        if role == "station" {
            add.args(["--region", regions[usize::from(name == "bs0002")]]);
        }
        let mut child = add.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "secret of {name}").unwrap();
        assert!(child.wait().unwrap().success());
    }
    std::fs::write(
        folder.path().join("passwords"),
        "bs0001:secret of bs0001\nbs0002:secret of bs0002\n",
    )
    .unwrap();
    let service = Closed::start(&data, &dir, &users);
    let ca = dir.join("ca.crt").to_str().unwrap().to_owned();
    for qos in ["0", "1", "2"] {
        let ledger = format!("ledger-{qos}");
        let of = ["--target", &service.mqtt, "--ca", &ca, "--passwords-file", "passwords"];
        let run = ["--qos", qos, "--ledger", &ledger, "--seed", qos, "--mqtt", "5"];
        let report = report(folder.path(), &[&of[..], &run].concat());
        let count = |name: &str| report["counts"][name].as_u64().unwrap();
        let promised = if qos == "0" { 0 } else { count("batches_sent") };
        assert!(count("batches_sent") > 0 && count("batches_acked") == promised, "{report}");
    }

    let token = data.join("admin.token");
    let token = token.to_str().unwrap();
    std::fs::write(folder.path().join("password"), "secret of ada\n").unwrap();
    std::fs::write(folder.path().join("wrong"), "guessed\n").unwrap();
    let audit = |qos: &str, pass: &[&str]| {
        let ledger = format!("ledger-{qos}");
        let words = ["audit", "--ledger", &ledger, "--target", &service.http];
        let words = [&words[..], pass].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let (output, said) = run(folder.path(), &words);
        (output.status.code(), said)
    };
    let (code, said) = audit("1", &["--ca", &ca, "--token-file", token]);
    assert!(code == Some(0) && said.contains("passed: every acknowledged reading"), "{said}");
    let by_password = ["--ca", &ca, "--user", "ada", "--password-file", "password"];
    let (code, said) = audit("2", &by_password);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = audit("0", &by_password);
    assert!(code == Some(0) && said.contains("passed: all was sent at QoS 0"), "{said}");
    let (code, said) = audit("1", &["--ca", &ca, "--user", "ada", "--password-file", "wrong"]);
    assert!(code == Some(1) && said.contains("401") && !said.contains("guessed"), "{said}");
    let (code, said) = audit("1", &[]);
    assert!(code == Some(2) && said.contains("--ca"), "{said}");
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Every stored reading without what its receiving added, in some order.
fn stored(service: &Service) -> Vec<String> {
    service.wait_until_quiet();
    let lines = service.get("/api/v1/readings/export?after_lsn=0").unwrap();
    let bare = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let row = row.as_object_mut().unwrap();
        row.retain(|key, _| key != "lsn" && !key.starts_with("received"));
        serde_json::to_string(row).unwrap()
    };
    let mut rows: Vec<String> = lines.lines().map(bare).collect();
    rows.sort_unstable();
    rows
}

/// Batches that a trace holds by now; it may be read while it is written.
fn batches(trace: &Path) -> u64 {
    let mut reader = TraceReader::open(trace).unwrap();
    let mut count = 0;
    while let Some(entry) = reader.next_entry().unwrap() {
        count += u64::from(matches!(entry, Entry::Message(seen) if seen.topic.contains("/u/")));
    }
    count
}

#[test]
fn what_was_recorded_of_one_service_makes_the_same_store_of_another_and_new_devices_by_other_names()
{
    let folder = tempfile::tempdir().unwrap();
    let data = |name: &str| {
        let data = folder.path().join(name);
        std::fs::create_dir(&data).unwrap();
        data
    };
    let (first, second) = (Service::start(&data("first")), Service::start(&data("second")));
    let (one, two) = (format!("mqtt://{}", first.mqtt), format!("mqtt://{}", second.mqtt));
    let trace = folder.path().join("trace");
    let mut recorder = Killed(
        loushan()
            .args(["record", "--target", &one, "--topic", "nb1/#", "--out"])
            .arg(&trace)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut said = BufReader::new(recorder.0.stdout.take().unwrap()).lines();
    let begun = said.next().unwrap().unwrap();
    assert!(begun.starts_with("recording nb1/#"), "{begun}");
    let exact = ["--fault-duplicate", "0%", "--fault-republish", "0%", "--fault-reorder", "0%"];
    let run = report(folder.path(), &[&["--target", &one][..], &exact].concat());
    let acked = run["counts"]["batches_acked"].as_u64().unwrap();
    assert!(acked > 0, "{run}");
    wait_for("the recorder to have all batches", || (batches(&trace) == acked).then_some(()));
    let pid = rustix::process::Pid::from_child(&recorder.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(recorder.0.wait().unwrap().success());
    let end = said.next().unwrap().unwrap();
    assert!(end.contains(" messages, ") && end.contains("; 0 interruptions"), "{end}");

    let play = |more: &[&str]| {
        let played =
            ["simulate", "--trace", "trace", "--target", &two, "--speed", "20", "--json", "-"];
        let output = loushan().current_dir(folder.path()).args(played).args(more).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["counts"]["readings_acked"], run["counts"]["readings_acked"], "{report}");
    };
    play(&["--ledger", "as-it-was"]);
    let original = stored(&first);
    assert_eq!(original, stored(&second));
    play(&["--ledger", "renamed", "--map-identities", "--mqtt", "5"]);
    assert_eq!(stored(&second).len(), 2 * original.len());
    for ledger in ["as-it-was", "renamed"] {
        let target = format!("http://{}", second.http);
        let (passed, said) = support::run(
            loushan()
                .current_dir(folder.path())
                .args(["audit", "--ledger", ledger, "--target", &target]),
        );
        assert!(passed, "{ledger}:\n{said}");
    }
    let (outlined, said) = support::run(loushan().current_dir(folder.path()).args([
        "simulate",
        "--trace",
        "trace",
        "--dry-run",
    ]));
    assert!(outlined && said.contains("clients      2\n"), "{said}");
}

/// The processes that a process began and that are still there.
fn children(of: u32) -> Vec<u32> {
    let path = format!("/proc/{of}/task/{of}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_fleet_in_processes_that_is_stopped_by_a_signal_stops_them_all_and_makes_one_report() {
    use rustix::process::{Pid, Signal, kill_process};

    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let target = format!("mqtt://{}", service.mqtt);
    for signal in [Signal::INT, Signal::TERM] {
        let fleet = loushan()
            .args([
                "simulate",
                "--target",
                &target,
                "--stations",
                "6",
                "--rate",
                "300",
                "--ramp",
                "0s",
            ])
            .args(["--processes", "3", "--source", "127.0.0.2-127.0.0.4", "--json", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("all stations", || (service.metric("loushan_connections") >= 6.0).then_some(()));
        // Each process has two stations, and each of those another address.
        let processes = children(fleet.id());
        assert_eq!(processes.len(), 3);
        kill_process(Pid::from_child(&fleet), signal).unwrap();
        let output = fleet.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{signal:?}: {errors}");
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{signal:?}: {e}: {errors}"));
        assert_eq!(
            (report["processes"].as_u64(), report["counts"]["stations"].as_u64()),
            (Some(3), Some(6))
        );
        assert_eq!(report["counts"]["batches_sent"], report["counts"]["batches_acked"], "{report}");
        for process in processes {
            assert!(!Path::new(&format!("/proc/{process}")).exists(), "{process} is still there");
        }
        wait_for("all stations to be gone", || {
            (service.metric("loushan_connections") < 1.0).then_some(())
        });
    }
}

#[test]
fn stations_connect_from_the_addresses_that_are_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut fleet = loushan()
        .args(["simulate", "--target", &format!("mqtt://127.0.0.1:{port}"), "--stations", "3"])
        .args(["--source", "127.0.0.7-127.0.0.9", "--ramp", "0s", "--json", "-"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut from: Vec<String> =
        (0..3).map(|_| listener.accept().unwrap().1.ip().to_string()).collect();
    fleet.kill().unwrap();
    fleet.wait().unwrap();
    from.sort_unstable();
    assert_eq!(from, ["127.0.0.7", "127.0.0.8", "127.0.0.9"]);
}
