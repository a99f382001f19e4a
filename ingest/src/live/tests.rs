#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use loushan_broker::Load;
use loushan_broker::latency::Latencies;
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use loushan_schemas::time::ReceiveTime;
use serde_json::{Value, json};

use super::tick::Maker;
use super::*;
use crate::http::view::Conservation;
use crate::pipeline::frame::DurableFrame;
use crate::readiness::Readiness;
use crate::registry::RegistryLimits;
use crate::sink::embedded::tests::support::row;
use crate::wal::{LogStats, Lsn};

const NOW_MS: i64 = 1_772_352_000_000;

/// A feed of two registered stations, one of each project, and the clock in hand.
struct Fixture {
    live: Arc<Live>,
    registry: Arc<Registry>,
    clock: Clock,
    maker: Maker,
    accepted: u64,
    lsn: u64,
}

fn sample(accepted: u64) -> Sample {
    let log = LogStats {
        buffered_bytes: 0,
        segments: 1,
        disk_bytes: 100,
        used_bytes: 50,
        frames: 0,
        bytes: 0,
        syncs: 0,
        failures: 0,
        first: Lsn(1),
        begins_after: Lsn(0),
        durable: Lsn(0),
        next: Lsn(1),
        refuses: None,
    };
    Sample {
        books: Conservation { received: accepted, accepted, ..Conservation::default() },
        readiness: Readiness::default(),
        broker: Load::default(),
        acks: Latencies::default().now(),
        log,
        log_limit: None,
        free_bytes: Some(1000),
        floor_bytes: 10,
        store_bytes: 0,
        store_readings: 0,
        store_memory: 0,
        resident_bytes: None,
        devices: 0,
        alarms: None,
    }
}

impl Fixture {
    fn new(limits: LiveLimits) -> Self {
        let clock = Clock::manual(NOW_MS * 1_000_000);
        let registry = Arc::new(Registry::new(RegistryLimits::default()));
        let file = "station,region,project,name,lat,lon,area\n\
                    bs1,xinpu,water,A,27.7,106.9,X\nbs2,xinpu,lights,B,27.7,106.9,X\n";
        registry.load(file.as_bytes());
        let live = Arc::new(Live::new(limits, Arc::clone(&registry), clock.clone()));
        let maker = Maker::default();
        let mut fixture = Self { live, registry, clock, maker, accepted: 0, lsn: 0 };
        fixture.tick();
        fixture
    }

    fn client(&self, scope: Scope, station: Option<&str>) -> Result<Client, Full> {
        let station = station.map(|name| StationId::new(name).unwrap());
        self.live.subscribe(scope, station, None, None, CancellationToken::new())
    }

    /// So many readings of a station, durable now.
    fn readings(&mut self, station: &str, count: u64) {
        self.lsn += 1;
        let now = self.clock.now();
        let rows = (0..count).map(|n| {
            let mut row: Row = row(Kind::Water, n, self.lsn, now.ms());
            row.station = StationId::new(station).unwrap();
            row
        });
        let frame = Arc::new(DurableFrame {
            lsn: self.lsn,
            received: ReceiveTime::from_ns(now.ns() - 2_000_000),
            topic: format!("nb1/xinpu/{station}/u/t").into(),
            payload: Bytes::from_static(b"bytes"),
            rows: rows.collect(),
            rejects: Vec::new(),
            duplicates: 0,
        });
        self.accepted += count;
        self.registry.apply(&frame);
        self.live.see(&[frame], self.lsn);
    }

    /// A second is over.
    fn tick(&mut self) {
        self.clock.set(self.clock.now().ns() + 1_000_000_000);
        let sample = sample(self.accepted);
        self.maker.make(&self.live, &sample);
    }
}

