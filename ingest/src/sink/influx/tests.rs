#![allow(clippy::unwrap_used)]

mod contract;
mod naming;
mod parallel;
mod server;
mod tls;
mod waiting;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;

use self::server::{Reply, STORED, Server};
use super::testing::{TestLog, frame, row};
use super::*;
use crate::io::real::RealIo;
use crate::sink::SinkFigures;
use crate::sink::dead_letter::{DeadLetter, DeadLetters};

const LOG: LogIdBytes = [7; 16];

fn config(server: &Server) -> InfluxConfig {
    InfluxConfig {
        url: server.url.clone(),
        org: "city".into(),
        bucket: "pilot one".into(),
        token: Token::new("s3cr3t"),
        batch_age: Duration::from_millis(10),
        max_backoff: Duration::from_millis(20),
        timeout: Duration::from_secs(20),
        // A machine that is busy with other tests is no outage.
        flush_within: Duration::from_secs(60),
        ..InfluxConfig::default()
    }
}

/// A sink at work on a log.
struct Running {
    status: Arc<SinkStatus>,
    task: tokio::task::JoinHandle<Result<(), InfluxError>>,
}

fn start(dir: &Path, config: InfluxConfig, log: &TestLog) -> Running {
    let status = SinkStatus::new("influx");
    let sink = InfluxSink::open(Arc::new(RealIo), dir.to_owned(), config, LOG, Arc::clone(&status));
    let sink = sink.unwrap();
    let feed = Feed::new(log.source(), sink.cursor(), Arc::clone(&status));
    Running { status, task: tokio::spawn(sink.run(feed)) }
}

impl Running {
    async fn until(&self, what: &str, condition: impl Fn(&SinkFigures) -> bool) {
        until(what, || condition(&self.status.figures())).await;
    }

    /// Waits for the sink's end after the log was closed.
    async fn end(self) -> SinkFigures {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.task).await;
        let Ok(ended) = ended else { panic!("it does not end: {:?}", self.status.figures()) };
        ended.unwrap().unwrap();
        self.status.figures()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within half a minute: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn rows(range: std::ops::Range<u32>) -> Vec<Row> {
    range.map(|n| row(Kind::ALL[n as usize % Kind::ALL.len()], n)).collect()
}

fn lines_of(rows: &[Row]) -> BTreeSet<String> {
    let mut out = Vec::new();
    for row in rows {
        line_protocol::write_row(row, &mut out);
    }
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

fn letters(dir: &Path) -> Vec<DeadLetter> {
    let read = DeadLetters::open_read(Arc::new(RealIo), &dir.join("refused")).unwrap();
    read.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn readings_are_written_compressed_and_the_cursor_follows() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    let log = TestLog::default();
    log.push(frame(3, rows(0..60)));
    log.push(frame(5, Vec::new()));
    let sink = start(dir.path(), config(&server), &log);
    sink.until("the cursor is past both frames", |f| f.cursor == 5).await;
    log.close();
    let figures = sink.end().await;
    assert_eq!((figures.stored, figures.pending, figures.residue()), (60, 0, 0));
    let stored = server.stored();
    assert_eq!(stored.iter().cloned().collect::<BTreeSet<_>>(), lines_of(&rows(0..60)));
    let (request, _) = &server.written()[0];
    assert_eq!(request.line, "POST /api/v2/write?org=city&bucket=pilot+one&precision=ns HTTP/1.1");
    assert!(request.has("authorization: Token s3cr3t"));
    assert!(request.has("content-type: text/plain; charset=utf-8"));
    assert!(request.wire_bytes < request.body.len() / 2, "compressed");
}

#[tokio::test]
async fn without_compression_the_lines_go_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..5)));
    log.close();
    let sink = start(dir.path(), InfluxConfig { gzip: false, ..config(&server) }, &log);
    assert_eq!(sink.end().await.stored, 5);
    let (request, _) = &server.written()[0];
    assert!(!request.head.contains("content-encoding"));
    assert_eq!(request.wire_bytes, request.body.len());
}

