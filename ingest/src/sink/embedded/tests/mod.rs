//! The store as a whole, on a file system that loses power and against a naive model.

#![allow(clippy::unwrap_used)]

mod compaction;
mod crash;
mod damage;
mod figures;
mod golden;
mod merge;
mod model;
mod questions;
mod rows;
mod running;
pub(crate) mod support;
mod upkeep;
