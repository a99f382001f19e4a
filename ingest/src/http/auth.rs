//! Who asks, and what for.
//!
//! | asked for | on loopback | on any other address |
//! |---|---|---|
//! | `GET /healthz` | anybody | anybody |
//! | `GET` of the console's files and of `/docs` | anybody | anybody |
//! | `GET` of what is a project's | anybody | who watches that project, operators and admins |
//! | any other `GET` or `HEAD` | anybody | operators and admins |
//! | whatever changes something | admins | admins |
//!
//! Credentials are a bearer token (that of `admin.token`, or a JSON Web Token where `[auth.jwt]` is
//! set) or HTTP Basic with a name and password of the users file. Whoever presents some is held to
//! them, on loopback too. A handler that needs more than this table takes [`Reader`] or [`Admin`].

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loushan_broker::auth::{BearerToken, Directory, Identity, NoSecrets, Refusal, Reloaded, Role};
use serde_json::{Value, json};

use super::App;
use super::error::ApiError;
use super::params::Params;
use crate::io::{Io, read_all, write_all_at};
use crate::live::Scope;

/// The file in the data folder that holds the admin's token.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// What a 401 asks for.
const CHALLENGE: &str = "Bearer realm=\"loushan\", Basic realm=\"loushan\", charset=\"UTF-8\"";

/// Who may ask what, on one listener.
pub struct Access {
    directory: Arc<Directory>,
    admin: BearerToken,
    /// Whether only this machine can reach the listener.
    loopback: bool,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("loopback", &self.loopback).finish_non_exhaustive()
    }
}

/// The admin's token cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The file system refuses.
    #[error("the admin's token {} cannot be kept", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// There is something else in the file.
    #[error("{} holds no token of ours; remove it, and the next start makes one", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner may have read it.
    #[error(
        "{} can be read by others than its owner; remove it, and the next start makes a new token, or \
         keep this one with chmod 600",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// There is no randomness.
    #[error(transparent)]
    Secrets(#[from] NoSecrets),
}

/// The token in the data folder's `admin.token`. It is made when there is none: 256 random bits in a
/// file that only its owner can read. One that others can read is none: they may have done so.
///
/// # Errors
/// When it can neither be read nor made.
pub fn admin_token(io: &dyn Io, data: &Path) -> Result<BearerToken, AdminTokenError> {
    let path = data.join(ADMIN_TOKEN_FILE);
    let failed = |source| AdminTokenError::Io { path: path.clone(), source };
    if io.exists(&path).map_err(failed)? {
        if !io.is_private(&path).map_err(failed)? {
            return Err(AdminTokenError::Open { path });
        }
        let bytes = read_all(io, &path).map_err(failed)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        let known = BearerToken::parse(text)?;
        return known.ok_or(AdminTokenError::Malformed { path });
    }
    let token = BearerToken::draw()?;
    let write = || {
        // Aside first: a start that is cut short leaves no half of one.
        let aside = data.join("admin.token.tmp");
        if io.exists(&aside)? {
            io.remove_file(&aside)?;
        }
        let file = io.create_private(&aside)?;
        write_all_at(&*file, format!("{}\n", token.reveal()).as_bytes(), 0)?;
        file.sync_data()?;
        drop(file);
        io.rename(&aside, &path)?;
        io.sync_dir(data)
    };
    write().map_err(failed)?;
    Ok(token)
}

/// Whoever asks, as far as it is known.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// A name for the log; `None` for anybody on loopback.
    pub(crate) name: Option<Arc<str>>,
    /// Whether it may change something.
    admin: bool,
    /// Whose figures and readings it may see.
    scope: Scope,
}

impl Access {
    /// Access by the users and tokens of a directory, and by the admin's token.
    #[must_use]
    pub const fn new(directory: Arc<Directory>, admin: BearerToken, loopback: bool) -> Self {
        Self { directory, admin, loopback }
    }

