//! MQTT for devices and operators: it never looks inside a payload.

pub mod handler;
