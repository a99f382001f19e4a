//! One request and its answer, over pooled connections.
//!
//! The `influxdb2` crate has a client too. It hides the answer's headers (`Retry-After` among them),
//! drops the path of the server's URL, panics on one that is none, and stands on an HTTP stack whose
//! TLS has open advisories. So the transport is hyper's own client, which the service's HTTP side
//! stands on already, with rustls; `influxdb2` gives the API's types (`bucket`).
//!
//! Each part of an exchange has its own bound: connecting with TLS, the server's taking the request
//! (judged by what it takes, so that a long request over a slow line is none), and the whole answer,
//! which may not drip for ever. Of an answer's body only the first [`ANSWER_BYTES`] are read. An
//! answer that comes before the request is written counts. Redirects are not followed: they would
//! carry the token to where nobody sent it.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT,
};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use super::config::{InfluxConfig, InfluxConfigError};
use super::tls;
use crate::causes::Chain;
use crate::io::Io;

/// Of an answer no more is read: a hundred rejected lines, repeated, with the server's words.
pub(crate) const ANSWER_BYTES: usize = 256 * 1024;
/// A request goes to the connection in pieces of this size; each that goes is progress.
const PIECE: usize = 16 * 1024;
/// What the connection may hold of the request beyond them.
const CONNECTION_BUFFER: usize = 32 * 1024;
/// Servers and proxies close idle connections after a minute or so; ours go first, as a request on
/// a connection that is just being closed fails.
const IDLE: Duration = Duration::from_secs(20);

/// How far an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No connection yet.
    Connecting,
    /// The request is being written.
    Writing,
    /// The answer is awaited.
    Answering,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The beginning of the body, or what came before it broke off.
    pub(crate) body: Vec<u8>,
}

/// There is no answer.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Where it broke.
    pub(crate) phase: Phase,
    /// What happened.
    pub(crate) why: String,
}

/// A request's content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) kind: Option<&'static str>,
    pub(crate) gzip: bool,
    /// More headers.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Sent>,
    base: Url,
    connect: Duration,
    write: Duration,
    answer: Duration,
}

impl Http {
    /// A client of one server; nothing is sent yet.
    pub(crate) fn new(io: &dyn Io, config: &InfluxConfig) -> Result<Self, InfluxConfigError> {
        let base = config.base()?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false); // TLS is the next layer's
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout));
        let tls =
            if base.scheme() == "https" { tls::client_config(io, config)? } else { tls::nobody() };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.connections)
            .http1_max_buf_size(CONNECTION_BUFFER)
            .build(connector);
        Ok(Self {
            client,
            base,
            connect: config.connect_timeout,
            write: config.write_timeout,
            answer: config.timeout,
        })
    }

    /// The URL of a call: the server's, its base path kept, and a query.
    pub(crate) fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        // A URL with a host has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends a request once and waits for the answer, within the bounds. May be dropped at any point.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        url: &Url,
        authorization: Option<HeaderValue>,
        content: Content,
    ) -> Result<Reply, Broken> {
        let progress = Arc::new(Progress::default());
        let request = request(method, url, authorization, content, &progress)?;
        let mut answer = pin!(self.answer(request, &progress));
        loop {
            let (phase, deadline) = self.deadline(&progress);
            tokio::select! {
                answer = &mut answer => return answer,
                () = tokio::time::sleep_until(deadline) => {
                    // It may have gone on meanwhile.
                    let (phase_now, deadline) = self.deadline(&progress);
                    if phase_now == phase && deadline <= Instant::now() {
                        let why = match phase {
                            Phase::Connecting => "no connection in time",
                            Phase::Writing => "it stopped taking the request",
                            Phase::Answering => "no answer in time",
                        };
                        return Err(Broken { phase, why: why.to_owned() });
                    }
                }
            }
        }
    }

    fn deadline(&self, progress: &Progress) -> (Phase, Instant) {
        let (phase, since) = *progress.0.lock();
        let within = match phase {
            Phase::Connecting => self.connect,
            Phase::Writing => self.write,
            Phase::Answering => self.answer,
        };
        (phase, since + within)
    }

    async fn answer(&self, request: Request<Sent>, progress: &Progress) -> Result<Reply, Broken> {
        let response = self.client.request(request).await.map_err(|error| Broken {
            phase: if error.is_connect() { Phase::Connecting } else { progress.0.lock().0 },
            why: Chain(&error).to_string(),
        })?;
        // Also where the request is not written yet: the server has made up its mind.
        progress.reach(Phase::Answering);
        let (head, mut incoming) = response.into_parts();
        let mut body = Vec::new();
        while body.len() < ANSWER_BYTES {
            // Half an answer has its status and its first words all the same.
            let Some(Ok(frame)) = incoming.frame().await else { break };
            if let Ok(bytes) = frame.into_data() {
                let room = ANSWER_BYTES - body.len();
                body.extend(bytes.iter().take(room));
            }
        }
        Ok(Reply { status: head.status, headers: head.headers, body })
    }
}

fn request(
    method: Method,
    url: &Url,
    authorization: Option<HeaderValue>,
    content: Content,
    progress: &Arc<Progress>,
) -> Result<Request<Sent>, Broken> {
    if content.bytes.is_empty() {
        // Nothing will tell that there is a connection.
        progress.reach(Phase::Answering);
    }
    let sent = Sent { rest: content.bytes, progress: Arc::clone(progress) };
    let mut request = Request::new(sent);
    *request.method_mut() = method;
    *request.uri_mut() = url
        .as_str()
        .parse()
        .map_err(|error| Broken { phase: Phase::Connecting, why: format!("{url}: {error}") })?;
    let headers = request.headers_mut();
    let agent = concat!("loushan/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(kind) = content.kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if content.gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.extend(content.headers);
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    Ok(request)
}

/// How far an exchange is, and since when.
#[derive(Debug)]
struct Progress(Mutex<(Phase, Instant)>);

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new((Phase::Connecting, Instant::now())))
    }
}

impl Progress {
    /// A step within the present phase starts its time anew, but for the answer, which has one time
    /// for all of it.
    fn reach(&self, phase: Phase) {
        let mut now = self.0.lock();
        if now.0 != Phase::Answering {
            *now = (phase, Instant::now());
        }
    }
}

/// A request's body that tells when the connection takes a piece of it.
#[derive(Debug)]
struct Sent {
    rest: Bytes,
    progress: Arc<Progress>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            self.progress.reach(Phase::Answering);
            return Poll::Ready(None);
        }
        let piece = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(piece);
        self.progress.reach(if self.rest.is_empty() { Phase::Answering } else { Phase::Writing });
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
