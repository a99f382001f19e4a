//! The design's table of ranges, in the units that readings are kept in.

use loushan_schemas::field::{Field, Range};
use loushan_schemas::kind::Kind;
use loushan_schemas::reading::{
    Common, Elevator, Parking, Smoke, StationStatus, StreetLight, Water,
};

type Bounds = Option<(f64, f64)>;

/// Fields, name, outside of what impossible, outside of what suspicious.
const TABLE: &[(&[Field], &str, Bounds, Bounds)] = &[
    (Common::FIELDS, "nrsrp_dbm", Some((-180.0, -30.0)), Some((-156.0, -44.0))),
    (Common::FIELDS, "nrsrq_db", Some((-30.0, 10.0)), Some((-20.0, -3.0))),
    (Common::FIELDS, "sinr_db", Some((-30.0, 50.0)), Some((-20.0, 30.0))),
    (Common::FIELDS, "ce_level", Some((0.0, 2.0)), None),
    (Common::FIELDS, "cell_id", Some((0.0, 268_435_455.0)), None),
    (Common::FIELDS, "pci", Some((0.0, 503.0)), None),
    (Common::FIELDS, "battery_pct", Some((0.0, 100.0)), None),
    (Common::FIELDS, "battery_mv", Some((0.0, 5000.0)), Some((2500.0, 3900.0))),
    (Common::FIELDS, "rssi_dbm", Some((-150.0, 0.0)), None),
    (Parking::FIELDS, "state_age_s", Some((0.0, 31_536_000.0)), Some((0.0, 604_800.0))),
    (Parking::FIELDS, "radar_cm", Some((0.0, 1000.0)), Some((0.0, 500.0))),
    (StreetLight::FIELDS, "dim_command_pct", Some((0.0, 100.0)), None),
    (StreetLight::FIELDS, "dim_pct", Some((0.0, 100.0)), None),
    (StreetLight::FIELDS, "voltage_v", Some((0.0, 500.0)), Some((195.5, 253.0))),
    (StreetLight::FIELDS, "current_ma", Some((0.0, 20_000.0)), Some((0.0, 3000.0))),
    (StreetLight::FIELDS, "power_w", Some((0.0, 2000.0)), Some((0.0, 500.0))),
    // Plausible from 0.3 when lit: a rule, not a range.
    (StreetLight::FIELDS, "power_factor", Some((-1.0, 1.0)), None),
    (StreetLight::FIELDS, "lux", Some((0.0, 200_000.0)), None),
    (StreetLight::FIELDS, "gear_temp_c", Some((-40.0, 150.0)), Some((-30.0, 100.0))),
    (StreetLight::FIELDS, "tilt_deg", Some((0.0, 180.0)), Some((0.0, 15.0))),
    (Smoke::FIELDS, "temp_c", Some((-40.0, 125.0)), Some((-20.0, 70.0))),
    (Smoke::FIELDS, "obscuration_db_m", Some((0.0, 10.0)), Some((0.0, 0.5))),
    (Elevator::FIELDS, "floor", Some((-10.0, 200.0)), None),
    (Elevator::FIELDS, "speed_m_s", Some((-21.0, 21.0)), None),
    (Elevator::FIELDS, "load_pct", Some((0.0, 200.0)), Some((0.0, 110.0))),
    (Water::FIELDS, "total_l", Some((0.0, 999_999_999.0)), None),
    (Water::FIELDS, "reverse_l", Some((0.0, 999_999_999.0)), None),
    (Water::FIELDS, "flow_l_h", Some((-4700.0, 4700.0)), Some((-3125.0, 3125.0))),
    (Water::FIELDS, "pressure_kpa", Some((0.0, 4000.0)), Some((50.0, 1600.0))),
    (Water::FIELDS, "temp_c", Some((-10.0, 100.0)), Some((0.1, 50.0))),
    (StationStatus::FIELDS, "attached_ues", Some((0.0, 60_000.0)), None),
    (StationStatus::FIELDS, "rrc_connected", Some((0.0, 2000.0)), None),
    (StationStatus::FIELDS, "rrc_setup_success_permille", Some((0.0, 1000.0)), None),
    (StationStatus::FIELDS, "ul_subcarrier_use_pct", Some((0.0, 100.0)), None),
    (StationStatus::FIELDS, "dl_subcarrier_use_pct", Some((0.0, 100.0)), None),
    (StationStatus::FIELDS, "ce0_share_pct", Some((0.0, 100.0)), None),
    (StationStatus::FIELDS, "ce1_share_pct", Some((0.0, 100.0)), None),
    (StationStatus::FIELDS, "ce2_share_pct", Some((0.0, 100.0)), None),
    (StationStatus::FIELDS, "ul_interference_dbm", Some((-130.0, -80.0)), None),
    (StationStatus::FIELDS, "backhaul_rtt_ms", Some((0.0, 5000.0)), None),
    (StationStatus::FIELDS, "backhaul_loss_permille", Some((0.0, 1000.0)), None),
    (StationStatus::FIELDS, "cabinet_temp_c", Some((-40.0, 85.0)), None),
    (StationStatus::FIELDS, "supply_v", None, Some((40.0, 60.0))),
    (StationStatus::FIELDS, "backup_battery_pct", Some((0.0, 100.0)), None),
    (StationStatus::FIELDS, "cpu_pct", Some((0.0, 100.0)), None),
];

fn bounds(range: Option<Range>) -> Bounds {
    range.map(|range| (range.low, range.high))
}

#[test]
fn ranges_are_those_of_the_design() {
    for (fields, name, hard, plausible) in TABLE {
        let field = fields.iter().find(|field| field.name == *name).unwrap();
        assert_eq!(bounds(field.hard), *hard, "{name}: hard");
        assert_eq!(bounds(field.plausible), *plausible, "{name}: plausible");
    }
}

#[test]
fn no_field_has_a_range_beside_the_table() {
    let ranged = |fields: &[Field]| {
        fields.iter().filter(|f| f.hard.is_some() || f.plausible.is_some()).count()
    };
    let all: usize = Kind::ALL.iter().map(|kind| ranged(kind.fields())).sum();
    assert_eq!(all + ranged(Common::FIELDS), TABLE.len());
}

#[test]
fn the_plausible_lies_inside_the_possible() {
    for (_, name, hard, plausible) in TABLE {
        if let (Some((low, high)), Some((from, to))) = (hard, plausible) {
            assert!(low <= from && from < to && to <= high, "{name}");
        }
    }
}
