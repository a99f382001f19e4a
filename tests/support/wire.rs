//! Messages for tests to send.

use loushan_schemas::ids::Imei;
use loushan_schemas::pb;
use prost::Message;

/// Now, in Unix milliseconds.
pub fn now_ms() -> u64 {
    #[allow(clippy::disallowed_methods)] // the test plays the device, whose clock is the real one
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

/// The n-th device of these tests.
pub fn imei(n: u64) -> Imei {
    Imei::from_body(86_777_000_000_000 + n)
}

/// A parking reading of a device, measured about two seconds before the batch's base time: later for a
/// greater number, so that no two of a device are of one millisecond.
pub fn parking(device: u64, seq: u32) -> pb::Reading {
    pb::Reading {
        imei: imei(device).get(),
        seq,
        measured_delta_ms: -2000 + i64::from(seq % 500),
        heard_delta_ms: -100,
        trigger: pb::Trigger::Event.into(),
        clock: pb::ClockState::Synced.into(),
        model_id: 1,
        boot_epoch: 1,
        body: Some(pb::reading::Body::Parking(pb::Parking {
            state: pb::parking::State::Occupied.into(),
            temp_dc: Some(219),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// A batch of a station.
pub fn batch(station: &str, session: u32, seq: u64, readings: Vec<pb::Reading>) -> pb::UplinkBatch {
    pb::UplinkBatch {
        schema_major: 1,
        station: station.to_owned(),
        session,
        seq,
        base_time_ms: now_ms(),
        replay: false,
        readings,
    }
}

/// A batch of one parking reading, encoded.
pub fn one(station: &str, session: u32, seq: u64, device: u64) -> Vec<u8> {
    batch(station, session, seq, vec![parking(device, seq as u32)]).encode_to_vec()
}
