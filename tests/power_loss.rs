//! The promise, tried harder than SIGKILL can: the whole service on a file system in memory that, on
//! "power loss", forgets everything that was not synced, and in a second run keeps a random part of
//! it, torn. The fleet is real, over real sockets, and the audit has the last word.

// What a run did is worth reading, above all when it failed.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use loushan_ingest::clock::Clock;
use loushan_ingest::config::Config;
use loushan_ingest::io::sim::{PowerLoss, SimIo};
use loushan_ingest::service::{Listeners, Outside, Service};
use loushan_simulator::{FleetOptions, audit};
use support::fleet::Running;
use support::wait_for;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const LOSSES: u64 = 6;

/// A service on a simulated disk, with a runtime of its own that dies with it.
struct Machine {
    runtime: Option<Runtime>,
    stop: CancellationToken,
    mqtt: SocketAddr,
    http: SocketAddr,
    ended: std::sync::mpsc::Receiver<bool>,
}

impl Machine {
    fn boot(disk: &SimIo, mqtt: SocketAddr, http: SocketAddr) -> Self {
        let runtime = Runtime::new().unwrap();
        // Small segments and quick flushes, so that power is lost between all of their steps.
        let (mqtt, http) = (mqtt.to_string(), http.to_string());
        let settings = [
            ("LOUSHAN__MQTT__LISTEN", mqtt.as_str()),
            ("LOUSHAN__HTTP__LISTEN", http.as_str()),
            ("LOUSHAN__DATA__DIR", "/data"),
            ("LOUSHAN__LOG__SEGMENT_BYTES", "8MiB"),
            ("LOUSHAN__SINK__EMBEDDED__FLUSH_AGE", "1s"),
        ];
        let environment = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = Config::read(None, environment).unwrap();
        let listeners = runtime.block_on(Listeners::open(&config)).unwrap();
        let mqtt = listeners.mqtt.first().unwrap().local_addr().unwrap();
        let http = listeners.http.local_addr().unwrap();
        let outside = Outside {
            listeners,
            clock: Clock::System,
            io: Arc::new(disk.clone()),
            sessions: None,
            lock: None,
        };
        let service = runtime.block_on(Service::start(config, outside)).unwrap();
        let stop = CancellationToken::new();
        let (sender, ended) = std::sync::mpsc::sync_channel(1);
        let stopping = stop.clone();
        runtime.spawn(async move {
            let stopped = service.run(stopping).await;
            let _nobody_asks = sender.send(stopped.is_clean());
        });
        let runtime = Some(runtime);
        Self { runtime, stop, mqtt, http, ended }
    }

    fn accepted(&self) -> u64 {
        self.figures()["accepted"].as_u64().unwrap()
    }

    fn figures(&self) -> serde_json::Value {
        let text = support::get(self.http, "/api/v1/conservation").unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The disk is dead already; now the processes go.
    fn drop_dead(mut self) {
        self.stop.cancel();
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }

    /// An ordered end.
    fn stop(mut self) {
        self.stop.cancel();
        let clean = wait_for("the ordered end", || self.ended.try_recv().ok());
        assert!(clean, "something was left pending");
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }
}

fn nothing_acknowledged_is_lost(mode: PowerLoss) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger.bin");
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut disk = SimIo::new();
    let mut machine = Machine::boot(&disk, any, any);
    let (mqtt, http) = (machine.mqtt, machine.http);
    let fleet = Running::start(FleetOptions {
        stations: 60,
        seed: 23,
        rate: Some(1500),
        ledger: Some(ledger.clone()),
        ..FleetOptions::new(format!("mqtt://{mqtt}"))
    });

    let mut duplicates = 0;
    for loss in 0..LOSSES {
        let before = machine.accepted();
        wait_for("readings to flow", || (machine.accepted() > before + 300).then_some(()));
        // The moment is to be random: somewhere among writes, syncs, flushes and renames.
        std::thread::sleep(Duration::from_millis(support::wire::now_ms() * 7919 % 700));
        duplicates += machine.figures()["duplicate"].as_u64().unwrap();
        disk = disk.power_loss(loss, mode);
        machine.drop_dead();
        machine = Machine::boot(&disk, mqtt, http);
    }
    let before = machine.accepted();
    wait_for("readings to flow", || (machine.accepted() > before + 300).then_some(()));
    println!("{}", fleet.stop());

    let report = audit(&ledger, &format!("http://{http}")).unwrap();
    println!("{mode:?}: {duplicates} duplicates before the last boot\n{report}");
    assert!(report.passed(), "{mode:?}:\n{report}");
    assert_eq!(report.residue, 0);
    assert!(support::get(machine.http, "/readyz").is_ok());
    machine.stop();
}

#[test]
fn nothing_acknowledged_is_lost_when_a_power_loss_forgets_all_that_was_not_synced() {
    nothing_acknowledged_is_lost(PowerLoss::ForgetAll);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_power_loss_keeps_a_torn_part_of_what_was_not_synced() {
    nothing_acknowledged_is_lost(PowerLoss::RandomPart);
}
