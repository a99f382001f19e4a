//! The connections of the HTTP side: how many there are, in TLS where it is set, and how long one may
//! say nothing.
//!
//! Handshakes run in tasks of their own, with a deadline, and count as connections: whoever only
//! pretends to shake hands holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use loushan_broker::listen::tls::Tls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long neither side may say anything: longer than a scraper's interval, so that its connection
/// stays, and short enough that those who only hold connections do not keep others out for long.
const SILENCE: Duration = Duration::from_secs(75);

/// Wait after a failed accept: out of file descriptors, trying at once again would fail at once.
const BACKOFF: Duration = Duration::from_millis(100);

/// Connections whose handshake is over and that wait to be served.
const READY: usize = 16;

/// The bounds of the HTTP side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Exports at a time.
    pub exports: usize,
    /// Connections at a time.
    pub connections: usize,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct From(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for From {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A listener whose connections are bounded.
pub(super) struct Bounded {
    address: SocketAddr,
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
    _accepting: JoinSet<()>,
}

impl Bounded {
    /// Accepts on `socket` until it is dropped.
    pub(super) fn new(
        socket: TcpListener,
        tls: Option<Tls>,
        limits: HttpLimits,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let (sender, ready) = mpsc::channel(READY);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(socket, tls, limits, sender));
        Ok(Self { address, ready, _accepting: accepting })
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task never ends before we do.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(
    socket: TcpListener,
    tls: Option<Tls>,
    limits: HttpLimits,
    ready: mpsc::Sender<(Connection, SocketAddr)>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let (stream, address) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(BACKOFF).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            metrics::counter!("loushan_http_connections_refused_total").increment(1);
            continue;
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        handshakes.spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, shake_hands(stream, tls)).await;
            match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    // Whoever is not listened to any more is let go.
                    let _gone = ready.send((Connection::new(stream, permit), address)).await;
                }
                Err(error) => tracing::debug!(%address, %error, "a TLS handshake failed"),
            }
        });
    }
}

/// Bytes, encrypted or not.
trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Bytes for S {}

async fn shake_hands(stream: TcpStream, tls: Option<Tls>) -> io::Result<Box<dyn Bytes>> {
    stream.set_nodelay(true)?;
    Ok(match tls {
        Some(tls) => Box::new(tls.accept(stream).await?),
        None => Box::new(stream),
    })
}

/// A connection that counts, and that fails when nothing was said on it for too long.
pub(super) struct Connection {
    stream: Box<dyn Bytes>,
    silence: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: Box<dyn Bytes>, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, silence: Box::pin(tokio::time::sleep(SILENCE)), _permit: permit }
    }

    /// Something was said.
    fn heard(&mut self) {
        self.silence.as_mut().reset(Instant::now() + SILENCE);
    }

    fn poll_silence<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.silence.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => self.poll_silence(cx),
            done => {
                self.heard();
                done
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending => self.poll_silence(cx),
            done => {
                self.heard();
                done
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bytes) {
            Poll::Pending => self.poll_silence(cx),
            done => {
                self.heard();
                done
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
