use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::*;
use crate::auth::certificate::tests::certificate;
use crate::auth::{AttemptLimits, Peer, RoleName, Transport, User, Users};

const ADDRESS: &str = "192.0.2.1:5000";

/// Files of a directory, and what they are changed to.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.users(&[("ada", RoleName::Operator, "lovelace"), ("bs1", RoleName::Station, "one")]);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn users(&self, users: &[(&str, RoleName, &str)]) {
        let mut all = Users::default();
        for (name, role, password) in users {
            let region = (*role == RoleName::Station).then_some("xinpu");
            let hash = (!password.is_empty())
                .then(|| super::super::PasswordHash::make(password.as_bytes()).unwrap());
            all.insert(name, User::new(name, *role, region, None, hash).unwrap());
        }
        all.write(&self.path("users")).unwrap();
    }

    /// Changes the users file and keeps what it has of others.
    fn edit(&self, change: impl FnOnce(&mut Users)) {
        let path = self.path("users");
        let mut users = Users::read(&path).unwrap();
        change(&mut users);
        users.write(&path).unwrap();
    }

    fn config(&self) -> AuthConfig {
        AuthConfig {
            users_file: Some(self.path("users")),
            attempts: AttemptLimits { user: 2, address: 50 },
            ..AuthConfig::default()
        }
    }

    fn open(&self) -> Directory {
        open(self.config())
    }
}

fn open(config: AuthConfig) -> Directory {
    Directory::open(config, clock()).unwrap()
}

fn clock() -> WallClock {
    Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000))
}

fn peer() -> Peer {
    Peer::tcp(ADDRESS.parse::<SocketAddr>().unwrap())
}

fn with_certificate(names: &[&str], uris: &[&str]) -> Peer {
    let certificate = Some(certificate(names, uris).into());
    Peer { certificate, transport: Transport::Tls, ..peer() }
}

async fn connect_as(
    directory: &Directory,
    peer: &Peer,
    client_id: &str,
    username: Option<&str>,
    password: Option<&str>,
) -> Result<Grant, Refusal> {
    let password = password.map(str::as_bytes);
    directory.authenticate(&Credentials { peer, client_id, username, password }).await
}

async fn connect(
    directory: &Directory,
    client_id: &str,
    username: &str,
    password: &str,
) -> Result<Grant, Refusal> {
    connect_as(directory, &peer(), client_id, Some(username), Some(password)).await
}

fn refused(result: Result<Grant, Refusal>) -> Refusal {
    result.expect_err("a refusal")
}

#[tokio::test]
async fn a_password_lets_in_and_says_the_role() {
    let files = Files::new();
    let directory = files.open();
    let ada = connect(&directory, "dashboard", "ada", "lovelace").await.unwrap();
    assert_eq!(ada.user.as_deref(), Some("ada"));
    assert!(ada.rights.may_subscribe("#") && !ada.rights.may_publish("nb1/xinpu/bs1/d"));
    let station = connect(&directory, "bs1", "bs1", "one").await.unwrap();
    assert!(station.rights.may_publish("nb1/xinpu/bs1/u/t") && !station.rights.may_subscribe("#"));
    assert!(!station.rights.may_receive("nb1/xinpu/bs2/d"));
    for (user, password) in [("ada", "wrong"), ("nobody", "lovelace"), ("ada", "")] {
        let result = connect(&directory, "x", user, password).await;
        assert_eq!(refused(result), Refusal::BadCredentials, "{user}");
    }
    let nothing = connect_as(&directory, &peer(), "x", None, None).await;
    assert_eq!(refused(nothing), Refusal::NotAuthorized);
    let half = connect_as(&directory, &peer(), "x", Some("ada"), None).await;
    assert_eq!(refused(half), Refusal::BadCredentials);
}

