//! Whom to believe that it is the server, and who we are.
//!
//! Trusted is either `ca_file` alone (a private authority: nobody else's certificate is taken), or
//! what the **system** trusts. The system's store rather than a bundled one: it is where the
//! administrator adds the company's own authority, and it is renewed without a new build of ours.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::config::{InfluxConfig, InfluxConfigError};
use crate::causes::Chain;
use crate::io::{Io, read_all};

/// The client's side of TLS as the configuration wants it. Reads the files it names.
pub(super) fn client_config(
    io: &dyn Io,
    config: &InfluxConfig,
) -> Result<ClientConfig, InfluxConfigError> {
    let provider = Arc::new(default_provider());
    let fault = |why: String| InfluxConfigError::new("url", &config.url, why);
    let roots = Arc::new(roots(io, config)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|e| fault(Chain(&e).to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| fault(Chain(&e).to_string()))?
        .with_webpki_verifier(verifier);
    let (Some(chain), Some(key)) = (&config.client_certificate, &config.client_key) else {
        return Ok(builder.with_no_client_auth());
    };
    let certificates = certificates(io, "client_certificate", chain)?;
    let key_fault =
        |why: String| InfluxConfigError::new("client_key", &key.display().to_string(), why);
    let pem = read_all(io, key).map_err(|e| key_fault(e.to_string()))?;
    let der = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|e| key_fault(format!("holds no private key in PEM: {e}")))?;
    builder
        .with_client_auth_cert(certificates, der)
        .map_err(|e| key_fault(format!("does not go with client_certificate: {e}")))
}

fn roots(io: &dyn Io, config: &InfluxConfig) -> Result<RootCertStore, InfluxConfigError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &config.ca_file {
        for certificate in certificates(io, "ca_file", path)? {
            roots.add(certificate).map_err(|e| {
                let shown = path.display().to_string();
                InfluxConfigError::new("ca_file", &shown, format!("a certificate is unusable: {e}"))
            })?;
        }
        return Ok(roots);
    }
    let system = rustls_native_certs::load_native_certs();
    // Stores hold old certificates that nobody can read; the others do.
    let (usable, _unusable) = roots.add_parsable_certificates(system.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let why = match system.errors.first() {
        Some(error) => format!("the system's certificates cannot be read ({error})"),
        None => "the system has no certificates of authorities".to_owned(),
    };
    let why = format!("{why}; install ca-certificates, or name the authority's by ca_file");
    Err(InfluxConfigError::new("url", &config.url, why))
}

/// The certificates of a file, at least one.
fn certificates(
    io: &dyn Io,
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, InfluxConfigError> {
    let fault = |why: String| InfluxConfigError::new(key, &path.display().to_string(), why);
    let pem = read_all(io, path).map_err(|e| fault(e.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|e| fault(format!("is no PEM: {e}")))?;
    if found.is_empty() {
        return Err(fault("holds no certificate in PEM".to_owned()));
    }
    Ok(found)
}

/// For a server that is spoken to without TLS: a configuration that trusts nobody, as the connector
/// wants one.
pub(super) fn nobody() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    match builder.with_safe_default_protocol_versions() {
        Ok(builder) => builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        // The provider has suites for both versions.
        Err(_) => unreachable!("ring has the safe versions"),
    }
}
