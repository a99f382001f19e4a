#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use loushan_schemas::kind::Kind;
use loushan_schemas::pb;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Common, Reading, TimeSource, Times};
use prost::Message as _;

use super::*;
use crate::pipeline::frame::Reject;

fn registry() -> Registry {
    Registry::new(RegistryLimits::default())
}

fn frame(topic: &str, payload: Vec<u8>, lsn: u64) -> DurableFrame {
    DurableFrame {
        lsn,
        received: ReceiveTime::from_ns(i64::try_from(lsn).unwrap() * 1_000_000_000),
        topic: Arc::from(topic),
        payload: Bytes::from(payload),
        rows: Vec::new(),
        rejects: Vec::new(),
        duplicates: 0,
    }
}

fn row(device: u64, lsn: u64, effective_ms: i64) -> Row {
    let received = ReceiveTime::from_ns(i64::try_from(lsn).unwrap() * 1_000_000_000);
    let effective = DeviceTime::from_ms(effective_ms).unwrap();
    Row {
        lsn,
        region: Region::new("zunyi").unwrap(),
        station: StationId::new("bs1").unwrap(),
        session: 1,
        batch_seq: lsn,
        replay: false,
        reading: Reading {
            imei: Some(Imei::from_body(device)),
            boot_epoch: 0,
            seq: lsn,
            times: Times {
                measured: Some(effective),
                heard: None,
                received,
                effective,
                source: TimeSource::Measured,
            },
            common: Common::default(),
            body: Body::empty(Kind::Parking),
            quality: Quality::Accepted,
            reason: None,
        },
    }
}

fn state(session: u32, online: bool, lsn: u64) -> DurableFrame {
    let firmware = if online { "1.0" } else { "" }.to_owned();
    let state = pb::StationState { session, online, time_ms: 5, schema_major: 1, firmware };
    frame("nb1/zunyi/bs1/state", state.encode_to_vec(), lsn)
}

fn bs1(registry: &Registry) -> Station {
    registry.station(&StationId::new("bs1").unwrap()).unwrap()
}

#[test]
fn good_lines_are_taken_and_bad_ones_named_by_their_number() {
    let registry = registry();
    let text = "\u{feff}station,region,project,name,lat,lon,area\n\
                bs1,zunyi,parking,娄山关,27.9,106.8,\"Huichuan, north\"\n\
                BS2,zunyi,p,n,1,1,a\n\
                \n\
                bs3,zunyi,p,n,91,1,a\n\
                bs4,zunyi,p,n,1,1\n\
                bs1,zunyi,p,again,1,1,a\n\
                bs5,zunyi,water,n,-1.5,NaN,a\n\
                bs6,zunyi,water,n,-1.5,180,a\n";
    let loaded = registry.load(text.as_bytes());
    assert_eq!(loaded.taken, 2);
    let bad: Vec<String> = loaded.bad.iter().map(ToString::to_string).collect();
    let begins = [
        "line 3: station \"BS2\"",
        "line 5: lat \"91\"",
        "line 6: it has 6",
        "line 7: station bs1",
        "line 8: lon \"NaN\"",
    ];
    assert_eq!(bad.len(), begins.len(), "{bad:?}");
    for (bad, begin) in bad.iter().zip(begins) {
        assert!(bad.starts_with(begin), "{bad} / {begin}");
    }
    let site = bs1(&registry).site.unwrap();
    assert_eq!((&*site.name, &*site.area, site.lat), ("娄山关", "Huichuan, north", 27.9));
    assert_eq!(registry.counts().registered, 2);
}

#[test]
fn a_file_with_another_header_is_not_read_on() {
    let registry = registry();
    let loaded = registry.load(b"name,region\nbs1,zunyi\n");
    assert_eq!((loaded.taken, loaded.bad.len()), (0, 1));
    assert_eq!(loaded.bad[0].line, 1);
    assert_eq!(registry.load(b"\xff\xfe,,,,,,\n").bad.len(), 1);
}

