//! Alarms: what somebody must be told of.

mod handle;
mod model;
mod rule;
mod shelf;

pub use handle::Alarms;
pub use model::{
    Acknowledged, Alarm, AlarmEvent, AlarmState, Change, Cleared, ClearedBy, Subject,
};
pub use rule::{Rule, Severity};
pub use shelf::{Counts, Filter, Page};
