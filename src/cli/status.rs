//! `status`: one look at a running service.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | it is ready |
//! | 1 | it is not ready |
//! | 2 | it could not be asked |

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::BinaryBytes;
use serde_json::Value;

use super::Failure;
use super::http::ServiceArgs;
use super::look::{Look, between};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// How long rates are looked at.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    over: Duration,
    #[command(flatten)]
    service: ServiceArgs,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // Exit code 1 is the service's word.
    let status = ask(args).map_err(|failure| match failure {
        Failure::Usage(error) | Failure::Failed(error) => Failure::Usage(error),
    })?;
    if args.json {
        println!("{status}");
    } else {
        print!("{}", text(&status));
    }
    let ready = status["ready"].as_bool() == Some(true);
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask(args: &Args) -> Result<Value, Failure> {
    let client = args.service.client()?;
    let before = Look::take(&client)?;
    std::thread::sleep(args.over);
    Ok(between(&before, &Look::take(&client)?))
}

/// The status for people.
pub(super) fn text(status: &Value) -> String {
    let mut text = String::new();
    for line in lines(status) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The same, line by line.
pub(super) fn lines(status: &Value) -> Vec<String> {
    let count = |value: &Value| {
        value.as_f64().map_or_else(|| "?".to_owned(), |number| format!("{number:.0}"))
    };
    let ready = if status["ready"] == true { "ready" } else { "NOT READY" };
    let version = status["version"].as_str().unwrap_or("?");
    let mut lines = vec![format!("Loushan {version}: {ready}")];
    for reason in status["reasons"].as_array().into_iter().flatten() {
        let colour = if reason["red"] == true { "red" } else { "amber" };
        let (component, what) = (&reason["component"], &reason["what"]);
        lines.push(format!("  {colour:<5}  {}: {}", word(component), word(what)));
    }
    let rates = &status["rates"];
    lines.push(format!(
        "readings   {}/s received, {}/s accepted, {}/s duplicate, {}/s rejected, {}/s stored",
        count(&rates["received"]),
        count(&rates["accepted"]),
        count(&rates["duplicate"]),
        count(&rates["rejected"]),
        count(&rates["stored"])
    ));
    let books = &status["conservation"];
    lines.push(format!(
        "books      {} received = {} accepted + {} duplicate + {} rejected + {} shed + {} undecided; \
         residue {}",
        count(&books["received"]),
        count(&books["accepted"]),
        count(&books["duplicate"]),
        count(&books["rejected"]),
        count(&books["shed"]),
        count(&books["undecided"]),
        count(&books["residue"])
    ));
    let ack = &status["ack"];
    lines.push(format!(
        "acks       {} (p50), {} (p99); {} publishes/s",
        time(&ack["p50_seconds"]),
        time(&ack["p99_seconds"]),
        count(&rates["publishes"])
    ));
    lines.extend(sinks(status));
    let log = &status["log"];
    lines.push(format!(
        "log        {}{} in {} segments, back to {} ago; durable lsn {}",
        bytes(&log["disk_bytes"]),
        of(&log["max_bytes"]),
        count(&log["segments"]),
        time(&log["oldest_seconds"]),
        count(&log["durable_lsn"])
    ));
    lines.push(format!(
        "disk       {} free; nothing is acknowledged below {}",
        bytes(&status["disk"]["free_bytes"]),
        bytes(&status["disk"]["floor_bytes"])
    ));
    lines.push(format!("memory     {}", bytes(&status["memory"]["resident_bytes"])));
    let stations = &status["stations"];
    lines.push(format!(
        "stations   {} online of {}, {} of them registered; {} devices, {} connections",
        count(&stations["online"]),
        count(&stations["known"]),
        count(&stations["registered"]),
        count(&status["devices"]),
        count(&status["connections"])
    ));
    lines
}

fn sinks(status: &Value) -> Vec<String> {
    let sinks = status["sinks"].as_array().map_or(&[][..], Vec::as_slice);
    let mut first = "sinks";
    let line = |sink: &Value| {
        let lag = &sink["lag"];
        let frames = lag["frames"].as_u64().unwrap_or(0);
        let mut line =
            format!("{:<10} {:<12} {:<8}", first, word(&sink["name"]), word(&sink["state"]));
        first = "";
        // Into a String, which takes everything.
        let _infallible = match frames {
            0 => write!(line, " has everything"),
            _ => write!(
                line,
                " {frames} frames, {}, {} behind",
                bytes(&lag["bytes"]),
                time(&lag["seconds"])
            ),
        };
        if let Some(residue) = sink["residue"].as_i64().filter(|residue| *residue != 0) {
            let _infallible = write!(line, "; residue {residue}");
        }
        line
    };
    sinks.iter().map(line).collect()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole and not negative
fn bytes(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "?".to_owned(), |bytes| BinaryBytes(bytes.max(0.0) as u64).to_string())
}

/// A bound, where there is one.
fn of(bound: &Value) -> String {
    if bound.is_null() { String::new() } else { format!(" of {}", bytes(bound)) }
}

/// A time in the unit that fits it.
pub(super) fn time(seconds: &Value) -> String {
    match seconds.as_f64() {
        None => "-".to_owned(),
        Some(s) if s < 1.0 => format!("{:.1} ms", s * 1000.0),
        Some(s) if s < 60.0 => format!("{s:.1} s"),
        Some(s) if s < 3600.0 => format!("{:.0} min", s / 60.0),
        Some(s) if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        Some(s) => format!("{:.0} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_says_why_it_is_not_ready_and_what_is_not_known() {
        let status = json!({
            "version": "1", "ready": false,
            "reasons": [{ "component": "disk", "red": true, "what": "full" }],
            "sinks": [{ "name": "city", "state": "running", "residue": 3,
                "lag": { "frames": 7, "bytes": 2048, "seconds": 90.0 } }],
        });
        let text = text(&status);
        for expected in [
            "Loushan 1: NOT READY\n  red    disk: full\n",
            "sinks      city         running  7 frames, 2.00 KiB, 2 min behind; residue 3\n",
            "acks       - (p50)",
            "disk       ? free",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn times_are_in_the_unit_that_fits() {
        let told = [0.0019, 2.44, 600.0, 7200.0, 864_000.0].map(|s| time(&json!(s)));
        assert_eq!(told, ["1.9 ms", "2.4 s", "10 min", "2.0 h", "10 d"]);
    }
}
