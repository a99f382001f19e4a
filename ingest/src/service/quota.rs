//! Quotas of projects, watched: said when one is passed, and for as long as the day lasts.

use std::collections::BTreeSet;

use metrics::gauge;
use parking_lot::Mutex;

use crate::registry::{QuotaState, Registry, Today};

/// Who has passed its quota.
#[derive(Debug, Default)]
pub(super) struct Quotas(Mutex<Over>);

#[derive(Debug, Default)]
struct Over {
    day: i64,
    projects: BTreeSet<String>,
}

impl Quotas {
    /// Looks at all projects; says it once a day of each that has passed its quota.
    pub(super) fn look(&self, registry: &Registry, now_ms: i64) {
        let day = Today::day_of(now_ms);
        let mut over = self.0.lock();
        if over.day != day {
            *over = Over { day, projects: BTreeSet::new() };
        }
        for (name, project) in registry.projects(now_ms) {
            if project.quota.state(project.today) != QuotaState::Over
                || !over.projects.insert(name.clone())
            {
                continue;
            }
            tracing::warn!(
                project = name,
                readings = project.today.readings,
                readings_per_day = project.quota.readings,
                bytes = project.today.bytes,
                bytes_per_day = project.quota.bytes,
                "a project has passed its quota of today; what comes is taken in all the same"
            );
        }
    }

    /// What is to be said of it now.
    pub(super) fn what(&self, now_ms: i64) -> Option<String> {
        let over = self.0.lock();
        if over.projects.is_empty() || over.day != Today::day_of(now_ms) {
            return None;
        }
        let names: Vec<&str> = over.projects.iter().map(String::as_str).collect();
        let names = names.join(", ");
        Some(format!("past the quota of today, and taken in all the same: {names}"))
    }
}

/// The projects' figures as metrics.
#[allow(clippy::cast_precision_loss)] // gauges are f64, and exact up to 2^53
pub(super) fn record(registry: &Registry, now_ms: i64) {
    for (name, project) in registry.projects(now_ms) {
        let of = || [("project", name.clone())];
        gauge!("loushan_project_readings_today", &of()).set(project.today.readings as f64);
        gauge!("loushan_project_bytes_today", &of()).set(project.today.bytes as f64);
        if let Some(used) = project.quota.used(project.today) {
            gauge!("loushan_project_quota_used_ratio", &of()).set(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryLimits;

    #[test]
    fn a_quota_that_is_passed_is_said_until_the_day_is_over() {
        let registry = Registry::new(RegistryLimits::default());
        let stations = "station,region,project,name,lat,lon,area\nbs1,xinpu,water,A,27,106,X\n";
        registry.load(stations.as_bytes());
        registry.load_quotas(b"project,readings_per_day,bytes_per_day\nwater,10,\n");
        let now_ms = 1_772_337_600_000;
        let quotas = Quotas::default();
        quotas.look(&registry, now_ms);
        assert_eq!(quotas.what(now_ms), None);
        registry.restore(crate::pipeline::verdict::pb::Station {
            station: "bs1".to_owned(),
            region: "xinpu".to_owned(),
            day: Today::day_of(now_ms),
            day_readings: 11,
            ..Default::default()
        });
        quotas.look(&registry, now_ms);
        assert!(quotas.what(now_ms).is_some_and(|what| what.ends_with(": water")));
        let tomorrow = now_ms + 24 * 3_600_000;
        assert_eq!(quotas.what(tomorrow), None);
        quotas.look(&registry, tomorrow);
        assert_eq!(quotas.what(tomorrow), None);
    }
}
