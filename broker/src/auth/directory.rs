//! Who is let in, and what it may do: users, certificates, tokens and rules, kept up to date.
//!
//! A CONNECT is answered by the first of these that it presents:
//!
//! 1. a client certificate that names a station or a user ([`super::certificate`]); a user name beside
//!    it must be the same, a password is not looked at;
//! 2. a token as its password ([`super::jwt`]); a user name beside it must be its `sub`;
//! 3. user name and password, as in the users file;
//! 4. nothing, where anonymous clients are let in. Where there is nothing to check a user name
//!    against, it counts for nothing.
//!
//! A station's client id is its name, and nobody else's is. Not every station is in the users file,
//! so a session belongs to the user that began it as well: see [`Claim`]. Files are read again by
//! [`Directory::reload`]; if one of them is bad, none is taken and what was known still holds.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::attempts::{Attempt, Attempts};
use super::certificate::{self, Whose};
use super::files::{AuthConfig, Book, LoadError, Stamps};
use super::jwt::{Bearer, TokenError, looks_like_token};
use super::live::{All, Basis, Live, may_be_called};
use super::password::{Passwords, Verdict};
use super::role::{Projects, Role};
use super::{Authority, Claim, Credentials, Grant, Refusal};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What time it is: from outside, so that a test can say so.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Somebody with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: Arc<str>,
    /// The role.
    pub role: Role,
}

/// What a reload came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloaded {
    /// Users there are.
    pub users: usize,
    /// Clients that are no longer allowed, and are being disconnected.
    pub revoked: usize,
}

/// See the module.
pub struct Directory {
    config: AuthConfig,
    clock: WallClock,
    book: RwLock<Arc<Book>>,
    passwords: Passwords,
    attempts: Arc<Attempts>,
    live: Arc<All>,
    /// The files as they were when they were last read, well or badly.
    seen: Mutex<Stamps>,
    /// Why the files as they are now were not taken.
    fault: Mutex<Option<String>>,
}

/// Somebody who is let in, before what it may do is looked up.
struct Admitted {
    user: Option<Arc<str>>,
    role: Role,
    basis: Basis,
    expires_in: Option<Duration>,
}

impl Directory {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn open(config: AuthConfig, clock: WallClock) -> Result<Self, LoadError> {
        let seen = Stamps::take(&config);
        let book = Book::read(&config)?;
        Ok(Self {
            clock,
            book: RwLock::new(Arc::new(book)),
            passwords: Passwords::start()?,
            attempts: Arc::new(Attempts::new(config.attempts)),
            live: Arc::default(),
            seen: Mutex::new(seen),
            fault: Mutex::default(),
            config,
        })
    }

    /// The same, told by `projects` which stations are a project's. Without it nobody who watches one
    /// project gets any message.
    #[must_use]
    pub fn with_projects(self, projects: Projects) -> Self {
        let _first = self.live.projects.set(projects);
        self
    }

    /// Reads the files again, and disconnects who is no longer allowed. Blocks.
    ///
    /// # Errors
    /// When one of them cannot be used; nothing has changed then.
    pub fn reload(&self) -> Result<Reloaded, LoadError> {
        // One at a time. Taken before the files are read: what changes meanwhile is seen the next time.
        let mut seen = self.seen.lock();
        *seen = Stamps::take(&self.config);
        let book = match Book::read(&self.config) {
            Ok(book) => Arc::new(book),
            Err(error) => {
                tracing::error!(%error, "users and rights were not reloaded: the old ones hold");
                *self.fault.lock() = Some(error.to_string());
                return Err(error);
            }
        };
        *self.book.write() = Arc::clone(&book);
        *self.fault.lock() = None;
        self.passwords.keep(|name| book.users.get(name).is_some());
        let live = self.live.now();
        // Some have left, and their wills are still to come.
        let goes = |live: &&Arc<Live>| {
            !live.revoked.is_cancelled() && !live.look_up(&book, self.config.anonymous)
        };
        let revoked = live.iter().filter(goes).count();
        let users = book.users.iter().count();
        tracing::info!(users, revoked, "users and rights were reloaded");
        Ok(Reloaded { users, revoked })
    }

