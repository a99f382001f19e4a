//! From a PUBLISH to a durable verdict.

pub mod decode;
pub mod frame;
pub mod normalize;
