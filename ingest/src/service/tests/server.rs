//! A server that takes points, as long as the test lets it.

use std::io::Read as _;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;

#[derive(Default)]
struct Inner {
    lines: Mutex<Vec<String>>,
    /// Answers to writes; 0 stands for 204.
    status: AtomicU16,
}

/// It ends with the test's runtime.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: String,
    inner: Arc<Inner>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner::default());
        let app = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, inner }
    }

    /// From now on writes are answered so.
    pub(super) fn answers(&self, status: u16) {
        self.inner.status.store(status, Ordering::SeqCst);
    }

    /// The lines it took, those taken twice twice.
    pub(super) fn lines(&self) -> Vec<String> {
        self.inner.lines.lock().clone()
    }

    /// The lines it took, each once.
    pub(super) fn points(&self) -> usize {
        let mut lines = self.lines();
        lines.sort();
        lines.dedup();
        lines.len()
    }
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    match uri.path() {
        "/api/v2/write" => {}
        "/ready" | "/health" | "/ping" => return (StatusCode::OK, "{}"),
        _ => return (StatusCode::NOT_FOUND, "not found"),
    }
    let status = inner.status.load(Ordering::SeqCst);
    if status != 0 {
        return (StatusCode::from_u16(status).unwrap(), "{}");
    }
    let mut text = String::new();
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
    } else {
        text.push_str(std::str::from_utf8(&body).unwrap());
    }
    inner.lines.lock().extend(text.lines().map(str::to_owned));
    (StatusCode::NO_CONTENT, "")
}
