//! The HTTP side of a running service, for commands that ask it something or tell it to do something.
//!
//! Blocking, as a command does one thing after another. Bodies are read as they come, in bounded
//! memory. What the service says is wrong becomes an error that names parameter, value and remedy;
//! what is wrong with the question ends the command with exit code 2, everything else with 1.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use ureq::http::{StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::Failure;

/// Where a service listens unless it is told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The environment's way to give a token, which stays out of the list of processes.
const TOKEN_VARIABLE: &str = "LOUSHAN_TOKEN";
/// The same for a password.
pub(super) const PASSWORD_VARIABLE: &str = "LOUSHAN_PASSWORD";
/// How long a connection may take: the service is near, or not there.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the service may take until it begins to answer: longer than its own limits on questions,
/// so that it is the one to say what took too long.
const ANSWER: Duration = Duration::from_secs(15 * 60);
/// Bytes of an error's body that are read; ours are much shorter.
const ERROR_BYTES: u64 = 64 * 1024;

/// Which service, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServiceArgs {
    /// The running service's HTTP address.
    #[arg(long, value_name = "URL", env = "LOUSHAN_URL", default_value = DEFAULT_URL)]
    url: String,
    #[command(flatten)]
    pass: Pass,
}

/// As whom a service is asked, and whom to trust for its certificate.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Pass {
    /// The file with the bearer token to ask with, such as the data folder's admin.token [default: the
    /// token in LOUSHAN_TOKEN, or none].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Ask as this user, by a password instead of a token.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    user: Option<String>,
    /// With --user: the file with the password in its first line [default: LOUSHAN_PASSWORD].
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// For an https address: the authority that signed the service's certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl ServiceArgs {
    /// A client for the service. Nothing is asked yet.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let uri: Uri = self.url.parse().map_err(|e| {
            Failure::usage(anyhow!("--url {:?} is no address: {e}; write {DEFAULT_URL}", self.url))
        })?;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER));
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(_)) => {}
            (Some("https"), Some(_)) => config = config.tls_config(self.pass.tls()?),
            _ => {
                let what = "is no address of a service; write one such as";
                return Err(Failure::usage(anyhow!("--url {:?} {what} {DEFAULT_URL}", self.url)));
            }
        }
        let base = self.url.trim_end_matches('/').to_owned();
        let authorization = self.pass.authorization()?;
        Ok(Client { base, authorization, agent: config.build().new_agent() })
    }
}

impl Pass {
    /// Whether an authority is named.
    pub(super) const fn trusts(&self) -> bool {
        self.ca.is_some()
    }

    /// The value of the header `Authorization`, if there is one to send.
    pub(super) fn authorization(&self) -> Result<Option<String>, Failure> {
        let Some(user) = &self.user else {
            return Ok(self.token()?.map(|token| format!("Bearer {token}")));
        };
        let password = match &self.password_file {
            Some(path) => read(path, "the password")?,
            None => std::env::var(PASSWORD_VARIABLE).map_err(|_| {
                Failure::usage(anyhow!("--user needs --password-file FILE, or {PASSWORD_VARIABLE}"))
            })?,
        };
        let password = password.lines().next().unwrap_or_default();
        Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))))
    }

    /// Trust in the named authority alone.
    pub(super) fn tls(&self) -> Result<TlsConfig, Failure> {
        let Some(path) = &self.ca else {
            let what = "an https address needs --ca FILE: the authority of its certificate, in PEM";
            return Err(Failure::usage(anyhow!(what)));
        };
        let pem = read(path, "the authority's certificate")?;
        let mut roots: Vec<Certificate<'static>> = Vec::new();
        for item in parse_pem(pem.as_bytes()) {
            let item = item.with_context(|| format!("--ca {}", path.display()));
            if let PemItem::Certificate(root) = item.map_err(Failure::usage)? {
                roots.push(root);
            }
        }
        if roots.is_empty() {
            let what = format!("--ca {} holds no certificate in PEM", path.display());
            return Err(Failure::usage(anyhow!(what)));
        }
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build())
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let (token, whence) = match &self.token_file {
            Some(path) => (read(path, "the token")?, format!("--token-file {}", path.display())),
            None => match std::env::var(TOKEN_VARIABLE) {
                Ok(token) => (token, TOKEN_VARIABLE.to_owned()),
                Err(_) => return Ok(None),
            },
        };
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage(anyhow!("{whence} holds no token: one word of ASCII")));
        }
        Ok(Some(token.to_owned()))
    }
}

fn read(path: &Path, what: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .with_context(|| format!("{what} cannot be read from {}", path.display()))
        .map_err(Failure::usage)
}

