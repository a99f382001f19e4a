//! The promise, tried the hard way: the real binary under a fleet of 500 stations, killed with
//! SIGKILL at random moments, and the audit at the end.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::{Child, Stdio};
use std::time::Duration;

use support::{Service, loushan, run, wait_for, wait_for_up_to};

const KILLS: usize = 10;

/// A fleet in a process of its own; killed when dropped.
struct Fleet(Child);

impl Fleet {
    fn start(target: &str, dir: &std::path::Path) -> Self {
        let output = std::fs::File::create(dir.join("fleet.txt")).unwrap();
        let child = loushan()
            .current_dir(dir)
            .args(["simulate", "--target", target, "--stations", "500", "--seed", "11"])
            .args(["--rate", "3000", "--ledger", "ledger.bin"])
            .stdout(Stdio::from(output.try_clone().unwrap()))
            .stderr(Stdio::from(output))
            .spawn()
            .unwrap();
        Self(child)
    }

    /// SIGINT: it stops generating, waits for what is unacknowledged, and ends.
    fn stop(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        wait_for("the fleet to end", || self.0.try_wait().unwrap()).success()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A few hundred milliseconds that differ from run to run: the moment of a kill is to be random.
fn random_pause() -> Duration {
    Duration::from_millis(100 + support::wire::now_ms() * 7919 % 900)
}

#[test]
fn nothing_acknowledged_is_missing_doubled_or_altered_after_ten_kills_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut service = Service::start(&data);
    // The fleet finds the service again where it was.
    let (mqtt, http) = (service.mqtt.to_string(), service.http.to_string());
    let fleet = Fleet::start(&format!("mqtt://{mqtt}"), dir.path());

    let mut redelivered = 0.0;
    for kill in 0..KILLS {
        let before = service.figure("accepted");
        wait_for_up_to(2 * support::DEADLINE, "readings to flow again", || {
            (service.figure("accepted") > before + 500).then_some(())
        });
        std::thread::sleep(random_pause());
        redelivered += service.metric("loushan_batches_redelivered_total");
        service.kill();
        service = Service::start_with(&data, &mqtt, &http, &[]);
        eprintln!("kill {}: up again, {redelivered} redelivered so far", kill + 1);
    }

    assert!(fleet.stop(), "the fleet could not get everything acknowledged");
    redelivered += service.metric("loushan_batches_redelivered_total");
    service.wait_until_quiet();
    let (clean, report) = run(loushan().current_dir(dir.path()).args([
        "audit",
        "--ledger",
        "ledger.bin",
        "--target",
        &format!("http://{http}"),
    ]));
    println!("{report}");
    assert!(clean, "the audit found differences:\n{report}");
    assert!(
        redelivered > 0.0,
        "no batch that was durable already was ever sent again: this run has proved nothing"
    );
    assert!(service.terminate().success());
}
