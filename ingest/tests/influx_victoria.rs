//! The InfluxDB sink against a real server: what went in comes out, also after the server was away.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use loushan_ingest::clock::Clock;
use loushan_ingest::io::real::RealIo;
use loushan_ingest::sink::influx::testing::{TestLog, frame, row};
use loushan_ingest::sink::influx::{InfluxConfig, InfluxSink, Token};
use loushan_ingest::sink::{Feed, SinkFigures, SinkStatus};
use loushan_schemas::field::Value;
use loushan_schemas::kind::Kind;
use loushan_schemas::reading::Body;
use loushan_schemas::row::Row;
use loushan_schemas::time::DeviceTime;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

const BINARY: &str = "/usr/bin/victoria-metrics";

/// A server with a folder and port of its own, killed when it is dropped.
#[derive(Debug)]
struct Victoria {
    process: Option<Child>,
    data: PathBuf,
    port: u16,
}

impl Victoria {
    fn start(data: &Path) -> Self {
        assert!(
            Path::new(BINARY).exists(),
            "{BINARY} is missing: apt-get install victoria-metrics (tests/run does it)"
        );
        // Taken and given back: the server has no way to tell which port it was given.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { process: None, data: data.to_owned(), port };
        server.restart();
        server
    }

    fn restart(&mut self) {
        let process = Command::new(BINARY)
            .arg(format!("-storageDataPath={}", self.data.display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{}", self.port))
            // What is sent twice is one sample.
            .arg("-dedup.minScrapeInterval=1ms")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// An ordered stop. Killed outright, this server forgets samples and series that it has
    /// acknowledged, a forced flush notwithstanding; no sink can make up for that.
    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = Pid::from_child(&process);
            kill_process(pid, Signal::TERM).unwrap();
            process.wait().unwrap();
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn get(&self, path: &str) -> Option<String> {
        let response = reqwest::get(format!("{}{path}", self.url())).await.ok()?;
        response.error_for_status().ok()?.text().await.ok()
    }

    async fn until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.get("/health").await.as_deref() != Some("OK") {
            assert!(Instant::now() < deadline, "the server does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything stored.
    async fn export(&self) -> Samples {
        self.get("/internal/force_flush").await.unwrap();
        let path = "/api/v1/export?match%5B%5D=%7B__name__!%3D%22%22%7D";
        let text = self.get(path).await.unwrap();
        let mut samples = Samples::new();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let metric = &line["metric"];
            let device = metric["imei"].as_str().or(metric["station"].as_str()).unwrap();
            let key = (metric["__name__"].as_str().unwrap().to_owned(), device.to_owned());
            let values = line["values"].as_array().unwrap();
            let times = line["timestamps"].as_array().unwrap();
            assert_eq!(values.len(), times.len());
            let series = samples.entry(key).or_default();
            for (value, time) in values.iter().zip(times) {
                let before = series.insert(time.as_i64().unwrap(), value.as_f64().unwrap());
                assert_eq!(before, None, "a sample twice: {metric} at {time}");
            }
        }
        samples
    }
}

impl Drop for Victoria {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ended_already = process.kill();
            let _reaped = process.wait();
        }
    }
}

/// By metric and device: value by time in ms.
type Samples = BTreeMap<(String, String), BTreeMap<i64, f64>>;

/// What the server must hold of these rows, reckoned from the rows and not from the encoder.
#[allow(clippy::cast_precision_loss)] // the server keeps everything as f64
fn expected(rows: &[Row]) -> Samples {
    let mut samples = Samples::new();
    for row in rows {
        let r = &row.reading;
        let device = r.imei.map_or_else(|| row.station.to_string(), |imei| imei.to_string());
        let mut put = |measurement: &str, field: &str, ms: i64, value: f64| {
            let key = (format!("{measurement}_{field}"), device.clone());
            samples.entry(key).or_default().insert(ms, value);
        };
        let kind = r.kind().as_str();
        let ms = r.times.effective.ms();
        put(kind, "quality", ms, f64::from(r.quality.number()));
        if let Some(reason) = r.reason {
            put(kind, "reason", ms, f64::from(reason.number()));
        }
        put(kind, "time_source", ms, 1.0);
        put(kind, "boot_epoch", ms, f64::from(r.boot_epoch));
        put(kind, "seq", ms, r.seq as f64);
        put(kind, "received_us", ms, (r.times.received.ns() / 1000) as f64);
        // Strings become 0.
        put(kind, "region", ms, 0.0);
        if r.imei.is_some() {
            put(kind, "station", ms, 0.0);
        }
        for (field, value) in r.values() {
            match value {
                _ if field.name.starts_with("history_") => {}
                Value::Int(v) => put(kind, field.name, ms, v as f64),
                Value::Float(v) => put(kind, field.name, ms, v),
                Value::Bool(v) => put(kind, field.name, ms, f64::from(u8::from(v))),
                Value::Enum(v) => put(kind, field.name, ms, f64::from(v)),
                Value::EnumList(list) => {
                    put(kind, field.name, ms, 0.0);
                    let bits: i64 = list.iter().map(|n| 1_i64 << n).sum();
                    put(kind, &format!("{}_bits", field.name), ms, bits as f64);
                }
                Value::IntList(_) => panic!("{} is no history", field.name),
            }
        }
        if let Body::Water(water) = &r.body {
            let first = water.history_first_end_s.unwrap();
            let every = water.history_interval_s.unwrap();
            for (k, delta) in (0_i64..).zip(&water.history_delta_l) {
                let end = ms + (first + k * every) * 1000;
                put("water_interval", "delta_l", end, f64::from(*delta));
                put("water_interval", "interval_s", end, every as f64);
            }
        }
    }
    samples
}

/// Rows of all kinds, of the last two days.
fn rows(range: std::ops::Range<u32>) -> Vec<Row> {
    let day_ms = 24 * 3600 * 1000;
    let today = Clock::System.now().ms() / day_ms * day_ms;
    let at = |n: u32| {
        let mut row = row(Kind::ALL[n as usize % Kind::ALL.len()], n);
        // A little more than a minute apart, so that milliseconds are told from seconds.
        let ms = today - 2 * day_ms + i64::from(n) * 60_017;
        row.reading.times.effective = DeviceTime::from_ms(ms).unwrap();
        row
    };
    range.map(at).collect()
}

#[track_caller]
fn assert_same(found: &Samples, expected: &Samples) {
    let missing: Vec<_> = expected.keys().filter(|key| !found.contains_key(*key)).collect();
    let surplus: Vec<_> = found.keys().filter(|key| !expected.contains_key(*key)).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "{} series missing, such as {:?}; {} too many, such as {:?}",
        missing.len(),
        missing.first(),
        surplus.len(),
        surplus.first()
    );
    for (key, series) in expected {
        assert_eq!(&found[key], series, "{key:?}");
    }
}

fn config(server: &Victoria) -> InfluxConfig {
    InfluxConfig {
        url: server.url(),
        org: "city".into(),
        bucket: "loushan".into(),
        token: Token::new("any"),
        batch_age: Duration::from_millis(20),
        max_backoff: Duration::from_millis(100),
        batch_points: 100,
        ..InfluxConfig::default()
    }
}

fn open(dir: &Path, config: InfluxConfig, status: &Arc<SinkStatus>) -> InfluxSink {
    let io = Arc::new(RealIo);
    InfluxSink::open(io, dir.to_owned(), config, [1; 16], Arc::clone(status)).unwrap()
}

async fn until(status: &SinkStatus, what: &str, condition: impl Fn(&SinkFigures) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition(&status.figures()) {
        assert!(Instant::now() < deadline, "not within a minute: {what}: {:?}", status.figures());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_written_to_a_real_server_comes_out_again_also_after_it_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Victoria::start(&dir.path().join("server"));
    server.until_ready().await;
    let all = rows(0..900);
    let log = TestLog::default();
    let sink_dir = dir.path().join("sink");
    let status = SinkStatus::new("influx");
    let sink = open(&sink_dir, config(&server), &status);
    let task = tokio::spawn(sink.run(Feed::new(log.source(), 0, Arc::clone(&status))));
    let mut chunks = (1..).zip(all.chunks(60));

    for (lsn, chunk) in chunks.by_ref().take(5) {
        log.push(frame(lsn, chunk.to_vec()));
    }
    until(&status, "the first third is stored", |f| f.cursor == 5).await;
    assert_same(&server.export().await, &expected(&all[..300]));

    server.stop();
    for (lsn, chunk) in chunks.by_ref().take(5) {
        log.push(frame(lsn, chunk.to_vec()));
    }
    until(&status, "the outage is noticed", |f| f.trouble.is_some() && f.pending > 0).await;
    assert_eq!(status.figures().cursor, 5);
    server.restart();
    until(&status, "the outage is over", |f| f.cursor == 10 && f.trouble.is_none()).await;

    for (lsn, chunk) in chunks {
        log.push(frame(lsn, chunk.to_vec()));
    }
    log.close();
    task.await.unwrap().unwrap();
    let figures = status.figures();
    assert_eq!((figures.stored, figures.pending, figures.residue()), (900, 0, 0));
    assert_eq!(figures.cursor, 15);
    assert_same(&server.export().await, &expected(&all));

    // Everything once more, as after a crash before the cursor was written: nothing changes.
    std::fs::remove_file(sink_dir.join("cursor")).unwrap();
    let status = SinkStatus::new("influx");
    let sink = open(&sink_dir, config(&server), &status);
    assert_eq!(sink.cursor(), 0);
    sink.run(Feed::new(log.source(), 0, Arc::clone(&status))).await.unwrap();
    assert_eq!(status.figures().stored, 900);
    assert_same(&server.export().await, &expected(&all));
}