#[tokio::test]
async fn a_server_that_is_busy_breaks_off_or_never_answers_gets_the_same_lines_again() {
    let dir = tempfile::tempdir().unwrap();
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Status(503, "starting"),
        1 => Reply::Status(429, "slow down"),
        2 => Reply::Reset,
        3 => Reply::Hang,
        4 => Reply::Status(500, "oops"),
        _ => STORED,
    })
    .await;
    let log = TestLog::default();
    log.push(frame(9, rows(0..30)));
    let config = InfluxConfig { timeout: Duration::from_millis(200), ..config(&server) };
    let sink = start(dir.path(), config, &log);
    sink.until("stored", |f| f.cursor == 9).await;
    log.close();
    let figures = sink.end().await;
    assert_eq!((figures.stored, figures.refused, figures.residue()), (30, 0, 0));
    assert_eq!(figures.trouble, None);
    let written = server.written();
    assert_eq!(written.len(), 6);
    assert!(written.iter().all(|(request, _)| request.body == written[0].0.body));
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for_and_named_as_the_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    server.answers(|_| Box::pin(async { Reply::Reset }));
    let log = TestLog::default();
    log.push(frame(1, rows(0..3)));
    let sink = start(dir.path(), config(&server), &log);
    sink.until("trouble is named", |f| f.trouble.is_some()).await;
    let figures = sink.status.figures();
    assert_eq!((figures.cursor, figures.pending, figures.stored), (0, 3, 0));
    server.writes(|_| STORED);
    sink.until("stored, trouble gone", |f| f.cursor == 1 && f.trouble.is_none()).await;
    log.close();
    assert_eq!(sink.end().await.residue(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_split_and_later_ones_are_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.body.len() {
        0..=20_000 => STORED,
        _ => Reply::Status(413, "too large"),
    })
    .await;
    let log = TestLog::default();
    let all = rows(0..400);
    log.push(frame(1, all.clone()));
    let sink = start(dir.path(), config(&server), &log);
    sink.until("the large frame is stored", |f| f.cursor == 1).await;
    let before = server.written().len();
    for (lsn, chunk) in (2..).zip(all.chunks(10)) {
        log.push(frame(lsn, chunk.to_vec()));
    }
    log.close();
    let figures = sink.end().await;
    assert_eq!((figures.stored, figures.refused, figures.residue()), (800, 0, 0));
    assert_eq!(server.stored().iter().cloned().collect::<BTreeSet<_>>(), lines_of(&all));
    let later = &server.written()[before..];
    assert!(later.iter().all(|(_, reply)| *reply == STORED), "no batch was too large again");
}

#[tokio::test]
async fn bad_readings_are_found_and_kept_once_and_the_good_ones_beside_them_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let bad = |line: &str| line.contains("seq=7i") || line.contains("seq=41i");
    let server = Server::start(move |request| {
        if request.body.lines().any(bad) {
            Reply::Status(400, "{\"code\":\"invalid\",\"message\":\"field type conflict\"}")
        } else {
            STORED
        }
    })
    .await;
    let log = TestLog::default();
    let all = rows(0..50);
    log.push(frame(4, all[..25].to_vec()));
    log.push(frame(6, all[25..].to_vec()));
    log.close();
    let figures = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((figures.stored, figures.refused, figures.residue()), (48, 2, 0));
    assert_eq!(figures.cursor, 6);
    let good = lines_of(&all).into_iter().filter(|line| !bad(line)).collect::<BTreeSet<_>>();
    // The whole of a bad water reading is refused, its intervals included.
    let stored = server.stored().into_iter().collect::<BTreeSet<_>>();
    assert!(stored.is_subset(&good));
    assert!(good.len() - stored.len() <= 3);

    let kept = letters(dir.path());
    let places: Vec<_> = kept.iter().map(|l| (l.lsn, l.reading, l.why)).collect();
    assert_eq!(places, [(4, Some(7), Why::RefusedByServer), (6, Some(16), Why::RefusedByServer)]);
    assert!(kept.iter().all(|l| l.detail.contains("field type conflict") && !l.truncated));
    assert!(bad(std::str::from_utf8(&kept[0].payload).unwrap()));

    // Killed between the letters and the cursor: all comes again, and the letters are not doubled.
    std::fs::remove_file(dir.path().join("cursor")).unwrap();
    let figures = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((figures.stored, figures.refused, figures.cursor), (48, 2, 6));
    assert_eq!(letters(dir.path()), kept);
}

#[tokio::test]
async fn a_server_that_refuses_everything_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::Status(400, "no such database")).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..200)));
    let sink = start(dir.path(), config(&server), &log);
    let refuses = "the server refuses every reading: 400 no such database";
    sink.until("trouble is named", |f| f.trouble.as_deref() == Some(refuses)).await;
    let figures = sink.status.figures();
    assert_eq!((figures.cursor, figures.refused, figures.pending), (0, 0, 200));
    assert!(letters(dir.path()).is_empty());
    server.writes(|_| STORED);
    log.close();
    let figures = sink.end().await;
    assert_eq!((figures.stored, figures.refused, figures.cursor), (200, 0, 1));
}

#[tokio::test]
async fn a_server_that_refuses_every_small_batch_is_not_believed_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::Status(400, "no such database")).await;
    let log = TestLog::default();
    for n in 0..20 {
        log.push(frame(u64::from(n) + 1, rows(n * 10..(n + 1) * 10)));
    }
    let sink = start(dir.path(), InfluxConfig { batch_points: 10, ..config(&server) }, &log);
    let refuses = "the server refuses every reading: 400 no such database";
    sink.until("trouble is named", |f| f.trouble.as_deref() == Some(refuses)).await;
    let figures = sink.status.figures();
    assert!(figures.refused <= 60 && figures.cursor <= 6, "{figures:?}");
    server.writes(|_| STORED);
    log.close();
    let figures = sink.end().await;
    assert_eq!((figures.stored, figures.refused, figures.cursor), (140, 60, 20));
}

