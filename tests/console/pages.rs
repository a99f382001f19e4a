//! What pages show, and in which words.

use serde_json::{Value, json};

use super::support::Service;
use super::support::browser::Browser;
use super::{PAGES, STATIONS, assert_content, grouped, list, url, with_readings};

#[test]
fn every_page_shows_what_the_api_says() {
    let dir = tempfile::tempdir().unwrap();
    let service = with_readings(dir.path());
    let mut browser = Browser::start();
    browser.open(json!({}));

    // The city: every station has its place, and the books are the service's.
    browser.visit(&url(&service, "#/"));
    let places = format!("document.querySelectorAll('.map a').length === {STATIONS}");
    browser.wait("every station to have its place", &places);
    browser.wait(
        "stations that have said goodbye",
        "document.querySelector('.map a[data-station-state=offline]') !== null",
    );
    browser.wait_text("[data-tile=books] .figure", "0");
    let accepted = grouped(service.figure("accepted"));
    browser.wait_text("[data-tile=online] .figure", &format!("of {STATIONS}"));

    // A station, its figures and what it sent.
    let stations = list(&service.json("/api/v1/stations"), "stations");
    let station = stations.iter().find(|it| it["readings"].as_u64() > Some(0)).unwrap();
    let name = station["station"].as_str().unwrap();
    browser.go(&format!("#/stations/{name}"));
    browser.wait_text("h1", station["name"].as_str().unwrap());
    browser
        .wait_text("dd", &format!("{} accepted", grouped(station["readings"].as_u64().unwrap())));
    let shown = service.json(&format!("/api/v1/stations/{name}"));
    let lsn = shown["batches"][0]["lsn"].as_u64().unwrap();
    browser.click(&format!("details[data-lsn=\"{lsn}\"] summary"));
    browser.wait_text(
        &format!("details[data-lsn=\"{lsn}\"]"),
        shown["batches"][0]["topic"].as_str().unwrap(),
    );

    // Devices, and one of them.
    let devices = service.json(&format!("/api/v1/devices?station={name}"));
    browser.go(&format!("#/devices?station={name}"));
    browser.wait_text(
        "[role=status]",
        &format!("of {} devices", grouped(devices["total"].as_u64().unwrap())),
    );
    let device = &list(&devices, "devices")[0];
    let imei = device["imei"].as_str().unwrap();
    browser.click(&format!("a[href=\"#/devices/{imei}\"]"));
    browser.wait_text("h1", imei);
    let values = list(&service.json(&format!("/api/v1/devices/{imei}")), "values");
    let rows = format!("document.querySelectorAll('tr[data-field]').length === {}", values.len());
    browser.wait("every value of the device", &rows);
    for step in ["measured", "heard", "received", "durable", "stored"] {
        browser
            .wait("the journey", &format!("document.querySelector('[data-step={step}]') !== null"));
    }

    // Kinds, one of them, projects, one of them.
    browser.go("#/kinds");
    for kind in list(&service.json("/api/v1/kinds"), "kinds") {
        let (kind, count) = (kind["kind"].as_str().unwrap(), kind["devices"].as_u64().unwrap());
        browser.wait_text(&format!("[data-kind={kind}] dd"), &grouped(count));
    }
    browser.go("#/kinds/water");
    let water = service.json("/api/v1/kinds/water");
    let count = water["summary"]["devices"].as_u64().unwrap();
    browser.wait_text(".card p", &format!("{} devices", grouped(count)));
    let bars = format!(
        "document.querySelectorAll('.bars rect').length === {}",
        list(&water, "hours").len()
    );
    browser.wait("a bar for each hour", &bars);
    browser.go("#/projects");
    for project in list(&service.json("/api/v1/projects"), "projects") {
        browser.wait_text("td a", project["project"].as_str().unwrap());
    }
    browser.click("a[href=\"#/projects/water\"]");
    browser.wait_text("h1", "water");
    let own = list(&service.json("/api/v1/projects/water"), "stations").len();
    browser.wait(
        "the project's stations",
        &format!("document.querySelectorAll('tbody tr').length === {own}"),
    );

    // The pipeline: the books again, to the reading.
    browser.go("#/pipeline");
    browser.wait_text("tr", &format!("Accepted{accepted}"));
    browser.wait_text("[data-sink=embedded] .badge", "running");
    for stage in list(&service.json("/api/v1/pipeline"), "stages") {
        let stage = json!(stage["stage"]);
        browser.wait(
            "every stage",
            &format!("document.querySelector('[data-stage=' + CSS.escape({stage}) + ']') !== null"),
        );
    }
    assert_content(&mut browser);
}

#[test]
fn it_speaks_both_languages_and_keeps_what_was_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let service = with_readings(dir.path());
    let mut browser = Browser::start();
    // The browser's own language comes first.
    browser.open(json!({ "language": "zh-CN", "zone": "Asia/Shanghai" }));
    browser.visit(&url(&service, "#/"));
    browser.wait_text("nav a", "全城");
    assert_eq!(browser.evaluate("document.documentElement.lang"), "zh-CN");
    browser.wait_text("[data-tile=books]", "守恒");
    for page in PAGES {
        browser.go(page);
        // No key without words on it; sink.embedded is one of the configuration.
        let raw = "document.body.innerText.match(/\\b(tile|nav|sink|state|alarm|kind)\\.(?!embedded)[a-z_]+/)?.[0] ?? null";
        assert_eq!(browser.evaluate(raw), Value::Null, "{page}");
    }
    browser.go("#/kinds/water");
    browser.wait_text("h1", "水表");
    // What is chosen stays.
    browser.select("select[aria-label=\"语言\"]", "en");
    browser.wait_text("nav a", "City");
    browser.visit(&url(&service, "#/projects"));
    browser.tell(json!({ "script": "location.reload()" }), "evaluate");
    browser.wait_text("h1", "Projects");
    assert_eq!(browser.evaluate("document.documentElement.lang"), "en-GB");

    // The city's clock, whatever the viewer's is.
    browser.open(json!({ "zone": "America/New_York" }));
    browser.visit(&url(&service, "#/"));
    browser.select("select[aria-label=\"Clock\"]", "city");
    browser.wait(
        "the city's clock",
        "(() => { const shown = document.querySelector('.live-text').textContent.match(/\\d+/)?.[0]; \
         return shown !== undefined && Number(shown) === new Date(Date.now() + 8 * 3600e3).getUTCHours(); })()",
    );
    assert_content(&mut browser);
}

#[test]
fn what_a_sender_says_is_text_and_never_html() {
    let dir = tempfile::tempdir().unwrap();
    let name = "<img src=x onerror=alert(1)>";
    std::fs::write(
        dir.path().join("stations.csv"),
        format!(
            "station,region,project,name,lat,lon,area\nbs0001,zy,water,{name},27.7,106.9,{name}\n"
        ),
    )
    .unwrap();
    let service = Service::start(dir.path());
    let mut browser = Browser::start();
    browser.open(json!({}));
    browser.visit(&url(&service, "#/stations/bs0001"));
    browser.wait_text("h1", name);
    browser.go("#/");
    browser.wait_text(".map text", name);
    browser.go("#/projects/water");
    browser.wait_text("td", name);
    assert_eq!(browser.evaluate("document.querySelectorAll('img:not([src*=icon])').length"), 0);
    assert_content(&mut browser);
}
