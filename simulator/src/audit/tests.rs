#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use loushan_schemas::ids::{Region, StationId};
use loushan_schemas::pb;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Common, Reading, TimeSource, Times, Water};
use loushan_schemas::reject::RejectReason;
use loushan_schemas::row::Row;
use loushan_schemas::time::{DeviceTime, ReceiveTime};
use loushan_schemas::topic::Channel;
use prost::Message as _;
use tempfile::TempDir;

use super::*;
use crate::ledger::{BatchRecord, Ledger, LedgerReading, Meant, RunRecord};

const STATION: &str = "bs0001";
const SESSION: u32 = 7;

fn row(seq: u64, imei: bool) -> Row {
    let measured = DeviceTime::from_ms(1_790_000_000_000 + i64::try_from(seq).unwrap());
    Row {
        lsn: 3 + seq,
        region: Region::new("huichuan").unwrap(),
        station: StationId::new(STATION).unwrap(),
        session: SESSION,
        batch_seq: seq / 2,
        replay: false,
        reading: Reading {
            imei: imei.then(|| loushan_schemas::ids::Imei::from_body(86_000_000_000_001)),
            boot_epoch: 0,
            seq,
            times: Times {
                measured,
                heard: None,
                received: ReceiveTime::from_ns(1_790_000_000_500_000_000),
                effective: measured.unwrap(),
                source: TimeSource::Measured,
            },
            common: Common::default(),
            body: Body::Water(Water { total_l: Some(5), flow_l_h: Some(1.5), ..Water::default() }),
            quality: Quality::Accepted,
            reason: None,
        },
    }
}

fn meant(row: &Row) -> Meant {
    let r = &row.reading;
    Meant {
        imei: r.imei.map_or(0, loushan_schemas::ids::Imei::get),
        boot_epoch: r.boot_epoch,
        seq: r.seq,
        kind: r.kind().number(),
        measured_ms: r.times.measured.map(DeviceTime::ms),
        digest: r.digest(),
    }
}

/// A ledger with three batches of two readings of a device (0 to 5), the last one unacknowledged,
/// and one of the station's own (6).
fn ledger(expected: Option<RejectReason>) -> (TempDir, PathBuf, Vec<Row>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::open(&path, RunRecord { seed: 1, start_ms: 2, shape: 3 }).unwrap();
    let rows: Vec<Row> = (0..7).map(|seq| row(seq, seq < 6)).collect();
    for (seq, pair) in (0..).zip(rows.chunks(2)) {
        let id = ledger
            .batch(&BatchRecord {
                id: 0,
                station: STATION.into(),
                session: SESSION,
                seq,
                channel: if pair.len() == 2 { Channel::Telemetry } else { Channel::Status },
                payload_digest: u128::from(seq) + 0xabc,
                promised: true,
                due_ms: 1_790_000_000_000,
                sent_ms: 1_790_000_000_400,
                readings: pair.iter().map(|row| meant(row).into()).collect(),
            })
            .unwrap();
        if seq != 2 {
            ledger.acknowledged(id, 9, false).unwrap();
        }
    }
    if expected.is_some() {
        let id = ledger
            .batch(&BatchRecord {
                id: 0,
                station: STATION.into(),
                session: SESSION,
                seq: 9,
                channel: Channel::Telemetry,
                payload_digest: 0xbad,
                promised: true,
                due_ms: 1_790_000_000_000,
                sent_ms: 1_790_000_000_400,
                readings: vec![LedgerReading { expected, ..meant(&row(50, true)).into() }],
            })
            .unwrap();
        ledger.acknowledged(id, 9, false).unwrap();
    }
    drop(ledger);
    (folder, path, rows)
}

const SETTLED: &str = r#"{"durable_lsn":40,"received":7,"accepted":7,"duplicate":0,"rejected":0,
    "shed":0,"undecided":0,"residue":0,"sinks":[
    {"name":"embedded","cursor":2,"position":40,"pending":0,"residue":0,"trouble":null},
    {"name":"dead_letter","cursor":40,"position":41,"pending":0,"residue":0,"trouble":null}]}"#;

const KEEPS: &str = r#"{"keeps":{"bytes":null,"kinds":{"water":{"age":"30days","bytes":null}}},
    "stored":{},"removes":[]}"#;

