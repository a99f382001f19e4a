//! What the audit asks of a service over HTTP.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use loushan_schemas::row::Row;
use serde::Deserialize;
use url::Url;

use super::AuditError;
use super::source::{Each, Keeps, Letter, Store, Stored, key_of};
use crate::clock::unix_ms;

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
    cursor: u64,
    #[serde(default)]
    residue: i64,
    #[serde(default)]
    trouble: Option<String>,
}

/// Why a line was not taken.
enum Trouble {
    /// It is not what it should be.
    Line(String),
    /// Ours.
    Audit(AuditError),
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
        self.wait(&SINKS, |sink| sink.position)
    }

    /// The same of a sink that writes to a server: it has to have written it all.
    pub(super) fn wait_until_stored(&self, sink: &str) -> Result<i64, AuditError> {
        self.wait(&[sink], |sink| sink.cursor)
    }

    fn wait(&self, sinks: &[&str], reached: fn(&Sink) -> u64) -> Result<i64, AuditError> {
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
            for name in sinks {
                match now.sinks.iter().find(|sink| sink.name == *name) {
                    None => return Err(Self::failed(&url, format!("names no sink {name:?}"))),
                    Some(sink) if reached(sink) < durable => pending.push(format!(
                        "sink {name} at lsn {} of {durable}{}",
                        reached(sink),
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

    /// Hands every line of an answer to `each`, until that has seen enough and says false.
    fn each_line(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> Result<bool, Trouble>,
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
            match each(text) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Trouble::Line(why)) => {
                    return Err(Self::failed(&url, format!("line {number}: {why}")));
                }
                Err(Trouble::Audit(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Store for Service {
    fn settle(&mut self) -> Result<i64, AuditError> {
        self.wait_until_settled()
    }

    fn keeps(&mut self) -> Result<Keeps, AuditError> {
        let url = format!("{}/api/v1/retention", self.base);
        let mut answer = self.agent.get(&url).call().map_err(|e| Self::failed(&url, e))?;
        let text = answer.body_mut().read_to_string().map_err(|e| Self::failed(&url, e))?;
        Keeps::from_json(&text, unix_ms()).map_err(|why| Self::failed(&url, why))
    }

    fn rows(&mut self, each: &mut Each<'_, Stored>) -> Result<(), AuditError> {
        self.each_line("/api/v1/readings/export?after_lsn=0", |line| {
            let row = Row::from_json(line).map_err(|e| Trouble::Line(e.to_string()))?;
            each(Stored::of(&row)).map_err(Trouble::Audit).map(|()| true)
        })
    }

    fn letters(&mut self, each: &mut Each<'_, Letter>) -> Result<Option<()>, AuditError> {
        self.each_line("/api/v1/dead-letters/export?after_lsn=0", |line| {
            let letter = Letter::from_json(line).map_err(Trouble::Line)?;
            each(letter).map_err(Trouble::Audit).map(|()| true)
        })?;
        Ok(Some(()))
    }

    fn tell(
        &mut self,
        wanted: &HashSet<(u64, u128)>,
    ) -> Result<HashMap<(u64, u128), String>, AuditError> {
        let mut told = HashMap::new();
        let after = wanted.iter().map(|(lsn, _)| lsn.saturating_sub(1)).min().unwrap_or(0);
        self.each_line(&format!("/api/v1/readings/export?after_lsn={after}"), |line| {
            let row = Row::from_json(line).map_err(|e| Trouble::Line(e.to_string()))?;
            let named = (row.lsn, key_of(&row));
            if wanted.contains(&named) {
                told.insert(named, line.to_owned());
            }
            Ok(told.len() < wanted.len())
        })?;
        Ok(told)
    }
}
