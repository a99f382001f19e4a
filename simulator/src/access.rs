//! How clients are let in: credentials and TLS, from files and from what the caller was given.
//!
//! Everything is read once, before the first connection, so that what is wrong is told at once and by key.
//! `{station}` in a user's name or a path stands for the client's own name.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::target::Target;

/// Stands for a client's own name.
const STATION: &str = "{station}";

/// A password. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a password.
    #[must_use]
    pub fn new(word: impl Into<Arc<str>>) -> Self {
        Self(word.into())
    }

    pub(crate) fn word(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a caller says about credentials and TLS.
#[derive(Debug, Clone, Default)]
pub struct AccessOptions {
    /// The authorities that may have signed the server's certificate, in PEM.
    pub ca: Option<PathBuf>,
    /// Clients' certificates in PEM, with those that lead to an authority.
    pub client_certificate: Option<String>,
    /// Their keys, in PEM.
    pub client_key: Option<String>,
    /// The user's name; by default the client's own, where there is a password.
    pub user: Option<String>,
    /// A password for all.
    pub password: Option<Secret>,
    /// A file whose first line is a password for all.
    pub password_file: Option<PathBuf>,
    /// A file with a line `NAME:PASSWORD` for each client.
    pub passwords_file: Option<PathBuf>,
}

/// What is wrong with credentials or TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}{what}")]
pub struct AccessError {
    key: String,
    what: String,
}

fn wrong(key: &str, path: &Path, what: impl fmt::Display) -> AccessError {
    AccessError { key: key.to_owned(), what: format!(" is {:?}: {what}", path.display()) }
}

fn plainly(key: &str, what: &str) -> AccessError {
    AccessError { key: key.to_owned(), what: format!(" {what}") }
}

/// User and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Arc<str>,
    pub(crate) password: Secret,
}

/// How one client gets in.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) target: Target,
    pub(crate) login: Option<Login>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({}, as {:?})", self.target, self.login.as_ref().map(|l| &l.user))
    }
}

/// What was read of all files, for any client.
pub(crate) struct Entrance {
    options: AccessOptions,
    password: Option<Secret>,
    passwords: Option<HashMap<String, Secret>>,
    roots: Option<Arc<RootCertStore>>,
    /// The configuration of who has no certificate of its own, made once.
    shared: Option<Arc<ClientConfig>>,
}

impl Entrance {
    /// Reads the files. `tls` says whether any target is reached over it.
    pub(crate) fn read(options: &AccessOptions, tls: bool) -> Result<Self, AccessError> {
        let given = [&options.password_file, &options.passwords_file];
        if given.iter().all(|file| file.is_some()) {
            let what = "is given beside passwords_file; give one of them";
            return Err(plainly("password_file", what));
        }
        let password = match &options.password_file {
            Some(path) => Some(first_line(path)?),
            // What stands in a file is more deliberate than what the environment happens to hold.
            None if options.passwords_file.is_some() => None,
            None => options.password.clone(),
        };
        let passwords = options.passwords_file.as_deref().map(passwords).transpose()?;
        if !tls {
            let tls_keys = [
                ("client_certificate", &options.client_certificate),
                ("client_key", &options.client_key),
            ];
            if let Some((key, _)) = tls_keys.iter().find(|(_, value)| value.is_some()) {
                return Err(plainly(key, "is for TLS; give a target mqtts://HOST:PORT"));
            }
            if options.ca.is_some() {
                return Err(plainly("ca", "is for TLS; give a target mqtts://HOST:PORT"));
            }
        }
        let roots = if tls { Some(Arc::new(roots(options)?)) } else { None };
        let mut entrance =
            Self { options: options.clone(), password, passwords, roots, shared: None };
        let own =
            entrance.options.client_certificate.as_deref().is_some_and(|c| c.contains(STATION));
        if tls && !own {
            entrance.shared = entrance.tls("")?;
        }
        Ok(entrance)
    }

    /// How a client gets into a target.
    pub(crate) fn of(&self, target: &Target, name: &str) -> Result<Access, AccessError> {
        let password = match (&self.passwords, &target.password) {
            (_, Some(password)) => Some(password.clone()),
            (Some(passwords), None) => Some(passwords.get(name).cloned().ok_or_else(|| {
                let path = self.options.passwords_file.clone().unwrap_or_default();
                wrong("passwords_file", &path, format!("it has no line {name}:PASSWORD"))
            })?),
            (None, None) => self.password.clone(),
        };
        let user = target.user.as_deref().or(self.options.user.as_deref());
        let login = match (user, password) {
            (None, None) => None,
            (user, password) => Some(Login {
                user: user.unwrap_or(STATION).replace(STATION, name).into(),
                password: password.unwrap_or_else(|| Secret::new("")),
            }),
        };
        let tls = match (target.tls, &self.shared) {
            (false, _) => None,
            (true, Some(shared)) => Some(Arc::clone(shared)),
            (true, None) => self.tls(name)?,
        };
        Ok(Access { target: target.clone(), login, tls })
    }

