//! What makes a run a failure: `p99 > 50ms`, `unacknowledged > 0`, `readings_per_s < 3000`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Report;

/// What can be asked for, times first.
const TIMES: [&str; 7] = ["p50", "p90", "p99", "p99.9", "max", "connect_p99", "connect_max"];
const FIGURES: [&str; 9] = [
    "readings_per_s",
    "readings_acked",
    "unacknowledged",
    "refused",
    "redelivered",
    "reconnects",
    "failed_connects",
    "held_back_s",
    "errors",
];

/// A condition under which a run failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    figure: &'static str,
    above: bool,
    limit: f64,
    text: String,
}

/// What came of a condition.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// The condition as it was given.
    pub fail_if: String,
    /// What was measured, in seconds where it is a time.
    pub measured: f64,
    /// It is so.
    pub failed: bool,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "give FIGURE > LIMIT or FIGURE < LIMIT: {} with a time such as 50ms, {} with a number",
                TIMES.join(", "),
                FIGURES.join(", ")
            )
        };
        let (figure, rest, above) = match (text.split_once('>'), text.split_once('<')) {
            (Some((figure, rest)), None) => (figure, rest, true),
            (None, Some((figure, rest))) => (figure, rest, false),
            _ => return Err(wanted()),
        };
        let (figure, rest) = (figure.trim(), rest.trim());
        let find = |list: &[&'static str]| list.iter().copied().find(|name| *name == figure);
        let (figure, limit) = if let Some(name) = find(&TIMES) {
            let time = humantime::parse_duration(rest).map_err(|_| wanted())?;
            (name, time.as_secs_f64())
        } else {
            let name = find(&FIGURES).ok_or_else(wanted)?;
            (name, rest.parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(wanted)?)
        };
        Ok(Self { figure, above, limit, text: text.trim().to_owned() })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Condition {
    /// Holds it against a report.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    pub fn judge(&self, report: &Report) -> Verdict {
        let seconds = |time: Duration| time.as_secs_f64();
        let c = &report.counts;
        let measured = match self.figure {
            "p50" => seconds(report.latency.quantile(0.5)),
            "p90" => seconds(report.latency.quantile(0.9)),
            "p99" => seconds(report.latency.quantile(0.99)),
            "p99.9" => seconds(report.latency.quantile(0.999)),
            "max" => seconds(report.latency.quantile(1.0)),
            "connect_p99" => seconds(report.connect.quantile(0.99)),
            "connect_max" => seconds(report.connect.quantile(1.0)),
            "readings_per_s" => report.readings_per_s(),
            "readings_acked" => c.readings_acked as f64,
            "unacknowledged" => c.unacknowledged() as f64,
            "refused" => c.refused as f64,
            "redelivered" => c.redelivered as f64,
            "reconnects" => c.reconnects as f64,
            "failed_connects" => c.failed_connects as f64,
            "held_back_s" => report.held_back_s() as f64,
            _ => report.errors.values().sum::<u64>() as f64,
        };
        // Nothing was measured: no latency is not a good latency.
        let nothing = TIMES.contains(&self.figure) && report.latency.count() == 0;
        let beyond = if self.above { measured > self.limit } else { measured < self.limit };
        Verdict { fail_if: self.text.clone(), measured, failed: beyond || nothing }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn judged(text: &str, report: &Report) -> bool {
        text.parse::<Condition>().unwrap().judge(report).failed
    }

    #[test]
    fn conditions_hold_against_what_was_measured() {
        let mut report = Report { took_s: 10.0, ..Report::default() };
        report.counts.readings_acked = 5000;
        report.counts.batches_sent = 3;
        report.counts.batches_acked = 2;
        assert!(judged("p99 > 50ms", &report), "no latency is not a good one");
        (1..=100).for_each(|ms| report.latency.record(Duration::from_millis(ms)));
        assert!(judged("p99 > 50ms", &report) && !judged("p99 > 110ms", &report));
        assert!(!judged("p50>60ms", &report) && judged("max > 90ms", &report));
        assert!(judged("readings_per_s < 501", &report) && !judged("readings_per_s<500", &report));
        assert!(judged("unacknowledged > 0", &report) && !judged("reconnects > 0", &report));
    }

    #[test]
    fn a_condition_that_is_none_says_what_is_one() {
        for text in
            ["", "p99", "p99 > 50", "p98 > 50ms", "refused > many", "p99 = 5ms", "p50 > 1ms < 2"]
        {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.contains("give FIGURE > LIMIT"), "{text}: {error}");
        }
    }
}
