//! Models that talk JSON of their own.

use bytes::Bytes;

use super::Converted;
use crate::pb;
use crate::reading::{Body, Common};
use crate::reject::RejectReason;
use crate::time::DeviceTime;

/// Whose JSON.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialect {}

pub(super) fn from_wire(
    dialect: Dialect,
    _common: Common,
    _json: &Bytes,
) -> Result<Converted, RejectReason> {
    match dialect {}
}

pub(super) fn to_wire(
    dialect: Dialect,
    _id: u32,
    _common: &Common,
    _body: &Body,
    _measured: Option<DeviceTime>,
) -> Option<pb::Reading> {
    match dialect {}
}
