//! The bytes of every message of v1. A line of `golden.txt` never changes: a message that no longer
//! encodes to it, or that it no longer decodes to, breaks devices that are out there.

use std::fmt::Write as _;

use bytes::Bytes;
use loushan_schemas::pb;
use prost::Message;

const GOLDEN: &str = include_str!("golden.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn golden(name: &str) -> Vec<u8> {
    let line = GOLDEN.lines().filter_map(|line| line.split_once(' ')).find(|(n, _)| *n == name);
    let (_, hex) = line.unwrap_or_else(|| panic!("golden.txt has no {name}"));
    let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn pinned<M: Message + Default + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    assert_eq!(hex(&message.encode_to_vec()), hex(&golden(name)), "{name} encodes otherwise");
    assert_eq!(
        M::decode(golden(name).as_slice()).as_ref(),
        Ok(message),
        "{name} decodes otherwise"
    );
}

pub(crate) fn radio() -> pb::Radio {
    pb::Radio {
        nrsrp_dbm: Some(-97),
        nrsrq_db: Some(-11),
        sinr_db: Some(7),
        ce_level: Some(0),
        cell_id: Some(16_909_060),
        tx_power_dbm: Some(23),
        pci: Some(503),
        rssi_dbm: Some(-73),
    }
}

pub(crate) fn power() -> pb::Power {
    pb::Power { battery_pct: Some(88), battery_mv: Some(3580) }
}

pub(crate) fn parking() -> pb::Parking {
    pb::Parking {
        state: pb::parking::State::Occupied.into(),
        state_age_s: Some(3600),
        mag_x_raw: Some(312),
        mag_y_raw: Some(-48),
        mag_z_raw: Some(911),
        radar_cm: Some(35),
        change_count: Some(70_000),
        temp_dc: Some(-219),
        covered: true,
        tamper: true,
        fault: true,
    }
}

pub(crate) fn street_light() -> pb::StreetLight {
    pb::StreetLight {
        dim_command_pct: Some(80),
        dim_pct: Some(79),
        voltage_dv: Some(2301),
        current_ma: Some(412),
        power_dw: Some(917),
        power_factor_milli: Some(-968),
        energy_wh: Some(5_000_000_000),
        on_hours: Some(12_345),
        lux: Some(0),
        gear_temp_dc: Some(412),
        tilt_ddeg: Some(13),
        faults: vec![
            pb::street_light::Fault::Lamp.into(),
            pb::street_light::Fault::PowerLoss.into(),
            300,
        ],
    }
}

pub(crate) fn smoke() -> pb::Smoke {
    pb::Smoke {
        state: pb::smoke::State::Alarm.into(),
        obscuration_mdb_m: Some(512),
        temp_dc: Some(613),
        contamination_pct: Some(12),
        removed: true,
        low_battery: true,
        self_test: pb::smoke::SelfTest::Failed.into(),
        alarm_count: Some(3),
    }
}

pub(crate) fn elevator() -> pb::Elevator {
    pb::Elevator {
        mode: pb::elevator::Mode::OccupantEvacuation.into(),
        direction: pb::elevator::Direction::Down.into(),
        floor: Some(-2),
        door: pb::elevator::Door::LimitedOpened.into(),
        speed_mm_s: Some(-1750),
        load_pct: Some(45),
        occupied: Some(true),
        door_zone: Some(false),
        vibration_mg: Some(21),
        trips: Some(1_000_000),
        door_cycles: Some(2_000_001),
        run_hours: Some(8765),
        faults: vec![pb::elevator::Fault::LoadMeasurement.into()],
        motor_temp_dc: Some(655),
        entrapment: Some(true),
    }
}

pub(crate) fn history() -> pb::History {
    pb::History { first_end_delta_s: -86_400, interval_s: 3600, delta_l: vec![0, 12, -1, 300] }
}

pub(crate) fn water() -> pb::Water {
    pb::Water {
        total_l: Some(999_999_999),
        reverse_l: Some(0),
        flow_l_h: Some(-25),
        pressure_kpa: Some(310),
        temp_dc: Some(115),
        valve: pb::water::Valve::Fault.into(),
        alarms: vec![pb::water::Alarm::Leak.into(), pb::water::Alarm::Frost.into()],
        history: Some(history()),
    }
}

