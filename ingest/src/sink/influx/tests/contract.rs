//! The write contract, answer by answer.

use hyper::header::RETRY_AFTER;
use serde_json::json;

use super::*;

/// Without field `seq` of these numbers everything is good.
fn is_bad(line: &str) -> bool {
    ["seq=7i", "seq=23i", "seq=41i"].iter().any(|bad| line.contains(bad))
}

/// Rows of one line each.
fn single_lines(range: std::ops::Range<u32>) -> Vec<Row> {
    range.map(|n| row(Kind::Smoke, n)).collect()
}

fn good_lines(rows: &[Row]) -> BTreeSet<String> {
    lines_of(rows).into_iter().filter(|line| !is_bad(line)).collect()
}

/// What a server has that stores the good points and names the others in its own way.
fn partial(
    status: u16,
    words: impl Fn(&[(usize, &str)]) -> String + Send + Sync + 'static,
) -> (Arc<Mutex<BTreeSet<String>>>, impl Fn(&server::Request) -> Reply + Send + Sync) {
    let stored = Arc::new(Mutex::new(BTreeSet::new()));
    let shared = Arc::clone(&stored);
    let answer = move |request: &server::Request| {
        let mut bad = Vec::new();
        for (number, line) in request.body.lines().enumerate() {
            if is_bad(line) {
                bad.push((number, line));
            } else {
                shared.lock().insert(line.to_owned());
            }
        }
        if bad.is_empty() { STORED } else { Reply::Full(status, String::new(), words(&bad)) }
    };
    (stored, answer)
}

async fn refused_by(server: &Server, dir: &Path) -> (SinkFigures, Vec<DeadLetter>) {
    let log = TestLog::default();
    log.push(frame(4, single_lines(0..50)));
    log.close();
    let figures = start(dir, config(server), &log).end().await;
    assert_eq!((figures.stored, figures.refused, figures.residue()), (47, 3, 0));
    assert_eq!(figures.cursor, 4);
    let kept = letters(dir);
    let places: Vec<_> = kept.iter().map(|letter| letter.reading).collect();
    assert_eq!(places, [Some(7), Some(23), Some(41)]);
    assert!(kept.iter().all(|l| is_bad(std::str::from_utf8(&l.payload).unwrap())));
    (figures, kept)
}

#[tokio::test]
async fn lines_that_the_server_lists_are_found_in_three_requests_with_their_own_words() {
    for status in [400, 422] {
        let dir = tempfile::tempdir().unwrap();
        let (stored, answer) = partial(status, |bad| {
            let data: Vec<_> = bad
                .iter()
                .map(|(n, line)| {
                    json!({ "original_line": line.replace('"', ""), "line_number": n + 1,
                            "error_message": format!("wrong type in {n}") })
                })
                .collect();
            json!({ "error": "partial write of line protocol occurred", "data": data }).to_string()
        });
        let server = Server::start(answer).await;
        let (_, kept) = refused_by(&server, dir.path()).await;
        assert_eq!(server.written().len(), 3, "all, the rest, the listed ones");
        assert_eq!(*stored.lock(), good_lines(&single_lines(0..50)));
        // The words of the request that it was refused in: the listed ones are three lines.
        for (letter, n) in kept.iter().zip(0..) {
            let own =
                format!("{status} partial write of line protocol occurred: wrong type in {n}");
            assert_eq!(letter.detail, own);
        }
    }
}

#[tokio::test]
async fn bad_points_that_nobody_names_are_found_by_halving_whatever_the_status() {
    for status in [201, 400, 422] {
        let dir = tempfile::tempdir().unwrap();
        let message = r#"{"code":"unprocessable entity","message":"partial write: field type conflict dropped=1"}"#;
        let (stored, answer) = partial(status, move |_| message.to_owned());
        let server = Server::start(answer).await;
        let (_, kept) = refused_by(&server, dir.path()).await;
        assert_eq!(*stored.lock(), good_lines(&single_lines(0..50)));
        assert!(kept.iter().all(|l| l.detail.ends_with("field type conflict dropped=1")));
    }
}

