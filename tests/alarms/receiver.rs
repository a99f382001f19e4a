//! A webhook's receiver: it keeps what it is told, and checks signatures as `docs/alarms.md` says.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

/// What requests are signed with.
pub(super) const SECRET: &str = "a secret of the test's own receiver";

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) at: Instant,
    pub(super) key: String,
    pub(super) event: Value,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
    /// Answers 503 instead.
    refuses: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Receiver {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            told: Arc::default(),
            refuses: Arc::default(),
            refused: Arc::default(),
        };
        let this = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (this, stream) = (this.clone(), stream.unwrap());
                std::thread::spawn(move || this.serve(stream));
            }
        });
        receiver
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/told", self.address)
    }

    pub(super) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    pub(super) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// The first event of an alarm with that change.
    pub(super) fn event(&self, id: &str, change: &str) -> Option<Told> {
        let key = format!("{id}/{change}");
        self.told().into_iter().find(|told| told.key == key)
    }

    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        while let Some((headers, body)) = request(&mut reader) {
            let at = Instant::now();
            let header = |name: &str| {
                let found = headers.iter().find(|(known, _)| known == name);
                found.unwrap_or_else(|| panic!("no {name} in {headers:?}")).1.clone()
            };
            let signed = format!("{}.{body}", header("loushan-timestamp"));
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
            let tag = ring::hmac::sign(&key, signed.as_bytes());
            let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(header("loushan-signature"), format!("v1={hex}"));
            let refuses = self.refuses.load(Ordering::SeqCst);
            if refuses {
                self.refused.fetch_add(1, Ordering::SeqCst);
            } else {
                let key = header("idempotency-key");
                let event: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(event["key"], key.as_str());
                self.told.lock().unwrap().push(Told { at, key, event });
            }
            let status = if refuses { "503 Service Unavailable" } else { "204 No Content" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Headers in small letters, and the body; `None` where the connection ended.
fn request(reader: &mut impl BufRead) -> Option<(Vec<(String, String)>, String)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    assert!(line.starts_with("POST /told HTTP/1.1"), "{line}");
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?;
    let mut body = vec![0; length.1.parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some((headers, String::from_utf8(body).unwrap()))
}
