//! The promise, tried the hard way: the real binary under a fleet of 500 stations, killed with
//! SIGKILL at random moments, and the audit at the end.

// What a run did is worth reading, above all when it failed.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::time::Duration;

use loushan_simulator::FleetOptions;
use support::fleet::Running;
use support::{DEADLINE, Service, loushan, run, wait_for_up_to};

/// At least so many.
const KILLS: usize = 10;
/// A batch must have been durable and unacknowledged at one kill, which is a matter of a millisecond;
/// the test goes on until that has happened, and fails if it has not by then.
const MOST_KILLS: usize = 40;

/// A few hundred milliseconds that differ from run to run: the moment of a kill is to be random.
fn random_pause() -> Duration {
    Duration::from_millis(100 + support::wire::now_ms() * 7919 % 900)
}

#[test]
fn nothing_acknowledged_is_missing_doubled_or_altered_after_ten_kills_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let ledger = dir.path().join("ledger.bin");
    let mut service = Service::start(&data);
    // The fleet finds the service again where it was.
    let (mqtt, http) = (service.mqtt.to_string(), service.http.to_string());
    let fleet = Running::start(FleetOptions {
        stations: 500,
        seed: 11,
        rate: Some(3000),
        ledger: Some(ledger.clone()),
        ..FleetOptions::new(format!("mqtt://{mqtt}"))
    });

    let mut known_again = 0.0;
    let mut kills = 0;
    while kills < KILLS || (known_again == 0.0 && kills < MOST_KILLS) {
        let before = service.figure("accepted");
        wait_for_up_to(2 * DEADLINE, "readings to flow again", || {
            (service.figure("accepted") > before + 500).then_some(())
        });
        std::thread::sleep(random_pause());
        known_again += service.metric("loushan_batches_redelivered_total");
        service.kill();
        kills += 1;
        service = Service::start_with(&data, &mqtt, &http, &[]);
        eprintln!("kill {kills}: up again; {known_again} batches known again so far");
    }
    let summary = fleet.stop();
    println!("{summary}");
    known_again += service.metric("loushan_batches_redelivered_total");
    service.wait_until_quiet();
    let (clean, report) = run(loushan()
        .arg("audit")
        .arg("--ledger")
        .arg(&ledger)
        .args(["--target", &format!("http://{http}")]));
    println!("{report}");
    assert!(clean, "the audit found differences:\n{report}");
    assert!(
        known_again > 0.0,
        "no batch that was durable already was ever sent again: this run has proved nothing"
    );
    assert!(service.terminate().success());
}
