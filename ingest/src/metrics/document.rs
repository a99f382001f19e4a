//! `docs/metrics.md`, from the list.

use std::fmt::Write as _;

use super::{GROUPS, Label, Metric, Values};

const HEAD: &str = "\
# Metrics

<!-- Made by `loushan print-metrics > docs/metrics.md`; a test holds it against the list in the code. -->

`GET /metrics` answers in Prometheus's text format, version 0.0.4. Everything whose labels are known
beforehand is there from the start, at zero. Labels come from closed lists, or from names in the
configuration: a device or a station is never one, so that a city has as many series as a village.

*Bound*: the key of the configuration, and the value of `key` in `loushan_limit_bytes` or `loushan_limit`.
*Alert*: an expression to begin with. `deploy/prometheus/alerts.yml` has those that are meant to wake somebody,
with thresholds and delays.
";

/// The document, in Markdown.
#[must_use]
pub fn document() -> String {
    let mut text = HEAD.to_owned();
    for group in GROUPS {
        let _infallible = write!(text, "\n## {}\n", group.title);
        group.metrics.iter().for_each(|metric| entry(&mut text, metric));
    }
    text
}

fn entry(text: &mut String, metric: &Metric) {
    let Metric { name, kind, unit, labels, help, meaning, bound, alert, only } = metric;
    let mut line = |what: std::fmt::Arguments<'_>| {
        // Into a String, which takes everything.
        let _infallible = text.write_fmt(what);
    };
    line(format_args!("\n### `{name}`\n\n{help}"));
    if !meaning.is_empty() {
        line(format_args!(" {meaning}"));
    }
    let when = only.map(|only| format!("; only {only}")).unwrap_or_default();
    line(format_args!("\n\n- Type: {}; unit: {unit}{when}\n", kind.as_str()));
    let mut items = Vec::new();
    items.extend(labels.iter().map(|label| format!("`{}`: {}", label.name, values(label))));
    items.extend(bound.map(|keys| {
        let keys: Vec<String> = keys.split(", ").map(|key| format!("`{key}`")).collect();
        format!("Bound: {}", keys.join(", "))
    }));
    items.extend(alert.map(|expression| format!("Alert: `{expression}`")));
    for item in items {
        line(format_args!("- {item}\n"));
    }
}

fn values(label: &Label) -> String {
    match (label.values, label.values.known()) {
        (Values::Named(what), _) => what.to_owned(),
        (_, known) => {
            let words = known.unwrap_or_default();
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
    }
}
