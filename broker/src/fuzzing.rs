//! What the fuzz targets run, and the replay of their corpus in the tests: arbitrary bytes against
//! what a client can reach. Each function panics where a promise is broken and returns where none is.

mod mqtt;
mod session;
mod topics;

/// A v3.1.1 client's bytes, however they are cut into reads.
pub fn mqtt_v311(data: &[u8]) {
    mqtt::run(crate::wire::Version::V311, data);
}

/// A v5 client's bytes, however they are cut into reads.
pub fn mqtt_v5(data: &[u8]) {
    mqtt::run(crate::wire::Version::V5, data);
}

/// Packets in any order against links, while tickets are answered in any order, late, badly or never.
pub fn session(data: &[u8]) {
    session::run(data);
}

/// A topic name and filters, a line each: what is valid, what matches, what the tree finds.
pub fn topics(data: &[u8]) {
    topics::run(data);
}
