//! schemathesis asks a running service everything that its OpenAPI document describes, well and badly,
//! and holds the answers against it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

use prost::Message as _;

mod support;

use support::mqtt::Publisher;
use support::wire::{batch, parking};
use support::{Service, python, run};

/// What its answers are held against. Not `positive_data_acceptance`: that an IMEI's last digit is
/// Luhn's, what a length of time is, or which fields a kind has, no schema can say.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,\
                      negative_data_rejection,unsupported_method,ignored_auth";

#[test]
fn the_service_answers_as_its_document_says_whatever_it_is_asked() {
    let data = tempfile::tempdir().unwrap();
    let stations =
        "station,region,project,name,lat,lon,area\nbs0001,xinpu,parking,A,27.7,106.9,X\n";
    std::fs::write(data.path().join("stations.csv"), stations).unwrap();
    let service = Service::start(data.path());
    let mut station = Publisher::connect(service.mqtt, "bs0001");
    let readings = (1..=20).map(|n| parking(n, 1)).collect();
    let payload = batch("bs0001", 1, 0, readings).encode_to_vec();
    assert_eq!(station.publish("nb1/xinpu/bs0001/u/t", payload).reason(), "Success");
    service.wait_until_quiet();

    let token = std::fs::read_to_string(data.path().join("admin.token")).unwrap();
    let schemathesis = python().with_file_name("schemathesis");
    assert!(schemathesis.exists(), "schemathesis is missing beside {}", python().display());
    let mut command = Command::new(schemathesis);
    command
        .arg("run")
        .arg(format!("http://{}/api/v1/openapi.json", service.http))
        .args(["--header", &format!("Authorization: Bearer {}", token.trim())])
        .args(["--checks", CHECKS, "--mode", "all", "--max-examples", "3"])
        // The same questions each time, and none that depends on how fast the machine is.
        .args(["--generation-deterministic"])
        .args(["--suppress-health-check", "all", "--phases", "examples,fuzzing"])
        .args(["--workers", "1", "--request-timeout", "60", "--no-color", "--warnings", "off"])
        // A stream has no end; a sink that was paused or removed would change what others are answered.
        .args(["--exclude-path", "/api/v1/live"])
        .current_dir(data.path());
    let (passed, said) = run(&mut command);
    assert!(passed, "{said}");
    // Of all that was asked nothing broke.
    assert_eq!(service.figure("residue"), 0);
    service.terminate();
}
