//! An hour in which a sink's server is away, at the design load of 3,400 readings a second: it costs
//! disk and no memory, nobody else notices, and the sink catches up beside what comes.
//!
//! The time is compressed, the volume need not be: `LOUSHAN_OUTAGE_READINGS=12240000` is the whole hour
//! (the README has its figures); without it a tenth is published.

// What a run measured is worth reading.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message as _;
use support::mqtt::Publisher;
use support::{Service, wait_for, wait_for_up_to, wire};

/// A tenth of an hour at 3,400 readings a second.
const READINGS: u64 = 1_224_000;
/// Readings of a batch: what a station sends at once when it has much.
const BATCH: u64 = 500;
/// Stations that send what came during the outage, each as fast as it is acknowledged.
const STATIONS: u64 = 4;
/// Readings a second while the sink catches up.
const DESIGN_LOAD: u64 = 3_400;
/// Memory that may be needed beyond that before the outage: the tail and the memory of duplicates, what
/// the store gathers and what it merges, as the test configures them, and buffers.
const MEMORY_MIB: u64 = 400;

/// A server that takes lines and counts them, while it is there.
struct Server {
    address: SocketAddr,
    there: Arc<AtomicBool>,
    lines: Arc<AtomicU64>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (there, lines) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_there, count) = (Arc::clone(&there), Arc::clone(&lines));
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (there, lines) = (Arc::clone(&is_there), Arc::clone(&count));
                thread::spawn(move || serve(socket, &there, &lines));
            }
        });
        Self { address, there, lines }
    }
}

