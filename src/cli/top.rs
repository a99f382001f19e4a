//! `top`: a running service, looked at again and again.
//!
//! On a terminal one screen that renews itself, until `q`; where there is none, a line each time. A
//! service that does not answer is said, and asked again.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use console::{Key, Term};
use serde_json::Value;

use super::http::{Client, ServiceArgs};
use super::look::{Look, between};
use super::{Failure, describe, status};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How often it is looked at.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    every: Duration,
    /// Without a terminal: how many lines, and then the end; 0 is no end.
    #[arg(long, value_name = "N", default_value_t = 0)]
    times: u64,
    #[command(flatten)]
    service: ServiceArgs,
}

/// Points of the small charts.
const POINTS: usize = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let client = args.service.client()?;
    let every = args.every.max(Duration::from_millis(100));
    if std::io::stdout().is_terminal() {
        screen(&client, every)
    } else {
        plain(&client, every, args.times)
    }
}

/// Looks, with the one before to reckon rates from.
struct Watch<'a> {
    client: &'a Client,
    before: Option<Look>,
}

impl Watch<'_> {
    /// What the time since the last look says; nothing at the first.
    fn look(&mut self) -> Result<Option<Value>, Failure> {
        match Look::take(self.client) {
            Ok(now) => {
                let status = self.before.as_ref().map(|before| between(before, &now));
                self.before = Some(now);
                Ok(status)
            }
            Err(failure) => {
                self.before = None;
                Err(failure)
            }
        }
    }
}

fn told(failure: &Failure) -> String {
    match failure {
        Failure::Usage(error) | Failure::Failed(error) => describe(error),
    }
}

fn plain(client: &Client, every: Duration, times: u64) -> Result<ExitCode, Failure> {
    let mut watch = Watch { client, before: None };
    // The first tells whether there is anybody to look at.
    watch.look()?;
    let mut lines = 0;
    while times == 0 || lines < times {
        std::thread::sleep(every);
        let line = match watch.look() {
            Ok(Some(status)) => line(&status),
            // It was away: rates need another look.
            Ok(None) => continue,
            Err(failure) => told(&failure),
        };
        // Not println!, which panics when the reader (`| head`) has gone.
        match writeln!(std::io::stdout(), "{line}") {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
        lines += 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// A status in a line.
fn line(status: &Value) -> String {
    let count = |value: &Value| value.as_f64().unwrap_or(0.0);
    let ready = if status["ready"] == true { "ready" } else { "NOT READY" };
    let lag = status["sinks"].as_array().into_iter().flatten();
    let lag = lag.filter_map(|sink| sink["lag"]["seconds"].as_f64()).fold(0.0, f64::max);
    format!(
        "{ready}, {:.0} readings/s, {:.0} stored/s, ack p99 {}, residue {}, sinks at most {} behind, {:.0} \
         stations online",
        count(&status["rates"]["received"]),
        count(&status["rates"]["stored"]),
        status::time(&status["ack"]["p99_seconds"]),
        status["conservation"]["residue"],
        status::time(&lag.into()),
        count(&status["stations"]["online"])
    )
}

fn screen(client: &Client, every: Duration) -> Result<ExitCode, Failure> {
    let terminal = Term::buffered_stdout();
    let keys = keys()?;
    terminal.hide_cursor()?;
    terminal.clear_screen()?;
    let shown = show(&terminal, &keys, client, every);
    // Also after an error: the terminal is the user's.
    terminal.show_cursor()?;
    terminal.write_line("")?;
    terminal.flush()?;
    shown.map(|()| ExitCode::SUCCESS)
}

fn show(
    terminal: &Term,
    keys: &Receiver<()>,
    client: &Client,
    every: Duration,
) -> Result<(), Failure> {
    let mut watch = Watch { client, before: None };
    let mut charts = Charts::default();
    loop {
        let lines = match watch.look() {
            Ok(Some(status)) => {
                charts.note(&status);
                let mut lines = status::lines(&status);
                lines.push(String::new());
                lines.extend(charts.lines());
                lines.push(String::new());
                lines.extend(queues(&status));
                lines
            }
            Ok(None) => vec!["looking…".to_owned()],
            Err(failure) => vec!["NOT REACHABLE".to_owned(), told(&failure)],
        };
        draw(terminal, &lines)?;
        match keys.recv_timeout(every) {
            Ok(()) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody can press a key: a signal ends it.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(every),
        }
    }
}

/// One screen, without flicker: each line over the one before, and what is left below is cleared.
fn draw(terminal: &Term, lines: &[String]) -> std::io::Result<()> {
    let (rows, columns) = terminal.size();
    let (rows, columns) = (usize::from(rows).max(2), usize::from(columns).max(20));
    terminal.move_cursor_to(0, 0)?;
    let fit = |line: &str| line.chars().take(columns - 1).collect::<String>();
    for line in lines.iter().take(rows - 1) {
        terminal.clear_line()?;
        terminal.write_line(&fit(line))?;
    }
    terminal.clear_to_end_of_screen()?;
    terminal.write_str(&fit("q quits"))?;
    terminal.flush()
}

/// Something comes when the user wants to leave.
fn keys() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = sync_channel(1);
    // It waits in a read for as long as the process lives.
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        let terminal = Term::stdout();
        while let Ok(key) = terminal.read_key_raw() {
            match key {
                Key::Char('q' | 'Q') | Key::Escape | Key::CtrlC => break,
                // What console says where there is no terminal to read from.
                Key::Unknown => return,
                _ => {}
            }
        }
        // Nobody listens if the screen has ended already.
        let _gone = sender.send(());
    })?;
    Ok(receiver)
}

