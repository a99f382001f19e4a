//! `loushan status` and `loushan top`, with the real binary against a real service.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::mqtt::Publisher;
use support::wire::one;
use support::{Service, loushan, run, wait_for};

fn status(service: &Service, words: &[&str]) -> (i32, String) {
    let mut status = loushan();
    status.args(["status", "--over", "100ms", "--url", &format!("http://{}", service.http)]);
    let output = status.args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), text + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_status_tells_by_its_exit_code_and_its_words_how_the_service_is() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path());
    let mut station = Publisher::connect(service.mqtt, "bs0001");
    for seq in 0..3 {
        station.publish("nb1/xinpu/bs0001/u/t", one("bs0001", 1, seq, seq));
    }
    service.wait_until_quiet();
    let (code, text) = status(&service, &[]);
    assert_eq!(code, 0, "{text}");
    for expected in [
        ": ready\n",
        "3 received = 3 accepted + 0 duplicate + 0 rejected + 0 shed + 0 undecided; residue 0\n",
        "embedded     running",
        "dead_letter  running",
        "3 devices, 1 connections\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let (code, text) = status(&service, &["--json"]);
    assert_eq!(code, 0, "{text}");
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said["ready"], &said["conservation"]["residue"]), (&true.into(), &0.into()));
    assert_eq!(said["devices"], 3.0);
    for known in [
        &said["disk"]["free_bytes"],
        &said["memory"]["resident_bytes"],
        &said["ack"]["p99_seconds"],
    ] {
        assert!(known.as_f64().is_some_and(|figure| figure > 0.0), "{said}");
    }
    let http = service.http;
    assert!(service.terminate().success());
    // Nobody is there any more.
    let gone = loushan().args(["status", "--url", &format!("http://{http}")]).output().unwrap();
    assert_eq!(gone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("is the service running there?"));
}

#[test]
fn a_service_that_is_not_ready_is_told_with_its_reason_and_exit_code_one() {
    let data = tempfile::tempdir().unwrap();
    // No disk has as much free: nothing is acknowledged.
    let floor = [("LOUSHAN__LOG__FREE_DISK_FLOOR", "16384GiB")];
    let mut serve = loushan();
    serve.arg("serve").current_dir(data.path()).env("LOUSHAN__DATA__DIR", data.path());
    serve.env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0").envs(floor);
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    serve.env("LOUSHAN__HTTP__LISTEN", http.to_string());
    let mut child = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let url = format!("http://{http}");
    let said = wait_for("a status that is not ready", || {
        let status = loushan().args(["status", "--over", "10ms", "--url", &url]).output().unwrap();
        (status.status.code() == Some(1))
            .then(|| String::from_utf8_lossy(&status.stdout).into_owned())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("NOT READY\n  red    disk: "), "{said}");
    assert!(said.contains("log.free_disk_floor"), "{said}");
}

#[test]
fn top_without_a_terminal_writes_as_many_lines_as_it_is_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path());
    let mut top = loushan();
    top.args([
        "top",
        "--every",
        "100ms",
        "--times",
        "3",
        "--url",
        &format!("http://{}", service.http),
    ]);
    let (ok, text) = run(&mut top);
    assert!(ok && text.lines().count() == 3, "{text}");
    for line in text.lines() {
        assert!(line.starts_with("ready, ") && line.contains("residue 0"), "{line}");
    }
}

#[test]
fn top_on_a_terminal_shows_the_service_says_when_it_is_gone_and_ends_with_q() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path());
    let url = format!("http://{}", service.http);
    let command = format!("{} top --every 100ms --url {url}", env!("CARGO_BIN_EXE_loushan"));
    // A terminal of its own, whose keys are what is written here.
    let mut script = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is missing: run the tests by tests/run, which installs it");
    let mut screen = script.stdout.take().unwrap();
    let shown = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let to = std::sync::Arc::clone(&shown);
    let reading = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = screen.read(&mut bytes) {
            to.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    });
    let shows = |what: &str| shown.lock().unwrap().contains(what).then_some(());
    for what in [
        "Loushan ",
        ": ready",
        "embedded     running",
        "readings/s ",
        "of pipeline.tail_bytes",
        "q quits",
    ] {
        wait_for(what, || shows(what));
    }
    assert!(service.terminate().success());
    wait_for("that it is gone", || shows("NOT REACHABLE"));
    let mut keys = script.stdin.take().unwrap();
    keys.write_all(b"q").unwrap();
    keys.flush().unwrap();
    let ended = wait_for("the end", || script.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
    drop(keys);
    reading.join().unwrap();
}
