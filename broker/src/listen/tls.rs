//! TLS 1.2 and 1.3 for listeners: certificate files in, handshakes out.
//!
//! The files are read when the process starts and again when [`Tls::reload`] finds that they changed;
//! every handshake takes what was read last. Connections that are open go on as they are. A new
//! reading begins a new key for session tickets as well, so that no ticket outlives the `client_ca`
//! that its client was checked by. Files that cannot be used are an error and change nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::ring as provider;
use rustls::server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Ciphertext that a session holds for a client that takes none: one record and a little. The bound
/// on what is written and not taken is the connection's.
const SESSION_BUFFER: usize = 16 * 1024;

/// Whether clients must show a certificate of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// None is asked for.
    #[default]
    None,
    /// One that is shown must be good.
    Optional,
    /// Without a good one there is no connection.
    Required,
}

/// The files of a listener's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The section of the configuration that they are from, for errors: `mqtt.tls`.
    pub section: &'static str,
    /// The certificate chain (PEM), the server's own first.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Who signs clients' certificates (PEM).
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show one.
    pub client_certificates: ClientCertificates,
    /// Protocols to be named by ALPN; empty leaves what clients name unanswered.
    pub alpn: &'static [&'static str],
}

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{section}.{key}: {}: {why}; {remedy}", path.display())]
pub struct TlsError {
    /// The section of the configuration.
    pub section: &'static str,
    /// The key in it.
    pub key: &'static str,
    /// The file it names.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// What helps.
    pub remedy: &'static str,
}

/// TLS of one or more listeners; see the module. Its clones are the same one.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    current: RwLock<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    digest: Digest,
    /// Unix seconds.
    expires: Option<i64>,
}

/// Of all files together.
type Digest = [u8; 32];

// By hand: it knows a private key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.0.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// When they cannot be read, or are not what they should be.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = RwLock::new(Material::read(&files)?.configure(&files)?);
        Ok(Self(Arc::new(Inner { files, current })))
    }

    /// Reads the files again; says whether there was anything new in them. Blocks.
    ///
    /// # Errors
    /// Those of [`Tls::load`]; what was read before stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Inner { files, current } = &*self.0;
        let material = Material::read(files)?;
        if material.digest() == current.read().digest {
            return Ok(false);
        }
        let configured = material.configure(files)?;
        *current.write() = configured;
        Ok(true)
    }

    /// The section of the configuration that names the files.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.0.files.section
    }

    /// When the certificate in use ends, in Unix seconds.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        self.0.current.read().expires
    }

    /// The server's side of a handshake. Has no deadline of its own.
    ///
    /// # Errors
    /// The client's failure to shake hands.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.current.read().config);
        let limit = |session: &mut rustls::ServerConnection| {
            session.set_buffer_limit(Some(SESSION_BUFFER));
        };
        TlsAcceptor::from(config).accept_with(stream, limit).await
    }
}

/// When a certificate ends, in Unix seconds.
fn not_after(der: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// What is in the files.
struct Material {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Material {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |key, path: &Path| {
            std::fs::read(path).map_err(|e| TlsError {
                section: files.section,
                key,
                path: path.to_owned(),
                why: format!("it cannot be read: {e}"),
                remedy: "name a PEM file that this user may read, or make some with `loushan certs dev`",
            })
        };
        Ok(Self {
            certificate: read("certificate", &files.certificate)?,
            key: read("key", &files.key)?,
            client_ca: files.client_ca.as_deref().map(|p| read("client_ca", p)).transpose()?,
        })
    }

    fn digest(&self) -> Digest {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [&self.certificate, &self.key, self.client_ca.as_ref().unwrap_or(&Vec::new())] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut digest = Digest::default();
        // SHA-256 has 32 bytes.
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    fn configure(self, files: &TlsFiles) -> Result<Current, TlsError> {
        let fault = |key, path: &Path, why: String, remedy| TlsError {
            section: files.section,
            key,
            path: path.to_owned(),
            why,
            remedy,
        };
        let certificate = |why| {
            let remedy =
                "it must hold the server's certificate in PEM, then those it was signed by";
            fault("certificate", &files.certificate, why, remedy)
        };
        let key = |why, remedy| fault("key", &files.key, why, remedy);
        let digest = self.digest();
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| certificate(format!("it is not PEM: {e}")))?;
        if chain.is_empty() {
            return Err(certificate("there is no certificate in it".to_owned()));
        }
        let expires = chain.first().and_then(not_after);
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|e| {
            key(
                format!("there is no private key in it: {e}"),
                "it must hold the key in PEM, unencrypted",
            )
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| certificate(e.to_string()))?
            .with_client_cert_verifier(self.verifier(files)?);
        let mut config = builder.with_single_cert(chain, private).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => key(
                "it is not the key of the certificate".to_owned(),
                "name the key that the certificate was made with",
            ),
            e => certificate(format!("it cannot be used with the key: {e}")),
        })?;
        config.alpn_protocols = files.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        // A station that comes back saves a round of signatures and some kilobytes of radio.
        config.ticketer = provider::Ticketer::new().map_err(|e| certificate(e.to_string()))?;
        // One is enough for that, and each is another quarter of a kilobyte.
        config.send_tls13_tickets = 1;
        Ok(Current { config: Arc::new(config), digest, expires })
    }

    fn verifier(&self, files: &TlsFiles) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let fault = |path: PathBuf, why: String| TlsError {
            section: files.section,
            key: "client_ca",
            path,
            why,
            remedy: "it must hold, in PEM, the certificates that clients' certificates are signed by",
        };
        if files.client_certificates == ClientCertificates::None {
            return Ok(Arc::new(NoClientAuth));
        }
        let (Some(path), Some(pem)) = (files.client_ca.clone(), &self.client_ca) else {
            return Err(fault(
                PathBuf::new(),
                "it is not set, and clients are asked for certificates".to_owned(),
            ));
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|e| fault(path.clone(), format!("it is not PEM: {e}")))?;
            roots.add(certificate).map_err(|e| fault(path.clone(), e.to_string()))?;
        }
        let provider = Arc::new(provider::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match files.client_certificates {
            ClientCertificates::Required => builder,
            _ => builder.allow_unauthenticated(),
        };
        builder.build().map_err(|e| fault(path, e.to_string()))
    }
}
