//! What a connection costs: resident memory of the service for each idle publisher and each idle
//! subscriber, and whether it stays level over connections that come and go.
//! `cargo bench --bench connections`; the clients are this process, the service is another one.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss, clippy::print_stdout)]

#[path = "end_to_end/server.rs"]
#[allow(dead_code)]
mod server;
#[path = "end_to_end/stock.rs"]
#[allow(dead_code)]
mod stock;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use server::Server;

/// Connections that are open at once.
const PUBLISHERS: usize = 10_000;
const SUBSCRIBERS: usize = 2_000;
/// Connections that come and go, before the first look and between the two.
const WARM_UP: usize = 5_000;
const CYCLES: usize = 20_000;

/// What there is of one kind in the packets below: a length byte and no more.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(body.len()).unwrap()], body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// A client that had its CONNACK: MQTT 3.1.1, clean, keep-alive 600 s.
fn connect(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let body = [text("MQTT"), vec![4, 2, 0x02, 0x58], text(id)].concat();
    stream.write_all(&packet(0x10, &body)).unwrap();
    answer(&mut stream, 4, 0x20);
    stream
}

fn answer(stream: &mut TcpStream, len: usize, first: u8) {
    let mut answer = vec![0; len];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[0], first, "{answer:02x?}");
}

/// Publishes once, at QoS 1, and has its PUBACK: what an idle publisher has done before.
fn publisher(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = connect(address, id);
    let body = [text(&format!("bench/{id}/state")), vec![0, 1], vec![7; 50]].concat();
    stream.write_all(&packet(0x32, &body)).unwrap();
    answer(&mut stream, 4, 0x40);
    stream
}

/// Subscribed at QoS 0, which takes a link to the router.
fn subscriber(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = connect(address, id);
    let body = [vec![0, 1], text(&format!("bench/{id}/d")), vec![0]].concat();
    stream.write_all(&packet(0x82, &body)).unwrap();
    answer(&mut stream, 5, 0x90);
    stream
}

/// Kilobytes of the service that each of `count` idle clients costs.
fn idle(count: usize, client: impl Fn(SocketAddr, &str) -> TcpStream) -> f64 {
    let server = Server::loushan();
    // What the first few connections make is not the others' cost.
    drop((0..100).map(|n| client(server.address(), &format!("w{n}"))).collect::<Vec<_>>());
    let before = server.resident_mb();
    let clients: Vec<_> = (0..count).map(|n| client(server.address(), &format!("c{n}"))).collect();
    let after = server.resident_mb();
    drop(clients);
    (after - before) * 1024.0 / count as f64
}

fn main() {
    // Arguments are cargo's own.
    rustix::process::setrlimit(rustix::process::Resource::Nofile, {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        rustix::process::Rlimit { current: limit.maximum, ..limit }
    })
    .unwrap();
    println!("{:>8} idle publishers, each:  {:6.1} KB", PUBLISHERS, idle(PUBLISHERS, publisher));
    println!("{:>8} idle subscribers, each: {:6.1} KB", SUBSCRIBERS, idle(SUBSCRIBERS, subscriber));
    let server = Server::loushan();
    let cycle = |count: usize| {
        for n in 0..count {
            let mut stream = publisher(server.address(), &format!("c{n}"));
            stream.write_all(&[0xe0, 0]).unwrap();
        }
        server.resident_mb()
    };
    let before = cycle(WARM_UP);
    let after = cycle(CYCLES);
    println!(
        "resident after {WARM_UP} connections {before:.1} MB, after {CYCLES} more {after:.1} MB"
    );
}
