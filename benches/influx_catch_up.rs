//! How fast an InfluxDB sink catches up after an outage: readings per second from the frames in memory
//! to the server's acknowledgement and the cursor on disk.
//!
//! ```text
//! cargo bench --bench influx_catch_up                       # a server that stores nothing, victoria-metrics
//! cargo bench --bench influx_catch_up -- --readings 2000000
//! cargo bench --bench influx_catch_up -- --url http://127.0.0.1:9000   # any server, without a token
//! ```
//!
//! The server that stores nothing reads each request and answers 204: what is left is our own work
//! (encoding, gzip, HTTP, the cursor's syncs). All of it shares this machine's cores with the server.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
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
use loushan_schemas::sample;

/// Readings of a frame: a station's batch.
const FRAME: usize = 100;
/// What one hour of the design load is.
const HOUR: f64 = 3_400.0 * 3600.0;

fn main() {
    let (mut readings, mut url) = (400_000, None);
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
        run("stores nothing", &null(), readings, connections, gzip);
    }
    for (connections, gzip) in runs {
        let dir = tempfile::tempdir().unwrap();
        let server = Victoria::start(dir.path());
        run("victoria-metrics", &server.url, readings, connections, gzip);
    }
}

fn run(server: &str, url: &str, readings: usize, connections: usize, gzip: bool) {
    let dir = tempfile::tempdir().unwrap();
    let log = TestLog::default();
    let rows: Vec<_> = (0..readings)
        .map(|n| sample::row(Kind::ALL[n % Kind::ALL.len()], u32::try_from(n).unwrap()))
        .collect();
    for (lsn, rows) in (1..).zip(rows.chunks(FRAME)) {
        log.push(frame(lsn, rows.to_vec()));
    }
    drop(rows);
    log.close();
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
    #[allow(clippy::cast_precision_loss)]
    let rate = readings as f64 / seconds;
    println!("{server:<18} {connections:>11} {gzip:>6} {rate:>12.0} {:>22.0} s", HOUR / rate);
}

/// A server that reads requests and answers 204.
fn null() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            thread::spawn(move || answer(socket.unwrap()));
        }
    });
    format!("http://{address}")
}

fn answer(socket: TcpStream) -> Option<()> {
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
