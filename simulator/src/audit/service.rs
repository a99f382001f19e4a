//! What the audit asks of a service over HTTP.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use loushan_schemas::row::Row;
use serde::Deserialize;

use super::AuditError;
use super::http::{Http, Lines};
use super::source::{Each, Keeps, Letter, Store, Stored, tell_rows};
use crate::clock::unix_ms;

/// How long the service may take until everything acknowledged is in its store.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions whether it is.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The sinks whose contents are audited.
const SINKS: [&str; 2] = ["embedded", "dead_letter"];
/// A line holds one row or one letter; letters end at twice a payload's megabyte, in hex.
const LINE_BYTES: u64 = 8 * 1024 * 1024;

/// A running service.
#[derive(Debug)]
pub struct Service(Http);

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
    /// The service behind an address.
    #[must_use]
    pub const fn new(http: Http) -> Self {
        Self(http)
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
        let path = "/api/v1/conservation";
        let begun = Instant::now();
        let mut durable = None;
        loop {
            let text = self.0.text(path)?;
            let now: Conservation =
                serde_json::from_str(&text).map_err(|e| self.0.failed(path, e))?;
            let durable = *durable.get_or_insert(now.durable_lsn);
            let mut pending = Vec::new();
            if now.undecided != 0 {
                pending.push(format!("{} undecided readings", now.undecided));
            }
            for name in sinks {
                match now.sinks.iter().find(|sink| sink.name == *name) {
                    None => {
                        return Err(self.0.failed(path, format!("names no sink {name:?}")));
                    }
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
        let mut lines = Lines::new(self.0.get(path, &[])?, LINE_BYTES);
        while let Some(line) = lines.next().map_err(|why| self.0.failed(path, why))? {
            match each(line) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Trouble::Line(why)) => {
                    let number = lines.number();
                    return Err(self.0.failed(path, format!("line {number}: {why}")));
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
        let path = "/api/v1/retention";
        let text = self.0.text(path)?;
        Keeps::from_json(&text, unix_ms()).map_err(|why| self.0.failed(path, why))
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
        tell_rows(wanted, |after, each| {
            self.each_line(&format!("/api/v1/readings/export?after_lsn={after}"), |line| {
                let row = Row::from_json(line).map_err(|e| Trouble::Line(e.to_string()))?;
                Ok(each(&row))
            })
        })
    }
}
