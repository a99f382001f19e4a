//! What servers of the tests' own have in common.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;

/// A packet: first byte and body.
pub(crate) type Packet = (u8, Vec<u8>);

/// The next packet; `None` when the client is gone.
pub(crate) fn read_packet(stream: &mut TcpStream) -> Option<Packet> {
    let mut byte = [0];
    let mut next = |stream: &mut TcpStream| match stream.read_exact(&mut byte) {
        Ok(()) => Some(byte[0]),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => None,
        Err(e) if e.kind() == ErrorKind::ConnectionReset => None,
        Err(e) => panic!("{e}"),
    };
    let first = next(stream)?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = next(stream)?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, body))
}
