//! The keys of what others reach: listeners, their limits, and who is let in.

use super::{DAY, GIB, HOUR, KIB, MIB, SECOND, key, section};
use crate::config::table::Default::{Is, Required, Unset};
use crate::config::table::{Key, Kind, Section};

const CERTIFICATE: Key = key(
    "certificate",
    Kind::Path,
    Required("certs/server.crt"),
    "The server's certificate and those it was signed by (PEM).",
);
const PRIVATE_KEY: Key =
    key("key", Kind::Path, Required("certs/server.key"), "Its private key (PEM), unencrypted.");

/// `[mqtt]`.
pub(super) const MQTT: Section = section(
    "mqtt",
    "MQTT 3.1.1 and 5.",
    &[
        key("listen", Kind::Listen, Is("127.0.0.1:1883"), "Plain TCP. Port 0 takes any free port."),
        key(
            "tls_listen",
            Kind::Listen,
            Unset("127.0.0.1:8883"),
            "TLS 1.2 and 1.3, with the files of [mqtt.tls].",
        ),
        key(
            "ws_listen",
            Kind::Listen,
            Unset("127.0.0.1:8083"),
            "WebSocket, sub-protocol mqtt, on any path.",
        ),
        key(
            "wss_listen",
            Kind::Listen,
            Unset("127.0.0.1:8084"),
            "The same in TLS, with the files of [mqtt.tls].",
        ),
        key(
            "ws_origins",
            Kind::Text,
            Unset("https://console.example"),
            "Web pages' origins that may connect over WebSocket, with commas between them; * is every\none. While the listener is on loopback, pages of this machine may as well. Clients that\nare no browser send no origin.",
        ),
        key(
            "allow_insecure",
            Kind::Bool,
            Is("false"),
            "Listen beyond loopback although there are not both credentials and TLS:\nwhoever reaches the port, or the network on the way, can publish as any station.",
        ),
        key(
            "denied_publish",
            Kind::Choice(&["disconnect", "acknowledge"]),
            Is("disconnect"),
            "What becomes of an MQTT 3.1.1 client that publishes what it may not; it cannot be told.\ndisconnect: an acknowledgement means that the reading is on disk, and never less.\nacknowledge: it is acknowledged and dropped, for clients that would send it for ever.",
        ),
        key(
            "max_connections",
            Kind::Count(1, 1_000_000),
            Is("20000"),
            "Connections at a time; one more is closed as it comes.",
        ),
        key(
            "max_connections_per_address",
            Kind::Count(0, 1_000_000),
            Is("10000"),
            "Of them from one address (of IPv6, from one /64); 0 is no bound of its own. A carrier hides\nmany stations behind one address.",
        ),
        key(
            "handshake_timeout",
            Kind::Duration(100, HOUR),
            Is("10s"),
            "How long TLS and WebSocket handshakes may take, and how long one may wait to begin.",
        ),
        key(
            "max_handshakes",
            Kind::Count(1, 100_000),
            Is("256"),
            "TLS and WebSocket handshakes under way at once; further ones wait.",
        ),
        key(
            "connect_timeout",
            Kind::Duration(100, HOUR),
            Is("10s"),
            "How long a new connection may take to send its CONNECT.",
        ),
        key(
            "write_timeout",
            Kind::Duration(100, HOUR),
            Is("30s"),
            "How long a client may take none of what is written to it.",
        ),
        key(
            "drain_timeout",
            Kind::Duration(100, HOUR),
            Is("10s"),
            "How long a stop waits for publishes that were taken and are not durable yet.",
        ),
        key(
            "max_packet_bytes",
            Kind::Size(KIB, 256 * MIB),
            Is("1088KiB"),
            "The longest packet taken; and the longest WebSocket frame.",
        ),
        key(
            "max_publishes_per_second",
            Kind::Count(0, 1_000_000),
            Is("0"),
            "Publishes that one client may send in a second; 0 is no bound. One that sends more is read\nmore slowly, and nothing of it is refused.",
        ),
        key("max_bytes_per_second", Kind::Size(0, 4 * GIB), Is("0B"), "The same for bytes."),
        key(
            "total_buffer_bytes",
            Kind::Size(MIB, 64 * GIB),
            Is("256MiB"),
            "What is read of packets that are not complete, and written and not taken by clients, for\nall connections together; the first 4 KiB of each buffer do not count. Past it a\nconnection that holds more is not read and in the end closed, and new ones are refused.",
        ),
        key(
            "max_in_flight",
            Kind::Count(1, 65_535),
            Is("1024"),
            "Publishes of one connection that may wait to become durable (MQTT 5: Receive Maximum).",
        ),
        key(
            "max_in_flight_bytes",
            Kind::Size(KIB, 4 * GIB),
            Is("4MiB"),
            "Their bytes; past it the connection is not read.",
        ),
        key(
            "total_in_flight_bytes",
            Kind::Size(MIB, 64 * GIB),
            Is("256MiB"),
            "The same for all connections together.",
        ),
        key(
            "max_keep_alive",
            Kind::Duration(0, 65_535 * SECOND),
            Is("0s"),
            "The longest keep-alive: an MQTT 5 client that asks for a longer one, or for none, is given\nthis one. 3.1.1 has no word for it. 0s leaves it to the clients.",
        ),
        key("max_topic_levels", Kind::Count(1, 1_000), Is("128"), "Levels of a topic or filter."),
        key("max_topic_bytes", Kind::Size(64, 65_535), Is("4KiB"), "Bytes of a topic or filter."),
        key(
            "sys_interval",
            Kind::Duration(0, DAY),
            Is("10s"),
            "How often figures are published to subscribers of $SYS/broker/#. 0s is never.",
        ),
        key(
            "tell_denied",
            Kind::Bool,
            Is("true"),
            "Whether an MQTT 5 client is told that its rights forbid a subscription (0x87).\nfalse: it is told what 3.1.1 says, that there was an error (0x80).",
        ),
        key(
            "max_subscriptions",
            Kind::Count(1, 1_000_000),
            Is("1000"),
            "Subscriptions of one client.",
        ),
        key(
            "subscriber_queue_bytes",
            Kind::Size(KIB, 4 * GIB),
            Is("4MiB"),
            "Messages waiting for one client. Beyond it those of QoS 0 are dropped, and a client that\ndoes not take its messages of QoS 1 or 2 is disconnected.",
        ),
        key(
            "total_queue_bytes",
            Kind::Size(KIB, 64 * GIB),
            Is("256MiB"),
            "Messages waiting for all clients together.",
        ),
        key(
            "max_sessions",
            Kind::Count(1, 10_000_000),
            Is("20000"),
            "Sessions kept for clients that are away.",
        ),
        key(
            "max_session_expiry",
            Kind::Duration(0, 366 * DAY),
            Is("1d"),
            "The longest that a session is kept for a client that is away.",
        ),
        key(
            "total_will_bytes",
            Kind::Size(0, 16 * GIB),
            Is("64MiB"),
            "Wills of all clients together. Beyond it a client with one is not let in.",
        ),
        key(
            "retained_bytes",
            Kind::Size(0, 16 * GIB),
            Is("64MiB"),
            "Retained messages. Beyond it a message is delivered and not retained.",
        ),
        key(
            "live_feed_bytes",
            Kind::Size(KIB, 4 * GIB),
            Is("16MiB"),
            "Messages on their way to subscribers. Beyond it live telemetry is not shown to them;\nit is stored all the same.",
        ),
    ],
);