    fn tls(&self, name: &str) -> Result<Option<Arc<ClientConfig>>, AccessError> {
        let Some(roots) = &self.roots else { return Ok(None) };
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| plainly("ca", &e.to_string()))?
            .with_root_certificates(Arc::clone(roots));
        let options = &self.options;
        let config = match (&options.client_certificate, &options.client_key) {
            (None, None) => config.with_no_client_auth(),
            (Some(_), None) => {
                return Err(plainly("client_key", "is missing beside client_certificate"));
            }
            (None, Some(_)) => {
                return Err(plainly("client_certificate", "is missing beside client_key"));
            }
            (Some(certificate), Some(key)) => {
                let path = PathBuf::from(certificate.replace(STATION, name));
                let chain = certificates("client_certificate", &path)?;
                let path = PathBuf::from(key.replace(STATION, name));
                let key = PrivateKeyDer::from_pem_file(&path)
                    .map_err(|e| wrong("client_key", &path, format!("no key in PEM: {e}")))?;
                config
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| wrong("client_key", &path, e))?
            }
        };
        Ok(Some(Arc::new(config)))
    }
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|e| wrong(key, path, format!("no certificates in PEM: {e}")))?;
    if all.is_empty() { Err(wrong(key, path, "it holds no certificate in PEM")) } else { Ok(all) }
}

fn roots(options: &AccessOptions) -> Result<RootCertStore, AccessError> {
    let Some(path) = &options.ca else {
        let what = "is missing: a target mqtts:// needs the authority of its certificate, in PEM; those \
                    that the system trusts are in a file such as /etc/ssl/certs/ca-certificates.crt";
        return Err(plainly("ca", what));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        roots.add(certificate).map_err(|e| wrong("ca", path, e))?;
    }
    Ok(roots)
}

fn text(key: &str, path: &Path) -> Result<String, AccessError> {
    std::fs::read_to_string(path).map_err(|e| wrong(key, path, e))
}

fn first_line(path: &Path) -> Result<Secret, AccessError> {
    let text = text("password_file", path)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        _ => Err(wrong("password_file", path, "its first line, the password, is empty")),
    }
}

fn passwords(path: &Path) -> Result<HashMap<String, Secret>, AccessError> {
    let mut passwords = HashMap::new();
    for (number, line) in (1..).zip(text("passwords_file", path)?.lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself is not told: it holds a password.
        let Some((name, password)) = line.split_once(':').filter(|(name, _)| !name.is_empty())
        else {
            let what = format!("line {number} is not NAME:PASSWORD");
            return Err(wrong("passwords_file", path, what));
        };
        if passwords.insert(name.to_owned(), Secret::new(password)).is_some() {
            return Err(wrong("passwords_file", path, format!("line {number} names {name} again")));
        }
    }
    Ok(passwords)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    fn login(options: &AccessOptions, at: &str) -> Option<(String, String)> {
        let access = Entrance::read(options, false).unwrap().of(&target(at), "bs0001").unwrap();
        access.login.map(|l| (l.user.to_string(), l.password.word().to_owned()))
    }

    #[test]
    fn who_a_client_is_follows_from_address_keys_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let (one, many) = (folder.path().join("one"), folder.path().join("many"));
        std::fs::write(&one, "pass word\nmore\n").unwrap();
        std::fs::write(&many, "# stations\nbs0001:a:b\nbs0002:c\n").unwrap();
        let pair = |user: &str, word: &str| Some((user.to_owned(), word.to_owned()));
        let none = AccessOptions::default();
        assert_eq!(login(&none, "mqtt://h"), None);
        assert_eq!(login(&none, "mqtt://ada:x@h"), pair("ada", "x"));
        let options = AccessOptions { password_file: Some(one), ..none.clone() };
        assert_eq!(login(&options, "mqtt://h"), pair("bs0001", "pass word"));
        let options = AccessOptions { user: Some("x-{station}".to_owned()), ..options };
        assert_eq!(login(&options, "mqtt://h"), pair("x-bs0001", "pass word"));
        let environment = Some(Secret::new("from the environment"));
        let options = AccessOptions { passwords_file: Some(many), password: environment, ..none };
        assert_eq!(login(&options, "mqtt://h"), pair("bs0001", "a:b"));
        let entrance = Entrance::read(&options, false).unwrap();
        let error = entrance.of(&target("mqtt://h"), "bs0003").unwrap_err().to_string();
        assert!(error.contains("no line bs0003:PASSWORD"), "{error}");
        assert!(!format!("{options:?}").contains("environment"));
    }

    #[test]
    fn what_is_wrong_with_files_names_key_file_and_remedy_and_no_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let none = AccessOptions::default();
        let said = |options: &AccessOptions, tls| {
            Entrance::read(options, tls).err().map(|e| e.to_string()).unwrap_or_default()
        };
        let bad = path("bad", "bs0001 hunter2\n");
        let options = AccessOptions { passwords_file: Some(bad.clone()), ..none.clone() };
        let error = said(&options, false);
        assert!(
            error.contains("line 1 is not NAME:PASSWORD") && !error.contains("hunter2"),
            "{error}"
        );
        let both = AccessOptions { password_file: Some(bad.clone()), ..options };
        assert!(said(&both, false).contains("give one of them"), "{}", said(&both, false));
        let empty = AccessOptions { password_file: Some(path("empty", "\n")), ..none.clone() };
        assert!(said(&empty, false).contains("its first line, the password, is empty"));
        assert!(said(&none, true).contains("ca is missing"));
        let ca = AccessOptions { ca: Some(bad), ..none.clone() };
        assert!(said(&ca, true).contains("holds no certificate in PEM"), "{}", said(&ca, true));
        assert!(said(&ca, false).contains("give a target mqtts://"));
        let absent = AccessOptions { password_file: Some("/nowhere/x".into()), ..none };
        assert!(said(&absent, false).starts_with("password_file is \"/nowhere/x\""));
    }
}
