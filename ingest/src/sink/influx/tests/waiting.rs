//! Servers that are away, slow, closed to us, or look well and are not.

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_refused_token_is_read_again_from_its_file_and_the_pause_ends_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.has("authorization: Token new") {
        true => STORED,
        false => {
            Reply::Status(401, "{\"code\":\"unauthorized\",\"message\":\"unauthorized access\"}")
        }
    })
    .await;
    let token_file = dir.path().join("token");
    let config = InfluxConfig {
        token: Token::default(),
        token_file: Some(token_file.clone()),
        // Nobody waits for that.
        max_backoff: HOUR,
        ..config(&server)
    };
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let sink = start(&dir.path().join("sink"), config, &log);
    let says = |words: &'static str| {
        move |f: &SinkFigures| f.trouble.as_ref().is_some_and(|t| t.contains(words))
    };
    sink.until("there is no file yet", says("No such file")).await;
    std::fs::write(&token_file, "old\n").unwrap();
    sink.until("the server says no", says("401 unauthorized access")).await;
    assert_eq!(sink.status.figures().cursor, 0);
    std::fs::write(&token_file, "new\n").unwrap();
    log.close();
    let figures = sink.end().await;
    assert_eq!((figures.stored, figures.trouble), (4, None));
}

#[tokio::test]
async fn a_token_that_was_replaced_in_time_costs_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, "old").unwrap();
    let server = Server::start(|request| match request.has("authorization: Bearer old") {
        true => STORED,
        false => Reply::Status(403, "expired"),
    })
    .await;
    let config = InfluxConfig {
        token: Token::default(),
        token_file: Some(token_file.clone()),
        auth: Scheme::Bearer,
        max_backoff: HOUR,
        ..config(&server)
    };
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let sink = start(&dir.path().join("sink"), config, &log);
    sink.until("stored", |f| f.cursor == 1).await;
    std::fs::write(&token_file, "new").unwrap();
    server.writes(|request| match request.has("authorization: Bearer new") {
        true => STORED,
        false => Reply::Status(403, "expired"),
    });
    log.push(frame(2, rows(4..8)));
    log.close();
    assert_eq!(sink.end().await.stored, 8);
    assert_eq!(server.written().len(), 3);
}

/// A server with one bucket at most, as InfluxDB 2 answers.
async fn with_buckets() -> (Server, Arc<Mutex<bool>>) {
    let server = Server::start(|_| STORED).await;
    let made = Arc::new(Mutex::new(false));
    let is_made = Arc::clone(&made);
    server.answers(move |request| {
        let mut made = is_made.lock();
        let reply = match request.line.as_str() {
            line if line.starts_with("GET /api/v2/buckets?org=city&name=pilot+one ") => {
                Reply::Status(200, "{\"buckets\":[]}")
            }
            line if line.starts_with("GET /api/v2/orgs?org=city ") => Reply::Status(
                200,
                "{\"orgs\":[{\"name\":\"other\",\"id\":\"1\"},{\"name\":\"city\",\"id\":\"00c1\"}]}",
            ),
            line if line.starts_with("POST /api/v2/buckets ") => {
                *made = true;
                Reply::Status(201, "{}")
            }
            _ if *made => STORED,
            _ => Reply::Status(404, "{\"code\":\"not found\",\"message\":\"bucket not found\"}"),
        };
        Box::pin(async move { reply })
    });
    (server, made)
}

#[tokio::test]
async fn a_missing_bucket_is_made_and_a_server_that_has_it_is_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = with_buckets().await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    log.close();
    let config = InfluxConfig { max_backoff: HOUR, ..config(&server) };
    assert_eq!(start(dir.path(), config, &log).end().await.stored, 4);
    let requests = server.requests();
    let made: Vec<_> =
        requests.iter().filter(|(r, _)| r.line.starts_with("POST /api/v2/buckets ")).collect();
    assert_eq!(made.len(), 1);
    assert!(made[0].0.has("content-type: application/json"));
    let body: serde_json::Value = serde_json::from_str(&made[0].0.body).unwrap();
    assert_eq!((&body["orgID"], &body["name"]), (&"00c1".into(), &"pilot one".into()));
    assert_eq!(body["retentionRules"], serde_json::json!([]), "nothing expires unasked");
    assert_eq!(requests.len(), 5, "refused, two questions, made, stored");
}

