#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use loushan_schemas::kind::Kind;

use super::*;
use crate::alarm::{AlarmState, Rule, Severity};

async fn asked(path: &str, tag: Option<&str>) -> (StatusCode, HeaderMap, Bytes) {
    let mut asked = HeaderMap::new();
    if let Some(tag) = tag {
        asked.insert(header::IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap());
    }
    let (parts, body) = file(path, &asked).into_parts();
    (parts.status, parts.headers, axum::body::to_bytes(body, usize::MAX).await.unwrap())
}

fn walk(dir: &Path, below: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name);
        }
    }
}

#[test]
fn the_list_of_files_is_the_folder() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/assets");
    let mut found = BTreeSet::new();
    walk(&dir, "", &mut found);
    let listed: BTreeSet<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
    assert_eq!(listed, found);
    assert_eq!(listed.len(), FILES.len(), "a file is listed twice");
}

#[tokio::test]
async fn every_file_comes_with_its_type_a_tag_and_the_policy() {
    for file in FILES {
        let path = file.path;
        let (status, headers, body) = asked(path, None).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, file.bytes), "{path}");
        assert_eq!(headers[header::CONTENT_TYPE], file.media_type, "{path}");
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], POLICY, "{path}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        let tag = headers[header::ETAG].to_str().unwrap();
        let (status, _, body) = asked(path, Some(tag)).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{path}");
        let (status, ..) = asked(path, Some(&format!("\"other\", W/{tag}"))).await;
        assert_eq!(status, StatusCode::NOT_MODIFIED, "{path}");
        let (status, ..) = asked(path, Some("\"other\"")).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn there_is_nothing_but_the_files() {
    for path in ["nothing.js", "../mod.rs", "", "/index.html", "styles", "styles/"] {
        let (status, ..) = asked(path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn the_page_has_no_script_and_no_style_of_its_own_and_asks_no_other_host() {
    let page = FILES.iter().find(|file| file.path == "index.html").unwrap();
    let page = std::str::from_utf8(page.bytes).unwrap();
    assert!(
        !page.contains("<style") && !page.contains(" style=") && !page.contains(" on"),
        "{page}"
    );
    for script in page.split("<script").skip(1) {
        assert!(script.starts_with(" type=\"module\" src=\"console/"), "{script}");
    }
    for file in FILES {
        let text = std::str::from_utf8(file.bytes).unwrap();
        for at in text.match_indices("//").map(|(at, _)| at) {
            let before = text.get(at.saturating_sub(6)..at).unwrap_or_default();
            let after = text.get(at..).unwrap_or_default();
            let known = ["//www.w3.org/", "//html.spec.whatwg.org/"];
            let named = before.ends_with("http:") || before.ends_with("https:");
            assert!(
                !named || known.iter().any(|it| after.starts_with(it)),
                "{}: {after:.60}",
                file.path
            );
        }
    }
}

/// The pairs of a dictionary: lines of `"key": "words",`.
fn dictionary(path: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let text = text(path).replace("\n    \"", " \"");
    for line in text.lines().filter(|line| line.starts_with("  ")) {
        let Some((key, words)) = line.trim().trim_end_matches(',').split_once(": ") else {
            continue;
        };
        let unquoted = |text: &str| serde_json::from_str::<String>(text.trim()).ok();
        // Keys that need no quotes are without.
        let key = unquoted(key).unwrap_or_else(|| key.to_owned());
        let words = unquoted(words).unwrap_or_else(|| panic!("{path}: {line}"));
        assert!(found.insert(key.clone(), words).is_none(), "{path}: {key} is there twice");
    }
    found
}

fn text(path: &str) -> &'static str {
    let file = FILES.iter().find(|file| file.path == path).unwrap();
    std::str::from_utf8(file.bytes).unwrap()
}

/// What stands between `{` and `}`.
fn placeholders(words: &str) -> BTreeSet<&str> {
    words.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

#[test]
fn both_languages_have_the_same_keys_with_the_same_values_in_them() {
    let (en, zh) = (dictionary("i18n/en.js"), dictionary("i18n/zh.js"));
    assert!(en.len() > 300, "{}", en.len());
    let keys = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&en), keys(&zh));
    for (key, words) in &en {
        assert_eq!(placeholders(words), placeholders(&zh[key]), "{key}");
        assert!(!words.is_empty() && !zh[key].is_empty(), "{key}");
    }
}

#[test]
fn every_key_that_is_asked_for_is_there_and_every_other_is_one_of_a_list() {
    let words = dictionary("i18n/en.js");
    let sources =
        FILES.iter().filter(|file| file.path.ends_with(".js") && !file.path.starts_with("i18n/"));
    let source: String = sources.map(|file| text(file.path)).collect();
    for (at, _) in source.match_indices("t(\"") {
        // It may be the end of another name, such as `text(`.
        let before = source.get(..at).unwrap().chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.') {
            continue;
        }
        let key = source.get(at + 3..).unwrap().split('"').next().unwrap();
        assert!(words.contains_key(key), "{key} is asked for, and has no words");
    }
    // `t(`state.${…}`)` and `word("state", …)` ask for whichever of a list.
    let lists: BTreeSet<&str> = source
        .split("t(`")
        .skip(1)
        .filter_map(|rest| rest.split_once("${").map(|(list, _)| list.trim_end_matches('.')))
        .chain(source.split("word(\"").skip(1).filter_map(|rest| rest.split('"').next()))
        .collect();
    for key in words.keys() {
        let listed = key.rsplit_once('.').is_some_and(|(list, _)| {
            lists.iter().any(|it| list == *it || list.starts_with(&format!("{it}.")))
        });
        let named = source.contains(&format!("\"{key}\""));
        assert!(listed || named, "{key} has words, and nobody asks for them");
    }
}

#[test]
fn whatever_the_service_says_of_a_closed_list_has_words() {
    let words = dictionary("i18n/en.js");
    let has = |list: &str, one: &str| {
        let key = format!("{list}.{one}");
        assert!(words.contains_key(&key), "{key} has no words");
    };
    for kind in Kind::ALL {
        has("kind", kind.as_str());
    }
    for rule in Rule::ALL {
        has("alarm", rule.as_str());
    }
    for severity in Severity::ALL {
        has("severity", severity.as_str());
    }
    for state in AlarmState::ALL {
        has("alarm_state", state.as_str());
    }
}
