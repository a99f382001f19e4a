//! What a fleet's acknowledgements cost while ten thousand clients reconnect.
//!
//! ```text
//! cargo bench --bench reconnect_storm
//! cargo bench --bench reconnect_storm -- --clients 2000 --seconds 5
//! cargo bench --bench reconnect_storm -- --passwords
//! ```
//!
//! The server is a process of its own. Stations publish a batch each at a steady rate, whatever the
//! acknowledgements do, and each is timed: first alone, then while clients that were all connected
//! lose their connections in one moment and come back as fast as they are let in, from some two
//! hundred addresses. Generator and server share the machine's cores: trust the ratio.
//!
//! With `--passwords` everybody is a user with a password of Argon2id at its full cost, and what is
//! measured comes twice: while all come for the first time after a start, when every password has
//! to be verified (some are told to come back, and do), and while all come again.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use loushan_broker::auth::PasswordHash;
use rustix::process::{Resource, getrlimit, setrlimit};
use support::raw::{Raw, connect, connect_as, publish};
use support::{Service, wire};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Stations, and each one's batches per second: the design tier's 3,400 readings a second, about.
const STATIONS: usize = 100;
const RATE: u32 = 10;

/// What everybody's password is.
const PASSWORD: &str = "bench-of-reconnects";

/// Connects under way at once: a client that has not heard back holds a place in the accept queue.
const AT_ONCE: usize = 512;

struct Options {
    clients: usize,
    seconds: u64,
    passwords: bool,
}

fn options() -> Options {
    let mut options = Options { clients: 10_000, seconds: 10, passwords: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        // Cargo itself adds `--bench`.
        match arg.as_str() {
            "--clients" => options.clients = args.next().and_then(|n| n.parse().ok()).unwrap(),
            "--passwords" => options.passwords = true,
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
    let users = data.path().join("users");
    let mut keys = Vec::new();
    if options.passwords {
        write_users(&users, options.clients);
        keys.push(("LOUSHAN__AUTH__USERS_FILE", users.to_str().unwrap()));
    }
    let service = Service::start_with(data.path(), "127.0.0.1:0", "127.0.0.1:0", &keys);
    let storm = runtime();
    let server = Server { mqtt: service.mqtt, passwords: options.passwords };
    let many = options.clients;
    let (clients, cold) = storming(&server, 1, || storm.block_on(connect_all(server, many)));
    if options.passwords {
        report("all for the first time", &cold.acks);
        println!("{} clients connected in {:.2} s", many, cold.took.as_secs_f64());
    } else {
        println!("{many} clients are connected; {STATIONS} stations × {RATE} batches/s");
    }

    let seconds = Duration::from_secs(options.seconds);
    let ((), quiet) = storming(&server, 2, || std::thread::sleep(seconds));
    report("alone", &quiet.acks);

    let (_clients, stormy) = storming(&server, 3, || {
        storm.block_on(async {
            drop(clients);
            connect_all(server, many).await
        })
    });
    report("while all reconnect", &stormy.acks);
    println!(
        "{many} clients reconnected in {:.2} s ({:.0}/s); p50 × {:.2}, p99 × {:.2}",
        stormy.took.as_secs_f64(),
        many as f64 / stormy.took.as_secs_f64(),
        ratio(&quiet.acks, &stormy.acks, 0.5),
        ratio(&quiet.acks, &stormy.acks, 0.99)
    );
}

/// Whom the clients connect to, and how.
#[derive(Clone, Copy)]
struct Server {
    mqtt: SocketAddr,
    passwords: bool,
}

impl Server {
    fn connect_packet(self, name: &str) -> Vec<u8> {
        if self.passwords { connect_as(name, PASSWORD, 600) } else { connect(name, 600, None) }
    }
}

/// A file of stations, the fleet's and the clients', that all have the same password; each of them
/// is verified for itself all the same.
fn write_users(path: &Path, clients: usize) {
    let hash = PasswordHash::make(PASSWORD.as_bytes()).unwrap();
    let names = (0..STATIONS).map(station_name).chain((0..clients).map(client_name));
    let lines = names.map(|name| format!("{name} station region=zunyi {}\n", hash.as_str()));
    std::fs::write(path, lines.collect::<String>()).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn station_name(n: usize) -> String {
    format!("bs{n:04}")
}

fn client_name(n: usize) -> String {
    format!("client{n}")
}

/// What the acknowledgements took while something went on, and how long that took.
struct Storm {
    acks: Histogram<u64>,
    took: Duration,
}

fn storming<T>(server: &Server, session: u32, meanwhile: impl FnOnce() -> T) -> (T, Storm) {
    let mut took = Duration::ZERO;
    let (done, acks) = measure(*server, session, || {
        let begun = Instant::now();
        let done = meanwhile();
        took = begun.elapsed();
        done
    });
    (done, Storm { acks, took })
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
async fn connect_all(server: Server, count: usize) -> Vec<Raw> {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut connecting = JoinSet::new();
    for n in 0..count {
        let at_once = Arc::clone(&at_once);
        connecting.spawn(async move { let_in(server, &client_name(n), n, &at_once).await });
    }
    connecting.join_all().await
}

/// A connection, however often it takes to be let in.
async fn let_in(server: Server, name: &str, n: usize, at_once: &Semaphore) -> Raw {
    let mut pause = Duration::from_millis(50);
    loop {
        let place = at_once.acquire().await.unwrap();
        if let Some(raw) = try_connect(server, name, n).await {
            return raw;
        }
        drop(place);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// A connection, or none where the server is too busy to let it in.
async fn try_connect(server: Server, name: &str, n: usize) -> Option<Raw> {
    let socket = TcpSocket::new_v4().unwrap();
    let from = Ipv4Addr::new(127, 0, 1, (n % 200) as u8 + 1);
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
    let mut raw = Raw(socket.connect(server.mqtt).await.unwrap());
    // Closed by a reset, so that no port waits for its time to pass.
    raw.0.set_zero_linger().unwrap();
    raw.send(&server.connect_packet(name)).await;
    match raw.next().await {
        Some((0x20, answer)) if answer == [0, 0] => Some(raw),
        // 3: the server is unavailable.
        Some((0x20, answer)) if server.passwords && answer == [0, 3] => None,
        // Its time for CONNECT was over.
        None if server.passwords => None,
        other => panic!("{name} was refused: {other:?}"),
    }
}

/// Publishes at a steady rate while `meanwhile` runs, and times each acknowledgement from when its
/// publish was due.
fn measure<T>(server: Server, session: u32, meanwhile: impl FnOnce() -> T) -> (T, Histogram<u64>) {
    let over = Arc::new(AtomicBool::new(false));
    let publishing = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            runtime().block_on(async {
                let mut stations = JoinSet::new();
                for n in 0..STATIONS {
                    stations.spawn(station(server, n, session, Arc::clone(&over)));
                }
                let mut all = Histogram::new(3).unwrap();
                for seen in stations.join_all().await {
                    all.add(seen).unwrap();
                }
                all
            })
        }
    });
    let done = meanwhile();
    over.store(true, Ordering::Relaxed);
    (done, publishing.join().unwrap())
}

async fn station(server: Server, n: usize, session: u32, over: Arc<AtomicBool>) -> Histogram<u64> {
    let id = station_name(n);
    let topic = format!("nb1/zunyi/{id}/u/t");
    let mut station = let_in(server, &id, n, &Semaphore::new(1)).await;
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
