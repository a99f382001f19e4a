//! The section `[sink.influx]`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use url::Url;

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
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Token(none)" } else { "Token(set)" })
    }
}

/// How and where to write. Durations are written as `1s` or `500ms`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InfluxConfig {
    /// The server, `http://HOST:PORT`. No path (the client library would drop it), no credentials.
    pub url: String,
    /// The organisation.
    pub org: String,
    /// The bucket; made if it is missing and the server lets us.
    pub bucket: String,
    /// The API token; empty where the server wants none.
    pub token: Token,
    /// A request is sent when it has this many readings; the frame that fills it goes in whole.
    pub batch_points: usize,
    /// Or this many bytes, before compression.
    pub batch_bytes: usize,
    /// Or when its oldest reading has waited this long.
    #[serde(deserialize_with = "duration")]
    pub batch_age: Duration,
    /// How long one request may take, from connecting to the whole answer.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Compress requests (gzip 1).
    pub gzip: bool,
    /// The longest pause between two attempts.
    #[serde(deserialize_with = "duration")]
    pub max_backoff: Duration,
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
            token: Token::default(),
            // Bodies of 1,000 to 50,000 lines went in at about the same speed; a retry repeats less
            // of a small one.
            batch_points: 5_000,
            batch_bytes: 1 << 20,
            batch_age: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            gzip: true,
            max_backoff: Duration::from_secs(30),
            held_bytes: 16 << 20,
            flush_within: Duration::from_secs(5),
        }
    }
}

/// A value of the section cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sink.influx.{key} = {shown:?}: {why}")]
pub struct InfluxConfigError {
    /// The key.
    pub key: &'static str,
    /// The value, shortened; never the token's, nor a URL with credentials.
    pub shown: String,
    /// What is wrong and what would be right.
    pub why: &'static str,
}

impl InfluxConfig {
    /// Checks what the client library would panic on or ignore.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn check(&self) -> Result<(), InfluxConfigError> {
        let fault = |key, shown: &str, why| InfluxConfigError {
            key,
            shown: shown.chars().take(80).collect(),
            why,
        };
        let wrong_url = |why| Err(fault("url", &self.url, why));
        let Ok(url) = Url::parse(&self.url) else {
            return wrong_url("is no URL; write http://HOST:PORT");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fault("url", "…", "has credentials in it; use sink.influx.token"));
        }
        if url.scheme() != "http" || url.host_str().is_none() {
            return wrong_url("this build speaks http only; put a TLS proxy beside the service");
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return wrong_url(
                "has a path or query, which would be dropped; write http://HOST:PORT",
            );
        }
        for (key, value) in [("org", &self.org), ("bucket", &self.bucket)] {
            if value.is_empty() {
                return Err(fault(key, value, "is not set"));
            }
        }
        if !self.token.expose().bytes().all(|b| b.is_ascii_graphic()) {
            return Err(fault("token", "…", "has characters that a header cannot carry"));
        }
        for (key, value) in [("timeout", self.timeout), ("max_backoff", self.max_backoff)] {
            if value.is_zero() {
                return Err(fault(key, "0s", "must be greater than zero"));
            }
        }
        if self.batch_points == 0 || self.batch_bytes == 0 {
            return Err(fault("batch_points", "0", "and batch_bytes must be greater than zero"));
        }
        if self.held_bytes / 2 < self.batch_bytes {
            let shown = self.held_bytes.to_string();
            return Err(fault("held_bytes", &shown, "must be at least twice batch_bytes"));
        }
        Ok(())
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
    fn what_the_client_library_would_panic_on_or_drop_is_refused_first() {
        assert_eq!(usable().check(), Ok(()));
        for url in
            ["", "/3242/23", "localhost:8086", "https://h:1", "http://h:1/base", "http://h:1/?a=b"]
        {
            let config = InfluxConfig { url: url.into(), ..usable() };
            assert_eq!(config.check().unwrap_err().key, "url", "{url}");
        }
        for (key, config) in [
            ("org", InfluxConfig { org: String::new(), ..usable() }),
            ("bucket", InfluxConfig { bucket: String::new(), ..usable() }),
            ("timeout", InfluxConfig { timeout: Duration::ZERO, ..usable() }),
            ("batch_points", InfluxConfig { batch_points: 0, ..usable() }),
            ("held_bytes", InfluxConfig { held_bytes: 1 << 20, ..usable() }),
        ] {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }

    #[test]
    fn the_section_reads_from_toml_and_unknown_keys_are_refused() {
        let text = "url = 'http://h:1'\norg = 'o'\nbucket = 'b'\ntoken = 't'\nbatch_age = '250ms'";
        let config: InfluxConfig = toml::from_str(text).unwrap();
        assert_eq!(config.batch_age, Duration::from_millis(250));
        assert_eq!(config.token, Token::new("t"));
        assert!(toml::from_str::<InfluxConfig>("bucket_name = 'b'").is_err());
    }
}
