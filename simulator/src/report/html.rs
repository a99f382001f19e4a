//! The report as one file for a browser: figures, and charts drawn here. No script, and nothing from
//! outside, so that it can be mailed, archived and opened where there is no network.

use super::junit::escaped;
use super::timeline::{HEAT, Row, heat_below};
use super::{Report, millis};

/// Of a chart, in the units of its drawing.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 150.0;
/// Room for the numbers left of it.
const LEFT: f64 = 70.0;
/// Columns at most: what a screen tells apart.
const COLUMNS: usize = 430;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:2em auto;padding:0 1em;\
color:#1c2530;background:#fff}h1{font-size:1.5em}h2{font-size:1.1em;margin:1.6em 0 .3em}\
table{border-collapse:collapse}td,th{padding:.15em 1em .15em 0;text-align:left;vertical-align:top}\
td.n{text-align:right;font-variant-numeric:tabular-nums}svg{width:100%;height:auto}\
svg text{font:11px system-ui,sans-serif;fill:#5a6673}.failed{color:#b3261e;font-weight:600}\
.passed{color:#1b6e3c;font-weight:600}.note{color:#5a6673}";

/// A column of a chart: some rows of the timeline added up.
struct Column {
    row: Row,
    seconds: f64,
}

fn columns(report: &Report) -> Vec<Column> {
    let rows = &report.timeline.rows;
    let together = rows.len().div_ceil(COLUMNS).max(1);
    rows.chunks(together)
        .map(|chunk| {
            let mut row = Row::default();
            chunk.iter().for_each(|part| row.add(part));
            #[allow(clippy::cast_precision_loss)] // a few thousand seconds
            let seconds = (chunk.len() as u64 * report.timeline.width_s) as f64;
            Column { row, seconds }
        })
        .collect()
}

#[allow(clippy::cast_precision_loss)] // lengths on paper
fn x(place: usize, of: usize) -> f64 {
    LEFT + WIDTH * place as f64 / of.max(1) as f64
}

fn frame(body: &str, top: &str, seconds: f64, height: f64) -> String {
    let (right, below) = (LEFT + WIDTH, height + 16.0);
    format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\">\n<rect x=\"{LEFT}\" y=\"0\" width=\"{WIDTH}\" \
         height=\"{height}\" fill=\"#f5f7f9\"/>\n{body}<text x=\"{}\" y=\"11\" text-anchor=\"end\">{top}</text>\
         <text x=\"{LEFT}\" y=\"{below}\">0 s</text><text x=\"{right}\" y=\"{below}\" \
         text-anchor=\"end\">{seconds:.0} s</text>\n</svg>\n",
        right + 4.0,
        height + 22.0,
        LEFT - 6.0,
    )
}

/// Bars of one figure over time.
fn bars(columns: &[Column], colour: &str, unit: &str, figure: impl Fn(&Column) -> f64) -> String {
    let seconds = columns.iter().map(|column| column.seconds).sum();
    let top = columns.iter().map(&figure).fold(0.0, f64::max);
    let mut body = String::new();
    let width = (WIDTH / columns.len().max(1) as f64).max(0.5);
    for (place, column) in columns.iter().enumerate() {
        let value = figure(column);
        if value > 0.0 {
            let height = HEIGHT * value / top;
            body += &format!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.2}\" height=\"{height:.1}\" \
                 fill=\"{colour}\"/>\n",
                x(place, columns.len()),
                HEIGHT - height
            );
        }
    }
    frame(&body, &format!("{top:.0}{unit}"), seconds, HEIGHT)
}

