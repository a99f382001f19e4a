//! What is run by hand: the page's cost at full load, and the documentation's pictures.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::browser::Browser;
use super::support::{Service, wait_for};
use super::{Fleet, list, url, write_stations};

/// How much of a core the page takes at the city's full load. The figure goes into README.md.
#[test]
#[ignore = "a measurement: it wants a machine of its own"]
fn five_hundred_stations_at_ten_thousand_readings_a_second_leave_the_browser_idle() {
    let dir = tempfile::tempdir().unwrap();
    write_stations(dir.path(), 500);
    let service = Service::start(dir.path());
    let fleet = Fleet::start(&service, 500, 10_000);
    let mut browser = Browser::start();
    browser.open(json!({}));
    browser.visit(&url(&service, "#/"));
    browser.wait_text("[data-tile=online] .figure", "500 of 500");
    wait_for("the full load", || {
        let rate = browser.text("[data-tile=received] .figure").replace(',', "");
        (rate.split_whitespace().next()?.parse::<f64>().ok()? > 9_000.0).then_some(())
    });
    let busy = browser.busy();
    std::thread::sleep(Duration::from_secs(30));
    let share = (browser.busy() - busy) / 30.0;
    println!("the browser used {:.1} % of a core", share * 100.0);
    assert!(share < 0.1, "{share}");
    drop(fleet);
}

#[test]
#[ignore = "it writes docs/screenshots: run it when the console looks different"]
fn pictures_for_the_documentation() {
    let dir = tempfile::tempdir().unwrap();
    write_stations(dir.path(), 500);
    let service = Service::start(dir.path());
    let fleet = Fleet::start(&service, 500, 2_000);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    let mut browser = Browser::start();
    let open = |browser: &mut Browser, options: Value, hash: &str| {
        browser.open(options);
        browser.visit(&url(&service, hash));
        browser.wait("the page to be live", "document.documentElement.dataset.live === 'live'");
    };
    open(&mut browser, json!({}), "#/");
    browser.wait_text("[data-tile=online] .figure", "500 of 500");
    // A minute for the tiles' history.
    std::thread::sleep(Duration::from_secs(60));
    browser.screenshot(&folder.join("city.webp"));
    let path = "/api/v1/devices?kind=elevator&limit=1";
    let device = list(&service.json(path), "devices").remove(0);
    let device = format!("#/devices/{}?span=hour", device["imei"].as_str().unwrap());
    let shots = [
        ("city-dark-zh", json!({ "dark": true, "language": "zh-CN" }), "#/"),
        ("station", json!({}), "#/stations/bs0001"),
        ("device", json!({}), device.as_str()),
        ("kinds", json!({}), "#/kinds"),
        ("pipeline", json!({}), "#/pipeline"),
        ("phone", json!({ "width": 390, "height": 844 }), "#/"),
    ];
    for (name, options, hash) in shots {
        open(&mut browser, options, hash);
        browser.evaluate("document.fonts.ready.then(() => true)");
        std::thread::sleep(Duration::from_secs(3));
        let path = folder.join(format!("{name}.webp"));
        browser.screenshot(&path);
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes < 150_000, "{name}: {bytes} bytes");
    }
    drop(fleet);
}
