//! How load is measured and what faults look like from outside, by a server of the test's own.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loushan_schemas::limits::PAYLOAD_BYTES;
use loushan_schemas::pb;
use loushan_simulator::fault::{Chance, Fault, FaultRates};
use loushan_simulator::faults::DeviceFaultRates;
use loushan_simulator::options::Schedule;
use loushan_simulator::report::Report;
use loushan_simulator::{Fleet, FleetOptions, FleetStats};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use support::read_packet;

/// How long the server does nothing.
const STALL: Duration = Duration::from_millis(1200);

/// What came, and how connections ended.
#[derive(Debug, Default)]
struct Seen {
    /// Topic, payload, and when it was acknowledged, in ms since the server began.
    publishes: Mutex<Vec<(String, Vec<u8>, u64)>>,
    connections: AtomicU64,
    goodbyes: AtomicU64,
    hangups: AtomicU64,
    stalled: AtomicBool,
}

/// Acknowledges everything at once, but for one stall after `stall_after` publishes.
fn connection(mut stream: TcpStream, seen: &Seen, begun: Instant, stall_after: usize) {
    stream.set_nodelay(true).unwrap();
    seen.connections.fetch_add(1, Ordering::SeqCst);
    while let Some((first, body)) = read_packet(&mut stream) {
        let answer = match first >> 4 {
            1 => vec![0x20, 2, 0, 0],
            3 => {
                let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8(body[2..end].to_vec()).unwrap();
                let count = seen.publishes.lock().unwrap().len();
                if count == stall_after && !seen.stalled.swap(true, Ordering::SeqCst) {
                    // The fault that this server has: it is the time that is measured.
                    std::thread::sleep(STALL);
                }
                let at = u64::try_from(begun.elapsed().as_millis()).unwrap();
                seen.publishes.lock().unwrap().push((topic, body[end + 2..].to_vec(), at));
                vec![0x40, 2, body[end], body[end + 1]]
            }
            8 => vec![0x90, 3, body[0], body[1], 1],
            12 => vec![0xd0, 0],
            14 => {
                seen.goodbyes.fetch_add(1, Ordering::SeqCst);
                return;
            }
            other => panic!("packet of type {other}"),
        };
        // Who has left takes no answer, but what it said last is still to be read.
        drop(stream.write_all(&answer));
    }
    seen.hangups.fetch_add(1, Ordering::SeqCst);
}

fn server(stall_after: usize) -> (u16, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    let begun = Instant::now();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let seen = Arc::clone(&shared);
            std::thread::spawn(move || connection(stream.unwrap(), &seen, begun, stall_after));
        }
    });
    (port, seen)
}

