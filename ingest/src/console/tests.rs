#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

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
