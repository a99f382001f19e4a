//! What is shown to the server, from the configuration or from a file that somebody renews.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use parking_lot::Mutex;

use super::config::{InfluxConfig, Scheme, Token};
use crate::io::{Io, read_all};

/// How often a refused token's file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A file that is longer holds no token.
const LONGEST: u64 = 16 * 1024;

#[derive(Debug)]
pub(super) struct Credentials {
    scheme: Scheme,
    file: Option<(Arc<dyn Io>, PathBuf)>,
    token: Mutex<Option<Token>>,
}

impl Credentials {
    pub(super) fn new(io: &Arc<dyn Io>, config: &InfluxConfig) -> Self {
        let file = config.token_file.clone().map(|path| (Arc::clone(io), path));
        let token = file.is_none().then(|| config.token.clone());
        Self { scheme: config.auth, file, token: Mutex::new(token) }
    }

    /// The header's value, if there is to be one. The file is read when it has not been yet.
    ///
    /// # Errors
    /// Why there is no token.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, String> {
        if self.scheme == Scheme::None {
            return Ok(None);
        }
        let known = self.token.lock().clone();
        let token = match known {
            Some(token) => token,
            None => self.read().await?,
        };
        let text = token.expose();
        if text.is_empty() {
            return Ok(None);
        }
        let text = match self.scheme {
            Scheme::Basic => format!("Basic {}", STANDARD.encode(text)),
            Scheme::Bearer => format!("Bearer {text}"),
            Scheme::Token | Scheme::None => format!("Token {text}"),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| "the token has characters that a header cannot carry".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Reads the file again; whether there is another token now.
    pub(super) async fn renewed(&self) -> bool {
        if self.file.is_none() {
            return false;
        }
        let before = self.token.lock().clone();
        self.read().await.is_ok_and(|token| before != Some(token))
    }

    /// Waits until there is another token; for ever, if there is no file.
    pub(super) async fn wait_for_another(&self) {
        if self.file.is_none() {
            std::future::pending::<()>().await;
        }
        while !self.renewed().await {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn read(&self) -> Result<Token, String> {
        let Some((io, path)) = self.file.clone() else { return Ok(Token::default()) };
        let shown = format!("token_file {}", path.display());
        let read = tokio::task::spawn_blocking(move || {
            let bytes = io.open_read(&path)?.size()?;
            if bytes > LONGEST { Ok(None) } else { read_all(&*io, &path).map(Some) }
        });
        let bytes = match read.await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err(format!("{shown}: is too long to be a token")),
            Ok(Err(error)) => return Err(format!("{shown}: {error}")),
            Err(_) => return Err(format!("{shown}: could not be read")),
        };
        let token = Token::new(String::from_utf8_lossy(&bytes).trim());
        if token.expose().is_empty() || !token.is_sendable() {
            return Err(format!("{shown}: holds no token on one line"));
        }
        *self.token.lock() = Some(token.clone());
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::io::real::RealIo;

    fn credentials(config: InfluxConfig) -> Credentials {
        Credentials::new(&(Arc::new(RealIo) as Arc<dyn Io>), &config)
    }

    async fn shown(token: &str, auth: Scheme) -> Option<String> {
        let config = InfluxConfig { token: Token::new(token), auth, ..InfluxConfig::default() };
        let header = credentials(config).header().await.unwrap();
        header.map(|value| value.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_token_is_shown_as_the_server_wants_it_and_in_no_debug_text() {
        assert_eq!(shown("s3cr3t", Scheme::Token).await.unwrap(), "Token s3cr3t");
        assert_eq!(shown("s3cr3t", Scheme::Bearer).await.unwrap(), "Bearer s3cr3t");
        assert_eq!(shown("ann:s3cr3t", Scheme::Basic).await.unwrap(), "Basic YW5uOnMzY3IzdA==");
        assert_eq!(shown("s3cr3t", Scheme::None).await, None);
        assert_eq!(shown("", Scheme::Token).await, None);
        let config = InfluxConfig { token: Token::new("s3cr3t"), ..InfluxConfig::default() };
        let credentials = credentials(config);
        let header = credentials.header().await.unwrap();
        assert!(!format!("{credentials:?} {header:?}").contains("s3cr3t"));
    }

    #[tokio::test]
    async fn a_tokens_file_is_read_when_it_is_there_and_again_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let config = InfluxConfig { token_file: Some(path.clone()), ..InfluxConfig::default() };
        let credentials = credentials(config);
        let error = credentials.header().await.unwrap_err();
        assert!(error.contains("token_file") && error.contains("No such file"), "{error}");
        for nonsense in [String::new(), "\n".into(), "two\nlines".into(), "x".repeat(20_000)] {
            std::fs::write(&path, &nonsense).unwrap();
            let error = credentials.header().await.unwrap_err();
            assert!(!error.contains("two") && !error.contains("xxx"), "{error}");
        }
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(credentials.header().await.unwrap().unwrap(), "Token first");
        assert!(!credentials.renewed().await);
        std::fs::write(&path, "second\r\n").unwrap();
        assert_eq!(credentials.header().await.unwrap().unwrap(), "Token first", "until asked");
        credentials.wait_for_another().await;
        assert_eq!(credentials.header().await.unwrap().unwrap(), "Token second");
    }
}
