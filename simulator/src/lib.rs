//! The fleet, its faults, its ledger and the audit: it links neither broker nor ingest.
//!
//! * [`options`]: what a run is asked to do; [`run`]: the run itself, one MQTT session per station.
//! * [`scenario`]: the same as a file or as flags, and what load it would be; [`traffic`]: when devices
//!   report.
//! * [`fleet`]: which stations and devices there are, all derived from the seed.
//! * `device`, `radio`, `battery`, `station`: the models. They live in simulated time alone, so that the same
//!   seed and start give the same bytes on any machine and at any speed (see `seed`).
//! * [`faults`]: what goes wrong at the devices themselves and what befalls them, counted.
//! * [`said`]: what a fleet would send, for whoever wants the readings and no network.
//! * `access`, `link`: credentials and TLS; one MQTT connection.
//! * `publisher`: a station's session. It keeps its own unacknowledged batches and sends them
//!   again byte for byte after every reconnect.
//! * [`trace`], [`recording`], [`playback`]: what a broker's subscribers saw, kept and published again.
//! * [`ledger`]: what was sent, what was meant by it and what was acknowledged: the ground truth.
//! * [`mod@audit`]: the ledger against a service's store.
//! * [`report`]: figures of a running fleet.

mod access;
pub mod audit;
mod battery;
mod block;
mod city;
mod clock;
mod code;
mod device;
pub mod fault;
pub mod faults;
pub mod fleet;
pub mod ledger;
mod link;
pub mod options;
pub mod playback;
mod publisher;
mod radio;
pub mod recording;
pub mod report;
pub mod run;
pub mod said;
pub mod scenario;
mod seed;
mod station;
mod target;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
pub mod traffic;

pub use access::{AccessError, AccessOptions, Secret};
pub use audit::{AuditError, AuditOptions, AuditReport, audit, audit_service, audit_store};
pub use options::FleetOptions;
pub use report::{FleetStats, Snapshot, Summary};
pub use run::{Fleet, FleetError};
