//! The servers under load, each a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::stock;

/// A running server; it ends with this value.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    // Kept for as long as the server runs.
    _data: tempfile::TempDir,
}

impl Server {
    /// Ours, as it comes, on free ports and a fresh data folder.
    pub(crate) fn loushan() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_loushan"));
        command
            .arg("serve")
            .env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0")
            .env("LOUSHAN__HTTP__LISTEN", "127.0.0.1:0")
            .env("LOUSHAN__DATA__DIR", data.path())
            // All clients come from one address here.
            .env("LOUSHAN__MQTT__MAX_CONNECTIONS_PER_ADDRESS", "0");
        Self::start(command, data)
    }

    /// Stock rumqttd, in a process of this bench's own binary.
    pub(crate) fn stock_rumqttd() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(stock::ARGUMENT);
        Self::start(command, tempfile::tempdir().unwrap())
    }

    fn start(mut command: Command, data: tempfile::TempDir) -> Self {
        let mut child = command
            .current_dir(data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the server ended before it told its address").unwrap();
            if let Some((_, rest)) = line.split_once("mqtt://") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _data: data }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// User and system time so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields are counted behind the command, which ends with the last parenthesis.
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / rustix::param::clock_ticks_per_second() as f64
    }

    /// Resident memory now.
    pub(crate) fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
