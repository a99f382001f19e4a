//! MQTT for devices and operators: it never looks inside a payload.
//!
//! * [`Broker`]: made from a [`config::BrokerConfig`] and a [`handler::PublishHandler`], served on a
//!   listener of its owner's until its owner says stop.
//! * [`listen`]: sockets, TLS and WebSocket.
//! * [`handler`]: the seam to whoever makes publishes durable.
//! * [`auth`]: the seam to whoever decides who may do what.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ack;
pub mod auth;
mod broker;
mod budget;
pub mod config;
mod connection;
mod fanout;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod handler;
pub mod latency;
mod link;
pub mod listen;
mod message;
mod metrics;
pub mod parcel;
pub mod persist;
mod registry;
mod retained;
mod router;
mod session;
mod subscriptions;
mod sys;
mod topic;
mod will;
mod wire;

pub use broker::{Broker, Health, Load, ShutdownReport};