#[tokio::test]
async fn a_server_that_names_one_bad_line_at_a_time_needs_few_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (_, answer) = partial(400, |bad| {
        format!(
            "{{\"code\":\"invalid\",\"message\":\"failed to parse line protocol:errors encountered \
             on line(s):\nerror in line {}: table: smoke; cast error\"}}",
            bad[0].0 + 1
        )
    });
    let server = Server::start(answer).await;
    refused_by(&server, dir.path()).await;
    // The whole, then for each its rest and itself alone.
    assert!(server.written().len() <= 7, "{}", server.written().len());
}

#[tokio::test]
async fn numbers_that_are_wrong_cost_requests_and_no_readings() {
    type Wrong = fn(&[(usize, &str)]) -> Vec<u64>;
    let wrong: [Wrong; 4] = [
        // Counted from 0.
        |bad| bad.iter().map(|(n, _)| *n as u64).collect(),
        |bad| bad.iter().map(|(n, _)| *n as u64 + 7).collect(),
        // Every line, whatever is wrong with it.
        |_| (1..=50).collect(),
        |_| vec![1, u64::MAX],
    ];
    for numbers in wrong {
        let dir = tempfile::tempdir().unwrap();
        let (stored, answer) = partial(400, move |bad| {
            let numbers = numbers(bad).into_iter();
            let data: Vec<_> = numbers.map(|n| json!({ "line_number": n })).collect();
            json!({ "error": "partial write", "data": data }).to_string()
        });
        let server = Server::start(answer).await;
        refused_by(&server, dir.path()).await;
        assert_eq!(*stored.lock(), good_lines(&single_lines(0..50)));
    }
}

#[tokio::test]
async fn a_list_of_all_lines_does_not_empty_the_log_into_the_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|request| {
        let data: Vec<_> =
            (1..=request.body.lines().count()).map(|n| json!({ "line_number": n })).collect();
        Reply::Full(400, String::new(), json!({ "error": "no", "data": data }).to_string())
    })
    .await;
    let log = TestLog::default();
    log.push(frame(1, single_lines(0..200)));
    let sink = start(dir.path(), config(&server), &log);
    sink.until("it is not believed", |f| {
        f.trouble.as_deref() == Some("the server refuses every reading: 400 no")
    })
    .await;
    assert_eq!((sink.status.figures().refused, sink.status.figures().cursor), (0, 0));
}

/// A server that refuses the lines with some numbers, in these words.
async fn refusing(bad: fn(u64) -> bool, words: &'static str) -> Server {
    Server::start(move |request| {
        let number = |line: &str| {
            let (_, rest) = line.split_once("seq=").unwrap();
            rest.split_once('i').unwrap().0.parse::<u64>().unwrap()
        };
        let refused = request.body.lines().any(|line| bad(number(line)));
        if refused { Reply::Full(422, String::new(), words.to_owned()) } else { STORED }
    })
    .await
}

#[tokio::test]
async fn a_backlog_of_bad_readings_before_good_ones_holds_nothing_up() {
    let server = refusing(|n| n < 300, "field type conflict").await;
    let (dir, log) = (tempfile::tempdir().unwrap(), TestLog::default());
    log.push(frame(1, single_lines(0..1000)));
    log.close();
    let figures = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((figures.stored, figures.refused, figures.cursor), (700, 300, 1));
    assert_eq!(letters(dir.path()).len(), 300);
}

#[tokio::test]
async fn readings_older_than_the_bucket_keeps_any_are_refused_however_many_there_are() {
    let words = "failure writing points to database: partial write: points beyond retention policy dropped=1";
    let server = refusing(|_| true, words).await;
    let (dir, log) = (tempfile::tempdir().unwrap(), TestLog::default());
    log.push(frame(1, single_lines(0..200)));
    log.close();
    let figures = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((figures.stored, figures.refused, figures.cursor), (0, 200, 1));
    assert_eq!(letters(dir.path()).len(), 200);
}