    /// Whether only this machine can reach the listener.
    pub(super) const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Who asks; 401 if that has to be known and is not, or is not true.
    pub(super) async fn caller(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Caller, ApiError> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (value, more) = (given.next(), given.next());
        let Some(value) = value else {
            if self.loopback {
                return Ok(Caller { name: None, admin: false, scope: Scope::City });
            }
            return Err(unauthorized("this needs credentials"));
        };
        let scheme = value.to_str().ok().and_then(|value| value.split_once(' '));
        let (Some((scheme, rest)), None) = (scheme, more) else {
            return Err(unauthorized("the Authorization header is not understood"));
        };
        let rest = rest.trim();
        let identity = if scheme.eq_ignore_ascii_case("bearer") {
            if self.admin.is(rest) {
                let name = Some(ADMIN_TOKEN_FILE.into());
                return Ok(Caller { name, admin: true, scope: Scope::City });
            }
            self.directory.token(peer, rest).map_err(refused)?
        } else if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest).ok();
            let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let Some((name, password)) = decoded.as_deref().and_then(|it| it.split_once(':'))
            else {
                return Err(unauthorized("the Authorization header is not understood"));
            };
            self.directory.password(peer, name, password.as_bytes()).await.map_err(refused)?
        } else {
            return Err(unauthorized("the Authorization header is not understood"));
        };
        let Identity { name, role } = identity;
        let (admin, scope) = match role {
            Role::Admin => (true, Scope::City),
            Role::Operator => (false, Scope::City),
            Role::Project(project) => (false, Scope::Project(project)),
            Role::Station(_) | Role::Anonymous => {
                return Err(ApiError::new(StatusCode::FORBIDDEN, "this is not for stations")
                    .accepting("the credentials of an operator or an admin"));
            }
        };
        Ok(Caller { name: Some(name), admin, scope })
    }
}

impl Caller {
    /// Whose figures and readings it may see.
    pub(super) const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// 401 or 403 if it may not change anything.
    pub(super) fn require_admin(&self) -> Result<(), ApiError> {
        match (self.admin, &self.name) {
            (true, _) => Ok(()),
            (false, None) => Err(unauthorized("whatever changes something needs credentials")),
            (false, Some(_)) => {
                let error = "whatever changes something is for admins";
                Err(ApiError::new(StatusCode::FORBIDDEN, error)
                    .accepting("the token in the data folder's admin.token, or an admin's"))
            }
        }
    }
}

fn unauthorized(error: &'static str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, error)
        .accepting("Authorization: Bearer TOKEN, or Basic with a user's name and password")
        .with(header::WWW_AUTHENTICATE, CHALLENGE)
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::BadCredentials | Refusal::NotAuthorized => {
            unauthorized("the credentials are wrong")
        }
        Refusal::TooManyAttempts => {
            let error = "too many attempts have failed; wait a minute";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, error).with(header::RETRY_AFTER, "60")
        }
        Refusal::Busy => {
            let error = "too many others wait for their passwords to be checked";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error).retry_soon()
        }
    }
}

/// Extracts whoever reads; the guard has seen to it that it may.
#[derive(Debug)]
pub(crate) struct Reader(pub(crate) Caller);

/// Extracts an admin; anybody else is answered 401 or 403.
#[derive(Debug)]
pub(crate) struct Admin(pub(crate) Caller);

impl FromRequestParts<App> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        // The guard has looked; where it has not, nobody is known.
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.map(Self).ok_or_else(|| unauthorized("this needs credentials"))
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Reader(caller) = Reader::from_request_parts(parts, app).await?;
        caller.require_admin()?;
        Ok(Self(caller))
    }
}

/// Who asks, by the service's lights.
pub(super) async fn whoami(
    State(app): State<App>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let role = match (&caller.scope, caller.admin) {
        (Scope::Project(_), _) => "project",
        (Scope::City, true) => "admin",
        (Scope::City, false) => "operator",
    };
    Ok(Json(json!({
        "name": caller.name.as_deref(),
        "role": role,
        "admin": caller.admin,
        "project": caller.scope.project(),
        "needs_token": !app.access.is_loopback(),
    })))
}

/// Reads users and rights again, as SIGHUP does.
pub(super) async fn reload(
    State(app): State<App>,
    params: Params,
    Admin(caller): Admin,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    tracing::info!(by = caller.name.as_deref(), "users and rights are to be reloaded");
    let directory = Arc::clone(&app.access.directory);
    let reloaded = tokio::task::spawn_blocking(move || directory.reload()).await;
    let reloaded =
        reloaded.map_err(|e| ApiError::internal("users and rights could not be reloaded", &e))?;
    match reloaded {
        Ok(Reloaded { users, revoked }) => {
            Ok(Json(json!({ "users": users, "disconnected": revoked })))
        }
        Err(error) => Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
    }
}

#[cfg(test)]
mod tests;
