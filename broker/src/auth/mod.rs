//! Who may connect, publish and subscribe.
//!
//! Here is the seam: what a connection presents ([`Peer`], [`Credentials`]), who decides
//! ([`Authority`]) and what comes of it ([`Grant`], [`Rights`]). [`AllowAll`] lets in everybody;
//! [`Directory`] goes by users, certificates, tokens and rules.

mod acl;
mod attempts;
mod certificate;
mod directory;
mod files;
mod filter;
mod jwt;
mod live;
mod password;
mod role;
mod secret;
mod users;

pub use acl::AclError;
pub use attempts::AttemptLimits;
pub use certificate::STATION_URN;
pub use directory::{Directory, Identity, Reloaded, WallClock};
pub use files::{AuthConfig, LoadError};
pub use jwt::{JwtConfig, JwtKeys, KeysError};
pub use password::{HashError, MAX_PASSWORD, NoSecrets, PasswordError, PasswordHash};
pub use role::{Projects, Role, RoleName, StationScope, UnknownRole};
pub use secret::BearerToken;
pub use users::{User, UserError, Users, UsersError};

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a connection came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// MQTT on a socket.
    Tcp,
    /// MQTT in TLS.
    Tls,
    /// MQTT in WebSocket frames.
    WebSocket,
    /// MQTT in WebSocket frames in TLS.
    SecureWebSocket,
}

/// Who is at the other end, as far as the transport tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// What it came over.
    pub transport: Transport,
    /// The client's own certificate (DER), where TLS asked for one and has verified it.
    pub certificate: Option<Arc<[u8]>>,
}

impl Peer {
    /// A peer on a plain socket.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Tcp, certificate: None }
    }
}

/// What a CONNECT presents.
pub struct Credentials<'a> {
    /// Who is at the other end.
    pub peer: &'a Peer,
    /// The client id, the one given to it if it asked for one.
    pub client_id: &'a str,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
}

// By hand: a password is not to reach a log.
impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("peer", &self.peer)
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "…"))
            .finish()
    }
}

/// Why a CONNECT is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// User name or password are wrong.
    BadCredentials,
    /// They are right, and not for this.
    NotAuthorized,
    /// Too many attempts failed; another one is heard later.
    TooManyAttempts,
    /// Too many others wait for their passwords to be checked.
    Busy,
}

/// What a client that was let in may do, and for how long.
#[derive(Clone)]
pub struct Grant {
    /// The name it is known by, where it has one beside its client id. Its session is this user's.
    pub user: Option<Arc<str>>,
    /// Whose sessions it may have beside its user's.
    pub claim: Claim,
    /// What it may do.
    pub rights: Arc<dyn Rights>,
    /// When its credentials expire: it is disconnected then.
    pub expires: Option<Instant>,
    /// Cancelled when it is no longer allowed: it is disconnected at once.
    pub revoked: CancellationToken,
}

/// What a client may do about a session with its client id that is another user's. One that is
/// nobody's, left by an anonymous client, is anybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Claim {
    /// Nothing: it is refused.
    #[default]
    Own,
    /// Take it, as it is: an admin.
    Any,
    /// End it: a station, since nobody else has its name by right. What another put there is not
    /// for it.
    Name,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("user", &self.user)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What one client may do. Asked with every publish: cheap, never blocks. The answer may change while
/// the client is connected.
pub trait Rights: Send + Sync + 'static {
    /// Whether the client may publish to the topic.
    fn may_publish(&self, topic: &str) -> bool;

    /// Whether the client may subscribe to the filter: of a shared subscription, what is shared.
    fn may_subscribe(&self, filter: &str) -> bool;

    /// Whether a message to the topic may reach the client, which subscribed to it: by a filter wider
    /// than what it may have, or when it still might. Asked with every message.
    fn may_receive(&self, _topic: &str) -> bool {
        true
    }
}

/// Decides who is let in.
pub trait Authority: Send + Sync + 'static {
    /// Whether the client may connect, and what it may do then. May take its time: a password's hash
    /// is slow by design.
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>>;
}

/// Everybody may do everything: right for a loopback address and for nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authority for AllowAll {
    fn authenticate<'a>(
        &'a self,
        _: &'a Credentials<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>> {
        let grant = Grant {
            user: None,
            claim: Claim::Own,
            rights: Arc::new(Self),
            expires: None,
            revoked: CancellationToken::new(),
        };
        Box::pin(std::future::ready(Ok(grant)))
    }
}

impl Rights for AllowAll {
    fn may_publish(&self, _: &str) -> bool {
        true
    }

    fn may_subscribe(&self, _: &str) -> bool {
        true
    }
}
