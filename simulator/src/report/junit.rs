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