/// The last minute of what changes most.
#[derive(Default)]
struct Charts {
    readings: VecDeque<f64>,
    p99: VecDeque<f64>,
}

impl Charts {
    fn note(&mut self, status: &Value) {
        let of = |value: &Value| value.as_f64().unwrap_or(0.0);
        push(&mut self.readings, of(&status["rates"]["received"]));
        push(&mut self.p99, of(&status["ack"]["p99_seconds"]));
    }

    fn lines(&self) -> [String; 2] {
        let most = |points: &VecDeque<f64>| points.iter().copied().fold(0.0, f64::max);
        [
            format!("readings/s {} {:.0} at most", bars(&self.readings), most(&self.readings)),
            format!(
                "ack p99    {} {} at most",
                bars(&self.p99),
                status::time(&most(&self.p99).into())
            ),
        ]
    }
}

fn push(points: &mut VecDeque<f64>, point: f64) {
    points.push_back(point);
    if points.len() > POINTS {
        points.pop_front();
    }
}

/// A chart one line high: the greatest value is the highest bar.
fn bars(points: &VecDeque<f64>) -> String {
    let most = points.iter().copied().fold(0.0, f64::max);
    let bar = |point: &f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 7
        let height = if most > 0.0 { (point / most * 7.0).round() as usize } else { 0 };
        BARS.get(height).copied().unwrap_or(' ')
    };
    points.iter().map(bar).collect()
}

/// How full each queue is.
fn queues(status: &Value) -> Vec<String> {
    let line = |queue: &Value| {
        let (bytes, bound) = (queue["bytes"].as_f64()?, queue["bound_bytes"].as_f64()?);
        let share = if bound > 0.0 { bytes / bound } else { 0.0 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 20
        let full = (share * 20.0).round().clamp(0.0, 20.0) as usize;
        let gauge = "#".repeat(full) + &"·".repeat(20 - full);
        let name = queue["queue"].as_str()?;
        let key = queue["key"].as_str()?;
        Some(format!("{name:<13} {gauge} {:>4.0} % of {key}", share * 100.0))
    };
    status["queues"].as_array().into_iter().flatten().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bars_are_as_high_as_their_share_of_the_highest() {
        assert_eq!(bars(&[0.0, 7.0, 3.5].into()), "▁█▅");
        assert_eq!(bars(&[0.0, 0.0].into()), "▁▁");
        let mut points = VecDeque::new();
        (0..100).for_each(|n| push(&mut points, f64::from(n)));
        assert_eq!((points.len(), points.front().copied()), (POINTS, Some(40.0)));
    }

    #[test]
    fn a_queue_shows_its_share_and_one_that_is_over_is_full() {
        let queue = |bytes: f64| json!({ "queues": [{ "queue": "tail", "bytes": bytes, "bound_bytes": 100, "key": "k" }] });
        assert_eq!(queues(&queue(50.0)), ["tail          ##########··········   50 % of k"]);
        assert!(
            queues(&queue(200.0)).iter().all(|line| line.contains("####################  200 %"))
        );
        assert!(queues(&json!({})).is_empty());
    }
}
