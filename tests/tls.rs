//! TLS as a user comes by it: `certs dev`, a configuration with its files, real clients.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use support::{Service, loushan, run, wait_for};

#[test]
fn certificates_of_a_minute_let_a_station_in_by_real_clients() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("certs");
    let make = || run(loushan().args(["certs", "dev", "--station", "bs0007", "--dir"]).arg(&dir));
    let (ok, text) = make();
    assert!(ok && text.contains("[mqtt.tls]") && text.contains("mosquitto_pub"), "{text}");
    for key in ["ca.key", "server.key", "bs0007.key"] {
        let mode = dir.join(key).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let before = std::fs::read(dir.join("ca.crt")).unwrap();
    let (ok, text) = make();
    assert!(!ok && text.contains("ca.crt is there already"), "{text}");
    assert_eq!(std::fs::read(dir.join("ca.crt")).unwrap(), before);

    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (certificate, key, ca) = (file("server.crt"), file("server.key"), file("ca.crt"));
    // A port that was free a moment ago.
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (tls, wss) = (free().to_string(), free().to_string());
    let service = Service::start_with(
        data.path(),
        "127.0.0.1:0",
        "127.0.0.1:0",
        &[
            ("LOUSHAN__MQTT__TLS_LISTEN", &tls),
            ("LOUSHAN__MQTT__WSS_LISTEN", &wss),
            ("LOUSHAN__MQTT__TLS__CERTIFICATE", &certificate),
            ("LOUSHAN__MQTT__TLS__KEY", &key),
            ("LOUSHAN__MQTT__TLS__CLIENT_CA", &ca),
            ("LOUSHAN__MQTT__TLS__CLIENT_CERTIFICATES", "required"),
        ],
    );
    let port = tls.rsplit_once(':').unwrap().1;
    for (version, certificate, fits) in
        [("5", true, true), ("mqttv311", true, true), ("5", false, false)]
    {
        let mut publish = Command::new("mosquitto_pub");
        publish.args(["-h", "localhost", "-p", port, "--cafile", &ca, "-V", version, "-q", "1"]);
        publish.args(["-i", "bs0007", "-t", "nb1/zunyi/bs0007/state"]);
        // StationState: online, of the first schema.
        publish.args(["-m", "\u{10}\u{1}\u{20}\u{1}"]);
        if certificate {
            publish.args(["--cert", &file("bs0007.crt"), "--key", &file("bs0007.key")]);
        }
        let (ok, text) = run(&mut publish);
        assert_eq!(ok, fits, "{version}: {text}");
    }
    // A certificate is good for one station, whatever its bearer calls itself.
    for (id, topic, refused) in [
        ("bs0007", "nb1/zunyi/bs0008/state", "Not authorized"),
        ("bs0008", "nb1/zunyi/bs0008/state", "ot authori"),
    ] {
        let mut publish = Command::new("mosquitto_pub");
        publish.args(["-h", "localhost", "-p", port, "--cafile", &ca, "-V", "5", "-q", "1", "-d"]);
        publish.args(["-i", id, "-t", topic, "-m", "x"]);
        publish.args(["--cert", &file("bs0007.crt"), "--key", &file("bs0007.key")]);
        let (_, text) = run(&mut publish);
        assert!(text.contains(refused), "{id} {topic}: {text}");
    }
    assert_eq!(service.metric("loushan_publishes_denied_total") as u64, 1);
    let metrics = service.get("/metrics").unwrap();
    assert!(metrics.contains("loushan_connects_total{result=\"accepted\"} 3"), "{metrics}");
    assert!(metrics.contains("loushan_connects_total{result=\"handshake_failed\"} 1"), "{metrics}");

    // Another authority, its certificates in place of the old ones: they hold without a restart.
    let old = data.path().join("old");
    std::fs::rename(&dir, &old).unwrap();
    let (ok, text) = make();
    assert!(ok, "{text}");
    let publish = |authority: &std::path::Path, own: &std::path::Path| {
        let mut publish = Command::new("mosquitto_pub");
        publish.args(["-h", "localhost", "-p", port, "-V", "5", "-q", "1", "-i", "bs0007"]);
        publish.args(["-t", "nb1/zunyi/bs0007/state", "-m", "\u{10}\u{1}\u{20}\u{1}"]);
        publish.arg("--cafile").arg(authority.join("ca.crt"));
        publish.arg("--cert").arg(own.join("bs0007.crt"));
        publish.arg("--key").arg(own.join("bs0007.key"));
        run(&mut publish).0
    };
    wait_for("the new certificates", || publish(&dir, &dir).then_some(()));
    assert!(!publish(&dir, &old), "the old authority is nobody's any more");
    assert!(service.terminate().success());
}

#[test]
fn http_with_certificates_is_https() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("certs");
    assert!(run(loushan().args(["certs", "dev", "--dir"]).arg(&dir)).0);
    let mut service = loushan()
        .arg("serve")
        .env("LOUSHAN__DATA__DIR", data.path())
        .env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0")
        .env("LOUSHAN__HTTP__LISTEN", "127.0.0.1:0")
        .env("LOUSHAN__HTTP__TLS__CERTIFICATE", dir.join("server.crt"))
        .env("LOUSHAN__HTTP__TLS__KEY", dir.join("server.key"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| Some(line.unwrap().split_once("https://")?.1.to_owned()));
    let get = "import ssl, sys, urllib.request as r\n\
               context = ssl.create_default_context(cafile=sys.argv[1])\n\
               print(r.urlopen(sys.argv[2], context=context, timeout=30).read())";
    let url = format!("https://{}/healthz", address.unwrap());
    let (ok, text) =
        run(Command::new("python3").args(["-c", get]).arg(dir.join("ca.crt")).arg(url));
    service.kill().unwrap();
    service.wait().unwrap();
    assert!(ok && text.contains("ok"), "{text}");
}

#[test]
fn a_certificate_that_is_not_there_is_named_with_its_key() {
    let data = tempfile::tempdir().unwrap();
    let (ok, text) = run(loushan()
        .arg("serve")
        .env("LOUSHAN__DATA__DIR", data.path())
        .env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0")
        .env("LOUSHAN__MQTT__TLS_LISTEN", "127.0.0.1:0")
        .env("LOUSHAN__MQTT__TLS__CERTIFICATE", "nowhere.crt")
        .env("LOUSHAN__MQTT__TLS__KEY", "nowhere.key"));
    assert!(!ok && text.contains("mqtt.tls.certificate: nowhere.crt"), "{text}");
    assert!(text.contains("certs dev"), "{text}");
}
