#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use loushan_schemas::topic::Channel;

use super::*;
use crate::fault::{Fault, FaultRates};
use crate::options::FleetOptions;
use crate::station::{Meant, Setting, Station};
use crate::trace::TraceWriter;
use crate::{fleet, publisher};

/// A fleet's first batches with their stations and topics, which are recorded as they are cut.
fn recorded(path: &Path, hostile: bool) -> Vec<(String, Batch)> {
    let fault = |text: &str, of| crate::fault::Chance::parse(of, text).unwrap();
    let mut options = FleetOptions { stations: 3, rate: Some(60), ..FleetOptions::new("mqtt://h") };
    options.start = Some(1_790_000_000);
    options.faults = FaultRates::NONE;
    if hostile {
        for of in Fault::PAYLOAD {
            options.faults.set(of, fault("10%", of));
        }
    }
    let records = fleet::stations(5, 3).unwrap();
    let setting = Setting {
        seed: 5,
        start: options.start_ms(0),
        rhythm: options.rhythm(),
        traffic: options.traffic,
        cut: options.cut(),
        faults: options.faults,
        speed: 1,
        device_faults: options.device_faults,
    };
    let mut writer = TraceWriter::begin(path, 0).unwrap();
    let mut all = Vec::new();
    for plan in fleet::plan(5, &records, 20) {
        let mut station = Station::new(plan, setting);
        for _ in 0..60 {
            let batch = station.next_batch();
            all.push((publisher::topic(&station, batch.channel), batch));
        }
    }
    all.sort_by_key(|(_, batch)| batch.due);
    for (topic, batch) in &all {
        let at_us = (batch.due - setting.start).unsigned_abs() * 1000;
        writer.message(at_us, topic, Qos::AtLeastOnce, false, &batch.payload).unwrap();
    }
    // A broker's own: whoever plays may not publish there.
    for own in ["nb1/alarms/xinpu/bs0001/station/station_offline", "$SYS/broker/uptime"] {
        writer.message(u64::from(u32::MAX), own, Qos::AtLeastOnce, true, b"x").unwrap();
    }
    writer.message(u64::from(u32::MAX), "plans/today", Qos::AtMostOnce, true, b"x").unwrap();
    writer.flush().unwrap();
    all
}

fn played(options: &TraceOptions) -> Vec<(String, Batch)> {
    let tapes = tapes(options, Share::WHOLE, Qos::ExactlyOnce, 1_790_000_000_000).unwrap();
    let mut all = Vec::new();
    for mut tape in tapes {
        while let Some(batch) = tape.next_batch() {
            let topic = String::from_utf8(batch.topic.as_ref().unwrap().to_vec()).unwrap();
            all.push((topic, batch));
        }
    }
    all.sort_by_key(|(_, batch)| batch.due);
    all
}

fn by_payload(batches: &[(String, Batch)]) -> BTreeMap<Vec<u8>, (String, Vec<Meant>)> {
    let of = |(topic, batch): &(String, Batch)| {
        (batch.payload.to_vec(), (topic.clone(), batch.meant.to_vec()))
    };
    batches.iter().map(of).collect()
}

#[test]
fn a_trace_played_as_it_is_means_what_its_stations_meant() {
    for hostile in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let recorded = recorded(&path, hostile);
        let options = TraceOptions { path, speed: 2.0, map_identities: None };
        let mut all = played(&options);
        let (topic, other) = all.pop().unwrap();
        assert_eq!(
            (topic.as_str(), &other.payload[..], other.retain),
            ("plans/today", &b"x"[..], true)
        );
        assert_eq!((other.qos, other.meant.len()), (Some(Qos::AtMostOnce), 0));
        assert_eq!(by_payload(&all), by_payload(&recorded));
        let first = recorded[0].1.due;
        for ((_, played), (_, recorded)) in all.iter().zip(&recorded) {
            assert!(
                (played.due - first - (recorded.due - first) / 2).abs() <= first / 1000,
                "half the time"
            );
            assert_eq!(played.qos, Some(Qos::ExactlyOnce));
        }
    }
}

#[test]
fn mapped_identities_are_others_and_the_same_for_the_same_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let recorded = recorded(&path, true);
    let with =
        |map_identities| played(&TraceOptions { path: path.clone(), speed: 1.0, map_identities });
    let known = |batches: &[(String, Batch)]| -> BTreeSet<(u64, u32, u64)> {
        let readings = batches.iter().flat_map(|(_, batch)| batch.meant.iter());
        readings.filter(|m| m.imei != 0).map(|m| (m.imei, m.boot_epoch, m.seq)).collect()
    };
    let (one, again, other) = (with(Some(1)), with(Some(1)), with(Some(2)));
    assert_eq!(by_payload(&one), by_payload(&again));
    let sets = [known(&recorded), known(&one), known(&other)];
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert!(sets[a].is_disjoint(&sets[b]) && sets[a].len() == sets[b].len());
    }
    let sessions = |batches: &[(String, Batch)]| -> BTreeSet<u32> {
        batches.iter().filter(|(_, b)| !b.meant.is_empty()).map(|(_, b)| b.session).collect()
    };
    assert!(sessions(&one).is_disjoint(&sessions(&other)));
    assert!(one.iter().filter(|(t, _)| t.starts_with("nb1/")).all(|(t, _)| t.contains("-1/")));
    // Good ones stay good, bad ones bad.
    let good =
        |batches: &[(String, Batch)]| batches.iter().filter(|(_, b)| !b.meant.is_empty()).count();
    assert_eq!(good(&one), good(&recorded));
    assert!(one.iter().all(|(_, batch)| batch.channel != Channel::Command));
    assert!(
        one.iter().all(|(topic, _)| !topic.starts_with("nb1/alarms") && !topic.starts_with('$'))
    );
}
