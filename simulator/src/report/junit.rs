//! A run as a suite of tests: every condition a case, for whatever shows JUnit's XML.

use super::Report;
use super::whole::measured;

/// Escapes for XML and HTML, in text and in attributes alike.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no way to write them.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl Report {
    /// As JUnit's XML. A run of which nothing was asked has one case: that it ended.
    #[must_use]
    pub fn to_junit(&self) -> String {
        let failures = self.verdicts.iter().filter(|verdict| verdict.failed).count();
        let cases = self.verdicts.len().max(1);
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        xml += &format!(
            "<testsuite name=\"loushan simulate\" tests=\"{cases}\" failures=\"{failures}\" \
             time=\"{:.3}\">\n",
            self.took_s
        );
        if self.verdicts.is_empty() {
            xml.push_str("  <testcase classname=\"simulate\" name=\"the run ended\"/>\n");
        }
        for verdict in &self.verdicts {
            let name = escaped(&format!("not {}", verdict.fail_if));
            xml += &format!("  <testcase classname=\"simulate\" name=\"{name}\"");
            if verdict.failed {
                let text = escaped(&format!("{}: {}", verdict.fail_if, measured(verdict)));
                xml += &format!("><failure message=\"{text}\"/></testcase>\n");
            } else {
                xml.push_str("/>\n");
            }
        }
        xml +=
            &format!("  <system-out>{}</system-out>\n</testsuite>\n", escaped(&self.to_string()));
        xml
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Report, Verdict};

    #[test]
    fn a_condition_is_a_case_and_no_text_breaks_out_of_the_markup() {
        let mut report = Report { about: "<b>&\u{1}".to_owned(), took_s: 2.0, ..Report::default() };
        assert!(report.to_junit().contains("tests=\"1\" failures=\"0\""));
        for failed in [true, false] {
            let fail_if = "p99 > 5ms".to_owned();
            report.verdicts.push(Verdict { fail_if, measured: 0.25, failed });
        }
        report.errors.insert("connection lost: \"<&>\"".to_owned(), 3);
        report.latency.record(Duration::from_millis(3));
        report.timeline.at(Duration::from_secs(1)).warm(Duration::from_millis(3));
        let xml = report.to_junit();
        assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
        assert!(xml.contains("<failure message=\"p99 &gt; 5ms: 250.0 ms\"/>"), "{xml}");
        let html = report.to_html();
        assert!(html.contains("&lt;b&gt;&amp;\u{fffd}") && !html.contains("<b>"), "{html}");
        assert!(html.contains("connection lost: &quot;&lt;&amp;&gt;&quot;"), "{html}");
    }

    #[test]
    fn reports_of_parts_add_up_and_survive_being_written() {
        let part = |ms: u64| {
            let mut report = Report { took_s: 3.0, processes: 1, ..Report::default() };
            report.counts.readings_acked = 100;
            report.latency.record(Duration::from_millis(ms));
            report.timeline.at(Duration::from_secs(ms)).late = 1;
            report
        };
        let written = serde_json::to_string(&part(7)).unwrap_or_default();
        let mut whole = part(3);
        whole.merge(serde_json::from_str(&written).unwrap_or_default());
        assert_eq!((whole.processes, whole.counts.readings_acked), (2, 200));
        assert_eq!(whole.latency.count(), 2);
        assert!((6..=7).contains(&whole.latency.quantile(1.0).as_millis()));
        // Two seconds in which a batch was late and none was sent, of eight.
        assert_eq!(whole.held_back_s(), 2);
        assert!(whole.was_the_bottleneck());
    }
}
