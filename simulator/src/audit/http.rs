//! How a server is asked over HTTP or HTTPS, and as whom.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::time::Duration;

use ureq::tls::TlsConfig;
use url::Url;

use super::AuditError;
use crate::access::Secret;

/// The server is near, or not there.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Bytes of an error's body that are read.
const ERROR_BYTES: u64 = 4096;
/// Characters of it that are told.
const ERROR_CHARS: usize = 200;

/// A server's address, and what opens it.
#[derive(Clone)]
pub struct Http {
    base: String,
    agent: ureq::Agent,
    authorization: Option<Secret>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Http({})", self.base)
    }
}

impl Http {
    /// The server at an address; `tls` says whom to trust for `https://`, and `authorization` is the
    /// header of that name.
    ///
    /// # Errors
    /// When it is no address, or `https://` and nobody is trusted.
    pub fn new(
        address: &str,
        tls: Option<TlsConfig>,
        authorization: Option<Secret>,
    ) -> Result<Self, AuditError> {
        let bad = || AuditError::Target(address.chars().take(100).collect());
        let url = Url::parse(address).map_err(|_| bad())?;
        if url.host_str().is_none_or(str::is_empty)
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(bad());
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER));
        match (url.scheme(), tls) {
            ("http", _) => {}
            ("https", Some(tls)) => config = config.tls_config(tls),
            ("https", None) => {
                return Err(AuditError::Untrusted(address.chars().take(100).collect()));
            }
            _ => return Err(bad()),
        }
        let base = address.trim_end_matches('/').to_owned();
        Ok(Self { base, agent: config.build().new_agent(), authorization })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) fn failed(&self, path: &str, why: impl ToString) -> AuditError {
        AuditError::Service { url: self.url(path), why: why.to_string() }
    }

    /// The body of a GET, as it comes.
    pub(super) fn get(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<impl Read + use<>, AuditError> {
        let mut request = self.agent.get(self.url(path)).query_pairs(parameters.iter().copied());
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.word());
        }
        self.body(path, request.call())
    }

    fn body(
        &self,
        path: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<impl Read + use<>, AuditError> {
        let answer = answer.map_err(|e| self.failed(path, e))?;
        let status = answer.status();
        let mut body = answer.into_body().into_reader();
        if status.is_success() {
            return Ok(body);
        }
        let mut text = Vec::new();
        // What of it does not come is not missed: the status says the most.
        drop((&mut body).take(ERROR_BYTES).read_to_end(&mut text));
        let text: String =
            String::from_utf8_lossy(&text).trim().chars().take(ERROR_CHARS).collect();
        let remedy = match status.as_u16() {
            401 | 403 => "; give a token with --token-file, or --user with --password-file",
            _ => "",
        };
        Err(self.failed(path, format!("it answers {status}: {text}{remedy}")))
    }

    /// The whole body of a GET.
    pub(super) fn text(&self, path: &str) -> Result<String, AuditError> {
        let mut text = String::new();
        self.get(path, &[])?.read_to_string(&mut text).map_err(|e| self.failed(path, e))?;
        Ok(text)
    }
}

/// Lines of a body, each bounded; a body that breaks off within one is an error.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    most: u64,
}

impl<R: Read> Lines<R> {
    /// Of at most so many bytes each.
    pub(super) fn new(body: R, most: u64) -> Self {
        let reader = BufReader::with_capacity(256 * 1024, body);
        Self { reader, line: Vec::new(), number: 0, most }
    }

    /// The next line without its end.
    pub(super) fn next(&mut self) -> Result<Option<&str>, String> {
        self.line.clear();
        self.number += 1;
        let mut bounded = (&mut self.reader).take(self.most);
        let read = bounded.read_until(b'\n', &mut self.line).map_err(|e| e.to_string())?;
        if read == 0 {
            return Ok(None);
        }
        if self.line.pop() != Some(b'\n') {
            let number = self.number;
            return Err(format!("line {number} does not end, or not within {} bytes", self.most));
        }
        std::str::from_utf8(&self.line).map(Some).map_err(|e| e.to_string())
    }

    /// The number of the line that was given last, from 1.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}
