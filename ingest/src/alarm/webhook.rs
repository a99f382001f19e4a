//! Telling a receiver over HTTP, event by event, for ever.
//!
//! One `POST` for each event of the receiver's severity or above, in the order in which they happened,
//! so in each alarm's own order as well: the next one leaves when the last one was answered 2xx. Whatever
//! else is answered, or nothing, and the same event is sent again after a pause that doubles, shortened at
//! random; nothing is passed over. The receiver's place is durable with the next commit after that, so
//! that a crash between repeats events: it knows them by `Idempotency-Key`.
//!
//! ```text
//! POST {url}
//! Content-Type: application/json
//! Idempotency-Key: {alarm's id}/{raised|acknowledged|cleared}
//! Loushan-Event: {number}
//! Loushan-Timestamp: {Unix seconds of this attempt}
//! Loushan-Signature: v1={hex of HMAC-SHA256(secret, timestamp + "." + body)}
//!
//! {"event":…,"key":…,"change":…,"alarm":{…}}
//! ```
//!
//! The secret is read again after each failure, so that it can be changed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use ring::hmac;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::book::webhook;
use super::config::WebhookConfig;
use super::model::AlarmEvent;
use super::outbox::Outbox;
use crate::clock::Clock;
use crate::io::{Io, read_all};
use crate::sink::influx::http::{Content, Http};
use crate::sink::influx::pace::Backoff;
use crate::sink::influx::{InfluxConfig, InfluxConfigError};

/// A connection takes no longer than this.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of a secret at least: fewer could be guessed.
pub const MIN_SECRET: usize = 16;
/// Bytes of an answer that are shown.
const SHOWN: usize = 200;

/// How a webhook fares.
#[derive(Debug, Default)]
pub(super) struct HookStatus {
    delivered: AtomicU64,
    failures: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl HookStatus {
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

/// Whom to tell, and by what.
pub(super) struct Hook {
    pub(super) config: WebhookConfig,
    pub(super) status: Arc<HookStatus>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) io: Arc<dyn Io>,
    pub(super) clock: Clock,
}

/// The signature of a body that is sent at `timestamp`, as the header has it.
fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    let tag = context.sign();
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={hex}")
}

/// The secret in a file, without the white space around it.
fn secret(io: &dyn Io, path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let bytes = read_all(io, path).map_err(|e| format!("secret_file {shown}: {e}"))?;
    let secret = bytes.trim_ascii();
    if secret.len() < MIN_SECRET {
        return Err(format!("secret_file {shown} holds fewer than {MIN_SECRET} bytes"));
    }
    Ok(secret.to_vec())
}

/// What is wrong with a webhook's files, if anything is. Blocks.
///
/// # Errors
/// The key, and what is wrong with its file.
pub(crate) fn check(io: &dyn Io, config: &WebhookConfig) -> Result<(), String> {
    secret(io, &config.secret_file)?;
    client(io, config).map(drop).map_err(|e| e.to_string())
}

fn client(io: &dyn Io, config: &WebhookConfig) -> Result<Http, InfluxConfigError> {
    let as_of_sinks = InfluxConfig {
        url: config.url.clone(),
        ca_file: config.ca_file.clone(),
        connections: 1,
        connect_timeout: config.timeout.min(CONNECT),
        write_timeout: config.timeout,
        timeout: config.timeout,
        ..InfluxConfig::default()
    };
    Http::new(io, &as_of_sinks)
}

impl Hook {
    /// Tells until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.tell() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn tell(self) {
        let reader = webhook(&self.config.name);
        let mut changed = self.outbox.watch();
        let mut backoff = Backoff::new(self.config.max_backoff);
        let mut ready = None;
        loop {
            changed.mark_unchanged();
            let Some(event) = self.outbox.next(&reader) else {
                // The outbox lives as long as this does.
                drop(changed.changed().await);
                continue;
            };
            if event.alarm.severity < self.config.severity {
                self.outbox.done(&reader, event.number);
                continue;
            }
            match self.attempt(&mut ready, &event).await {
                Ok(()) => {
                    self.outbox.done(&reader, event.number);
                    self.status.delivered.fetch_add(1, Ordering::Relaxed);
                    *self.status.trouble.lock() = None;
                    backoff.reset();
                }
                Err(why) => {
                    ready = None;
                    self.status.failures.fetch_add(1, Ordering::Relaxed);
                    let pause = backoff.pause();
                    tracing::warn!(
                        webhook = &*self.config.name,
                        event = event.number,
                        why,
                        ?pause,
                        "a webhook was not told; trying again"
                    );
                    *self.status.trouble.lock() = Some(why);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn attempt(
        &self,
        ready: &mut Option<(Http, Vec<u8>)>,
        event: &AlarmEvent,
    ) -> Result<(), String> {
        let (http, secret) = match ready {
            Some(ready) => ready,
            none => {
                let (io, config) = (Arc::clone(&self.io), self.config.clone());
                let made = tokio::task::spawn_blocking(move || {
                    let secret = secret(&*io, &config.secret_file)?;
                    Ok::<_, String>((client(&*io, &config).map_err(|e| e.to_string())?, secret))
                });
                none.insert(made.await.map_err(|e| e.to_string())??)
            }
        };
        let body = event.to_json().to_string();
        let timestamp = self.clock.now().ms().div_euclid(1000).to_string();
        let headers = [
            ("idempotency-key", event.key()),
            ("loushan-event", event.number.to_string()),
            ("loushan-signature", signature(secret, &timestamp, body.as_bytes())),
            ("loushan-timestamp", timestamp),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
        });
        let content = Content {
            bytes: body.into(),
            kind: Some("application/json"),
            headers: headers.collect(),
            ..Content::default()
        };
        let url = Url::parse(&self.config.url).map_err(|e| e.to_string())?;
        let reply = http.exchange(Method::POST, &url, None, content).await.map_err(|e| e.why)?;
        if reply.status.is_success() {
            return Ok(());
        }
        let words: String = String::from_utf8_lossy(&reply.body).chars().take(SHOWN).collect();
        Err(format!("it answers {}: {words:?}", reply.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_documentation() {
        // printf '1772352000.{"event":1}' | openssl dgst -sha256 -hmac 'a secret of the receiver'
        let signed = signature(b"a secret of the receiver", "1772352000", b"{\"event\":1}");
        assert_eq!(signed, "v1=e746bf0fc72c2192de62dd1e38c25e3bdbd37ca1a71f6318848cae29ef9b1d9d");
    }
}
