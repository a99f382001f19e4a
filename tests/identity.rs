//! Identity as an administrator meets it: users added by the command line, files edited while the
//! service runs, the admin's token.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, Packet};
use rumqttc::v5::{
    Client, Connection, ConnectionError, Event, MqttOptions, RecvTimeoutError, StateError,
};
use support::{DEADLINE, Service, loushan, run, wait_for, wire};

/// `loushan user …` with the password on standard input.
fn user(users: &Path, args: &[&str], password: &str) -> (bool, String) {
    let mut child = loushan()
        .arg("user")
        .args(args)
        .arg("--users")
        .arg(users)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that needs none may have ended.
    drop(child.stdin.take().unwrap().write_all(password.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn add(users: &Path, name: &str, role: &[&str], password: &str) {
    let args = [&["add", name, "--password-stdin"], role].concat();
    let (ok, text) = user(users, &args, &format!("{password}\n"));
    assert!(ok, "{text}");
}

const STATION: &[&str] = &["--role", "station", "--region", "xinpu"];
const OPERATOR: &[&str] = &["--role", "operator"];

/// A folder with the users `bs0001`, `bs0002` and `ops`, whose passwords begin with `pw-`.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    add(&users, "bs0001", STATION, "pw-bs0001");
    add(&users, "bs0002", STATION, "pw-bs0002");
    add(&users, "ops", OPERATOR, "pw-ops");
    dir
}

fn start(dir: &Path, more: &[(&str, &str)]) -> Service {
    let users = dir.join("users");
    let mut env = vec![("LOUSHAN__AUTH__USERS_FILE", users.to_str().unwrap())];
    env.extend(more);
    Service::start_with(dir, "127.0.0.1:0", "127.0.0.1:0", &env)
}

/// A client with a name and password, which says everything that arrives.
struct Member {
    client: Client,
    connection: Connection,
}

impl Member {
    fn open(address: SocketAddr, name: &str, password: &str) -> Self {
        let mut options = MqttOptions::new(name, address.ip().to_string(), address.port());
        options.set_credentials(name, password).set_keep_alive(Duration::from_secs(30));
        let (client, connection) = Client::new(options, 16);
        Self { client, connection }
    }

    fn connect(address: SocketAddr, name: &str, password: &str) -> Self {
        let mut member = Self::open(address, name, password);
        let packet = member.next("CONNACK").unwrap();
        assert!(matches!(packet, Packet::ConnAck(_)), "{packet:?}");
        member
    }

    /// The next packet, or why there is none.
    fn next(&mut self, what: &str) -> Result<Packet, ConnectionError> {
        let started = Instant::now();
        loop {
            // All that is left: a timeout while it connects would begin another connection.
            let left = DEADLINE.saturating_sub(started.elapsed());
            match self.connection.recv_timeout(left) {
                Ok(Ok(Event::Incoming(Packet::PingResp(_)) | Event::Outgoing(_))) => {}
                Ok(Ok(Event::Incoming(packet))) => return Ok(packet),
                Ok(Err(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => panic!("waited {DEADLINE:?} for {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the client ended before {what}"),
            }
        }
    }

    /// The reason of the PUBACK, by name.
    fn publish(&mut self, topic: &str, payload: Vec<u8>) -> String {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).unwrap();
        match self.next("PUBACK").unwrap() {
            Packet::PubAck(ack) => format!("{:?}", ack.reason),
            other => panic!("{other:?}"),
        }
    }

    /// The broker ends the connection, and says why.
    fn expect_disconnect(&mut self) -> DisconnectReasonCode {
        match self.next("DISCONNECT") {
            Err(ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code, ..
            })) => reason_code,
            other => panic!("{other:?}"),
        }
    }
}

/// The code of a CONNACK that refuses, by name.
fn refusal(address: SocketAddr, name: &str, password: &str) -> String {
    match Member::open(address, name, password).next("CONNACK") {
        Err(ConnectionError::ConnectionRefused(code)) => format!("{code:?}"),
        other => panic!("{other:?}"),
    }
}

fn uplink(station: &str) -> String {
    format!("nb1/xinpu/{station}/u/t")
}

#[test]
fn a_station_publishes_as_itself_and_is_stored() {
    let dir = folder();
    let service = start(dir.path(), &[]);
    let mut station = Member::connect(service.mqtt, "bs0001", "pw-bs0001");
    assert_eq!(station.publish(&uplink("bs0001"), wire::one("bs0001", 1, 0, 1)), "Success");
    let foreign = station.publish(&uplink("bs0002"), wire::one("bs0002", 1, 0, 2));
    assert_eq!(foreign, "NotAuthorized");
    service.wait_until_quiet();
    assert_eq!(service.rows(), 1);
    assert_eq!(service.metric("loushan_publishes_denied_total") as u64, 1);
    assert!(service.stderr().contains("bs0001"), "{}", service.stderr());
    assert_eq!(refusal(service.mqtt, "bs0001", "guess"), "BadUserNamePassword");
    assert!(!service.stderr().contains("pw-bs0001") && !service.stderr().contains("guess"));
    assert!(service.terminate().success());
}

#[test]
fn a_changed_file_takes_effect_by_itself_and_by_sighup() {
    let dir = folder();
    let users = dir.path().join("users");
    let service = start(dir.path(), &[]);
    let mut stays = Member::connect(service.mqtt, "bs0001", "pw-bs0001");
    let mut removed = Member::connect(service.mqtt, "bs0002", "pw-bs0002");
    let mut changed = Member::connect(service.mqtt, "ops", "pw-ops");
    let (ok, text) = user(&users, &["remove", "bs0002"], "");
    assert!(ok, "{text}");
    assert_eq!(removed.expect_disconnect(), DisconnectReasonCode::NotAuthorized);

    add(&users, "ops", OPERATOR, "pw-new");
    service.signal(rustix::process::Signal::HUP);
    assert_eq!(changed.expect_disconnect(), DisconnectReasonCode::NotAuthorized);
    assert_eq!(refusal(service.mqtt, "ops", "pw-ops"), "BadUserNamePassword");
    Member::connect(service.mqtt, "ops", "pw-new");
    assert_eq!(stays.publish(&uplink("bs0001"), wire::one("bs0001", 1, 0, 1)), "Success");
    assert!(service.terminate().success());
}

#[test]
fn a_bad_file_is_shown_by_readiness_and_the_old_one_holds() {
    let dir = folder();
    let users = dir.path().join("users");
    let service = start(dir.path(), &[]);
    let good = std::fs::read(&users).unwrap();
    std::fs::write(&users, "bs0001 station hunter2\n").unwrap();
    let what = wait_for("readiness to show the fault", || {
        let ready = service.json("/readyz");
        assert_eq!(ready["ready"], true, "{ready}");
        let reasons = ready["reasons"].as_array().unwrap().clone();
        reasons.into_iter().find(|reason| reason["component"] == "identity")
    });
    let what = what["what"].as_str().unwrap();
    assert!(what.contains("line 1") && !what.contains("hunter2"), "{what}");
    Member::connect(service.mqtt, "bs0001", "pw-bs0001");
    std::fs::write(&users, good).unwrap();
    wait_for("readiness to be well again", || {
        let ready = service.json("/readyz");
        ready["reasons"].as_array().unwrap().is_empty().then_some(())
    });
    assert!(service.terminate().success());
}

#[test]
fn guessing_is_bounded_and_others_are_not_concerned() {
    let dir = folder();
    let service = start(dir.path(), &[("LOUSHAN__AUTH__FAILURES_PER_USER", "2")]);
    for _ in 0..2 {
        assert_eq!(refusal(service.mqtt, "bs0001", "guess"), "BadUserNamePassword");
    }
    assert_eq!(refusal(service.mqtt, "bs0001", "pw-bs0001"), "ConnectionRateExceeded");
    Member::connect(service.mqtt, "bs0002", "pw-bs0002");
    assert!(service.terminate().success());
}

#[test]
fn the_admins_token_is_made_at_the_first_start_and_kept() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.token");
    let post = |service: &Service, token: Option<&str>| {
        let mut request = ureq::post(format!("http://{}/api/v1/sinks", service.http))
            .config()
            .http_status_as_error(false)
            .build();
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.send_empty().unwrap().status().as_u16()
    };
    let service = Service::start(dir.path());
    let token = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(post(&service, None), 401);
    assert_eq!(post(&service, Some("guess")), 401);
    // Let in; there is nothing to post to at that path.
    assert_eq!(post(&service, Some(&token)), 405);
    assert!(service.terminate().success());
    let service = Service::start(dir.path());
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), token);
    assert_eq!(post(&service, Some(&token)), 405);
    assert!(!service.stderr().contains(&token));
    assert!(service.terminate().success());
    // Others may have read it.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (ok, text) = run(loushan()
        .arg("serve")
        .env("LOUSHAN__DATA__DIR", dir.path())
        .env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0")
        .env("LOUSHAN__HTTP__LISTEN", "127.0.0.1:0"));
    assert!(!ok && text.contains("admin.token") && text.contains("chmod 600"), "{text}");
    assert!(!text.contains(&token), "{text}");
}

