//! Who may connect, publish and subscribe: the seam, and the answer for a loopback address.

use std::fmt;
use std::net::SocketAddr;

/// What a CONNECT presents.
pub struct Credentials<'a> {
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// The client id; empty when the client asks to be given one.
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
}

/// Decides who may do what. Called on connections' own tasks: never blocks.
pub trait Authority: Send + Sync + 'static {
    /// Whether the client may connect.
    ///
    /// # Errors
    /// The refusal that the client is told.
    fn connect(&self, credentials: &Credentials<'_>) -> Result<(), Refusal>;

    /// Whether the client may publish to the topic.
    fn may_publish(&self, client_id: &str, topic: &str) -> bool;

    /// Whether the client may subscribe to the filter.
    fn may_subscribe(&self, client_id: &str, filter: &str) -> bool;
}

/// Everybody may do everything: right for a loopback address and for nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authority for AllowAll {
    fn connect(&self, _: &Credentials<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn may_publish(&self, _: &str, _: &str) -> bool {
        true
    }

    fn may_subscribe(&self, _: &str, _: &str) -> bool {
        true
    }
}
