//! The broker.

use super::{Metric, counter, gauge, label, seconds};

pub(super) const CONNECTIONS: &[Metric] = &[
    gauge("loushan_connections", "connections", "Open MQTT connections.")
        .bounded("mqtt.max_connections")
        .alert("loushan_connections / on(instance) loushan_limit{key=\"mqtt.max_connections\"} > 0.8"),
    gauge("loushan_handshakes", "handshakes", "TLS and WebSocket handshakes under way.")
        .bounded("mqtt.max_handshakes"),
    counter("loushan_connects_total", "connections", "What came of sockets that were accepted, by result.")
        .by(&[label(
            "result",
            &[
                "accepted",
                "refused",
                "invalid",
                "timeout",
                "full",
                "address_full",
                "memory",
                "handshake_busy",
                "handshake_timeout",
                "handshake_failed",
                "shutdown",
            ],
        )])
        .alert("increase(loushan_connects_total{result=~\"full|address_full|memory\"}[10m]) > 0"),
    counter("loushan_disconnects_total", "connections", "Ended connections, by reason.").by(&[
        label(
            "reason",
            &[
                "client",
                "closed",
                "socket",
                "invalid",
                "keep_alive",
                "write_timeout",
                "slow_subscriber",
                "memory",
                "revoked",
                "expired",
                "taken_over",
                "ticket_failed",
                "shutdown",
            ],
        ),
    ]),
    gauge(
        "loushan_buffer_bytes",
        "bytes",
        "Bytes read of incomplete packets and not yet taken by clients.",
    )
    .bounded("mqtt.total_buffer_bytes")
    .alert("loushan_buffer_bytes / on(instance) loushan_limit_bytes{key=\"mqtt.total_buffer_bytes\"} > 0.8"),
    counter(
        "loushan_read_pauses_total",
        "pauses",
        "Times a client was not read for a while, by reason.",
    )
    .by(&[label("reason", &["rate", "memory"])]),
    counter("loushan_mqtt_received_bytes_total", "bytes", "Bytes received over MQTT connections."),
    counter("loushan_mqtt_sent_bytes_total", "bytes", "Bytes sent over MQTT connections."),
];

pub(super) const PUBLISHES: &[Metric] = &[
    counter("loushan_publishes_received_total", "publishes", "PUBLISH packets received."),
    counter("loushan_publishes_sent_total", "publishes", "PUBLISH packets sent to subscribers."),
    counter("loushan_acks_sent_total", "acknowledgements", "Acknowledgements sent, by class.")
        .by(&[label("class", &["success", "partly_rejected", "rejected"])]),
    seconds("loushan_ack_latency_seconds", "From a PUBLISH's arrival to its acknowledgement.")
        .means("What a device waits for at our side: decoding, the log's sync, and the queue.")
        .alert("histogram_quantile(0.99, rate(loushan_ack_latency_seconds_bucket[5m])) > 1"),
    gauge("loushan_in_flight_publishes", "publishes", "Publishes taken and not acknowledged."),
    gauge("loushan_in_flight_bytes", "bytes", "Their bytes.")
        .bounded("mqtt.total_in_flight_bytes")
        .alert("loushan_in_flight_bytes / on(instance) loushan_limit_bytes{key=\"mqtt.total_in_flight_bytes\"} > 0.8"),
    counter(
        "loushan_publishes_denied_total",
        "publishes",
        "Publishes that their clients may not make.",
    )
    .alert("increase(loushan_publishes_denied_total[10m]) > 0"),
    counter(
        "loushan_topics_refused_total",
        "packets",
        "Publishes, wills and filters whose topic is longer or deeper than configured.",
    ),
];

pub(super) const SUBSCRIBERS: &[Metric] = &[
    gauge("loushan_subscriptions", "subscriptions", "Subscriptions of all sessions."),
    gauge("loushan_sessions_away", "sessions", "Sessions kept for clients that are away.")
        .bounded("mqtt.max_sessions"),
    gauge("loushan_queue_bytes", "bytes", "Messages that wait for clients, here or away.")
        .bounded("mqtt.total_queue_bytes")
        .alert("loushan_queue_bytes / on(instance) loushan_limit_bytes{key=\"mqtt.total_queue_bytes\"} > 0.8"),
    gauge(
        "loushan_live_feed_bytes",
        "bytes",
        "Messages of QoS 0 on their way to subscribers.",
    )
    .bounded("mqtt.live_feed_bytes"),
    counter(
        "loushan_live_feed_dropped_total",
        "messages",
        "Messages not shown to subscribers: too many at once.",
    )
    .means("They are stored all the same."),
    counter(
        "loushan_subscriber_messages_dropped_total",
        "messages",
        "Messages dropped for a slow subscriber.",
    ),
    counter(
        "loushan_absent_messages_refused_total",
        "messages",
        "Messages not kept for an absent client: no room.",
    ),
    gauge("loushan_retained_bytes", "bytes", "Retained messages.").bounded("mqtt.retained_bytes"),
    counter("loushan_retained_refused_total", "messages", "Messages not retained: no room.")
        .alert("increase(loushan_retained_refused_total[10m]) > 0"),
    gauge("loushan_will_bytes", "bytes", "Wills of all clients.").bounded("mqtt.total_will_bytes"),
    counter("loushan_wills_refused_total", "clients", "Clients turned away: no room for their wills."),
    counter(
        "loushan_subscriptions_refused_total",
        "filters",
        "Filters refused: the client has enough.",
    ),
    counter("loushan_subscriptions_denied_total", "filters", "Filters refused: not for the client."),
    counter("loushan_deliveries_denied_total", "messages", "Messages held back: not for the client."),
    counter("loushan_router_restarts_total", "restarts", "Restarts of the live fan-out's router.")
        .means("Live messages were not shown meanwhile; ingestion is not concerned.")
        .alert("increase(loushan_router_restarts_total[1h]) > 0"),
    counter("loushan_session_commits_total", "commits", "Commits of sessions and retained messages."),
    counter(
        "loushan_session_commit_failures_total",
        "commits",
        "Commits of sessions that failed and were tried again.",
    )
    .alert("increase(loushan_session_commit_failures_total[10m]) > 0"),
    seconds("loushan_session_commit_latency_seconds", "How long a commit of sessions took."),
    counter("loushan_session_records_written_total", "records", "Records in those commits."),
    gauge("loushan_session_records_waiting", "records", "Records for the next commit of sessions."),
    gauge("loushan_commands_waiting", "commands", "Commands that wait for their stations."),
    gauge("loushan_commands_bytes", "bytes", "Memory of commands, of those that ended too.")
        .means("Bounded by 32 MiB; what ended is forgotten after a day."),
];
