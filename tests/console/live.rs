//! What comes while somebody looks.

use std::time::Duration;

use loushan_schemas::pb;
use prost::Message as _;
use serde_json::json;

use super::support::browser::Browser;
use super::support::mqtt::Publisher;
use super::support::{Service, wire};
use super::{Fleet, STATIONS, assert_content, grouped, url, write_stations};

#[test]
fn what_is_live_moves_and_a_killed_service_is_said_to_be_gone_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    write_stations(dir.path(), STATIONS);
    let service = Service::start(dir.path());
    let (mqtt, http) = (service.mqtt.to_string(), service.http.to_string());
    let fleet = Fleet::start(&service, STATIONS, 200);
    let mut browser = Browser::start();
    browser.open(json!({}));
    browser.visit(&url(&service, "#/"));
    browser.wait("the page to be live", "document.documentElement.dataset.live === 'live'");
    // Three different figures: it moves, and goes on moving.
    browser.evaluate("globalThis.seen = new Set()");
    browser.wait(
        "figures that move",
        "seen.add(document.querySelector('[data-tile=received] .figure').textContent), seen.size >= 3",
    );
    browser.wait_text("[data-tile=online] .figure", &format!("{STATIONS} of {STATIONS}"));
    assert_content(&mut browser);

    // It dies: that is said, in words, and what is shown is no longer shown as if it were fresh.
    service.kill();
    drop(fleet);
    browser.wait("the page to say so", "document.documentElement.dataset.live === 'lost'");
    browser.wait_text(".live-text", "Not live");
    browser.wait_text("[role=status]", "Not live");
    browser
        .wait("dulled figures", "getComputedStyle(document.querySelector('.fresh')).opacity < 1");

    // It is back: so is the page, by itself.
    let service = Service::start_with(dir.path(), &mqtt, &http, &[]);
    browser.wait("the page to be live again", "document.documentElement.dataset.live === 'live'");
    browser.wait_text("[data-tile=online] .figure", &format!("of {STATIONS}"));
    let accepted = service.figure("accepted");
    browser.go("#/pipeline");
    browser.wait_text("tr", &format!("Accepted{}", grouped(accepted)));
    // That a host did not answer is all there was to complain of.
    let others: Vec<String> = browser.complaints();
    let others: Vec<&String> = others.iter().filter(|it| !it.contains("net::ERR_")).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// A parking sensor's reading, measured so many minutes ago.
fn radar(seq: u32, minutes_ago: i64, radar_cm: u32) -> pb::Reading {
    let body = pb::Parking {
        state: pb::parking::State::Occupied.into(),
        radar_cm: Some(radar_cm),
        temp_dc: Some(219),
        ..Default::default()
    };
    pb::Reading {
        measured_delta_ms: -60_000 * minutes_ago,
        body: Some(pb::reading::Body::Parking(body)),
        ..wire::parking(7, seq)
    }
}

