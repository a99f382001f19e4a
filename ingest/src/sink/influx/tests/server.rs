//! A server that answers as a test says: enough of HTTP/1.1 and of InfluxDB's API, and all the ways
//! in which a server can misbehave.

use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Status(u16, &'static str),
    /// Accepts and never answers.
    Hang,
    /// Closes the connection without a word.
    Reset,
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
        self.line.starts_with("POST /api/v2/write?")
    }
}

type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Answerer = Box<dyn Fn(Request) -> Answering + Send + Sync>;

struct Inner {
    answer: Mutex<Arc<Answerer>>,
    requests: Mutex<Vec<(Request, Reply)>>,
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            answer: Mutex::new(Arc::new(writes(write))),
            requests: Mutex::default(),
        });
        let server = Self { url, inner: Arc::clone(&inner) };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&inner)));
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
}

fn writes(write: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Answerer {
    Box::new(move |request| {
        let reply = if request.is_write() {
            write(&request)
        } else if request.line.starts_with("GET /ready") {
            Reply::Status(200, "{}")
        } else {
            Reply::Status(404, "not found")
        };
        Box::pin(async move { reply })
    })
}

async fn serve(socket: TcpStream, inner: Arc<Inner>) {
    let mut socket = BufReader::new(socket);
    while let Some(request) = read(&mut socket).await {
        let answer = Arc::clone(&inner.answer.lock());
        let reply = answer(request.clone()).await;
        inner.requests.lock().push((request, reply.clone()));
        match reply {
            Reply::Status(status, body) => {
                let length = if status == 204 {
                    String::new()
                } else {
                    format!("content-length: {}\r\n", body.len())
                };
                let text = format!("HTTP/1.1 {status} x\r\n{length}\r\n{body}");
                if socket.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Hang => std::future::pending().await,
            Reply::Reset => return,
        }
    }
}

async fn read(socket: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
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
    let line = head.lines().next()?.replace("post ", "POST ").replace("get ", "GET ");
    Some(Request { line, head, body, wire_bytes: length })
}