fn run(options: FleetOptions) -> Report {
    let stats = Arc::new(FleetStats::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = Fleet::run(options, CancellationToken::new(), Arc::clone(&stats));
    let summary = runtime.block_on(run).unwrap();
    assert_eq!(summary.figures.counts.unacknowledged(), 0, "{summary}");
    Report::of(&summary, &stats, "", "open")
}

fn options(port: u16) -> FleetOptions {
    FleetOptions {
        stations: 1,
        devices_per_station: 60,
        rate: Some(200),
        batch_readings: 1,
        window: 2000,
        duration: Some(Duration::from_secs(8)),
        faults: FaultRates::NONE,
        device_faults: DeviceFaultRates::NONE,
        ramp: Duration::ZERO,
        ..FleetOptions::new(format!("mqtt://127.0.0.1:{port}"))
    }
}

/// What latencies must be, by the server's clock: when each batch was acknowledged after it was due. The
/// two clocks have no common zero, so the fastest is taken to have taken no time.
fn by_the_server(seen: &Seen) -> Vec<u64> {
    let publishes = seen.publishes.lock().unwrap();
    let batches = publishes.iter().filter(|(topic, ..)| topic.ends_with("/u/t"));
    let mut late: Vec<i64> = batches
        .map(|(_, payload, at)| {
            let batch = pb::UplinkBatch::decode(payload.as_slice()).unwrap();
            i64::try_from(*at).unwrap() - i64::try_from(batch.base_time_ms).unwrap()
        })
        .collect();
    late.sort_unstable();
    late.iter().map(|ms| u64::try_from(ms - late[0]).unwrap()).collect()
}

fn milliseconds(report: &Report, part: f64) -> u64 {
    u64::try_from(report.latency.quantile(part).as_millis()).unwrap()
}

#[test]
fn open_loop_latency_counts_all_that_a_stalled_server_made_wait() {
    let (port, seen) = server(300);
    let report = run(options(port));
    assert!(seen.stalled.load(Ordering::SeqCst), "{report}");
    let expected = by_the_server(&seen);
    let stalled = u64::try_from(STALL.as_millis()).unwrap();
    let waited = expected.iter().filter(|ms| **ms > stalled / 2).count();
    assert!(waited > 20, "a batch every few ms was due in the stall: {waited}");
    for part in [0.5, 0.9, 0.99, 1.0] {
        let place = ((expected.len() as f64 * part).ceil() as usize).clamp(1, expected.len()) - 1;
        let (by_server, measured) = (expected[place], milliseconds(&report, part));
        // 1 % of the histogram, and what a busy machine takes to wake somebody up.
        let tolerance = by_server / 50 + 60;
        assert!(
            measured.abs_diff(by_server) <= tolerance,
            "{part}: {measured} ms, by the server {by_server} ms\n{report}"
        );
    }
    assert!(milliseconds(&report, 1.0) >= stalled, "{report}");
}

#[test]
fn closed_loop_latency_counts_the_batches_that_were_sent_and_no_more() {
    // Early: on a busy machine such a schedule falls behind, and few batches come in the run's time.
    let (port, seen) = server(60);
    let report = run(FleetOptions { schedule: Schedule::Closed, window: 1, ..options(port) });
    assert!(seen.stalled.load(Ordering::SeqCst), "{report}");
    let stalled = u64::try_from(STALL.as_millis()).unwrap();
    // One batch was under way; the others of that time were never due.
    assert!(milliseconds(&report, 1.0) >= stalled, "{report}");
    let one_less = 1.0 - 1.5 / report.latency.count() as f64;
    assert!(milliseconds(&report, one_less) < stalled / 2, "{report}");
    assert!(report.waited_for_window > 0);
}

fn with(fault: Fault, chance: &str) -> FaultRates {
    let mut faults = FaultRates::NONE;
    faults.set(fault, Chance::parse(fault, chance).unwrap());
    faults
}

#[test]
fn faults_of_sessions_look_as_they_are_called_and_are_counted() {
    for fault in [Fault::Vanish, Fault::Disconnect, Fault::HalfOpen, Fault::Outage] {
        let chance = match fault {
            Fault::HalfOpen => "60/min for 1s",
            Fault::Outage => "60/min for 1s",
            _ => "60/min",
        };
        let (port, seen) = server(usize::MAX);
        let faults = with(fault, chance);
        let duration = Some(Duration::from_secs(6));
        let report = run(FleetOptions { faults, duration, stations: 4, ..options(port) });
        let count = report.faults[fault.as_str()];
        assert!(count >= 4, "{report}");
        let connections = seen.connections.load(Ordering::SeqCst);
        // An outage that has begun when the run ends needs no further connection.
        assert!((count..=count + 4).contains(&connections), "{connections}\n{report}");
        // The run ends when the last goodbye has left; it arrives a little later.
        let deadline = Instant::now() + Duration::from_secs(10);
        let ended = || {
            let ended = seen.goodbyes.load(Ordering::SeqCst) + seen.hangups.load(Ordering::SeqCst);
            ended == connections
        };
        while !ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let goodbyes = seen.goodbyes.load(Ordering::SeqCst);
        match fault {
            Fault::Disconnect => assert_eq!(goodbyes, count + 4, "{report}"),
            _ => assert!(goodbyes <= 4, "{goodbyes} {report}"),
        }
        assert_eq!(report.counts.reconnects, 0, "what is on purpose is no error: {report}");
        let publishes = seen.publishes.lock().unwrap();
        let replayed = publishes.iter().filter(|(topic, ..)| topic.ends_with("/u/h")).count();
        assert_eq!(replayed > 0, fault == Fault::Outage, "{report}");
    }
}

#[test]
fn spoiled_payloads_are_what_they_are_called_and_none_is_taken_for_a_good_one() {
    for fault in [
        Fault::Corrupt,
        Fault::Truncated,
        Fault::Oversized,
        Fault::NewerSchema,
        Fault::WrongStation,
    ] {
        let (port, seen) = server(usize::MAX);
        let faults = with(fault, "20%");
        let duration = Some(Duration::from_secs(4));
        let rate = Some(if fault == Fault::Oversized { 20 } else { 200 });
        let report = run(FleetOptions { faults, duration, rate, ..options(port) });
        let count = report.faults[fault.as_str()];
        let publishes = seen.publishes.lock().unwrap();
        let mut spoiled = 0;
        for (topic, payload, _) in publishes.iter().filter(|(topic, ..)| topic.ends_with("/u/t")) {
            let batch = pb::UplinkBatch::decode(payload.as_slice());
            spoiled += u64::from(match fault {
                Fault::Corrupt | Fault::Truncated => batch.is_err(),
                Fault::Oversized => payload.len() > PAYLOAD_BYTES,
                Fault::NewerSchema => batch.unwrap().schema_major != 1,
                _ => !topic.contains(&format!("/{}/", batch.unwrap().station)),
            });
        }
        assert!(count > 0, "{report}");
        assert_eq!(spoiled, count, "{report}");
    }
}
