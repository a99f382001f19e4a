#![allow(clippy::unwrap_used)]

//! What is kept: through power losses, on disks in trouble, and damaged.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::book::Book;
use super::config::{AlarmConfig, WebhookConfig};
use super::db::AlarmError;
use super::engine::tests::{MINUTE, SECOND, Said, T0, alarm, batch, config, live, normal};
use super::model::{Acknowledged, AlarmEvent, Change};
use super::outbox::Outbox;
use super::shelf::Filter;
use super::{Alarm, Alarms, Severity};
use crate::clock::Clock;
use crate::io::Io;
use crate::io::sim::{Failure, Fault, Op, PowerLoss, SimIo};
use crate::pipeline::frame::DurableFrame;

const LOG: [u8; 16] = *b"sixteen byte id.";

fn open_with(io: &SimIo, config: AlarmConfig, log: [u8; 16]) -> Result<Book, AlarmError> {
    let io: Arc<dyn Io> = Arc::new(io.clone());
    let mut book =
        Book::open(io, Path::new("/data/alarms"), log, &Arc::new(config), Arc::default(), T0)?;
    // What is read is of the former life, for as long as these tests last.
    book.engine().begin_life(i64::MAX);
    Ok(book)
}

fn open(io: &SimIo) -> Book {
    open_with(io, config(), LOG).unwrap()
}

/// A detector that goes on and off, and others that go on.
fn history() -> Vec<Arc<DurableFrame>> {
    let said = |at: i64| {
        let body = if at % 3 == 1 { alarm() } else { normal() };
        Said { device: (at % 4) as u64, ..live(T0 + at * 20 * SECOND, at as u64, body) }
    };
    (0..40).map(|at| Arc::new(batch(at as u64 + 1, &[said(at)]))).collect()
}

fn all(book: &Book) -> Vec<Arc<Alarm>> {
    book.shelf().read().page(&Filter::default(), usize::MAX, None).alarms
}

#[test]
fn wherever_power_is_lost_the_same_alarms_come_out_once() {
    let history = history();
    let whole = SimIo::new();
    let mut book = open(&whole);
    book.apply(&history, 40);
    book.advance(T0 + 30 * MINUTE);
    book.commit().unwrap();
    let expected = all(&book);
    assert!(expected.len() > 5, "{}", expected.len());
    for seed in 0..24 {
        let mode = if seed % 2 == 0 { PowerLoss::ForgetAll } else { PowerLoss::RandomPart };
        let mut io = SimIo::new();
        let mut book = open(&io);
        // Events that somebody was told of.
        let mut told = Vec::new();
        let (mut at, mut dice) = (0, seed + 1_u64);
        while at < history.len() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005_u64) % 1_000_003 + 1;
            let step = 1 + (dice % 4) as usize;
            let mut live = book.live().subscribe();
            let end = (at + step).min(history.len());
            book.apply(&history[at..end], end as u64);
            if dice % 3 != 0 {
                // Cut short by what comes next, or not.
                if dice % 5 == 0 {
                    io.inject(Fault {
                        after: dice % 7,
                        ..Fault::next(Op::Write, Failure::Errno(5))
                    });
                }
                drop(book.commit());
            }
            while let Ok(event) = live.try_recv() {
                told.push(event);
            }
            at = end;
            if dice % 4 == 0 {
                drop(book);
                io = io.power_loss(dice, mode);
                book = open(&io);
                at = usize::try_from(book.cursor()).unwrap();
            }
        }
        io.clear_faults();
        let mut live = book.live().subscribe();
        book.advance(T0 + 30 * MINUTE);
        book.commit().unwrap();
        while let Ok(event) = live.try_recv() {
            told.push(event);
        }
        assert_eq!(all(&book), expected, "seed {seed}");
        let numbers: Vec<u64> = told.iter().map(|event| event.number).collect();
        let once: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, once, "seed {seed}: each is told once, live, and none is taken back");
    }
}