#[test]
fn users_are_added_listed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    add(&users, "bs0001", &["--role", "station", "--region", "xinpu", "--project", "water"], "a");
    add(&users, "ops", OPERATOR, "b");
    let (ok, text) = user(&users, &["add", "gate", "--role", "admin", "--no-password"], "");
    assert!(ok, "{text}");
    let (ok, text) = user(&users, &["list"], "");
    assert!(ok, "{text}");
    let expected = "bs0001  station  region=xinpu  project=water  password\n\
                    gate  admin  certificate\nops  operator  password\n";
    assert_eq!(text, expected);
    for (args, password, said) in [
        (&["add", "x", "--role", "root"][..], "", "\"root\" is no role"),
        (&["add", "bs0003", "--role", "station", "--password-stdin"], "x", "needs its region"),
        (&["add", "x", "--role", "admin", "--password-stdin"], "\n", "1 to 65535 bytes"),
        (&["add", "x", "--role", "admin"], "", "--password-stdin"),
        (&["remove", "nobody"], "", "there is no user \"nobody\""),
    ] {
        let (ok, text) = user(&users, args, password);
        assert!(!ok && text.contains(said), "{args:?}: {text}");
    }
    let before = std::fs::read_to_string(&users).unwrap();
    assert!(before.contains("$argon2id$v=19$m=19456,t=2,p=1$"), "{before}");
    let (ok, text) = run(loushan().args(["user", "list"]).current_dir(dir.path()));
    assert!(!ok && text.contains("auth.users_file"), "{text}");
}

