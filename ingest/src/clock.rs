//! The one place that asks the operating system for the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use loushan_schemas::time::ReceiveTime;

/// A clock, given to whoever needs one, so that a test can hold it.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The operating system's.
    #[default]
    System,
    /// A clock that stands where it was put.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `ns` Unix nanoseconds until it is set.
    #[must_use]
    pub fn manual(ns: i64) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(ns)))
    }

    /// Puts a manual clock; the system's cannot be put.
    pub fn set(&self, ns: i64) {
        if let Self::Manual(now) = self {
            now.store(ns, Ordering::SeqCst);
        }
    }

    /// Now, in Unix nanoseconds, UTC.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // this is the place
    pub fn now(&self) -> ReceiveTime {
        let ns = match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)),
            Self::Manual(now) => now.load(Ordering::SeqCst),
        };
        ReceiveTime::from_ns(ns)
    }
}