#[tokio::test]
async fn a_wrong_token_is_said_aloud_and_nothing_is_passed_over() {
    for (status, words) in [(401, "unauthorized"), (403, "forbidden"), (404, "bucket not found")] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(move |_| Reply::Status(status, words)).await;
        let log = TestLog::default();
        log.push(frame(1, rows(0..4)));
        let sink = start(dir.path(), config(&server), &log);
        sink.until("trouble is named", |f| {
            f.trouble.as_ref().is_some_and(|t| t.contains(words) && t.contains("token"))
        })
        .await;
        assert!(!sink.status.figures().trouble.unwrap_or_default().contains("s3cr3t"));
        assert_eq!(sink.status.figures().cursor, 0);
        server.writes(|_| STORED);
        log.close();
        let figures = sink.end().await;
        assert_eq!((figures.stored, figures.refused, figures.trouble), (4, 0, None));
    }
}

#[tokio::test]
async fn while_the_server_is_away_memory_is_bounded_and_nothing_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    let log = TestLog::default();
    for lsn in 1..=400 {
        log.push(frame(lsn, rows(0..60)));
    }
    let held_bytes = 100_000;
    let config =
        InfluxConfig { held_bytes, batch_bytes: 20_000, batch_points: 60, ..config(&server) };
    let status = SinkStatus::new("influx");
    let sink =
        InfluxSink::open(Arc::new(RealIo), dir.path().to_owned(), config, LOG, Arc::clone(&status));
    let sink = sink.unwrap();
    let feed = Feed::new(log.source(), 0, Arc::clone(&status));
    // The first request is answered once the sink has stopped reading, which is when it has been
    // given many turns in which nothing changed.
    let watched = Arc::clone(&status);
    server.answers(move |request| {
        let status = Arc::clone(&watched);
        Box::pin(async move {
            if !request.is_write() {
                return Reply::Status(404, "");
            }
            let mut turns = 0;
            let mut last = 0;
            while status.cursor() == 0 && turns < 200 {
                let position = status.figures().position;
                turns = if position == last { turns + 1 } else { 0 };
                last = position;
                tokio::task::yield_now().await;
            }
            assert!(last < 400, "it read everything into memory");
            STORED
        })
    });
    let task = tokio::spawn(sink.run(feed));
    let line = lines_of(&rows(0..60)).iter().map(String::len).sum::<usize>() / 60;
    let bound = (held_bytes + FEED_BYTES) / line;
    until("everything is stored", || {
        let figures = status.figures();
        assert!(usize::try_from(figures.pending).unwrap() <= bound, "{figures:?}");
        figures.cursor == 400
    })
    .await;
    log.close();
    task.await.unwrap().unwrap();
    let figures = status.figures();
    assert_eq!((figures.stored, figures.residue()), (400 * 60, 0));
}

#[tokio::test]
async fn a_stop_writes_what_is_held_without_waiting_for_its_age() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let config = InfluxConfig { batch_age: Duration::from_secs(3600), ..config(&server) };
    let sink = start(dir.path(), config, &log);
    sink.until("it holds them", |f| f.pending == 4).await;
    log.close();
    let figures = sink.end().await;
    assert_eq!((figures.stored, figures.pending, figures.cursor), (4, 0, 1));
}

#[tokio::test]
async fn a_stop_during_an_outage_is_bounded_and_the_next_start_writes_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::Hang).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    log.push(frame(2, rows(4..9)));
    log.close();
    let config = InfluxConfig { flush_within: Duration::from_millis(50), ..config(&server) };
    let figures = start(dir.path(), config.clone(), &log).end().await;
    assert_eq!((figures.stored, figures.pending, figures.residue(), figures.cursor), (0, 9, 0, 0));
    server.writes(|_| STORED);
    let figures = start(dir.path(), config, &log).end().await;
    assert_eq!((figures.stored, figures.pending, figures.cursor), (9, 0, 2));
    assert_eq!(server.stored().into_iter().collect::<BTreeSet<_>>(), lines_of(&rows(0..9)));
}

#[tokio::test]
async fn frames_without_readings_move_the_cursor_and_ask_the_server_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    let log = TestLog::default();
    log.push(frame(8, Vec::new()));
    log.up_to(11);
    log.close();
    assert_eq!(start(dir.path(), config(&server), &log).end().await.cursor, 11);
    assert!(server.requests().is_empty());
    let again = InfluxSink::open(
        Arc::new(RealIo),
        dir.path().to_owned(),
        config(&server),
        LOG,
        SinkStatus::new("influx"),
    );
    assert_eq!(again.unwrap().cursor(), 11);
}
