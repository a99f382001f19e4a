//! Identity and rights as clients see them, in both versions.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loushan_broker::Broker;
use loushan_broker::auth::{AuthConfig, Directory, PasswordHash, RoleName, User, Users};
use loushan_broker::config::{BrokerConfig, DeniedPublish};
use loushan_broker::handler::{AckTicket, Acknowledgement, Publish};
use support::{
    Raw, Running, Scripted, packet, publish_v4, publish_v5, subscribe_v4, subscribe_v5, text,
    within,
};
use tokio::sync::mpsc::UnboundedReceiver;

const UPLINK: &str = "nb1/xinpu/bs1/u/t";
const FOREIGN: &str = "nb1/xinpu/bs2/u/t";

/// A broker with users `bs1` and `bs2` (stations), `ops` and `eve` (operators) and `root` (admin),
/// whose passwords are their names.
struct Fixture {
    running: Running,
    directory: Arc<Directory>,
    offers: UnboundedReceiver<(Publish, AckTicket)>,
    dir: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Self {
        Self::with(BrokerConfig::default(), "").await
    }

    async fn with(config: BrokerConfig, acl: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut users = Users::default();
        for (name, role) in [
            ("bs1", RoleName::Station),
            ("bs2", RoleName::Station),
            ("ops", RoleName::Operator),
            ("eve", RoleName::Operator),
            ("root", RoleName::Admin),
        ] {
            let region = (role == RoleName::Station).then_some("xinpu");
            let hash = PasswordHash::make(name.as_bytes()).unwrap();
            users.insert(name, User::new(name, role, region, None, Some(hash)).unwrap());
        }
        users.write(&dir.path().join("users")).unwrap();
        let auth = AuthConfig {
            users_file: Some(dir.path().join("users")),
            acl: acl.to_owned(),
            ..AuthConfig::default()
        };
        let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let directory = Arc::new(Directory::open(auth, Arc::new(now)).unwrap());
        let (handler, offers) = Scripted::manual();
        let broker = Broker::with_authority(config, handler, Arc::clone(&directory) as _);
        Self { running: support::serve(broker).await, directory, offers, dir }
    }

    fn users(&self) -> PathBuf {
        self.dir.path().join("users")
    }

    async fn connect(&self, version: u8, name: &str) -> Raw {
        let mut raw = self.running.raw().await;
        raw.send(&connect(version, name, Some((name, name)))).await;
        let connack = raw.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        raw
    }

    /// The code of the CONNACK.
    async fn code(&self, version: u8, client: &str, login: Option<(&str, &str)>) -> u8 {
        let mut raw = self.running.raw().await;
        raw.send(&connect(version, client, login)).await;
        raw.packet().await[3]
    }

    async fn offered(&mut self) -> (Publish, AckTicket) {
        within("an offer", self.offers.recv()).await.unwrap()
    }
}

/// CONNECT of MQTT 5 with a session that is kept for a minute, and a will that comes `delay` seconds
/// after it is lost.
fn with_will(name: &str, client: &str, topic: &str, delay: u8) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([5, 0xc4, 0, 0, 5, 0x11, 0, 0, 0, 60]);
    body.extend(text(client));
    body.extend([5, 0x18, 0, 0, 0, delay]);
    for part in [topic, "gone", name, name] {
        body.extend(text(part));
    }
    packet(0x10, &body)
}

fn connect(version: u8, client: &str, login: Option<(&str, &str)>) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([version, 2 | if login.is_some() { 0xc0 } else { 0 }, 0, 0]);
    if version == 5 {
        // No reasons for people: what is compared here is the codes.
        body.extend([2, 0x17, 0]);
    }
    body.extend(text(client));
    if let Some((user, password)) = login {
        body.extend(text(user));
        body.extend(text(password));
    }
    packet(0x10, &body)
}