    /// Reloads whenever a file has changed, for ever.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let directory = Arc::clone(&self);
            let look = tokio::task::spawn_blocking(move || {
                let now = Stamps::take(&directory.config);
                if now != *directory.seen.lock() {
                    // Its error is logged and shown.
                    let _shown = directory.reload();
                }
            });
            // A look that panicked is followed by another one.
            let _died = look.await;
        }
    }

    /// Why the files as they are now are not in force, if they are not.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    /// Checks a user's name and password.
    ///
    /// # Errors
    /// When they are wrong, or not looked at.
    pub async fn password(
        &self,
        address: IpAddr,
        name: &str,
        password: &[u8],
    ) -> Result<Identity, Refusal> {
        let result = self.by_password(address, name, password).await;
        count(&result);
        result.map(|(identity, _)| identity)
    }

    /// Checks a token.
    ///
    /// # Errors
    /// When it is no good, or not looked at.
    pub fn token(&self, address: IpAddr, token: &str) -> Result<Identity, Refusal> {
        let result = self.by_token(address, token);
        count(&result);
        result.map(|bearer| Identity { name: bearer.name.into(), role: bearer.role })
    }

    /// Whether tokens are taken.
    #[must_use]
    pub const fn takes_tokens(&self) -> bool {
        self.config.jwt.is_some()
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read())
    }

    async fn by_password(
        &self,
        address: IpAddr,
        name: &str,
        password: &[u8],
    ) -> Result<(Identity, Basis), Refusal> {
        let attempt = Attempt::new(address, name);
        if !self.attempts.allows(&attempt, Instant::now()) {
            return Err(Refusal::TooManyAttempts);
        }
        let allowed = {
            let (attempts, attempt) = (Arc::clone(&self.attempts), attempt.clone());
            move || attempts.allows(&attempt, Instant::now())
        };
        let book = self.book();
        let user = book.users.get(name);
        match self.passwords.verify(user, password, allowed).await {
            Verdict::Right => {}
            Verdict::Busy => return Err(Refusal::Busy),
            Verdict::Refused => return Err(Refusal::TooManyAttempts),
            Verdict::Wrong => {
                self.attempts.failed(&attempt, Instant::now());
                return Err(Refusal::BadCredentials);
            }
        }
        let Some((name, user)) = user else { return Err(Refusal::BadCredentials) };
        let Some(hash) = user.hash.clone() else { return Err(Refusal::BadCredentials) };
        let identity = Identity { name: Arc::clone(name), role: user.role.clone() };
        Ok((identity, Basis::Password(hash)))
    }

    fn by_token(&self, address: IpAddr, token: &str) -> Result<Bearer, Refusal> {
        // Whose it would be cannot be known before it is verified.
        let attempt = Attempt::new(address, "");
        if !self.attempts.allows_address(&attempt, Instant::now()) {
            return Err(Refusal::TooManyAttempts);
        }
        let bearer = match &self.config.jwt {
            Some(config) => self.book().keys.verify(token, config, (self.clock)()),
            None => Err(TokenError::NoKey),
        };
        bearer.map_err(|error| {
            tracing::debug!(%address, %error, "a token is refused");
            self.attempts.failed(&attempt, Instant::now());
            Refusal::BadCredentials
        })
    }

    /// By the certificate; `None` if it is nobody's that we know.
    fn by_certificate(&self, der: &[u8]) -> Result<Option<Admitted>, Refusal> {
        let presented = certificate::read(der).map_err(|error| {
            tracing::warn!(%error, "a client is refused");
            Refusal::NotAuthorized
        })?;
        let not_after = u64::try_from(presented.not_after).unwrap_or(0);
        let now = (self.clock)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_secs(not_after).checked_sub(now);
        let expires_in = Some(left.ok_or(Refusal::NotAuthorized)?);
        Ok(match presented.whose {
            Whose::Station(scope) => Some(Admitted {
                user: Some(scope.station.as_str().into()),
                role: Role::Station(scope),
                basis: Basis::Urn,
                expires_in,
            }),
            Whose::Named(name) => self.book().users.get(&name).map(|(name, user)| Admitted {
                user: Some(Arc::clone(name)),
                role: user.role.clone(),
                basis: Basis::CommonName,
                expires_in,
            }),
            Whose::Nobody => None,
        })
    }

    async fn admit(&self, credentials: &Credentials<'_>) -> Result<Admitted, Refusal> {
        let address = credentials.peer.address.ip();
        let named = credentials.username.filter(|name| !name.is_empty());
        let same = |name: &str| named.is_none_or(|named| named == name);
        if let Some(der) = &credentials.peer.certificate {
            match self.by_certificate(der)? {
                Some(admitted) if admitted.user.as_deref().is_some_and(same) => {
                    return Ok(admitted);
                }
                Some(_) => return Err(Refusal::NotAuthorized),
                None => {}
            }
        }
        if let Some(token) = credentials.password.and_then(looks_like_token)
            && self.takes_tokens()
        {
            let bearer = self.by_token(address, token)?;
            if !same(&bearer.name) {
                return Err(Refusal::NotAuthorized);
            }
            return Ok(Admitted {
                user: Some(bearer.name.into()),
                role: bearer.role,
                basis: Basis::Token(bearer.key),
                expires_in: Some(bearer.expires_in),
            });
        }
        let checks = self.config.users_file.is_some() || self.takes_tokens();
        match (named, credentials.password) {
            (Some(name), Some(password)) if checks => {
                let (identity, basis) = self.by_password(address, name, password).await?;
                let Identity { name, role } = identity;
                Ok(Admitted { user: Some(name), role, basis, expires_in: None })
            }
            (named, password) if checks && (named.is_some() || password.is_some()) => {
                Err(Refusal::BadCredentials)
            }
            _ if self.config.anonymous => Ok(Admitted {
                user: None,
                role: Role::Anonymous,
                basis: Basis::Anonymous,
                expires_in: None,
            }),
            _ => Err(Refusal::NotAuthorized),
        }
    }
}

