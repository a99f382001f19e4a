//! MQTT 3.1.1 by hand, for clients that do what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::DEADLINE;

pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// A UTF-8 string or binary data as it is on the wire.
pub fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = text.as_ref();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A packet: its first byte, its length, its body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = body.len();
    loop {
        let more = if len > 0x7f { 0x80 } else { 0 };
        bytes.push((len & 0x7f) as u8 | more);
        len >>= 7;
        if len == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// CONNECT with a clean session; a will is topic and payload, at QoS 1.
pub fn connect(id: &str, keep_alive: u16, will: Option<(&str, &str)>) -> Vec<u8> {
    let flags = if will.is_some() { 0x0e } else { 0x02 };
    let mut body = text("MQTT");
    body.extend_from_slice(&[4, flags]);
    body.extend_from_slice(&keep_alive.to_be_bytes());
    body.extend(text(id));
    if let Some((topic, payload)) = will {
        body.extend(text(topic));
        body.extend(text(payload));
    }
    packet(0x10, &body)
}

/// CONNECT with a clean session, a name that is the client id, too, and a password.
pub fn connect_as(name: &str, password: &str, keep_alive: u16) -> Vec<u8> {
    let head = [&text("MQTT")[..], &[4, 0xc2], &keep_alive.to_be_bytes()].concat();
    packet(0x10, &[head, text(name), text(name), text(password)].concat())
}

/// PUBLISH at QoS 1.
pub fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    packet(0x32, &[&text(topic), id.to_be_bytes().as_slice(), payload].concat())
}

/// A socket that speaks what it is told to.
pub struct Raw(pub TcpStream);

impl Raw {
    /// A socket, and nothing said yet.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// A socket whose kernel takes little before its owner reads.
    pub async fn open_small(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self(socket.connect(address).await.unwrap())
    }

    /// A connection that was accepted.
    pub async fn connected(address: SocketAddr, id: &str) -> Self {
        Self::connected_as(address, &connect(id, 60, None)).await
    }

    /// The same, with a CONNECT of the caller's.
    pub async fn connected_as(address: SocketAddr, connect: &[u8]) -> Self {
        let mut raw = Self::open(address).await;
        raw.send(connect).await;
        assert_eq!(raw.next().await, Some((0x20, vec![0, 0])), "CONNACK");
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next packet; `None` when the server closed.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let packet = async {
            let first = self.0.read_u8().await.ok()?;
            let (mut len, mut shift) = (0, 0);
            loop {
                let byte = self.0.read_u8().await.ok()?;
                len |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; len];
            self.0.read_exact(&mut body).await.ok()?;
            Some((first, body))
        };
        tokio::time::timeout(DEADLINE, packet).await.expect("a packet or the end")
    }

    pub async fn subscribe(&mut self, filter: &str, qos: u8) {
        let body = [&[0, 1], text(filter).as_slice(), &[qos]].concat();
        self.send(&packet(0x82, &body)).await;
        assert_eq!(self.next().await, Some((0x90, vec![0, 1, qos])), "SUBACK");
    }

    /// Whether the server has closed the connection by now, or does within `patience`; what it sends
    /// before is thrown away.
    pub async fn closes_within(&mut self, patience: Duration) -> bool {
        let mut sink = [0; 4096];
        let end = async { while matches!(self.0.read(&mut sink).await, Ok(1..)) {} };
        tokio::time::timeout(patience, end).await.is_ok()
    }
}
