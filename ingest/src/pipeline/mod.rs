//! From a PUBLISH to a durable verdict.

pub mod frame;