#[tokio::test]
async fn a_connect_is_answered_by_what_is_wrong_with_it() {
    let fixture = Fixture::start().await;
    for (client, login, v4, v5) in [
        ("x", None, 5, 0x87),
        ("x", Some(("ops", "wrong")), 4, 0x86),
        ("x", Some(("nobody", "x")), 4, 0x86),
        ("bs2", Some(("bs1", "bs1")), 5, 0x87),
        ("bs1", Some(("ops", "ops")), 5, 0x87),
        ("bs1", Some(("bs1", "bs1")), 0, 0),
        ("x", Some(("ops", "ops")), 0, 0),
    ] {
        assert_eq!(fixture.code(4, client, login).await, v4, "{client} {login:?}");
        assert_eq!(fixture.code(5, client, login).await, v5, "{client} {login:?}");
    }
}

#[tokio::test]
async fn a_station_publishes_below_its_own_prefix_and_hears_its_own_commands() {
    let mut fixture = Fixture::start().await;
    let mut station = fixture.connect(5, "bs1").await;
    station.send(&publish_v5(2, UPLINK, Some(1), &[], b"x")).await;
    let (publish, ticket) = fixture.offered().await;
    assert_eq!(&*publish.topic, UPLINK);
    ticket.durable(Acknowledgement::default());
    station.expect(&[0x40, 2, 0, 1]).await;
    let filters = [
        ("nb1/xinpu/bs1/d", 1),
        ("nb1/xinpu/bs2/d", 1),
        ("nb1/xinpu/+/d", 1),
        ("#", 0),
        ("$SYS/#", 0),
    ];
    station.send(&subscribe_v5(2, &[], &filters)).await;
    station.expect(&[0x90, 8, 0, 2, 0, 1, 0x87, 0x87, 0x87, 0x87]).await;
    let mut station = fixture.connect(4, "bs2").await;
    station.send(&subscribe_v4(3, "nb1/xinpu/bs1/d", 1)).await;
    station.expect(&[0x90, 3, 0, 3, 0x80]).await;
    station.send(&subscribe_v4(4, "nb1/xinpu/bs2/d", 1)).await;
    station.expect(&[0x90, 3, 0, 4, 1]).await;
    let mut root = fixture.connect(4, "root").await;
    root.send(&publish_v4(2, "nb1/xinpu/bs2/d", Some(1), b"reboot")).await;
    root.expect(&[0x40, 2, 0, 1]).await;
    let command = station.packet().await;
    assert_eq!(command[0] & 0xf0, 0x30);
    assert!(command.ends_with(b"reboot"));
}

#[tokio::test]
async fn a_refused_publish_of_mqtt_5_waits_for_those_before_it() {
    let mut fixture = Fixture::start().await;
    let mut station = fixture.connect(5, "bs1").await;
    station.send(&publish_v5(2, UPLINK, Some(1), &[], b"a")).await;
    station.send(&publish_v5(2, FOREIGN, Some(2), &[], b"b")).await;
    station.send(&publish_v5(4, FOREIGN, Some(3), &[], b"c")).await;
    station.send(&publish_v5(0, FOREIGN, None, &[], b"d")).await;
    station.send(&publish_v5(2, UPLINK, Some(4), &[], b"e")).await;
    let (_, first) = fixture.offered().await;
    let (last, second) = fixture.offered().await;
    assert_eq!(&*last.payload, b"e", "nothing that is refused is handled");
    second.durable(Acknowledgement::default());
    station.expect_silence().await;
    first.durable(Acknowledgement::default());
    station.expect(&[0x40, 2, 0, 1]).await;
    station.expect(&[0x40, 3, 0, 2, 0x87]).await;
    station.expect(&[0x50, 3, 0, 3, 0x87]).await;
    station.expect(&[0x40, 2, 0, 4]).await;
}

