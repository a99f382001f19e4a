//! The one place where a run looks at the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds; 0 where the clock is set before 1970.
#[allow(clippy::disallowed_methods)] // this is the clock
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
