//! Stations that publish a batch each at a steady rate, whatever the acknowledgements do, while
//! something else goes on. Each acknowledgement is timed from when its publish was due.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::raw::{Raw, connect, connect_as, publish};
use crate::support::wire;

/// Stations, and each one's batches per second.
pub(crate) const STATIONS: usize = 100;
pub(crate) const RATE: u32 = 10;

/// What everybody's password is, where passwords are asked for.
pub(crate) const PASSWORD: &str = "bench-of-acknowledgements";

/// Whom the clients connect to, and how.
#[derive(Clone, Copy)]
pub(crate) struct Server {
    pub(crate) mqtt: SocketAddr,
    pub(crate) passwords: bool,
}

impl Server {
    fn connect_packet(self, name: &str) -> Vec<u8> {
        if self.passwords { connect_as(name, PASSWORD, 600) } else { connect(name, 600, None) }
    }
}

pub(crate) fn station_name(n: usize) -> String {
    format!("bs{n:04}")
}

/// What the acknowledgements took while something went on, and how long that took.
pub(crate) struct Storm {
    pub(crate) acks: Histogram<u64>,
    pub(crate) took: Duration,
}

pub(crate) fn storming<T>(
    server: &Server,
    session: u32,
    meanwhile: impl FnOnce() -> T,
) -> (T, Storm) {
    let mut took = Duration::ZERO;
    let (done, acks) = measure(*server, session, || {
        let begun = Instant::now();
        let done = meanwhile();
        took = begun.elapsed();
        done
    });
    (done, Storm { acks, took })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) fn report(what: &str, seen: &Histogram<u64>) {
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

pub(crate) fn ratio(quiet: &Histogram<u64>, stormy: &Histogram<u64>, q: f64) -> f64 {
    stormy.value_at_quantile(q) as f64 / quiet.value_at_quantile(q) as f64
}

/// A connection, however often it takes to be let in.
pub(crate) async fn let_in(server: Server, name: &str, n: usize, at_once: &Semaphore) -> Raw {
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