/// Answers until the client goes. Requests are not compressed (the test says so), so that lines can be
/// counted without costing what a server elsewhere would cost this machine.
fn serve(socket: TcpStream, there: &AtomicBool, lines: &AtomicU64) -> Option<()> {
    let mut writer = socket.try_clone().ok()?;
    let mut reader = BufReader::new(socket);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let answer = if !there.load(Ordering::SeqCst) {
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
        } else if first.starts_with("POST /api/v2/write") {
            let count = body.iter().filter(|byte| **byte == b'\n').count();
            lines.fetch_add(count as u64, Ordering::SeqCst);
            "HTTP/1.1 204 No Content\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        };
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

/// A station that sends batches and waits for each acknowledgement.
struct Station {
    name: String,
    publisher: Publisher,
    seq: u64,
}

impl Station {
    fn connect(service: &Service, number: u64) -> Self {
        let name = format!("bs{number:04}");
        let publisher = Publisher::connect(service.mqtt, &name);
        Self { name, publisher, seq: 0 }
    }

    /// How long the acknowledgement took.
    fn send(&mut self, number: u64) -> Duration {
        let seq = self.seq;
        self.seq += 1;
        let readings = (0..BATCH)
            .map(|device| wire::parking(number * BATCH + device, u32::try_from(seq).unwrap()));
        let batch = wire::batch(&self.name, 1, seq, readings.collect());
        let payload = batch.encode_to_vec();
        let begun = Instant::now();
        let answer = self.publisher.publish(&format!("nb1/zunyi/{}/u/t", self.name), payload);
        assert_eq!(answer.reason(), "Success");
        begun.elapsed()
    }
}

fn quantile(latencies: &mut [Duration], of: f64) -> Duration {
    latencies.sort();
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = (latencies.len() as f64 * of) as usize;
    latencies[at.min(latencies.len() - 1)]
}

#[test]
fn an_hour_without_the_server_costs_disk_and_no_memory_and_is_caught_up_beside_live_data() {
    let all: u64 = match std::env::var("LOUSHAN_OUTAGE_READINGS") {
        Ok(readings) => readings.parse().expect("LOUSHAN_OUTAGE_READINGS is a number"),
        Err(_) => READINGS,
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    let url = format!("http://{}", server.address);
    let env = [
        ("LOUSHAN__SINK__LAKE__URL", url.as_str()),
        ("LOUSHAN__SINK__LAKE__ORG", "city"),
        ("LOUSHAN__SINK__LAKE__BUCKET", "loushan"),
        ("LOUSHAN__SINK__LAKE__TOKEN", "secret"),
        ("LOUSHAN__SINK__LAKE__GZIP", "false"),
        ("LOUSHAN__SINK__LAKE__MAX_BACKOFF", "500ms"),
        ("LOUSHAN__PIPELINE__TAIL_BYTES", "32MiB"),
        ("LOUSHAN__SINK__EMBEDDED__FLUSH_BYTES", "32MiB"),
        ("LOUSHAN__STORE__COMPACTION__MEMORY_BYTES", "32MiB"),
    ];
    let service = Service::start_with(dir.path(), "127.0.0.1:0", "127.0.0.1:0", &env);
    let lake = || {
        let sinks = service.json("/api/v1/sinks");
        let sinks = sinks["sinks"].as_array().unwrap().clone();
        sinks.into_iter().find(|sink| sink["name"] == "lake").unwrap()
    };

    // The outage: its readings, as fast as they are acknowledged.
    let before = service.resident_mib();
    let begun = Instant::now();
    let peak = Arc::new(AtomicU64::new(before));
    let mut outage: Vec<Duration> = thread::scope(|scope| {
        let stations: Vec<_> = (0..STATIONS)
            .map(|number| {
                let (service, peak) = (&service, &peak);
                scope.spawn(move || {
                    let mut station = Station::connect(service, number);
                    let batches = all / BATCH / STATIONS;
                    let mut latencies = Vec::new();
                    for batch in 0..batches {
                        latencies.push(station.send(number));
                        if batch % 50 == 0 {
                            peak.fetch_max(service.resident_mib(), Ordering::Relaxed);
                        }
                    }
                    latencies
                })
            })
            .collect();
        stations.into_iter().flat_map(|station| station.join().unwrap()).collect()
    });
    let took = begun.elapsed();
    let sent = outage.len() as u64 * BATCH;
    let behind = lake();
    assert_eq!(behind["stored"], 0, "{behind}");
    assert_eq!(behind["cursor"], 0, "{behind}");
    assert!(behind["trouble"].is_string(), "{behind}");
    assert!(service.get("/readyz").is_ok(), "a sink's server is away, and devices are welcome");
    println!(
        "outage: {sent} readings taken in {took:.1?} ({:.0}/s), acks p50 {:?} p99 {:?}; behind {} frames, \
         {} MiB, {:.0} s; memory {before} MiB before, {} MiB at most",
        sent as f64 / took.as_secs_f64(),
        quantile(&mut outage, 0.5),
        quantile(&mut outage, 0.99),
        behind["lag"]["frames"],
        behind["lag"]["bytes"].as_u64().unwrap() >> 20,
        behind["lag"]["seconds"].as_f64().unwrap(),
        peak.load(Ordering::Relaxed),
    );

    // It is over: the sink catches up, and the design load goes on.
    server.there.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let (mut live, caught_up) = thread::scope(|scope| {
        let (service, is_over) = (&service, Arc::clone(&over));
        let live = scope.spawn(move || {
            let number = STATIONS;
            let mut station = Station::connect(service, number);
            let mut latencies = Vec::new();
            let begun = Instant::now();
            while !is_over.load(Ordering::SeqCst) {
                latencies.push(station.send(number));
                let due = Duration::from_secs_f64(
                    (latencies.len() as u64 * BATCH) as f64 / DESIGN_LOAD as f64,
                );
                thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            latencies
        });
        let patience = Duration::from_secs(60 + all / 5_000);
        wait_for_up_to(patience, "the sink to catch up", || {
            peak.fetch_max(service.resident_mib(), Ordering::Relaxed);
            (server.lines.load(Ordering::SeqCst) >= sent).then_some(())
        });
        let caught_up = begun.elapsed();
        over.store(true, Ordering::SeqCst);
        (live.join().unwrap(), caught_up)
    });
    let lived = live.len() as u64 * BATCH;
    println!(
        "caught up: {sent} readings in {caught_up:.1?} ({:.0}/s) beside {lived} live ones, acks p50 {:?} \
         p99 {:?}; memory {} MiB at most",
        sent as f64 / caught_up.as_secs_f64(),
        quantile(&mut live, 0.5),
        quantile(&mut live, 0.99),
        peak.load(Ordering::Relaxed),
    );
    wait_for("the sink to be level", || {
        let sink = lake();
        (sink["pending"] == 0 && sink["lag"]["frames"] == 0).then_some(())
    });
    service.wait_until_quiet();
    assert_eq!(lake()["stored"], sent + lived);
    assert_eq!(server.lines.load(Ordering::SeqCst), sent + lived, "each once: nothing was retried");
    assert_eq!(service.rows(), sent + lived);
    let needed = peak.load(Ordering::Relaxed).saturating_sub(before);
    assert!(needed <= MEMORY_MIB, "{needed} MiB more than before the outage");
    assert!(service.terminate().success());
}
