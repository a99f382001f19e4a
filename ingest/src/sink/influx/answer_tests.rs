#![allow(clippy::unwrap_used)]

use std::time::UNIX_EPOCH;

use hyper::header::HeaderValue;
use proptest::prelude::*;

use super::*;

fn reply(status: u16, headers: &[(hyper::header::HeaderName, &str)], body: &[u8]) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let status = StatusCode::from_u16(status).unwrap();
    classify(Ok(Reply { status, headers: map, body: body.to_vec() }), UNIX_EPOCH)
}

fn lines(body: &str) -> Vec<(usize, String)> {
    match reply(400, &[], body.as_bytes()) {
        Answer::BadPoints(bad) => bad.lines.into_iter().map(|(n, it)| (n, it.words)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_status_has_the_class_of_what_is_done_next() {
    for (label, statuses) in [
        ("stored", &[204][..]),
        ("again", &[408, 425, 429, 500, 501, 502, 503, 504, 507, 599]),
        ("too_large", &[413]),
        ("bad_points", &[201, 400, 422]),
        ("uncompressed", &[415]),
        ("denied", &[401, 403]),
        ("missing", &[404]),
        ("stop", &[100, 200, 202, 205, 206, 300, 301, 302, 307, 308, 402, 405, 409, 410, 418]),
    ] {
        for status in statuses {
            assert_eq!(reply(*status, &[], b"words").label(), label, "{status}");
        }
    }
    let broken = |phase| classify(Err(Broken { phase, why: "gone".into() }), UNIX_EPOCH).label();
    assert_eq!(broken(Phase::Connecting), "again");
    assert_eq!(broken(Phase::Writing), "broke_off");
    assert_eq!(broken(Phase::Answering), "broke_off");
}

#[test]
fn a_servers_words_are_its_message_on_one_line_of_bounded_length() {
    let text = format!("a\nb\u{1b}[31m{}", "ü".repeat(10_000));
    let Answer::BadPoints(bad) = reply(400, &[], text.as_bytes()) else { unreachable!() };
    assert!(bad.words.starts_with("400 a b [31mü"));
    assert!(bad.words.chars().count() <= WORDS + 4);
    assert!(!bad.words.chars().any(char::is_control));
    let json = br#"{"code":"unauthorized","message":"unauthorized access"}"#;
    assert_eq!(reply(401, &[], json), Answer::Denied("401 unauthorized access".into()));
    let json = br#"{"error":"the write buffer is full"}"#;
    assert_eq!(reply(503, &[], json), Answer::Again("503 the write buffer is full".into(), None));
    assert_eq!(reply(404, &[], b""), Answer::Missing("404".into()));
}

#[test]
fn a_redirect_names_where_it_would_have_gone() {
    let Answer::Stop(what) = reply(308, &[(LOCATION, "https://h/x")], b"") else { unreachable!() };
    assert!(what.contains("https://h/x"), "{what}");
}

#[test]
fn lines_that_a_server_names_are_found_in_every_dialect() {
    // InfluxDB 3.
    let body = r#"{"error":"partial write of line protocol occurred","data":[
        {"original_line":"a","line_number":2,"error_message":"No fields were provided"},
        {"original_line":"b","line_number":5,"error_message":"invalid column type"}]}"#;
    let expected =
        [(1, "No fields were provided".to_owned()), (4, "invalid column type".to_owned())];
    assert_eq!(lines(body), expected);
    let body = r#"{"error":"parsing failed for write_lp endpoint",
        "data":{"original_line":"a","line_number":3,"error_message":"e"}}"#;
    assert_eq!(lines(body), [(2, "e".to_owned())]);
    let Answer::BadPoints(bad) = reply(400, &[], body.as_bytes()) else { unreachable!() };
    assert_eq!(bad.lines[&2].repeated, "a");
    // InfluxDB Cloud and Clustered.
    let body = r#"{"code":"invalid","line":2,"message":"failed to parse line protocol: errors encountered on line(s):\nerror parsing line 2 (1-based): Invalid measurement was provided\nerror parsing line 4 (1-based): Unable to parse timestamp value"}"#;
    assert_eq!(lines(body).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
    assert!(lines(body)[1].1.contains("Unable to parse timestamp"));
    // QuestDB, whose words are not always JSON.
    let body = "{\"code\":\"invalid\",\"message\":\"failed to parse line protocol:errors encountered on line(s):\nerror in line 7: table: parking, column: b; cast error\",\"line\":7}";
    assert_eq!(lines(body)[0].0, 6);
    // InfluxDB 2 names none here.
    let body = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: input field \"a\" on measurement \"b\" is type float, already exists as type integer dropped=3"}"#;
    assert_eq!(lines(body), []);
    for none in ["", "{}", "[]", "null", r#"{"data":[{"line_number":0},{"line_number":-1}]}"#] {
        assert_eq!(lines(none), [], "{none}");
    }
}

