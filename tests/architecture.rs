//! What ARCHITECTURE.md says is shown by tests is shown by tests that exist.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all functions in the sources below a folder.
fn functions(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let called = text.split("fn ").skip(1).map(|rest| {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                rest.chars().take_while(|c| is_name(*c)).collect()
            });
            names.extend(called);
        }
    }
}

/// The words in backticks in the last column of a section's table.
fn shown_by(text: &str, section: &str) -> Vec<String> {
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).unwrap();
    let table = rest.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|--"));
    let last = rows.skip(1).filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_test_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    for folder in ["tests", "broker", "ingest", "schemas", "simulator"] {
        functions(&root.join(folder), &mut names);
    }
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    for section in ["Invariants", "Failures"] {
        let shown = shown_by(&text, section);
        assert!(shown.len() > 20, "{section} names {} tests", shown.len());
        for name in shown {
            // A name that stands for several ends in an ellipsis.
            let exists = match name.strip_suffix('…') {
                Some(beginning) => names.iter().any(|known| known.starts_with(beginning)),
                None => names.contains(&name),
            };
            assert!(exists, "{section}: there is no test {name}");
        }
    }
}
