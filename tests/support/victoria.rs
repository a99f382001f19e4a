//! A real server that speaks InfluxDB's write protocol.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{get, wait_for};

/// A victoria-metrics with a folder of its own. Ended by SIGTERM, as it forgets on SIGKILL what it
/// has acknowledged.
pub struct Victoria(Child);

impl Victoria {
    pub fn start(data: &Path, address: SocketAddr) -> Self {
        let child = Command::new("victoria-metrics")
            .arg(format!("-storageDataPath={}", data.display()))
            .arg(format!("-httpListenAddr={address}"))
            .arg("-dedup.minScrapeInterval=1ms")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("victoria-metrics is missing: run the tests by tests/run, which installs it");
        let server = Self(child);
        wait_for("victoria-metrics", || get(address, "/health").ok());
        server
    }
}

impl Drop for Victoria {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        // It may have ended already; then there is nobody to tell.
        let _told = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ended = self.0.wait();
    }
}
