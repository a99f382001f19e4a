#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loushan_broker::handler::{
    AckOutcome, AckReceiver, AckTicket, Origin, Publish, PublishHandler as _, QoS,
};
use loushan_schemas::ids::Imei;
use loushan_schemas::pb;
use loushan_schemas::time::DeviceTime;
use prost::Message as _;
use tokio::sync::mpsc;

use super::*;
use crate::config::Config;
use crate::http::view::Span;
use crate::io::sim::{PowerLoss, SimIo};
use crate::io::{read_all, replace_file};
use crate::readiness::Component;

mod replay;
mod room;
mod router;
mod server;
mod sinks;

const TOPIC: &str = "nb1/r1/bs0001/u/t";
const NOW_MS: u64 = 1_790_000_000_000;
/// Waited out by a test that fails.
const DEADLINE: Duration = Duration::from_secs(20);

fn config() -> Config {
    config_with(&[])
}

/// With an InfluxDB server that is away.
fn with_influx() -> Config {
    config_with(&[
        ("LOUSHAN__SINK__INFLUX__URL", "http://127.0.0.1:9"),
        ("LOUSHAN__SINK__INFLUX__ORG", "city"),
        ("LOUSHAN__SINK__INFLUX__BUCKET", "loushan"),
        ("LOUSHAN__SINK__INFLUX__TOKEN", "secret"),
    ])
}

fn config_with(more: &[(&str, &str)]) -> Config {
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let environment = [
        set("LOUSHAN__DATA__DIR", "/data"),
        set("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0"),
        set("LOUSHAN__HTTP__LISTEN", "127.0.0.1:0"),
        set("LOUSHAN__LOG__SEGMENT_BYTES", "8MiB"),
        set("LOUSHAN__LOG__BUFFER_BYTES", "8MiB"),
        set("LOUSHAN__LOG__FREE_DISK_FLOOR", "1MiB"),
    ];
    let environment = environment.into_iter().chain(more.iter().map(|(n, v)| set(n, v)));
    Config::read(None, environment).unwrap()
}

async fn start(io: &SimIo) -> Service {
    try_start(io, config()).await.unwrap()
}

async fn try_start(io: &SimIo, config: Config) -> Result<Service, StartError> {
    let listeners = Listeners::open(&config).await.unwrap();
    start_on(listeners, io, config).await
}

async fn start_on(listeners: Listeners, io: &SimIo, config: Config) -> Result<Service, StartError> {
    let outside = Outside {
        listeners,
        clock: Clock::manual(i64::try_from(NOW_MS).unwrap() * 1_000_000),
        io: Arc::new(io.clone()),
        sessions: None,
        lock: None,
    };
    Service::start(config, outside).await
}

/// Starts and stops until the log has deleted what it had.
async fn shorten(io: &SimIo) {
    loop {
        let service = start(io).await;
        let stats = service.view.pipeline.log().stats();
        assert!(stop(service).await.is_clean());
        if stats.begins_after == stats.durable {
            return;
        }
    }
}

fn condition(service: &Service, of: Component) -> Option<String> {
    let readiness = service.view.readiness();
    readiness.conditions().find(|(c, _)| *c == of).map(|(_, condition)| condition.what.clone())
}

async fn stop(service: Service) -> Stopped {
    let stop = CancellationToken::new();
    stop.cancel();
    service.run(stop).await
}

struct Acks(mpsc::Sender<AckOutcome>);

impl AckReceiver for Acks {
    fn resolve(&self, _: u64, outcome: AckOutcome) {
        // A test that has waited long enough has gone.
        let _gone = self.0.try_send(outcome);
    }
}

/// Publishes two readings, always the same, and waits for the answer.
async fn publish(service: &Service) -> AckOutcome {
    publish_as(service, 1).await
}

async fn publish_as(service: &Service, seq: u32) -> AckOutcome {
    let publish = Publish {
        topic: TOPIC.into(),
        payload: batch(seq).into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        origin: Origin::Client("bs0001".into()),
    };
    let (sender, mut answers) = mpsc::channel(1);
    let ticket = AckTicket::new(Arc::new(Acks(sender)), 0);
    service.view.pipeline.handle(publish, ticket).unwrap();
    tokio::time::timeout(DEADLINE, answers.recv()).await.unwrap().unwrap()
}

/// A batch of two readings.
fn batch(seq: u32) -> Vec<u8> {
    let reading = |device: u64| pb::Reading {
        imei: Imei::from_body(86_111_000_000_000 + device).get(),
        seq,
        measured_delta_ms: -1000,
        clock: pb::ClockState::Synced.into(),
        model_id: 1,
        body: Some(pb::reading::Body::Parking(pb::Parking {
            state: pb::parking::State::Free.into(),
            ..pb::Parking::default()
        })),
        ..pb::Reading::default()
    };
    let batch = pb::UplinkBatch {
        schema_major: 1,
        station: "bs0001".to_owned(),
        session: 9,
        seq: u64::from(seq),
        base_time_ms: NOW_MS,
        replay: false,
        readings: vec![reading(1), reading(2)],
    };
    batch.encode_to_vec()
}

/// Rows, once the sinks have taken in what is durable.
async fn rows(service: &Service) -> u64 {
    let all = Span { from: DeviceTime::EPOCH, to: DeviceTime::LAST };
    wait_for(|| {
        let books = service.view.conservation();
        let ours = |name: &str| ["embedded", "dead_letter", "alarms", "snapshot"].contains(&name);
        let mut ours = books.sinks.iter().filter(|sink| ours(&sink.name));
        ours.all(|sink| sink.position >= books.durable_lsn)
    })
    .await;
    service.view.count(None, all).unwrap().value
}

