//! Questions to the store, over HTTP: formats, pages, errors before and within an answer.

use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use axum::body::Bytes;
use loushan_schemas::reading::Water;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use tokio::time::{Duration, Instant};

use super::*;
use crate::io::sim::SimIo;
use crate::sink::embedded::tests::support::{DAY, imei, row as plain, store_of};

const HOUR: i64 = 3_600_000;

fn meter(device: u64, seq: u64, at_ms: i64, total: i64) -> Row {
    let mut row = plain(Kind::Water, device, seq, at_ms);
    row.reading.body = Body::Water(Water {
        total_l: Some(total),
        flow_l_h: (seq > 1).then_some(10.5),
        ..Water::default()
    });
    row
}

/// Two meters with three readings each, the last ones in memory, and a lamp.
async fn small() -> Server {
    let server = Server::start().await;
    let rows =
        |seq: u64, at: i64| (1..3).map(|n| meter(n, seq, DAY + at, 100 * at / HOUR)).collect();
    let mut last: Vec<Row> = rows(3, 2 * HOUR);
    last.push(plain(Kind::StreetLight, 9, 1, DAY + HOUR));
    let store = store_of(&SimIo::new(), vec![rows(1, 0), rows(2, HOUR), last]);
    server.fake.store.set(store).unwrap();
    server
}