#[test]
fn an_unknown_station_is_taken_in_unregistered_and_keeps_what_was_heard_once_registered() {
    let registry = registry();
    let mut heard = frame("nb1/zunyi/bs1/u/t", Vec::new(), 3);
    heard.rows = vec![row(1, 3, 10), row(2, 3, 10)];
    heard.rejects = vec![
        Reject { reason: RejectReason::BadImei, reading: Some(2) },
        Reject { reason: RejectReason::UnknownFields, reading: None },
    ];
    heard.duplicates = 4;
    registry.apply(&heard);
    registry.apply(&frame("nb1/zunyi/bs1/u/whatever", Vec::new(), 4));
    let station = bs1(&registry);
    assert_eq!(station.site, None);
    assert_eq!((station.readings, station.duplicates, station.rejected), (2, 4, 1));
    registry.load(b"station,region,project,name,lat,lon,area\nbs1,renhuai,p,n,1,1,a\n");
    let station = bs1(&registry);
    assert_eq!((station.region.as_str(), station.readings), ("renhuai", 2));
    registry.apply(&heard);
    assert_eq!(bs1(&registry).region.as_str(), "renhuai");
    let counts = RegistryCounts { stations: 1, registered: 1, online: 0, devices: 2 };
    assert_eq!(registry.counts(), counts);
}

#[test]
fn a_death_of_an_older_session_is_ignored() {
    let registry = registry();
    registry.apply(&state(1, true, 1));
    assert_eq!(bs1(&registry).online, Some(true));
    registry.apply(&state(2, true, 2));
    registry.apply(&state(1, false, 3));
    let station = bs1(&registry);
    assert_eq!((station.online, station.session), (Some(true), Some(2)));
    registry.apply(&state(2, false, 4));
    let station = bs1(&registry);
    assert_eq!((station.online, &*station.firmware), (Some(false), "1.0"));
    assert_eq!(registry.counts().online, 0);
}

#[test]
fn a_death_of_a_station_that_was_never_born_is_believed() {
    let registry = registry();
    registry.apply(&state(9, false, 1));
    assert_eq!(bs1(&registry).online, Some(false));
}

#[test]
fn the_latest_reading_moves_only_forward() {
    let registry = registry();
    for (lsn, effective) in [(1, 100), (2, 50), (3, 100), (4, 99)] {
        let mut frame = frame("nb1/zunyi/bs1/u/t", Vec::new(), lsn);
        frame.rows = vec![row(1, lsn, effective)];
        registry.apply(&frame);
    }
    assert_eq!(registry.latest(Imei::from_body(1)).unwrap().lsn, 3);
    assert_eq!(registry.latest(Imei::from_body(2)), None);
}

#[test]
fn over_the_bound_the_ones_silent_longest_go_and_registered_stations_stay() {
    let limits = RegistryLimits { stations: 10 * STATION_BYTES, devices: 20 * DEVICE_BYTES };
    let registry = Registry::new(limits);
    registry.load(b"station,region,project,name,lat,lon,area\ns0,zunyi,p,n,1,1,a\n");
    for lsn in 0..100 {
        let mut frame = frame(&format!("nb1/zunyi/s{lsn}/u/t"), Vec::new(), lsn);
        frame.rows = vec![row(lsn + 1, lsn, 5)];
        registry.apply(&frame);
    }
    let counts = registry.counts();
    assert!((5..=10).contains(&counts.stations), "{counts:?}");
    assert!((10..=20).contains(&counts.devices), "{counts:?}");
    assert!(registry.station(&StationId::new("s0").unwrap()).is_some());
    assert!(registry.station(&StationId::new("s99").unwrap()).is_some());
    assert!(registry.latest(Imei::from_body(100)).is_some());
    assert_eq!(registry.latest(Imei::from_body(1)), None);
}

#[test]
fn what_is_exported_is_restored() {
    let before = registry();
    before.apply(&state(3, true, 1));
    let mut heard = frame("nb1/zunyi/bs1/u/t", Vec::new(), 2);
    let mut status = row(1, 2, 77);
    status.reading.imei = None;
    status.reading.body = Body::empty(Kind::StationStatus);
    heard.rows = vec![row(1, 2, 10), status];
    before.apply(&heard);
    let after = registry();
    before.export(|station| after.restore(station));
    before.export_latest(|row| after.restore_latest(&row));
    assert_eq!(after.stations(), before.stations());
    assert_eq!(after.latest(Imei::from_body(1)), before.latest(Imei::from_body(1)));
    assert!(after.latest(Imei::from_body(1)).is_some());
}
