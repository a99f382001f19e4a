use std::time::Duration;

use loushan_broker::auth::{AuthConfig, PasswordHash, RoleName, User, Users};

use super::*;
use crate::io::sim::SimIo;

const PASSWORD: &str = "correct horse";

struct Fixture {
    access: Access,
    token: String,
    _dir: tempfile::TempDir,
}

fn fixture(loopback: bool) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    let mut users = Users::default();
    for (name, role) in
        [("ops", RoleName::Operator), ("root", RoleName::Admin), ("bs1", RoleName::Station)]
    {
        let region = (role == RoleName::Station).then_some("xinpu");
        let hash = PasswordHash::make(PASSWORD.as_bytes()).unwrap();
        users.insert(name, User::new(name, role, region, None, Some(hash)).unwrap());
    }
    users.write(&path).unwrap();
    let mut config = AuthConfig { users_file: Some(path), ..AuthConfig::default() };
    config.attempts.user = 2;
    config.attempts.address = 4;
    let now = || std::time::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let directory = Arc::new(Directory::open(config, Arc::new(now)).unwrap());
    let admin = BearerToken::draw().unwrap();
    let token = admin.reveal().to_owned();
    Fixture { access: Access::new(directory, admin, loopback), token, _dir: dir }
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

impl Fixture {
    async fn ask(&self, authorization: Option<&str>) -> Result<Caller, ApiError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        self.access.caller(&headers, [192, 0, 2, 1].into()).await
    }

    /// The status for reading, and for changing something.
    async fn statuses(&self, authorization: Option<&str>) -> (&'static str, &'static str) {
        match self.ask(authorization).await {
            Err(e) => (e.status_label(), e.status_label()),
            Ok(caller) => ("ok", caller.require_admin().err().map_or("ok", |e| e.status_label())),
        }
    }
}

#[tokio::test]
async fn operators_read_and_admins_act() {
    let away = fixture(false);
    let bearer = format!("Bearer {}", away.token);
    assert_eq!(away.statuses(None).await, ("401", "401"));
    assert_eq!(away.statuses(Some(&bearer)).await, ("ok", "ok"));
    assert_eq!(away.statuses(Some(&basic("ops", PASSWORD))).await, ("ok", "403"));
    assert_eq!(away.statuses(Some(&basic("root", PASSWORD))).await, ("ok", "ok"));
    assert_eq!(away.statuses(Some(&basic("bs1", PASSWORD))).await, ("403", "403"));
    let here = fixture(true);
    assert_eq!(here.statuses(None).await, ("ok", "401"));
    assert_eq!(here.statuses(Some(&basic("ops", PASSWORD))).await, ("ok", "403"));
    assert_eq!(here.statuses(Some("Bearer guess")).await, ("401", "401"), "held to it");
}

#[tokio::test]
async fn what_is_no_credential_is_refused_with_a_challenge() {
    let access = fixture(false);
    for bad in ["", "Bearer", "Bearer x", "Digest x", "Basic ???", "Basic bm9jb2xvbg==", "x"] {
        let Err(error) = access.ask(Some(bad)).await else { panic!("{bad:?}") };
        let response = axum::response::IntoResponse::into_response(error);
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{bad:?}");
        let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains("Bearer") && challenge.contains("Basic"), "{challenge}");
    }
}

#[tokio::test]
async fn passwords_are_not_guessed_by_http_either() {
    let access = fixture(false);
    for _ in 0..2 {
        assert_eq!(access.statuses(Some(&basic("ops", "guess"))).await.0, "401");
    }
    assert_eq!(access.statuses(Some(&basic("ops", PASSWORD))).await.0, "429");
    let root = basic("root", PASSWORD);
    assert_eq!(access.statuses(Some(&root)).await.0, "ok", "another user");
    // Tokens are nobody's until they are verified: the address has a bound, also where there are no
    // tokens but the admin's.
    for _ in 0..2 {
        assert_eq!(access.statuses(Some("Bearer guess")).await.0, "401");
    }
    assert_eq!(access.statuses(Some("Bearer guess")).await.0, "429");
    assert_eq!(access.statuses(Some(&root)).await.0, "429");
    // It cannot be guessed, so it need not be kept from whoever has it.
    let bearer = format!("Bearer {}", access.token);
    assert_eq!(access.statuses(Some(&bearer)).await.0, "ok");
}

#[test]
fn the_admins_token_is_made_once() {
    let io = SimIo::new();
    io.create_dir_all(Path::new("/data")).unwrap();
    let first = admin_token(&io, Path::new("/data")).unwrap();
    let again = admin_token(&io, Path::new("/data")).unwrap();
    assert!(first.is(again.reveal()));
    assert_eq!(io.list(Path::new("/data")).unwrap(), [ADMIN_TOKEN_FILE]);
    crate::io::replace_file(&io, Path::new("/data/admin.token"), b"short\n").unwrap();
    let error = admin_token(&io, Path::new("/data")).unwrap_err().to_string();
    assert!(error.contains("remove it") && !error.contains("short"), "{error}");
}

#[test]
fn the_admins_token_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    admin_token(&crate::io::real::RealIo, dir.path()).unwrap();
    let meta = std::fs::metadata(dir.path().join(ADMIN_TOKEN_FILE)).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.len()), (0o600, 65));
    for (mode, taken) in [(0o640, false), (0o604, false), (0o620, false), (0o400, true)] {
        let path = dir.path().join(ADMIN_TOKEN_FILE);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let token = admin_token(&crate::io::real::RealIo, dir.path());
        assert_eq!(token.is_ok(), taken, "{mode:o}");
        if let Err(error) = token {
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }
}
