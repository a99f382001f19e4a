//! The connections of the HTTP side: how many there are, in TLS where it is set, how long one may say
//! nothing, and how long it may take to ask something.
//!
//! Handshakes run in tasks of their own, with a deadline, and count as connections: whoever only
//! pretends to shake hands holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use loushan_broker::listen::tls::Tls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long neither side may say anything, and how long the head of the next request may be on its way,
/// a byte now and then: longer than a scraper's interval, so that its connection stays, and short enough
/// that those who only hold connections do not keep others out for long.
const SILENCE: Duration = Duration::from_secs(75);

/// Wait after a failed accept: out of file descriptors, trying at once again would fail at once.
const BACKOFF: Duration = Duration::from_millis(100);

/// The bounds of the HTTP side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Exports at a time.
    pub exports: usize,
    /// Connections at a time.
    pub connections: usize,
    /// What a question to the store may take.
    pub query: QueryLimits,
}

/// The bounds of one question to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// Bytes it may keep.
    pub memory: usize,
    /// How long it may take. An export may take as long as its receiver does.
    pub timeout: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { memory: 64 << 20, timeout: Duration::from_secs(60) }
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct From(pub(super) SocketAddr);

/// Answers on `socket` until `stop`, then finishes the requests under way.
pub(super) async fn serve(
    socket: TcpListener,
    tls: Option<Tls>,
    limits: HttpLimits,
    app: Router,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let (stream, address) = match accepted {
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
        let (tls, app, stop) = (tls.clone(), app.clone(), stop.clone());
        connections.spawn(async move {
            let _counted = Counted::new();
            let shaken = tokio::select! {
                shaken = tokio::time::timeout(HANDSHAKE, shake_hands(stream, tls)) => shaken,
                () = stop.cancelled() => return,
            };
            match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => converse(stream, address, app, stop).await,
                Err(error) => tracing::debug!(%address, %error, "a TLS handshake failed"),
            }
            drop(permit);
        });
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// A connection in the metrics, as long as it is there.
struct Counted(metrics::Gauge);

impl Counted {
    fn new() -> Self {
        let open = metrics::gauge!("loushan_http_connections");
        open.increment(1.0);
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// One connection, to its end.
async fn converse(
    stream: Box<dyn Bytes>,
    address: SocketAddr,
    app: Router,
    stop: CancellationToken,
) {
    let app = app.layer(Extension(ConnectInfo(From(address))));
    let mut server = Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let stream = TokioIo::new(Connection::new(stream));
    let serving = server.serve_connection(stream, TowerToHyperService::new(app));
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%address, error, "an HTTP connection ended");
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

/// A connection that fails when nothing was said on it for too long.
struct Connection {
    stream: Box<dyn Bytes>,
    silence: Pin<Box<Sleep>>,
}

impl Connection {
    fn new(stream: Box<dyn Bytes>) -> Self {
        Self { stream, silence: Box::pin(tokio::time::sleep(SILENCE)) }
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    fn app() -> Router {
        Router::new().route("/", get(|| async { "answer" }))
    }

    fn connected() -> DuplexStream {
        let (client, server) = tokio::io::duplex(4096);
        let address = ([127, 0, 0, 1], 1).into();
        tokio::spawn(converse(Box::new(server), address, app(), CancellationToken::new()));
        client
    }

    async fn answer<S: AsyncRead + Unpin>(stream: &mut S) {
        let mut heard = Vec::new();
        while !heard.ends_with(b"answer") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "closed without an answer");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_a_byte_at_a_time_is_not_listened_to_for_ever() {
        let mut slow = connected();
        let begun = Instant::now();
        for byte in REQUEST.iter().cycle().filter(|byte| !byte.is_ascii_whitespace()) {
            if slow.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(begun.elapsed() <= SILENCE * 2, "it is listened to");
        }
        assert!(begun.elapsed() >= SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_now_and_then_stays_and_a_silent_one_goes() {
        let mut scraper = connected();
        for _ in 0..10 {
            scraper.write_all(REQUEST).await.unwrap();
            answer(&mut scraper).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let begun = Instant::now();
        assert_eq!(scraper.read(&mut [0]).await.unwrap_or(0), 0);
        assert!(begun.elapsed() <= SILENCE);
    }

    #[tokio::test]
    async fn there_are_so_many_connections_and_no_more_and_a_stop_ends_those_that_wait() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (limits, stop) = (
            HttpLimits { exports: 1, connections: 2, query: QueryLimits::default() },
            CancellationToken::new(),
        );
        let serving = tokio::spawn(serve(socket, None, limits, app(), stop.clone()));
        let open = async || TcpStream::connect(address).await.unwrap();
        let (mut first, mut second) = (open().await, open().await);
        for stream in [&mut first, &mut second] {
            stream.write_all(REQUEST).await.unwrap();
            answer(stream).await;
        }
        assert_eq!(open().await.read(&mut [0]).await.unwrap_or(0), 0);
        drop(first);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let mut third = open().await;
            drop(third.write_all(REQUEST).await);
            if third.read(&mut [0]).await.is_ok_and(|read| read > 0) {
                break;
            }
            assert!(Instant::now() < deadline, "its place was not given back");
        }
        stop.cancel();
        serving.await.unwrap();
        assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0);
    }
}
