//! What is printed.

use serde_json::Value as Json;

use crate::fill::Filled;
use crate::questions::{Answers, Mean, Timed};

/// Columns named for each table, the heaviest first.
const COLUMNS: usize = 12;

#[allow(clippy::cast_precision_loss)] // sizes and counts to print
pub(crate) fn print(filled: &Filled, answers: &Answers, beside: Option<&Json>) {
    let readings = filled.readings as f64;
    println!(
        "{} readings in {:.0} s of generation and flushes ({:.0} readings/s)",
        filled.readings,
        filled.seconds,
        readings / filled.seconds
    );
    let (files, bytes) = filled.files;
    println!(
        "{files} files of {:.2} B a reading merged into {} in {:.0} s ({:.0} readings/s)",
        bytes as f64 / readings,
        answers.files,
        filled.compact_seconds,
        readings / filled.compact_seconds
    );
    println!();
    let tables = beside.map(|beside| beside["tables"].as_object().unwrap());
    println!("{:<44} {:>12} {:>12} {:>8}", "", "loushan", "DuckDB", "ratio");
    let line = |name: &str, ours: f64, theirs: Option<f64>| {
        let theirs_text = theirs.map_or("-".to_owned(), |theirs| format!("{theirs:.2}"));
        let ratio = theirs.map_or("-".to_owned(), |theirs| format!("{:.2}", ours / theirs));
        println!("{name:<44} {ours:>12.2} {theirs_text:>12} {ratio:>8}");
    };
    let copied = tables.map(|tables| {
        tables.values().map(|table| table["copy"].as_f64().unwrap()).sum::<f64>() / readings
    });
    line("bytes a reading, everything on disk", answers.bytes as f64 / readings, copied);
    let ms = |name: &str| {
        Some(Timed {
            ms: floats(&beside?[name]["ms"]),
            cpu_ms: floats(&beside?[name]["cpu_ms"]),
            rows: beside?[name]["rows"].as_u64()?,
        })
    };
    for (name, key, ours) in [
        ("last hour of one device, ms", "hour", &answers.hour),
        ("a day of one device, ms", "day", &answers.day),
        ("hourly mean of a kind over a day, ms", "mean", &answers.mean),
        ("latest of everything, ms", "latest", &answers.latest),
    ] {
        let theirs = ms(key);
        if let Some(theirs) = &theirs {
            assert!(ours.rows == theirs.rows || key == "latest", "{name}: the answers differ");
        }
        let theirs = theirs.as_ref();
        let median = |of: fn(&Timed) -> &Vec<f64>| {
            (quantile(of(ours), 0.5), theirs.map(|theirs| quantile(of(theirs), 0.5)))
        };
        let (clock, their_clock) = median(|timed| &timed.ms);
        line(&format!("{name}, median"), clock, their_clock);
        let (cpu, their_cpu) = median(|timed| &timed.cpu_ms);
        line("  of the processor", cpu, their_cpu);
        line("  slowest", quantile(&ours.ms, 1.0), theirs.map(|theirs| quantile(&theirs.ms, 1.0)));
    }
    if let Some(beside) = beside {
        let theirs: Vec<Mean> = serde_json::from_value(beside["mean"]["hours"].clone()).unwrap();
        assert_eq!(answers.hours.len(), theirs.len());
        for (ours, theirs) in answers.hours.iter().zip(theirs) {
            assert!((ours.0 - theirs.0).abs() < 1e-6, "an hour's mean is {ours:?} or {theirs:?}");
        }
    }
    line("opening the store, ms", answers.open.as_secs_f64() * 1000.0, None);
    for (name, table) in tables.into_iter().flatten() {
        print_table(name, table, readings);
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an index
fn quantile(values: &[f64], of: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * of) as usize]
}

fn floats(json: &Json) -> Vec<f64> {
    json.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn print_table(name: &str, table: &Json, readings: f64) {
    let (bytes, rows) = (table["bytes"].as_f64().unwrap(), table["rows"].as_f64().unwrap());
    println!();
    println!(
        "{name}: {rows} rows in {} files, {:.2} B a row ({:.2} of the bytes a reading); DuckDB's copy \
         {:.2} B, ratio {:.2}",
        table["files"],
        bytes / rows,
        bytes / readings,
        table["copy"].as_f64().unwrap() / rows,
        bytes / table["copy"].as_f64().unwrap()
    );
    let mut columns: Vec<(&String, f64)> = table["columns"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(column, bytes)| (column, bytes.as_f64().unwrap()))
        .collect();
    let chunks: f64 = columns.iter().map(|(_, bytes)| bytes).sum();
    columns.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named: Vec<String> = columns
        .iter()
        .take(COLUMNS)
        .map(|(column, bytes)| format!("{column} {:.2}", bytes / rows))
        .collect();
    println!("  {}, footers and filters {:.2}", named.join(", "), (bytes - chunks) / rows);
}