/// An event's id, name and data.
fn event(bytes: &Bytes) -> (u64, String, Value) {
    let text = std::str::from_utf8(bytes).unwrap();
    let line = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"))
    };
    assert!(text.ends_with("\n\n") && text.lines().count() == 4, "{text}");
    let data = serde_json::from_str(line("data: ")).unwrap();
    (line("id: ").parse().unwrap(), line("event: ").to_owned(), data)
}

/// The next event, within a deadline that only a failing test waits out.
async fn next(client: &mut Client) -> (u64, String, Value) {
    let next = tokio::time::timeout(Duration::from_secs(60), client.next());
    event(&next.await.unwrap().unwrap())
}

/// The first bytes, and the event with everything.
async fn hello(client: &mut Client) -> Value {
    assert_eq!(client.next().await.unwrap(), "retry: 2000\n\n");
    let (_, name, data) = next(client).await;
    assert_eq!(name, "hello");
    data
}

#[tokio::test]
async fn the_first_event_has_everything_and_then_come_the_seconds_with_what_changed() {
    let mut fixture = Fixture::new(LiveLimits::default());
    let mut client = fixture.client(Scope::City, None).unwrap();
    let hello = hello(&mut client).await;
    assert_eq!(hello["tick"], json!(1));
    assert_eq!(hello["stations"]["full"], json!(true));
    assert_eq!(hello["stations"]["rows"].as_array().unwrap().len(), 2);
    assert_eq!(hello["history"]["points"], json!(1));
    assert_eq!(hello["city"]["stations"]["total"], json!(2));
    fixture.readings("bs1", 20);
    fixture.tick();
    let (id, name, city) = next(&mut client).await;
    assert_eq!((id, name.as_str()), (2, "city"));
    assert_eq!(city["rates"]["accepted"], json!(20.0));
    assert_eq!(city["kinds"]["water"], json!(20));
    assert_eq!(city["books"]["residue"], json!(0));
    assert!(city["latency"]["durable_p50_ms"].as_f64().is_some_and(|ms| ms >= 2.0), "{city}");
    let (_, name, stations) = next(&mut client).await;
    assert_eq!((name.as_str(), &stations["full"]), ("stations", &json!(false)));
    let heard = fixture.clock.now().ms() - 1000 - 2;
    assert_eq!(stations["rows"], json!([["bs1", "unknown", 2.0, heard]]));
    // The rate is the same ten seconds long, and nothing else changes: there is nothing to tell.
    fixture.tick();
    assert_eq!(next(&mut client).await.1, "city");
    fixture.tick();
    assert_eq!(next(&mut client).await.1, "city");
}

#[tokio::test]
async fn a_slow_client_gets_the_newest_state_whole_and_sees_that_it_missed_some() {
    let mut fixture = Fixture::new(LiveLimits::default());
    let mut client = fixture.client(Scope::City, None).unwrap();
    hello(&mut client).await;
    for _ in 0..1000 {
        fixture.readings("bs2", 1);
        fixture.tick();
    }
    let (id, name, city) = next(&mut client).await;
    assert_eq!((id, name.as_str(), &city["tick"]), (1001, "city", &json!(1001)));
    let (_, name, stations) = next(&mut client).await;
    assert_eq!((name.as_str(), &stations["full"]), ("stations", &json!(true)));
    assert_eq!(stations["rows"].as_array().unwrap().len(), 2);
    assert!(client.next().now_or_never().is_none(), "nothing waits for it");
}

#[tokio::test]
async fn clients_are_bounded_and_share_the_bytes_of_a_second() {
    let limits = LiveLimits { clients: 3, ..LiveLimits::default() };
    let mut fixture = Fixture::new(limits);
    let mut clients: Vec<Client> =
        (0..3).map(|_| fixture.client(Scope::City, None).unwrap()).collect();
    assert!(fixture.client(Scope::City, None).is_err());
    assert_eq!(fixture.live.clients(), 3);
    for client in &mut clients {
        hello(client).await;
    }
    fixture.tick();
    let mut places = Vec::new();
    for client in &mut clients {
        places.push(client.next().await.unwrap().as_ptr());
    }
    assert!(places.windows(2).all(|two| two[0] == two[1]), "rendered once");
    clients.pop();
    assert!(fixture.client(Scope::City, None).is_ok(), "a place is given back");
}

