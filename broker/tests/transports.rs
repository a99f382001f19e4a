//! The same MQTT over every transport, and what a connection passes before its CONNECT is read.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use loushan_broker::Broker;
use loushan_broker::auth::{AllowAll, Authority, Credentials, Grant, Peer, Refusal, Transport};
use loushan_broker::config::BrokerConfig;
use loushan_broker::listen::Listener;
use loushan_broker::listen::tls::{ClientCertificates, Tls, TlsFiles};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use support::{Scripted, connect_v4, connect_v5, publish_v4, publish_v5, within};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, version,
};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

/// Certificates of one authority, in files.
struct Certificates {
    dir: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let it = Self { dir: tempfile::tempdir().unwrap(), ca };
        std::fs::write(it.path("ca.crt"), it.ca.pem()).unwrap();
        it.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
        it.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
        it
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        std::fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn files(&self, client_certificates: ClientCertificates) -> TlsFiles {
        TlsFiles {
            section: "mqtt.tls",
            certificate: self.path("server.crt"),
            key: self.path("server.key"),
            client_ca: (client_certificates != ClientCertificates::None)
                .then(|| self.path("ca.crt")),
            client_certificates,
            alpn: &[],
        }
    }

    fn tls(&self, client_certificates: ClientCertificates) -> Tls {
        Tls::load(self.files(client_certificates)).unwrap()
    }

    fn der(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap()
    }

    fn client(
        &self,
        certificate: bool,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der("ca")).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = if certificate {
            let key = PrivateKeyDer::from_pem_file(self.path("client.key")).unwrap();
            builder.with_client_auth_cert(vec![self.der("client")], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, address: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = self.client(false, rustls::ALL_VERSIONS);
        within("the handshake", connector.connect("localhost".try_into().unwrap(), stream))
            .await
            .unwrap()
    }
}

/// A broker on one listener.
struct Served {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve_with(
    config: BrokerConfig,
    authority: Arc<dyn Authority>,
    listener: impl FnOnce(TcpListener) -> Listener,
) -> Served {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let broker = Broker::with_authority(config, Scripted::automatic(), authority);
    let (listeners, stopped) = ([listener(socket)], stop.clone());
    tokio::spawn(async move { broker.serve_on(listeners, stopped).await });
    Served { address, stop }
}

async fn serve(config: BrokerConfig, listener: impl FnOnce(TcpListener) -> Listener) -> Served {
    serve_with(config, Arc::new(AllowAll), listener).await
}

/// What a client that published once hears, in 3.1.1.
const HEARD: &[u8] = &[0x20, 2, 0, 0, 0x40, 2, 0, 1];
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// CONNECT and a large publish.
fn said() -> Vec<u8> {
    [connect_v4("c", true, 0), publish_v4(2, "t/x", Some(1), &[7; 200_000])].concat()
}

/// Says that, and DISCONNECT when it is acknowledged.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    within("answers", async {
        stream.write_all(&said()).await.unwrap();
        stream.flush().await.unwrap();
        let mut heard = vec![0; HEARD.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, HEARD);
        stream.write_all(&DISCONNECT).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        // A TLS session that is closed without its own goodbye is an error to rustls.
        drop(stream.read_to_end(&mut rest).await);
        assert!(rest.is_empty(), "{rest:02x?}");
    })
    .await;
}

fn request(address: SocketAddr, protocol: Option<&str>) -> tungstenite::handshake::client::Request {
    let mut request = format!("ws://{address}/mqtt").into_client_request().unwrap();
    if let Some(protocol) = protocol {
        let value = HeaderValue::from_str(protocol).unwrap();
        request.headers_mut().insert("sec-websocket-protocol", value);
    }
    request
}

async fn web<S: AsyncRead + AsyncWrite + Unpin>(
    address: SocketAddr,
    stream: S,
) -> WebSocketStream<S> {
    let request = request(address, Some("mqttv3.1, mqtt"));
    let (socket, response) = within("the handshake", client_async(request, stream)).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
    socket
}

/// Sends `said` in frames of `piece` bytes, listens until the PUBACK, and disconnects.
async fn in_frames<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    said: &[u8],
    piece: usize,
) -> Vec<u8> {
    within("answers", async {
        for piece in said.chunks(piece) {
            socket.feed(Message::Binary(piece.to_vec().into())).await.unwrap();
        }
        socket.flush().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(&HEARD[4..]) {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => heard.extend_from_slice(&bytes),
                other => panic!("{other:?}"),
            }
        }
        socket.send(Message::Binary(DISCONNECT.to_vec().into())).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            assert!(message.is_close(), "{message:?}");
        }
        heard
    })
    .await
}

#[tokio::test]
async fn mqtt_over_tls_1_2_and_1_3() {
    let certificates = Certificates::new();
    let tls = certificates.tls(ClientCertificates::None);
    let served = serve(BrokerConfig::default(), |socket| Listener::tls(socket, tls)).await;
    for version in [&version::TLS12, &version::TLS13] {
        let stream = TcpStream::connect(served.address).await.unwrap();
        let connector = certificates.client(false, &[version]);
        let name = "localhost".try_into().unwrap();
        let stream = within("the handshake", connector.connect(name, stream)).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        speak(stream).await;
    }
}