#[test]
fn a_service_whose_users_file_is_missing_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (ok, text) = run(loushan()
        .arg("serve")
        .env("LOUSHAN__DATA__DIR", dir.path())
        .env("LOUSHAN__MQTT__LISTEN", "127.0.0.1:0")
        .env("LOUSHAN__HTTP__LISTEN", "127.0.0.1:0")
        .env("LOUSHAN__AUTH__USERS_FILE", dir.path().join("users")));
    assert!(!ok && text.contains("auth.users_file") && text.contains("loushan user add"), "{text}");
}

/// A key set of one secret, and a token of an operator that it signs.
fn key_set_and_token(file: &Path, secret: &str, name: &str) -> String {
    let code = "import base64, hashlib, hmac, json, sys, time\n\
                file, secret, name = sys.argv[1:]\n\
                text = lambda b: base64.urlsafe_b64encode(b).rstrip(b'=').decode()\n\
                part = lambda o: text(json.dumps(o, separators=(',', ':')).encode())\n\
                key = {'kty': 'oct', 'k': text(secret.encode())}\n\
                open(file, 'w').write(json.dumps({'keys': [key]}))\n\
                claims = {'sub': name, 'role': 'operator', 'iss': 'us', 'aud': 'loushan',\n\
                \x20         'exp': int(time.time()) + 3600}\n\
                signed = part({'alg': 'HS256', 'typ': 'JWT'}) + '.' + part(claims)\n\
                mac = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()\n\
                print(signed + '.' + text(mac))";
    let args = ["-c", code, file.to_str().unwrap(), secret, name];
    let (ok, text) = run(std::process::Command::new("python3").args(args));
    assert!(ok, "{text}");
    text.trim().to_owned()
}