/// Latency by time and size: the darker, the more acknowledgements.
#[allow(clippy::cast_precision_loss)] // lengths on paper
fn heat(columns: &[Column]) -> String {
    let seconds = columns.iter().map(|column| column.seconds).sum();
    let used = |place: &usize| {
        columns.iter().any(|column| column.row.heat.get(*place).is_some_and(|count| *count > 0))
    };
    let (Some(low), Some(high)) = ((0..HEAT).find(used), (0..HEAT).rfind(used)) else {
        return "<p class=\"note\">Nothing was acknowledged.</p>\n".to_owned();
    };
    let counts = columns.iter().flat_map(|column| column.row.heat);
    let most = counts.max().unwrap_or(1).max(1) as f64;
    let (cell, width) = (16.0, (WIDTH / columns.len().max(1) as f64).max(0.5));
    let mut body = String::new();
    for place in low..=high {
        let y = (high - place) as f64 * cell;
        if place > low || low == high {
            body += &format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 6.0,
                y + 12.0,
                if place == high { String::new() } else { millis(heat_below(place)) },
            );
        }
        for (at, column) in columns.iter().enumerate() {
            let count = column.row.heat.get(place).copied().unwrap_or(0);
            if count > 0 {
                // By its root, so that a single slow one can be seen beside thousands of fast ones.
                let shade = 0.15 + 0.85 * (count as f64 / most).sqrt();
                body += &format!(
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{cell}\" \
                     fill=\"#8a2f0b\" fill-opacity=\"{shade:.2}\"/>\n",
                    x(at, columns.len())
                );
            }
        }
    }
    frame(
        &body,
        &format!("&lt; {}", millis(heat_below(high))),
        seconds,
        (high - low + 1) as f64 * cell,
    )
}

/// A table of names and counts.
fn counts<'a>(rows: impl Iterator<Item = (&'a String, u64)>) -> String {
    let rows: String = rows
        .map(|(name, count)| {
            format!("<tr><td>{}</td><td class=\"n\">{count}</td></tr>\n", escaped(name))
        })
        .collect();
    if rows.is_empty() {
        "<p class=\"note\">None.</p>\n".to_owned()
    } else {
        format!("<table>{rows}</table>\n")
    }
}

impl Report {
    /// As a file for a browser.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // rates on paper
    pub fn to_html(&self) -> String {
        let columns = columns(self);
        let per_s = |figure: fn(&Row) -> u64| {
            move |column: &Column| figure(&column.row) as f64 / column.seconds.max(0.001)
        };
        let mut html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>loushan simulate, seed \
             {}</title>\n<style>{STYLE}</style></head><body>\n<h1>loushan simulate</h1>\n<p>{}</p>\n",
            self.seed,
            escaped(&self.about)
        );
        for verdict in &self.verdicts {
            let (class, word) =
                if verdict.failed { ("failed", "failed") } else { ("passed", "passed") };
            html += &format!(
                "<p><span class=\"{class}\">{word}</span> fail if {}: {}</p>\n",
                escaped(&verdict.fail_if),
                super::whole::measured(verdict)
            );
        }
        if self.was_the_bottleneck() {
            html += &format!(
                "<p class=\"failed\">The generator held itself back in {} seconds: these figures are about \
                 it, not about the server.</p>\n",
                self.held_back_s()
            );
        }
        html += "<h2>Acknowledged readings by second</h2>\n";
        html += &bars(&columns, "#2b6cb0", "/s", per_s(|row| row.readings_acked));
        html += "<h2>Latency</h2>\n";
        html += &format!("<p class=\"note\">{}</p>\n", self.counted_from());
        html += &heat(&columns);
        html += "<h2>Faults on purpose</h2>\n";
        html += &bars(&columns, "#b7791f", "", |column| column.row.faults as f64);
        html += "<h2>Sessions opened</h2>\n";
        html += &bars(&columns, "#2f855a", "", |column| column.row.connects as f64);
        html += "<h2>Batches that the generator itself sent late</h2>\n";
        html += &bars(&columns, "#6b46c1", "", |column| column.row.late as f64);
        html +=
            "<h2>By kind</h2>\n<table><tr><th>kind</th><th>sent</th><th>acknowledged</th></tr>\n";
        for (kind, tally) in &self.kinds {
            html += &format!(
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
                escaped(kind),
                tally.sent,
                tally.acknowledged
            );
        }
        html += "</table>\n<h2>Faults by name</h2>\n";
        html += &counts(self.faults.iter().map(|(name, count)| (name, *count)));
        html += "<h2>Incidents of devices</h2>\n";
        html += &counts(self.incidents.iter().map(|(name, count)| (name, *count)));
        html += "<h2>Errors by reason</h2>\n";
        html += &counts(self.errors.iter().map(|(name, count)| (name, *count)));
        html += &format!(
            "<h2>In words</h2>\n<pre>{}</pre>\n</body></html>\n",
            escaped(&self.to_string())
        );
        html
    }
}
