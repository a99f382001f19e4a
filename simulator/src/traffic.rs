//! When devices report: traffic models.
//!
//! *Kinds* is what this city's devices do; *midnight* the same, but that all water meters report in one
//! moment, as meters do that were told to report at midnight. The other two are 3GPP's, which radio networks are planned
//! with, and which say nothing of kinds: mobile autonomous reporting (TR 45.820 annex E), where a device
//! reports every day, two hours, hour or half hour by fixed shares. They differ in the first report:
//! spread evenly over the device's period, or all devices within ten seconds, as after a power cut, in the
//! shape of a Beta(3, 4) distribution (TR 37.868, model 2). Readings keep the sizes of their kinds, where
//! the model has 20 to 200 bytes by a Pareto law.

use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;

use crate::device::Rhythm;
use crate::seed::mix;

/// Within how long all devices speak first after they got power together (TR 37.868).
const SURGE_NS: u64 = 10_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;
const DAY_NS: u64 = 24 * 60 * MINUTE_NS;
/// When midnight is: after the sessions of a usual ramp are there, and long before a run of a minute ends.
const MIDNIGHT_NS: u64 = 20_000_000_000;
/// Percent of devices, up to and without, and how often they report.
const PERIODS: [(u64, u64); 4] =
    [(40, DAY_NS), (80, 2 * 60 * MINUTE_NS), (95, 60 * MINUTE_NS), (100, 30 * MINUTE_NS)];

/// A traffic model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Traffic {
    /// Every kind in its own rhythm, or all at a fixed rate where one is given.
    #[default]
    Kinds,
    /// The same, but all water meters report at once, 20 s after the start.
    Midnight,
    /// Mobile autonomous reporting, spread evenly.
    Mar,
    /// Mobile autonomous reporting that begins with everybody at once.
    MarBeta,
}

impl Traffic {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kinds, Self::Midnight, Self::Mar, Self::MarBeta];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kinds => "kinds",
            Self::Midnight => "midnight",
            Self::Mar => "mar",
            Self::MarBeta => "mar-beta",
        }
    }

    /// A device's rhythm, where the model has one for it.
    pub(crate) fn rhythm(self, seed: u64, imei: Imei, kind: Kind) -> Option<Rhythm> {
        let draw = |purpose: u64| mix(&[seed, imei.get(), 0x4d41_5200 + purpose]);
        let percent = draw(0) % 100;
        let (_, every) = PERIODS.into_iter().find(|(below, _)| percent < *below)?;
        match self {
            Self::Kinds => None,
            Self::Midnight => {
                (kind == Kind::Water).then_some(Rhythm::From { first: MIDNIGHT_NS, every: DAY_NS })
            }
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
        let rhythm = |n: u64| traffic.rhythm(5, Imei::from_body(86_000 + n), Kind::Smoke);
        (0..20_000).map(|n| rhythm(n).unwrap()).collect()
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
    fn at_midnight_meters_report_together_and_all_others_as_ever() {
        let rhythm = |kind, n| Traffic::Midnight.rhythm(5, Imei::from_body(n), kind);
        for n in 0..100 {
            let together = Rhythm::From { first: MIDNIGHT_NS, every: DAY_NS };
            assert_eq!(rhythm(Kind::Water, n), Some(together));
            assert_eq!(rhythm(Kind::Parking, n), None);
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