#[tokio::test]
async fn a_bucket_is_not_made_where_that_is_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let (server, made) = with_buckets().await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let config = InfluxConfig { create_bucket: false, ..config(&server) };
    let sink = start(dir.path(), config, &log);
    sink.until("it is said", |f| {
        f.trouble.as_ref().is_some_and(|t| t.starts_with("404 bucket not found"))
    })
    .await;
    assert!(server.requests().iter().all(|(request, _)| request.is_write()));
    *made.lock() = true;
    log.close();
    assert_eq!(sink.end().await.stored, 4);
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_named_as_the_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(|_| STORED).await;
    let config = InfluxConfig { url: format!("http://127.0.0.1:{port}"), ..config(&server) };
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let sink = start(dir.path(), config, &log);
    sink.until("refused", |f| f.trouble.as_ref().is_some_and(|t| t.contains("refused"))).await;
}

#[tokio::test]
async fn an_answer_that_drips_has_the_time_of_one_answer() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| {
        Reply::Drip(
            "HTTP/1.1 204 No Content\r\nx-filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        )
    })
    .await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let config = InfluxConfig { timeout: Duration::from_millis(100), ..config(&server) };
    let sink = start(dir.path(), config, &log);
    sink.until("time out", |f| f.trouble.as_deref() == Some("no answer in time")).await;
    server.writes(|_| STORED);
    log.close();
    assert_eq!(sink.end().await.stored, 4);
}

#[tokio::test]
async fn a_server_that_stops_taking_a_request_is_given_up_and_tried_with_less() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    // More than the buffers of both kernels hold while nobody reads.
    let all: Vec<Row> = (0..12_000).map(|n| row(Kind::Elevator, n)).collect();
    let bytes: usize = lines_of(&all).iter().map(|line| line.len() + 1).sum();
    server.answers_early(move |head| {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        (length.parse::<usize>().unwrap() > bytes * 2 / 3).then_some(Reply::Hang)
    });
    let log = TestLog::default();
    log.push(frame(1, all));
    let config = InfluxConfig {
        gzip: false,
        batch_bytes: 8 << 20,
        held_bytes: 16 << 20,
        batch_points: 20_000,
        write_timeout: Duration::from_millis(200),
        timeout: HOUR,
        late_after: HOUR,
        ..config(&server)
    };
    let sink = start(dir.path(), config, &log);
    sink.until("given up", |f| f.trouble.as_deref() == Some("it stopped taking the request")).await;
    log.close();
    let figures = sink.end().await;
    assert_eq!((figures.stored, figures.residue()), (12_000, 0));
}

#[tokio::test]
async fn a_server_that_never_answers_is_judged_by_the_age_of_the_oldest_reading() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _metrics = metrics::set_default_local_recorder(&recorder);
    let held = || {
        let snapshot = snapshotter.snapshot().into_vec();
        snapshot.into_iter().find_map(|(key, _, _, value)| {
            let key = key.key();
            let named = key.name() == "loushan_influx_held_bytes"
                && key.labels().any(|l| (l.key(), l.value()) == ("sink", "influx"));
            match value {
                DebugValue::Gauge(bytes) if named => Some(bytes.into_inner()),
                _ => None,
            }
        })
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::Hang).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let config = InfluxConfig {
        // Not by that.
        timeout: HOUR,
        late_after: Duration::from_millis(100),
        ..config(&server)
    };
    let sink = start(dir.path(), config, &log);
    sink.until("it is late", |f| {
        f.trouble.as_ref().is_some_and(|t| t.contains("has not taken the oldest reading"))
    })
    .await;
    assert!(held().unwrap() > 0.0);
    assert_eq!(sink.status.figures().cursor, 0);
    sink.task.abort();
    assert!(sink.task.await.unwrap_err().is_cancelled());
    assert_eq!(held(), Some(0.0), "a sink that has ended holds nothing");
}

#[tokio::test]
async fn a_sink_that_is_dropped_in_the_middle_goes_on_where_its_cursor_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let sink = start(dir.path(), config(&server), &log);
    sink.until("the first is stored", |f| f.cursor == 1).await;
    server.writes(|_| Reply::Hang);
    log.push(frame(2, rows(4..9)));
    sink.until("the second is on its way", |_| server.busiest() > 0 && sink_has(&sink, 5)).await;
    sink.task.abort();
    assert!(sink.task.await.unwrap_err().is_cancelled());
    server.writes(|_| STORED);
    log.close();
    let again = start(dir.path(), config(&server), &log);
    let figures = again.end().await;
    assert_eq!((figures.stored, figures.cursor), (5, 2));
    assert_eq!(server.stored().into_iter().collect::<BTreeSet<_>>(), lines_of(&rows(0..9)));
}

fn sink_has(sink: &Running, pending: u64) -> bool {
    sink.status.figures().pending == pending
}