#[tokio::test]
async fn a_refused_publish_of_mqtt_3_ends_the_connection_once_those_before_it_are_acknowledged() {
    let mut fixture = Fixture::start().await;
    let mut station = fixture.connect(4, "bs1").await;
    station.send(&publish_v4(0, FOREIGN, None, b"dropped")).await;
    station.send(&publish_v4(2, UPLINK, Some(1), b"a")).await;
    station.send(&publish_v4(2, FOREIGN, Some(2), b"b")).await;
    let (_, first) = fixture.offered().await;
    station.expect_silence().await;
    first.durable(Acknowledgement::default());
    station.expect(&[0x40, 2, 0, 1]).await;
    station.expect_closed().await;
}

#[tokio::test]
async fn a_refused_publish_of_mqtt_3_is_acknowledged_and_dropped_where_that_is_asked_for() {
    let config =
        BrokerConfig { denied_publish: DeniedPublish::Acknowledge, ..BrokerConfig::default() };
    let mut fixture = Fixture::with(config, "").await;
    let mut station = fixture.connect(4, "bs1").await;
    station.send(&publish_v4(2, FOREIGN, Some(1), b"b")).await;
    station.expect(&[0x40, 2, 0, 1]).await;
    station.send(&publish_v4(4, FOREIGN, Some(2), b"c")).await;
    station.expect(&[0x50, 2, 0, 2]).await;
    station.send(&packet(0x62, &[0, 2])).await;
    station.expect(&[0x70, 2, 0, 2]).await;
    station.send(&publish_v4(2, UPLINK, Some(3), b"d")).await;
    let (publish, ticket) = fixture.offered().await;
    assert_eq!(&*publish.payload, b"d");
    ticket.durable(Acknowledgement::default());
    station.expect(&[0x40, 2, 0, 3]).await;
}

#[tokio::test]
async fn an_operator_watches_and_does_not_publish_below_nb1() {
    let fixture = Fixture::start().await;
    let mut operator = fixture.connect(5, "ops").await;
    operator.send(&subscribe_v5(1, &[], &[("#", 0)])).await;
    operator.expect(&[0x90, 4, 0, 1, 0, 0]).await;
    operator.send(&publish_v5(2, "nb1/xinpu/bs1/d", Some(2), &[], b"x")).await;
    operator.expect(&[0x40, 3, 0, 2, 0x87]).await;
    operator.send(&publish_v5(2, "$SYS/forged", Some(3), &[], b"x")).await;
    operator.expect(&[0x40, 3, 0, 3, 0x87]).await;
    operator.send(&subscribe_v5(4, &[], &[("$SYS/#", 0)])).await;
    operator.expect(&[0x90, 4, 0, 4, 0, 0]).await;
}

#[tokio::test]
async fn a_will_that_may_not_be_published_is_refused_with_its_connect() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.running.raw().await;
    let mut body = text("MQTT");
    body.extend([4, 0xc6, 0, 0]);
    for part in ["bs1", FOREIGN, "bye", "bs1", "bs1"] {
        body.extend(text(part));
    }
    raw.send(&packet(0x10, &body)).await;
    assert_eq!(raw.packet().await[3], 5);
}

#[tokio::test]
async fn what_a_rule_denies_does_not_arrive_by_a_wider_filter() {
    let fixture = Fixture::with(BrokerConfig::default(), "deny subscribe plans/# user ops").await;
    let mut operator = fixture.connect(5, "ops").await;
    operator.send(&subscribe_v5(1, &[], &[("plans/1", 0), ("+/+", 1)])).await;
    operator.expect(&[0x90, 5, 0, 1, 0, 0x87, 1]).await;
    let mut root = fixture.connect(4, "root").await;
    for (id, topic) in [(1, "plans/1"), (2, "open/1")] {
        root.send(&publish_v4(2, topic, Some(id), topic.as_bytes())).await;
        root.expect(&[0x40, 2, 0, id as u8]).await;
    }
    let message = operator.packet().await;
    assert!(message.ends_with(b"open/1"), "{message:02x?}");
}

