//! Prometheus's text format, as far as tests read it.

use std::collections::{BTreeMap, BTreeSet};

/// A family of an exposition.
#[derive(Debug, Default)]
pub struct Family {
    /// `counter`, `gauge`, `histogram`.
    pub kind: String,
    pub help: String,
    /// Labels with their values; a histogram's without `le`.
    pub labels: BTreeMap<String, BTreeSet<String>>,
    /// The sum of all samples; a histogram's of its counts.
    pub sum: f64,
}

/// All families, by name.
pub fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let family = families.entry(name.to_owned()).or_default();
            let rest = words.next().unwrap_or_default().to_owned();
            match what {
                "TYPE" => family.kind = rest,
                "HELP" => family.help = rest,
                other => panic!("{other} in {line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let bare = name.strip_suffix(suffix)?;
            families.get(bare).is_some_and(|family| family.kind == "histogram").then_some(bare)
        });
        let family = families.entry(bare.unwrap_or(name).to_owned()).or_default();
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once("=\"").unwrap();
            if key != "le" {
                let value = value.trim_end_matches('"').to_owned();
                family.labels.entry(key.to_owned()).or_default().insert(value);
            }
        }
        if bare.is_none() || name.ends_with("_count") {
            family.sum += value.parse::<f64>().unwrap();
        }
    }
    families
}