#[tokio::test]
async fn after_a_rewind_what_is_refused_is_kept_once_and_none_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let log = TestLog::default();
    for lsn in 1..=4 {
        let first = u32::try_from(lsn).unwrap() * 10;
        log.push(frame(lsn, single_lines(first..first + 10)));
    }
    log.close();
    let server = refusing(|n| n == 35, "no").await;
    let figures = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((figures.stored, figures.refused, figures.cursor), (39, 1, 4));
    CursorFile::open(Arc::new(RealIo), dir.path().join("cursor"), LOG).unwrap().rewind(0).unwrap();
    // Another bucket, with another type of a field.
    let server = refusing(|n| [12, 23, 35].contains(&n), "no").await;
    let figures = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((figures.stored, figures.refused, figures.cursor), (37, 3, 4));
    let kept: Vec<_> = letters(dir.path()).iter().map(|l| (l.lsn, l.reading.unwrap())).collect();
    assert_eq!(kept, [(3, 5), (1, 2), (2, 3)]);
    // And when all of it is read again after a restart.
    let reopened = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((reopened.refused, letters(dir.path()).len()), (0, 3));
}

#[tokio::test]
async fn an_answer_that_is_no_word_of_the_protocol_stores_nothing() {
    for reply in [
        Reply::Status(200, "<html>please log in</html>"),
        Reply::Status(202, ""),
        Reply::Full(307, "location: http://127.0.0.1:9/elsewhere\r\n".into(), String::new()),
        Reply::Status(405, "method not allowed"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let answer = reply.clone();
        let server = Server::start(move |_| answer.clone()).await;
        let log = TestLog::default();
        log.push(frame(1, rows(0..4)));
        let sink = start(dir.path(), config(&server), &log);
        sink.until("it says what to look at", |f| {
            f.trouble.as_ref().is_some_and(|t| t.contains("sink.influx"))
        })
        .await;
        assert_eq!(sink.status.figures().cursor, 0, "{reply:?}");
        server.writes(|_| STORED);
        log.close();
        let figures = sink.end().await;
        assert_eq!((figures.stored, figures.trouble), (4, None));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_token_goes_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = Server::start(|_| STORED).await;
    let location = format!("location: {}/api/v2/write?a=b\r\n", elsewhere.url);
    let server = Server::start(move |_| Reply::Full(308, location.clone(), String::new())).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let sink = start(dir.path(), config(&server), &log);
    let names = |f: &SinkFigures| f.trouble.as_ref().is_some_and(|t| t.contains(&elsewhere.url));
    sink.until("it says where it would have gone", names).await;
    sink.until("it asks again", |_| server.written().len() > 3).await;
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_server_that_takes_no_gzip_gets_the_same_lines_plain_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.has("content-encoding: gzip") {
        true => Reply::Status(415, "unsupported encoding"),
        false => STORED,
    })
    .await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..30)));
    let sink = start(dir.path(), config(&server), &log);
    sink.until("stored", |f| f.cursor == 1).await;
    for lsn in 2..6 {
        log.push(frame(lsn, rows(30..60)));
    }
    log.close();
    assert_eq!(sink.end().await.stored, 150);
    let refused = server.written().iter().filter(|(_, reply)| *reply != STORED).count();
    assert_eq!(refused, 1);
    // One that refuses plain lines as well is to be mended.
    server.writes(|_| Reply::Status(415, "no"));
    let log = TestLog::default();
    log.push(frame(9, rows(0..3)));
    let sink = start(dir.path(), config(&server), &log);
    sink.until("trouble", |f| f.trouble.as_ref().is_some_and(|t| t.starts_with("415 no"))).await;
}

