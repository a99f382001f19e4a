//! Where clients come in: one accept loop for each listener, and what a connection passes before its
//! CONNECT is read.
//!
//! Life of a connection: accepted → counted, against the bound on all and the bound on its address,
//! or closed at once → TLS and WebSocket handshakes, in the connection's own task, in one of a bounded
//! number of places and within `handshake_timeout` → served as a stream of bytes, in which no
//! transport differs from another. Never done: a handshake in the accept loop, or anything else there
//! that waits for a client.

mod addresses;
mod origin;
pub mod tls;
pub(crate) mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::auth::{Peer, Transport};
use crate::broker::Shared;
use crate::connection;
use addresses::{Addresses, Place};
use origin::Origins;
use tls::Tls;
use websocket::WebSocket;

/// Wait after a failed accept: out of file descriptors, trying at once again would fail at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A socket to accept on, and what is spoken there.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    transport: Transport,
    tls: Option<Tls>,
}

impl Listener {
    /// MQTT on a plain socket.
    #[must_use]
    pub const fn tcp(socket: TcpListener) -> Self {
        Self { socket, transport: Transport::Tcp, tls: None }
    }

    /// MQTT in TLS.
    #[must_use]
    pub const fn tls(socket: TcpListener, tls: Tls) -> Self {
        Self { socket, transport: Transport::Tls, tls: Some(tls) }
    }

    /// MQTT in WebSocket frames.
    #[must_use]
    pub const fn web_socket(socket: TcpListener) -> Self {
        Self { socket, transport: Transport::WebSocket, tls: None }
    }

    /// MQTT in WebSocket frames in TLS.
    #[must_use]
    pub const fn secure_web_socket(socket: TcpListener, tls: Tls) -> Self {
        Self { socket, transport: Transport::SecureWebSocket, tls: Some(tls) }
    }

    /// What is spoken there.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Where it is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection's bytes, whatever they come over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Bytes that the transport itself holds back.
    fn buffered(&self) -> usize {
        0
    }

    /// Bytes that were read since this was last asked and that were the transport's own. A read that
    /// brings nothing else is pending.
    fn take_overhead(&mut self) -> usize {
        0
    }
}

impl Stream for TcpStream {}
impl Stream for TlsStream<TcpStream> {}
#[cfg(test)]
impl Stream for tokio::io::DuplexStream {}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn buffered(&self) -> usize {
        (**self).buffered()
    }

    fn take_overhead(&mut self) -> usize {
        (**self).take_overhead()
    }
}

/// What all listeners of a broker share.
#[derive(Debug)]
pub(crate) struct Entrance {
    connections: Arc<Semaphore>,
    handshakes: Semaphore,
    addresses: Arc<Addresses>,
}

impl Entrance {
    pub(crate) fn new(config: &crate::config::BrokerConfig) -> Self {
        let permits = |n: usize| n.min(Semaphore::MAX_PERMITS);
        Self {
            connections: Arc::new(Semaphore::new(permits(config.max_connections))),
            handshakes: Semaphore::new(permits(config.max_handshakes)),
            addresses: Arc::new(Addresses::new(config.max_connections_per_address)),
        }
    }
}

/// What a connection holds while it is open. It is let go of when its tickets were answered and not
/// before: what is followed without a socket is bounded, too.
#[derive(Debug)]
struct Admission {
    _connection: OwnedSemaphorePermit,
    _address: Place,
}

/// Accepts until `stop`.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    entrance: Arc<Entrance>,
    listener: Listener,
    stop: CancellationToken,
) {
    let Listener { socket, transport, tls } = listener;
    let origins = socket.local_addr().map(|address| address.ip().is_loopback());
    let origins = Origins::new(origins.unwrap_or(false), &shared.config.ws_origins);
    let door = Arc::new(Door { shared, entrance, transport, tls, origins });
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => Door::accepted(&door, stream, address),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// One listener, as its connections see it.
struct Door {
    shared: Arc<Shared>,
    entrance: Arc<Entrance>,
    transport: Transport,
    tls: Option<Tls>,
    origins: Origins,
}

/// Why no connection came of a socket.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("max_handshakes are under way, and none ended within handshake_timeout")]
    Busy,
    #[error("the handshake was not over within handshake_timeout")]
    Timeout,
    #[error("the TLS handshake failed: {0}")]
    Tls(io::Error),
    #[error("the WebSocket handshake failed: {0}")]
    WebSocket(websocket::HandshakeError),
    #[error("the broker shuts down")]
    Shutdown,
}

