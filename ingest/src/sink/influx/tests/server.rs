//! A server that answers as a test says: enough of HTTP/1.1 and of InfluxDB's API, and all the ways
//! in which a server can misbehave.

use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Status(u16, &'static str),
    /// With headers (each line with its end) and a body of the test's making.
    Full(u16, String, String),
    /// Accepts and never answers.
    Hang,
    /// Closes the connection without a word.
    Reset,
    /// Sends this and closes the connection.
    Raw(&'static str),
    /// Sends this, a byte at a time, and never the rest.
    Drip(&'static str),
}

pub(super) const STORED: Reply = Reply::Status(204, "");

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) line: String,
    pub(super) head: String,
    /// Decompressed.
    pub(super) body: String,
    /// As it was on the wire.
    pub(super) wire_bytes: usize,
}

impl Request {
    pub(super) fn is_write(&self) -> bool {
        self.line.starts_with("POST ") && self.line.contains("/api/v2/write?")
    }

    pub(super) fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }
}

type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Answerer = Box<dyn Fn(Request) -> Answering + Send + Sync>;
/// What is answered to a request's head before its body was read, if anything.
type Early = Box<dyn Fn(&str) -> Option<Reply> + Send + Sync>;

struct Inner {
    answer: Mutex<Arc<Answerer>>,
    early: Mutex<Option<Arc<Early>>>,
    requests: Mutex<Vec<(Request, Reply)>>,
    connections: AtomicUsize,
    busy: AtomicUsize,
    busiest: AtomicUsize,
}

/// The server; it ends with the test's runtime.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: String,
    inner: Arc<Inner>,
}

impl Server {
    /// A server whose writes are answered by `write`; it knows no buckets.
    pub(super) async fn start(write: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, write).await
    }

    /// The same, behind TLS; its name is `localhost`.
    pub(super) async fn start_with(
        tls: Option<TlsAcceptor>,
        write: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = match tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let inner = Arc::new(Inner {
            answer: Mutex::new(Arc::new(writes(write))),
            early: Mutex::default(),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            busiest: AtomicUsize::new(0),
        });
        let server = Self { url, inner: Arc::clone(&inner) };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (inner, tls) = (Arc::clone(&inner), tls.clone());
                inner.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, inner).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, inner).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    /// From now on writes are answered so.
    pub(super) fn writes(&self, write: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.inner.answer.lock() = Arc::new(writes(write));
    }

    /// From now on every request is answered so.
    pub(super) fn answers(&self, answer: impl Fn(Request) -> Answering + Send + Sync + 'static) {
        *self.inner.answer.lock() = Arc::new(Box::new(answer));
    }

    /// From now on these heads are answered without their bodies, and the connection is closed.
    pub(super) fn answers_early(
        &self,
        early: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static,
    ) {
        *self.inner.early.lock() = Some(Arc::new(Box::new(early)));
    }

    /// All requests with their replies.
    pub(super) fn requests(&self) -> Vec<(Request, Reply)> {
        self.inner.requests.lock().clone()
    }

    /// The write requests with their replies.
    pub(super) fn written(&self) -> Vec<(Request, Reply)> {
        self.requests().into_iter().filter(|(request, _)| request.is_write()).collect()
    }

    /// The lines it took, in order, those taken twice twice.
    pub(super) fn stored(&self) -> Vec<String> {
        let written = self.written();
        let stored = written.iter().filter(|(_, reply)| *reply == STORED);
        stored.flat_map(|(request, _)| request.body.lines().map(str::to_owned)).collect()
    }

    /// Connections it has accepted.
    pub(super) fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }

    /// The most requests it had in hand at a time.
    pub(super) fn busiest(&self) -> usize {
        self.inner.busiest.load(Ordering::SeqCst)
    }
}

fn writes(write: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Answerer {
    Box::new(move |request| {
        let reply =
            if request.is_write() { write(&request) } else { Reply::Status(404, "not found") };
        Box::pin(async move { reply })
    })
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, inner: Arc<Inner>) {
    let mut socket = BufReader::new(socket);
    while let Some(head) = read_head(&mut socket).await {
        let early = inner.early.lock().clone().and_then(|early| early(&head));
        if let Some(reply) = early {
            let request =
                Request { line: line_of(&head), head, body: String::new(), wire_bytes: 0 };
            inner.requests.lock().push((request, reply.clone()));
            send(&mut socket, reply).await;
            return;
        }
        let Some(request) = read_body(&mut socket, head).await else { return };
        let busy = inner.busy.fetch_add(1, Ordering::SeqCst) + 1;
        inner.busiest.fetch_max(busy, Ordering::SeqCst);
        let answer = Arc::clone(&inner.answer.lock());
        let reply = answer(request.clone()).await;
        inner.busy.fetch_sub(1, Ordering::SeqCst);
        inner.requests.lock().push((request, reply.clone()));
        if !send(&mut socket, reply).await {
            return;
        }
    }
}

/// Whether the connection can go on.
async fn send(socket: &mut (impl AsyncWrite + Unpin), reply: Reply) -> bool {
    let (status, headers, body) = match reply {
        Reply::Status(status, body) => (status, String::new(), body.to_owned()),
        Reply::Full(status, headers, body) => (status, headers, body),
        Reply::Hang => std::future::pending().await,
        Reply::Reset => return false,
        Reply::Raw(text) => {
            // Who has seen enough may have closed it.
            let _sent = socket.write_all(text.as_bytes()).await;
            let _sent = socket.flush().await;
            return false;
        }
        Reply::Drip(text) => {
            for byte in text.as_bytes() {
                if socket.write_all(&[*byte]).await.is_err() || socket.flush().await.is_err() {
                    return false;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            std::future::pending().await
        }
    };
    let length = match status {
        204 => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    let text = format!("HTTP/1.1 {status} x\r\n{headers}{length}\r\n{body}");
    socket.write_all(text.as_bytes()).await.is_ok() && socket.flush().await.is_ok()
}

async fn read_head(socket: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn line_of(head: &str) -> String {
    head.lines().next().unwrap_or_default().to_owned()
}

async fn read_body(socket: &mut (impl AsyncRead + Unpin), head: String) -> Option<Request> {
    let value = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let length = value("content-length:").map_or(0, |v| v.parse().unwrap());
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).await.ok()?;
    let mut body = String::new();
    if value("content-encoding:") == Some("gzip") {
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut body).unwrap();
    } else {
        body = String::from_utf8(bytes).unwrap();
    }
    Some(Request { line: line_of(&head), head, body, wire_bytes: length })
}