#[tokio::test]
async fn half_an_answer_or_none_that_can_be_read_is_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Raw("HTTP/1.1 204 No"),
        1 => Reply::Raw("HTTP/1.1 2"),
        2 => Reply::Raw("SSH-2.0-OpenSSH_9.2p1\r\n"),
        3 => Reply::Raw("HTTP/1.1 503 x\r\ncontent-length: 100\r\n\r\n{\"message\":\"half"),
        _ => STORED,
    })
    .await;
    let log = TestLog::default();
    log.push(frame(9, rows(0..30)));
    log.close();
    let figures = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((figures.stored, figures.refused, figures.cursor), (30, 0, 9));
    assert_eq!(server.written().len(), 5);
}

#[tokio::test]
async fn a_verdict_that_breaks_off_is_a_verdict_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.body.contains("seq=2i") {
        true => Reply::Raw("HTTP/1.1 400 x\r\ncontent-length: 100\r\n\r\n{\"message\":\"bad poi"),
        false => STORED,
    })
    .await;
    let log = TestLog::default();
    log.push(frame(9, single_lines(0..4)));
    log.close();
    let figures = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((figures.stored, figures.refused), (3, 1));
    assert!(letters(dir.path())[0].detail.contains("bad poi"));
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(8 << 20);
    let server = Server::start(move |request| match request.body.contains("seq=2i") {
        true => Reply::Full(400, String::new(), long.clone()),
        false => STORED,
    })
    .await;
    let log = TestLog::default();
    log.push(frame(9, single_lines(0..4)));
    log.close();
    let figures = start(dir.path(), config(&server), &log).end().await;
    assert_eq!((figures.stored, figures.refused), (3, 1));
    assert!(letters(dir.path())[0].detail.len() < 400);
}

#[tokio::test]
async fn a_413_that_comes_before_the_body_was_read_divides_it_also_where_it_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| STORED).await;
    // The connection is closed with the body unread, so the kernel resets it, and what was answered
    // may never reach us.
    server.answers_early(|head| {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        (length.parse::<usize>().unwrap() > 100_000).then_some(Reply::Status(413, "too large"))
    });
    let log = TestLog::default();
    let all = rows(0..2_000);
    log.push(frame(1, all.clone()));
    log.close();
    let config = InfluxConfig { gzip: false, ..config(&server) };
    let figures = start(dir.path(), config, &log).end().await;
    assert_eq!((figures.stored, figures.refused, figures.residue()), (2_000, 0, 0));
    assert_eq!(server.stored().into_iter().collect::<BTreeSet<_>>(), lines_of(&all));
}

#[tokio::test]
async fn a_pause_that_the_server_asks_for_is_made_in_seconds_and_as_a_date() {
    let date = |second: u32| format!("Sun, 06 Nov 1994 08:49:{second:02} GMT");
    for (status, headers) in [
        (429, format!("{RETRY_AFTER}: 1\r\n")),
        (503, format!("{RETRY_AFTER}: {}\r\ndate: {}\r\n", date(38), date(37))),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let times = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&times);
        let server = Server::start(move |_| {
            let mut seen = seen.lock();
            seen.push(Instant::now());
            if seen.len() == 1 {
                Reply::Full(status, headers.clone(), "slow".into())
            } else {
                STORED
            }
        })
        .await;
        let log = TestLog::default();
        log.push(frame(1, rows(0..4)));
        log.close();
        assert_eq!(start(dir.path(), config(&server), &log).end().await.stored, 4);
        let times = times.lock();
        assert!(times[1] - times[0] >= Duration::from_secs(1), "{:?}", times[1] - times[0]);
    }
}

#[tokio::test]
async fn a_pause_beyond_the_configured_one_is_cut_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Server::start(|_| Reply::Full(503, "retry-after: 86400\r\n".into(), "full".into())).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    log.close();
    let config = InfluxConfig { max_retry_after: Duration::from_millis(50), ..config(&server) };
    let sink = start(dir.path(), config, &log);
    sink.until("it is said", |f| {
        f.trouble.as_ref().is_some_and(|t| t.contains("86400 s") && t.contains("max_retry_after"))
    })
    .await;
    sink.until("it is asked again", |_| server.written().len() >= 3).await;
    server.writes(|_| STORED);
    assert_eq!(sink.end().await.stored, 4);
}
