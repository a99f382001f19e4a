//! Once a second: what was seen and what the service says become one [`Tick`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use loushan_broker::latency::LatencyCounts;
use loushan_schemas::kind::Kind;
use serde_json::{Map, Value, json};
use tokio::time::MissedTickBehavior;

use super::history::{Point, ProjectPoint};
use super::render::Rendered;
use super::sample::Sample;
use super::seen::Counts;
use super::stations::{StationNow, StationState};
use super::{Live, Scope};
use crate::http::view::{Conservation, View};

/// Between two ticks.
const SECOND: Duration = Duration::from_secs(1);
/// Ticks that quantiles are of.
const WINDOW: usize = 10;

/// The city at one moment.
#[derive(Debug)]
pub struct Tick {
    /// Rises by one a second.
    pub number: u64,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    pub(super) city: Value,
    pub(super) projects: BTreeMap<Arc<str>, Value>,
    pub(super) stations: Vec<StationNow>,
    pub(super) rendered: Rendered,
}

impl Tick {
    /// Before there is any.
    pub(super) fn empty(at_ms: i64) -> Self {
        Self {
            number: 0,
            at_ms,
            city: Value::Null,
            projects: BTreeMap::new(),
            stations: Vec::new(),
            rendered: Rendered::default(),
        }
    }

    /// The figures that somebody may see, as one JSON object; `null` before the first second.
    #[must_use]
    pub fn figures(&self, scope: &Scope) -> Value {
        match scope {
            Scope::City => self.city.clone(),
            Scope::Project(project) => {
                let none = || {
                    project_json(self.number, self.at_ms, project, &Sums::default(), &Value::Null)
                };
                self.projects.get(project).cloned().unwrap_or_else(none)
            }
        }
    }
}

/// Makes a tick a second, for ever.
pub(crate) async fn ticking(live: Arc<Live>, view: Arc<dyn View>) {
    let mut seconds = tokio::time::interval(SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut maker = Maker::default();
    loop {
        seconds.tick().await;
        let (live, view) = (Arc::clone(&live), Arc::clone(&view));
        let mut making = std::mem::take(&mut maker);
        // Lags may read the log, and free space is the file system's to say.
        let made = tokio::task::spawn_blocking(move || {
            if let Some(sample) = view.sample() {
                making.make(&live, &sample);
            }
            making
        });
        // One that panicked is followed by another, which begins anew.
        maker = made.await.unwrap_or_default();
    }
}

/// What a tick needs of the ones before it.
#[derive(Debug, Default)]
pub(super) struct Maker {
    before: Option<Before>,
    acks: VecDeque<LatencyCounts>,
    durable: VecDeque<LatencyCounts>,
    end_to_end: VecDeque<LatencyCounts>,
}

#[derive(Debug)]
struct Before {
    books: Conservation,
    at_ms: i64,
}

/// What the stations of a project, or of the city, come to.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    total: usize,
    registered: usize,
    online: usize,
    offline: usize,
    silent: usize,
    unknown: usize,
    readings: u64,
}

impl Sums {
    fn add(&mut self, station: &StationNow) {
        self.total += 1;
        self.registered += usize::from(station.project.is_some());
        self.readings += u64::from(station.last_second);
        *match station.told.state {
            StationState::Online => &mut self.online,
            StationState::Offline => &mut self.offline,
            StationState::Silent => &mut self.silent,
            StationState::Unknown => &mut self.unknown,
        } += 1;
    }

    fn json(&self) -> Value {
        json!({
            "total": self.total,
            "registered": self.registered,
            "online": self.online,
            "offline": self.offline,
            "silent": self.silent,
            "unknown": self.unknown,
        })
    }
}

fn project_json(tick: u64, at_ms: i64, project: &str, sums: &Sums, alarms: &Value) -> Value {
    json!({
        "tick": tick,
        "at_ms": at_ms,
        "scope": project,
        "rates": { "accepted": sums.readings },
        "stations": sums.json(),
        "alarms": alarms,
    })
}

/// Quantiles of the last ticks, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Quantiles {
    p50: Option<f64>,
    p99: Option<f64>,
}