/// A service that answers these, each conservation in turn and the last one for ever.
fn service(conservation: &[&str], rows: &[Row], letters: &[String]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let rows = rows.to_vec();
    let export = move |after: u64| {
        let mut lines = String::new();
        for row in rows.iter().filter(|row| row.lsn > after) {
            row.write_json(&mut lines);
            lines.push('\n');
        }
        lines
    };
    let letters: String = letters.iter().map(|letter| format!("{letter}\n")).collect();
    let mut answers: Vec<String> = conservation.iter().rev().map(ToString::to_string).collect();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap() == 0 {
                    break;
                }
                request.extend_from_slice(&byte);
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let body = match path {
                "/api/v1/conservation" if answers.len() > 1 => answers.pop().unwrap(),
                "/api/v1/conservation" => answers[0].clone(),
                "/api/v1/retention" => KEEPS.to_owned(),
                "/api/v1/dead-letters/export?after_lsn=0" => letters.clone(),
                other => match other.strip_prefix("/api/v1/readings/export?after_lsn=") {
                    Some(after) => export(after.parse().unwrap()),
                    None => panic!("asked for {other}"),
                },
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
        }
    });
    address
}

fn report(path: &Path, rows: &[Row], letters: &[String]) -> AuditReport {
    audit(path, &service(&[SETTLED], rows, letters)).unwrap()
}

#[test]
fn a_store_that_kept_everything_passes() {
    let (_folder, path, rows) = ledger(None);
    let report = report(&path, &rows, &[]);
    assert!(report.passed(), "{report}");
    assert_eq!((report.sent, report.acknowledged, report.batches), (7, 5, 4));
    assert_eq!((report.stored, report.stored_unacknowledged), (5, 2));
    assert_eq!(report.differences, Vec::<String>::new());
}

#[test]
fn an_unacknowledged_reading_may_be_missing_and_an_acknowledged_one_may_not() {
    let (_folder, path, rows) = ledger(None);
    let without = |seq: u64| -> Vec<Row> {
        rows.iter().filter(|row| row.reading.seq != seq).cloned().collect()
    };
    let fine = report(&path, &without(5), &[]);
    assert!(fine.passed(), "{fine}");
    assert_eq!((fine.stored_unacknowledged, fine.unacknowledged), (1, 1));
    for seq in [0, 6] {
        let bad = report(&path, &without(seq), &[]);
        assert!(!bad.passed());
        assert_eq!((bad.missing, bad.stored), (1, 4));
        assert!(bad.differences[0].starts_with("missing: water of imei"), "{bad}");
    }
}

#[test]
fn what_was_sent_at_qos_0_may_be_missing_and_is_never_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::open(&path, RunRecord { seed: 1, start_ms: 2, shape: 3 }).unwrap();
    let rows: Vec<Row> = (0..2).map(|seq| row(seq, true)).collect();
    ledger
        .batch(&BatchRecord {
            id: 0,
            station: STATION.into(),
            session: SESSION,
            seq: 0,
            channel: Channel::Telemetry,
            payload_digest: 0xabc,
            promised: false,
            due_ms: 1_790_000_000_000,
            sent_ms: 1_790_000_000_400,
            readings: rows.iter().map(|row| meant(row).into()).collect(),
        })
        .unwrap();
    drop(ledger);
    let fine = report(&path, &rows[..1], &[]);
    assert!(fine.passed(), "{fine}");
    assert_eq!((fine.unpromised_stored, fine.unpromised_absent, fine.unacknowledged), (1, 1, 0));
    assert!(fine.to_string().contains("QoS 0, which promises nothing"), "{fine}");
    let none = report(&path, &[], &[]);
    assert!(!none.passed() && none.to_string().contains("nothing is shown"), "{none}");
    let doubled = report(&path, &[rows[0].clone(), Row { lsn: 39, ..rows[0].clone() }], &[]);
    assert!(!doubled.passed() && doubled.duplicate == 1, "{doubled}");
}

#[test]
fn a_row_too_many_is_a_duplicate() {
    let (_folder, path, mut rows) = ledger(None);
    rows.push(Row { lsn: 39, ..rows[1].clone() });
    let bad = report(&path, &rows, &[]);
    assert!(!bad.passed());
    assert_eq!((bad.duplicate, bad.altered, bad.missing), (1, 0, 0));
    assert!(bad.differences[0].contains("\"lsn\":39"), "{bad}");
}

#[test]
fn a_changed_value_time_or_kind_is_an_alteration() {
    let (_folder, path, rows) = ledger(None);
    let changes: [fn(&mut Reading); 3] = [
        |r| r.body = Body::Water(Water { total_l: Some(6), ..Water::default() }),
        |r| r.times.measured = DeviceTime::from_ms(5),
        |r| r.body = Body::empty(loushan_schemas::kind::Kind::Smoke),
    ];
    for change in changes {
        let mut rows = rows.clone();
        change(&mut rows[2].reading);
        let bad = report(&path, &rows, &[]);
        assert!(!bad.passed());
        assert_eq!((bad.altered, bad.missing, bad.stored), (1, 0, 4), "{bad}");
    }
}

