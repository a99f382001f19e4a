//! What is stored, asked of the real binary: over HTTP, on the command line, while the service runs and
//! after it has stopped; and the answers opened by other programs.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use support::{Service, get, loushan, python, run, wait_for};

/// A service that has taken in a fleet's readings.
fn with_a_fleet(dir: &Path, env: &[(&str, &str)]) -> Service {
    let service = Service::start_with(dir, "127.0.0.1:0", "127.0.0.1:0", env);
    let (done, output) = run(loushan()
        .current_dir(dir)
        .args(["simulate", "--target", &format!("mqtt://{}", service.mqtt)])
        .args(["--stations", "20", "--seed", "3", "--rate", "1000", "--for", "8s"]));
    assert!(done, "{output}");
    service.wait_until_quiet();
    service
}

/// What a command says on standard output; it must succeed.
fn said(command: &mut Command) -> String {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_running_service_a_stopped_ones_files_and_other_programs_tell_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let service = with_a_fleet(dir.path(), &[("LOUSHAN__SINK__EMBEDDED__FLUSH_AGE", "2s")]);
    let url = format!("http://{}", service.http);
    let rows = service.rows();
    let kinds = ["parking", "street_light", "smoke", "elevator", "water", "station_status"];
    let count = |kind: &str| {
        let path = format!("/api/v1/readings/count?kind={kind}");
        service.json(&path)["count"].as_u64().unwrap()
    };

    // Exports have every reading, whatever the format; duckdb and pyarrow read them.
    let mut exported = 0;
    for (kind, format) in
        kinds.iter().zip(["ndjson", "csv", "parquet", "arrow", "parquet", "ndjson"])
    {
        let out = dir.path().join(format!("{kind}.{format}"));
        let mut export = loushan();
        export
            .args(["export", "--kind", kind, "--format", format, "--url", &url, "--out"])
            .arg(&out);
        said(&mut export);
        let (done, counted) = run(Command::new(python())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/answer_rows.py"))
            .args([format])
            .arg(&out));
        assert!(done, "{counted}");
        assert_eq!(counted.trim().parse::<u64>().unwrap(), count(kind), "{kind}");
        exported += count(kind);
        let (again, refused) = run(&mut export);
        assert!(!again && refused.contains("is there already"), "{refused}");
    }
    assert_eq!(exported, rows);

    // The newest readings, as the registry has them.
    let latest = said(loushan().args(["query", "latest", "--format", "ndjson", "--url", &url]));
    let latest: Vec<serde_json::Value> =
        latest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(latest.len() > 100, "{} devices", latest.len());
    let device = latest[0]["imei"].as_str().unwrap().to_owned();
    let end = (latest[0]["effective_ms"].as_i64().unwrap() + 1).to_string();
    let path = format!("/api/v1/devices/{device}/latest");
    assert_eq!(service.json(&path)["reading"], latest[0]);

    let question = |whom: [&str; 2]| {
        let ask = |args: &[&str]| said(loushan().args(["query"]).args(args).args(whom));
        vec![
            ask(&["history", "--device", &device, "--format", "ndjson"]),
            ask(&["history", "--kind", "water", "--limit", "50", "--order", "newest"]),
            ask(&[
                "aggregate",
                "--field",
                "battery_pct",
                "--fn",
                "count,mean,min,max,p95,last",
                "--by",
                "kind",
                "--every",
                "1h",
                "--zone",
                "+08:00",
            ]),
            ask(&["aggregate", "--field", "total_l", "--fn", "increase", "--by", "station"]),
            ask(&["aggregate", "--field", "nrsrp_dbm", "--format", "table", "--by", "station"]),
            ask(&["seen", "--device", &device]),
            ask(&["seen", "--station", "bs0001"]),
            ask(&["gaps", "--device", &device, "--to", &end, "--longer-than", "1ms"]),
        ]
    };
    let running = question(["--url", &url]);
    assert!(running[4].lines().count() > 20, "{}", running[4]);
    let data = dir.path().to_str().unwrap();
    let (answered, refused) = run(loushan().args(["query", "latest", "--data", data]));
    assert!(!answered && refused.contains("--url"), "{refused}");

    // After an ordered end everything is in files, which say the same.
    assert!(service.terminate().success());
    assert_eq!(question(["--data", data]), running);
    let stopped = said(loushan().args(["query", "latest", "--format", "ndjson", "--data", data]));
    let stopped: Vec<serde_json::Value> =
        stopped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(stopped.len(), latest.len());
    for (stopped, latest) in stopped.iter().zip(&latest) {
        assert_eq!(stopped["imei"], latest["imei"]);
        assert_eq!(stopped["effective_ms"], latest["effective_ms"]);
    }
    let (done, told) =
        run(loushan().args(["query", "aggregate", "--field", "colour", "--data", data]));
    assert!(!done && told.contains("field \"colour\"") && told.contains("flow_l_h"), "{told}");
}

#[test]
fn heavy_questions_end_with_their_time_and_acknowledgements_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let service = with_a_fleet(dir.path(), &[("LOUSHAN__QUERY__TIMEOUT", "100ms")]);
    let http = service.http;
    // Bins of a millisecond over every pair of readings: more than can be done in the time.
    let heavy = "/api/v1/aggregate?field=total_l&fn=increase&every=1ms&by=device";
    let questions: Vec<_> = (0..8).map(|_| std::thread::spawn(move || get(http, heavy))).collect();
    let since = Instant::now();
    let (done, output) = run(loushan()
        .current_dir(dir.path())
        .args(["simulate", "--target", &format!("mqtt://{}", service.mqtt)])
        .args(["--stations", "5", "--seed", "4", "--rate", "500", "--for", "3s"]));
    assert!(done, "{output}");
    assert!(since.elapsed() < support::DEADLINE);
    let mut begun = 0.0;
    for question in questions {
        let (status, body) = question.join().unwrap().unwrap_err();
        match status {
            504 | 413 => {
                begun += 1.0;
                assert!(body.contains("query."), "{body}");
            }
            503 => assert!(body.contains("too many questions"), "{body}"),
            _ => panic!("{status}: {body}"),
        }
    }
    assert!(begun >= 4.0, "{begun}");
    // What was asked has ended, too, not only its answer.
    wait_for("the questions to end", || {
        let ended = service.metric("loushan_queries_unanswered_total");
        (ended >= begun).then_some(())
    });
    service.wait_until_quiet();
}