/// Adds the counts of now, and tells of those of the last [`WINDOW`] ticks.
fn quantiles(window: &mut VecDeque<LatencyCounts>, now: LatencyCounts) -> Quantiles {
    let of = window.front().map(|then| now.since(then));
    if window.len() >= WINDOW {
        window.pop_front();
    }
    window.push_back(now);
    let ms = |q| Some(of.as_ref()?.quantile(q)?.as_secs_f64() * 1000.0);
    Quantiles { p50: ms(0.5), p99: ms(0.99) }
}

impl Maker {
    /// Makes the next tick and shows it to everybody.
    pub(super) fn make(&mut self, live: &Live, sample: &Sample) {
        let now_ms = live.clock.now().ms();
        let number = live.tick().number + 1;
        let embedded = sample.books.sinks.iter().find(|sink| &*sink.name == "embedded");
        let (counts, stations, durable, end_to_end) = {
            let mut seen = live.seen.lock();
            if let Some(embedded) = embedded {
                seen.stored.note(embedded.cursor, now_ms);
            }
            let counts = std::mem::take(&mut seen.counts);
            seen.stations.turn();
            let mut stations: Vec<StationNow> = Vec::new();
            live.registry.each_station(&mut |station| {
                stations.push(seen.stations.tell(station, now_ms));
            });
            seen.stations.sweep();
            (counts, stations, seen.durable_latency.now(), seen.end_to_end.now())
        };
        let acks = quantiles(&mut self.acks, sample.acks.clone());
        let durable = quantiles(&mut self.durable, durable);
        let end_to_end = quantiles(&mut self.end_to_end, end_to_end);
        let mut all = Sums::default();
        let mut sums: BTreeMap<Arc<str>, Sums> = BTreeMap::new();
        for station in &stations {
            all.add(station);
            if let Some(project) = &station.project {
                sums.entry(Arc::clone(project)).or_default().add(station);
            }
        }
        let rates = self.rates(sample, now_ms);
        let latency = json!({
            "ack_p50_ms": acks.p50,
            "ack_p99_ms": acks.p99,
            "durable_p50_ms": durable.p50,
            "durable_p99_ms": durable.p99,
            "end_to_end_p50_ms": end_to_end.p50,
            "end_to_end_p99_ms": end_to_end.p99,
        });
        let city = city(live, sample, number, now_ms, &rates, &counts, &latency, &all);
        let project = |(project, sums): (&Arc<str>, &Sums)| {
            let alarms = sample.alarms_json(Some(project));
            (Arc::clone(project), project_json(number, now_ms, project, sums, &alarms))
        };
        let projects: BTreeMap<Arc<str>, Value> = sums.iter().map(project).collect();
        let point = point(sample, &rates, &latency, &all);
        let points = sums
            .iter()
            .map(|(project, sums)| (Arc::clone(project), of_project(sample, project, sums)));
        live.history.lock().push(number, now_ms, point, points.collect());
        let rendered = Rendered::default();
        let tick = Tick { number, at_ms: now_ms, city, projects, stations, rendered };
        live.now.send_replace(Arc::new(tick));
    }

    /// Readings a second since the tick before, by what became of them.
    #[allow(clippy::cast_precision_loss)]
    fn rates(&mut self, sample: &Sample, now_ms: i64) -> Rates {
        let books = &sample.books;
        let before = self.before.replace(Before { books: books.clone(), at_ms: now_ms });
        let Some(before) = before else { return Rates::default() };
        let seconds = (now_ms - before.at_ms).max(1) as f64 / 1000.0;
        let stored = |books: &Conservation| {
            let sink = books.sinks.iter().find(|sink| &*sink.name == "embedded");
            sink.map_or(0, |sink| sink.stored)
        };
        let rate = |of: &dyn Fn(&Conservation) -> u64| {
            let rate = of(books).saturating_sub(of(&before.books)) as f64 / seconds;
            (rate * 10.0).round() / 10.0
        };
        Rates {
            received: rate(&|books| books.received),
            accepted: rate(&|books| books.accepted),
            duplicate: rate(&|books| books.duplicate),
            rejected: rate(&|books| books.rejected),
            shed: rate(&|books| books.shed),
            stored: rate(&stored),
        }
    }
}