async fn wait_for(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_power_loss_and_then_a_duplicate() {
    for mode in [PowerLoss::ForgetAll, PowerLoss::RandomPart] {
        let io = SimIo::new();
        let service = start(&io).await;
        assert!(matches!(publish(&service).await, AckOutcome::Durable(_)));
        let io = io.power_loss(7, mode);
        // What the old process still believes does not matter any more.
        drop(service);

        let service = start(&io).await;
        assert_eq!(rows(&service).await, 2);
        assert!(matches!(publish(&service).await, AckOutcome::Durable(_)));
        assert_eq!(rows(&service).await, 2);
        let books = service.view.conservation();
        assert_eq!((books.accepted, books.duplicate, books.residue()), (0, 2, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_stop_leaves_nothing_undone_and_every_cursor_at_the_end() {
    let io = SimIo::new();
    let service = start(&io).await;
    publish(&service).await;
    let view = Arc::clone(&service.view);
    let stopped = stop(service).await;
    assert!(stopped.is_clean(), "{stopped:?}");
    let books = view.conservation();
    for sink in &books.sinks {
        assert_eq!((sink.cursor, sink.pending), (books.durable_lsn, 0), "{}", sink.name);
    }
    assert!(!view.readiness().is_ready());
    let service = start(&io).await;
    assert_eq!(rows(&service).await, 2);
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_ends_turns_readiness_red_and_stops_the_service() {
    let mut service = start(&SimIo::new()).await;
    service.parts.sinks.abort_all();
    let view = Arc::clone(&service.view);
    let stopped = service.run(CancellationToken::new()).await;
    assert!(stopped.failed.is_some());
    assert!(!view.readiness().is_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_red_until_there_is_room() {
    let io = SimIo::new();
    let service = start(&io).await;
    assert!(service.view.readiness().is_ready());
    io.set_free_bytes(Some(1000));
    let disk = || {
        let readiness = service.view.readiness();
        readiness.conditions().any(|(component, c)| component == Component::Disk && c.red)
    };
    wait_for(disk).await;
    io.set_free_bytes(None);
    wait_for(|| !disk()).await;
    assert!(matches!(publish(&service).await, AckOutcome::Durable(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_log_is_refused() {
    let io = SimIo::new();
    let service = start(&io).await;
    publish(&service).await;
    assert!(stop(service).await.is_clean());
    for name in io.list(Path::new("/data/log")).unwrap() {
        let path = Path::new("/data/log").join(name);
        if path.extension().is_some() {
            io.remove_file(&path).unwrap();
        }
    }
    let refused = try_start(&io, config()).await.unwrap_err();
    assert!(matches!(refused, StartError::Store(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_lost_its_end_is_refused_before_its_files_are_deleted() {
    let io = SimIo::new();
    let manifest = Path::new("/data/store/MANIFEST");
    let service = start(&io).await;
    let old = read_all(&io, manifest).unwrap();
    publish(&service).await;
    assert!(stop(service).await.is_clean());
    shorten(&io).await;
    let whole = read_all(&io, manifest).unwrap();
    replace_file(&io, manifest, &old).unwrap();
    let refused = try_start(&io, config()).await.unwrap_err();
    let StartError::LogShortened { sink, cursor: 0, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(&*sink, "embedded");
    replace_file(&io, manifest, &whole).unwrap();
    let service = start(&io).await;
    assert_eq!(rows(&service).await, 2);
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_influx_sink_that_begins_late_says_so_and_one_that_was_away_is_refused() {
    let io = SimIo::new();
    let service = start(&io).await;
    publish_as(&service, 1).await;
    assert!(stop(service).await.is_clean());
    shorten(&io).await;

    let service = try_start(&io, with_influx()).await.unwrap();
    let said = condition(&service, Component::Sinks).unwrap();
    assert!(said.contains("begins anew") && service.view.readiness().is_ready(), "{said}");
    assert!(stop(service).await.is_clean());

    let service = start(&io).await;
    publish_as(&service, 2).await;
    assert!(stop(service).await.is_clean());
    shorten(&io).await;
    let refused = try_start(&io, with_influx()).await.unwrap_err();
    let told = refused.to_string();
    let StartError::LogShortened { sink, cursor: 1, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(&*sink, "influx");
    assert!(told.contains("remove /data/sinks/influx/cursor"), "{told}");
    io.remove_file(Path::new("/data/sinks/influx/cursor")).unwrap();
    let service = try_start(&io, with_influx()).await.unwrap();
    assert!(condition(&service, Component::Sinks).is_some());
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_its_snapshot_says_what_it_costs() {
    let io = SimIo::new();
    let service = start(&io).await;
    publish(&service).await;
    assert!(stop(service).await.is_clean());
    shorten(&io).await;
    io.remove_file(Path::new("/data/pipeline.snapshot")).unwrap();
    let service = start(&io).await;
    let said = condition(&service, Component::Pipeline).unwrap();
    assert!(said.contains("asked for every reading") && service.view.readiness().is_ready());
    publish(&service).await;
    assert_eq!(rows(&service).await, 2);
    assert!(stop(service).await.is_clean());
}