fn publish_letter(digest: u128, reason: &str) -> String {
    format!(
        r#"{{"lsn":9,"received_us":1,"topic":"nb1/a/b/u/t","reason":"{reason}","payload_digest":"{digest:032x}","payload":"","truncated":true}}"#
    )
}

fn reading_letter(row: &Row, reason: &str) -> String {
    let wire = pb::Reading {
        imei: meant(row).imei,
        boot_epoch: row.reading.boot_epoch,
        seq: u32::try_from(row.reading.seq).unwrap(),
        ..pb::Reading::default()
    };
    let hex: String = wire.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        r#"{{"lsn":9,"received_us":1,"topic":"nb1/a/b/u/t","reason":"{reason}","reading":0,"payload_digest":"00","payload":"{hex}","truncated":false}}"#
    )
}

#[test]
fn a_good_reading_in_the_dead_letters_is_unexpected() {
    let (_folder, path, rows) = ledger(None);
    let letter = reading_letter(&rows[0], "bad_imei");
    let bad = report(&path, &rows[1..], &[letter]);
    assert!(!bad.passed());
    assert_eq!((bad.dead_lettered_unexpected, bad.missing, bad.stored), (1, 0, 4), "{bad}");
    // And a whole batch of them.
    let bad = report(&path, &rows[2..], &[publish_letter(0xabc, "undecodable")]);
    assert_eq!((bad.dead_lettered_unexpected, bad.missing, bad.stored), (2, 0, 3), "{bad}");
    assert!(bad.differences[0].contains("(undecodable)"));
}

#[test]
fn a_reading_made_to_be_rejected_must_be_for_its_reason() {
    let (_folder, path, mut rows) = ledger(Some(RejectReason::WrongStation));
    let fine = report(&path, &rows, &[publish_letter(0xbad, "wrong_station")]);
    assert!(fine.passed(), "{fine}");
    assert_eq!(fine.dead_lettered_expected, 1);
    let other = report(&path, &rows, &[publish_letter(0xbad, "undecodable")]);
    assert_eq!((other.dead_lettered_unexpected, other.missing), (1, 0), "{other}");
    let nowhere = report(&path, &rows, &[]);
    assert_eq!(nowhere.missing, 1, "{nowhere}");
    rows.push(row(50, true));
    let stored = report(&path, &rows, &[]);
    assert_eq!(stored.dead_lettered_unexpected, 1, "{stored}");
    assert!(!other.passed() && !nowhere.passed() && !stored.passed());
}

#[test]
fn rows_and_letters_of_others_are_counted_and_do_not_matter() {
    let (_folder, path, mut rows) = ledger(None);
    rows.push(row(900, true));
    rows.push(Row { session: 8, ..rows[6].clone() });
    let fine = report(&path, &rows, &[publish_letter(1, "empty")]);
    assert!(fine.passed(), "{fine}");
    assert_eq!((fine.foreign_rows, fine.foreign_letters), (2, 1));
}

#[test]
fn it_waits_for_the_sinks_and_says_what_it_waits_for() {
    let (_folder, path, rows) = ledger(None);
    let lagging = SETTLED.replace("\"position\":40", "\"position\":39");
    let undecided = SETTLED.replace("\"undecided\":0", "\"undecided\":2");
    let target = service(&[&lagging, &undecided, &lagging, SETTLED], &rows, &[]);
    assert!(audit(&path, &target).unwrap().passed());
    let other = SETTLED.replace("dead_letter", "influx");
    let error = audit(&path, &service(&[&other], &rows, &[])).unwrap_err().to_string();
    assert!(error.contains("dead_letter"), "{error}");
    let error = audit(&path, "127.0.0.1:8080").unwrap_err().to_string();
    assert!(error.contains("http://127.0.0.1:8080"), "{error}");
}

#[test]
fn an_empty_ledger_shows_nothing_and_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    drop(Ledger::open(&path, RunRecord { seed: 1, start_ms: 2, shape: 3 }).unwrap());
    let report = report(&path, &[], &[]);
    assert!(!report.passed());
    assert!(report.to_string().contains("nothing was acknowledged"), "{report}");
}

#[path = "large_tests.rs"]
mod large;