#[tokio::test]
async fn mqtt_6_0_0_2_packets_span_frames_and_share_them_in_both_versions() {
    let served = serve(BrokerConfig::default(), Listener::web_socket).await;
    let v4 = [connect_v4("four", true, 0), publish_v4(2, "t/x", Some(1), &[7; 3000])].concat();
    for piece in [1, 7, 1000, v4.len()] {
        let stream = TcpStream::connect(served.address).await.unwrap();
        let socket = web(served.address, stream).await;
        assert_eq!(in_frames(socket, &v4, piece).await, HEARD, "{piece}");
    }
    let v5 = [connect_v5("five", true, 0, &[]), publish_v5(2, "t/x", Some(1), &[], b"p")].concat();
    let stream = TcpStream::connect(served.address).await.unwrap();
    let heard = in_frames(web(served.address, stream).await, &v5, 5).await;
    assert_eq!((heard[0], heard[3]), (0x20, 0), "{heard:02x?}");
}

#[tokio::test]
async fn mqtt_over_web_socket_in_tls() {
    let certificates = Certificates::new();
    let tls = certificates.tls(ClientCertificates::None);
    let config = BrokerConfig::default();
    let served = serve(config, |socket| Listener::secure_web_socket(socket, tls)).await;
    let socket = web(served.address, certificates.connect(served.address).await).await;
    assert_eq!(in_frames(socket, &said(), 60_000).await, HEARD);
}

