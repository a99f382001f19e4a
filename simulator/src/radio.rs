//! Coverage: how well a device is heard, and how long it takes until it is.
//!
//! | level | RSRP | latency (lognormal) |
//! |---|---|---|
//! | 0 | > −100 dBm | median 1.5 s, σ 0.6 |
//! | 1 | −100..−110 dBm | median 3 s, σ 0.8 |
//! | 2 | < −110 dBm | median 9 s, σ 1.0, at most 300 s |
//!
//! A device does not move, but what stands before it does: a basement's ceiling costs 15 to 30 dB
//! for good, a car above a parking sensor some while it stands there.

use loushan_schemas::kind::Kind;
use loushan_schemas::reading::Common;

use crate::battery::{Battery, Turn};
use crate::city::SECOND;
use crate::seed::Rng;

/// No message takes longer: the network gives up.
const LATENCY_CAP_MS: i64 = 300 * SECOND;
/// Weaker than this nothing is heard, so nothing is mounted there.
const WEAKEST_DBM: i64 = -132;

/// Coverage enhancement level at a signal strength.
const fn level(rsrp_dbm: i64) -> u8 {
    match rsrp_dbm {
        -99.. => 0,
        -110..=-100 => 1,
        _ => 2,
    }
}

/// A device's place in the radio network, and the battery that pays for it.
#[derive(Debug)]
pub(crate) struct Radio {
    /// Where nothing stands before it.
    rsrp_dbm: i64,
    /// What stands before it now costs so much.
    shadow_db: i64,
    cell_id: i64,
    pci: i64,
    battery: Option<Battery>,
}

impl Radio {
    pub(crate) fn new(
        kind: Kind,
        station: u32,
        basement: bool,
        start: i64,
        nature: &mut Rng,
    ) -> Self {
        // Shares of levels 0 and 1 above ground, in percent: meters sit in shafts and behind walls,
        // lifts in concrete.
        let (level_0, level_1) = match kind {
            Kind::Water => (72, 24),
            Kind::Parking => (86, 13),
            Kind::Elevator => (80, 15),
            _ => (90, 8),
        };
        let draw = nature.below(100);
        let outdoors = if draw < level_0 {
            nature.between(-97, -72)
        } else if draw < level_0 + level_1 {
            nature.between(-109, -101)
        } else {
            nature.between(-124, -111)
        };
        let ceiling = nature.between(15, 30);
        let rsrp_dbm = if basement { (outdoors - ceiling).max(WEAKEST_DBM) } else { outdoors };
        Self {
            rsrp_dbm,
            shadow_db: 0,
            cell_id: i64::from(station) * 256 + nature.between(1, 3),
            pci: nature.between(0, 503),
            battery: Battery::new(kind, start, level(rsrp_dbm), nature),
        }
    }

    /// Coverage enhancement level, 0 to 2.
    pub(crate) const fn ce_level(&self) -> u8 {
        level(self.rsrp_dbm - self.shadow_db)
    }

    /// What stands before the device from now on, in dB.
    pub(crate) fn shade(&mut self, shadow_db: i64) {
        self.shadow_db = shadow_db.min(self.rsrp_dbm - WEAKEST_DBM);
    }

    /// How long a message of this device is under way, in ms.
    #[allow(clippy::cast_possible_truncation)] // `as` saturates, the cap follows
    pub(crate) fn latency_ms(&self, rng: &mut Rng) -> i64 {
        let (median_ms, sigma) = match self.ce_level() {
            0 => (1500.0, 0.6),
            1 => (3000.0, 0.8),
            _ => (9000.0, 1.0),
        };
        let latency = median_ms * libm::exp(sigma * rng.normal());
        (latency as i64).clamp(50, LATENCY_CAP_MS)
    }

    /// A message is sent: its price is paid.
    pub(crate) fn send(&mut self, now: i64) -> Option<Turn> {
        let level = self.ce_level();
        self.battery.as_mut()?.send(now, level)
    }