impl Directory {
    async fn grant(&self, credentials: &Credentials<'_>) -> Result<Grant, Refusal> {
        let Admitted { user, role, basis, expires_in } = self.admit(credentials).await?;
        if !may_be_called(credentials.client_id, &role, &self.book()) {
            return Err(Refusal::NotAuthorized);
        }
        let claim = match role {
            Role::Station(_) => Claim::Name,
            Role::Admin => Claim::Any,
            Role::Project(_) | Role::Operator | Role::Anonymous => Claim::Own,
        };
        let live = self.live.enter(credentials.client_id, user.clone(), basis, role);
        // After it has entered: a reload either finds it there or is found here.
        if !live.look_up(&self.book(), self.config.anonymous) {
            return Err(Refusal::NotAuthorized);
        }
        let revoked = live.revoked.clone();
        let expires = expires_in.and_then(|left| Instant::now().checked_add(left));
        Ok(Grant { user, claim, rights: live, expires, revoked })
    }
}

impl Authority for Directory {
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>> {
        Box::pin(async move {
            let result = self.grant(credentials).await;
            count(&result);
            result
        })
    }
}

fn count<T>(result: &Result<T, Refusal>) {
    let label = match result {
        Ok(_) => "accepted",
        Err(Refusal::BadCredentials) => "wrong",
        Err(Refusal::NotAuthorized) => "not_authorized",
        Err(Refusal::TooManyAttempts) => "limited",
        Err(Refusal::Busy) => "busy",
    };
    metrics::counter!("loushan_logins_total", "result" => label).increment(1);
}

#[cfg(test)]
mod tests;