#[tokio::test]
async fn a_client_that_is_no_longer_allowed_is_told_so_and_the_others_stay() {
    let mut fixture = Fixture::start().await;
    let mut station = fixture.connect(5, "bs1").await;
    let mut old = fixture.connect(4, "bs2").await;
    let mut operator = fixture.connect(5, "ops").await;
    let mut users = Users::read(&fixture.users()).unwrap();
    users.remove("ops");
    let hash = PasswordHash::make(b"new").unwrap();
    users.insert(
        "bs2",
        User::new("bs2", RoleName::Station, Some("xinpu"), None, Some(hash)).unwrap(),
    );
    users.write(&fixture.users()).unwrap();
    assert_eq!(fixture.directory.reload().unwrap().revoked, 2);
    let disconnect = operator.packet().await;
    assert_eq!((disconnect[0], disconnect[2]), (0xe0, 0x87), "{disconnect:02x?}");
    operator.expect_closed().await;
    old.expect_closed().await;
    station.send(&publish_v5(2, UPLINK, Some(1), &[], b"x")).await;
    fixture.offered().await.1.durable(Acknowledgement::default());
    station.expect(&[0x40, 2, 0, 1]).await;
    assert_eq!(fixture.code(5, "bs2", Some(("bs2", "bs2"))).await, 0x86);
    assert_eq!(fixture.code(5, "bs2", Some(("bs2", "new"))).await, 0);
}

#[tokio::test]
async fn guessing_is_bounded() {
    let fixture = Fixture::start().await;
    for _ in 0..10 {
        assert_eq!(fixture.code(5, "x", Some(("ops", "guess"))).await, 0x86);
    }
    assert_eq!(fixture.code(5, "x", Some(("ops", "ops"))).await, 0x9f);
    assert_eq!(fixture.code(5, "bs1", Some(("bs1", "bs1"))).await, 0, "another user");
}

#[tokio::test]
async fn a_session_is_not_taken_over_by_another_user() {
    let fixture = Fixture::start().await;
    let mut owner = fixture.running.raw().await;
    owner.send(&with_will("ops", "desk", "desk/gone", 60)).await;
    assert_eq!(owner.packet().await[3], 0);
    let others = [(4, 2), (5, 0x85)];
    for (version, refused) in others {
        assert_eq!(fixture.code(version, "desk", Some(("eve", "eve"))).await, refused);
    }
    owner.send(&subscribe_v5(1, &[], &[("desk/#", 1)])).await;
    owner.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    drop(owner);
    // Kept for its owner; one that starts clean would end it.
    for (version, refused) in others {
        assert_eq!(fixture.code(version, "desk", Some(("eve", "eve"))).await, refused);
    }
    let mut owner = fixture.running.raw().await;
    owner.send(&with_will("ops", "desk", "desk/gone", 60)).await;
    assert_eq!(owner.packet().await[2..4], [1, 0], "the session is there");
    assert_eq!(fixture.code(5, "desk", Some(("root", "root"))).await, 0, "an admin may");
    owner.expect_disconnect(0x8e).await;
}

#[tokio::test]
async fn a_kept_will_is_not_published_for_a_user_who_is_no_more() {
    let fixture = Fixture::start().await;
    let mut root = fixture.connect(4, "root").await;
    root.send(&subscribe_v4(1, "gone/+", 0)).await;
    root.expect(&[0x90, 3, 0, 1, 0]).await;
    for (name, delay) in [("ops", 1), ("eve", 2)] {
        let mut raw = fixture.running.raw().await;
        raw.send(&with_will(name, name, &format!("gone/{name}"), delay)).await;
        assert_eq!(raw.packet().await[3], 0);
        // What no packet begins with. The will is kept before the last words are written.
        raw.send(&[0, 0]).await;
        let farewell = raw.packet().await;
        assert_eq!(farewell[0], 0xe0, "{farewell:02x?}");
    }
    let mut users = Users::read(&fixture.users()).unwrap();
    users.remove("ops");
    users.write(&fixture.users()).unwrap();
    fixture.directory.reload().unwrap();
    // What is due first would come first.
    root.expect(&publish_v4(0, "gone/eve", None, b"gone")).await;
}