#[test]
fn charts_show_the_values_that_were_published_and_the_one_that_comes() {
    let dir = tempfile::tempdir().unwrap();
    write_stations(dir.path(), 1);
    let service = Service::start(dir.path());
    let mut station = Publisher::connect(service.mqtt, "bs0001");
    // Every five minutes for 40 minutes, with a hole of 20 minutes in it; one is beyond what is plausible.
    let past = [(58, 30), (53, 31), (48, 32), (43, 33), (23, 700), (18, 35), (13, 36), (8, 37)];
    let readings = past.iter().zip(1..).map(|((ago, cm), seq)| radar(seq, *ago, *cm)).collect();
    let batch = wire::batch("bs0001", 1, 0, readings);
    assert_eq!(station.publish("nb1/zy/bs0001/u/t", batch.encode_to_vec()).reason(), "Success");
    service.wait_until_quiet();

    let imei = wire::imei(7);
    let mut browser = Browser::start();
    browser.open(json!({}));
    browser.visit(&url(&service, &format!("#/devices/{imei}?span=hour&fields=radar_cm")));
    browser.wait_text("[role=status]", "8 readings");
    // As a table: each value, the newest first, and the doubtful one marked.
    browser.click("[data-field=radar_cm] .chart details summary");
    let cells = "[...document.querySelectorAll('[data-field=radar_cm] .chart td:last-child')].map((it) => it.textContent)";
    browser.wait("the table", &format!("{cells}.length === 8"));
    let told: Vec<String> = serde_json::from_value(browser.evaluate(cells)).unwrap();
    let expected: Vec<String> = past.iter().rev().map(|(_, cm)| format!("{cm} cm")).collect();
    for (told, expected) in told.iter().zip(&expected) {
        assert!(told.starts_with(expected), "{told} is not {expected}");
    }
    assert!(told[3].starts_with("700 cm · "), "the doubtful value is not marked: {}", told[3]);
    // As a drawing: two pieces with a gap between them, and a ring.
    let drawn = "['path.line', 'rect.gap', 'circle.doubt'].map((it) => document.querySelectorAll(`[data-field=radar_cm] svg ${it}`).length)";
    assert_eq!(browser.evaluate(drawn), json!([2, 1, 1]));
    // Under the keys: the newest value, then the one before.
    browser.evaluate("document.querySelector('[data-field=radar_cm] svg').focus()");
    browser.press("ArrowLeft");
    browser.wait_text("[data-field=radar_cm] .value", "37 cm");
    browser.press("ArrowLeft");
    browser.wait_text("[data-field=radar_cm] .value", "36 cm");
    // Zoomed into by the mouse: the later half.
    browser.drag("[data-field=radar_cm] svg", 0.55, 0.98);
    browser.wait_text("[role=status]", "4 readings");

    // A reading that comes is there without being asked for.
    browser.visit(&url(&service, &format!("#/devices/{imei}?span=hour&fields=radar_cm")));
    browser.wait("the page to be live", "document.documentElement.dataset.live === 'live'");
    let batch = wire::batch("bs0001", 1, 1, vec![radar(9, 0, 99)]);
    assert_eq!(station.publish("nb1/zy/bs0001/u/t", batch.encode_to_vec()).reason(), "Success");
    browser.wait_text("tr[data-field=radar_cm] td", "99 cm");
    browser.evaluate("document.querySelector('[data-field=radar_cm] svg').focus()");
    browser.press("End");
    browser.wait_text("[data-field=radar_cm] .value", "99 cm");
    assert_content(&mut browser);
}

#[test]
fn a_smoke_alarm_appears_within_two_seconds() {
    let dir = tempfile::tempdir().unwrap();
    write_stations(dir.path(), 1);
    let service = Service::start(dir.path());
    let mut station = Publisher::connect(service.mqtt, "bs0001");
    let mut browser = Browser::start();
    browser.open(json!({}));
    browser.visit(&url(&service, "#/alarms"));
    browser.wait("the page to be live", "document.documentElement.dataset.live === 'live'");
    let smoke = pb::Smoke { state: pb::smoke::State::Alarm.into(), ..Default::default() };
    let reading = pb::Reading {
        measured_delta_ms: -500,
        trigger: pb::Trigger::Alarm.into(),
        body: Some(pb::reading::Body::Smoke(smoke)),
        ..wire::parking(11, 1)
    };
    // When the page has it, by the page's own clock, which is this machine's.
    browser.evaluate(
        "globalThis.appeared = null, new MutationObserver(() => { \
         if (document.querySelector('.alerts a')?.textContent.includes('Smoke')) globalThis.appeared ??= Date.now(); \
         }).observe(document.body, { childList: true, subtree: true })",
    );
    let published = wire::now_ms();
    let batch = wire::batch("bs0001", 1, 0, vec![reading]);
    assert_eq!(station.publish("nb1/zy/bs0001/u/a", batch.encode_to_vec()).reason(), "Success");
    let appeared = browser.wait("the alarm over the page", "globalThis.appeared").as_u64().unwrap();
    let took = Duration::from_millis(appeared.saturating_sub(published));
    println!("from publishing to the page: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    browser.wait_text("td", "Smoke");
    browser.wait_text(".count", "1");

    // Somebody knows of it.
    let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap().trim().to_owned();
    browser.click("tbody button");
    browser.type_into("dialog input", "on the way");
    browser.click("dialog .primary");
    browser.wait("the form", "document.querySelector('dialog.signin') !== null");
    browser.type_into("dialog.signin [name=token]", &token);
    browser.click("dialog.signin .primary");
    browser.click("button[aria-pressed=false]");
    browser.wait_text("td", "on the way");
}
