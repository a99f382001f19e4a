//! From a PUBLISH to a durable verdict.

pub mod dedup;
pub mod decode;
pub mod frame;
pub mod normalize;
