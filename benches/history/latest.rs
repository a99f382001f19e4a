//! The latest reading of every device and station, out of the registry that the service keeps.

use std::ops::ControlFlow;

use loushan_ingest::registry::{Registry, RegistryLimits};

use crate::fill;
use crate::questions::Timed;

/// How often it is asked.
const TIMES: usize = 5;

/// The registry of a city after a day, all of it, as JSON.
pub(crate) fn ask() -> Timed {
    let registry = Registry::new(RegistryLimits::default());
    fill::a_day(&mut |frame| registry.apply(&frame));
    let mut timed = Timed::default();
    for _ in 0..TIMES {
        timed.rows = timed.time(|| {
            let (mut rows, mut text) = (0, String::new());
            registry.each_latest(&|_| true, &mut |row| {
                rows += 1;
                row.write_json(&mut text);
                ControlFlow::Continue(())
            });
            for station in registry.stations() {
                if let Some(row) = station.status {
                    rows += 1;
                    row.write_json(&mut text);
                }
            }
            rows
        });
    }
    timed
}
