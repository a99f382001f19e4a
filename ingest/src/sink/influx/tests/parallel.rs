//! Several requests at a time, in any order, and often.

use std::collections::BTreeMap;

use tokio::sync::Barrier;

use super::*;

#[tokio::test]
async fn as_many_requests_as_connections_are_on_their_way_and_connections_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    // Nobody is answered before four are there, or these tests wait for ever.
    let four = Arc::new(Barrier::new(4));
    server.answers(move |_| {
        let four = Arc::clone(&four);
        Box::pin(async move {
            four.wait().await;
            STORED
        })
    });
    let log = TestLog::default();
    for lsn in 1..=40 {
        log.push(frame(lsn, rows(0..50)));
    }
    log.close();
    let config = InfluxConfig { connections: 4, batch_points: 50, ..config(&server) };
    let figures = start(dir.path(), config, &log).end().await;
    assert_eq!((figures.stored, figures.cursor, figures.residue()), (2_000, 40, 0));
    assert_eq!((server.written().len(), server.busiest()), (40, 4));
    // Two more at most, for one that was being closed when it was wanted.
    assert!(server.connections() <= 6, "{}", server.connections());
}

#[tokio::test]
async fn the_cursor_does_not_pass_a_batch_that_was_overtaken() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    let first = Arc::new(tokio::sync::Notify::new());
    let release = Arc::clone(&first);
    server.answers(move |request| {
        let first = Arc::clone(&first);
        Box::pin(async move {
            if request.body.contains("seq=3i") {
                first.notified().await;
            }
            STORED
        })
    });
    let log = TestLog::default();
    for lsn in 1..=6 {
        let start = u32::try_from(lsn).unwrap() * 10 - 10;
        log.push(frame(lsn, rows(start..start + 10)));
    }
    let config = InfluxConfig { connections: 2, batch_points: 10, ..config(&server) };
    let sink = start(dir.path(), config, &log);
    sink.until("the others are stored", |_| server.stored().len() >= 50).await;
    let figures = sink.status.figures();
    assert_eq!((figures.cursor, figures.stored, figures.pending), (0, 0, 60));
    release.notify_one();
    sink.until("all are settled", |f| f.cursor == 6 && f.stored == 60).await;
}

/// Points as a server keeps them: one per measurement, tags and time.
fn points<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut points = BTreeMap::new();
    for line in lines {
        let (series, rest) = line.split_once(' ').unwrap();
        let (fields, time) = rest.rsplit_once(' ').unwrap();
        let before = points.insert(format!("{series} {time}"), fields.to_owned());
        assert!(before.is_none_or(|before| before == fields), "one key, two values: {line}");
    }
    points
}

#[tokio::test]
async fn batches_in_any_order_torn_and_repeated_give_the_same_points() {
    let dir = tempfile::tempdir().unwrap();
    let all = rows(0..600);
    let expected = lines_of(&all);
    let expected = points(expected.iter().map(String::as_str));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start(|_| STORED).await;
    let count = Arc::new(AtomicUsize::new(0));
    let at_server = Arc::clone(&taken);
    server.answers(move |request| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let taken = Arc::clone(&at_server);
        Box::pin(async move {
            let lines: Vec<_> = request.body.lines().map(str::to_owned).collect();
            match n % 7 {
                // Stored, and the answer is lost.
                0 => taken.lock().extend(lines),
                // Half of it stored.
                1 => taken.lock().extend(lines.into_iter().take(20)),
                2 => return Reply::Status(503, "busy"),
                // Overtaken by others.
                3 => {
                    for _ in 0..200 {
                        tokio::task::yield_now().await;
                    }
                    taken.lock().extend(lines);
                    return STORED;
                }
                _ => {
                    taken.lock().extend(lines);
                    return STORED;
                }
            }
            Reply::Reset
        })
    });
    let log = TestLog::default();
    for (lsn, chunk) in (1..).zip(all.chunks(20)) {
        log.push(frame(lsn, chunk.to_vec()));
    }
    log.close();
    let config = InfluxConfig { connections: 4, batch_points: 40, ..config(&server) };
    for _ in 0..2 {
        let figures = start(dir.path(), config.clone(), &log).end().await;
        assert_eq!((figures.stored, figures.refused, figures.cursor), (600, 0, 30));
        assert_eq!(points(taken.lock().iter().map(String::as_str)), expected);
        // As after a crash before the cursor was written: everything comes again.
        std::fs::remove_file(dir.path().join("cursor")).unwrap();
    }
    assert!(taken.lock().len() > 2 * expected.len(), "some of it came often");
}

#[tokio::test]
async fn the_path_of_the_url_is_kept_and_the_token_is_shown_as_configured() {
    for (path, auth, token, header) in [
        ("", Scheme::Token, "abc", Some("authorization: Token abc")),
        ("/", Scheme::Bearer, "abc", Some("authorization: Bearer abc")),
        ("/v1/influxdb", Scheme::Token, "ann:pw", Some("authorization: Token ann:pw")),
        ("/behind/a%20proxy/", Scheme::Basic, "ann:pw", Some("authorization: Basic YW5uOnB3")),
        ("", Scheme::None, "", None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(|_| STORED).await;
        let log = TestLog::default();
        log.push(frame(1, rows(0..4)));
        log.close();
        let url = format!("{}{path}", server.url);
        let config = InfluxConfig { url, auth, token: Token::new(token), ..config(&server) };
        assert_eq!(start(dir.path(), config, &log).end().await.stored, 4);
        let (request, _) = &server.written()[0];
        let base = path.trim_end_matches('/');
        assert!(request.line.starts_with(&format!("POST {base}/api/v2/write?org=city&")));
        match header {
            Some(header) => assert!(request.has(header), "{}", request.head),
            None => assert!(!request.head.contains("authorization")),
        }
    }
}