/// A reading with everything beside its body.
pub(crate) fn reading(body: pb::reading::Body) -> pb::Reading {
    pb::Reading {
        imei: 490_154_203_237_518,
        seq: 255,
        measured_delta_ms: -2000,
        heard_delta_ms: 1500,
        trigger: pb::Trigger::Command.into(),
        clock: pb::ClockState::Unset.into(),
        radio: Some(radio()),
        power: Some(power()),
        model_id: 1,
        boot_epoch: 2,
        body: Some(body),
    }
}

pub(crate) fn station_status() -> pb::StationStatus {
    pb::StationStatus {
        session: 0x0102_0304,
        seq: 9,
        time_ms: 1_767_225_600_000,
        attached_ues: Some(170),
        rrc_connected: Some(12),
        rrc_setup_success_permille: Some(991),
        ul_subcarrier_use_pct: Some(31),
        dl_subcarrier_use_pct: Some(22),
        nprach_attempts: Some(100_000),
        nprach_collisions: Some(123),
        ce0_share_pct: Some(80),
        ce1_share_pct: Some(15),
        ce2_share_pct: Some(5),
        ul_interference_dbm: Some(-117),
        backhaul_rtt_ms: Some(18),
        backhaul_loss_permille: Some(0),
        cabinet_temp_dc: Some(-35),
        supply_dv: Some(535),
        backup_battery_pct: Some(100),
        mains_ok: Some(true),
        door_open: Some(false),
        cpu_pct: Some(37),
        queue_depth: Some(4),
        dropped: Some(5_000_000_000),
        schema_major: 1,
    }
}

#[test]
fn every_message_has_its_bytes() {
    use pb::reading::Body;
    pinned("Radio", &radio());
    pinned("Power", &power());
    pinned("Parking", &parking());
    pinned("StreetLight", &street_light());
    pinned("Smoke", &smoke());
    pinned("Elevator", &elevator());
    pinned("History", &history());
    pinned("Water", &water());
    pinned("Reading.parking", &reading(Body::Parking(parking())));
    pinned("Reading.street_light", &reading(Body::StreetLight(street_light())));
    pinned("Reading.smoke", &reading(Body::Smoke(smoke())));
    pinned("Reading.elevator", &reading(Body::Elevator(elevator())));
    pinned("Reading.water", &reading(Body::Water(water())));
    pinned("Reading.raw", &reading(Body::Raw(Bytes::from_static(b"{\"rsrp\":114}"))));
    let batch = pb::UplinkBatch {
        schema_major: 1,
        station: "bs0001".to_owned(),
        session: 0x0102_0304,
        seq: 300,
        base_time_ms: 1_767_225_600_000,
        replay: true,
        readings: vec![reading(Body::Parking(parking())), pb::Reading::default()],
    };
    pinned("UplinkBatch", &batch);
    pinned("StationStatus", &station_status());
    let state = pb::StationState {
        session: 0x0102_0304,
        online: true,
        time_ms: 1_767_225_600_000,
        schema_major: 1,
        firmware: "4.2.0 遵义".to_owned(),
    };
    pinned("StationState", &state);
    let command = pb::Command {
        command_id: 77,
        imei: 490_154_203_237_518,
        name: "valve".to_owned(),
        arguments: Bytes::from_static(&[0, 255]),
        expires_ms: 1_767_225_660_000,
    };
    pinned("Command", &command);
    let result = pb::CommandResult {
        command_id: 77,
        imei: 490_154_203_237_518,
        outcome: pb::command_result::Outcome::Unreachable.into(),
        detail: "no answer".to_owned(),
        time_ms: 1_767_225_661_000,
        session: 0x0102_0304,
        seq: 4,
        schema_major: 1,
    };
    pinned("CommandResult", &result);
}

#[test]
fn absent_and_zero_differ_where_they_must() {
    let zero = pb::Power { battery_pct: Some(0), battery_mv: None };
    assert_eq!(hex(&zero.encode_to_vec()), "0800");
    assert_eq!(hex(&pb::Power::default().encode_to_vec()), "");
}