#[tokio::test]
async fn a_stop_ends_every_stream_with_a_word() {
    let fixture = Fixture::new(LiveLimits::default());
    let mut clients: Vec<Client> =
        (0..2).map(|_| fixture.client(Scope::City, None).unwrap()).collect();
    for client in &mut clients {
        hello(client).await;
    }
    fixture.live.close();
    for client in &mut clients {
        assert_eq!(next(client).await.1, "bye");
        assert!(client.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn without_ticks_a_client_sees_that_its_connection_is_alive_and_nothing_else() {
    let fixture = Fixture::new(LiveLimits::default());
    let mut client = fixture.client(Scope::City, None).unwrap();
    hello(&mut client).await;
    assert_eq!(client.next().await.unwrap(), ": beat\n\n");
}

#[tokio::test]
async fn readings_that_are_asked_for_come_with_the_second_and_those_that_do_not_fit_are_counted() {
    let mut fixture = Fixture::new(LiveLimits::default());
    let mut watching = fixture.client(Scope::City, Some("bs1")).unwrap();
    let mut foreign = fixture.client(Scope::Project("lights".into()), Some("bs1")).unwrap();
    hello(&mut watching).await;
    hello(&mut foreign).await;
    fixture.readings("bs1", 150);
    fixture.readings("bs2", 5);
    fixture.tick();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(next(&mut watching).await);
    }
    let (_, name, data) = seen.pop().unwrap();
    assert_eq!((name.as_str(), &data["missed"]), ("reading", &json!(50)));
    let readings = data["readings"].as_array().unwrap();
    assert_eq!(readings.len(), 100);
    assert!(readings.iter().all(|reading| reading["station"] == json!("bs1")));
    // Another project's readings are not shown, whatever is asked.
    assert_eq!(next(&mut foreign).await.1, "city");
    assert_eq!(next(&mut foreign).await.1, "stations");
    assert!(foreign.next().now_or_never().is_none());
}

#[tokio::test]
async fn whoever_watches_one_project_sees_its_stations_and_figures_and_no_others() {
    let mut fixture = Fixture::new(LiveLimits::default());
    fixture.readings("bs1", 7);
    fixture.readings("bs2", 9);
    fixture.tick();
    let mut client = fixture.client(Scope::Project("water".into()), None).unwrap();
    let hello = hello(&mut client).await;
    assert_eq!(hello["scope"], json!("water"));
    let rows = hello["stations"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][0], json!("bs1"));
    assert_eq!(hello["city"]["rates"], json!({ "accepted": 7 }));
    assert!(hello["city"].get("log").is_none() && hello["city"].get("books").is_none());
    assert_eq!(hello["history"]["series"]["accepted"], json!([0.0, 7.0]));
    let nobody = fixture.live.tick().figures(&Scope::Project("nobody".into()));
    assert_eq!(nobody["stations"]["total"], json!(0));
}

#[test]
fn when_a_frame_was_durable_and_stored_is_remembered() {
    let mut fixture = Fixture::new(LiveLimits::default());
    fixture.readings("bs1", 1);
    let at = fixture.clock.now().ms();
    assert_eq!(fixture.live.durable_ms(1), Some(at));
    assert_eq!(fixture.live.durable_ms(2), None);
    assert_eq!(fixture.live.stored_ms(1), None);
    let batches = fixture.live.batches(&StationId::new("bs1").unwrap());
    assert_eq!(batches.len(), 1);
    let (readings, bytes) = fixture.live.traffic(&StationId::new("bs1").unwrap());
    assert_eq!((readings.len(), bytes.len()), (60, 60));
}
