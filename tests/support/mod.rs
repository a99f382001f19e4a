//! What the integration tests share: the real binary in a folder of its own, its HTTP side, and a
//! client that says what the broker answered.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod browser;
pub mod exposition;
pub mod fleet;
pub mod mosquitto;
pub mod mqtt;
pub mod raw;
pub mod victoria;
pub mod wire;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that is expected to happen: generous, as the machine may be slow,
/// and only ever waited out by a test that fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Polls until `done` gives something; panics with `what` after [`DEADLINE`].
pub fn wait_for<T>(what: &str, done: impl FnMut() -> Option<T>) -> T {
    wait_for_up_to(DEADLINE, what, done)
}

/// Polls until `done` gives something; panics with `what` after `deadline`.
pub fn wait_for_up_to<T>(deadline: Duration, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The binary under test, as a command.
pub fn loushan() -> Command {
    Command::new(env!("CARGO_BIN_EXE_loushan"))
}

/// A running `loushan serve`. Killed when dropped.
pub struct Service {
    child: Child,
    /// What it listens on, by scheme.
    addresses: Vec<(String, SocketAddr)>,
    pub mqtt: SocketAddr,
    pub http: SocketAddr,
    pub data: PathBuf,
}

impl Service {
    /// Starts on free ports with `data` as its folder, and waits until it is ready.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, "127.0.0.1:0", "127.0.0.1:0", &[])
    }

    /// Starts with addresses and further configuration keys (`LOUSHAN__…`), and waits until ready.
    pub fn start_with(data: &Path, mqtt: &str, http: &str, env: &[(&str, &str)]) -> Self {
        let mut child = loushan()
            .arg("serve")
            .current_dir(data)
            .env("LOUSHAN__DATA__DIR", data)
            .env("LOUSHAN__MQTT__LISTEN", mqtt)
            .env("LOUSHAN__HTTP__LISTEN", http)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(data.join("stderr.txt"))
                    .unwrap(),
            )
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut mqtt, mut http, mut addresses) = (None, None, Vec::new());
        while mqtt.is_none() || http.is_none() {
            let Some(line) = lines.next() else {
                let stderr = std::fs::read_to_string(data.join("stderr.txt")).unwrap_or_default();
                panic!("the service ended before it told its addresses:\n{stderr}");
            };
            let line = line.unwrap();
            mqtt = mqtt.or_else(|| address_behind(&line, "mqtt://"));
            http = http.or_else(|| address_behind(&line, "http://"));
            for scheme in ["mqtts", "ws", "wss"] {
                let address = address_behind(&line, &format!(" {scheme}://"));
                addresses.extend(address.map(|address| (scheme.to_owned(), address)));
            }
        }
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let service = Self {
            child,
            addresses,
            mqtt: mqtt.unwrap(),
            http: http.unwrap(),
            data: data.to_path_buf(),
        };
        // Where it asks everybody who they are it is taken to be ready when it asks.
        wait_for("readiness", || match service.get("/readyz") {
            Ok(_) | Err((401, _)) => Some(()),
            Err(_) => None,
        });
        service
    }

    /// Where it listens for `mqtts`, `ws` or `wss`.
    pub fn address(&self, scheme: &str) -> SocketAddr {
        let found = self.addresses.iter().find(|(other, _)| other == scheme);
        found.unwrap_or_else(|| panic!("it does not listen for {scheme}: {:?}", self.addresses)).1
    }

    /// The body of a GET that answered 2xx, or its status and body.
    pub fn get(&self, path: &str) -> Result<String, (u16, String)> {
        get(self.http, path)
    }

    /// The JSON of a GET that must succeed.
    pub fn json(&self, path: &str) -> serde_json::Value {
        let body = self.get(path).unwrap_or_else(|e| panic!("GET {path}: {e:?}"));
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("GET {path}: {e}: {body}"))
    }

    /// A figure of `/api/v1/conservation`.
    pub fn figure(&self, name: &str) -> u64 {
        let figures = self.json("/api/v1/conservation");
        figures[name].as_u64().unwrap_or_else(|| panic!("no figure {name} in {figures}"))
    }

    /// The sum of a metric over all its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").unwrap();
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Everything received is decided and given to the local sinks; all residues are zero.
    pub fn wait_until_quiet(&self) {
        wait_for("everything received to be decided and handed to the sinks", || {
            let figures = self.json("/api/v1/conservation");
            let durable = figures["durable_lsn"].as_u64()?;
            let sinks = figures["sinks"].as_array()?;
            let there = sinks.iter().all(|sink| sink["position"].as_u64() >= Some(durable));
            (there && figures["undecided"] == 0).then_some(())
        });
        let figures = self.json("/api/v1/conservation");
        assert_eq!(figures["residue"], 0, "{figures}");
        for sink in figures["sinks"].as_array().unwrap() {
            assert_eq!(sink["residue"], 0, "{figures}");
        }
    }

    /// Rows of all kinds, from files and memory.
    pub fn rows(&self) -> u64 {
        self.json("/api/v1/readings/count")["count"].as_u64().unwrap()
    }

    /// Memory of the process that is in use, in MiB.
    pub fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// SIGKILL: what the process had not synced is the kernel's to keep or not.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Any signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and no waiting.
    pub fn signal_terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// SIGTERM, and waits for the ordered end.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal_terminate();
        wait_for("the service to end after SIGTERM", || self.child.try_wait().unwrap())
    }

    /// What it wrote to stderr so far, over all starts in this folder.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.data.join("stderr.txt")).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already; either way nothing is left running.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn address_behind(line: &str, scheme: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(scheme)?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

/// GET from an address; an error is status (0: no answer) and body.
pub fn get(address: SocketAddr, path: &str) -> Result<String, (u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(DEADLINE))
        .build()
        .into();
    let mut answer =
        agent.get(format!("http://{address}{path}")).call().map_err(|e| (0, e.to_string()))?;
    let mut body = String::new();
    answer.body_mut().as_reader().read_to_string(&mut body).map_err(|e| (0, e.to_string()))?;
    match answer.status().as_u16() {
        200..=299 => Ok(body),
        status => Err((status, body)),
    }
}

/// Runs a command to its end; its output, and whether it succeeded.
pub fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// `certs dev` in a folder of its own below `dir`: `ca.crt`, `server.crt`, `server.key` and a station's.
pub fn certificates(dir: &Path) -> PathBuf {
    let certificates = dir.join("certificates");
    let (made, output) = run(loushan().args(["certs", "dev", "--dir"]).arg(&certificates));
    assert!(made, "{output}");
    certificates
}

/// The folder of npm's packages that `tests/run` prepared.
pub fn node() -> PathBuf {
    let node = std::env::var_os("LOUSHAN_TEST_NODE")
        .expect("LOUSHAN_TEST_NODE is not set: run the tests by tests/run, which prepares it");
    PathBuf::from(node)
}

/// The Python that `tests/run` prepared.
pub fn python() -> PathBuf {
    let python = std::env::var_os("LOUSHAN_TEST_PYTHON")
        .expect("LOUSHAN_TEST_PYTHON is not set: run the tests by tests/run, which prepares it");
    PathBuf::from(python)
}
