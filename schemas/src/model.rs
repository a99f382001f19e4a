//! Models: how a device's own units and enums become canonical ones, and back.
//!
//! The wire's `model_id` selects a [`Model`]. Model 1 speaks the schema's units exactly; the others
//! are real vendors' habits: typed bodies whose numbers mean other units than their fields' names
//! say, and `raw` bodies in a vendor's own JSON. [`Model::to_wire`] is what the simulator's devices
//! do, and [`Model::from_wire`] undoes it: for every canonical value a model can express, the way
//! there and back gives the same reading (a property test).
//!
//! What a model cannot express is rounded to the nearest that it can. An unset field is absent; so
//! is an enum's UNSPECIFIED. Lists of an enum come out sorted, each entry once. A number this build
//! has no word for is kept as it is.
//!
//! Nothing here judges: a converted value may lie outside every range.

mod raw;
mod typed;

use crate::pb;
use crate::quality::QualityReason;
use crate::reading::{Body, Common};
use crate::reject::RejectReason;
use crate::time::DeviceTime;

/// A vendor's and model's habits.
#[derive(Debug)]
pub struct Model {
    /// The wire's `model_id`.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
    speech: Speech,
}

/// How a model talks.
#[derive(Debug)]
enum Speech {
    /// In the schema's messages, with these units.
    Typed(&'static typed::Units),
    /// In JSON of its own, inside `raw`.
    Raw(raw::Dialect),
}

/// What a wire reading says, in canonical units.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// What all devices report.
    pub common: Common,
    /// What this kind reports.
    pub body: Body,
    /// The measured time, where the body holds one of its own: it goes before the reading's delta,
    /// which for a raw body is the station's guess.
    pub measured: Option<DeviceTime>,
    /// The device's counter, where the body holds one of its own: it goes before the reading's.
    pub seq: Option<u64>,
    /// What looked wrong in the device's own form and cannot be seen any more in canonical units.
    /// Each makes the reading suspicious.
    pub notes: Vec<QualityReason>,
}

impl Converted {
    fn new(common: Common, body: Body) -> Self {
        Self { common, body, measured: None, seq: None, notes: Vec::new() }
    }
}

impl Model {
    /// The model that speaks the schema's own units.
    pub const CANONICAL: Self = Self::typed(1, "canonical", &typed::Units::CANONICAL);

    /// All registered models, by id.
    pub const ALL: &'static [Self] = &[
        Self::CANONICAL,
        Self::typed(2, "offset-hundredths", &typed::Units::OFFSET_HUNDREDTHS),
        Self::typed(3, "tenths-radio", &typed::Units::TENTHS_RADIO),
        Self::typed(4, "kilowatt-hour-lamp", &typed::Units::KILOWATT_HOUR_LAMP),
        Self::typed(5, "cubic-metre-meter", &typed::Units::CUBIC_METRE_METER),
        Self::raw(101, "parking-json", raw::Dialect::Parking),
        Self::raw(102, "smoke-json", raw::Dialect::Smoke),
        Self::raw(103, "street-light-json", raw::Dialect::StreetLight),
        Self::raw(104, "water-json", raw::Dialect::Water),
    ];

    const fn typed(id: u32, name: &'static str, units: &'static typed::Units) -> Self {
        Self { id, name, speech: Speech::Typed(units) }
    }

    const fn raw(id: u32, name: &'static str, dialect: raw::Dialect) -> Self {
        Self { id, name, speech: Speech::Raw(dialect) }
    }

    /// The model with that id. An id nobody registered is read as [`Model::CANONICAL`]: typed bodies
    /// name their units; only a `raw` body cannot be read without its model.
    #[must_use]
    pub fn of(id: u32) -> &'static Self {
        Self::ALL.iter().find(|model| model.id == id).unwrap_or(const { &Self::CANONICAL })
    }

    /// Whether its readings are JSON of its own, inside `raw`.
    #[must_use]
    pub const fn is_raw(&self) -> bool {
        matches!(self.speech, Speech::Raw(_))
    }

    /// Units and enums of a wire reading. A typed body of a model that talks JSON is read in
    /// canonical units.
    ///
    /// # Errors
    /// A reading without a body, or with a raw one that cannot be mapped.
    pub fn from_wire(&self, reading: &pb::Reading) -> Result<Converted, RejectReason> {
        let body = reading.body.as_ref().ok_or(RejectReason::NoBody)?;
        let units = match self.speech {
            Speech::Typed(units) => units,
            Speech::Raw(_) => &typed::Units::CANONICAL,
        };
        let common = typed::common_from_wire(units, reading);
        let body = match (body, &self.speech) {
            (pb::reading::Body::Parking(b), _) => typed::parking_from_wire(units, b),
            (pb::reading::Body::StreetLight(b), _) => typed::street_light_from_wire(units, b),
            (pb::reading::Body::Smoke(b), _) => typed::smoke_from_wire(units, b),
            (pb::reading::Body::Elevator(b), _) => typed::elevator_from_wire(units, b),
            (pb::reading::Body::Water(b), _) => typed::water_from_wire(units, b),
            (pb::reading::Body::Raw(json), Speech::Raw(dialect)) => {
                return raw::from_wire(*dialect, common, json);
            }
            (pb::reading::Body::Raw(_), Speech::Typed(_)) => {
                return Err(RejectReason::UnknownModel);
            }
        };
        Ok(Converted::new(common, body))
    }

    /// The wire reading that says this, as such a device would: `radio`, `power`, `trigger`,
    /// `clock`, `model_id` and `body` are filled, identity and times are the caller's.
    ///
    /// A station's own figures are no device's reading: their body stays unset
    /// (see [`crate::station`]). A model that talks JSON knows one kind; others it says in canonical
    /// messages.
    #[must_use]
    pub fn to_wire(&self, common: &Common, body: &Body) -> pb::Reading {
        self.to_wire_at(common, body, None)
    }

    /// As [`Model::to_wire`], with the time by the device's clock, which models that talk JSON put
    /// into the body in their own way. The others have no place for it there.
    #[must_use]
    pub fn to_wire_at(
        &self,
        common: &Common,
        body: &Body,
        measured: Option<DeviceTime>,
    ) -> pb::Reading {
        match &self.speech {
            Speech::Typed(units) => typed::to_wire(units, self.id, common, body),
            Speech::Raw(dialect) => raw::to_wire(*dialect, self.id, common, body, measured)
                .unwrap_or_else(|| typed::to_wire(&typed::Units::CANONICAL, self.id, common, body)),
        }
    }
}

#[cfg(test)]
mod tests;
