//! DuckDB's side, in a process of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use chrono::DateTime;
use serde_json::{Value as Json, json};

use crate::fill::Filled;
use crate::questions::{MEAN, a_day, last_hour};

/// Asks `beside.py`; `None` where no Python with DuckDB was named.
pub(crate) fn ask(dir: &Path, filled: &Filled) -> Option<Json> {
    let python = std::env::var_os("LOUSHAN_TEST_PYTHON")?;
    let devices: Vec<Json> =
        filled.devices.iter().map(|(imei, kind)| json!({ "imei": imei, "kind": kind })).collect();
    let question = json!({
        "store": filled.store,
        "scratch": dir,
        "devices": devices,
        "hour": span(last_hour(filled)),
        "day": span(a_day(filled)),
        "mean": { "kind": MEAN.0.as_str(), "field": MEAN.1 },
    });
    let mut python = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/history/beside.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let done = python.wait_with_output().unwrap();
    assert!(done.status.success(), "beside.py failed");
    Some(serde_json::from_slice(&done.stdout).unwrap())
}

/// A span as the script wants it. One that goes over midnight is all in the later day, less a second.
fn span((from_ms, to_ms): (i64, i64)) -> Json {
    let date = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap().format("%F").to_string();
    json!({
        "dates": [date(from_ms), date(to_ms - 1)],
        "from_us": from_ms * 1000,
        "to_us": to_ms * 1000,
    })
}
