//! The past given again: to sinks, and to a mended decoder.

use super::room::{limited, padded, try_publish_bytes};
use super::server::Server;
use super::sinks::{figures, order, with_sinks};
use super::*;
use crate::service::letters::{LetterFilter, LetterReplay};
use crate::service::sinks::trim_now;
use crate::sink::{ReplayFigures, ReplayFrom, ReplayState, SinkOrder, SinkOrderError};

async fn replay(
    service: &Service,
    from: ReplayFrom,
    span: Span,
) -> Result<ReplayFigures, SinkOrderError> {
    let view = Arc::clone(&service.view);
    let begun = tokio::task::spawn_blocking(move || view.replay_into("influx", from, span));
    begun.await.unwrap()?;
    let last = || service.view.last_replay("influx", false).unwrap().unwrap();
    wait_for(|| last().state != ReplayState::Running).await;
    Ok(last())
}

fn span(from_ms: u64, to_ms: u64) -> Span {
    let time = |ms: u64| DeviceTime::from_ms(i64::try_from(ms).unwrap()).unwrap();
    Span { from: time(from_ms), to: time(to_ms) }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_and_store_replay_the_same_points_beside_what_comes() {
    let server = Server::start().await;
    let io = SimIo::new();
    let config = with_sinks(&[("influx", &server.url)], &[]);
    let service = try_start(&io, config).await.unwrap();
    for seq in 1..=700 {
        publish_as(&service, seq).await;
    }
    wait_for(|| server.points() == 1400).await;
    assert_eq!(rows(&service).await, 1400);
    let all = span(0, NOW_MS + 1000);
    for from in [ReplayFrom::Store, ReplayFrom::Log] {
        let before = server.lines().len();
        publish_as(&service, if from == ReplayFrom::Log { 701 } else { 702 }).await;
        let done = replay(&service, from, all).await.unwrap();
        assert_eq!((done.state, done.pending), (ReplayState::Done, 0), "{done:?}");
        assert!(done.given >= 1400 && done.stored == done.given, "{done:?}");
        assert!(server.lines().len() >= before + 1400);
    }
    wait_for(|| server.points() == 1404).await;
    // The readings were measured a second before they came.
    let none = replay(&service, ReplayFrom::Store, span(0, NOW_MS - 1000)).await.unwrap();
    assert_eq!((none.state, none.given), (ReplayState::Done, 0));
    let some = replay(&service, ReplayFrom::Store, span(NOW_MS - 1000, NOW_MS)).await.unwrap();
    assert_eq!(some.given, 1404);
    // The live sink was given nothing again.
    let influx = figures(&service, "influx");
    assert_eq!((influx.fed, influx.rewound, influx.residue()), (1404, 0, 0));
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_waits_for_its_server_holds_little_and_can_be_stopped() {
    let server = Server::start().await;
    let io = SimIo::new();
    let service = try_start(&io, with_sinks(&[("influx", &server.url)], &[])).await.unwrap();
    publish_as(&service, 1).await;
    wait_for(|| server.points() == 2).await;
    server.answers(503);
    let all = span(0, NOW_MS + 1000);
    let view = Arc::clone(&service.view);
    let begin = move || view.replay_into("influx", ReplayFrom::Store, all);
    let begun = tokio::task::spawn_blocking(begin.clone()).await.unwrap().unwrap();
    assert_eq!(begun.state, ReplayState::Running);
    let second = tokio::task::spawn_blocking(begin.clone()).await.unwrap();
    assert!(matches!(second, Err(SinkOrderError::NotNow(_))), "{second:?}");
    let last = |stop| service.view.last_replay("influx", stop).unwrap().unwrap();
    wait_for(|| last(false).trouble.is_some()).await;
    last(true);
    wait_for(|| last(false).state == ReplayState::Failed).await;
    assert!(last(false).trouble.unwrap().contains("begun again"));
    server.answers(0);
    tokio::task::spawn_blocking(begin).await.unwrap().unwrap();
    wait_for(|| last(false).state == ReplayState::Done).await;
    assert_eq!((last(false).stored, server.points()), (2, 2));
    let never = service.view.replay_into("embedded", ReplayFrom::Any, all);
    assert!(matches!(never, Err(SinkOrderError::Never { .. })), "{never:?}");
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_a_stop_breaks_off_ends_with_the_service() {
    let server = Server::start().await;
    let io = SimIo::new();
    let service = try_start(&io, with_sinks(&[("influx", &server.url)], &[])).await.unwrap();
    publish_as(&service, 1).await;
    wait_for(|| server.points() == 2).await;
    server.answers(503);
    let view = Arc::clone(&service.view);
    let all = span(0, NOW_MS + 1000);
    let begun =
        tokio::task::spawn_blocking(move || view.replay_into("influx", ReplayFrom::Any, all));
    begun.await.unwrap().unwrap();
    order(&service, "influx", SinkOrder::Pause).await.unwrap();
    assert!(stop(service).await.is_clean());
}

/// A batch of so many readings, and so many bytes, that few are held in memory and few fit a segment.
fn bulky(seq: u32) -> Vec<u8> {
    let mut batch = pb::UplinkBatch::decode(batch(seq).as_slice()).unwrap();
    let like = batch.readings[0].clone();
    let reading = |device| pb::Reading {
        imei: Imei::from_body(86_111_000_000_000 + device).get(),
        ..like.clone()
    };
    batch.readings = (1..=BULK).map(reading).collect();
    padded(batch.encode_to_vec(), seq)
}

/// Readings of a bulky batch.
const BULK: u64 = 100;
/// Bulky batches that are replayed, in three segments.
const BULKY: u32 = 120;

/// A sink that has stored bulky batches, its server gone since, and a replay of them that waits for it.
async fn replay_that_waits(server: &Server, more: &[(&str, &str)]) -> Service {
    let io = SimIo::new();
    let mut keys = limited(more);
    keys.extend([
        ("LOUSHAN__SINK__INFLUX__HELD_BYTES", "2MiB"),
        ("LOUSHAN__SINK__INFLUX__BATCH_BYTES", "64KiB"),
    ]);
    let service = try_start(&io, with_sinks(&[("influx", &server.url)], &keys)).await.unwrap();
    for seq in 1..=BULKY {
        let taken = try_publish_bytes(&service, bulky(seq), DEADLINE).await;
        assert!(matches!(taken, Some(AckOutcome::Durable(_))), "{taken:?}");
    }
    wait_for(|| figures(&service, "influx").cursor >= u64::from(BULKY)).await;
    server.answers(503);
    let view = Arc::clone(&service.view);
    let all = span(0, NOW_MS + 1000);
    let begun =
        tokio::task::spawn_blocking(move || view.replay_into("influx", ReplayFrom::Log, all));
    assert_eq!(begun.await.unwrap().unwrap().state, ReplayState::Running);
    wait_for(|| last_replay(&service).trouble.is_some()).await;
    service
}

fn last_replay(service: &Service) -> ReplayFigures {
    service.view.last_replay("influx", false).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replay_still_wants_of_the_log_outlives_its_age() {
    let server = Server::start().await;
    let service = replay_that_waits(&server, &[("LOUSHAN__LOG__KEEP_FOR_REPLAY", "1h")]).await;
    assert!(last_replay(&service).given < u64::from(BULKY) * BULK, "it holds little");
    service.view.clock.set((i64::try_from(NOW_MS).unwrap() + 7_200_000) * 1_000_000);
    trim_now(&service.parts.trimmer).await;
    server.answers(0);
    wait_for(|| last_replay(&service).state != ReplayState::Running).await;
    let done = last_replay(&service);
    let all = u64::from(BULKY) * BULK;
    assert_eq!((done.state, done.given, done.stored), (ReplayState::Done, all, all), "{done:?}");
    // Nothing but the replay held it; alarms commit what is no news only now and then.
    wait_for(|| {
        let books = service.view.conservation();
        let mut alarms = books.sinks.iter().filter(|sink| &*sink.name == "alarms");
        alarms.all(|sink| sink.cursor >= books.durable_lsn)
    })
    .await;
    trim_now(&service.parts.trimmer).await;
    assert!(service.view.pipeline.log().stats().begins_after.0 > 0);
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_the_log_had_no_more_room_for_says_so_and_is_not_done() {
    let server = Server::start().await;
    let more =
        [("LOUSHAN__LOG__KEEP_FOR_REPLAY", "1h"), ("LOUSHAN__SINK__INFLUX__ON_FULL", "let_go")];
    let service = replay_that_waits(&server, &more).await;
    let mut seq = BULKY;
    while service.view.pipeline.log().stats().begins_after.0 < u64::from(BULKY) {
        seq += 1;
        let taken = try_publish_bytes(&service, bulky(seq), DEADLINE).await;
        assert!(matches!(taken, Some(AckOutcome::Durable(_))), "{taken:?}");
        assert!(seq < 2000, "devices come first");
    }
    server.answers(0);
    wait_for(|| last_replay(&service).state != ReplayState::Running).await;
    let ended = last_replay(&service);
    assert_eq!(ended.state, ReplayState::Failed, "{ended:?}");
    assert!(ended.trouble.as_ref().unwrap().contains("--source store"), "{ended:?}");
    assert!(stop(service).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_can_hold_no_more_does_what_it_is_told_and_ends_with_the_service() {
    let server = Server::start().await;
    let service = replay_that_waits(&server, &[("LOUSHAN__LOG__KEEP_FOR_REPLAY", "1h")]).await;
    for seq in BULKY + 1..=2 * BULKY {
        let taken = try_publish_bytes(&service, bulky(seq), DEADLINE).await;
        assert!(matches!(taken, Some(AckOutcome::Durable(_))), "{taken:?}");
    }
    wait_for(|| figures(&service, "influx").pending > 2000).await;
    assert!(figures(&service, "influx").position < u64::from(2 * BULKY), "it holds little");
    order(&service, "influx", SinkOrder::Pause).await.unwrap();
    order(&service, "influx", SinkOrder::Resume).await.unwrap();
    wait_for(|| figures(&service, "influx").pending > 2000).await;
    assert!(stop(service).await.is_clean());
}

/// A batch whose second reading has no body this build knows.
fn batch_of_a_newer_station(seq: u32) -> Vec<u8> {
    let mut batch = pb::UplinkBatch::decode(batch(seq).as_slice()).unwrap();
    batch.readings[1].body = None;
    let mut bytes = batch.encode_to_vec();
    // Field 60 of the last reading, a message of two bytes: its length grows by five.
    let reading = batch.readings[1].encoded_len();
    let at = bytes.len() - reading - 1;
    assert_eq!(usize::from(bytes[at]), reading, "one byte of length");
    bytes[at] += 5;
    bytes.extend_from_slice(&[0xe2, 0x03, 2, 8, 1]);
    bytes
}

async fn publish_bytes(service: &Service, payload: Vec<u8>) -> AckOutcome {
    let publish = Publish {
        topic: TOPIC.into(),
        payload: payload.into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        origin: Origin::Client("bs0001".into()),
    };
    let (sender, mut answers) = mpsc::channel(1);
    let ticket = AckTicket::new(Arc::new(Acks(sender)), 0);
    service.view.pipeline.handle(publish, ticket).unwrap();
    tokio::time::timeout(DEADLINE, answers.recv()).await.unwrap().unwrap()
}

async fn replay_letters(service: &Service, dry_run: bool) -> LetterReplay {
    let view = Arc::clone(&service.view);
    let filter = LetterFilter { limit: 100, dry_run, ..LetterFilter::default() };
    tokio::task::spawn_blocking(move || view.replay_letters(&filter)).await.unwrap().unwrap()
}

/// Puts letters into the folder that an earlier build, with a worse decoder, could have written.
fn letters_of_an_earlier_build(io: &SimIo, service: &Service) {
    use crate::sink::dead_letter::testing::{Letter, write};

    let log_id = service.view.pipeline.log().id().to_bytes();
    let payload = batch(7);
    let received_ns = i64::try_from(NOW_MS).unwrap() * 1_000_000;
    let letter = |lsn, reading, payload: &[u8]| Letter {
        lsn,
        received_ns,
        topic: TOPIC.to_owned(),
        reading,
        payload: payload.to_vec(),
    };
    let letters = [
        letter(1000, Some(1), &payload),
        letter(1001, None, &batch(8)),
        letter(1002, None, b"\xff\xff"),
    ];
    write(Arc::new(io.clone()), &dead_letter_dir(Path::new("/data")), log_id, &letters);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_decided_again_once_and_what_was_stored_is_a_duplicate() {
    let io = SimIo::new();
    let service = start(&io).await;
    publish(&service).await;
    // One reading of it is known; the other one is not, by this build either.
    assert!(matches!(
        publish_bytes(&service, batch_of_a_newer_station(9)).await,
        AckOutcome::Durable(_)
    ));
    let before = service.view.conservation();
    assert_eq!((before.accepted, before.rejected), (3, 1));
    assert!(stop(service).await.is_clean());
    let service = start(&io).await;
    letters_of_an_earlier_build(&io, &service);

    let dry = replay_letters(&service, true).await;
    assert_eq!(
        (dry.letters, dry.submitted, dry.readings, dry.still_rejected, dry.incomplete),
        (4, 2, 3, 2, 0),
        "{dry:?}"
    );
    assert_eq!(service.view.conservation().received, 0, "nothing was done");
    let done = replay_letters(&service, false).await;
    assert_eq!((done.submitted, done.readings, done.failed), (2, 3, None));
    let books = service.view.conservation();
    assert_eq!((books.received, books.accepted, books.residue()), (3, 3, 0));
    assert_eq!(rows(&service).await, 6);
    // As received then, and the reading's number is its own.
    let latest = service.view.latest(Imei::from_body(86_111_000_000_002)).unwrap().value.unwrap();
    assert_eq!(latest.reading.times.received.ms(), i64::try_from(NOW_MS).unwrap());

    let again = replay_letters(&service, false).await;
    assert_eq!((again.submitted, again.replayed_before, again.still_rejected), (0, 2, 2));
    let mut lines = Vec::new();
    let mut give = |line: &str| {
        lines.push(line.to_owned());
        ControlFlow::Continue(())
    };
    service.view.export_dead_letters(0, &mut give).unwrap();
    assert_eq!(lines.iter().filter(|line| line.ends_with("\"replayed\":true}")).count(), 2);

    // The marks lost: what is stored is not stored twice.
    io.remove_file(Path::new("/data/dead-letter/replayed")).unwrap();
    let third = replay_letters(&service, false).await;
    assert_eq!(third.submitted, 2);
    let books = service.view.conservation();
    assert_eq!((books.accepted, books.duplicate, books.residue()), (3, 3, 0));
    assert_eq!(rows(&service).await, 6);
    assert!(stop(service).await.is_clean());
}