#[test]
fn alarms_wait_for_a_disk_in_trouble_and_are_told_once_when_it_is_well() {
    let io = SimIo::new();
    let mut book = open(&io);
    let mut live = book.live().subscribe();
    for failure in [Failure::Errno(28), Failure::SyncLosesPages, Failure::SyncKeepsPages] {
        let op = if matches!(failure, Failure::Errno(_)) { Op::Write } else { Op::Sync };
        let at = book.cursor() as i64;
        io.inject(Fault { times: 1000, ..Fault::next(op, failure) });
        let said = Said { device: at as u64, ..live_alarm(at) };
        book.apply(&[Arc::new(batch(at as u64 + 1, &[said]))], at as u64 + 1);
        assert!(book.commit().is_err() && book.commit().is_err());
        assert!(live.try_recv().is_err(), "what is not durable is told to nobody");
        assert_eq!(book.cursor(), at as u64);
        io.clear_faults();
        book.commit().unwrap();
        assert_eq!(book.cursor(), at as u64 + 1);
        assert_eq!(live.try_recv().unwrap().change, Change::Raised);
        assert!(live.try_recv().is_err());
    }
    let expected = all(&book);
    drop(book);
    let io = io.power_loss(7, PowerLoss::ForgetAll);
    assert_eq!(all(&open(&io)), expected);
}

fn live_alarm(at: i64) -> Said {
    live(T0 + at * MINUTE, 1, alarm())
}

#[test]
fn an_acknowledgement_is_latched_durable_and_the_first_ones() {
    let io = SimIo::new();
    let mut book = open(&io);
    book.apply(&[Arc::new(batch(1, &[live_alarm(0)]))], 1);
    book.commit().unwrap();
    let id = all(&book)[0].id.clone();
    let by = |name: &str| Acknowledged { by: name.to_owned(), at_ms: T0 + MINUTE, note: None };
    assert!(book.acknowledge("nothing", by("li")).is_err());
    io.inject(Fault { times: 1000, ..Fault::next(Op::Sync, Failure::Errno(5)) });
    assert!(book.acknowledge(&id, by("nobody")).is_err());
    io.clear_faults();
    book.commit().unwrap();
    assert_eq!(all(&book)[0].acknowledged, None, "it was refused, so it was not done");
    assert_eq!(book.acknowledge(&id, by("li")).unwrap().acknowledged, Some(by("li")));
    assert_eq!(book.acknowledge(&id, by("wang")).unwrap().acknowledged, Some(by("li")));
    drop(book);
    let io = io.power_loss(1, PowerLoss::ForgetAll);
    let mut book = open(&io);
    assert_eq!(all(&book)[0].acknowledged, Some(by("li")));
    assert!(all(&book)[0].is_shown());
    book.apply(&[Arc::new(batch(2, &[live(T0 + MINUTE, 2, normal())]))], 2);
    book.advance(T0 + 2 * MINUTE);
    book.commit().unwrap();
    assert!(!all(&book)[0].is_shown());
}

#[test]
fn what_is_over_is_kept_as_long_as_configured_and_what_lasts_for_ever() {
    let config = || AlarmConfig { history_count: 3, ..config() };
    let io = SimIo::new();
    let mut book = open_with(&io, config(), LOG).unwrap();
    for at in 0..10 {
        let at_ms = T0 + at * 2 * MINUTE;
        let lsn = at as u64 * 3;
        let lasting = Said { device: 100 + at as u64, ..live(at_ms, 1, alarm()) };
        let frames = [
            batch(lsn + 1, &[live(at_ms, lsn, alarm()), lasting]),
            batch(lsn + 2, &[live(at_ms + SECOND, lsn + 1, normal())]),
        ];
        book.apply(&frames.map(Arc::new), lsn + 2);
        book.advance(at_ms + MINUTE);
        book.commit().unwrap();
    }
    book.commit().unwrap();
    let cleared = |book: &Book| all(book).iter().filter(|it| it.cleared.is_some()).count();
    assert_eq!((all(&book).len(), cleared(&book)), (13, 3));
    drop(book);
    let book = open_with(&io.kill(), config(), LOG).unwrap();
    assert_eq!((all(&book).len(), cleared(&book)), (13, 3));
}

