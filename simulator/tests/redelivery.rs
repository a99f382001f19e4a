//! What a station does when its connection breaks, seen by a server of the test's own.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loushan_schemas::topic::Channel;
use loushan_simulator::ledger::{LedgerReader, Record};
use loushan_simulator::options::MqttVersion;
use loushan_simulator::{Fleet, FleetOptions, FleetStats, Summary};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_128;

use support::read_packet;

/// A publish as it arrived.
#[derive(Debug, Clone, PartialEq)]
struct Publish {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
}

fn parse_publish(version: MqttVersion, first: u8, body: &[u8]) -> (u16, Publish) {
    assert_eq!(first & 0b110, 0b010, "telemetry goes at QoS 1");
    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let pkid = u16::from_be_bytes([body[topic_end], body[topic_end + 1]]);
    // Properties are never long here: one byte of length.
    let properties = match version {
        MqttVersion::V311 => 0,
        MqttVersion::V5 => 1 + usize::from(body[topic_end + 2]),
    };
    let publish = Publish {
        topic: String::from_utf8(body[2..topic_end].to_vec()).unwrap(),
        payload: body[topic_end + 2 + properties..].to_vec(),
        retain: first & 1 == 1,
    };
    (pkid, publish)
}

/// One connection: acknowledges what `acknowledge` says of the n-th publish, and hangs up after
/// `limit` of them. Ends with the client's DISCONNECT or end of stream.
fn serve(
    stream: &mut TcpStream,
    version: MqttVersion,
    limit: usize,
    acknowledge: impl Fn(usize) -> bool,
    seen: &mut Vec<(Publish, bool)>,
) -> bool {
    let (first, connect) = read_packet(stream).unwrap();
    assert_eq!(first >> 4, 1);
    assert_eq!(connect[6], if version == MqttVersion::V5 { 5 } else { 4 });
    assert_eq!(connect[7] & 0b10_0110, 0b10_0110, "a retained will, a clean session");
    let connack: &[u8] = match version {
        MqttVersion::V311 => &[0x20, 2, 0, 0],
        MqttVersion::V5 => &[0x20, 3, 0, 0, 0],
    };
    stream.write_all(connack).unwrap();
    let mut count = 0;
    while let Some((first, body)) = read_packet(stream) {
        match first >> 4 {
            3 => {
                let (pkid, publish) = parse_publish(version, first, &body);
                let good = acknowledge(count);
                seen.push((publish, good));
                if good {
                    let [high, low] = pkid.to_be_bytes();
                    stream.write_all(&[0x40, 2, high, low]).unwrap();
                }
                count += 1;
                if count == limit {
                    return false;
                }
            }
            // It listens for commands.
            8 => {
                let suback: &[u8] = match version {
                    MqttVersion::V311 => &[0x90, 3, body[0], body[1], 1],
                    MqttVersion::V5 => &[0x90, 4, body[0], body[1], 0, 1],
                };
                stream.write_all(suback).unwrap();
            }
            12 => stream.write_all(&[0xd0, 0]).unwrap(),
            14 => return true,
            other => panic!("packet of type {other}"),
        }
    }
    false
}

/// What arrived on each of the connections, with whether it was acknowledged.
fn run(version: MqttVersion, ledger: &Path) -> (Summary, Vec<Vec<(Publish, bool)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut connections = Vec::new();
        for number in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            // The birth and six batches, of which two are acknowledged; then the birth only; then
            // everything.
            let ended = match number {
                0 => serve(&mut stream, version, 7, |n| n < 3, &mut seen),
                1 => serve(&mut stream, version, 3, |n| n == 0, &mut seen),
                _ => serve(&mut stream, version, usize::MAX, |_| true, &mut seen),
            };
            connections.push(seen);
            if ended {
                break;
            }
        }
        connections
    });
    let options = FleetOptions {
        stations: 1,
        devices_per_station: 20,
        rate: Some(200),
        batch_readings: 5,
        window: 6,
        start: Some(1_790_000_000),
        speed: 1,
        duration: Some(Duration::from_secs(60)),
        ledger: Some(ledger.to_owned()),
        mqtt_version: version,
        ramp: Duration::ZERO,
        ..FleetOptions::new(format!("mqtt://127.0.0.1:{port}"))
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stop = CancellationToken::new();
    let stats = Arc::new(FleetStats::default());
    let summary = runtime.block_on(async {
        let fleet = Fleet::run(options, stop.clone(), Arc::clone(&stats));
        let enough = async {
            // Long enough for all three connections, and no longer.
            while stats.snapshot().counts.batches_acked < 40 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            summary = fleet => summary.unwrap(),
            () = enough => unreachable!(),
        }
    });
    (summary, server.join().unwrap())
}