#[tokio::test]
async fn a_client_id_of_a_station_is_its_own() {
    let files = Files::new();
    let directory = files.open();
    let other = connect(&directory, "bs2", "bs1", "one").await;
    assert_eq!(refused(other), Refusal::NotAuthorized);
    let thief = connect(&directory, "bs1", "ada", "lovelace").await;
    assert_eq!(refused(thief), Refusal::NotAuthorized);
    let open = open(AuthConfig { anonymous: true, ..files.config() });
    let thief = connect_as(&open, &peer(), "bs1", None, None).await;
    assert_eq!(refused(thief), Refusal::NotAuthorized);
    assert!(connect_as(&open, &peer(), "bs2", None, None).await.is_ok());
}

#[tokio::test]
async fn after_some_failures_even_the_right_password_has_to_wait() {
    let files = Files::new();
    let directory = files.open();
    assert!(connect(&directory, "x", "ada", "lovelace").await.is_ok());
    for _ in 0..2 {
        let result = connect(&directory, "x", "ada", "guess").await;
        assert_eq!(refused(result), Refusal::BadCredentials);
    }
    let right = connect(&directory, "x", "ada", "lovelace").await;
    assert_eq!(refused(right), Refusal::TooManyAttempts);
    assert!(connect(&directory, "bs1", "bs1", "one").await.is_ok(), "another user there");
    let elsewhere = Peer::tcp("192.0.2.2:5000".parse().unwrap());
    let right = connect_as(&directory, &elsewhere, "x", Some("ada"), Some("lovelace")).await;
    assert!(right.is_ok());
}

#[tokio::test]
async fn guesses_made_at_once_are_bounded_as_well() {
    let files = Files::new();
    let directory = files.open();
    let guesses = (0..12).map(|n| {
        let directory = &directory;
        async move { connect(directory, "x", "ada", &format!("guess {n}")).await }
    });
    let results = futures_util::future::join_all(guesses).await;
    let looked_at =
        results.into_iter().filter(|it| matches!(it, Err(Refusal::BadCredentials))).count();
    // One may be under way while the failure before it is counted.
    assert!((2..=3).contains(&looked_at), "{looked_at} of 12 guesses were looked at");
}

#[tokio::test]
async fn who_is_no_longer_allowed_goes_and_nobody_else_does() {
    let files = Files::new();
    files.users(&[
        ("ada", RoleName::Operator, "lovelace"),
        ("bob", RoleName::Operator, "babbage"),
        ("eve", RoleName::Operator, "polastri"),
    ]);
    let directory = files.open();
    let ada = connect(&directory, "a", "ada", "lovelace").await.unwrap();
    let bob = connect(&directory, "b", "bob", "babbage").await.unwrap();
    let eve = connect(&directory, "e", "eve", "polastri").await.unwrap();
    files.edit(|users| {
        let user = |role, hash| User::new("x", role, None, None, hash).unwrap();
        let hash = users.get("ada").unwrap().1.hash.clone();
        users.insert("ada", user(RoleName::Admin, hash));
        let changed = super::super::PasswordHash::make(b"new").unwrap();
        users.insert("bob", user(RoleName::Operator, Some(changed)));
        users.remove("eve");
    });
    assert!(!ada.rights.may_publish("nb1/xinpu/bs1/d"));
    assert_eq!(directory.reload().unwrap(), Reloaded { users: 2, revoked: 2 });
    assert!(!ada.revoked.is_cancelled() && ada.rights.may_publish("nb1/xinpu/bs1/d"));
    assert!(bob.revoked.is_cancelled() && eve.revoked.is_cancelled());
    assert!(connect(&directory, "a", "ada", "lovelace").await.is_ok(), "still remembered");
    assert_eq!(refused(connect(&directory, "b", "bob", "babbage").await), Refusal::BadCredentials);
    assert_eq!(refused(connect(&directory, "e", "eve", "polastri").await), Refusal::BadCredentials);
}

