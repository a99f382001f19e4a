//! What the audit asks of a service over HTTP.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use loushan_schemas::pb;
use prost::Message as _;
use serde::Deserialize;
use serde_json::Value as Json;
use url::Url;

use super::AuditError;

/// How long the service may take until everything acknowledged is in its store.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions whether it is.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The sinks whose contents are audited.
const SINKS: [&str; 2] = ["embedded", "dead_letter"];
/// A line holds one row or one letter; letters end at twice a payload's megabyte, in hex.
const LINE_BYTES: usize = 8 * 1024 * 1024;

/// A service's address.
#[derive(Debug)]
pub(super) struct Service {
    base: String,
    agent: ureq::Agent,
}

/// `GET /api/v1/conservation`.
#[derive(Debug, Deserialize)]
struct Conservation {
    durable_lsn: u64,
    undecided: i64,
    #[serde(default)]
    residue: i64,
    sinks: Vec<Sink>,
}

#[derive(Debug, Deserialize)]
struct Sink {
    name: String,
    position: u64,
    #[serde(default)]
    residue: i64,
    #[serde(default)]
    trouble: Option<String>,
}

/// One dead letter.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) reason: String,
    /// The digest of the whole publish, if the letter is about all of it.
    pub(super) publish: Option<u128>,
    /// IMEI, boot epoch and seq, if it is about one reading and its bytes can be read.
    pub(super) reading: Option<(u64, u32, u64)>,
}

impl Letter {
    pub(super) fn from_json(line: &str) -> Result<Self, String> {
        let json: Json = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let text = |key: &str| json.get(key).and_then(Json::as_str);
        let missing = |key: &str| format!("key {key:?} is missing or not of its type");
        let reason = text("reason").ok_or_else(|| missing("reason"))?.to_owned();
        if json.get("reading").is_none_or(Json::is_null) {
            let digest = text("payload_digest").ok_or_else(|| missing("payload_digest"))?;
            let digest = u128::from_str_radix(digest, 16).map_err(|_| missing("payload_digest"))?;
            return Ok(Self { reason, publish: Some(digest), reading: None });
        }
        // A letter about one reading holds that reading's bytes.
        let bytes = text("payload").and_then(unhex);
        let reading = bytes
            .and_then(|bytes| pb::Reading::decode(bytes.as_slice()).ok())
            .map(|reading| (reading.imei, reading.boot_epoch, u64::from(reading.seq)));
        Ok(Self { reason, publish: None, reading })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

impl Service {
    pub(super) fn new(target: &str) -> Result<Self, AuditError> {
        let bad = || AuditError::Target(target.chars().take(100).collect());
        let url = Url::parse(target).map_err(|_| bad())?;
        if url.scheme() != "http" || url.host_str().is_none_or(str::is_empty) {
            return Err(bad());
        }
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(PATIENCE))
            .build()
            .new_agent();
        Ok(Self { base: target.trim_end_matches('/').to_owned(), agent })
    }

    fn failed(url: &str, why: impl ToString) -> AuditError {
        AuditError::Service { url: url.to_owned(), why: why.to_string() }
    }

    /// Waits until nothing is undecided and the audited sinks hold everything that was durable when
    /// this began: what was acknowledged before is among it. Returns what the service says its own
    /// books are off by.
    pub(super) fn wait_until_settled(&self) -> Result<i64, AuditError> {
        let url = format!("{}/api/v1/conservation", self.base);
        let begun = Instant::now();
        let mut durable = None;
        loop {
            let mut answer = self.agent.get(&url).call().map_err(|e| Self::failed(&url, e))?;
            let text = answer.body_mut().read_to_string().map_err(|e| Self::failed(&url, e))?;
            let now: Conservation =
                serde_json::from_str(&text).map_err(|e| Self::failed(&url, e))?;
            let durable = *durable.get_or_insert(now.durable_lsn);
            let mut pending = Vec::new();
            if now.undecided != 0 {
                pending.push(format!("{} undecided readings", now.undecided));
            }
            for name in SINKS {
                match now.sinks.iter().find(|sink| sink.name == name) {
                    None => return Err(Self::failed(&url, format!("names no sink {name:?}"))),
                    Some(sink) if sink.position < durable => pending.push(format!(
                        "sink {name} at lsn {} of {durable}{}",
                        sink.position,
                        sink.trouble.as_ref().map(|t| format!(" ({t})")).unwrap_or_default()
                    )),
                    Some(_) => {}
                }
            }
            if pending.is_empty() {
                let sinks: i64 = now.sinks.iter().map(|sink| sink.residue.abs()).sum();
                return Ok(now.residue.abs() + sinks);
            }
            if begun.elapsed() >= PATIENCE {
                let what = pending.join(", ");
                return Err(AuditError::Pending { seconds: PATIENCE.as_secs(), what });
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Hands every line of an answer to `each`.
    pub(super) fn each_line(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> Result<(), String>,
    ) -> Result<(), AuditError> {
        let url = format!("{}{path}", self.base);
        let answer = self.agent.get(&url).call().map_err(|e| Self::failed(&url, e))?;
        let mut reader = BufReader::with_capacity(256 * 1024, answer.into_body().into_reader());
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let mut bounded = std::io::Read::take(&mut reader, LINE_BYTES as u64);
            let read = bounded.read_until(b'\n', &mut line).map_err(|e| Self::failed(&url, e))?;
            if read == 0 {
                break;
            }
            // An answer that broke off must not pass for one that ended.
            if line.pop() != Some(b'\n') {
                return Err(Self::failed(&url, format!("line {number} does not end")));
            }
            let text = std::str::from_utf8(&line).map_err(|e| Self::failed(&url, e))?;
            each(text).map_err(|why| Self::failed(&url, format!("line {number}: {why}")))?;
        }
        Ok(())
    }
}
