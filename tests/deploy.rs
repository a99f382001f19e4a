//! What is in `deploy/` does what it says: checked by the tools it is for, and run, where that can be
//! done without containers.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use loushan_ingest::metrics::all;
use serde_json::Value;
use support::{get, loushan, run, wait_for};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &str) -> String {
    let path = deploy().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn promtool(words: &[&str], file: &Path) {
    let mut promtool = Command::new("promtool");
    let (ok, said) = run(promtool.args(words).arg(file));
    assert!(ok, "promtool {words:?} {}: {said}", file.display());
}

/// The words of a text that are metrics' names, or look like ours.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with("loushan_") || word.starts_with("process_"))
        .collect()
}

fn is_listed(name: &str) -> bool {
    let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    all().any(|metric| metric.name == name || Some(metric.name) == bare)
}

#[test]
fn alert_rules_are_good_speak_of_metrics_that_there_are_and_each_has_a_test() {
    let rules = read("prometheus/alerts.yml");
    promtool(&["check", "rules"], &deploy().join("prometheus/alerts.yml"));
    promtool(&["test", "rules"], &deploy().join("prometheus/alerts_test.yml"));
    for line in rules.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for name in metrics_in(line) {
            assert!(is_listed(name), "{name} in: {line}");
        }
    }
    let tests = read("prometheus/alerts_test.yml");
    let root = deploy().join("..");
    let mut alerts = 0;
    for line in rules.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("- alert: ") {
            alerts += 1;
            // Once among those that are quiet while all is well, once firing.
            assert!(tests.contains(&format!("alertname: {alert}, exp_alerts: []")), "{alert}");
            assert!(tests.contains(&format!("  - name: {alert}\n")), "{alert} fires in no test");
        }
        if let Some(runbook) = line.strip_prefix("runbook: ") {
            let (file, heading) = runbook.split_once('#').unwrap_or((runbook, ""));
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let mut headings = text.lines().filter(|line| line.starts_with('#')).map(|line| {
                let words = line.trim_start_matches('#').trim().to_lowercase();
                words.replace(' ', "-").replace(['`', ',', '.', '(', ')'], "")
            });
            let found = heading.is_empty() || headings.any(|known| known == heading);
            assert!(found, "there is no {runbook}");
        }
    }
    assert!(alerts > 20, "{alerts} alerts");
}

#[test]
fn every_alert_that_the_list_of_metrics_proposes_is_an_expression() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = String::from("groups:\n  - name: list\n    rules:\n");
    for (number, metric) in all().enumerate() {
        if let Some(alert) = metric.alert {
            let quoted = alert.replace('\'', "''");
            rules.push_str(&format!("      - {{alert: A{number}, expr: '{quoted}'}}\n"));
        }
    }
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, rules).unwrap();
    promtool(&["check", "rules"], &file);
}

/// The dashboards, by name.
fn dashboards() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(deploy().join("grafana/dashboards")).unwrap();
    let mut all: Vec<(String, Value)> = files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (name.clone(), serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}")))
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Each query of a dashboard with its panel's title.
fn queries<'a>(dashboard: &'a Value, key: &str) -> Vec<(&'a str, &'a str)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (title, target))
    });
    targets.filter_map(|(title, target)| Some((title, target[key].as_str()?))).collect()
}

#[test]
fn dashboards_ask_for_metrics_measurements_and_fields_that_there_are() {
    let fields = std::fs::read_to_string(deploy().join("../docs/influx.md")).unwrap();
    let table = fields.split("<!-- fields -->").nth(1).unwrap();
    let there = |measurement: &str, field: &str| {
        table.lines().any(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let of = cells.get(1).copied().unwrap_or_default();
            let device = measurement != "station_status" && measurement != "water_interval";
            let fits = of == "every kind"
                || (of == "every device" && device)
                || of.contains(&format!("`{measurement}`"));
            fits && cells.get(2) == Some(&format!("`{field}`").as_str())
        })
    };
    assert!(there("water", "total_l") && !there("water", "floor"));
    let all = dashboards();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fleet-influxdb.json", "fleet.json", "operations.json", "pipeline.json"]);
    for (name, dashboard) in &all {
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: two panels with one id");
        let flux = queries(dashboard, "query");
        let promql = queries(dashboard, "expr");
        assert_eq!(flux.is_empty(), name != "fleet-influxdb.json", "{name}");
        for (title, query) in promql {
            let found = metrics_in(query);
            assert!(!found.is_empty() || query.contains("ALERTS"), "{name}: {title}: {query}");
            for metric in found {
                assert!(is_listed(metric), "{name}: {title}: {metric}");
            }
        }
        for (title, query) in flux {
            let quoted = |behind: &str| -> Vec<String> {
                let parts = query.split(behind).skip(1);
                parts.map(|part| part.split('"').next().unwrap().to_owned()).collect()
            };
            let measurements = quoted("r._measurement == \"");
            let asked = quoted("r._field == \"");
            assert!(measurements.len() == 1 && !asked.is_empty(), "{name}: {title}: {query}");
            for field in asked {
                assert!(there(&measurements[0], &field), "{name}: {title}: {query}");
            }
        }
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_closes_what_is_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    // The binary is not installed here.
    let unit = read("systemd/loushan.service");
    let unit = unit.replace("/usr/local/bin/loushan", env!("CARGO_BIN_EXE_loushan"));
    let file = folder.path().join("loushan.service");
    std::fs::write(&file, unit).unwrap();
    let mut verify = Command::new("systemd-analyze");
    let (ok, said) = run(verify.args(["verify", "--man=no"]).arg(&file));
    assert!(ok && said.trim().is_empty(), "{said}");
    let mut security = Command::new("systemd-analyze");
    // In tenths: "OK" begins at 5, a unit without any of it has 9.6.
    security.args(["security", "--no-pager", "--offline=true", "--threshold=20"]);
    let (ok, said) = run(security.arg(&file));
    assert!(ok, "{said}");
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way nothing is left running.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A service on the configuration of the containers: the ports are free ones, and the folders the test's.
fn service(folder: &Path, secrets: &Path) -> (Process, SocketAddr) {
    let configuration = read("docker/loushan.toml")
        .replace("/secrets/", &format!("{}/", secrets.display()))
        .replace("0.0.0.0:8883", "0.0.0.0:0")
        .replace("0.0.0.0:8080", "0.0.0.0:0")
        // Nobody is there; the sink is amber, and nobody else waits.
        .replace("http://influxdb:8086", "http://127.0.0.1:9")
        .replace("/var/lib/loushan", &folder.join("data").display().to_string());
    let file = folder.join("loushan.toml");
    std::fs::write(&file, configuration).unwrap();
    let (ok, said) = run(loushan().arg("check-config").arg(&file));
    assert!(ok, "{said}");
    let stderr = std::fs::File::create(folder.join("stderr.txt")).unwrap();
    let mut serve = loushan();
    serve.arg("serve").arg("--config").arg(&file);
    let mut child = serve.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let process = Process(child);
    let mut lines = stdout.lines();
    let address = lines.by_ref().find_map(|line| {
        let line = line.unwrap();
        line.split_once("https://").map(|(_, address)| address.trim().to_owned())
    });
    // Whatever it says later must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let address = address.unwrap_or_else(|| {
        panic!("{}", std::fs::read_to_string(folder.join("stderr.txt")).unwrap())
    });
    (
        process,
        SocketAddr::new(
            [127, 0, 0, 1].into(),
            address.rsplit(':').next().unwrap().parse().unwrap(),
        ),
    )
}

