//! What the OASIS standards of MQTT 3.1.1 and 5.0 demand of a server, statement by statement, seen from
//! outside: bytes on a socket.
//!
//! Each test is headed by the normative statements it holds the broker to (appendix B of each
//! standard). `README.md` beside this file lists every statement of both, those that cannot be tested
//! here included, with the reason; `table` holds list and tests to each other.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod client;
mod reader;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod wire;

mod connack;
mod connect;
mod disconnect;
mod flow;
mod packets;
mod properties;
mod publish;
mod qos;
mod retain;
mod session;
mod shared;
mod subscribe;
mod topics;
mod websocket;
mod will;

use loushan_broker::config::BrokerConfig;
use support::{Running, Scripted, start};

/// A broker with nothing special about it.
async fn running() -> Running {
    with(BrokerConfig::default()).await
}

async fn with(config: BrokerConfig) -> Running {
    start(config, Scripted::automatic()).await
}

/// Returns when what was to expire within a second as this was called has done so by the broker's own
/// clock.
async fn expired(running: &Running) {
    use client::Client;
    use wire::{Publish, V5, property};
    let mut client = Client::new(running, V5, "clock").await;
    let second = Publish::new(1, "clock", "ticks").with(property::MESSAGE_EXPIRY, 1);
    client.deliver(&second.retained()).await;
    let begun = std::time::Instant::now();
    while !client.subscribe_and_see("clock", 0).await.is_empty() {
        assert!(begun.elapsed() < support::PATIENCE, "time stands still");
    }
}
