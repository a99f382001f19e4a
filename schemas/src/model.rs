//! Models: how a device's own units and enums become canonical ones, and back.
//!
//! The wire's `model_id` selects a [`Model`]. Model 1 speaks the schema's units exactly; the others
//! are real vendors' habits. [`Model::to_wire`] is what the simulator's devices do, and
//! [`Model::from_wire`] undoes it: for every canonical value a model can express, the way there and
//! back gives the same reading (a property test).

use crate::pb;
use crate::reading::{Body, Common};
use crate::reject::RejectReason;

/// A vendor's and model's habits.
#[derive(Debug)]
pub struct Model {
    /// The wire's `model_id`.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
}

/// What a wire reading says, in canonical units.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// What all devices report.
    pub common: Common,
    /// What this kind reports.
    pub body: Body,
}

impl Model {
    /// The model that speaks the schema's own units.
    pub const CANONICAL: Self = Self { id: 1, name: "canonical" };

    /// The model with that id. An id nobody registered is read as [`Model::CANONICAL`]: typed bodies
    /// name their units; only a `raw` body cannot be read without its model.
    #[must_use]
    pub fn of(_id: u32) -> &'static Self {
        const { &Self::CANONICAL }
    }

    /// Units and enums of a wire reading.
    ///
    /// # Errors
    /// A reading without a body, or with a raw one that cannot be mapped.
    pub fn from_wire(&self, _reading: &pb::Reading) -> Result<Converted, RejectReason> {
        Err(RejectReason::NoBody)
    }

    /// The wire reading that says this, as such a device would: `radio`, `power`, `trigger`,
    /// `clock`, `model_id` and `body` are filled, identity and times are the caller's.
    #[must_use]
    pub fn to_wire(&self, _common: &Common, _body: &Body) -> pb::Reading {
        pb::Reading::default()
    }
}
