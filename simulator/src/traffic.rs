//! When devices report: traffic models.
//!
//! *Kinds* is what this city's devices do. The other two are 3GPP's, which radio networks are planned
//! with, and which say nothing of kinds: mobile autonomous reporting (TR 45.820 annex E), where a device
//! reports every day, two hours, hour or half hour by fixed shares. They differ in the first report:
//! spread evenly over the device's period, or all devices within ten seconds, as after a power cut, in the
//! shape of a Beta(3, 4) distribution (TR 37.868, model 2). Readings keep the sizes of their kinds, where
//! the model has 20 to 200 bytes by a Pareto law.

use loushan_schemas::ids::Imei;

use crate::device::Rhythm;
use crate::seed::mix;

/// Within how long all devices speak first after they got power together (TR 37.868).
const SURGE_NS: u64 = 10_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;
/// Percent of devices, up to and without, and how often they report.
const PERIODS: [(u64, u64); 4] = [
    (40, 24 * 60 * MINUTE_NS),
    (80, 2 * 60 * MINUTE_NS),
    (95, 60 * MINUTE_NS),
    (100, 30 * MINUTE_NS),
];

/// A traffic model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Traffic {
    /// Every kind in its own rhythm, or all at a fixed rate where one is given.
    #[default]
    Kinds,
    /// Mobile autonomous reporting, spread evenly.
    Mar,
    /// Mobile autonomous reporting that begins with everybody at once.
    MarBeta,
}

impl Traffic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kinds, Self::Mar, Self::MarBeta];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kinds => "kinds",
            Self::Mar => "mar",
            Self::MarBeta => "mar-beta",
        }
    }

    /// A device's rhythm, where the model has one for it.
    pub(crate) fn rhythm(self, seed: u64, imei: Imei) -> Option<Rhythm> {
        let draw = |purpose: u64| mix(&[seed, imei.get(), 0x4d41_5200 + purpose]);
        let percent = draw(0) % 100;
        let (_, every) = PERIODS.into_iter().find(|(below, _)| percent < *below)?;
        match self {
            Self::Kinds => None,
            Self::Mar => Some(Rhythm::Every(every)),
            Self::MarBeta => {
                // The third smallest of six even draws is distributed as Beta(3, 4).
                let mut draws: [u64; 6] = std::array::from_fn(|n| draw(1 + n as u64) % SURGE_NS);
                draws.sort_unstable();
                let [_, _, first, ..] = draws;
                Some(Rhythm::From { first, every })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rhythms(traffic: Traffic) -> Vec<Rhythm> {
        (0..20_000).map(|n| traffic.rhythm(5, Imei::from_body(86_000 + n)).unwrap()).collect()
    }

    #[test]
    fn shares_of_devices_report_as_often_as_the_model_says() {
        let all = rhythms(Traffic::Mar);
        for (share, minutes) in [(40, 1440), (40, 120), (15, 60), (5, 30)] {
            let rhythm = Rhythm::Every(minutes * MINUTE_NS);
            let count = all.iter().filter(|found| **found == rhythm).count() as i64;
            assert!((count - share * 200).abs() < 300, "{count} report every {minutes} min");
        }
    }

    #[test]
    fn after_a_power_cut_first_reports_crowd_around_the_fourth_second() {
        let first: Vec<u64> = rhythms(Traffic::MarBeta)
            .into_iter()
            .map(|rhythm| match rhythm {
                Rhythm::From { first, .. } => first,
                other => panic!("{other:?}"),
            })
            .collect();
        // Beta(3, 4): mean 3/7, and 40.1 % of it between 0.3 and 0.5 (of the ten seconds).
        let mean = first.iter().sum::<u64>() / first.len() as u64;
        assert!(mean.abs_diff(SURGE_NS * 3 / 7) < SURGE_NS / 100, "{mean}");
        let middle = first.iter().filter(|ns| (3..5).contains(&(**ns / 1_000_000_000))).count();
        assert!((7_800..8_220).contains(&middle), "{middle}");
        assert!(first.iter().all(|ns| *ns < SURGE_NS));
    }
}