#[tokio::test]
async fn an_operator_that_becomes_a_station_goes_unless_it_is_called_so() {
    let files = Files::new();
    files.users(&[("x1", RoleName::Operator, "one")]);
    let directory = files.open();
    let named = connect(&directory, "x1", "x1", "one").await.unwrap();
    let other = connect(&directory, "y1", "x1", "one").await.unwrap();
    files.edit(|users| {
        let hash = users.get("x1").unwrap().1.hash.clone();
        users.insert("x1", User::new("x1", RoleName::Station, Some("xinpu"), None, hash).unwrap());
    });
    directory.reload().unwrap();
    assert!(other.revoked.is_cancelled() && !named.revoked.is_cancelled());
    assert!(!named.rights.may_subscribe("#"));
}

#[tokio::test]
async fn rules_hold_for_those_who_are_connected() {
    let files = Files::new();
    std::fs::write(files.path("acl"), "").unwrap();
    let directory = open(AuthConfig { acl_file: Some(files.path("acl")), ..files.config() });
    let ada = connect(&directory, "a", "ada", "lovelace").await.unwrap();
    assert!(ada.rights.may_subscribe("plans/1") && ada.rights.may_publish("home"));
    std::fs::write(files.path("acl"), "deny all plans/# role operator\nallow publish nb1/%u/#\n")
        .unwrap();
    assert_eq!(directory.reload().unwrap().revoked, 0);
    assert!(!ada.rights.may_subscribe("plans/1") && !ada.rights.may_receive("plans/1"));
    assert!(ada.rights.may_subscribe("#") && ada.rights.may_publish("nb1/ada/x"));
    assert!(!ada.rights.may_publish("nb1/bob/x"));
}

