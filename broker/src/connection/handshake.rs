//! From the accepted socket to CONNACK, and from the connection's end to the session's.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::io::{self, Held, Output, UNCOUNTED};
use super::{Connection, FAREWELL, KeepAlive};
use crate::auth::{Credentials, Grant, Peer, Refusal, Rights};
use crate::broker::Shared;
use crate::link::{Client, End, Link};
use crate::listen::Stream;
use crate::registry::{Attached, Comer, Foreign};
use crate::topic;
use crate::will::{self, PendingWill, Publication, Room};
use crate::wire::decode::{Decoder, is_connect_v5};
use crate::wire::encode::{self, ConnAck};
use crate::wire::reason::Reason;
use crate::wire::{Connect, Packet, Version, Will, WireError};

/// A session that never expires, in v5's words; and what 3.1.1 means by not starting clean.
const NEVER: u32 = u32::MAX;

/// Serves one connection to its end, and follows its tickets to theirs.
pub(crate) async fn serve<S: Stream>(shared: Arc<Shared>, stream: S, peer: Peer) {
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
async fn connected<S: Stream>(shared: &Arc<Shared>, mut stream: S, peer: &Peer) -> Option<Ended> {
    let mut held = Held::new(Arc::clone(shared));
    let mut decoder = Decoder::new(shared.config.max_packet_bytes);
    let mut input = BytesMut::new();
    let mut speaks_v5 = false;
    let first = async {
        let read = (&mut input, &mut held);
        tokio::select! {
            first = first_packet(&mut decoder, &mut stream, read, &mut speaks_v5) => first,
            () = shared.stop.cancelled() => Err(End::Shutdown),
        }
    };
    let mut connect = match tokio::time::timeout(shared.config.connect_timeout, first).await {
        Ok(Ok(connect)) => connect,
        Ok(Err(end)) => {
            shared.metrics.connect("invalid");
            tracing::debug!(peer = %peer.address, reason = %end, "no connection came of a socket");
            // A client that speaks neither version is answered in the nearer one [MQTT-3.1.2-2], one
            // that speaks MQTT 5 is told what is wrong [MQTT-4.13.1-1]; 3.1.1 says to close only.
            let version = match end {
                End::Invalid(WireError { reason: Reason::TOO_OLD, .. }) => Some(Version::V311),
                End::Invalid(WireError { reason: Reason::UNSUPPORTED_VERSION, .. }) => {
                    Some(Version::V5)
                }
                _ => speaks_v5.then_some(Version::V5),
            };
            if let (Some(version), Some(reason)) = (version, end.reason()) {
                refuse(&mut stream, version, None, (reason, &end.said())).await;
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
    let busy = Err((Reason::SERVER_BUSY, "the broker had no time to check the credentials"));
    let max_packet = connect.max_packet;
    let told = |(reason, why): (Reason, &'static str)| {
        shared.metrics.connect("refused");
        tracing::info!(peer = %peer.address, client = %client_id, code = reason.0, why,
            "connection refused");
        (reason, why)
    };
    let (grant, room) = match admitted.unwrap_or(busy) {
        Ok(admitted) => admitted,
        Err(why) => {
            refuse(&mut stream, version, max_packet, told(why)).await;
            return None;
        }
    };
    let max_expiry = u32::try_from(shared.config.max_session_expiry.as_secs()).unwrap_or(NEVER);
    let expiry = match version {
        Version::V311 if connect.clean => 0,
        Version::V311 => max_expiry,
        Version::V5 => connect.session_expiry.unwrap_or(0).min(max_expiry),
    };
    let keep_alive = keep_alive(shared, &connect);
    let response_information = response_information(&connect, &client_id, &grant);
    let connack = ConnAck {
        session_present: false,
        session_expiry: connect.session_expiry.filter(|e| *e != expiry).map(|_| expiry),
        assigned_client_id: assigned.then_some(&*client_id),
        receive_maximum: shared.config.max_in_flight,
        max_packet: u32::try_from(shared.config.max_packet_bytes).unwrap_or(u32::MAX),
        keep_alive: Some(keep_alive).filter(|given| *given != connect.keep_alive),
        response_information: response_information.as_deref(),
    };
    let mut out = BytesMut::new();
    encode::connack(&mut out, version, &connack);
    if out.len() > limit(max_packet) {
        let why = (Reason::PACKET_TOO_LARGE, "no CONNACK is as short as the client's maximum");
        refuse(&mut stream, version, max_packet, told(why)).await;
        return None;
    }
    let comer = Comer { user: grant.user.as_ref(), claim: grant.claim };
    let attach = shared.registry.attach(&client_id, comer, connect.clean);
    let attached = match tokio::time::timeout(shared.config.connect_timeout, attach).await {
        Ok(Ok(attached)) => Ok(attached),
        Ok(Err(Foreign)) => {
            Err((Reason::CLIENT_ID_NOT_VALID, "another user has a session with this client id"))
        }
        Err(_) => Err((
            Reason::SERVER_UNAVAILABLE,
            "another connection has this client id and does not let it go",
        )),
    };
    let mut attached = match attached {
        Ok(attached) => attached,
        Err(why) => {
            refuse(&mut stream, version, max_packet, told(why)).await;
            return None;
        }
    };
    shared.metrics.connect("accepted");
    shared.began(&mut attached);
    shared.keep(&attached, expiry);
    out.clear();
    encode::connack(&mut out, version, &ConnAck { session_present: attached.present, ..connack });
    let client = Client {
        id: client_id,
        version,
        receive_maximum: connect.receive_maximum,
        max_packet,
        topic_alias_maximum: connect.topic_alias_maximum,
        problem_information: connect.problem_information,
        session_outlives: connect.session_expiry.is_some_and(|expiry| expiry > 0),
    };
    let will = connect.will.take().zip(room).map(|(will, room)| (will::detached(will), room));
    // Its password is of no more use, and what is kept of it would keep all of it.
    drop(connect);
    let mut connection = Connection {
        shared: Arc::clone(shared),
        stream,
        decoder,
        input,
        out: Output::from(out),
        held,
        pace: shared.debts.resume(&attached.session.client_id, &shared.config),
        revoked: grant.revoked.clone(),
        expires: grant.expires,
        link: Link::new(Arc::clone(shared), client, grant.rights.clone(), attached.session.clone()),
        kick: attached.kick.clone(),
        stop: shared.stop.child_token(),
        keep_alive: KeepAlive::new(keep_alive),
        stalled_since: None,
        starved_since: None,
        slowed: false,
        grace_from: std::time::Instant::now(),
        timer: Box::pin(tokio::time::sleep(Duration::from_secs(3600))),
        drain_until: None,
    };
    let end = connection.run().await;
    connection.link.give_parcels_back();
    let expiry = connection.link.expiry_changed().unwrap_or(expiry);
    let may_publish = |topic: &str| grant.rights.may_publish(topic);
    let will = will.filter(|(will, _)| may_publish(&will.topic));
    let will = will.map(|(will, room)| (will, room, Arc::clone(&grant.rights)));
    // Before the session is let go: the client's next connection begins with them.
    shared.debts.leave(&attached.session.client_id, &connection.pace);
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
    will: Option<(Will, Room, Arc<dyn Rights>)>,
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
    let will = will.filter(|_| end.publishes_will()).map(|(will, room, rights)| {
        let due = Instant::now() + Duration::from_secs(will.delay.min(expiry).into());
        PendingWill { client_id: id.clone(), due, will, room, rights: Some(rights) }
    });
    let (now, later) = match will {
        Some(will) if will.will.delay == 0 || expiry == 0 => (Some(will), None),
        other => (None, other),
    };
    let expiry = Duration::from_secs(expiry.into());
    shared.finished(&attached.session);
    // Before the session is let go: a connection that takes it over publishes later.
    let begun = now.and_then(|will| Publication::begin(shared, will));
    shared.detached(shared.registry.detach(attached, expiry, later));
    begun
}

async fn first_packet<S: Stream>(
    decoder: &mut Decoder,
    stream: &mut S,
    (input, held): (&mut BytesMut, &mut Held),
    speaks_v5: &mut bool,
) -> Result<Box<Connect>, End> {
    loop {
        *speaks_v5 = is_connect_v5(input);
        match decoder.next(input)? {
            Some(Packet::Connect(connect)) => return Ok(connect),
            // The decoder lets nothing else be first; said here for the compiler.
            Some(_) => return Err(WireError::protocol("the first packet is not CONNECT").into()),
            None => {}
        }
        held.set([input.len(), 0, stream.buffered()]);
        if held.is_full(input.len()) {
            return Err(End::NoMemory);
        }
        if io::read(stream, input, UNCOUNTED).await? == 0 {
            return Err(End::Closed);
        }
    }
}

/// The keep-alive that holds, in seconds [MQTT-3.1.2-21]. Only MQTT 5 can be told another one.
fn keep_alive(shared: &Shared, connect: &Connect) -> u16 {
    let asked = connect.keep_alive;
    let max = u16::try_from(shared.config.max_keep_alive.as_secs()).unwrap_or(u16::MAX);
    let too_long = max > 0 && (asked == 0 || asked > max);
    if connect.version == Version::V5 && too_long { max } else { asked }
}

/// What topics for responses to this client begin with, if it asks, and may subscribe to them.
fn response_information(connect: &Connect, client_id: &str, grant: &Grant) -> Option<String> {
    // A client id with a `/` would share its topics with others, one with a wildcard would be none.
    if !connect.response_information || client_id.contains(['/', '+', '#']) {
        return None;
    }
    let prefix = format!("responses/{client_id}/");
    grant.rights.may_subscribe(&format!("{prefix}#")).then_some(prefix)
}

/// Whether a well-formed CONNECT is let in.
async fn admit(
    shared: &Shared,
    connect: &Connect,
    client_id: &str,
    peer: &Peer,
) -> Result<(Grant, Option<Room>), (Reason, &'static str)> {
    if connect.authentication_method {
        let why = "there are no authentication methods here, only user names and passwords";
        return Err((Reason::BAD_AUTHENTICATION_METHOD, why));
    }
    // 3.1.1: no client id and a session to keep contradict each other [MQTT-3.1.3-8].
    if connect.version == Version::V311 && connect.client_id.is_empty() && !connect.clean {
        let why = "a session to be kept needs a client id";
        return Err((Reason::CLIENT_ID_NOT_VALID, why));
    }
    if client_id.len() > shared.config.max_topic_bytes {
        return Err((Reason::CLIENT_ID_NOT_VALID, "a client id of more than max_topic_bytes"));
    }
    let credentials = Credentials {
        peer,
        client_id,
        username: connect.username.as_deref(),
        password: connect.password.as_deref(),
    };
    let grant =
        shared.authority.authenticate(&credentials).await.map_err(|refusal| match refusal {
            Refusal::BadCredentials => (Reason::BAD_CREDENTIALS, "user name or password is wrong"),
            Refusal::NotAuthorized => (Reason::NOT_AUTHORIZED, "the client may not connect"),
            Refusal::TooManyAttempts => {
                (Reason::CONNECTION_RATE_EXCEEDED, "too many attempts have failed: try later")
            }
            Refusal::Busy => {
                (Reason::SERVER_BUSY, "too many others wait for their passwords to be checked")
            }
        })?;
    let Some(will) = &connect.will else { return Ok((grant, None)) };
    if !shared.config.topic_limits().allow(&will.topic) {
        shared.metrics.topics_refused.increment(1);
        let why = "the will's topic is longer or deeper than this broker takes";
        return Err((Reason::TOPIC_NAME_INVALID, why));
    }
    if topic::is_brokers_own(&will.topic) || !grant.rights.may_publish(&will.topic) {
        return Err((Reason::NOT_AUTHORIZED, "the client may not publish to its will's topic"));
    }
    let Some(room) = Room::find(&shared.wills, will) else {
        shared.metrics.wills_refused.increment(1);
        return Err((Reason::QUOTA_EXCEEDED, "total_will_bytes are in use"));
    };
    Ok((grant, Some(room)))
}

/// The longest packet that the client takes.
fn limit(max_packet: Option<u32>) -> usize {
    max_packet.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX)
}

/// Writes a refusing CONNACK: without words, or not at all, if the client takes no packet so long.
async fn refuse<S: AsyncWrite + Unpin>(
    stream: &mut S,
    version: Version,
    max_packet: Option<u32>,
    (reason, why): (Reason, &str),
) {
    let mut out = BytesMut::new();
    for said in [Some(why), None] {
        out.clear();
        encode::connack_refused(&mut out, version, reason, said);
        if out.len() <= limit(max_packet) {
            break;
        }
        out.clear();
    }
    let last_words = async {
        stream.write_all(&out).await?;
        stream.shutdown().await
    };
    // Nobody is left to tell that the client did not listen.
    let _unheard = tokio::time::timeout(FAREWELL, last_words).await;
}
