//! Times as newtypes, so that a device's clock is never mistaken for ours.

use std::fmt;

/// The last millisecond of the year 9999: later times are no times.
const MAX_MS: i64 = 253_402_300_799_999;

/// A time by somebody else's clock (a device's or a station's): Unix milliseconds, UTC, from 1970
/// to 9999. It may be wrong by years; it is never out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceTime(i64);

impl DeviceTime {
    /// The first of all times: 1970-01-01, midnight UTC.
    pub const EPOCH: Self = Self(0);
    /// The last of all times, in the year 9999.
    pub const LAST: Self = Self(MAX_MS);

    /// Takes Unix milliseconds; `None` before 1970 and after 9999.
    #[must_use]
    pub fn from_ms(ms: i64) -> Option<Self> {
        (0..=MAX_MS).contains(&ms).then_some(Self(ms))
    }

    /// A batch's base time and a reading's delta against it, as on the wire.
    #[must_use]
    pub fn from_wire(base_ms: u64, delta_ms: i64) -> Option<Self> {
        Self::from_ms(i64::try_from(base_ms).ok()?.checked_add(delta_ms)?)
    }

    /// Unix milliseconds.
    #[must_use]
    pub const fn ms(self) -> i64 {
        self.0
    }
}

/// When we received something, by our clock: Unix nanoseconds, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiveTime(i64);

impl ReceiveTime {
    /// Takes Unix nanoseconds.
    #[must_use]
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// Unix nanoseconds.
    #[must_use]
    pub const fn ns(self) -> i64 {
        self.0
    }

    /// Unix milliseconds, rounded down.
    #[must_use]
    pub const fn ms(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl fmt::Display for DeviceTime {
    /// RFC 3339 with milliseconds, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chrono::DateTime::from_timestamp_millis(self.0) {
            Some(t) => f.write_str(&t.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
            None => write!(f, "{} ms", self.0),
        }
    }
}