#[test]
fn rules_and_keys_that_change_take_effect_by_themselves_and_by_sighup() {
    let dir = folder();
    let (rules, keys) = (dir.path().join("rules"), dir.path().join("keys"));
    std::fs::write(&rules, "").unwrap();
    let token = key_set_and_token(&keys, "the first secret, of at least 32 bytes", "robot");
    let service = start(
        dir.path(),
        &[
            ("LOUSHAN__AUTH__ACL_FILE", rules.to_str().unwrap()),
            ("LOUSHAN__AUTH__JWT__KEY_FILE", keys.to_str().unwrap()),
            ("LOUSHAN__AUTH__JWT__ISSUER", "us"),
            ("LOUSHAN__AUTH__JWT__AUDIENCE", "loushan"),
        ],
    );
    let mut operator = Member::connect(service.mqtt, "ops", "pw-ops");
    let mut robot = Member::connect(service.mqtt, "robot", &token);
    assert_eq!(robot.publish("home/lamp", b"on".to_vec()), "Success");
    std::fs::write(&rules, "deny publish home/# user robot\n").unwrap();
    wait_for("the rule to hold", || {
        (robot.publish("home/lamp", b"on".to_vec()) == "NotAuthorized").then_some(())
    });
    assert_eq!(operator.publish("home/lamp", b"off".to_vec()), "Success");

    let new = key_set_and_token(&keys, "another secret that is as long as that", "robot");
    service.signal(rustix::process::Signal::HUP);
    assert_eq!(robot.expect_disconnect(), DisconnectReasonCode::NotAuthorized);
    assert_eq!(refusal(service.mqtt, "robot", &token), "BadUserNamePassword");
    Member::connect(service.mqtt, "robot", &new);
    assert_eq!(operator.publish("home/lamp", b"on".to_vec()), "Success");
    assert!(!service.stderr().contains(&token) && !service.stderr().contains(&new));
    assert!(service.terminate().success());
}

#[test]
fn a_session_stays_its_users_over_a_restart() {
    let dir = folder();
    let users = dir.path().join("users");
    add(&users, "eve", OPERATOR, "pw-eve");
    let as_desk = |service: &Service, name: &str, password: &str| {
        let address = service.mqtt;
        let mut options = MqttOptions::new("desk", address.ip().to_string(), address.port());
        options.set_credentials(name, password).set_clean_start(false);
        options.set_session_expiry_interval(Some(3600));
        let (client, connection) = Client::new(options, 16);
        Member { client, connection }
    };
    let service = start(dir.path(), &[]);
    let mut owner = as_desk(&service, "ops", "pw-ops");
    assert!(matches!(owner.next("CONNACK"), Ok(Packet::ConnAck(_))));
    owner.client.subscribe("home/#", QoS::AtLeastOnce).unwrap();
    assert!(matches!(owner.next("SUBACK"), Ok(Packet::SubAck(_))));
    drop(owner);
    assert!(service.terminate().success());
    let service = start(dir.path(), &[]);
    match as_desk(&service, "eve", "pw-eve").next("CONNACK") {
        Err(ConnectionError::ConnectionRefused(code)) => {
            assert_eq!(format!("{code:?}"), "ClientIdentifierNotValid");
        }
        other => panic!("{other:?}"),
    }
    match as_desk(&service, "ops", "pw-ops").next("CONNACK") {
        Ok(Packet::ConnAck(ack)) => assert!(ack.session_present),
        other => panic!("{other:?}"),
    }
    assert!(service.terminate().success());
}