#[tokio::test]
async fn mqtt_6_0_0_3_a_web_socket_without_the_sub_protocol_or_from_a_strange_page_is_refused() {
    let served = serve(BrokerConfig::default(), Listener::web_socket).await;
    let mut foreign = request(served.address, Some("mqtt"));
    foreign.headers_mut().insert("origin", HeaderValue::from_static("https://evil.example"));
    let mut rebound = request(served.address, Some("mqtt"));
    rebound.headers_mut().insert("host", HeaderValue::from_static("evil.example"));
    for (request, status) in [
        (request(served.address, None), 400),
        (request(served.address, Some("amqp")), 400),
        (foreign, 403),
        (rebound, 403),
    ] {
        let stream = TcpStream::connect(served.address).await.unwrap();
        let refused = within("the answer", client_async(request, stream)).await;
        let Err(tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
        assert_eq!(response.status(), status);
    }
}

/// Remembers who came.
#[derive(Default)]
struct Doorman {
    peers: Mutex<Vec<Peer>>,
}

impl Authority for Doorman {
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>> {
        self.peers.lock().push(credentials.peer.clone());
        AllowAll.authenticate(credentials)
    }
}

#[tokio::test]
async fn a_clients_certificate_reaches_whoever_decides() {
    let certificates = Certificates::new();
    let doorman = Arc::new(Doorman::default());
    let tls = certificates.tls(ClientCertificates::Optional);
    let config = BrokerConfig::default();
    let served = serve_with(config, doorman.clone(), |socket| Listener::tls(socket, tls)).await;
    for with in [true, false] {
        let stream = TcpStream::connect(served.address).await.unwrap();
        let connector = certificates.client(with, rustls::ALL_VERSIONS);
        let name = "localhost".try_into().unwrap();
        speak(within("the handshake", connector.connect(name, stream)).await.unwrap()).await;
    }
    let peers = doorman.peers.lock();
    assert!(peers.iter().all(|peer| peer.transport == Transport::Tls));
    let shown: Vec<_> = peers.iter().map(|peer| peer.certificate.as_deref()).collect();
    assert_eq!(shown, [Some(&certificates.der("client")[..]), None]);
}

#[tokio::test]
async fn without_a_good_certificate_there_is_no_connection_where_one_is_required() {
    let (certificates, strangers) = (Certificates::new(), Certificates::new());
    let tls = certificates.tls(ClientCertificates::Required);
    let served = serve(BrokerConfig::default(), |socket| Listener::tls(socket, tls)).await;
    // A stranger that trusts our authority but is trusted by its own only.
    std::fs::copy(strangers.path("client.crt"), certificates.path("client.crt")).unwrap();
    std::fs::copy(strangers.path("client.key"), certificates.path("client.key")).unwrap();
    for with in [false, true] {
        let stream = TcpStream::connect(served.address).await.unwrap();
        let connector = certificates.client(with, rustls::ALL_VERSIONS);
        let name = "localhost".try_into().unwrap();
        let heard = within("the refusal", async {
            // In TLS 1.3 the client is told after its own side of the handshake is over.
            let mut stream = connector.connect(name, stream).await?;
            stream.write_all(&connect_v4("c", true, 0)).await?;
            stream.read_u8().await
        });
        assert!(heard.await.is_err());
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_the_next_handshake_and_connections_go_on() {
    let certificates = Certificates::new();
    let tls = certificates.tls(ClientCertificates::None);
    let listening = tls.clone();
    let served = serve(BrokerConfig::default(), |socket| Listener::tls(socket, listening)).await;
    let first = certificates.connect(served.address).await;
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    assert!(!tls.reload().unwrap(), "nothing changed");
    let before = shown(&first);
    certificates.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
    assert!(tls.reload().unwrap());
    let second = certificates.connect(served.address).await;
    assert_ne!(shown(&second), before);
    assert_eq!(shown(&second), certificates.der("server"));
    // Files that cannot be used change nothing.
    std::fs::write(certificates.path("server.key"), "nonsense").unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.starts_with("mqtt.tls.key: ") && error.contains("server.key"), "{error}");
    let third = certificates.connect(served.address).await;
    for stream in [first, second, third] {
        speak(stream).await;
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_key_and_remedy() {
    let certificates = Certificates::new();
    let good = || certificates.files(ClientCertificates::Required);
    let other = certificates.path("client.key");
    let wrong = |path: &Path| path.to_owned();
    let missing = certificates.path("none.pem");
    for (files, key, path) in [
        (TlsFiles { certificate: missing.clone(), ..good() }, "certificate", &missing),
        (TlsFiles { certificate: wrong(&other), ..good() }, "certificate", &other),
        (TlsFiles { key: wrong(&other), ..good() }, "key", &other),
        (
            TlsFiles { key: certificates.path("ca.crt"), ..good() },
            "key",
            &certificates.path("ca.crt"),
        ),
        (TlsFiles { client_ca: Some(wrong(&other)), ..good() }, "client_ca", &other),
    ] {
        let error = Tls::load(files).unwrap_err();
        assert_eq!((error.key, &error.path), (key, path), "{error}");
        let told = error.to_string();
        assert!(told.starts_with(&format!("mqtt.tls.{key}: ")) && told.contains("; "), "{told}");
    }
    assert!(Tls::load(good()).is_ok());
}

/// Nothing was said until the other end closed.
async fn is_closed(mut stream: TcpStream) {
    let mut heard = Vec::new();
    drop(within("the close", stream.read_to_end(&mut heard)).await);
    assert!(heard.is_empty(), "{heard:02x?}");
}

#[tokio::test]
async fn who_does_not_shake_hands_is_cut_and_holds_a_place_no_longer_than_that() {
    let certificates = Certificates::new();
    let tls = certificates.tls(ClientCertificates::None);
    let config = BrokerConfig {
        handshake_timeout: Duration::from_millis(500),
        max_handshakes: 1,
        ..BrokerConfig::default()
    };
    let served = serve(config.clone(), |socket| Listener::tls(socket, tls)).await;
    let silent = TcpStream::connect(served.address).await.unwrap();
    let begun = tokio::time::Instant::now();
    // It waits for the only place, and gets it when the silent one's time is over.
    let next = certificates.connect(served.address);
    let (_, next) = tokio::join!(is_closed(silent), next);
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    speak(next).await;

    let served = serve(config, Listener::web_socket).await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    is_closed(slow).await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let config = BrokerConfig { max_connections_per_address: 2, ..BrokerConfig::default() };
    let served = serve(config, Listener::tcp).await;
    let connect = || async { TcpStream::connect(served.address).await.unwrap() };
    let (mut first, mut second) = (connect().await, connect().await);
    for (id, stream) in [("1", &mut first), ("2", &mut second)] {
        stream.write_all(&connect_v4(id, true, 0)).await.unwrap();
        within("CONNACK", stream.read_exact(&mut [0; 4])).await.unwrap();
    }
    is_closed(connect().await).await;
    first.write_all(&[0xe0, 0]).await.unwrap();
    is_closed(first).await;
    // Its place is free a moment after its socket closed.
    within("a place", async {
        loop {
            let mut stream = connect().await;
            drop(stream.write_all(&connect_v4("3", true, 0)).await);
            if stream.read_exact(&mut [0; 4]).await.is_ok() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn while_memory_is_short_nobody_new_is_let_in() {
    let config = BrokerConfig { total_buffer_bytes: 10_000, ..BrokerConfig::default() };
    let served = serve(config, Listener::tcp).await;
    let mut greedy = TcpStream::connect(served.address).await.unwrap();
    let mut said = connect_v4("greedy", true, 0);
    said.extend(&publish_v4(2, "t/x", Some(1), &[7; 100_000])[..50_000]);
    greedy.write_all(&said).await.unwrap();
    within("CONNACK", greedy.read_exact(&mut [0; 4])).await.unwrap();
    within("a refusal", async {
        loop {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            drop(stream.write_all(&connect_v4("new", true, 0)).await);
            if stream.read_exact(&mut [0; 4]).await.is_err() {
                return;
            }
        }
    })
    .await;
    // It ends with the one that holds it.
    drop(greedy);
    within("room", async {
        loop {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            drop(stream.write_all(&connect_v4("new", true, 0)).await);
            if stream.read_exact(&mut [0; 4]).await.is_ok() {
                return;
            }
        }
    })
    .await;
}
