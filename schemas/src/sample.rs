//! Readings to test with: plausible ones with every field filled, the same for the same number, and
//! strategies for arbitrary ones ([`arbitrary`]).

pub mod arbitrary;

use crate::ids::{Imei, Region, StationId};
use crate::kind::Kind;
use crate::limits::SCHEMA_MAJOR;
use crate::model::Model;
use crate::pb;
use crate::quality::Quality;
use crate::reading::{
    Body, Common, Elevator, Parking, Reading, Smoke, StationStatus, StreetLight, TimeSource, Times,
    Water,
};
use crate::row::Row;
use crate::time::{DeviceTime, ReceiveTime};

/// 2026-01-01 00:00 UTC, from which the samples' times count.
pub const BASE_MS: i64 = 1_767_225_600_000;
/// From a sample's measured time to when its station heard it.
pub const HEARD_AFTER_MS: i64 = 1_500;
/// From a sample's measured time to when we received it.
pub const RECEIVED_AFTER_MS: i64 = 2_000;

/// The n-th reading of a kind: every field has a value that varies with n, is plausible, agrees
/// with the others, and is one the canonical model can say exactly. Quality is accepted, effective
/// is the measured time. Each n is a device of its own; times are a second apart.
#[must_use]
pub fn reading(kind: Kind, n: u32) -> Reading {
    let measured = BASE_MS + i64::from(n) * 1000;
    let is_station = kind == Kind::StationStatus;
    let time = DeviceTime::from_ms(measured).unwrap_or(DeviceTime::EPOCH);
    Reading {
        imei: (!is_station).then(|| imei(n)),
        boot_epoch: if is_station { 0 } else { n % 3 },
        seq: u64::from(n),
        times: Times {
            measured: Some(time),
            heard: if is_station { None } else { DeviceTime::from_ms(measured + HEARD_AFTER_MS) },
            received: ReceiveTime::from_ns((measured + RECEIVED_AFTER_MS) * 1_000_000),
            effective: time,
            source: TimeSource::Measured,
        },
        common: if is_station { Common::default() } else { common(n) },
        body: body(kind, n),
        quality: Quality::Accepted,
        reason: None,
    }
}

/// The n-th reading of a kind as a row: lsn n + 1, batch n, of station `bs0001` in `honghuagang`.
#[must_use]
#[allow(clippy::missing_panics_doc, clippy::unwrap_used)] // both names are valid
pub fn row(kind: Kind, n: u32) -> Row {
    Row {
        lsn: u64::from(n) + 1,
        region: Region::new("honghuagang").unwrap(),
        station: StationId::new("bs0001").unwrap(),
        session: 7,
        batch_seq: u64::from(n),
        replay: false,
        reading: reading(kind, n),
    }
}

/// The n-th device.
#[must_use]
pub fn imei(n: u32) -> Imei {
    Imei::from_body(86_012_300_000_000 + u64::from(n))
}

/// The wire form of the n-th reading of a device's kind, its deltas counting from [`BASE_MS`].
/// Of a station's own figures there is none: the body is unset.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // a sample's counter is its number, a u32
pub fn wire_reading(kind: Kind, n: u32) -> pb::Reading {
    let reading = reading(kind, n);
    let delta = |time: Option<DeviceTime>| time.map_or(0, |t| t.ms() - BASE_MS);
    pb::Reading {
        imei: reading.imei.map_or(0, Imei::get),
        seq: reading.seq as u32,
        measured_delta_ms: delta(reading.times.measured),
        heard_delta_ms: delta(reading.times.heard),
        boot_epoch: reading.boot_epoch,
        ..Model::CANONICAL.to_wire(&reading.common, &reading.body)
    }
}

/// A batch of `count` readings from the n-th on, taking the five kinds of devices in turn.
#[must_use]
pub fn wire_batch(station: &str, session: u32, seq: u64, n: u32, count: u32) -> pb::UplinkBatch {
    let kinds = [Kind::Parking, Kind::StreetLight, Kind::Smoke, Kind::Elevator, Kind::Water];
    let in_turn = (n..n + count).zip(kinds.into_iter().cycle());
    pb::UplinkBatch {
        schema_major: SCHEMA_MAJOR,
        station: station.to_owned(),
        session,
        seq,
        base_time_ms: BASE_MS.unsigned_abs(),
        replay: false,
        readings: in_turn.map(|(n, kind)| wire_reading(kind, n)).collect(),
    }
}

/// A whole number from `low` that varies with n over `span` values.
fn vary(n: u32, low: i64, span: i64) -> i64 {
    low + (i64::from(n) * 37) % span
}

/// The same in parts of `steps` to one.
#[allow(clippy::cast_precision_loss)] // samples are small numbers
fn vary_f(n: u32, low: i64, span: i64, steps: i64) -> f64 {
    vary(n, low, span) as f64 / steps as f64
}

fn one_of(n: u32, first: i32, last: i32) -> Option<i32> {
    i32::try_from(vary(n, first.into(), i64::from(last - first) + 1)).ok()
}

