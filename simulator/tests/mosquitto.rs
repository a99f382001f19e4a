//! The fleet against a real broker of somebody else's.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{HashMap, HashSet};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loushan_schemas::pb;
use loushan_simulator::ledger::{LedgerReader, Record};
use loushan_simulator::options::MqttVersion;
use loushan_simulator::{Fleet, FleetOptions, FleetStats, Summary};
use prost::Message as _;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_128;

struct Mosquitto {
    process: Child,
    port: u16,
}

impl Mosquitto {
    fn on(port: u16) -> Self {
        let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("mosquitto is not installed: apt-get install mosquitto");
        let process = Command::new(program)
            .args(["-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen on port {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, port }
    }

    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::on(free)
    }

    fn target(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

async fn subscriber(port: u16) -> EventLoop {
    let mut options = MqttOptions::new("listener", "127.0.0.1", port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe("nb1/#", QoS::AtLeastOnce).await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
    // Dropping the client would end the event loop.
    std::mem::forget(client);
    events
}

/// The ledger's payload digests, with whether they were acknowledged.
fn ledger(path: &Path) -> HashMap<u128, bool> {
    let mut reader = LedgerReader::open(path).unwrap();
    let (mut sent, mut acked) = (Vec::new(), HashSet::new());
    while let Some(record) = reader.next_record().unwrap() {
        match record {
            Record::Batch(batch) => sent.push((batch.payload_digest, batch.id)),
            Record::Acknowledged { id, .. } => {
                acked.insert(id);
            }
            _ => {}
        }
    }
    sent.into_iter().map(|(digest, id)| (digest, acked.contains(&id))).collect()
}

async fn runs(options: FleetOptions, until: impl Fn(u64) -> bool) -> Summary {
    let (stop, stats) = (CancellationToken::new(), Arc::new(FleetStats::default()));
    let fleet = Fleet::run(options, stop.clone(), Arc::clone(&stats));
    let watch = async {
        while !until(stats.snapshot().counts.batches_acked) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        summary = fleet => summary.unwrap(),
        () = watch => unreachable!(),
    }
}

fn options(target: String, ledger: &Path) -> FleetOptions {
    FleetOptions {
        stations: 40,
        rate: Some(4000),
        batch_readings: 20,
        duration: Some(Duration::from_secs(60)),
        ledger: Some(ledger.to_owned()),
        ramp: Duration::from_millis(200),
        ..FleetOptions::new(target)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_sees_exactly_what_the_ledger_says_with_births_and_deaths() {
    for mqtt_version in [MqttVersion::V311, MqttVersion::V5] {
        let broker = Mosquitto::start();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let csv = folder.path().join("stations.csv");
        let options = FleetOptions {
            mqtt_version,
            stations_csv: Some(csv.clone()),
            ..options(broker.target(), &path)
        };
        let mut events = subscriber(broker.port).await;
        let listen = tokio::spawn(async move {
            let (mut seen, mut alive) = (HashMap::<u128, u32>::new(), HashMap::new());
            let (mut births, mut deaths) = (0, 0);
            while deaths < 40 {
                let Event::Incoming(Packet::Publish(p)) = events.poll().await.unwrap() else {
                    continue;
                };
                if p.topic.ends_with("/state") {
                    let state = pb::StationState::decode(p.payload).unwrap();
                    births += u32::from(state.online);
                    deaths += u32::from(!state.online);
                    alive.insert(p.topic, state);
                } else {
                    *seen.entry(xxh3_128(&p.payload)).or_default() += 1;
                }
            }
            (seen, alive, births)
        });
        let summary = runs(options, |acked| acked > 400).await;
        let (seen, alive, births) =
            tokio::time::timeout(Duration::from_secs(10), listen).await.unwrap().unwrap();
        assert_eq!((births, alive.len()), (40, 40));
        let ledger = ledger(&path);
        assert!(ledger.len() > 300);
        assert!(ledger.values().all(|acknowledged| *acknowledged), "{summary}");
        assert_eq!(
            seen.keys().collect::<HashSet<_>>(),
            ledger.keys().collect::<HashSet<_>>(),
            "{summary}"
        );
        let repeats: u32 = seen.values().map(|times| times - 1).sum();
        assert_eq!(u64::from(repeats), summary.figures.counts.repeated_on_purpose);
        assert_eq!(
            (summary.figures.counts.reconnects, summary.figures.counts.unacknowledged()),
            (0, 0)
        );
        assert_eq!(std::fs::read_to_string(csv).unwrap().lines().count(), 41);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_comes_back_gets_everything() {
    let broker = Mosquitto::start();
    let port = broker.port;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let options = options(broker.target(), &path);
    let broker = parking_lot::Mutex::new(Some(broker));
    let restarted = parking_lot::Mutex::new(None);
    let summary = runs(options, |acked| {
        if acked > 200 && broker.lock().take().is_some() {
            *restarted.lock() = Some(Mosquitto::on(port));
        }
        acked > 800
    })
    .await;
    assert!(restarted.lock().is_some());
    assert!(summary.figures.counts.reconnects >= 40, "{summary}");
    assert_eq!(summary.figures.counts.unacknowledged(), 0, "{summary}");
    assert!(ledger(&path).values().all(|acknowledged| *acknowledged));
}

#[tokio::test]
async fn options_and_targets_that_cannot_be_are_refused_at_once() {
    let run = |options| Fleet::run(options, CancellationToken::new(), Arc::default());
    let error = run(FleetOptions::new("tcp://x")).await.unwrap_err().to_string();
    assert!(error.contains("mqtt://HOST:PORT"), "{error}");
    let options = FleetOptions { stations: 0, speed: 0, ..FleetOptions::new("mqtt://x") };
    assert_eq!(run(options).await.unwrap_err().to_string().lines().count(), 2);
}
