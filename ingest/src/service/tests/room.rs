//! The log's room: its limit, what it keeps for replay, what lagging sinks let go; and disks in trouble.

use super::server::Server;
use super::sinks::{figures, order, with_sinks};
use super::*;
use crate::io::sim::{Failure, Fault, Op};
use crate::sink::{RewindTo, SinkOrder};

const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EIO: i32 = 5;

/// A batch of two readings with so many bytes that do not matter beside them.
fn large(seq: u32) -> Vec<u8> {
    padded(batch(seq), seq)
}

pub(super) fn padded(mut bytes: Vec<u8>, seq: u32) -> Vec<u8> {
    // Field 90 of the batch, unknown: it is stored all the same.
    bytes.extend_from_slice(&[0xd2, 0x05]);
    prost::encoding::encode_varint(200_000, &mut bytes);
    let mut noise = u64::from(seq) + 1;
    bytes.extend(
        std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        })
        .take(200_000),
    );
    bytes
}

/// Publishes, and gives up after a while.
async fn try_publish(service: &Service, seq: u32, patience: Duration) -> Option<AckOutcome> {
    try_publish_bytes(service, large(seq), patience).await
}

pub(super) async fn try_publish_bytes(
    service: &Service,
    payload: Vec<u8>,
    patience: Duration,
) -> Option<AckOutcome> {
    let publish = Publish {
        topic: TOPIC.into(),
        payload: payload.into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        origin: Origin::Client("bs0001".into()),
    };
    let (sender, mut answers) = mpsc::channel(1);
    let ticket = AckTicket::new(Arc::new(Acks(sender)), 0);
    let (mut publish, mut ticket) = (publish, ticket);
    let deadline = Instant::now() + patience;
    loop {
        match service.view.pipeline.handle(publish, ticket) {
            Ok(()) => break,
            Err(busy) => (publish, ticket) = (busy.publish, busy.ticket),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = tokio::time::timeout(left, service.view.pipeline.ready()).await;
        if ready.is_err() {
            return None;
        }
    }
    // It may have been taken, and wait for the log where the store was asked about it.
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::time::timeout(left, answers.recv()).await.ok().flatten()
}

pub(super) fn limited<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut keys = vec![
        ("LOUSHAN__LOG__MAX_BYTES", "64MiB"),
        ("LOUSHAN__SINK__EMBEDDED__FLUSH_AGE", "100ms"),
        // Every one of these publishes goes to the dead letter as well.
        ("LOUSHAN__DEAD_LETTER__TOTAL_BYTES", "2MiB"),
        ("LOUSHAN__DEAD_LETTER__STATION_BYTES", "1MiB"),
    ];
    keys.extend_from_slice(more);
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_limit_the_log_holds_devices_back_until_the_sink_has_caught_up_and_nothing_is_lost()
{
    let server = Server::start().await;
    server.answers(503);
    let io = SimIo::new();
    let config = with_sinks(&[("influx", &server.url)], &limited(&[]));
    let service = try_start(&io, config).await.unwrap();
    let mut acknowledged = 0;
    let refused = loop {
        let patience = Duration::from_secs(3);
        match try_publish(&service, acknowledged + 1, patience).await {
            Some(AckOutcome::Durable(_)) => acknowledged += 1,
            Some(AckOutcome::Failed) => panic!("nothing fails here"),
            None => break acknowledged + 1,
        }
        assert!(acknowledged < 1000, "there is a limit");
    };
    let stats = service.view.pipeline.log().stats();
    assert!(stats.disk_bytes <= 64 << 20, "{stats:?}");
    let said = condition(&service, Component::Log).unwrap();
    assert!(
        said.contains("log.max_bytes = 64MiB") && !service.view.readiness().is_ready(),
        "{said}"
    );
    server.answers(0);
    // By itself.
    let taken = try_publish(&service, refused, DEADLINE).await;
    assert!(matches!(taken, Some(AckOutcome::Durable(_))), "{taken:?}");
    wait_for(|| service.view.readiness().is_ready()).await;
    wait_for(|| server.points() == 2 * refused as usize).await;
    assert_eq!(rows(&service).await, 2 * u64::from(refused));
    let influx = figures(&service, "influx");
    assert_eq!((influx.let_go, influx.residue()), (0, 0));
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_may_lets_its_oldest_go_counted_and_said_and_devices_are_not_held_back() {
    let (lake, other) = (Server::start().await, Server::start().await);
    lake.answers(503);
    let io = SimIo::new();
    let more = limited(&[("LOUSHAN__SINK__LAKE__ON_FULL", "let_go")]);
    let config = || with_sinks(&[("lake", &lake.url), ("other", &other.url)], &more);
    let service = try_start(&io, config()).await.unwrap();
    let mut published = 0;
    while figures(&service, "lake").let_go == 0 || published % 50 != 0 {
        published += 1;
        let taken = try_publish(&service, published, DEADLINE).await;
        assert!(matches!(taken, Some(AckOutcome::Durable(_))), "{taken:?}");
        assert!(published < 2000, "nothing is let go");
    }
    assert_eq!(rows(&service).await, 2 * u64::from(published), "the embedded store has all of it");
    wait_for(|| other.points() == 2 * published as usize).await;
    let said = condition(&service, Component::Sinks).unwrap();
    assert!(said.contains("readings were let go") && service.view.readiness().is_ready(), "{said}");
    assert_eq!(figures(&service, "other").let_go, 0);
    let let_go = figures(&service, "lake").let_go;
    lake.answers(0);
    wait_for(|| lake.points() as u64 + let_go == 2 * u64::from(published)).await;
    wait_for(|| figures(&service, "lake").pending == 0).await;
    let books = figures(&service, "lake");
    // accepted = stored + let_go, but for what was given back and given again.
    assert_eq!(books.residue(), 0, "{books:?}");
    assert_eq!(books.stored + books.let_go, 2 * u64::from(published), "{books:?}");
    assert!(stop(service).await.is_clean());
    // Durably so: nothing of it is missed at the next start.
    let service = try_start(&io, config()).await.unwrap();
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_replay_gives_way_to_the_limit_first() {
    let server = Server::start().await;
    let io = SimIo::new();
    let more = limited(&[("LOUSHAN__LOG__KEEP_FOR_REPLAY", "1h")]);
    let service = try_start(&io, with_sinks(&[("influx", &server.url)], &more)).await.unwrap();
    for seq in 1..=100 {
        try_publish(&service, seq, DEADLINE).await.unwrap();
    }
    wait_for(|| server.points() == 200).await;
    let cursors = || {
        let sinks = service.view.conservation().sinks;
        sinks.iter().filter(|sink| &*sink.name != "snapshot").all(|sink| sink.cursor == 100)
    };
    wait_for(cursors).await;
    // More than two segments, all stored everywhere, and still here.
    let stats = service.view.pipeline.log().stats();
    assert!(stats.segments > 2 && stats.begins_after.0 == 0, "{stats:?}");
    order(&service, "influx", SinkOrder::Rewind(RewindTo::Lsn(0))).await.unwrap();
    wait_for(|| figures(&service, "influx").rewound == 200).await;
    for seq in 101..=400 {
        let taken = try_publish(&service, seq, DEADLINE).await;
        assert!(matches!(taken, Some(AckOutcome::Durable(_))), "{seq}: {taken:?}");
    }
    let stats = service.view.pipeline.log().stats();
    assert!(stats.disk_bytes <= 64 << 20 && stats.begins_after.0 > 0, "{stats:?}");
    wait_for(|| server.points() == 800).await;
    assert!(stop(service).await.is_clean());
}

/// Breaks every call of a kind below a path until it is mended.
fn break_for_ever(io: &SimIo, op: Op, path: &str, errno: i32) {
    io.inject(Fault {
        op,
        path: path.to_owned(),
        after: 0,
        times: u64::MAX,
        failure: Failure::Errno(errno),
    });
}

/// Every component's disk in trouble, one after another and each in every way: the service stays up,
/// says so, loses nothing, and is well again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_in_trouble_is_said_survived_and_recovered_from_whatever_it_holds() {
    // What breaks, and who says so. A log that cannot write is red, all others are amber.
    let components = [
        ("/data/log", Component::Log),
        ("/data/store", Component::Embedded),
        ("/data/dead-letter", Component::DeadLetter),
        ("/data/pipeline.snapshot", Component::Pipeline),
        ("/data/sinks/influx", Component::Sinks),
    ];
    let ways = [(Op::Write, ENOSPC), (Op::Create, EROFS), (Op::Sync, EIO)];
    let server = Server::start().await;
    let io = SimIo::new();
    let more = [
        ("LOUSHAN__SINK__EMBEDDED__FLUSH_AGE", "100ms"),
        ("LOUSHAN__PIPELINE__SNAPSHOT_INTERVAL", "1s"),
    ];
    let config = with_sinks(&[("influx", &server.url)], &more);
    let service = try_start(&io, config).await.unwrap();
    let mut seq = 0;
    for (path, component) in components {
        for (op, errno) in ways {
            break_for_ever(&io, op, path, errno);
            if matches!(component, Component::Log | Component::DeadLetter) && op == Op::Create {
                // Only a new segment is created, and one is needed after a failed sync.
                break_for_ever(&io, Op::Sync, path, errno);
            }
            let mut lost_patience = false;
            let begun = Instant::now();
            while condition(&service, component).is_none() {
                assert!(begun.elapsed() < DEADLINE, "{path} {op:?}: nothing is said");
                seq += 1;
                // A rejected publish too, or the dead letter has nothing to write.
                let patience = match component {
                    Component::Log => Duration::from_millis(50),
                    _ => DEADLINE,
                };
                let answered = publish_or_not(&service, seq, patience).await;
                lost_patience |= !answered;
            }
            let ready = service.view.readiness().is_ready();
            assert_eq!(ready, component != Component::Log, "{path} {op:?}");
            assert!(component == Component::Log || !lost_patience, "{path} {op:?}: acks waited");
            io.clear_faults();
            wait_for(|| condition(&service, component).is_none()).await;
            seq += 1;
            assert!(publish_or_not(&service, seq, DEADLINE).await, "{path} {op:?}");
        }
    }
    let books = service.view.conservation();
    assert_eq!(books.residue(), 0);
    assert_eq!(rows(&service).await, books.accepted);
    wait_for(|| server.points() as u64 == books.accepted).await;
    let letters = || {
        let mut letters = 0_u64;
        let mut give = |_: &str| {
            letters += 1;
            ControlFlow::Continue(())
        };
        service.view.export_dead_letters(0, &mut give).unwrap();
        letters
    };
    wait_for(|| letters() == books.rejected).await;
    assert!(stop(service).await.is_clean());
}

/// A good publish and a rejected one; whether both were acknowledged in time.
async fn publish_or_not(service: &Service, seq: u32, patience: Duration) -> bool {
    let good = batch(seq);
    let bad = vec![0xff; 3 + seq as usize % 7];
    let mut all = true;
    for payload in [good, bad] {
        let publish = Publish {
            topic: TOPIC.into(),
            payload: payload.into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            origin: Origin::Client("bs0001".into()),
        };
        let (sender, mut answers) = mpsc::channel(1);
        let ticket = AckTicket::new(Arc::new(Acks(sender)), 0);
        let taken = match service.view.pipeline.handle(publish, ticket) {
            Ok(()) => tokio::time::timeout(patience, answers.recv()).await.ok().flatten(),
            Err(busy) => {
                drop(busy);
                tokio::time::sleep(patience.min(Duration::from_millis(50))).await;
                None
            }
        };
        all &= matches!(taken, Some(AckOutcome::Durable(_)));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_where_the_stores_file_system_is_not_mounted() {
    let io = SimIo::new();
    let config = config_with(&[("LOUSHAN__SINK__EMBEDDED__FLUSH_AGE", "100ms")]);
    let service = try_start(&io, config).await.unwrap();
    let (manifest, away) = (Path::new("/data/store/MANIFEST"), Path::new("/data/store/AWAY"));
    io.rename(manifest, away).unwrap();
    publish_as(&service, 1).await;
    wait_for(|| condition(&service, Component::Embedded).is_some()).await;
    let said = condition(&service, Component::Embedded).unwrap();
    assert!(said.contains("is its file system mounted"), "{said}");
    assert_eq!(figures(&service, "embedded").cursor, 0);
    io.rename(away, manifest).unwrap();
    wait_for(|| figures(&service, "embedded").cursor == 1).await;
    assert_eq!(rows(&service).await, 2);
    assert!(stop(service).await.is_clean());
}
