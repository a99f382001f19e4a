//! The latest reading of every device and station, out of the registry that the service keeps.

use std::ops::ControlFlow;

use loushan_ingest::registry::{Registry, RegistryLimits};
use loushan_schemas::row::Row;

use crate::fill;
use crate::questions::Timed;

/// How often it is asked.
const TIMES: usize = 5;

/// The registry of a city after a day, all of it: as rows, and as JSON text.
pub(crate) fn ask() -> (Timed, Timed) {
    let registry = Registry::new(RegistryLimits::default());
    fill::a_day(&mut |frame| registry.apply(&frame));
    let (mut as_rows, mut as_json) = (Timed::default(), Timed::default());
    for _ in 0..TIMES {
        as_rows.rows = as_rows.time(|| {
            let mut rows = 0;
            each(&registry, &mut |_| rows += 1);
            rows
        });
        as_json.rows = as_json.time(|| {
            let (mut rows, mut text) = (0, String::new());
            each(&registry, &mut |row| {
                rows += 1;
                text.clear();
                row.write_json(&mut text);
            });
            rows
        });
    }
    (as_rows, as_json)
}

fn each(registry: &Registry, to: &mut dyn FnMut(&Row)) {
    registry.each_latest(&|_| true, &mut |row| {
        to(&row);
        ControlFlow::Continue(())
    });
    registry.stations().iter().filter_map(|station| station.status.as_deref()).for_each(to);
}
