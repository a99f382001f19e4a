//! From the accepted socket to CONNACK, and from the connection's end to the session's.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::Instant;

use super::{Connection, FAREWELL, KeepAlive, READ_SMALL};
use crate::auth::{Credentials, Grant, Peer, Refusal};
use crate::broker::Shared;
use crate::link::{Client, End, Link};
use crate::registry::Attached;
use crate::will::{PendingWill, Publication};
use crate::wire::decode::Decoder;
use crate::wire::encode::{self, ConnAck};
use crate::wire::reason::Reason;
use crate::wire::{Connect, Packet, Version, Will, WireError};

/// A session that never expires, in v5's words; and what 3.1.1 means by not starting clean.
const NEVER: u32 = u32::MAX;

/// Serves one connection to its end, and follows its tickets to theirs.
pub(crate) async fn serve<S>(shared: Arc<Shared>, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    shared.metrics.connections.increment(1.0);
    let link = connected(&shared, stream, &peer).await;
    shared.metrics.connections.decrement(1.0);
    // The connection is over; its tickets may not be.
    if let Some(Ended { mut link, finish, will }) = link {
        let settle = async {
            link.settle(finish).await;
            if let Some(will) = will {
                will.finish(&shared).await;
            }
        };
        tokio::select! {
            () = settle => {}
            () = shared.abandon.cancelled() => shared.report_pending(link.pending()),
        }
    }
}

/// What a connection leaves.
struct Ended {
    link: Link,
    /// What was read and not offered is still to be.
    finish: bool,
    will: Option<Publication>,
}

/// The connection itself.
async fn connected<S>(shared: &Arc<Shared>, stream: S, peer: &Peer) -> Option<Ended>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut read, mut write) = split(stream);
    let mut decoder = Decoder::new(shared.config.max_packet_bytes);
    let mut input = BytesMut::with_capacity(READ_SMALL);
    let first = async {
        tokio::select! {
            first = first_packet(&mut decoder, &mut read, &mut input) => first,
            () = shared.stop.cancelled() => Err(End::Shutdown),
        }
    };
    let mut connect = match tokio::time::timeout(shared.config.connect_timeout, first).await {
        Ok(Ok(connect)) => connect,
        Ok(Err(end)) => {
            shared.metrics.connect("invalid");
            tracing::debug!(peer = %peer.address, reason = %end, "no connection came of a socket");
            // A client that speaks neither version is answered in the nearer one [MQTT-3.1.2-2].
            match end {
                End::Invalid(WireError { reason: reason @ Reason::TOO_OLD, .. }) => {
                    refuse(&mut write, Version::V311, reason).await;
                }
                End::Invalid(WireError {
                    reason: reason @ Reason::UNSUPPORTED_VERSION, ..
                }) => {
                    refuse(&mut write, Version::V5, reason).await;
                }
                _ => {}
            }
            return None;
        }
        Err(_) => {
            shared.metrics.connect("timeout");
            return None;
        }
    };
    let version = connect.version;
    let (client_id, assigned) = if connect.client_id.is_empty() {
        (shared.assign_client_id(), true)
    } else {
        (connect.client_id.clone(), false)
    };
    let admit = admit(shared, &connect, &client_id, peer);
    let admitted = tokio::time::timeout(shared.config.connect_timeout, admit).await;
    let grant = match admitted.unwrap_or(Err(Reason::SERVER_BUSY)) {
        Ok(grant) => grant,
        Err(reason) => {
            shared.metrics.connect("refused");
            tracing::info!(peer = %peer.address, client = %client_id, code = reason.0,
                "connection refused");
            refuse(&mut write, version, reason).await;
            return None;
        }
    };
    let attach = shared.registry.attach(&client_id, connect.clean);
    let Ok(mut attached) = tokio::time::timeout(shared.config.connect_timeout, attach).await else {
        shared.metrics.connect("refused");
        refuse(&mut write, version, Reason::SERVER_UNAVAILABLE).await;
        return None;
    };
    shared.metrics.connect("accepted");
    shared.began(&mut attached);
    let max_expiry = u32::try_from(shared.config.max_session_expiry.as_secs()).unwrap_or(NEVER);
    let expiry = match version {
        Version::V311 if connect.clean => 0,
        Version::V311 => max_expiry,
        Version::V5 => connect.session_expiry.unwrap_or(0).min(max_expiry),
    };
    shared.keep(&attached.session, expiry);
    let mut out = BytesMut::new();
    encode::connack(
        &mut out,
        version,
        &ConnAck {
            session_present: attached.present,
            session_expiry: connect.session_expiry.filter(|e| *e != expiry).map(|_| expiry),
            assigned_client_id: assigned.then_some(&*client_id),
            receive_maximum: shared.config.max_in_flight,
            max_packet: u32::try_from(shared.config.max_packet_bytes).unwrap_or(u32::MAX),
        },
    );
    let client = Client {
        id: client_id,
        version,
        receive_maximum: connect.receive_maximum,
        max_packet: connect.max_packet,
        problem_information: connect.problem_information,
        session_outlives: connect.session_expiry.is_some_and(|expiry| expiry > 0),
    };
    let mut connection = Connection {
        shared: Arc::clone(shared),
        read,
        write,
        decoder,
        input,
        read_size: READ_SMALL,
        out,
        revoked: grant.revoked.clone(),
        expires: grant.expires,
        link: Link::new(Arc::clone(shared), client, grant.rights.clone(), attached.session.clone()),
        version,
        kick: attached.kick.clone(),
        stop: shared.stop.child_token(),
        keep_alive: KeepAlive::new(connect.keep_alive),
        stalled_since: None,
        timer: Box::pin(tokio::time::sleep(Duration::from_secs(3600))),
        drain_until: None,
    };
    let end = connection.run().await;
    let expiry = connection.link.expiry_changed().unwrap_or(expiry);
    let may_publish = |topic: &str| grant.rights.may_publish(topic);
    let will = connect.will.take().filter(|will| may_publish(&will.topic));
    let will = ended(shared, &attached, will, &end, expiry.min(max_expiry));
    connection.farewell(&end).await;
    let finish = matches!(end, End::Client { .. } | End::Shutdown);
    Some(Ended { link: connection.link, finish, will })
}

