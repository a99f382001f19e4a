//! Whom the sink believes, and who it says it is.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(ca: &Ca, clients: Option<&Ca>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn write(path: &Path, pem: &str) -> Option<std::path::PathBuf> {
    std::fs::write(path, pem).unwrap();
    Some(path.to_owned())
}

#[tokio::test]
async fn a_private_authoritys_server_is_believed_and_its_path_and_token_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority();
    let server = Server::start_with(Some(acceptor(&ca, None)), |_| STORED).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..40)));
    log.close();
    let config =
        InfluxConfig { ca_file: write(&dir.path().join("ca.pem"), &ca.pem()), ..config(&server) };
    let figures = start(&dir.path().join("sink"), config, &log).end().await;
    assert_eq!(figures.stored, 40);
    assert!(server.written()[0].0.has("authorization: Token s3cr3t"));
}

#[tokio::test]
async fn a_server_of_another_authority_gets_nothing_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(), authority());
    let server = Server::start_with(Some(acceptor(&theirs, None)), |_| STORED).await;
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let ca_file = write(&dir.path().join("ca.pem"), &ours.pem());
    let config = InfluxConfig { ca_file, ..config(&server) };
    let sink = start(&dir.path().join("sink"), config, &log);
    let certificate =
        |f: &SinkFigures| f.trouble.as_ref().is_some_and(|t| t.contains("certificate"));
    sink.until("the certificate is named", certificate).await;
    assert_eq!(sink.status.figures().cursor, 0);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_server_that_asks_for_our_certificate_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority();
    let server = Server::start_with(Some(acceptor(&ca, Some(&ca))), |_| STORED).await;
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["loushan".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let known = InfluxConfig {
        ca_file: write(&dir.path().join("ca.pem"), &ca.pem()),
        client_certificate: write(&dir.path().join("client.pem"), &certificate.pem()),
        client_key: write(&dir.path().join("client.key"), &key.serialize_pem()),
        ..config(&server)
    };
    let unknown = InfluxConfig { client_certificate: None, client_key: None, ..known.clone() };
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let sink = start(&dir.path().join("sink"), unknown, &log);
    sink.until("it is asked for", |f| {
        f.trouble.as_ref().is_some_and(|t| t.to_lowercase().contains("certificate"))
    })
    .await;
    sink.task.abort();
    log.close();
    assert_eq!(start(&dir.path().join("other"), known, &log).end().await.stored, 4);
}

#[tokio::test]
async fn a_handshake_that_never_ends_has_the_time_of_a_connection() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority();
    // Connections wait to be accepted for ever.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::start(|_| STORED).await;
    let config = InfluxConfig {
        url: format!("https://localhost:{}", silent.local_addr().unwrap().port()),
        ca_file: write(&dir.path().join("ca.pem"), &ca.pem()),
        connect_timeout: Duration::from_millis(100),
        ..config(&server)
    };
    let log = TestLog::default();
    log.push(frame(1, rows(0..4)));
    let sink = start(&dir.path().join("sink"), config, &log);
    sink.until("it is given up", |f| f.trouble.as_deref() == Some("no connection in time")).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_sink_and_key_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority();
    let missing = Some(dir.path().join("none.pem"));
    let pem = write(&dir.path().join("ca.pem"), &ca.pem());
    let other = write(&dir.path().join("other.key"), &KeyPair::generate().unwrap().serialize_pem());
    let empty = write(&dir.path().join("empty.pem"), "no certificate");
    let base = InfluxConfig {
        url: "https://localhost:1".into(),
        org: "o".into(),
        bucket: "b".into(),
        token: Token::new("t"),
        ..InfluxConfig::default()
    };
    let with = |ca_file: &Option<std::path::PathBuf>| InfluxConfig {
        ca_file: ca_file.clone(),
        ..base.clone()
    };
    let client = |chain: &Option<std::path::PathBuf>, key: &Option<std::path::PathBuf>| {
        InfluxConfig { client_certificate: chain.clone(), client_key: key.clone(), ..with(&pem) }
    };
    for (key, config) in [
        ("sink.city.ca_file", with(&missing)),
        ("sink.city.ca_file", with(&empty)),
        ("sink.city.client_certificate", client(&missing, &other)),
        ("sink.city.client_key", client(&pem, &missing)),
        ("sink.city.client_key", client(&pem, &empty)),
        ("sink.city.client_key", client(&pem, &other)),
        ("sink.city.url", InfluxConfig { url: "h:1".into(), ..base.clone() }),
    ] {
        let status = SinkStatus::new("city");
        let opened = InfluxSink::open(Arc::new(RealIo), dir.path().to_owned(), config, LOG, status);
        let error = opened.unwrap_err().to_string();
        assert!(error.starts_with(key), "{key}: {error}");
    }
}