/// `[mqtt.tls]`.
pub(super) const MQTT_TLS: Section = Section {
    name: "mqtt.tls",
    doc: "The files of tls_listen and wss_listen, read again when they change. `loushan certs dev` makes some.",
    optional: true,
    keys: &[
        CERTIFICATE,
        PRIVATE_KEY,
        key(
            "client_ca",
            Kind::Path,
            Unset("certs/ca.crt"),
            "Who signs clients' certificates (PEM).",
        ),
        key(
            "client_certificates",
            Kind::Choice(&["none", "optional", "required"]),
            Unset("required"),
            "Whether clients are asked for a certificate, and let in without one. Not set: none.",
        ),
    ],
};

/// `[auth]`.
pub(super) const AUTH: Section = section(
    "auth",
    "Who is let in, and what each may do. Files are read again on SIGHUP and when they change.",
    &[
        key(
            "users_file",
            Kind::Path,
            Unset("users"),
            "Users, their roles and the hashes of their passwords, as `loushan user add` writes it.",
        ),
        key(
            "anonymous",
            Kind::Bool,
            Unset("false"),
            "Whether MQTT clients without credentials are let in; they may do everything that\nno rule denies. Not set: as long as there is no users file, no [auth.jwt] and no client\ncertificate to ask for.",
        ),
        key(
            "acl",
            Kind::Text,
            Unset("deny subscribe test/nosubscribe"),
            "Rules, one a line, before those of acl_file; the first that is about something decides,\nand the role where none is:\nallow|deny publish|subscribe|all PATTERN [user NAME | role ROLE | client ID]\nPATTERN is a topic filter in which %c is the client's id and %u its user name.",
        ),
        key("acl_file", Kind::Path, Unset("rules"), "A file of such rules."),
        key(
            "failures_per_user",
            Kind::Count(1, 1_000_000),
            Is("10"),
            "Wrong passwords within a minute, for one user from one address, after which none is\nlooked at until the minute is over.",
        ),
        key(
            "failures_per_address",
            Kind::Count(1, 1_000_000),
            Is("1000"),
            "The same for all users from one address: many stations stand behind one of a carrier.",
        ),
    ],
);