    /// Whether a battery feeds the device and is nearly empty.
    pub(crate) fn battery_low(&self) -> bool {
        self.battery.as_ref().is_some_and(Battery::is_low)
    }

    /// What the device says about its radio and power.
    #[allow(clippy::cast_precision_loss)] // decibels and percent
    pub(crate) fn describe(&self, rng: &mut Rng) -> Common {
        let level = self.ce_level();
        let rsrp = self.rsrp_dbm - self.shadow_db + rng.noise(1.2).clamp(-4, 4);
        let sinr = (rsrp + 110) / 2 + rng.noise(1.5).clamp(-5, 5);
        // Open loop: what the path costs, and full power where messages are repeated.
        let tx = if level == 0 { (-72 - rsrp).clamp(0, 18) + rng.between(3, 5) } else { 23 };
        let (battery_pct, battery_mv) = match &self.battery {
            None => (None, None),
            Some(battery) => {
                let mv = battery.mv(level) + rng.between(-8, 8);
                (Some(battery.left_pct() as f64), Some(mv))
            }
        };
        Common {
            nrsrp_dbm: Some(rsrp as f64),
            nrsrq_db: Some(rng.between(-16, -6) as f64),
            sinr_db: Some(sinr.clamp(-18, 28) as f64),
            ce_level: Some(i64::from(level)),
            cell_id: Some(self.cell_id),
            tx_power_dbm: Some(tx as f64),
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

    const START: i64 = 1_790_000_000_000;

    #[test]
    fn latency_has_the_median_of_its_level_and_the_network_gives_up_in_the_end() {
        let mut rng = Rng::new(Use::Device, &[4]);
        for (rsrp_dbm, median) in [(-80, 1500), (-105, 3000), (-120, 9000)] {
            let mut radio = Radio::new(Kind::Water, 1, false, START, &mut rng);
            radio.rsrp_dbm = rsrp_dbm;
            let mut got: Vec<i64> = (0..4001).map(|_| radio.latency_ms(&mut rng)).collect();
            got.sort_unstable();
            assert!((got[2000] - median).abs() < median / 10, "{rsrp_dbm}: {}", got[2000]);
            assert!(got[4000] <= LATENCY_CAP_MS);
        }
    }

    #[test]
    fn basements_are_heard_at_level_two_and_streets_at_level_zero() {
        let share = |basement, wanted| {
            let at = (0..1000).filter(|n| {
                let nature = &mut Rng::new(Use::Plan, &[*n]);
                Radio::new(Kind::Parking, 1, basement, START, nature).ce_level() == wanted
            });
            at.count()
        };
        assert!((820..900).contains(&share(false, 0)), "{}", share(false, 0));
        assert!(share(false, 2) < 30);
        assert!(share(true, 2) > 450, "{}", share(true, 2));
        assert!(share(true, 0) < 250, "{}", share(true, 0));
    }

    #[test]
    fn what_a_device_says_of_its_signal_agrees_with_its_level() {
        let mut rng = Rng::new(Use::Device, &[4]);
        for n in 0..500 {
            let mut radio =
                Radio::new(Kind::Parking, 1, n % 2 == 0, START, &mut Rng::new(Use::Plan, &[n]));
            let clear = radio.ce_level();
            radio.shade(9);
            assert!(radio.ce_level() >= clear);
            let said = radio.describe(&mut rng);
            assert_eq!(said.ce_level, Some(i64::from(radio.ce_level())));
            let rsrp = said.nrsrp_dbm.unwrap_or_default();
            assert!((-137.0..=-65.0).contains(&rsrp), "{rsrp}");
            let (low, high) =
                [(-103.0, 0.0), (-114.0, -96.0), (-140.0, -107.0)][usize::from(radio.ce_level())];
            assert!((low..=high).contains(&rsrp), "{rsrp} at level {}", radio.ce_level());
        }
    }
}
