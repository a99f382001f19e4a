//! A broker that answers and does nothing: CONNACK, PUBACK, PUBREC, PUBCOMP, SUBACK and PINGRESP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Lives as long as the process.
pub(crate) struct NullBroker {
    address: SocketAddr,
    publishes: Arc<AtomicU64>,
}

impl NullBroker {
    /// On a thread of its own.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let publishes = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&publishes);
        std::thread::spawn(move || {
            super::alone(async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(connection(stream, Arc::clone(&seen)));
                }
            })
        });
        Self { address, publishes }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Publishes that came, at any quality of service.
    pub(crate) fn publishes(&self) -> u64 {
        self.publishes.load(Ordering::Relaxed)
    }
}

/// Length of the fixed header and of the rest, if they are there.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut length, mut shift) = (0, 0);
    for (at, byte) in bytes.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some((at + 1, length));
        }
    }
    None
}

async fn connection(mut stream: TcpStream, seen: Arc<AtomicU64>) {
    stream.set_nodelay(true).unwrap();
    let (mut input, mut out) = (vec![0; 256 * 1024], Vec::new());
    let (mut held, mut version) = (0, 4);
    loop {
        let read = match stream.read(&mut input[held..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        held += read;
        let (mut at, mut publishes) = (0, 0);
        while let Some((start, length)) = head(&input[at..held]) {
            let end = at + start + length;
            if end > held {
                break;
            }
            let body = &input[at + start..end];
            match input[at] >> 4 {
                1 => {
                    version = body[6];
                    out.extend_from_slice(if version == 5 {
                        &[0x20, 3, 0, 0, 0]
                    } else {
                        &[0x20, 2, 0, 0]
                    });
                }
                3 => {
                    publishes += 1;
                    let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                    match input[at] >> 1 & 3 {
                        0 => {}
                        1 => out.extend_from_slice(&[0x40, 2, body[id], body[id + 1]]),
                        _ => out.extend_from_slice(&[0x50, 2, body[id], body[id + 1]]),
                    }
                }
                6 => out.extend_from_slice(&[0x70, 2, body[0], body[1]]),
                8 if version == 5 => out.extend_from_slice(&[0x90, 4, body[0], body[1], 0, 1]),
                8 => out.extend_from_slice(&[0x90, 3, body[0], body[1], 1]),
                12 => out.extend_from_slice(&[0xd0, 0]),
                _ => {}
            }
            at = end;
        }
        input.copy_within(at..held, 0);
        held -= at;
        seen.fetch_add(publishes, Ordering::Relaxed);
        if !out.is_empty() && stream.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
}