#[tokio::test]
async fn a_bad_file_is_refused_whole_and_the_old_one_holds() {
    let files = Files::new();
    std::fs::write(files.path("acl"), "deny all plans/#").unwrap();
    let directory = open(AuthConfig { acl_file: Some(files.path("acl")), ..files.config() });
    let ada = connect(&directory, "a", "ada", "lovelace").await.unwrap();
    files.edit(|users| drop(users.remove("ada")));
    std::fs::write(files.path("acl"), "forbid all plans/#").unwrap();
    let error = directory.reload().unwrap_err().to_string();
    assert!(error.contains("auth.acl_file") && error.contains("line 1"), "{error}");
    assert_eq!(directory.fault().as_deref(), Some(error.as_str()));
    assert!(!ada.revoked.is_cancelled() && !ada.rights.may_subscribe("plans/1"));
    std::fs::write(files.path("acl"), "").unwrap();
    assert_eq!(directory.reload().unwrap().revoked, 1);
    assert_eq!(directory.fault(), None);
    assert!(ada.revoked.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_is_noticed() {
    let files = Files::new();
    let directory = Arc::new(files.open());
    let ada = connect(&directory, "a", "ada", "lovelace").await.unwrap();
    let watch = tokio::spawn(Arc::clone(&directory).watch());
    files.edit(|users| drop(users.remove("ada")));
    tokio::time::timeout(Duration::from_secs(60), ada.revoked.cancelled()).await.unwrap();
    std::fs::remove_file(files.path("users")).unwrap();
    let started = Instant::now();
    while directory.fault().is_none() {
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    watch.abort();
}

#[tokio::test]
async fn a_certificate_says_whose_it_is() {
    let files = Files::new();
    files.users(&[("ada", RoleName::Operator, ""), ("bs1", RoleName::Station, "")]);
    let directory = files.open();
    let uri = "urn:loushan:station:huichuan:bs9";
    let station = with_certificate(&["ada"], &[uri]);
    let grant = connect_as(&directory, &station, "bs9", None, None).await.unwrap();
    assert!(grant.rights.may_publish("nb1/huichuan/bs9/u/t") && grant.expires.is_some());
    for (client, user) in [("bs8", None), ("bs9", Some("bs8")), ("ada", Some("ada"))] {
        let result = connect_as(&directory, &station, client, user, Some("x")).await;
        assert_eq!(refused(result), Refusal::NotAuthorized, "{client}");
    }
    let named = with_certificate(&["bs1"], &[]);
    let grant = connect_as(&directory, &named, "bs1", Some("bs1"), None).await.unwrap();
    assert!(grant.rights.may_publish("nb1/xinpu/bs1/u/t"));
    assert_eq!(
        refused(connect_as(&directory, &named, "bs2", None, None).await),
        Refusal::NotAuthorized
    );
    files.edit(|users| drop(users.remove("bs1")));
    directory.reload().unwrap();
    assert!(grant.revoked.is_cancelled());
    // Nobody of ours: it helps to nothing, and hinders nothing.
    let stranger = with_certificate(&["eve"], &[]);
    assert_eq!(
        refused(connect_as(&directory, &stranger, "x", None, None).await),
        Refusal::NotAuthorized
    );
    let over = Directory::open(
        files.config(),
        Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)),
    );
    let result = connect_as(&over.unwrap(), &station, "bs9", None, None).await;
    assert_eq!(refused(result), Refusal::NotAuthorized);
}

#[tokio::test]
async fn a_token_lets_in_until_it_expires_or_its_key_is_withdrawn() {
    use jsonwebtoken::{EncodingKey, Header, encode};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let files = Files::new();
    let write = |secret: &str| std::fs::write(files.path("secret"), secret).unwrap();
    write(SECRET);
    let jwt = super::super::JwtConfig {
        keys: super::super::JwtKeys::Secret(files.path("secret")),
        issuer: "city".to_owned(),
        audience: "loushan".to_owned(),
        leeway: Duration::ZERO,
    };
    let directory = open(AuthConfig { jwt: Some(jwt), ..files.config() });
    let claims = serde_json::json!({
        "sub": "bs7", "role": "station", "region": "xinpu", "iss": "city", "aud": "loushan",
        "exp": 1_790_000_060,
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = encode(&Header::default(), &claims, &key).unwrap();
    let before = Instant::now();
    let grant = connect_as(&directory, &peer(), "bs7", None, Some(&token)).await.unwrap();
    let left = grant.expires.unwrap() - before;
    assert!(left >= Duration::from_secs(60) && left < Duration::from_secs(70), "{left:?}");
    assert_eq!(grant.user.as_deref(), Some("bs7"));
    for (client, user) in [("bs8", None), ("bs7", Some("bs8"))] {
        let result = connect_as(&directory, &peer(), client, user, Some(&token)).await;
        assert_eq!(refused(result), Refusal::NotAuthorized);
    }
    let forged = format!("{}x", token);
    let result = connect_as(&directory, &peer(), "bs7", None, Some(&forged)).await;
    assert_eq!(refused(result), Refusal::BadCredentials);
    // Passwords are taken beside tokens.
    assert!(connect(&directory, "x", "ada", "lovelace").await.is_ok());
    directory.reload().unwrap();
    assert!(!grant.revoked.is_cancelled());
    write("another secret of thirty-two bytes and more");
    assert_eq!(directory.reload().unwrap().revoked, 1);
    assert!(grant.revoked.is_cancelled());
}

#[tokio::test]
async fn where_there_is_nothing_to_check_a_name_against_everybody_is_anonymous() {
    let directory = open(AuthConfig::open());
    let grant = connect(&directory, "x", "ada", "whatever").await.unwrap();
    assert_eq!(grant.user, None);
    assert!(grant.rights.may_publish("nb1/xinpu/bs1/u/t") && grant.rights.may_subscribe("$SYS/#"));
    let rules = "deny subscribe test/nosubscribe role anonymous".to_owned();
    let directory = open(AuthConfig { acl: rules, ..AuthConfig::open() });
    let grant = connect_as(&directory, &peer(), "x", None, None).await.unwrap();
    assert!(!grant.rights.may_subscribe("test/nosubscribe"));
    assert!(grant.rights.may_subscribe("test/#") && grant.rights.may_publish("test/nosubscribe"));
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_key_and_remedy() {
    let missing = AuthConfig {
        users_file: Some(Path::new("/nowhere/users").to_owned()),
        ..AuthConfig::default()
    };
    let error = Directory::open(missing, clock()).err().unwrap().to_string();
    assert!(error.contains("auth.users_file") && error.contains("loushan user add"), "{error}");
}