#[test]
fn a_pause_is_read_in_seconds_and_as_a_date_by_the_servers_clock() {
    let after = |headers: &[_]| match reply(503, headers, b"") {
        Answer::Again(_, after) => after.map(|pause| pause.as_secs()),
        other => panic!("{other:?}"),
    };
    assert_eq!(after(&[]), None);
    assert_eq!(after(&[(RETRY_AFTER, "7")]), Some(7));
    assert_eq!(after(&[(RETRY_AFTER, "0")]), Some(0));
    assert_eq!(after(&[(RETRY_AFTER, "99999999999999999999999")]), Some(u64::MAX));
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let server = "Sun, 06 Nov 1994 08:49:07 GMT";
    assert_eq!(after(&[(RETRY_AFTER, date), (DATE, server)]), Some(30));
    assert_eq!(after(&[(RETRY_AFTER, server), (DATE, date)]), Some(0), "past already");
    // Without the server's clock, by ours, which stands at the epoch here.
    assert_eq!(after(&[(RETRY_AFTER, date)]), Some(784_111_777));
    for nonsense in ["", "-3", "1.5", "soon", "1e3"] {
        assert_eq!(after(&[(RETRY_AFTER, nonsense)]), None, "{nonsense}");
    }
}

proptest! {
    #[test]
    fn any_answer_has_a_class_and_its_words_are_bounded(
        status in 100_u16..=999,
        retry in proptest::collection::vec(any::<u8>(), 0..40),
        date in proptest::collection::vec(any::<u8>(), 0..40),
        body in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in [(RETRY_AFTER, &retry), (DATE, &date), (LOCATION, &retry)] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        }
        let status = StatusCode::from_u16(status).unwrap();
        check(classify(Ok(Reply { status, headers, body }), UNIX_EPOCH))?;
    }

    #[test]
    fn answers_that_look_like_some_servers_are_read_within_bounds(
        numbers in proptest::collection::vec(any::<i64>(), 0..1500),
        prefix in "(error in |error parsing |)line ",
        words in "\\PC{0,400}",
        shape in 0..4_u8,
    ) {
        let body = match shape {
            0 => serde_json::json!({ "error": words, "data": numbers.iter().map(|n|
                serde_json::json!({ "line_number": n, "error_message": words })).collect::<Vec<_>>() }),
            1 => serde_json::json!({ "message": words, "line": numbers.first() }),
            2 => serde_json::json!({ "data": { "line_number": numbers.first() } }),
            _ => numbers.iter().map(|n| format!("{prefix}{n}: {words}\n")).collect::<String>().into(),
        };
        let body = match body {
            serde_json::Value::String(text) => text,
            json => json.to_string(),
        };
        check(reply(422, &[], body.as_bytes()))?;
    }
}

fn check(answer: Answer) -> Result<(), TestCaseError> {
    let bound = |words: &str| words.chars().count() <= 2 * WORDS + 60;
    match answer {
        Answer::Stored => {}
        Answer::BadPoints(bad) => {
            prop_assert!(bound(&bad.words) && bad.lines.len() <= LINES);
            prop_assert!(bad.lines.values().all(|it| bound(&it.words)));
        }
        Answer::Again(words, _)
        | Answer::BrokeOff(words)
        | Answer::TooLarge(words)
        | Answer::Uncompressed(words)
        | Answer::Denied(words)
        | Answer::Missing(words)
        | Answer::Stop(words) => prop_assert!(bound(&words)),
    }
    Ok(())
}
