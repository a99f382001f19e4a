//! What the documents tell people to type does what it says, with the real binary and a real service.
//!
//! Every block of `sh` is run, in the order of the documents, in one folder; blocks of `toml` and `c` are
//! files that the commands name. Blocks of `console` are for machines that a test has no right to
//! change, and hold nothing else.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::{Service, loushan, python, run};

/// The documents, in an order in which one may read them, and the name of the file that their `toml` is.
const DOCUMENTS: [(&str, &str); 8] = [
    ("quick-start.md", ""),
    ("connect-a-device.md", ""),
    ("operate.md", ""),
    ("secure.md", "secure.toml"),
    ("size.md", "small.toml"),
    ("query.md", ""),
    ("upgrade.md", ""),
    ("troubleshoot.md", ""),
];

/// Programs that only blocks of `console` may name, and only those.
const CONSOLE: [&str; 3] = ["cargo build", "export PATH=", "loushan serve"];

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The fenced blocks of a document, with their language; also those within lists.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, String)> = None;
    for line in text.lines() {
        let bare = line.trim_start();
        match (&mut open, bare.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some((language.to_owned(), line.len() - bare.len(), String::new()));
            }
            (Some(_), Some(_)) => {
                let (language, _, block) = open.take().unwrap();
                blocks.push((language, block));
            }
            (Some((_, indent, block)), None) => {
                block.push_str(line.get(*indent..).unwrap_or(""));
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Runs a block as a shell would, with the service's addresses for the documents'.
fn type_in(folder: &Path, service: &Service, block: &str) -> String {
    let (mqtt, http) = (service.mqtt.to_string(), service.http.to_string());
    let port = service.mqtt.port().to_string();
    let script = block
        .replace("127.0.0.1:1883", &mqtt)
        .replace("127.0.0.1:8080", &http)
        .replace("-p 1883", &format!("-p {port}"))
        .replace("--port 1883", &format!("--port {port}"));
    let binary = Path::new(env!("CARGO_BIN_EXE_loushan")).parent().unwrap().to_owned();
    let python = python().parent().unwrap().to_owned();
    let mut path = vec![binary, python];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", &script]).current_dir(folder).stdin(Stdio::null());
    shell.env("PATH", std::env::join_paths(path).unwrap());
    shell.env("LOUSHAN_URL", format!("http://{http}"));
    let (ok, said) = run(&mut shell);
    assert!(ok, "{script}\n{said}");
    said
}

#[test]
fn everything_that_the_documents_tell_people_to_type_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["tests", "schemas"] {
        std::os::unix::fs::symlink(root.join(name), folder.join(name)).unwrap();
    }
    let (ok, printed) = run(loushan().arg("print-config"));
    assert!(ok, "{printed}");
    std::fs::write(folder.join("loushan.toml"), printed).unwrap();
    let data = folder.join("loushan-data");
    std::fs::create_dir(&data).unwrap();
    let service = Service::start(&data);

    for (name, toml) in DOCUMENTS {
        let blocks = blocks(&document(name));
        // Files first: the commands name them.
        for (language, block) in &blocks {
            match language.as_str() {
                "toml" => std::fs::write(folder.join(toml), block).unwrap(),
                "c" => std::fs::write(folder.join("modem.c"), block).unwrap(),
                "console" => {
                    for line in block.lines() {
                        let known = CONSOLE.iter().any(|start| line.starts_with(start));
                        assert!(known, "{name}: {line} could be run");
                    }
                }
                "sh" | "text" => {}
                other => panic!("{name}: a block of {other:?}"),
            }
        }
        let commands = blocks.iter().filter(|(language, _)| language == "sh");
        let said: Vec<String> =
            commands.map(|(_, block)| type_in(folder, &service, block)).collect();
        assert!(!said.is_empty(), "{name} has no command");
        match name {
            "quick-start.md" => {
                assert!(said[0].contains(": ready"), "{}", said[0]);
                assert_eq!(said.last().unwrap().lines().count(), 2, "{said:?}");
            }
            // By a shell, by C and by Python: each batch was taken.
            "connect-a-device.md" => {
                service.wait_until_quiet();
                assert_eq!(service.figure("rejected"), 0);
                for station in ["bs0042", "bs0043", "bs0001"] {
                    let latest = service.json(&format!("/api/v1/latest?station={station}"));
                    assert!(!latest["readings"].as_array().unwrap().is_empty(), "{latest}");
                }
            }
            "troubleshoot.md" => {
                service.wait_until_quiet();
                assert_eq!(service.figure("rejected"), 1, "what is published there by hand");
            }
            _ => {}
        }
    }
    assert!(service.terminate().success());
}

#[test]
fn documents_point_to_files_and_headings_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let heading = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.replace(['`', ',', '.', '(', ')', ':'], "")
    };
    let mut pages: Vec<_> = DOCUMENTS.iter().map(|(name, _)| format!("docs/{name}")).collect();
    let others =
        ["limits.md", "interoperability.md", "metrics.md"].map(|name| format!("docs/{name}"));
    pages.extend(others);
    pages.extend(["README.md", "deploy/README.md"].map(str::to_owned));
    for page in pages {
        let text = std::fs::read_to_string(root.join(&page)).unwrap();
        let folder = Path::new(&page).parent().unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file =
                if file.is_empty() { root.join(&page) } else { root.join(folder).join(file) };
            assert!(file.exists(), "{page}: there is no {link}");
            if !anchor.is_empty() {
                let target = std::fs::read_to_string(&file).unwrap();
                let mut headings = target.lines().filter(|line| line.starts_with('#'));
                assert!(headings.any(|line| heading(line) == anchor), "{page}: no heading {link}");
            }
        }
    }
}
