//! The figures of the last seconds, so that whoever begins to watch has a minute at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Scope;

/// The city's series, in the order of their values.
pub const SERIES: [&str; 18] = [
    "received",
    "accepted",
    "duplicate",
    "rejected",
    "shed",
    "stored",
    "ack_p50_ms",
    "ack_p99_ms",
    "durable_p99_ms",
    "end_to_end_p50_ms",
    "end_to_end_p99_ms",
    "lag_seconds",
    "log_bytes",
    "free_bytes",
    "resident_bytes",
    "pending",
    "online",
    "alarms",
];

/// Those that a project has as well.
const OF_PROJECT: [&str; 3] = ["accepted", "online", "alarms"];

/// A moment's values; `None` where there was none.
pub(super) type Point = [Option<f64>; SERIES.len()];

/// A moment's values of a project.
pub(super) type ProjectPoint = [Option<f64>; OF_PROJECT.len()];

/// See the module.
#[derive(Debug)]
pub(super) struct History {
    seconds: usize,
    tick: u64,
    at_ms: i64,
    city: VecDeque<Point>,
    projects: BTreeMap<Arc<str>, VecDeque<ProjectPoint>>,
}

impl History {
    pub(super) fn new(seconds: usize) -> Self {
        let (city, projects) = (VecDeque::new(), BTreeMap::new());
        Self { seconds, tick: 0, at_ms: 0, city, projects }
    }

    /// Adds a second. A project that is none any more is forgotten.
    pub(super) fn push(
        &mut self,
        tick: u64,
        at_ms: i64,
        city: Point,
        projects: BTreeMap<Arc<str>, ProjectPoint>,
    ) {
        (self.tick, self.at_ms) = (tick, at_ms);
        keep(&mut self.city, city, self.seconds);
        self.projects.retain(|project, _| projects.contains_key(project));
        for (project, point) in projects {
            keep(self.projects.entry(project).or_default(), point, self.seconds);
        }
    }

    pub(super) fn json(&self, scope: &Scope) -> Value {
        let (points, series) = match scope {
            Scope::City => (self.city.len(), series(&SERIES, &self.city)),
            Scope::Project(project) => {
                let none = VecDeque::new();
                let points = self.projects.get(project).unwrap_or(&none);
                (points.len(), series(&OF_PROJECT, points))
            }
        };
        json!({
            "tick": self.tick,
            "at_ms": self.at_ms,
            "step_ms": 1000,
            "points": points,
            "series": series,
        })
    }
}

fn keep<T>(points: &mut VecDeque<T>, point: T, most: usize) {
    while points.len() >= most.max(1) {
        points.pop_front();
    }
    points.push_back(point);
}

fn series<const N: usize>(
    names: &[&str; N],
    points: &VecDeque<[Option<f64>; N]>,
) -> Map<String, Value> {
    let of = |at: usize| -> Value {
        points.iter().map(|point| json!(point.get(at).copied().flatten())).collect()
    };
    names.iter().enumerate().map(|(at, name)| ((*name).to_owned(), of(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_seconds_are_kept_and_a_project_has_its_own() {
        let mut history = History::new(3);
        let water: Arc<str> = "water".into();
        for tick in 1..=5_u32 {
            let mut point = [None; SERIES.len()];
            point[1] = Some(f64::from(tick));
            let project = [Some(f64::from(tick) / 2.0), None, None];
            history.push(tick.into(), 0, point, BTreeMap::from([(Arc::clone(&water), project)]));
        }
        let city = history.json(&Scope::City);
        assert_eq!((&city["tick"], &city["points"]), (&json!(5), &json!(3)));
        assert_eq!(city["series"]["accepted"], json!([3.0, 4.0, 5.0]));
        assert_eq!(city["series"]["received"], json!([null, null, null]));
        let project = history.json(&Scope::Project(water));
        assert_eq!(project["series"]["accepted"], json!([1.5, 2.0, 2.5]));
        assert!(project["series"].get("log_bytes").is_none());
        history.push(6, 0, [None; SERIES.len()], BTreeMap::new());
        assert_eq!(history.json(&Scope::Project("water".into()))["points"], json!(0));
    }
}
