//! What can be set about the broker. Each key's comment is also its text in the printed default
//! configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::topic::TopicLimits;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// `[broker]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerConfig {
    /// Connections open at once; one more is closed as it comes.
    pub max_connections: usize,
    /// Of them from one address (of IPv6, from one /64); 0 is no bound of its own. A carrier hides
    /// many stations behind one address.
    pub max_connections_per_address: usize,
    /// How long TLS and WebSocket handshakes may take, and how long one may wait to begin.
    #[serde(with = "human_duration")]
    pub handshake_timeout: Duration,
    /// TLS and WebSocket handshakes under way at once; further ones wait.
    pub max_handshakes: usize,
    /// Web pages' origins that may connect over WebSocket, beside those of this machine while the
    /// listener is on loopback; `*` is every one. Clients that are no browser send none.
    pub ws_origins: Vec<String>,
    /// How long a new connection may take to send its CONNECT.
    #[serde(with = "human_duration")]
    pub connect_timeout: Duration,
    /// How long a client may take none of what is written to it before it is disconnected.
    #[serde(with = "human_duration")]
    pub write_timeout: Duration,
    /// How long a shutdown waits for publishes that were taken and are not durable yet.
    #[serde(with = "human_duration")]
    pub drain_timeout: Duration,
    /// The longest packet taken, its fixed header included; and the longest WebSocket frame.
    pub max_packet_bytes: usize,
    /// Publishes that one client may send in a second; 0 is no bound. One that sends more is read
    /// more slowly, and nothing of it is refused.
    pub max_publishes_per_second: u32,
    /// The same for bytes.
    pub max_bytes_per_second: u64,
    /// What is read of packets that are not complete, and written and not taken by clients, for all
    /// connections together; the first 4 KiB of each buffer do not count. Past it a connection that
    /// holds more is not read, and in the end closed, and new ones are refused.
    pub total_buffer_bytes: usize,
    /// Publishes of one connection that may wait to become durable. MQTT 5 clients are told it as
    /// Receive Maximum; a 3.1.1 client's socket is not read beyond it.
    pub max_in_flight: u16,
    /// Bytes of one connection's publishes that may wait to become durable.
    pub max_in_flight_bytes: usize,
    /// The same for all connections together.
    pub total_in_flight_bytes: usize,
    /// The longest keep-alive. An MQTT 5 client that asks for a longer one, or for none, is given
    /// this one; 3.1.1 has no word for it. Zero leaves it to the clients.
    #[serde(with = "human_duration")]
    pub max_keep_alive: Duration,
    /// Levels of a topic or filter.
    pub max_topic_levels: usize,
    /// Bytes of a topic or filter.
    pub max_topic_bytes: usize,
    /// How often figures are published to subscribers of `$SYS/broker/#`. Zero is never.
    #[serde(with = "human_duration")]
    pub sys_interval: Duration,
    /// Whether an MQTT 5 client is told that its rights forbid a subscription (0x87). If not, it is
    /// told what 3.1.1 says: that there was an error (0x80).
    pub tell_denied: bool,
    /// Subscriptions of one client.
    pub max_subscriptions: usize,
    /// Messages waiting to be sent to one client, in bytes. Beyond it messages of QoS 0 are dropped
    /// and a connected client that does not take its messages of QoS 1 or 2 is disconnected.
    pub subscriber_queue_bytes: usize,
    /// Sessions kept for clients that are away. Beyond it the one that would expire first goes.
    pub max_sessions: usize,
    /// Messages waiting for all clients together, in bytes.
    pub total_queue_bytes: usize,
    /// The longest that a session is kept for a client that is away.
    #[serde(with = "human_duration")]
    pub max_session_expiry: Duration,
    /// Wills of all clients together, in bytes. Beyond it a client with one is not let in.
    pub total_will_bytes: usize,
    /// Retained messages, in bytes. Beyond it a message is delivered and not retained.
    pub retained_bytes: usize,
    /// Messages on their way to the router, in bytes. Beyond it live telemetry is not shown to
    /// subscribers; it is stored all the same.
    pub live_feed_bytes: usize,
    /// Memory of the router that carries live messages of QoS 0, shared among its filters.
    pub router_bytes: usize,
    /// What becomes of an MQTT 3.1.1 client that publishes what it may not.
    pub denied_publish: DeniedPublish,
    /// Distinct topics with subscribers after which the router, which forgets none, is replaced.
    pub router_max_topics: usize,
}

/// What becomes of an MQTT 3.1.1 client that publishes, at QoS 1 or 2, what it may not. It cannot be
/// told; MQTT 5 clients are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeniedPublish {
    /// It is disconnected: an acknowledgement means that the reading is on disk, and never less.
    Disconnect,
    /// It is acknowledged, and the publish is dropped: for clients that would send it again for ever.
    Acknowledge,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_connections_per_address: 10_000,
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 256,
            ws_origins: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            max_packet_bytes: MIB + 64 * KIB,
            max_publishes_per_second: 0,
            max_bytes_per_second: 0,
            total_buffer_bytes: 256 * MIB,
            max_in_flight: 1024,
            max_in_flight_bytes: 4 * MIB,
            total_in_flight_bytes: 256 * MIB,
            max_keep_alive: Duration::ZERO,
            max_topic_levels: 128,
            max_topic_bytes: 4096,
            sys_interval: Duration::from_secs(10),
            tell_denied: true,
            max_subscriptions: 1000,
            subscriber_queue_bytes: 4 * MIB,
            max_sessions: 20_000,
            total_queue_bytes: 256 * MIB,
            max_session_expiry: Duration::from_secs(24 * 3600),
            total_will_bytes: 64 * MIB,
            retained_bytes: 64 * MIB,
            live_feed_bytes: 16 * MIB,
            router_bytes: 256 * MIB,
            denied_publish: DeniedPublish::Disconnect,
            router_max_topics: 100_000,
        }
    }
}

impl BrokerConfig {
    pub(crate) const fn topic_limits(&self) -> TopicLimits {
        TopicLimits { levels: self.max_topic_levels, bytes: self.max_topic_bytes }
    }
}

/// Durations as people write them: `30s`, `1m 30s`, `500ms`.
mod human_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|e| de::Error::custom(format_args!("\"{text}\" is not a duration: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_write_them_and_unknown_keys_are_refused() {
        let written = serde_json::to_value(BrokerConfig::default()).unwrap();
        assert_eq!(written["max_session_expiry"], "1day");
        let read: BrokerConfig = serde_json::from_value(written).unwrap();
        assert_eq!(read, BrokerConfig::default());
        let read: BrokerConfig = serde_json::from_str(r#"{"connect_timeout": "1m 30s"}"#).unwrap();
        assert_eq!(read.connect_timeout, Duration::from_secs(90));
        for (bad, said) in [
            (r#"{"connect_timeout": "soon"}"#, "\"soon\" is not a duration"),
            (r#"{"conect_timeout": "1s"}"#, "unknown field"),
        ] {
            let error = serde_json::from_str::<BrokerConfig>(bad).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
