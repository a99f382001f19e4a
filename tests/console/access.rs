//! Who may come in, and by which means: credentials, keys, small screens, screen readers.

use serde_json::json;

use super::support::Service;
use super::support::browser::Browser;
use super::{PAGES, STATIONS, assert_content, list, url, with_readings, write_stations};

#[test]
fn who_changes_something_is_asked_who_it_is_and_no_secret_stands_in_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let service = with_readings(dir.path());
    let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap().trim().to_owned();
    let mut browser = Browser::start();
    browser.open(json!({}));
    browser.visit(&url(&service, "#/pipeline"));
    browser.wait_text("[data-sink=embedded] .badge", "running");
    browser.click("[data-sink=embedded] [data-order=pause]");
    browser.click("dialog .danger");
    // A wrong token is said to be one, and the form stays.
    browser.wait("the form", "document.querySelector('dialog.signin') !== null");
    browser.type_into("dialog.signin [name=token]", "wrong");
    browser.click("dialog.signin .primary");
    browser.wait_text("dialog.signin [role=alert]", "not accepted");
    browser.type_into("dialog.signin [name=token]", &token);
    browser.click("dialog.signin .primary");
    browser.wait_text("[data-sink=embedded] .badge", "paused");
    let state = || service.json("/api/v1/sinks")["sinks"][0]["state"].clone();
    assert_eq!(state(), "paused");
    // Known from now on, in this tab.
    browser.click("[data-sink=embedded] [data-order=resume]");
    browser.click("dialog .primary");
    browser.wait_text("[data-sink=embedded] .badge", "running");
    assert_eq!(state(), "running");
    let asked = browser.evaluate(
        "performance.getEntriesByType('resource').map((it) => it.name).join(' ') + location.href",
    );
    assert!(!asked.as_str().unwrap().contains(&token), "{asked}");
    assert_eq!(
        browser.evaluate(
            "localStorage.length > 0 && JSON.stringify({ ...localStorage }).includes('Bearer')"
        ),
        false
    );
    // Signed out, it is forgotten.
    browser.click(".who button");
    browser.shown();
    assert_eq!(browser.evaluate("sessionStorage.length"), 0);
    let complaints = browser.complaints();
    let others: Vec<&String> = complaints.iter().filter(|it| !it.contains("401")).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn a_service_that_asks_everybody_shows_its_form_and_then_its_city() {
    let dir = tempfile::tempdir().unwrap();
    write_stations(dir.path(), STATIONS);
    let insecure = [("LOUSHAN__HTTP__ALLOW_INSECURE", "true")];
    let service = Service::start_with(dir.path(), "127.0.0.1:0", "0.0.0.0:0", &insecure);
    let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap().trim().to_owned();
    let mut browser = Browser::start();
    browser.open(json!({}));
    browser.tell(json!({ "url": url(&service, "#/") }), "goto");
    browser.wait("the form", "document.querySelector('dialog.signin') !== null");
    assert_eq!(browser.evaluate("document.querySelectorAll('dialog').length"), 1);
    browser.type_into("dialog.signin [name=token]", &token);
    browser.click("dialog.signin .primary");
    browser.wait(
        "the stations",
        &format!("document.querySelectorAll('.map a').length === {STATIONS}"),
    );
    browser.wait("the page to be live", "document.documentElement.dataset.live === 'live'");
    browser.wait_text(".who", "admin");
}

#[test]
fn it_can_be_used_by_keys_on_a_phone_in_the_dark_and_axe_finds_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let service = with_readings(dir.path());
    let device = list(&service.json("/api/v1/devices?limit=1"), "devices").remove(0);
    let device = format!("#/devices/{}", device["imei"].as_str().unwrap());
    let mut browser = Browser::start();
    for (dark, width) in [(false, 1280), (true, 390)] {
        browser.open(json!({ "dark": dark, "width": width, "height": 844 }));
        browser.visit(&url(&service, "#/"));
        let others = ["#/stations/bs0001", device.as_str(), "#/kinds/water", "#/projects/water"];
        for page in PAGES.into_iter().chain(others) {
            browser.go(page);
            let wider = browser.evaluate("document.documentElement.scrollWidth - innerWidth");
            assert_eq!(wider, 0, "{page} is wider than {width} pixels");
            let wrong = browser.axe();
            assert!(wrong.is_empty(), "{page}, dark: {dark}, {width} pixels: {wrong:#?}");
        }
    }
    // By keys alone: past the menu, to a station on the map, to the next one, and into it.
    browser.open(json!({}));
    browser.visit(&url(&service, "#/"));
    browser.press("Tab");
    assert_eq!(browser.text(":focus"), "Skip to the content");
    browser.press("Enter");
    assert_eq!(browser.evaluate("document.activeElement.id"), "main");
    browser.wait("stations on the map", "document.querySelector('.map a') !== null");
    // Alarms may stand before it.
    let station = "document.activeElement.dataset.station ?? null";
    let mut tabs = 0;
    while browser.evaluate(station).is_null() {
        tabs += 1;
        assert!(tabs < 20, "no station within reach: {}", browser.text(":focus"));
        browser.press("Tab");
    }
    let focused = browser.evaluate(station);
    browser.press("ArrowRight");
    let next = browser.evaluate("document.activeElement.dataset.station");
    assert!(next.is_string() && next != focused, "{focused} → {next}");
    browser.press("Enter");
    let hash = format!("#/stations/{}", next.as_str().unwrap());
    browser.wait(
        "the station",
        &format!(
            "location.hash === {} && document.querySelector('.page[data-shown]') !== null",
            json!(hash)
        ),
    );
    // Whoever cannot see that the page has changed is told: focus is on its heading.
    browser.wait("focus on the heading", "document.activeElement.tagName === 'H1'");
    assert_content(&mut browser);
}
