//! What docs/simulator.md tells people to type does what it says, with the real binary.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::Output;

use serde_json::Value;
use support::{Service, loushan};

/// The commands of the document, with the service's address for the document's.
fn commands(mqtt: &str) -> Vec<Vec<String>> {
    let text = include_str!("../docs/simulator.md");
    let blocks = text.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let lines = blocks.flat_map(str::lines).filter(|line| line.starts_with("loushan "));
    lines
        .map(|line| {
            // Quotes hold conditions only.
            let quoted = line.split('\'').enumerate();
            quoted
                .flat_map(|(place, part)| match place % 2 {
                    0 => part.split_whitespace().map(str::to_owned).collect(),
                    _ => vec![part.to_owned()],
                })
                .skip(1)
                .map(|word| word.replace("127.0.0.1:1883", mqtt))
                .collect()
        })
        .collect()
}

fn run(folder: &std::path::Path, words: &[String]) -> (Output, String) {
    let output = loushan().args(words).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output, said)
}

#[test]
fn what_the_document_says_can_be_typed_and_a_condition_decides_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let service = Service::start(&data);
    let commands = commands(&service.mqtt.to_string());
    assert_eq!(commands.len(), 4, "{commands:?}");
    for words in &commands {
        let (output, said) = run(folder.path(), words);
        assert!(output.status.success(), "{words:?}\n{said}");
    }

    let report: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["counts"]["stations"], 10);
    // How many come within three seconds is the radio's doing; all that left were acknowledged.
    let acked = report["counts"]["readings_acked"].as_u64().unwrap();
    assert!(acked > 0 && report["counts"]["readings_sent"] == acked, "{report}");
    assert_eq!(report["verdicts"].as_array().unwrap().len(), 2);
    let html = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(html.contains("<svg") && html.ends_with("</html>\n"));
    for outside in ["<script", "http://", "https://", "src=", "@import"] {
        assert!(!html.contains(outside), "{outside} is in the report");
    }
    let junit = std::fs::read_to_string(folder.path().join("report.xml")).unwrap();
    assert!(junit.contains("tests=\"2\" failures=\"0\""), "{junit}");

    // The same with a condition that cannot be met, and with a key that is none.
    let mut failing = commands[2].clone();
    failing.extend(["--fail-if".to_owned(), "readings_per_s < 1000000".to_owned()]);
    let (output, said) = run(folder.path(), &failing);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED"), "{said}");
    let wrong = ["simulate", "--loop", "ajar"].map(str::to_owned);
    let (output, said) = run(folder.path(), &wrong);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("loop is \"ajar\"; give one of open, closed"), "{said}");
}
