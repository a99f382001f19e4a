//! A station's own messages: its figures, and its birth and last will.

use crate::limits::{SCHEMA_MAJOR, TEXT_BYTES};
use crate::pb;
use crate::reading::StationStatus;
use crate::reject::RejectReason;
use crate::time::DeviceTime;

/// The figures of a status message, in canonical units. What it says of itself (session, seq,
/// time) is not among them.
#[must_use]
pub fn status_from_wire(wire: &pb::StationStatus) -> StationStatus {
    let int = |v: Option<u32>| v.map(i64::from);
    StationStatus {
        attached_ues: int(wire.attached_ues),
        rrc_connected: int(wire.rrc_connected),
        rrc_setup_success_permille: int(wire.rrc_setup_success_permille),
        ul_subcarrier_use_pct: int(wire.ul_subcarrier_use_pct),
        dl_subcarrier_use_pct: int(wire.dl_subcarrier_use_pct),
        nprach_attempts: int(wire.nprach_attempts),
        nprach_collisions: int(wire.nprach_collisions),
        ce0_share_pct: int(wire.ce0_share_pct),
        ce1_share_pct: int(wire.ce1_share_pct),
        ce2_share_pct: int(wire.ce2_share_pct),
        ul_interference_dbm: wire.ul_interference_dbm.map(i64::from),
        backhaul_rtt_ms: int(wire.backhaul_rtt_ms),
        backhaul_loss_permille: int(wire.backhaul_loss_permille),
        cabinet_temp_c: wire.cabinet_temp_dc.map(|v| f64::from(v) / 10.0),
        supply_v: wire.supply_dv.map(|v| f64::from(v) / 10.0),
        backup_battery_pct: int(wire.backup_battery_pct),
        mains_ok: wire.mains_ok,
        door_open: wire.door_open,
        cpu_pct: int(wire.cpu_pct),
        queue_depth: int(wire.queue_depth),
        dropped: wire.dropped.map(|v| i64::try_from(v).unwrap_or(i64::MAX)),
    }
}

/// The status message with these figures; session, seq and time are the caller's. A figure the
/// wire cannot hold becomes the nearest that it can.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a float's cast ends at the type's ends
pub fn status_to_wire(status: &StationStatus) -> pb::StationStatus {
    let int = |v: Option<i64>| v.map(|v| u32::try_from(v.max(0)).unwrap_or(u32::MAX));
    pb::StationStatus {
        attached_ues: int(status.attached_ues),
        rrc_connected: int(status.rrc_connected),
        rrc_setup_success_permille: int(status.rrc_setup_success_permille),
        ul_subcarrier_use_pct: int(status.ul_subcarrier_use_pct),
        dl_subcarrier_use_pct: int(status.dl_subcarrier_use_pct),
        nprach_attempts: int(status.nprach_attempts),
        nprach_collisions: int(status.nprach_collisions),
        ce0_share_pct: int(status.ce0_share_pct),
        ce1_share_pct: int(status.ce1_share_pct),
        ce2_share_pct: int(status.ce2_share_pct),
        ul_interference_dbm: status
            .ul_interference_dbm
            .map(|v| i32::try_from(v).unwrap_or(if v < 0 { i32::MIN } else { i32::MAX })),
        backhaul_rtt_ms: int(status.backhaul_rtt_ms),
        backhaul_loss_permille: int(status.backhaul_loss_permille),
        cabinet_temp_dc: status.cabinet_temp_c.map(|v| (v * 10.0).round() as i32),
        supply_dv: status.supply_v.map(|v| (v * 10.0).round() as u32),
        backup_battery_pct: int(status.backup_battery_pct),
        mains_ok: status.mains_ok,
        door_open: status.door_open,
        cpu_pct: int(status.cpu_pct),
        queue_depth: int(status.queue_depth),
        dropped: status.dropped.map(|v| u64::try_from(v).unwrap_or(0)),
        schema_major: SCHEMA_MAJOR,
        ..pb::StationStatus::default()
    }
}

/// A station's birth or death, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationState {
    /// The session it speaks of; a death for an older one than the last birth is to be ignored.
    pub session: u32,
    /// Birth or death.
    pub online: bool,
    /// When, by the station's clock. A will was written when the session began.
    pub time: Option<DeviceTime>,
    /// The station's firmware.
    pub firmware: String,
}

/// Checks a state message.
///
/// # Errors
/// Another schema generation, or a firmware text over [`TEXT_BYTES`].
pub fn state_from_wire(wire: pb::StationState) -> Result<StationState, RejectReason> {
    if wire.schema_major != SCHEMA_MAJOR {
        return Err(RejectReason::SchemaMajor);
    }
    if wire.firmware.len() > TEXT_BYTES {
        return Err(RejectReason::NestedTooLarge);
    }
    Ok(StationState {
        session: wire.session,
        online: wire.online,
        time: DeviceTime::from_wire(wire.time_ms, 0),
        firmware: wire.firmware,
    })
}

/// The message that says this.
#[must_use]
pub fn state_to_wire(state: &StationState) -> pb::StationState {
    pb::StationState {
        session: state.session,
        online: state.online,
        time_ms: state.time.map_or(0, |t| u64::try_from(t.ms()).unwrap_or(0)),
        schema_major: SCHEMA_MAJOR,
        firmware: state.firmware.clone(),
    }
}

#[cfg(test)]
mod tests;