/// The session is let go and the will is published or kept: before the last words to the client, so
/// that nobody waits for one that does not listen.
fn ended(
    shared: &Arc<Shared>,
    attached: &Attached,
    will: Option<Will>,
    end: &End,
    expiry: u32,
) -> Option<Publication> {
    let id = &attached.session.client_id;
    shared.metrics.disconnect(end.label());
    match end {
        End::Client { .. } | End::Closed | End::Shutdown => {
            tracing::debug!(client = %id, reason = %end, "connection ended");
        }
        _ => tracing::info!(client = %id, reason = %end, "connection ended"),
    }
    let will = will.filter(|_| end.publishes_will()).map(|will| {
        let delay = Duration::from_secs(will.delay.min(expiry).into());
        PendingWill { client_id: id.clone(), due: Instant::now() + delay, will }
    });
    let (now, later) = match will {
        Some(will) if will.will.delay == 0 || expiry == 0 => (Some(will), None),
        other => (None, other),
    };
    let expiry = Duration::from_secs(expiry.into());
    shared.finished(&attached.session);
    // Before the session is let go: a connection that takes it over publishes later.
    let begun = now.map(|will| Publication::begin(shared, will));
    shared.detached(shared.registry.detach(attached, expiry, later));
    begun
}

async fn first_packet<S: AsyncRead>(
    decoder: &mut Decoder,
    read: &mut ReadHalf<S>,
    input: &mut BytesMut,
) -> Result<Box<Connect>, End> {
    loop {
        match decoder.next(input)? {
            Some(Packet::Connect(connect)) => return Ok(connect),
            // The decoder lets nothing else be first; said here for the compiler.
            Some(_) => return Err(WireError::protocol("the first packet is not CONNECT").into()),
            None => {}
        }
        input.reserve(READ_SMALL);
        if read.read_buf(input).await? == 0 {
            return Err(End::Closed);
        }
    }
}

/// Whether a well-formed CONNECT is let in.
async fn admit(
    shared: &Shared,
    connect: &Connect,
    client_id: &str,
    peer: &Peer,
) -> Result<Grant, Reason> {
    if connect.authentication_method {
        return Err(Reason::BAD_AUTHENTICATION_METHOD);
    }
    // 3.1.1: no client id and a session to keep contradict each other [MQTT-3.1.3-8].
    if connect.version == Version::V311 && connect.client_id.is_empty() && !connect.clean {
        return Err(Reason::CLIENT_ID_NOT_VALID);
    }
    let credentials = Credentials {
        peer,
        client_id,
        username: connect.username.as_deref(),
        password: connect.password.as_deref(),
    };
    let grant =
        shared.authority.authenticate(&credentials).await.map_err(|refusal| match refusal {
            Refusal::BadCredentials => Reason::BAD_CREDENTIALS,
            Refusal::NotAuthorized => Reason::NOT_AUTHORIZED,
            Refusal::TooManyAttempts => Reason::CONNECTION_RATE_EXCEEDED,
        })?;
    match &connect.will {
        Some(will) if !grant.rights.may_publish(&will.topic) => Err(Reason::NOT_AUTHORIZED),
        _ => Ok(grant),
    }
}

async fn refuse<S: AsyncWrite>(write: &mut WriteHalf<S>, version: Version, reason: Reason) {
    let mut out = BytesMut::new();
    encode::connack_refused(&mut out, version, reason);
    let last_words = async {
        write.write_all(&out).await?;
        write.shutdown().await
    };
    // Nobody is left to tell that the client did not listen.
    let _unheard = tokio::time::timeout(FAREWELL, last_words).await;
}