impl Server {
    async fn raw(&self, path: &str) -> (u16, String, Vec<u8>) {
        let answer = reqwest::get(self.url(path)).await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), kind, answer.bytes().await.unwrap().to_vec())
    }

    async fn text(&self, path: &str) -> String {
        let (status, _, body) = self.raw(path).await;
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

#[tokio::test]
async fn answers_in_json_and_csv_are_pinned() {
    let server = small().await;
    let figures = "/api/v1/aggregate?kind=water&field=total_l&fn=count,max,increase,rate&per=1h\
                   &every=1h&by=device&from=2026-11-24T00:00:00Z";
    assert_eq!(
        server.text(&format!("{figures}&format=csv")).await,
        "time,imei,count,max,increase,rate\n\
         2026-11-24T00:00:00.000Z,860000000000017,1,0.0,100.0,100.0\n\
         2026-11-24T01:00:00.000Z,860000000000017,1,100.0,100.0,100.0\n\
         2026-11-24T02:00:00.000Z,860000000000017,1,200.0,,\n\
         2026-11-24T00:00:00.000Z,860000000000025,1,0.0,100.0,100.0\n\
         2026-11-24T01:00:00.000Z,860000000000025,1,100.0,100.0,100.0\n\
         2026-11-24T02:00:00.000Z,860000000000025,1,200.0,,\n"
    );
    let mean = "/api/v1/aggregate?field=flow_l_h&from=2026-11-24T00:00:00Z&to=-1h&fn=mean,p95";
    assert_eq!(
        server.text(mean).await,
        "{\"as_of_lsn\":3,\"every_ms\":null,\"field\":\"flow_l_h\",\"from_ms\":1795478400000,\
         \"min_quality\":2,\"percentiles_are_approximate\":false,\"to_ms\":1795561200000,\
         \"figures\":[\n{\"mean\":10.5,\"p95\":10.5}]}\n"
    );
    let device = imei(1);
    assert_eq!(
        server.text(&format!("/api/v1/devices/{device}/gaps?longer_than=2h&format=csv")).await,
        "begin,end,length_ms,still_silent\n2026-11-24T02:00:00.000Z,,79200000,true\n"
    );
    assert_eq!(
        server.text(&format!("/api/v1/devices/{device}/seen?format=ndjson")).await,
        "{\"first_seen_ms\":1795478400000,\"last_seen_ms\":1795485600000}\n"
    );
    let fields =
        format!("/api/v1/devices/{device}/history?fields=total_l&format=ndjson&order=newest");
    assert_eq!(
        server.text(&format!("{fields}&limit=2")).await,
        "{\"imei\":\"860000000000017\",\"station\":\"bs0001\",\"effective_ms\":1795485600000,\
         \"quality\":4,\"total_l\":200}\n\
         {\"imei\":\"860000000000017\",\"station\":\"bs0001\",\"effective_ms\":1795482000000,\
         \"quality\":4,\"total_l\":100}\n"
    );
}

#[tokio::test]
async fn a_history_comes_page_by_page_and_says_what_it_is_about() {
    let server = small().await;
    let whole = server.get("/api/v1/history?kind=water").await.1;
    assert_eq!(whole["readings"].as_array().unwrap().len(), 6);
    assert_eq!((&whole["limit_reached"], &whole["next_page"]), (&json!(false), &Value::Null));
    let mut readings = Vec::new();
    let mut page = String::new();
    for pages in 1.. {
        let body = server.get(&format!("/api/v1/history?kind=water&limit=4{page}")).await.1;
        readings.extend(body["readings"].as_array().unwrap().clone());
        let Some(next) = body["next_page"].as_str() else {
            assert_eq!(pages, 2);
            break;
        };
        assert_eq!(body["limit_reached"], json!(true));
        page = format!("&page={next}");
    }
    assert_eq!(&readings, whole["readings"].as_array().unwrap());
    // A page of another question.
    let (status, body) = server.get(&format!("/api/v1/history?kind=smoke&limit=4{page}")).await;
    assert_eq!((status, body["parameter"].as_str()), (400, Some("page")));
}

#[tokio::test]
async fn the_same_rows_come_in_every_format_by_name_or_by_accept() {
    let server = small().await;
    let read = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    for path in
        ["/api/v1/export?kind=water", "/api/v1/latest?kind=water", "/api/v1/history?kind=water"]
    {
        let rows = if path.contains("latest") { 2 } else { 6 };
        let (_, kind, body) = server.raw(&format!("{path}&format=ndjson")).await;
        assert_eq!(kind, "application/x-ndjson");
        let lines = String::from_utf8(body).unwrap();
        assert_eq!(lines.lines().filter(|line| Row::from_json(line).is_ok()).count(), rows);
        let (_, kind, body) = server.raw(&format!("{path}&format=csv")).await;
        assert_eq!(kind, "text/csv; charset=utf-8");
        let csv = csv::Reader::from_reader(&*body).into_records();
        assert_eq!(csv.filter(|row| row.as_ref().unwrap().len() > 30).count(), rows);
        let (_, kind, body) = server.raw(&format!("{path}&format=arrow")).await;
        assert_eq!(kind, "application/vnd.apache.arrow.stream");
        let stream = StreamReader::try_new(&*body, None).unwrap();
        let arrow: Vec<RecordBatch> = stream.map(Result::unwrap).collect();
        assert_eq!(read(arrow.clone()), rows);
        let (_, kind, body) = server.raw(&format!("{path}&format=parquet")).await;
        assert_eq!(kind, "application/vnd.apache.parquet");
        let reader = ParquetRecordBatchReader::try_new(Bytes::from(body), 1024).unwrap();
        assert_eq!(read(reader.map(Result::unwrap).collect()), rows);
        let asked = reqwest::Client::new().get(server.url(path));
        let answer = asked.header("accept", "text/csv, */*").send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
    }
    // Nothing is an answer, too.
    for format in ["json", "ndjson", "csv", "arrow", "parquet"] {
        let path = format!("/api/v1/history?kind=smoke&format={format}");
        assert_eq!(server.raw(&path).await.0, 200, "{format}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_said_by_parameter_value_and_remedy() {
    let server = small().await;
    let device = imei(1);
    for (path, parameter, value) in [
        (format!("/api/v1/devices/{device}/history?limit=0"), "limit", Some("0")),
        (
            format!("/api/v1/devices/{device}/history?device={device}"),
            "device",
            Some(&*device.to_string()),
        ),
        ("/api/v1/devices/123/history".to_owned(), "device", Some("123")),
        ("/api/v1/history".to_owned(), "device", None),
        ("/api/v1/history?kind=water&order=sideways".to_owned(), "order", Some("sideways")),
        ("/api/v1/history?kind=water&page=x".to_owned(), "page", Some("x")),
        ("/api/v1/history?kind=water&fields=colour".to_owned(), "fields", Some("colour")),
        ("/api/v1/history?station=bs1&format=csv".to_owned(), "kind", None),
        ("/api/v1/history?kind=water&format=xml".to_owned(), "format", Some("xml")),
        ("/api/v1/aggregate".to_owned(), "field", None),
        ("/api/v1/aggregate?field=colour".to_owned(), "field", Some("colour")),
        ("/api/v1/aggregate?field=total_l&kind=smoke".to_owned(), "field", Some("total_l")),
        ("/api/v1/aggregate?field=flow_l_h&fn=rate".to_owned(), "fn", Some("rate")),
        ("/api/v1/aggregate?field=state&fn=mean".to_owned(), "fn", Some("mean")),
        ("/api/v1/aggregate?field=flow_l_h&every=1".to_owned(), "every", Some("1")),
        ("/api/v1/aggregate?field=flow_l_h&zone=CST".to_owned(), "zone", Some("CST")),
        ("/api/v1/aggregate?field=flow_l_h&by=colour".to_owned(), "by", Some("colour")),
        ("/api/v1/aggregate?field=flow_l_h&min_quality=5".to_owned(), "min_quality", Some("5")),
        ("/api/v1/seen".to_owned(), "device", None),
        (format!("/api/v1/devices/{device}/gaps?factor=0"), "factor", Some("0")),
        (format!("/api/v1/devices/{device}/gaps?factor=2&longer_than=1h"), "factor", Some("2")),
        ("/api/v1/export".to_owned(), "kind", None),
        ("/api/v1/export?kind=water&format=json".to_owned(), "format", Some("json")),
        ("/api/v1/export?kind=water&colour=red".to_owned(), "colour", Some("red")),
    ] {
        let (status, body) = server.get(&path).await;
        assert_eq!((status, body["parameter"].as_str()), (400, Some(parameter)), "{path}");
        assert_eq!(body["value"].as_str(), value, "{path}");
        assert!(body["accepted"].is_string() && body["error"].is_string(), "{path}");
    }
    let unheard_of = format!("/api/v1/devices/{}/seen", imei(77));
    assert_eq!(server.get(&unheard_of).await.0, 404);
}

#[tokio::test]
async fn an_answer_that_needs_too_much_memory_is_refused_before_it_begins() {
    let server = Server::start_with(
        true,
        HttpLimits { query: QueryLimits { memory: 64 * 1024, ..LIMITS.query }, ..LIMITS },
    )
    .await;
    let store = store_of(&SimIo::new(), vec![(0..500).map(|n| meter(n, 2, DAY, 1)).collect()]);
    server.fake.store.set(store).unwrap();
    let (status, body) = server.get("/api/v1/aggregate?field=flow_l_h&by=device").await;
    assert_eq!(status, 413, "{body}");
    assert!(body["error"].as_str().unwrap().contains("query.memory"), "{body}");
    assert!(body["accepted"].as_str().unwrap().contains("coarser"), "{body}");
    assert_eq!(server.get("/api/v1/aggregate?field=flow_l_h&by=kind").await.0, 200);
}

#[tokio::test]
async fn damage_met_within_an_answer_breaks_it_off() {
    let io = SimIo::new();
    let many = |from: u64| (from..from + 3000).map(|n| meter(n, n, DAY, 1)).collect();
    let server = Server::start().await;
    server.fake.store.set(store_of(&io, vec![many(0), many(3000), Vec::new()])).unwrap();
    let path = Path::new("/data/store/kind=water/date=2026-11-24/0000000002.parquet");
    io.flip_bit(path, 100, 3).unwrap();
    for format in ["ndjson", "csv", "arrow"] {
        let path = format!("/api/v1/export?kind=water&format={format}");
        let answer = reqwest::get(server.url(&path)).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "the first file is whole");
        assert!(answer.bytes().await.is_err(), "{format}: a part came as the whole");
    }
    // Before the first bytes it is an answer of its own.
    assert_eq!(server.get("/api/v1/aggregate?field=total_l").await.0, 500);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_question() {
    let server = Server::start().await;
    let lists = (0..20).map(|list| (0..4000).map(|n| meter(n, list, DAY, 1)).collect()).collect();
    server.fake.store.set(store_of(&SimIo::new(), lists)).unwrap();
    let url = server.url("/api/v1/export?kind=water");
    let mut first = reqwest::get(&url).await.unwrap();
    assert!(first.chunk().await.unwrap().is_some());
    assert_eq!(reqwest::get(&url).await.unwrap().status().as_u16(), 503, "one at a time");
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(30);
    while reqwest::get(&url).await.unwrap().status().as_u16() != 200 {
        assert!(Instant::now() < deadline, "its place was not given back");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_place() {
    let query = QueryLimits { timeout: Duration::from_millis(300), ..LIMITS.query };
    let server = Server::start_with(true, HttpLimits { query, ..LIMITS }).await;
    let lists = (0..20).map(|list| (0..4000).map(|n| meter(n, list, DAY, 1)).collect()).collect();
    server.fake.store.set(store_of(&SimIo::new(), lists)).unwrap();
    let url = server.url("/api/v1/export?kind=water");
    let mut first = reqwest::get(&url).await.unwrap();
    assert!(first.chunk().await.unwrap().is_some());
    assert_eq!(reqwest::get(&url).await.unwrap().status().as_u16(), 503, "one at a time");
    let deadline = Instant::now() + Duration::from_secs(30);
    while reqwest::get(&url).await.unwrap().status().as_u16() != 200 {
        assert!(Instant::now() < deadline, "its place was not given back");
    }
    // What was sent before is not taken for all.
    while let Ok(chunk) = first.chunk().await {
        assert!(chunk.is_some(), "a part came as the whole");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_say_that_there_are_more_is_refused_unless_a_limit_was_named() {
    let server = Server::start().await;
    let rows = (0..1001).map(|n| meter(n, 1, DAY, 1)).collect();
    server.fake.store.set(store_of(&SimIo::new(), vec![rows])).unwrap();
    for format in ["csv", "ndjson", "arrow", "parquet"] {
        let path = format!("/api/v1/history?kind=water&format={format}");
        let (status, body) = server.get(&path).await;
        assert_eq!(status, 400, "{body}");
        assert!(body["error"].as_str().unwrap().contains("more than 1000 readings"), "{body}");
        assert_eq!(server.raw(&format!("{path}&limit=1000")).await.0, 200, "{format}");
    }
    let (_, body) = server.get("/api/v1/history?kind=water").await;
    assert!(body["next_page"].is_string(), "{body}");
}
