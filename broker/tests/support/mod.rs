//! A broker on a free port, a handler that does what the test says, and a client made of bytes.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loushan_broker::config::BrokerConfig;
use loushan_broker::handler::{AckTicket, Acknowledgement, Busy, Lane, Publish, PublishHandler};
use loushan_broker::{Broker, ShutdownReport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Claims `t/…` (normal lane), `a/…` (priority lane) and `nb1/…/u/…`, `nb1/…/state`.
pub struct Scripted {
    offers: mpsc::UnboundedSender<(Publish, AckTicket)>,
    automatic: bool,
    busy: AtomicBool,
    ready: Notify,
    pub refused: Notify,
}

// A test's script is as long as the test makes it, and the broker must never wait for it.
#[allow(clippy::disallowed_methods)]
impl Scripted {
    /// A handler whose tickets the test answers.
    pub fn manual() -> (Arc<Self>, mpsc::UnboundedReceiver<(Publish, AckTicket)>) {
        let (offers, receiver) = mpsc::unbounded_channel();
        let handler = Self {
            offers,
            automatic: false,
            busy: AtomicBool::new(false),
            ready: Notify::new(),
            refused: Notify::new(),
        };
        (Arc::new(handler), receiver)
    }

    /// A handler to which everything is durable at once.
    pub fn automatic() -> Arc<Self> {
        let (offers, _) = mpsc::unbounded_channel();
        Arc::new(Self {
            offers,
            automatic: true,
            busy: AtomicBool::new(false),
            ready: Notify::new(),
            refused: Notify::new(),
        })
    }

    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::SeqCst);
        if !busy {
            self.ready.notify_waiters();
        }
    }
}

impl PublishHandler for Scripted {
    fn claims(&self, topic: &str) -> Option<Lane> {
        let pilot =
            topic.starts_with("nb1/") && (topic.contains("/u/") || topic.ends_with("/state"));
        if topic.starts_with("t/") || pilot {
            Some(Lane::Normal)
        } else if topic.starts_with("a/") {
            Some(Lane::Priority)
        } else {
            None
        }
    }

    fn handle(&self, publish: Publish, ticket: AckTicket) -> Result<(), Busy> {
        if self.busy.load(Ordering::SeqCst) {
            self.refused.notify_one();
            return Err(Busy { publish, ticket });
        }
        if self.automatic {
            ticket.durable(Acknowledgement::default());
        } else {
            // A test that ended listens no more.
            drop(self.offers.send((publish, ticket)));
        }
        Ok(())
    }

    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let mut ready = std::pin::pin!(self.ready.notified());
            ready.as_mut().enable();
            if self.busy.load(Ordering::SeqCst) {
                ready.await;
            }
        })
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub broker: Arc<Broker>,
    pub stop: CancellationToken,
    pub served: JoinHandle<ShutdownReport>,
}

pub async fn start(config: BrokerConfig, handler: Arc<dyn PublishHandler>) -> Running {
    serve(Broker::new(config, handler)).await
}

pub async fn serve(broker: Broker) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let broker = Arc::new(broker);
    let stop = CancellationToken::new();
    let served = tokio::spawn({
        let (broker, stop) = (broker.clone(), stop.clone());
        async move { broker.serve(listener, stop).await }
    });
    Running { address, broker, stop, served }
}

impl Running {
    pub async fn raw(&self) -> Raw {
        let stream = TcpStream::connect(self.address).await.unwrap();
        // Small packets one after the other would each wait for the one before to be acknowledged.
        stream.set_nodelay(true).unwrap();
        Raw { stream }
    }

    /// A client that has had its CONNACK.
    pub async fn v4(&self, id: &str) -> Raw {
        let mut raw = self.raw().await;
        raw.send(&connect_v4(id, true, 0)).await;
        raw.expect(&[0x20, 2, 0, 0]).await;
        raw
    }

    pub async fn v5(&self, id: &str) -> Raw {
        let mut raw = self.raw().await;
        raw.send(&connect_v5(id, true, 0, &[])).await;
        let connack = raw.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        raw
    }
}

pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub async fn send(&mut self, bytes: &[u8]) {
        within("the broker to read", self.stream.write_all(bytes)).await.unwrap();
    }

    pub async fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        within("bytes", self.stream.read_exact(&mut got))
            .await
            .unwrap_or_else(|e| panic!("{e} instead of {bytes:02x?}"));
        assert_eq!(got, bytes, "got {got:02x?}, expected {bytes:02x?}");
    }

    /// The next packet, whatever it is.
    pub async fn packet(&mut self) -> Vec<u8> {
        let first = within("a packet", self.stream.read_u8()).await.unwrap();
        self.rest_of_packet(first).await
    }

    /// The packet whose first byte has been read.
    pub async fn rest_of_packet(&mut self, first: u8) -> Vec<u8> {
        within("the rest of a packet", async {
            let mut packet = vec![first];
            let (mut len, mut shift) = (0usize, 0);
            loop {
                let byte = self.stream.read_u8().await.unwrap();
                packet.push(byte);
                len |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let start = packet.len();
            packet.resize(start + len, 0);
            self.stream.read_exact(&mut packet[start..]).await.unwrap();
            packet
        })
        .await
    }

    /// DISCONNECT with this reason code, and a reason for people behind it.
    pub async fn expect_disconnect(&mut self, reason: u8) {
        let got = self.packet().await;
        assert_eq!((got[0], got[2]), (0xe0, reason), "{got:02x?}");
        assert!(got.len() > 7 && got[4] == 0x1f, "it says why: {got:02x?}");
    }

    /// The broker closes, having said nothing more.
    pub async fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is a close as well: we may have written what nobody read.
        drop(within("the close", self.stream.read_to_end(&mut rest)).await);
        assert!(rest.is_empty(), "{rest:02x?} before the close");
    }

    /// What was sent was served, and nothing was answered to it.
    pub async fn expect_silence(&mut self) {
        self.send(&[0xc0, 0]).await;
        self.expect(&[0xd0, 0]).await;
    }
}

pub fn text(s: &str) -> Vec<u8> {
    let mut out = u16::try_from(s.len()).unwrap().to_be_bytes().to_vec();
    out.extend(s.as_bytes());
    out
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut len = body.len();
    loop {
        let byte = (len & 0x7f) as u8;
        len >>= 7;
        out.push(if len > 0 { byte | 0x80 } else { byte });
        if len == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

pub fn connect_v4(id: &str, clean: bool, keep_alive: u16) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([4, u8::from(clean) << 1]);
    body.extend(keep_alive.to_be_bytes());
    body.extend(text(id));
    packet(0x10, &body)
}

pub fn connect_v5(id: &str, clean: bool, keep_alive: u16, properties: &[u8]) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([5, u8::from(clean) << 1]);
    body.extend(keep_alive.to_be_bytes());
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend(properties);
    body.extend(text(id));
    packet(0x10, &body)
}

pub fn publish_v4(flags: u8, topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(id.into_iter().flat_map(u16::to_be_bytes));
    body.extend(payload);
    packet(0x30 | flags, &body)
}

pub fn publish_v5(
    flags: u8,
    topic: &str,
    id: Option<u16>,
    properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(id.into_iter().flat_map(u16::to_be_bytes));
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend(properties);
    body.extend(payload);
    packet(0x30 | flags, &body)
}

pub fn subscribe_v4(id: u16, filter: &str, qos: u8) -> Vec<u8> {
    packet(0x82, &[&id.to_be_bytes()[..], &text(filter), &[qos]].concat())
}

pub fn subscribe_v5(id: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.push(properties.len() as u8);
    body.extend(properties);
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}