impl Refused {
    /// The metric's label.
    const fn label(&self) -> &'static str {
        match self {
            Self::Busy => "handshake_busy",
            Self::Timeout => "handshake_timeout",
            Self::Tls(_) | Self::WebSocket(_) => "handshake_failed",
            Self::Shutdown => "shutdown",
        }
    }
}

impl Door {
    /// Lets a connection in or closes it. Waits for nothing.
    fn accepted(door: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let metrics = &door.shared.metrics;
        if door.shared.buffers.is_full() {
            return metrics.connect("memory");
        }
        let entrance = &door.entrance;
        let Ok(connection) = Arc::clone(&entrance.connections).try_acquire_owned() else {
            return metrics.connect("full");
        };
        let Some(place) = Addresses::enter(&entrance.addresses, address.ip()) else {
            return metrics.connect("address_full");
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "a socket was gone as it came");
            return;
        }
        let admission = Admission { _connection: connection, _address: place };
        let (shared, tasks) = (Arc::clone(&door.shared), &door.shared.tasks);
        if door.transport == Transport::Tcp {
            tasks.spawn(async move {
                connection::serve(shared, stream, Peer::tcp(address)).await;
                drop(admission);
            });
        } else {
            let door = Arc::clone(door);
            tasks.spawn(async move {
                // Boxed, so that what only the beginning needs is not kept to the end.
                match Box::pin(door.shake_hands(stream, address)).await {
                    Ok((stream, peer)) => connection::serve(shared, stream, peer).await,
                    Err(refused) => {
                        shared.metrics.connect(refused.label());
                        tracing::debug!(%address, reason = %refused, "no connection came of a socket");
                    }
                }
                drop(admission);
            });
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(Box<dyn Stream>, Peer), Refused> {
        let patience = self.shared.config.handshake_timeout;
        let wait = async {
            let place = tokio::time::timeout(patience, self.entrance.handshakes.acquire());
            // The semaphore is never closed.
            let _place = place.await.map_err(|_| Refused::Busy)?.map_err(|_| Refused::Shutdown)?;
            self.shared.metrics.handshakes.increment(1.0);
            let done = tokio::time::timeout(patience, self.handshake(stream, address)).await;
            self.shared.metrics.handshakes.decrement(1.0);
            done.unwrap_or(Err(Refused::Timeout))
        };
        tokio::select! {
            done = wait => done,
            () = self.shared.stop.cancelled() => Err(Refused::Shutdown),
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(Box<dyn Stream>, Peer), Refused> {
        let mut peer = Peer { address, transport: self.transport, certificate: None };
        let max_frame = self.shared.config.max_packet_bytes;
        let web = matches!(self.transport, Transport::WebSocket | Transport::SecureWebSocket);
        let Some(tls) = &self.tls else {
            let stream = WebSocket::accept(stream, &self.origins, max_frame).await;
            return Ok((Box::new(stream.map_err(Refused::WebSocket)?), peer));
        };
        let stream = tls.accept(stream).await.map_err(Refused::Tls)?;
        let (_, session) = stream.get_ref();
        peer.certificate = session.peer_certificates().and_then(<[_]>::first).map(|c| c[..].into());
        if !web {
            return Ok((Box::new(stream), peer));
        }
        let stream = WebSocket::accept(stream, &self.origins, max_frame).await;
        Ok((Box::new(stream.map_err(Refused::WebSocket)?), peer))
    }
}
