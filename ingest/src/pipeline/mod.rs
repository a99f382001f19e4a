//! From a PUBLISH to a durable verdict.

pub mod dedup;
pub mod frame;
