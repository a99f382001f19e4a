//! What is on the wire and what a reading is: no runtime, no clock, no I/O.
//!
//! * [`pb`]: the protobuf messages, as prost compiled them from `proto/loushan/v1/telemetry.proto`.
//! * [`topic`], [`ids`], [`time`]: names and times that are valid by construction.
//! * [`reading`]: the normalized [`reading::Reading`], one body per [`kind::Kind`], declared once
//!   in a field table that columns, JSON, points, ranges and digests all follow.
//! * [`model`], [`station`]: from the wire's messages to a reading's values, and back.
//! * [`row`]: a reading with its place in the log, as stored and as exported.
//! * [`quality`], [`reject`]: the two closed lists of what can be wrong with a value and with a message.
//! * [`limits`]: every bound on what a sender may say, with its reason.

pub mod field;
pub mod ids;
pub mod kind;
pub mod label;
pub mod limits;
pub mod model;
pub mod quality;
pub mod reading;
pub mod reject;
pub mod row;
#[cfg(feature = "testing")]
pub mod sample;
pub mod station;
pub mod time;
pub mod topic;

/// The wire messages, generated from `proto/loushan/v1/telemetry.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/loushan.v1.rs"));
}