/// A service to ask.
pub(super) struct Client {
    base: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

impl Client {
    /// `GET` of a path with parameters, which are escaped here.
    pub(super) fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Answer, Failure> {
        let url = format!("{}{path}", self.base);
        let mut request = self.agent.get(&url).query_pairs(parameters.iter().copied());
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        self.answer(&url, request.call())
    }

    /// The JSON of a `GET` whose answer counts whatever its status: `/readyz` says why it is not ready.
    pub(super) fn get_any(&self, path: &str) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.base);
        let mut request = self.agent.get(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let answer = request.call().map_err(|error| self.unreachable(&error))?;
        if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
            return self.answer(&url, Ok(answer))?.json();
        }
        Answer { url, body: Box::new(answer.into_body().into_reader()) }.json()
    }

    /// `POST` to a path with parameters, and with a body where there is one.
    pub(super) fn post(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let url = format!("{}{path}", self.base);
        let mut request = self.agent.post(&url).query_pairs(parameters.iter().copied());
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let answer = match body {
            Some(body) => request.header("content-type", "application/json").send(body.to_string()),
            None => request.send_empty(),
        };
        self.answer(&url, answer)
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let base = &self.base;
        Failure::Failed(anyhow!(
            "no answer from {base}: {error}; is the service running there? --url names another"
        ))
    }

    fn answer(
        &self,
        url: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Answer, Failure> {
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = answer.into_body().into_reader();
        if status.is_success() {
            return Ok(Answer { url: url.to_owned(), body: Box::new(body) });
        }
        let mut text = String::new();
        // What of it is no text, or does not come, is not missed: the status says the most.
        drop(body.take(ERROR_BYTES).read_to_string(&mut text));
        let error = anyhow!("{}", refusal(status, &text));
        Err(if status == StatusCode::BAD_REQUEST || status == StatusCode::PAYLOAD_TOO_LARGE {
            Failure::Usage(error)
        } else {
            Failure::Failed(error)
        })
    }
}

/// What a service says is wrong, for people.
fn refusal(status: StatusCode, body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let mut told = match text("error") {
        Some(error) => error.to_owned(),
        None => format!("the service answers {status}"),
    };
    if let Some(parameter) = text("parameter") {
        let value = text("value").map(|value| format!(" {value:?}")).unwrap_or_default();
        told = format!("{parameter}{value}: {told}");
    }
    if let Some(accepted) = text("accepted") {
        told.push_str("; accepted: ");
        told.push_str(accepted);
    }
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        told.push_str("; give a token with --token-file or ");
        told.push_str(TOKEN_VARIABLE);
        told.push_str(", or --user");
    }
    told
}

/// An answer that is not an error.
pub(super) struct Answer {
    url: String,
    body: Box<dyn Read>,
}

impl Answer {
    /// The body, as it comes. One that breaks off ends in an error, not at its end.
    pub(super) fn into_reader(self) -> impl Read {
        self.body
    }

    /// The body, as text.
    pub(super) fn text(mut self) -> Result<String, Failure> {
        let mut text = String::new();
        let read = self.body.read_to_string(&mut text);
        read.with_context(|| format!("the answer of {} broke off", self.url))?;
        Ok(text)
    }

    /// The body, as JSON.
    pub(super) fn json(self) -> Result<Value, Failure> {
        let url = self.url;
        serde_json::from_reader(self.body)
            .with_context(|| format!("the answer of {url} is not the JSON it should be"))
            .map_err(Failure::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_parameter_value_and_remedy() {
        let body = r#"{"error":"the value is not accepted","parameter":"limit","value":"x",
            "accepted":"a whole number"}"#;
        assert_eq!(
            refusal(StatusCode::BAD_REQUEST, body),
            "limit \"x\": the value is not accepted; accepted: a whole number"
        );
        assert_eq!(
            refusal(StatusCode::UNAUTHORIZED, r#"{"error":"the credentials are wrong"}"#),
            "the credentials are wrong; give a token with --token-file or LOUSHAN_TOKEN, or --user"
        );
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, "<html>"),
            "the service answers 502 Bad Gateway"
        );
    }

    #[test]
    fn an_address_that_is_none_is_refused_before_anything_is_asked() {
        for url in ["", "127.0.0.1:8080", "ftp://x", "http://", "https://127.0.0.1:1"] {
            let args = ServiceArgs { url: url.to_owned(), pass: Pass::default() };
            assert!(matches!(args.client(), Err(Failure::Usage(_))), "{url}");
        }
    }
}