/// `[auth.jwt]`.
pub(super) const AUTH_JWT: Section = Section {
    name: "auth.jwt",
    doc: "JSON Web Tokens as passwords and bearer tokens. Off unless set.",
    optional: true,
    keys: &[
        key(
            "key_file",
            Kind::Path,
            Required("jwks.json"),
            "The issuer's keys. A key has one algorithm: its own, never the token's choice.",
        ),
        key(
            "key_format",
            Kind::Choice(&["jwks", "secret"]),
            Is("jwks"),
            "jwks: a JSON Web Key Set.\nsecret: a secret shared with the issuer (HS256), at least 32 bytes.",
        ),
        key("issuer", Kind::Text, Required("https://id.example.org"), "The iss of its tokens."),
        key("audience", Kind::Text, Required("loushan"), "The aud of tokens meant for us."),
        key("leeway", Kind::Duration(0, HOUR), Is("30s"), "How far the issuer's clock may be off."),
    ],
};

/// `[http]`.
pub(super) const HTTP: Section = section(
    "http",
    "Health, metrics and the API.",
    &[
        key("listen", Kind::Address, Is("127.0.0.1:8080"), "Port 0 takes any free port."),
        key(
            "allow_insecure",
            Kind::Bool,
            Is("false"),
            "Listen beyond loopback although there is no TLS: tokens, passwords and readings cross\nthe network in clear.",
        ),
        key(
            "max_exports",
            Kind::Count(1, 64),
            Is("4"),
            "Exports at a time; a further one is answered 503.",
        ),
        key(
            "max_connections",
            Kind::Count(1, 100_000),
            Is("1024"),
            "Connections at a time; one more is closed as it comes.",
        ),
    ],
);

/// `[http.tls]`.
pub(super) const HTTP_TLS: Section = Section {
    name: "http.tls",
    doc: "The files of HTTPS, read again when they change. With them http.listen speaks nothing else.",
    optional: true,
    keys: &[CERTIFICATE, PRIVATE_KEY],
};