#[test]
fn a_damaged_file_or_one_of_another_log_keeps_the_alarms_from_opening_and_is_named() {
    let io = SimIo::new();
    let mut book = open(&io);
    book.apply(&history(), 40);
    book.commit().unwrap();
    drop(book);
    let error = open_with(&io, config(), *b"another log's id").unwrap_err().to_string();
    assert!(error.contains("alarms.redb") && error.contains("belongs to log"), "{error}");
    let path = Path::new("/data/alarms/alarms.redb");
    // The library's own magic number.
    io.flip_bit(path, 0, 0).unwrap();
    let error = open_with(&io, config(), LOG).unwrap_err();
    assert!(matches!(error, AlarmError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");
}

fn event(number: u64) -> Arc<AlarmEvent> {
    let mut book = open(&SimIo::new());
    let mut live = book.live().subscribe();
    book.apply(&[Arc::new(batch(1, &[live_alarm(0)]))], 1);
    book.commit().unwrap();
    let event = live.try_recv().unwrap();
    Arc::new(AlarmEvent { number, ..AlarmEvent::clone(&event) })
}

#[test]
fn a_dead_reader_costs_bounded_room_and_the_others_nothing() {
    let names = || -> [Arc<str>; 2] { ["dead".into(), "alive".into()] };
    let outbox = Outbox::new(16 << 10, names(), &Default::default(), Vec::new(), 0);
    let sample = event(0);
    for number in 1..=100 {
        outbox.push([Arc::new(AlarmEvent { number, ..AlarmEvent::clone(&sample) })]);
        assert_eq!(outbox.next("alive").unwrap().number, number);
        outbox.done("alive", number);
        assert!(outbox.bytes() <= 16 << 10);
    }
    let dead = outbox.backlog("dead");
    assert!(dead.events > 5 && dead.dropped > 50, "{dead:?}");
    assert_eq!(dead.events + dead.dropped, 100);
    assert_eq!(outbox.next("dead").unwrap().number, dead.dropped + 1);
    assert_eq!(outbox.backlog("alive").dropped, 0);
}

#[test]
fn the_json_on_disk_and_on_the_wire_is_this() {
    let json = event(3).to_json();
    let expected = json!({
        "event": 3, "key": "smoke-867770000000018-1-0/raised", "change": "raised",
        "alarm": {
            "id": "smoke-867770000000018-1-0", "number": 1, "rule": "smoke", "severity": "critical",
            "state": "open", "shown": true, "region": "xinpu", "station": "bs1",
            "imei": "867770000000018", "kind": "smoke", "project": null, "area": null,
            "why": "state ALARM", "lsn": 1, "raised_ms": T0, "effective_ms": T0, "late": false,
            "cleared_ms": null, "cleared_by": null, "cleared_lsn": null, "acknowledged_by": null,
            "acknowledged_ms": null, "note": null,
        },
    });
    assert_eq!(json, expected);
    let read = AlarmEvent::from_json(json.as_object().unwrap()).unwrap();
    assert_eq!(read, *event(3));
}

#[tokio::test]
async fn a_live_reader_that_is_too_slow_is_told_how_much_it_missed() {
    let config = AlarmConfig { live_events: 2, ..config() };
    let book = open_with(&SimIo::new(), config.clone(), LOG).unwrap();
    let (alarms, book) = Alarms::new(book, &config, Clock::manual(T0 * 1_000_000));
    let mut live = alarms.subscribe();
    for device in 0..5 {
        let said = Said { device, ..live_alarm(device as i64) };
        let mut book = book.lock();
        book.apply(&[Arc::new(batch(device + 1, &[said]))], device + 1);
        book.commit().unwrap();
    }
    let missed = live.recv().await.unwrap_err();
    assert!(matches!(missed, tokio::sync::broadcast::error::RecvError::Lagged(3)), "{missed}");
    assert_eq!(live.recv().await.unwrap().number, 4);
    assert_eq!(alarms.counts(None).critical, 5);
    let hook = WebhookConfig {
        name: "x".into(),
        url: String::new(),
        secret_file: "/nowhere".into(),
        severity: Severity::Major,
        ca_file: None,
        timeout: std::time::Duration::from_secs(1),
        max_backoff: std::time::Duration::from_secs(1),
    };
    let fault = super::webhook::check(&SimIo::new(), &hook).unwrap_err();
    assert!(fault.contains("secret_file /nowhere"), "{fault}");
}
