//! Coverage: how well a device is heard, and how long it takes until it is.
//!
//! | level | RSRP | latency (lognormal) |
//! |---|---|---|
//! | 0 | > −100 dBm | median 1.5 s, σ 0.6 |
//! | 1 | −100..−110 dBm | median 3 s, σ 0.8 |
//! | 2 | < −110 dBm | median 9 s, σ 1.0, at most 300 s |

use loushan_schemas::kind::Kind;
use loushan_schemas::reading::Common;

use crate::city::SECOND;
use crate::seed::Rng;

/// No message takes longer: the network gives up.
const LATENCY_CAP_MS: i64 = 300 * SECOND;

/// A device's place in the radio network; it does not move.
#[derive(Debug)]
pub(crate) struct Radio {
    /// Coverage enhancement level, 0 to 2.
    pub(crate) ce_level: u8,
    rsrp_dbm: i64,
    cell_id: i64,
    pci: i64,
    mains: bool,
    battery_pct: i64,
}

impl Radio {
    pub(crate) fn new(kind: Kind, station: u32, rng: &mut Rng) -> Self {
        // Shares of levels 0 and 1, in percent: meters and underground car parks are heard worst.
        let (level_0, level_1) = match kind {
            Kind::Water => (60, 28),
            Kind::Parking => (72, 20),
            Kind::Elevator => (80, 15),
            _ => (90, 8),
        };
        let draw = rng.below(100);
        let (ce_level, rsrp_dbm) = if draw < level_0 {
            (0, rng.between(-99, -72))
        } else if draw < level_0 + level_1 {
            (1, rng.between(-109, -101))
        } else {
            (2, rng.between(-128, -111))
        };
        Self {
            ce_level,
            rsrp_dbm,
            cell_id: i64::from(station) * 256 + rng.between(1, 3),
            pci: rng.between(0, 503),
            mains: matches!(kind, Kind::StreetLight | Kind::Elevator),
            battery_pct: rng.between(18, 100),
        }
    }

    /// How long a message of this device is under way, in ms.
    #[allow(clippy::cast_possible_truncation)] // `as` saturates, the cap follows
    pub(crate) fn latency_ms(&self, rng: &mut Rng) -> i64 {
        let (median_ms, sigma) = match self.ce_level {
            0 => (1500.0, 0.6),
            1 => (3000.0, 0.8),
            _ => (9000.0, 1.0),
        };
        let latency = median_ms * libm::exp(sigma * rng.normal());
        (latency as i64).clamp(50, LATENCY_CAP_MS)
    }

    /// Whether a battery feeds the device and is nearly empty.
    pub(crate) const fn battery_low(&self) -> bool {
        !self.mains && self.battery_pct < 20
    }

    /// What the device says about its radio and power.
    #[allow(clippy::cast_precision_loss)] // decibels and percent
    pub(crate) fn describe(&self, rng: &mut Rng) -> Common {
        let rsrp = self.rsrp_dbm + rng.noise(1.2).clamp(-4, 4);
        let sinr = (rsrp + 110) / 2 + rng.noise(1.5).clamp(-5, 5);
        let (battery_pct, battery_mv) = if self.mains {
            (None, None)
        } else {
            (Some(self.battery_pct as f64), Some(2900 + self.battery_pct * 7 + rng.between(-8, 8)))
        };
        Common {
            nrsrp_dbm: Some(rsrp as f64),
            nrsrq_db: Some(rng.between(-16, -6) as f64),
            sinr_db: Some(sinr.clamp(-18, 28) as f64),
            ce_level: Some(i64::from(self.ce_level)),
            cell_id: Some(self.cell_id),
            tx_power_dbm: Some(if self.ce_level == 0 { rng.between(5, 20) as f64 } else { 23.0 }),
            pci: Some(self.pci),
            battery_pct,
            battery_mv,
            ..Common::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Use;

    #[test]
    fn latency_has_the_median_of_its_level() {
        let mut rng = Rng::new(Use::Device, &[4]);
        for (level, median) in [(0, 1500), (1, 3000), (2, 9000)] {
            let mut radio = Radio::new(Kind::Water, 1, &mut rng);
            radio.ce_level = level;
            let mut got: Vec<i64> = (0..4001).map(|_| radio.latency_ms(&mut rng)).collect();
            got.sort_unstable();
            assert!((got[2000] - median).abs() < median / 10, "level {level}: {}", got[2000]);
            assert!(got[4000] <= LATENCY_CAP_MS);
        }
    }
}
