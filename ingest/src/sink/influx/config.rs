//! What a section `[sink.NAME]` says.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use url::Url;

/// More would be of no use to anybody's server.
const MAX_CONNECTIONS: usize = 64;

/// A secret that no `Debug` and no log shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Takes the token's text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who sends it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a header can carry it.
    pub(super) fn is_sendable(&self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_graphic())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Token(none)" } else { "Token(set)" })
    }
}

/// How the token is shown to the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `Authorization: Token …`, InfluxDB 2's own word; with `user:password` as the token it is
    /// GreptimeDB's.
    #[default]
    Token,
    /// `Authorization: Bearer …`: InfluxDB 3, QuestDB, proxies.
    Bearer,
    /// `Authorization: Basic …`, of a token that is `user:password`.
    Basic,
    /// Not at all.
    None,
}

impl Scheme {
    /// All of them, as they are written.
    pub const WORDS: [&'static str; 4] = ["token", "bearer", "basic", "none"];

    /// The scheme of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "token" => Some(Self::Token),
            "bearer" => Some(Self::Bearer),
            "basic" => Some(Self::Basic),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// How and where to write. Durations are written as `1s` or `500ms`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InfluxConfig {
    /// The server, `http[s]://HOST[:PORT][/BASE]`; the write call's path is added to the base. No
    /// credentials, no query.
    pub url: String,
    /// The organisation. Servers without any ignore it.
    pub org: String,
    /// The bucket, or what the server takes for one.
    pub bucket: String,
    /// Whether a bucket that the server does not know may be made.
    pub create_bucket: bool,
    /// The API token; empty where it is in a file, or where the server wants none.
    pub token: Token,
    /// A file with the token, instead of `token`; read again when the server refuses the one it had.
    pub token_file: Option<PathBuf>,
    /// How the token is shown.
    pub auth: Scheme,
    /// Certificates (PEM) of the authorities that may vouch for the server, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain (PEM), where the server asks for one.
    pub client_certificate: Option<PathBuf>,
    /// The key (PEM) of that certificate.
    pub client_key: Option<PathBuf>,
    /// Requests on their way at a time, each on a connection of its own.
    pub connections: usize,
    /// A request is sent when it has this many readings; the frame that fills it goes in whole.
    pub batch_points: usize,
    /// Or this many bytes, before compression.
    pub batch_bytes: usize,
    /// Or when its oldest reading has waited this long.
    #[serde(deserialize_with = "duration")]
    pub batch_age: Duration,
    /// How long a connection may take, TLS included.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// How long the server may take nothing of a request.
    #[serde(deserialize_with = "duration")]
    pub write_timeout: Duration,
    /// How long the whole answer may take once the request is written.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Compress requests (gzip 1).
    pub gzip: bool,
    /// The longest pause between two attempts.
    #[serde(deserialize_with = "duration")]
    pub max_backoff: Duration,
    /// The longest pause that a server may ask for by `Retry-After`.
    #[serde(deserialize_with = "duration")]
    pub max_retry_after: Duration,
    /// A reading that has been held for longer is trouble, whatever the connections look like.
    #[serde(deserialize_with = "duration")]
    pub late_after: Duration,
    /// Bytes held in memory while the server is away; past it the log keeps what comes.
    pub held_bytes: usize,
    /// How long a stop may wait for the server. What is not written by then is written after the
    /// next start.
    #[serde(deserialize_with = "duration")]
    pub flush_within: Duration,
}

impl Default for InfluxConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            org: String::new(),
            bucket: String::new(),
            create_bucket: true,
            token: Token::default(),
            token_file: None,
            auth: Scheme::Token,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            // One is encoded and compressed while the server stores the other.
            connections: 2,
            // Bodies of 1,000 to 50,000 lines went in at about the same speed; a retry repeats less
            // of a small one.
            batch_points: 5_000,
            batch_bytes: 1 << 20,
            batch_age: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            gzip: true,
            max_backoff: Duration::from_secs(30),
            max_retry_after: Duration::from_secs(600),
            late_after: Duration::from_secs(15),
            held_bytes: 16 << 20,
            flush_within: Duration::from_secs(5),
        }
    }
}

/// A value of the section cannot be used. Who shows it puts the section's name before the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {shown:?}: {why}")]
pub struct InfluxConfigError {
    /// The key.
    pub key: &'static str,
    /// The value, shortened; never the token's, nor a URL with credentials.
    pub shown: String,
    /// What is wrong and what would be right.
    pub why: String,
}

impl InfluxConfigError {
    pub(super) fn new(key: &'static str, shown: &str, why: impl Into<String>) -> Self {
        Self { key, shown: shown.chars().take(80).collect(), why: why.into() }
    }
}

