//! How fast an InfluxDB sink catches up after an outage: readings per second from the frames in memory
//! to the server's acknowledgement and the cursor on disk.
//!
//! ```text
//! cargo bench --bench influx_catch_up                       # servers that store nothing, victoria-metrics
//! cargo bench --bench influx_catch_up -- --readings 2000000
//! cargo bench --bench influx_catch_up -- --url http://127.0.0.1:9000   # any server, without a token
//! ```
//!
//! A server that stores nothing reads each request and answers 204: what is left is our own work
//! (encoding, gzip, HTTP, the cursor's syncs). One that is far away answers after a tenth of a second:
//! there several connections pay. All of it shares this machine's cores with the server.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use loushan_ingest::io::real::RealIo;
use loushan_ingest::sink::influx::testing::{TestLog, frame};
use loushan_ingest::sink::influx::{InfluxConfig, InfluxSink, Scheme};
use loushan_ingest::sink::{Feed, SinkStatus};
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use loushan_schemas::sample;

/// Readings of a frame: a station's batch.
const FRAME: usize = 100;
/// Devices that speak in turn. The server knows them before the clock starts: an outage does not make
/// a fleet new, and a new series costs a server far more than a new point.
const DEVICES: usize = 2_000;
/// What one hour of the design load is.
const HOUR: f64 = 3_400.0 * 3600.0;

fn main() {
    let (mut readings, mut url) = (200_000, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--readings" => readings = args.next().and_then(|n| n.parse().ok()).unwrap(),
            "--url" => url = args.next(),
            // Cargo itself adds `--bench`.
            _ => {}
        }
    }
    println!(
        "{:<18} {:>11} {:>6} {:>12} {:>24}",
        "server", "connections", "gzip", "readings/s", "one hour's outage takes"
    );
    let runs = [(1, true), (2, true), (4, true), (2, false)];
    if let Some(url) = url {
        for (connections, gzip) in runs {
            run("the one given", &url, readings, connections, gzip);
        }
        return;
    }
    for (connections, gzip) in runs {
        run("stores nothing", &null(Duration::ZERO), readings, connections, gzip);
    }
    for (connections, gzip) in runs {
        run("the same, 100 ms", &null(Duration::from_millis(100)), readings, connections, gzip);
    }
    for (connections, gzip) in runs {
        let dir = tempfile::tempdir().unwrap();
        let server = Victoria::start(dir.path());
        run("victoria-metrics", &server.url, readings, connections, gzip);
    }
}

fn run(server: &str, url: &str, readings: usize, connections: usize, gzip: bool) {
    let config = InfluxConfig {
        url: url.to_owned(),
        org: "city".into(),
        bucket: "loushan".into(),
        auth: Scheme::None,
        connections,
        gzip,
        flush_within: Duration::from_secs(600),
        ..InfluxConfig::default()
    };
    write(config.clone(), 0..DEVICES);
    let seconds = write(config, DEVICES..DEVICES + readings);
    #[allow(clippy::cast_precision_loss)]
    let rate = readings as f64 / seconds;
    println!("{server:<18} {connections:>11} {gzip:>6} {rate:>12.0} {:>22.0} s", HOUR / rate);
}

/// Has a sink write readings, and gives the seconds it took.
fn write(config: InfluxConfig, range: Range<usize>) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let log = TestLog::default();
    let readings = range.len();
    let rows: Vec<_> = range.map(row).collect();
    for (lsn, rows) in (1..).zip(rows.chunks(FRAME)) {
        log.push(frame(lsn, rows.to_vec()));
    }
    drop(rows);
    log.close();
    let status = SinkStatus::new("influx");
    let path = dir.path().to_owned();
    let sink = InfluxSink::open(Arc::new(RealIo), path, config, [1; 16], Arc::clone(&status));
    let feed = Feed::new(log.source(), 0, Arc::clone(&status));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = Instant::now();
    runtime.block_on(sink.unwrap().run(feed)).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let figures = status.figures();
    assert_eq!((figures.stored, figures.residue()), (readings as u64, 0), "{figures:?}");
    seconds
}

/// A reading of the fleet: of the kinds in turn, but for water meters, one of which in sixty speaks
/// with the twenty-four volumes of its day.
fn row(n: usize) -> Row {
    let device = n % DEVICES;
    let kind = match device % 60 {
        0 => Kind::Water,
        turn => [Kind::Parking, Kind::StreetLight, Kind::Smoke, Kind::Elevator][turn % 4],
    };
    let mut row = sample::row(kind, u32::try_from(n).unwrap());
    row.reading.imei = Some(sample::imei(u32::try_from(device).unwrap()));
    row
}

/// A server that reads requests and answers 204 after a while.
fn null(after: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            thread::spawn(move || answer(socket.unwrap(), after));
        }
    });
    format!("http://{address}")
}

fn answer(socket: TcpStream, after: Duration) -> Option<()> {
    let mut reader = BufReader::with_capacity(1 << 16, socket.try_clone().ok()?);
    let mut socket = socket;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
        thread::sleep(after);
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
    }
}

struct Victoria {
    process: Child,
    url: String,
}

impl Victoria {
    fn start(data: &Path) -> Self {
        // Taken and given back: the server has no way to tell which port it was given.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new("victoria-metrics")
            .arg(format!("-storageDataPath={}", data.display()))
            .arg(format!("-httpListenAddr={address}"))
            .arg("-retentionPeriod=100y")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("victoria-metrics is missing: apt-get install victoria-metrics");
        let server = Self { process, url: format!("http://{address}") };
        let deadline = Instant::now() + Duration::from_secs(30);
        while ureq::get(format!("{}/health", server.url)).call().is_err() {
            assert!(Instant::now() < deadline, "the server does not start");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Victoria {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}
