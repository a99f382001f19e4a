//! Digests and key hashes: kept in snapshots, ledgers and exports, so they never change.

use loushan_schemas::ids::Imei;
use loushan_schemas::model::Model;
use loushan_schemas::pb;
use loushan_schemas::quality::Quality;
use loushan_schemas::reading::{Body, Common, Reading, TimeSource, Times};
use loushan_schemas::station;
use loushan_schemas::time::{DeviceTime, ReceiveTime};

use crate::golden;

fn reading(common: Common, body: Body, imei: Option<u64>) -> Reading {
    let measured = DeviceTime::from_ms(1_767_225_598_000);
    Reading {
        imei: imei.map(|imei| Imei::new(imei).unwrap()),
        boot_epoch: 2,
        seq: 255,
        times: Times {
            measured,
            heard: DeviceTime::from_ms(1_767_225_601_500),
            received: ReceiveTime::from_ns(1_767_225_602_000_000_000),
            effective: measured.unwrap(),
            source: TimeSource::Measured,
        },
        common,
        body,
        quality: Quality::Accepted,
        reason: None,
    }
}

fn device(body: pb::reading::Body) -> Reading {
    let wire = golden::reading(body);
    let said = Model::CANONICAL.from_wire(&wire).unwrap();
    reading(said.common, said.body, Some(wire.imei))
}

#[test]
fn digests_and_keys_are_these() {
    use pb::reading::Body as Wire;
    let status = station::status_from_wire(&golden::station_status());
    let found = [
        device(Wire::Parking(golden::parking())),
        device(Wire::StreetLight(golden::street_light())),
        device(Wire::Smoke(golden::smoke())),
        device(Wire::Elevator(golden::elevator())),
        device(Wire::Water(golden::water())),
        reading(Common::default(), Body::StationStatus(status), None),
    ]
    .map(|r| (r.kind().as_str(), r.digest(), r.key_hash()));
    let pinned = [
        ("parking", 0x4ef7_d098_a83f_8930, 0xef35_a3fb_ae91_8cf4),
        ("street_light", 0x065b_a8b0_95c2_9c84, 0xaee4_f38d_5d94_442e),
        ("smoke", 0x68ff_725f_f3e2_e521, 0x5811_e247_f74d_d1dc),
        ("elevator", 0xbc7e_f54c_c093_7431, 0x4074_9950_74f0_5aa8),
        ("water", 0xd234_f60a_d388_955d, 0xf002_38a4_b310_fb43),
        ("station_status", 0xa2fb_bf8e_e2be_43eb, 0xd14c_ccc6_1d5a_bbcc),
    ];
    assert_eq!(found, pinned, "{found:#x?}");
}

#[test]
fn a_time_that_is_none_differs_from_1970() {
    let mut reading = device(pb::reading::Body::Smoke(golden::smoke()));
    reading.times.measured = None;
    let (digest, key) = (reading.digest(), reading.key_hash());
    reading.times.measured = Some(DeviceTime::EPOCH);
    assert_ne!((reading.digest(), reading.key_hash()), (digest, key));
}