impl InfluxConfig {
    /// Checks what can be checked without files and without the server.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn check(&self) -> Result<(), InfluxConfigError> {
        let fault = |key, shown: &str, why: &str| Err(InfluxConfigError::new(key, shown, why));
        let url = self.base()?;
        for (key, value) in [("org", &self.org), ("bucket", &self.bucket)] {
            if value.is_empty() {
                return fault(key, value, "is not set");
            }
        }
        if !self.token.is_sendable() {
            return fault("token", "…", "has characters that a header cannot carry");
        }
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        if self.token_file.is_none() && self.token.is_empty() && self.auth != Scheme::None {
            let why = "is not set; set it or token_file, or auth = \"none\" if none is wanted";
            return fault("token", "", why);
        }
        for (key, value, other) in [
            ("client_certificate", &self.client_certificate, &self.client_key),
            ("client_key", &self.client_key, &self.client_certificate),
        ] {
            if let (Some(value), None) = (path(value), other) {
                return fault(key, &value, "client_certificate and client_key go together");
            }
        }
        for (key, value) in
            [("ca_file", &self.ca_file), ("client_certificate", &self.client_certificate)]
        {
            if let Some(value) = path(value)
                && url.scheme() != "https"
            {
                return fault(key, &value, "has no meaning on an http:// url; write https://");
            }
        }
        for (key, value) in [
            ("connect_timeout", self.connect_timeout),
            ("write_timeout", self.write_timeout),
            ("timeout", self.timeout),
            ("max_backoff", self.max_backoff),
            ("late_after", self.late_after),
        ] {
            if value.is_zero() {
                return fault(key, "0s", "must be greater than zero");
            }
        }
        if self.connections == 0 || self.connections > MAX_CONNECTIONS {
            let shown = self.connections.to_string();
            return fault("connections", &shown, "must lie between 1 and 64");
        }
        if self.batch_points == 0 || self.batch_bytes == 0 {
            return fault("batch_points", "0", "and batch_bytes must be greater than zero");
        }
        if self.held_bytes / 2 < self.batch_bytes {
            let shown = self.held_bytes.to_string();
            return fault("held_bytes", &shown, "must be at least twice batch_bytes");
        }
        Ok(())
    }

    /// The server's URL, checked.
    pub(super) fn base(&self) -> Result<Url, InfluxConfigError> {
        let wrong = |why| Err(InfluxConfigError::new("url", &self.url, why));
        let Ok(url) = Url::parse(&self.url) else {
            return wrong("is no URL; write http://HOST:PORT or https://HOST:PORT/BASE");
        };
        if !url.username().is_empty() || url.password().is_some() {
            let why = "has credentials in it; use token, with auth = \"basic\" for user:password";
            return Err(InfluxConfigError::new("url", "…", why));
        }
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return wrong("is neither http:// nor https://");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("has a query, which would be lost; write the server's base address only");
        }
        Ok(url)
    }
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn usable() -> InfluxConfig {
        InfluxConfig {
            url: "http://127.0.0.1:8086".into(),
            org: "city".into(),
            bucket: "loushan".into(),
            token: Token::new("s3cr3t"),
            ..InfluxConfig::default()
        }
    }

    #[test]
    fn the_token_is_in_no_debug_text_and_in_no_error() {
        let mut config = usable();
        assert!(!format!("{config:?}").contains("s3cr3t"));
        config.token = Token::new("s3cr3t\n");
        let error = config.check().unwrap_err();
        assert_eq!(error.key, "token");
        assert!(!error.to_string().contains("s3cr3t"));
        config.url = "http://user:s3cr3t@host:1".into();
        let error = config.check().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_its_key() {
        assert_eq!(usable().check(), Ok(()));
        for url in ["https://h", "https://h:1/influx/", "http://h:1/v1/influxdb"] {
            assert_eq!(InfluxConfig { url: url.into(), ..usable() }.check(), Ok(()), "{url}");
        }
        for url in ["", "/3242/23", "localhost:8086", "ftp://h:1", "http://h:1/?a=b", "http://h#a"]
        {
            let config = InfluxConfig { url: url.into(), ..usable() };
            assert_eq!(config.check().unwrap_err().key, "url", "{url}");
        }
        let open = InfluxConfig { token: Token::default(), auth: Scheme::None, ..usable() };
        assert_eq!(open.check(), Ok(()));
        let file = || Some(PathBuf::from("/etc/file.pem"));
        let tls = || InfluxConfig { url: "https://h:1".into(), ..usable() };
        assert_eq!(InfluxConfig { ca_file: file(), ..tls() }.check(), Ok(()));
        for (key, config) in [
            ("org", InfluxConfig { org: String::new(), ..usable() }),
            ("bucket", InfluxConfig { bucket: String::new(), ..usable() }),
            ("token", InfluxConfig { token: Token::default(), ..usable() }),
            ("ca_file", InfluxConfig { ca_file: file(), ..usable() }),
            ("client_certificate", InfluxConfig { client_certificate: file(), ..tls() }),
            ("client_key", InfluxConfig { client_key: file(), ..tls() }),
            ("timeout", InfluxConfig { timeout: Duration::ZERO, ..usable() }),
            ("connections", InfluxConfig { connections: 0, ..usable() }),
            ("connections", InfluxConfig { connections: 65, ..usable() }),
            ("batch_points", InfluxConfig { batch_points: 0, ..usable() }),
            ("held_bytes", InfluxConfig { held_bytes: 1 << 20, ..usable() }),
        ] {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }

    #[test]
    fn every_scheme_has_its_word() {
        for word in Scheme::WORDS {
            let read: Scheme = serde_json::from_value(word.into()).unwrap();
            assert_eq!(Scheme::from_word(word), Some(read));
        }
        assert_eq!(Scheme::from_word("Token"), None);
    }

    #[test]
    fn the_section_reads_from_toml_and_unknown_keys_are_refused() {
        let text = "url = 'http://h:1'\norg = 'o'\nbucket = 'b'\ntoken = 't'\nbatch_age = '250ms'\nauth = 'bearer'";
        let config: InfluxConfig = toml::from_str(text).unwrap();
        assert_eq!(config.batch_age, Duration::from_millis(250));
        assert_eq!((config.token, config.auth), (Token::new("t"), Scheme::Bearer));
        assert!(toml::from_str::<InfluxConfig>("bucket_name = 'b'").is_err());
    }
}
