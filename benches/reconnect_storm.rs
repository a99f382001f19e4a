//! What a fleet's acknowledgements cost while ten thousand clients reconnect.
//!
//! ```text
//! cargo bench --bench reconnect_storm
//! cargo bench --bench reconnect_storm -- --clients 2000 --seconds 5
//! ```
//!
//! The server is a process of its own. Stations publish a batch each at a steady rate, whatever the
//! acknowledgements do, and each is timed: first alone, then while clients that were all connected
//! lose their connections in one moment and come back as fast as they are let in, from some two
//! hundred addresses. Generator and server share the machine's cores: trust the ratio.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::process::{Resource, getrlimit, setrlimit};
use support::raw::{Raw, connect, publish};
use support::{Service, wire};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Stations, and each one's batches per second: the design tier's 3,400 readings a second, about.
const STATIONS: usize = 100;
const RATE: u32 = 10;

/// Connects under way at once: a client that has not heard back holds a place in the accept queue.
const AT_ONCE: usize = 512;

struct Options {
    clients: usize,
    seconds: u64,
}

fn options() -> Options {
    let mut options = Options { clients: 10_000, seconds: 10 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        // Cargo itself adds `--bench`.
        match arg.as_str() {
            "--clients" => options.clients = args.next().and_then(|n| n.parse().ok()).unwrap(),
            "--seconds" => options.seconds = args.next().and_then(|n| n.parse().ok()).unwrap(),
            _ => {}
        }
    }
    options
}

fn main() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let options = options();
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path());
    let address = service.mqtt;
    let storm = runtime();
    let mut clients = storm.block_on(connect_all(address, options.clients));
    println!("{} clients are connected; {STATIONS} stations × {RATE} batches/s", options.clients);

    let seconds = Duration::from_secs(options.seconds);
    let quiet = measure(address, 1, || std::thread::sleep(seconds));
    report("alone", &quiet);

    let mut took = Duration::ZERO;
    let stormy = measure(address, 2, || {
        let begun = Instant::now();
        clients = storm.block_on(async {
            drop(std::mem::take(&mut clients));
            connect_all(address, options.clients).await
        });
        took = begun.elapsed();
    });
    report("while all reconnect", &stormy);
    println!(
        "{} clients reconnected in {:.2} s ({:.0}/s); p50 × {:.2}, p99 × {:.2}",
        options.clients,
        took.as_secs_f64(),
        options.clients as f64 / took.as_secs_f64(),
        ratio(&quiet, &stormy, 0.5),
        ratio(&quiet, &stormy, 0.99)
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn report(what: &str, seen: &Histogram<u64>) {
    let ms = |q: f64| seen.value_at_quantile(q) as f64 / 1000.0;
    println!(
        "{what:<20} {:>7} acks, p50 {:>7.2} ms, p99 {:>7.2} ms, p99.9 {:>7.2} ms, max {:>7.2} ms",
        seen.len(),
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0)
    );
}

fn ratio(quiet: &Histogram<u64>, stormy: &Histogram<u64>, q: f64) -> f64 {
    stormy.value_at_quantile(q) as f64 / quiet.value_at_quantile(q) as f64
}

/// Connections of `count` clients, all of them accepted.
async fn connect_all(address: SocketAddr, count: usize) -> Vec<Raw> {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut connecting = JoinSet::new();
    for n in 0..count {
        let at_once = Arc::clone(&at_once);
        connecting.spawn(async move {
            let _place = at_once.acquire().await.unwrap();
            let socket = TcpSocket::new_v4().unwrap();
            let from = Ipv4Addr::new(127, 0, 1, (n % 200) as u8 + 1);
            socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
            let mut raw = Raw(socket.connect(address).await.unwrap());
            // Closed by a reset, so that no port waits for its time to pass.
            raw.0.set_zero_linger().unwrap();
            raw.send(&connect(&format!("client{n}"), 600, None)).await;
            assert_eq!(raw.next().await, Some((0x20, vec![0, 0])), "refused");
            raw
        });
    }
    connecting.join_all().await
}

/// Publishes at a steady rate while `meanwhile` runs, and times each acknowledgement from when its
/// publish was due.
fn measure(address: SocketAddr, session: u32, meanwhile: impl FnOnce()) -> Histogram<u64> {
    let over = Arc::new(AtomicBool::new(false));
    let publishing = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            runtime().block_on(async {
                let mut stations = JoinSet::new();
                for n in 0..STATIONS {
                    stations.spawn(station(address, n, session, Arc::clone(&over)));
                }
                let mut all = Histogram::new(3).unwrap();
                for seen in stations.join_all().await {
                    all.add(seen).unwrap();
                }
                all
            })
        }
    });
    meanwhile();
    over.store(true, Ordering::Relaxed);
    publishing.join().unwrap()
}

async fn station(
    address: SocketAddr,
    n: usize,
    session: u32,
    over: Arc<AtomicBool>,
) -> Histogram<u64> {
    let id = format!("bs{n:04}");
    let topic = format!("nb1/zunyi/{id}/u/t");
    let mut station = Raw::connected(address, &id).await;
    let mut seen = Histogram::new(3).unwrap();
    let every = Duration::from_secs(1) / RATE;
    // Spread over the period, as a fleet's are.
    let mut due = tokio::time::Instant::now() + every * n as u32 / STATIONS as u32;
    let mut waiting = VecDeque::new();
    let mut batches = 0_u64;
    while !over.load(Ordering::Relaxed) || !waiting.is_empty() {
        tokio::select! {
            biased;
            // A socket may say that it is readable when it is not: only where an answer is due is it
            // worth waiting for one. What is published late for that is timed from when it was due.
            readable = station.0.readable(), if !waiting.is_empty() => {
                readable.unwrap();
                let answer = station.next().await.expect("a station is not disconnected");
                assert_eq!(answer.0, 0x40, "PUBACK");
                let since: tokio::time::Instant = waiting.pop_front().expect("a PUBACK too many");
                seen.record(since.elapsed().as_micros() as u64).unwrap();
            }
            () = tokio::time::sleep_until(due), if !over.load(Ordering::Relaxed) => {
                let batch = wire::one(&id, session, batches, n as u64 * 100 + batches % 40);
                let packet_id = (batches % 65_535) as u16 + 1;
                waiting.push_back(due);
                station.send(&publish(&topic, packet_id, &batch)).await;
                batches += 1;
                due += every;
            }
        }
    }
    seen
}