/// Readings a second.
#[derive(Debug, Default, Clone, Copy)]
struct Rates {
    received: f64,
    accepted: f64,
    duplicate: f64,
    rejected: f64,
    shed: f64,
    stored: f64,
}

#[allow(clippy::too_many_arguments)] // what a tick is made of, each once
fn city(
    live: &Live,
    sample: &Sample,
    number: u64,
    at_ms: i64,
    rates: &Rates,
    counts: &Counts,
    latency: &Value,
    stations: &Sums,
) -> Value {
    let books = &sample.books;
    let sinks: Vec<Value> = books
        .sinks
        .iter()
        .map(|sink| {
            json!({
                "name": &*sink.name,
                "state": sink.state.as_str(),
                "lag_frames": sink.lag.frames,
                "lag_bytes": sink.lag.bytes,
                "lag_seconds": sink.lag.seconds,
                "residue": sink.residue(),
                "trouble": sink.trouble,
            })
        })
        .collect();
    let embedded = books.sinks.iter().find(|sink| &*sink.name == "embedded");
    let kinds: Map<String, Value> = Kind::ALL
        .iter()
        .zip(counts.kinds)
        .map(|(kind, n)| (kind.as_str().to_owned(), json!(n)))
        .collect();
    json!({
        "at_ms": at_ms,
        "tick": number,
        "scope": null,
        "rates": {
            "received": rates.received,
            "accepted": rates.accepted,
            "duplicate": rates.duplicate,
            "rejected": rates.rejected,
            "shed": rates.shed,
            "stored": rates.stored,
            "publishes": counts.publishes,
            "payload_bytes": counts.payload_bytes,
        },
        "kinds": kinds,
        "books": {
            "received": books.received,
            "accepted": books.accepted,
            "duplicate": books.duplicate,
            "rejected": books.rejected,
            "shed": books.shed,
            "undecided": books.undecided,
            "residue": books.residue(),
            "durable_lsn": books.durable_lsn,
            "stored": embedded.map(|sink| sink.stored),
            "pending": embedded.map(|sink| sink.pending),
        },
        "latency": latency,
        "sinks": sinks,
        "log": sample.log_json(),
        "store": {
            "bytes": sample.store_bytes,
            "readings": sample.store_readings,
            "memory_bytes": sample.store_memory,
        },
        "memory": { "resident_bytes": sample.resident_bytes },
        "broker": {
            "connections": sample.broker.connections,
            "in_flight_publishes": sample.broker.in_flight_publishes,
            "in_flight_bytes": sample.broker.in_flight_bytes,
        },
        "readiness": sample.readiness_json(),
        "stations": stations.json(),
        "devices": sample.devices,
        "alarms": sample.alarms_json(None),
        "live": { "clients": live.clients(), "skipped_frames": live.skipped() },
    })
}

/// The tick's values in the order of [`super::SERIES`].
#[allow(clippy::cast_precision_loss)]
fn point(sample: &Sample, rates: &Rates, latency: &Value, stations: &Sums) -> Point {
    let ms = |name: &str| latency.get(name).and_then(Value::as_f64);
    let lags = sample.books.sinks.iter().map(|sink| sink.lag.seconds);
    let embedded = sample.books.sinks.iter().find(|sink| &*sink.name == "embedded");
    [
        Some(rates.received),
        Some(rates.accepted),
        Some(rates.duplicate),
        Some(rates.rejected),
        Some(rates.shed),
        Some(rates.stored),
        ms("ack_p50_ms"),
        ms("ack_p99_ms"),
        ms("durable_p99_ms"),
        ms("end_to_end_p50_ms"),
        ms("end_to_end_p99_ms"),
        Some(lags.fold(0.0, f64::max)),
        Some(sample.log.disk_bytes as f64),
        sample.free_bytes.map(|n| n as f64),
        sample.resident_bytes.map(|n| n as f64),
        embedded.map(|sink| sink.pending as f64),
        Some(stations.online as f64),
        sample.alarms(None),
    ]
}

#[allow(clippy::cast_precision_loss)]
fn of_project(sample: &Sample, project: &str, sums: &Sums) -> ProjectPoint {
    let alarms = sample.alarms(Some(project));
    [Some(sums.readings as f64), Some(sums.online as f64), alarms]
}
