//! What one core of a generator of load can do: publishes that were encoded before, publishes through
//! rumqttc's sessions, and publishes through the fleet's connections, against a broker that does nothing.
//!
//! `cargo bench --bench generator -- [--publishes 2000000] [--clients 50] [--window 200]`
//!
//! The generator is one thread and the broker another. A machine with other users gives a thread less than
//! a core, so both figures are told: per second by the clock, and per second of the generator's thread.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss, clippy::print_stdout)]

#[path = "../end_to_end/load.rs"]
#[allow(dead_code)] // each bench uses a part of this
mod load;
mod null;

use std::time::{Duration, Instant};

use load::Load;
use loushan_simulator::testing;
use null::NullBroker;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};

/// What a publish of the fleet weighs that has one reading.
const PAYLOAD_BYTES: usize = 120;

/// Runs a generator on a thread of its own, and prints a line about it.
fn measured(what: &str, publishes: usize, generate: impl FnOnce() -> (Duration, Duration) + Send) {
    let (wall, used) = std::thread::scope(|scope| scope.spawn(generate).join().unwrap());
    let per_s = |time: Duration| publishes as f64 / time.as_secs_f64();
    println!(
        "| {what} | {:.0} | {:.0} | {:.2} |",
        per_s(wall),
        per_s(used),
        used.as_secs_f64() * 1e6 / publishes as f64
    );
}

/// How long work takes that says so itself, connecting included in what it takes of the processor.
fn timed(work: impl Future<Output = Duration>) -> (Duration, Duration) {
    let before = load::processor();
    let wall = alone(work);
    (wall, load::processor() - before)
}

fn alone<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// rumqttc's own client and event loop, one of each for a session.
async fn through_rumqttc(port: u16, load: &Load, qos: QoS) -> Duration {
    let each = load.publishes / load.clients;
    let window = u16::try_from(load.window).unwrap();
    let begun = Instant::now();
    let sessions: Vec<_> = (0..load.clients)
        .map(|n| {
            tokio::spawn(async move {
                let mut options = MqttOptions::new(format!("bs{n:04}"), "127.0.0.1", port);
                options.set_inflight(window);
                let (client, mut events) = AsyncClient::new(options, usize::from(window));
                let topic = format!("nb1/zunyi/bs{n:04}/u/t");
                let payload = bytes::Bytes::from(vec![7; PAYLOAD_BYTES]);
                let feed = async {
                    for _ in 0..each {
                        client.publish_bytes(&topic, qos, false, payload.clone()).await.unwrap();
                    }
                    std::future::pending::<()>().await;
                };
                let drive = async {
                    let mut done = 0;
                    while done < each {
                        match events.poll().await.unwrap() {
                            Event::Incoming(Packet::PubAck(_)) => done += 1,
                            Event::Outgoing(rumqttc::Outgoing::Publish(0)) => done += 1,
                            _ => {}
                        }
                    }
                };
                tokio::select! {
                    () = feed => {}
                    () = drive => {}
                }
            })
        })
        .collect();
    for session in sessions {
        session.await.unwrap();
    }
    begun.elapsed()
}

fn main() {
    let mut load = Load { clients: 50, window: 200, batch: 1, publishes: 2_000_000 };
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    for pair in words.chunks(2) {
        let [key, value] = pair else { panic!("{pair:?} has no value") };
        let value = value.parse().unwrap();
        match key.as_str() {
            "--publishes" => load.publishes = value,
            "--clients" => load.clients = value,
            "--window" => load.window = value,
            other => panic!("{other} is not --publishes, --clients or --window"),
        }
    }
    load.publishes -= load.publishes % load.clients;
    println!("{} clients, windows of {}, {} publishes", load.clients, load.window, load.publishes);
    println!("| generator | publishes/s | per second of its thread | µs of its thread a publish |");
    println!("|---|---|---|---|");
    let broker = NullBroker::start();
    let (load, port) = (&load, broker.port());
    measured("encoded before, QoS 1", load.publishes, || {
        let outcome = load::run(load, broker.address());
        (outcome.elapsed, outcome.used)
    });
    measured("encoded before, QoS 0", load.publishes, || load::run_qos_0(load, broker.address()));
    for (name, qos) in [("QoS 1", QoS::AtLeastOnce), ("QoS 0", QoS::AtMostOnce)] {
        measured(&format!("rumqttc's event loop, {name}"), load.publishes, || {
            timed(through_rumqttc(port, load, qos))
        });
    }
    let target = format!("mqtt://127.0.0.1:{port}");
    for (version, version_name) in testing::VERSIONS {
        for qos in testing::QUALITIES {
            let what =
                format!("the fleet's connections, MQTT {version_name}, QoS {}", qos.number());
            let flood = testing::Flood {
                target: target.clone(),
                clients: load.clients,
                window: load.window,
                publishes: load.publishes,
                payload_bytes: PAYLOAD_BYTES,
                version,
                qos,
            };
            measured(&what, load.publishes, || {
                timed(async { testing::flood(&flood).await.unwrap() })
            });
        }
    }
    assert!(broker.publishes() >= load.publishes as u64, "the broker saw fewer than were sent");
}
