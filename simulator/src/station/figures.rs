//! A station's own figures: what its cell, its backhaul and its cabinet would say.

use loushan_schemas::reading::StationStatus;

use super::Station;
use crate::city::{by_hour, outdoor_dc};

impl Station {
    /// The figures at a moment.
    #[allow(clippy::cast_precision_loss)] // tenths
    pub(super) fn figures(&mut self, now: i64) -> StationStatus {
        /// Load of the cell by hour, percent.
        const LOAD: [i64; 24] = [
            22, 14, 10, 9, 9, 12, 24, 42, 56, 60, 58, 57, //
            55, 54, 55, 57, 60, 66, 70, 68, 62, 52, 40, 30,
        ];
        let count = self.devices.len() as i64;
        let share = |level: u8| {
            let at = self.devices.iter().filter(|d| d.ce_level() == level).count() as i64;
            at * 100 / count.max(1)
        };
        let (ce1, ce2) = (share(1), share(2));
        let rng = &mut self.rng;
        let load = by_hour(&LOAD, now) + rng.between(-4, 4);
        self.attempts += rng.between(0, count / 8 + 1);
        self.collisions += i64::from(rng.chance(60_000));
        StationStatus {
            attached_ues: Some(count),
            rrc_connected: Some(rng.between(0, count / 10 + 1)),
            rrc_setup_success_permille: Some(rng.between(978, 1000)),
            ul_subcarrier_use_pct: Some(load),
            dl_subcarrier_use_pct: Some(load / 2),
            nprach_attempts: Some(self.attempts),
            nprach_collisions: Some(self.collisions),
            ce0_share_pct: Some(100 - ce1 - ce2),
            ce1_share_pct: Some(ce1),
            ce2_share_pct: Some(ce2),
            ul_interference_dbm: Some(rng.between(-122, -108)),
            backhaul_rtt_ms: Some(rng.between(8, 35)),
            backhaul_loss_permille: Some(i64::from(rng.chance(50_000))),
            cabinet_temp_c: Some((outdoor_dc(now) + 80 + rng.noise(6.0)) as f64 / 10.0),
            supply_v: Some((535 + rng.between(-6, 6)) as f64 / 10.0),
            backup_battery_pct: Some(100),
            mains_ok: Some(true),
            door_open: Some(false),
            cpu_pct: Some(load / 2 + 8),
            queue_depth: Some(self.telemetry.readings.len() as i64),
            dropped: Some(0),
        }
    }
}
