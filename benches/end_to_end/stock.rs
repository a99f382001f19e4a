//! The baseline: rumqttd's own `Broker`, with one local link that reads everything.

use std::collections::HashMap;
use std::net::TcpListener;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// First argument of the process that is the baseline.
pub(crate) const ARGUMENT: &str = "--stock-rumqttd";

/// Serves until the process is killed.
pub(crate) fn serve() -> ! {
    // Its listener cannot be handed in: take a free port, give it back, hope for a millisecond.
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = ServerSettings {
        name: "stock".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 60_000,
            max_payload_size: 1024 * 1024,
            max_inflight_count: 500,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let mut broker = Broker::new(Config {
        id: 0,
        router: RouterConfig {
            max_connections: 10_010,
            max_outgoing_packet_count: 200,
            max_segment_size: 100 * 1024 * 1024,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("v4".to_owned(), server)])),
        ..Config::default()
    });
    let (mut tx, mut rx) = broker.link("reader").unwrap();
    std::thread::spawn(move || broker.start().unwrap());
    tx.subscribe("#").unwrap();
    while std::net::TcpStream::connect(listen).is_err() {
        std::thread::yield_now();
    }
    println!("mqtt://{listen}");
    loop {
        drop(rx.recv().unwrap());
    }
}
