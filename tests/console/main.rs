//! The console in a real browser, against the real binary: every page shows what the API says, what is
//! live moves, and what is not live is said to be so.
//!
//! The pictures of the documentation are made by
//! `tests/run --test console -- --ignored pictures`.

#![allow(missing_docs, clippy::unwrap_used)]

mod access;
mod live;
mod measured;
mod pages;
#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use support::browser::Browser;
use support::{Service, loushan, run};

/// Stations of the tests' fleets.
const STATIONS: usize = 20;
/// Every page of the console but those of one station, device, kind or project.
const PAGES: [&str; 6] = ["#/", "#/devices", "#/kinds", "#/projects", "#/alarms", "#/pipeline"];

/// What stands where: stations in a grid over Zunyi.
fn write_stations(dir: &Path, count: usize) {
    let mut csv = "station,region,project,name,lat,lon,area\n".to_owned();
    for n in 1..=count {
        let (row, column) = ((n / 25) as f64, (n % 25) as f64);
        let (lat, lon) = (27.58 + 0.011 * row, 106.78 + 0.0095 * column);
        let project = ["water", "lights", "smoke"][n % 3];
        let area = ["Huichuan", "Honghuagang", "Xinpu", "Bozhou"][n % 4];
        writeln!(csv, "bs{n:04},zy,{project},{area} {n},{lat:.4},{lon:.4},{area}").unwrap();
    }
    std::fs::write(dir.join("stations.csv"), csv).unwrap();
}

/// A fleet that publishes until it is dropped.
struct Fleet(Child);

impl Fleet {
    fn start(service: &Service, stations: usize, rate: u32) -> Self {
        let child = loushan()
            .current_dir(&service.data)
            .args(["simulate", "--target", &format!("mqtt://{}", service.mqtt), "--seed", "3"])
            .args(["--stations", &stations.to_string(), "--rate", &rate.to_string()])
            .args(["--for", "1h"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A service that has taken in what a fleet said in some seconds, and knows where it stands.
fn with_readings(dir: &Path) -> Service {
    write_stations(dir, STATIONS);
    let service = Service::start(dir);
    let (done, output) = run(loushan()
        .current_dir(dir)
        .args(["simulate", "--target", &format!("mqtt://{}", service.mqtt), "--seed", "3"])
        .args(["--stations", &STATIONS.to_string(), "--rate", "500", "--for", "6s"]));
    assert!(done, "{output}");
    service.wait_until_quiet();
    service
}

fn url(service: &Service, hash: &str) -> String {
    format!("http://127.0.0.1:{}/{hash}", service.http.port())
}

/// The browser has nothing to complain of.
fn assert_content(browser: &mut Browser) {
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

fn list(answer: &Value, name: &str) -> Vec<Value> {
    answer[name].as_array().unwrap_or_else(|| panic!("no {name} in {answer}")).clone()
}

/// A number as the console writes it in English.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn its_parts_do_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let mut browser = Browser::start();
    browser.open(json!({}));
    browser.visit(&url(&service, "#/"));
    let failed = browser.evaluate(include_str!("../node/console_parts.js"));
    assert_eq!(failed, json!([]));
}