/// A Prometheus on the configuration of `deploy/`, that asks every second.
fn prometheus(folder: &Path, secrets: &Path, target: SocketAddr) -> (Process, SocketAddr) {
    let configuration = read("prometheus/prometheus.yml")
        .replace("/secrets/", &format!("{}/", secrets.display()))
        .replace("loushan:8080", &target.to_string())
        .replace("15s", "1s");
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, configuration).unwrap();
    std::fs::write(folder.join("alerts.yml"), read("prometheus/alerts.yml")).unwrap();
    promtool(&["check", "config"], &file);
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("prometheus.txt")).unwrap())
        .spawn()
        .expect("prometheus is missing: run the tests by tests/run, which installs it");
    let process = Process(child);
    wait_for("prometheus", || get(address, "/-/ready").ok());
    (process, address)
}

/// What Prometheus answers to an expression.
fn asked(prometheus: SocketAddr, expression: &str) -> Value {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = format!("http://{prometheus}/api/v1/query");
    let answer = agent.get(url).query("query", expression).call().unwrap();
    serde_json::from_reader(answer.into_body().into_reader()).unwrap()
}

#[test]
fn what_the_containers_run_runs_prometheus_scrapes_it_and_answers_every_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    let setup = || {
        let mut setup = Command::new("sh");
        setup.arg(deploy().join("docker/setup.sh")).arg(&secrets);
        run(setup.env("LOUSHAN", env!("CARGO_BIN_EXE_loushan")))
    };
    let (ok, said) = setup();
    assert!(ok, "{said}");
    let (ok, said) = setup();
    assert!(ok && said.contains("everything is there already"), "{said}");

    let (_service, target) = service(folder.path(), &secrets);
    let (_prometheus, prometheus) = prometheus(folder.path(), &secrets, target);
    wait_for("the target to be up", || {
        let answer =
            asked(prometheus, "up{job=\"loushan\"} == 1 and on (instance) loushan_ready == 1");
        (answer["data"]["result"].as_array()?.len() == 1).then_some(())
    });
    wait_for("every rule to have been evaluated", || {
        let rules: Value = serde_json::from_str(&get(prometheus, "/api/v1/rules").ok()?).unwrap();
        let groups = rules["data"]["groups"].as_array()?;
        let mut rules =
            groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
        rules.all(|rule| rule["health"] == "ok").then_some(())
    });
    wait_for("a recorded rate", || {
        let answer = asked(prometheus, "loushan:readings:rate1m");
        (answer["data"]["result"].as_array()?.len() == 1).then_some(())
    });
    for (name, dashboard) in dashboards() {
        for (title, query) in queries(&dashboard, "expr") {
            let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
            let answer = asked(prometheus, &query);
            assert_eq!(answer["status"], "success", "{name}: {title}: {query}: {answer}");
        }
    }
    // Nothing of what the containers' configuration says is to be warned of.
    let answer = asked(prometheus, "loushan_component_condition > 0");
    assert_eq!(answer["data"]["result"], serde_json::json!([]), "{answer}");
}

#[test]
fn the_compose_file_is_one_and_names_files_that_there_are() {
    let file = deploy().join("docker/compose.yml");
    let (ok, said) =
        run(Command::new("docker-compose").arg("-f").arg(&file).args(["config", "-q"]));
    assert!(ok, "{said}");
    for line in read("docker/compose.yml").lines() {
        if let Some(mount) = line.trim().strip_prefix("- ../") {
            let path = mount.split(':').next().unwrap();
            assert!(deploy().join(path).exists(), "{line}");
        }
    }
    for copied in ["deploy/docker/loushan.toml", "deploy/docker/setup.sh"] {
        assert!(read("docker/Dockerfile").contains(copied), "{copied}");
        assert!(deploy().join("..").join(copied).exists(), "{copied}");
    }
    let ignored = std::fs::read_to_string(deploy().join("../.dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "/target"), "the image's context has no /target");
}
