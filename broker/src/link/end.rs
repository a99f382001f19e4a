//! How connections end.

use std::borrow::Cow;
use std::io;

use crate::wire::WireError;
use crate::wire::reason::Reason;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The client said DISCONNECT; `will` if it wants its will published all the same.
    #[error("the client disconnected")]
    Client { will: bool },
    /// The client closed its socket without a word.
    #[error("the client closed the connection without DISCONNECT")]
    Closed,
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The client sent what it must not.
    #[error("the client broke the protocol: {0}")]
    Invalid(#[from] WireError),
    #[error("nothing was heard from the client for 1.5 times its keep-alive")]
    KeepAlive,
    #[error("the client took nothing of what was written to it for write_timeout")]
    WriteTimeout,
    #[error("the client does not acknowledge its messages: subscriber_queue_bytes are waiting")]
    SlowSubscriber,
    #[error(
        "total_buffer_bytes were in use for too long while the client had sent part of a packet"
    )]
    NoMemory,
    #[error("the client is no longer allowed to be connected")]
    Revoked,
    #[error("the client's credentials have expired")]
    Expired,
    #[error("another connection came with the same client id")]
    TakenOver,
    /// A v5 PUBACK with an error code would count as acknowledged: only the end of the connection
    /// makes every client send again.
    #[error("a publish could not be made durable")]
    TicketFailed,
    #[error("the broker shuts down")]
    Shutdown,
}

impl End {
    pub(crate) const fn invalid(what: &'static str, reason: Reason) -> Self {
        Self::Invalid(WireError { reason, what })
    }

    /// What a v5 client is told, if it can be told anything.
    pub(crate) const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Client { .. } | Self::Closed | Self::Socket(_) | Self::WriteTimeout => None,
            Self::Invalid(error) => Some(error.reason),
            Self::KeepAlive => Some(Reason::KEEP_ALIVE_TIMEOUT),
            Self::SlowSubscriber => Some(Reason::QUOTA_EXCEEDED),
            Self::NoMemory => Some(Reason::SERVER_BUSY),
            Self::Revoked => Some(Reason::NOT_AUTHORIZED),
            Self::Expired => Some(Reason::MAXIMUM_CONNECT_TIME),
            Self::TakenOver => Some(Reason::SESSION_TAKEN_OVER),
            // Not "server unavailable", which only CONNACK may say [MQTT-3.14.2-1].
            Self::TicketFailed => Some(Reason::IMPLEMENTATION_SPECIFIC_ERROR),
            Self::Shutdown => Some(Reason::SERVER_SHUTTING_DOWN),
        }
    }

    /// The same for a person.
    pub(crate) fn said(&self) -> Cow<'static, str> {
        match self {
            Self::Invalid(error) => error.what.into(),
            other => other.to_string().into(),
        }
    }

    /// Whether the client's will is to be published. Not when we are the cause: its station is well.
    pub(crate) const fn publishes_will(&self) -> bool {
        match self {
            Self::Client { will } => *will,
            Self::Shutdown | Self::TicketFailed | Self::NoMemory => false,
            _ => true,
        }
    }

    /// The metric's label.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Client { .. } => "client",
            Self::Closed => "closed",
            Self::Socket(_) => "socket",
            Self::Invalid(_) => "invalid",
            Self::KeepAlive => "keep_alive",
            Self::WriteTimeout => "write_timeout",
            Self::SlowSubscriber => "slow_subscriber",
            Self::NoMemory => "memory",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::TakenOver => "taken_over",
            Self::TicketFailed => "ticket_failed",
            Self::Shutdown => "shutdown",
        }
    }
}
