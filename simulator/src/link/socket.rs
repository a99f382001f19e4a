//! From an address to a stream of bytes: the source address, TCP, and TLS where it is wanted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{LinkError, LinkOptions};

/// What a connection reads from and writes to.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects, and shakes hands over TLS if the target wants it.
pub(super) async fn open(options: &LinkOptions) -> Result<Box<dyn Stream>, LinkError> {
    let target = &options.access.target;
    let stream = tcp(&target.host, target.port, options.source).await;
    let stream = stream.map_err(|e| LinkError(format!("{target}: {e}")))?;
    let Some(tls) = &options.access.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(target.host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|e| LinkError(format!("{target}: {e}")))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|e| LinkError(format!("TLS with {target}: {e}")))?))
}

async fn tcp(host: &str, port: u16, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(format!("{host}:{port}")).await? {
        if source.is_some_and(|source| source.is_ipv4() != address.is_ipv4()) {
            continue;
        }
        match one(address, source).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn one(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}
