//! The broker's figures, registered once; labels come from the closed lists below.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::latency::Latencies;

/// Handles, so that counting costs no look-up.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) handshakes: Gauge,
    pub(crate) buffer_bytes: Gauge,
    pub(crate) read_pauses_rate: Counter,
    pub(crate) read_pauses_memory: Counter,
    pub(crate) publishes_received: Counter,
    pub(crate) acks_success: Counter,
    pub(crate) acks_partial: Counter,
    pub(crate) acks_rejected: Counter,
    ack_latency: Histogram,
    /// The same, for who wants the last seconds.
    pub(crate) ack_latencies: Arc<Latencies>,
    pub(crate) in_flight_publishes: Gauge,
    pub(crate) in_flight_bytes: Gauge,
    pub(crate) live_feed_dropped: Counter,
    pub(crate) subscriber_dropped: Counter,
    pub(crate) away_refused: Counter,
    pub(crate) publishes_sent: Counter,
    pub(crate) retained_refused: Counter,
    pub(crate) wills_refused: Counter,
    pub(crate) topics_refused: Counter,
    pub(crate) router_restarts: Counter,
    pub(crate) publishes_denied: Counter,
    pub(crate) subscriptions_denied: Counter,
    pub(crate) subscriptions_refused: Counter,
    pub(crate) deliveries_denied: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) subscriptions: Gauge,
    pub(crate) sessions_away: Gauge,
    pub(crate) queue_bytes: Gauge,
    pub(crate) live_feed_bytes: Gauge,
    pub(crate) retained_bytes: Gauge,
    pub(crate) will_bytes: Gauge,
    pub(crate) commands_waiting: Gauge,
    pub(crate) commands_bytes: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let ack = |class| counter!("loushan_acks_sent_total", "class" => class);
        Self {
            connections: gauge!("loushan_connections"),
            handshakes: gauge!("loushan_handshakes"),
            buffer_bytes: gauge!("loushan_buffer_bytes"),
            read_pauses_rate: counter!("loushan_read_pauses_total", "reason" => "rate"),
            read_pauses_memory: counter!("loushan_read_pauses_total", "reason" => "memory"),
            publishes_received: counter!("loushan_publishes_received_total"),
            acks_success: ack("success"),
            acks_partial: ack("partly_rejected"),
            acks_rejected: ack("rejected"),
            ack_latency: histogram!("loushan_ack_latency_seconds"),
            ack_latencies: Arc::default(),
            in_flight_publishes: gauge!("loushan_in_flight_publishes"),
            in_flight_bytes: gauge!("loushan_in_flight_bytes"),
            live_feed_dropped: counter!("loushan_live_feed_dropped_total"),
            subscriber_dropped: counter!("loushan_subscriber_messages_dropped_total"),
            away_refused: counter!("loushan_absent_messages_refused_total"),
            publishes_sent: counter!("loushan_publishes_sent_total"),
            retained_refused: counter!("loushan_retained_refused_total"),
            wills_refused: counter!("loushan_wills_refused_total"),
            topics_refused: counter!("loushan_topics_refused_total"),
            router_restarts: counter!("loushan_router_restarts_total"),
            publishes_denied: counter!("loushan_publishes_denied_total"),
            subscriptions_refused: counter!("loushan_subscriptions_refused_total"),
            subscriptions_denied: counter!("loushan_subscriptions_denied_total"),
            deliveries_denied: counter!("loushan_deliveries_denied_total"),
            received_bytes: counter!("loushan_mqtt_received_bytes_total"),
            sent_bytes: counter!("loushan_mqtt_sent_bytes_total"),
            subscriptions: gauge!("loushan_subscriptions"),
            sessions_away: gauge!("loushan_sessions_away"),
            queue_bytes: gauge!("loushan_queue_bytes"),
            live_feed_bytes: gauge!("loushan_live_feed_bytes"),
            retained_bytes: gauge!("loushan_retained_bytes"),
            will_bytes: gauge!("loushan_will_bytes"),
            commands_waiting: gauge!("loushan_commands_waiting"),
            commands_bytes: gauge!("loushan_commands_bytes"),
        }
    }

    /// A publish was acknowledged.
    pub(crate) fn acknowledged(&self, took: Duration) {
        self.ack_latency.record(took.as_secs_f64());
        self.ack_latencies.record(took);
    }

    /// What came of a socket; `result` is one of `accepted`, `refused`, `invalid`, `timeout`, `full`,
    /// `address_full`, `memory`, `handshake_busy`, `handshake_timeout`, `handshake_failed`,
    /// `shutdown`.
    pub(crate) fn connect(&self, result: &'static str) {
        counter!("loushan_connects_total", "result" => result).increment(1);
    }

    /// A connection ended; `reason` is [`crate::link::End::label`].
    pub(crate) fn disconnect(&self, reason: &'static str) {
        counter!("loushan_disconnects_total", "reason" => reason).increment(1);
    }
}