fn common(n: u32) -> Common {
    Common {
        trigger: one_of(n, 1, 2),
        clock: one_of(n, 1, 2),
        model_id: Some(i64::from(Model::CANONICAL.id)),
        nrsrp_dbm: Some(vary_f(n, -120, 60, 1)),
        nrsrq_db: Some(vary_f(n, -15, 10, 1)),
        sinr_db: Some(vary_f(n, -10, 30, 1)),
        ce_level: Some(vary(n, 0, 3)),
        cell_id: Some(vary(n, 1000, 100_000)),
        tx_power_dbm: Some(vary_f(n, -10, 33, 1)),
        pci: Some(vary(n, 0, 504)),
        battery_pct: Some(vary_f(n, 20, 80, 1)),
        battery_mv: Some(vary(n, 3000, 600)),
        rssi_dbm: Some(vary_f(n, -110, 55, 1)),
    }
}

fn body(kind: Kind, n: u32) -> Body {
    match kind {
        Kind::Parking => Body::Parking(Parking {
            state: one_of(n, 1, 3),
            state_age_s: Some(vary(n, 1, 86_400)),
            mag_x_raw: Some(vary(n, -500, 1000)),
            mag_y_raw: Some(vary(n + 1, -500, 1000)),
            mag_z_raw: Some(vary(n + 2, -500, 1000)),
            radar_cm: Some(vary(n, 10, 300)),
            change_count: Some(i64::from(n)),
            temp_c: Some(vary_f(n, -50, 400, 10)),
            covered: Some(n % 5 == 4),
            tamper: Some(n % 7 == 6),
            fault: Some(false),
        }),
        Kind::StreetLight => Body::StreetLight(StreetLight {
            dim_command_pct: Some(vary_f(n, 10, 90, 1)),
            dim_pct: Some(vary_f(n, 10, 90, 1)),
            voltage_v: Some(vary_f(n, 2150, 200, 10)),
            current_ma: Some(vary(n, 100, 900)),
            power_w: Some(vary_f(n, 200, 1500, 10)),
            power_factor: Some(vary_f(n, 850, 150, 1000)),
            energy_wh: Some(100_000 + i64::from(n)),
            on_hours: Some(1000 + i64::from(n)),
            lux: Some(vary_f(n, 0, 100, 1)),
            gear_temp_c: Some(vary_f(n, 200, 400, 10)),
            tilt_deg: Some(vary_f(n, 0, 30, 10)),
            faults: vec![1 + (n % 8).cast_signed()],
        }),
        Kind::Smoke => Body::Smoke(Smoke {
            state: one_of(n, 1, 3),
            obscuration_db_m: Some(vary_f(n, 0, 400, 1000)),
            temp_c: Some(vary_f(n, 100, 200, 10)),
            contamination_pct: Some(vary_f(n, 0, 70, 1)),
            removed: Some(n % 9 == 8),
            low_battery: Some(n % 11 == 10),
            self_test: Some(1),
            alarm_count: Some(i64::from(n)),
        }),
        Kind::Elevator => Body::Elevator(Elevator {
            mode: one_of(n, 1, 11),
            direction: one_of(n, 1, 3),
            floor: Some(vary(n, -2, 30)),
            door: Some(1),
            speed_m_s: Some(vary_f(n, -2500, 5000, 1000)),
            load_pct: Some(vary_f(n, 0, 100, 1)),
            occupied: Some(n % 2 == 1),
            door_zone: Some(n % 3 == 1),
            vibration_mg: Some(vary(n, 0, 50)),
            trips: Some(i64::from(n)),
            door_cycles: Some(2 * i64::from(n)),
            run_hours: Some(i64::from(n / 10)),
            faults: vec![1 + (n % 8).cast_signed(), 16],
            motor_temp_c: Some(vary_f(n, 250, 400, 10)),
            entrapment: Some(false),
        }),
        Kind::Water => Body::Water(Water {
            total_l: Some(1_000_000 + i64::from(n)),
            reverse_l: Some(i64::from(n % 50)),
            flow_l_h: Some(vary_f(n, -100, 2000, 1)),
            pressure_kpa: Some(vary(n, 200, 300)),
            temp_c: Some(vary_f(n, 40, 200, 10)),
            valve: one_of(n, 1, 2),
            alarms: vec![1 + (n % 7).cast_signed()],
            history_first_end_s: Some(-86_400),
            history_interval_s: Some(3600),
            history_delta_l: (0..24).map(|hour| hour * 7 % 60 + (n % 5).cast_signed()).collect(),
        }),
        Kind::StationStatus => Body::StationStatus(StationStatus {
            attached_ues: Some(vary(n, 100, 50_000)),
            rrc_connected: Some(vary(n, 0, 1000)),
            rrc_setup_success_permille: Some(vary(n, 900, 100)),
            ul_subcarrier_use_pct: Some(vary(n, 0, 100)),
            dl_subcarrier_use_pct: Some(vary(n + 1, 0, 100)),
            nprach_attempts: Some(i64::from(n) * 10),
            nprach_collisions: Some(i64::from(n)),
            ce0_share_pct: Some(80),
            ce1_share_pct: Some(15),
            ce2_share_pct: Some(5),
            ul_interference_dbm: Some(vary(n, -125, 20)),
            backhaul_rtt_ms: Some(vary(n, 5, 100)),
            backhaul_loss_permille: Some(vary(n, 0, 20)),
            cabinet_temp_c: Some(vary_f(n, 150, 300, 10)),
            supply_v: Some(vary_f(n, 470, 80, 10)),
            backup_battery_pct: Some(vary(n, 50, 50)),
            mains_ok: Some(n % 13 != 12),
            door_open: Some(n % 17 == 16),
            cpu_pct: Some(vary(n, 5, 70)),
            queue_depth: Some(vary(n, 0, 500)),
            dropped: Some(i64::from(n / 100)),
        }),
    }
}
