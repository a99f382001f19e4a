//! The list in `README.md` and the tests name the same statements.

use std::collections::{BTreeMap, BTreeSet};

const README: &str = include_str!("README.md");

const SOURCES: &[(&str, &str)] = &[
    ("connack", include_str!("connack.rs")),
    ("connect", include_str!("connect.rs")),
    ("disconnect", include_str!("disconnect.rs")),
    ("flow", include_str!("flow.rs")),
    ("packets", include_str!("packets.rs")),
    ("properties", include_str!("properties.rs")),
    ("publish", include_str!("publish.rs")),
    ("qos", include_str!("qos.rs")),
    ("retain", include_str!("retain.rs")),
    ("session", include_str!("session.rs")),
    ("shared", include_str!("shared.rs")),
    ("subscribe", include_str!("subscribe.rs")),
    ("topics", include_str!("topics.rs")),
    ("websocket", include_str!("websocket.rs")),
    ("will", include_str!("will.rs")),
];

/// A statement of a standard: `("5", "3.1.0-1")`.
type Statement = (&'static str, &'static str);

/// The tests that name each statement in the comment above them.
fn tested() -> BTreeMap<Statement, BTreeSet<String>> {
    let mut tested = BTreeMap::<Statement, BTreeSet<String>>::new();
    for (module, source) in SOURCES {
        let mut named = Vec::new();
        for line in source.lines() {
            let headed = ["3.1.1", "5"].into_iter().find_map(|version| {
                Some((
                    version,
                    line.strip_prefix("// ")?.strip_prefix(version)?.strip_prefix(": ")?,
                ))
            });
            if let Some((version, statements)) = headed {
                for statement in statements.split_whitespace() {
                    let number = statement
                        .strip_prefix("[MQTT-")
                        .and_then(|rest| rest.strip_suffix(']'))
                        .unwrap_or_else(|| panic!("{statement:?} in {module}: {line}"));
                    named.push((version, number));
                }
            } else if let Some(rest) = line.strip_prefix("async fn ") {
                let name = rest.split('(').next().unwrap();
                for statement in named.drain(..) {
                    tested.entry(statement).or_default().insert(format!("{module}::{name}"));
                }
            }
        }
        assert!(named.is_empty(), "{module} ends with statements and no test: {named:?}");
    }
    tested
}

/// What the list says of each statement.
fn listed() -> BTreeMap<Statement, &'static str> {
    let mut listed = BTreeMap::new();
    let mut version = None;
    for line in README.lines() {
        if let Some(heading) = line.strip_prefix("## MQTT ") {
            version = Some(heading);
        }
        let Some(row) = line.strip_prefix("| MQTT-") else { continue };
        let (number, rest) = row.split_once(" | ").unwrap();
        let said = rest.strip_suffix(" |").unwrap();
        let twice = listed.insert((version.unwrap(), number), said);
        assert!(twice.is_none(), "{number} is listed twice");
    }
    listed
}

#[test]
fn the_list_names_for_each_statement_the_tests_that_name_it_or_says_why_there_is_none() {
    let (tested, listed) = (tested(), listed());
    for (statement, tests) in &tested {
        let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
        let row = tests.join(" ");
        assert_eq!(listed.get(statement), Some(&&*row), "of {statement:?}");
    }
    for (statement, said) in &listed {
        let has_test = tested.contains_key(statement);
        assert!(has_test || !said.is_empty() && !said.contains("::"), "{statement:?}: {said}");
    }
}

#[test]
fn the_list_leaves_no_statement_out() {
    let mut sections = BTreeMap::<_, BTreeSet<u32>>::new();
    for (version, statement) in listed().keys() {
        let (section, number) = statement.split_once('-').unwrap();
        sections.entry((*version, section)).or_default().insert(number.parse().unwrap());
    }
    for ((version, section), numbers) in sections {
        // Version 5 has no [MQTT-2.2.1-1].
        let first = if (version, section) == ("5", "2.2.1") { 2 } else { 1 };
        let count = u32::try_from(numbers.len()).unwrap();
        let expected: BTreeSet<_> = (first..first + count).collect();
        assert_eq!(numbers, expected, "section {section} of {version}");
    }
    let count = |version| listed().keys().filter(|(v, _)| *v == version).count();
    assert_eq!((count("3.1.1"), count("5")), (COUNTS.0, COUNTS.1));
}

/// How many numbered statements the two standards have.
const COUNTS: (usize, usize) = (141, 251);
