//! Models that talk JSON of their own, inside `Reading.raw`.
//!
//! Each file below is one device's dialect: its keys, units, enums and clock. What the JSON says
//! goes before what the station put beside it (radio, power), and what it does not say is absent:
//! devices send placeholders (see [`json`]) where they have no value.
//!
//! A body is rejected when it is not a JSON object or a known key holds something of another type;
//! unknown keys are the vendor's and are let be.

mod json;
mod parking;
mod smoke;
mod street_light;
mod water;

use bytes::Bytes;

use self::json::{Reader, Writer};
use super::{Converted, typed};
use crate::limits::RAW_BODY_BYTES;
use crate::pb;
use crate::reading::{Body, Common};
use crate::reject::RejectReason;
use crate::time::DeviceTime;

/// Whose JSON.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialect {
    Parking,
    Smoke,
    StreetLight,
    Water,
}

pub(super) fn from_wire(
    dialect: Dialect,
    common: Common,
    body: &Bytes,
) -> Result<Converted, RejectReason> {
    if body.len() > RAW_BODY_BYTES {
        return Err(RejectReason::NestedTooLarge);
    }
    let json = Reader::new(body)?;
    match dialect {
        Dialect::Parking => parking::read(&json, common),
        Dialect::Smoke => smoke::read(&json, common),
        Dialect::StreetLight => street_light::read(&json, common),
        Dialect::Water => water::read(&json, common),
    }
}

/// `None` for a kind that the dialect does not speak of.
pub(super) fn to_wire(
    dialect: Dialect,
    id: u32,
    common: &Common,
    body: &Body,
    measured: Option<DeviceTime>,
) -> Option<pb::Reading> {
    let mut json = Writer::default();
    // Each dialect takes out what it puts into the JSON; the rest goes into the message around it.
    let mut rest = common.clone();
    match (dialect, body) {
        (Dialect::Parking, Body::Parking(b)) => parking::write(&mut json, &mut rest, b, measured),
        (Dialect::Smoke, Body::Smoke(b)) => smoke::write(&mut json, &mut rest, b, measured),
        (Dialect::StreetLight, Body::StreetLight(b)) => {
            street_light::write(&mut json, &mut rest, b, measured);
        }
        (Dialect::Water, Body::Water(b)) => water::write(&mut json, &mut rest, b, measured),
        _ => return None,
    }
    Some(pb::Reading {
        body: Some(pb::reading::Body::Raw(json.into_bytes())),
        ..typed::common_to_wire(&typed::Units::CANONICAL, id, &rest)
    })
}