fn check(version: MqttVersion) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let (summary, connections) = run(version, &ledger);
    assert_eq!(connections.len(), 3);
    let batches = |connection: usize| -> Vec<&(Publish, bool)> {
        connections[connection].iter().filter(|(p, _)| !p.topic.ends_with("/state")).collect()
    };
    for connection in &connections {
        let (birth, _) = &connection[0];
        assert!(birth.topic.ends_with("/bs0001/state") && birth.retain, "{birth:?}");
    }
    let unacknowledged: Vec<&Publish> =
        batches(0).into_iter().filter(|(_, good)| !good).map(|(p, _)| p).collect();
    assert_eq!(unacknowledged.len(), 4);
    // All that was not acknowledged comes first, in order, byte for byte, whatever came in between.
    let again: Vec<&Publish> = batches(1).into_iter().map(|(p, _)| p).collect();
    assert_eq!(again[..2], unacknowledged[..2]);
    let last: Vec<&Publish> = batches(2).into_iter().map(|(p, _)| p).collect();
    assert_eq!(last[..4], unacknowledged[..]);
    // What was acknowledged does not come again, but for repeats on purpose.
    let acknowledged: Vec<&Publish> =
        batches(0).into_iter().filter(|(_, good)| *good).map(|(p, _)| p).collect();
    assert_eq!(acknowledged.len(), 2);
    assert!(!last[..6].iter().any(|p| acknowledged.contains(p)));
    let (gone, _) = connections[2].last().unwrap();
    assert!(gone.topic.ends_with("/state") && gone.retain, "it says goodbye: {gone:?}");

    assert_eq!(summary.figures.counts.reconnects, 2);
    assert!(summary.figures.counts.redelivered >= 8, "{summary}");
    assert_eq!(summary.figures.counts.unacknowledged(), 0);

    // The ledger says the same as the server.
    let mut reader = LedgerReader::open(&ledger).unwrap();
    let (mut sent, mut acked, mut resent) = (HashMap::new(), 0, 0);
    while let Some(record) = reader.next_record().unwrap() {
        match record {
            Record::Batch(batch) => {
                assert_ne!(batch.channel, Channel::State);
                assert_eq!(sent.insert(batch.payload_digest, batch.id), None);
            }
            Record::Acknowledged { refused, .. } => {
                assert!(!refused);
                acked += 1;
            }
            Record::SentAgain { .. } => resent += 1,
            Record::Run(_) => {}
        }
    }
    let arrived: Vec<&Publish> = (0..3).flat_map(batches).map(|(publish, _)| publish).collect();
    for publish in &arrived {
        assert!(sent.contains_key(&xxh3_128(&publish.payload)), "not in the ledger");
    }
    assert_eq!(acked, summary.figures.counts.batches_acked);
    assert_eq!(
        resent,
        summary.figures.counts.redelivered + summary.figures.counts.repeated_on_purpose
    );
    assert_eq!(
        sent.len() as u64,
        summary.figures.counts.batches_sent - summary.figures.counts.repeated_on_purpose
    );
}

#[test]
fn unacknowledged_batches_come_again_byte_for_byte_after_every_lost_connection() {
    check(MqttVersion::V311);
}

#[test]
fn and_so_they_do_over_mqtt_5() {
    check(MqttVersion::V5);
}

#[test]
fn a_station_that_is_not_answered_makes_no_more_than_its_window() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let (mut stream, _) = listener.accept().unwrap();
        // Only the birth is answered.
        serve(&mut stream, MqttVersion::V311, usize::MAX, |n| n == 0, &mut seen);
        seen
    });
    let options = FleetOptions {
        stations: 1,
        rate: Some(500),
        batch_readings: 1,
        window: 7,
        // By its end hundreds of readings were due.
        duration: Some(Duration::from_secs(3)),
        drain: Duration::ZERO,
        ramp: Duration::ZERO,
        ..FleetOptions::new(format!("mqtt://127.0.0.1:{port}"))
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = Fleet::run(options, CancellationToken::new(), Arc::default());
    let summary = runtime.block_on(run).unwrap();
    assert_eq!(
        (summary.figures.counts.batches_sent, summary.figures.counts.unacknowledged()),
        (7, 7)
    );
    assert_eq!(server.join().unwrap().len(), 8, "the birth and the window");
}
