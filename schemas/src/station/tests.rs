#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::kind::Kind;
use crate::reading::Body;
use crate::sample;

#[test]
fn figures_go_there_and_back() {
    for n in 0..100 {
        let Body::StationStatus(figures) = sample::reading(Kind::StationStatus, n).body else {
            panic!()
        };
        assert_eq!(status_from_wire(&status_to_wire(&figures)), figures, "{n}");
    }
    let nothing = StationStatus::default();
    assert_eq!(status_from_wire(&status_to_wire(&nothing)), nothing);
}

#[test]
fn a_status_names_its_generation_and_leaves_the_rest_to_the_caller() {
    let wire = status_to_wire(&StationStatus { cpu_pct: Some(3), ..StationStatus::default() });
    let expected = pb::StationStatus { schema_major: 1, cpu_pct: Some(3), ..Default::default() };
    assert_eq!(wire, expected);
}

#[test]
fn figures_the_wire_cannot_hold_become_the_nearest() {
    let wire = status_to_wire(&StationStatus {
        attached_ues: Some(-1),
        queue_depth: Some(i64::MAX),
        ul_interference_dbm: Some(i64::MIN),
        cabinet_temp_c: Some(1e300),
        supply_v: Some(-1.0),
        dropped: Some(-1),
        ..StationStatus::default()
    });
    assert_eq!((wire.attached_ues, wire.queue_depth), (Some(0), Some(u32::MAX)));
    assert_eq!(wire.ul_interference_dbm, Some(i32::MIN));
    assert_eq!((wire.cabinet_temp_dc, wire.supply_dv), (Some(i32::MAX), Some(0)));
    assert_eq!(wire.dropped, Some(0));
    let many = pb::StationStatus { dropped: Some(u64::MAX), ..pb::StationStatus::default() };
    assert_eq!(status_from_wire(&many).dropped, Some(i64::MAX));
}

#[test]
fn a_state_is_checked() {
    let wire = pb::StationState {
        session: 7,
        online: true,
        time_ms: 1_767_225_600_000,
        schema_major: 1,
        firmware: "4.2.0".to_owned(),
    };
    let state = state_from_wire(wire.clone()).unwrap();
    assert_eq!((state.session, state.online), (7, true));
    assert_eq!(state_to_wire(&state), wire);
    let newer = pb::StationState { schema_major: 2, ..wire.clone() };
    assert_eq!(state_from_wire(newer), Err(RejectReason::SchemaMajor));
    let long = pb::StationState { firmware: "x".repeat(257), ..wire.clone() };
    assert_eq!(state_from_wire(long), Err(RejectReason::NestedTooLarge));
    let timeless = pb::StationState { time_ms: u64::MAX, ..wire };
    assert_eq!(state_from_wire(timeless).unwrap().time, None);
}

proptest! {
    #[test]
    fn what_a_status_said_it_says_again(a: [Option<u32>; 4], b: [Option<i32>; 2], dropped: u64, ok: Option<bool>) {
        let wire = pb::StationStatus {
            attached_ues: a[0],
            nprach_attempts: a[1],
            supply_dv: a[2],
            queue_depth: a[3],
            ul_interference_dbm: b[0],
            cabinet_temp_dc: b[1],
            mains_ok: ok,
            dropped: Some(dropped >> 1),
            schema_major: 1,
            ..pb::StationStatus::default()
        };
        prop_assert_eq!(status_to_wire(&status_from_wire(&wire)), wire);
    }
}
