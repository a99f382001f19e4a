//! A connection's state machine, without its socket: what goes to the handler, in which order
//! acknowledgements leave, and when the socket must not be read.
//!
//! Life of a claimed PUBLISH: taken (its bytes count as in flight) → offered to the handler with a
//! ticket, or held while the handler is busy → ticket resolved → it reaches the head of its lane →
//! acknowledged, then fanned out. Never done: an acknowledgement before the ticket said durable, one
//! at or behind a failed ticket, one out of PUBLISH order within a lane.

mod aliases;
mod denied;
mod end;
mod publish;
mod subscriber;

pub(crate) use end::End;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use self::aliases::Aliases;
use self::denied::{Denials, Refused};
use crate::ack::{AckQueue, LANES, index};
use crate::auth::Rights;
use crate::broker::Shared;
use crate::handler::{AckOutcome, Busy, QoS};
use crate::message::Message;
use crate::parcel::Receipt;
use crate::session::Session;
use crate::subscriptions::Match;
use crate::sys::Tally;
use crate::wire::encode::{self, AckKind};
use crate::wire::reason::Reason;
use crate::wire::{self, Packet, Version};

/// How soon a link that waits for the router's congestion to end looks again.
const CONGESTION: Duration = Duration::from_millis(10);

/// SUBACKs and UNSUBACKs of one connection that may wait for the database, in bytes: each has a byte for
/// each of the filters, which may be a quarter of a million.
const MAX_DEFERRED: usize = 16 * 1024;

/// Who is connected.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) id: Arc<str>,
    pub(crate) version: Version,
    pub(crate) receive_maximum: u16,
    pub(crate) max_packet: Option<u32>,
    /// Topic aliases that it takes.
    pub(crate) topic_alias_maximum: u16,
    pub(crate) problem_information: bool,
    /// CONNECT asked for a session that outlives its connection: only then may DISCONNECT say for
    /// how long [3.14.2.2.2].
    pub(crate) session_outlives: bool,
}

/// A publish whose ticket has no outcome yet, or whose outcome has to wait its turn.
#[derive(Debug)]
struct Pending {
    id: u16,
    qos: QoS,
    received: Instant,
    bytes: usize,
    /// What subscribers get once it is durable; unclaimed publishes went to them already.
    message: Option<Message>,
    /// It is not taken: it waits for its turn, and is answered so then.
    refused: Option<Refused>,
}

/// See the module.
pub(crate) struct Link {
    shared: Arc<Shared>,
    client: Client,
    rights: Arc<dyn Rights>,
    session: Arc<Session>,
    acks: Arc<AckQueue>,
    lanes: [VecDeque<Pending>; 2],
    /// Lanes with a failed ticket: nothing in them is acknowledged any more.
    failed: [bool; 2],
    /// QoS 2 ids that wait for durability: their repetition is not a second publish.
    undecided: HashSet<u16>,
    /// QoS 1 and 2 publishes that count against the receive maximum: without PUBACK or PUBREL.
    unacknowledged: usize,
    /// Bytes of `lanes` and `held`, each taken from the common budget.
    bytes: usize,
    /// What the handler had no room for, and what came behind it.
    busy: Option<Busy>,
    held: VecDeque<wire::Publish>,
    outcomes: Vec<AckOutcome>,
    expiry_changed: Option<u32>,
    aliases: Aliases,
    /// What went over the connection since [`Link::count_traffic`].
    pub(crate) tally: Tally,
    /// The connection is gone; its tickets may not be.
    over: bool,
    /// Something was subscribed or unsubscribed.
    subscribes: bool,
    /// SUBACKs and UNSUBACKs that wait until the database has what they say.
    deferred: VecDeque<(u64, BytesMut)>,
    denials: Denials,
    /// Of parcels that the client was not sent, or refused: they wait for its next connection.
    kept_back: Vec<Arc<Receipt>>,
}

impl Link {
    pub(crate) fn new(
        shared: Arc<Shared>,
        client: Client,
        rights: Arc<dyn Rights>,
        session: Arc<Session>,
    ) -> Self {
        session.lock().receive_maximum = client.receive_maximum.into();
        Self {
            aliases: Aliases::new(client.topic_alias_maximum),
            shared,
            client,
            rights,
            session,
            acks: Arc::default(),
            lanes: Default::default(),
            failed: [false; 2],
            undecided: HashSet::new(),
            unacknowledged: 0,
            bytes: 0,
            busy: None,
            held: VecDeque::new(),
            outcomes: Vec::new(),
            expiry_changed: None,
            tally: Tally::default(),
            over: false,
            subscribes: false,
            deferred: VecDeque::new(),
            denials: Denials::default(),
            kept_back: Vec::new(),
        }
    }

    /// The tickets of this connection; its `wake` says that [`Link::acknowledge`] has work.
    pub(crate) fn acks(&self) -> &Arc<AckQueue> {
        &self.acks
    }

    /// Its `wake` says that [`Link::send_messages`] has work.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The session expiry that DISCONNECT set anew.
    pub(crate) fn expiry_changed(&self) -> Option<u32> {
        self.expiry_changed
    }

    /// Publishes that were taken and have no outcome.
    pub(crate) fn pending(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum::<usize>() + self.held.len()
    }

    /// Whether the socket must not be read because of us: its keep-alive timer then stands still.
    pub(crate) fn is_paused(&self) -> bool {
        self.busy.is_some()
            || self.is_full()
            || self.shared.in_flight.is_full()
            || self.deferred.iter().map(|(_, answer)| answer.len()).sum::<usize>() >= MAX_DEFERRED
            || self.subscribes && self.shared.router.is_congested()
    }

    /// Whether the bounds of this connection alone are reached; its own acknowledgements end that.
    fn is_full(&self) -> bool {
        let config = &self.shared.config;
        // One more of a v5 client, so that what passes its receive maximum is seen and refused.
        let beyond = usize::from(self.client.version == Version::V5);
        let bound = usize::from(config.max_in_flight) + beyond;
        self.bytes >= config.max_in_flight_bytes
            || self.lanes.iter().map(VecDeque::len).sum::<usize>() >= bound
    }

    /// Resolves when it is worth looking at a paused link again; never while only its own
    /// acknowledgements can help. Cancel-safe.
    pub(crate) async fn unpaused(&self) {
        if self.busy.is_some() {
            self.shared.handler.ready().await;
        } else if self.shared.in_flight.is_full() && !self.is_full() {
            self.shared.in_flight.available().await;
        } else if !self.is_full() {
            tokio::time::sleep(CONGESTION).await;
        } else {
            std::future::pending().await
        }
    }

    /// Whether subscribers get this packet's message as soon as it is taken, for no log is asked first.
    pub(crate) fn shows_at_once(&self, packet: &Packet) -> bool {
        matches!(packet, Packet::Publish(publish) if self.shared.handler.claims(&publish.topic).is_none())
    }

    /// Whether no session but this one would get this packet's message now, as far as its topic is known
    /// before its alias is looked up.
    pub(crate) fn is_for_nobody_else(&self, packet: &Packet) -> bool {
        let Packet::Publish(publish) = packet else { return false };
        let mut nobody = !publish.topic.is_empty();
        self.shared.subscriptions.visit(&publish.topic, |found| {
            nobody &=
                matches!(found, Match::One(session, _) if Arc::ptr_eq(session, &self.session));
        });
        nobody
    }

    /// Takes a packet; what it is answered at once is appended to `out`.
    ///
    /// # Errors
    /// The connection ends.
    pub(crate) fn packet(
        &mut self,
        packet: Packet,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<(), End> {
        match packet {
            Packet::Connect(_) => Err(End::invalid("a second CONNECT", Reason::PROTOCOL_ERROR)),
            Packet::Publish(publish) => self.publish(publish, now, out),
            Packet::PubRel(ack) => {
                let known = self.session.lock().received.remove(&ack.id);
                self.unacknowledged = self.unacknowledged.saturating_sub(known.into());
                self.answer(AckKind::Complete, ack.id, known, out);
                Ok(())
            }
            Packet::PingReq => {
                encode::pingresp(out);
                Ok(())
            }
            Packet::Disconnect(disconnect) => {
                if let Some(expiry) = disconnect.session_expiry {
                    if expiry > 0 && !self.client.session_outlives {
                        return Err(End::invalid(
                            "a session expiry in DISCONNECT that CONNECT did not have",
                            Reason::PROTOCOL_ERROR,
                        ));
                    }
                    self.expiry_changed = Some(expiry);
                }
                // Any code but that of a normal disconnection leaves the will [MQTT-3.1.2-10].
                Err(End::Client { will: disconnect.reason != Reason::SUCCESS })
            }
            Packet::Subscribe(subscribe) => {
                self.subscribe(subscribe, out);
                Ok(())
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.unsubscribe(&unsubscribe, out);
                Ok(())
            }
            Packet::PubAck(ack) => {
                self.client_acknowledged(ack);
                Ok(())
            }
            Packet::PubComp(ack) => {
                self.session.acknowledged(ack.id);
                Ok(())
            }
            Packet::PubRec(ack) => {
                self.client_received(ack, out);
                Ok(())
            }
        }
    }

    /// PUBREL or PUBCOMP, which say whether the packet id was known.
    fn answer(&self, kind: AckKind, id: u16, known: bool, out: &mut BytesMut) {
        if known {
            return encode::ack(out, self.client.version, kind, id, Reason::SUCCESS, &[]);
        }
        let said = "no message is in flight under this packet id";
        self.explain(out, Some(said), |out, said| {
            let reason = Reason::PACKET_ID_NOT_FOUND;
            encode::ack_said(out, self.client.version, kind, id, reason, said);
        });
    }

    /// Appends what `write` writes: without its explanation if the client wants none, or takes no
    /// packet so long [MQTT-3.1.2-29, MQTT-3.4.2-2]; not at all if it is too long all the same
    /// [MQTT-3.1.2-25].
    fn explain(
        &self,
        out: &mut BytesMut,
        said: Option<&str>,
        write: impl Fn(&mut BytesMut, Option<&str>),
    ) {
        let said = said.filter(|_| self.client.problem_information);
        self.write_fitting(out, said, write);
    }

    fn write_fitting(
        &self,
        out: &mut BytesMut,
        said: Option<&str>,
        write: impl Fn(&mut BytesMut, Option<&str>),
    ) {
        let max = self.client.max_packet.and_then(|max| usize::try_from(max).ok());
        let before = out.len();
        for said in [said, None] {
            write(out, said);
            if max.is_none_or(|max| out.len() - before <= max) {
                return;
            }
            out.truncate(before);
        }
    }

    /// Appends DISCONNECT, if the client's version has one for this end.
    pub(crate) fn say_goodbye(&self, end: &End, out: &mut BytesMut) {
        let Some(reason) = end.reason() else { return };
        self.write_fitting(out, Some(&end.said()), |out, said| {
            encode::disconnect(out, self.client.version, reason, said);
        });
    }

    /// Appends the acknowledgements whose turn has come.
    ///
    /// # Errors
    /// [`End::TicketFailed`], and [`End::Invalid`] for a publish that the client may not make.
    pub(crate) fn acknowledge(&mut self, out: &mut BytesMut) -> Result<(), End> {
        let mut result = Ok(());
        let mut now = None;
        for lane in LANES {
            let mut outcomes = std::mem::take(&mut self.outcomes);
            self.acks.take(lane, &mut outcomes);
            for outcome in outcomes.drain(..) {
                let now = *now.get_or_insert_with(Instant::now);
                let ended = self.outcome(index(lane), outcome, now, out);
                if result.is_ok() {
                    result = ended;
                }
            }
            self.outcomes = outcomes;
        }
        result
    }

    fn outcome(
        &mut self,
        lane: usize,
        outcome: AckOutcome,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<(), End> {
        // Slots and pending publishes are pushed together: there is one for each outcome.
        let Some(pending) = self.lanes.get_mut(lane).and_then(VecDeque::pop_front) else {
            return Ok(());
        };
        self.release(pending.bytes);
        if pending.qos == QoS::ExactlyOnce {
            self.undecided.remove(&pending.id);
        }
        let AckOutcome::Durable(acknowledgement) = outcome else {
            if pending.qos == QoS::AtMostOnce {
                return Ok(());
            }
            self.failed[lane] = true;
            return Err(End::TicketFailed);
        };
        if let Some(refused) = pending.refused {
            return self.send_refusal(lane, &pending, refused, out);
        }
        if pending.qos != QoS::AtMostOnce && !self.failed[lane] {
            self.send_ack(pending.id, pending.qos, acknowledgement, out);
            let latency = now.saturating_duration_since(pending.received);
            self.shared.metrics.acknowledged(latency);
        }
        let Some(message) = pending.message else { return Ok(()) };
        if pending.qos != QoS::ExactlyOnce || self.is_first_showing(pending.id, &message) {
            self.shared.deliver(message);
        }
        Ok(())
    }

    /// Whether subscribers do not have this message of QoS 2 yet. If its connection was lost before
    /// its PUBREC, they get it as it becomes durable all the same, and its client sends it again, to
    /// its next connection: the handler is asked again, since only the handler knows that it is the
    /// same; subscribers are not told again.
    fn is_first_showing(&self, id: u16, message: &Message) -> bool {
        let mut state = self.session.lock();
        if !self.over {
            return state.shown.remove(&id).is_none_or(|shown| shown != message.digest());
        }
        // Whatever the session has a PUBREC for under this id was shown when that left.
        let first = !state.received.contains(&id);
        if first && state.shown.len() < usize::from(self.shared.config.max_in_flight) {
            state.shown.insert(id, message.digest());
        }
        first
    }

    /// The connection has ended: what it could not bring may be placed in the next one.
    pub(crate) fn give_parcels_back(&mut self) {
        self.kept_back.clear();
    }

    /// Adds what went over the connection to the broker's figures.
    pub(crate) fn count_traffic(&mut self) {
        let metrics = &self.shared.metrics;
        let tally = std::mem::take(&mut self.tally);
        if tally.messages_received > 0 {
            metrics.publishes_received.increment(tally.messages_received);
        }
        if tally.messages_sent > 0 {
            metrics.publishes_sent.increment(tally.messages_sent);
        }
        self.shared.sys.traffic.count(&tally);
    }

    fn release(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.shared.in_flight.give(bytes);
        self.shared.in_flight_publishes.fetch_sub(1, Ordering::Relaxed);
    }

    /// After the socket is gone: follows the tickets that are out, so that what becomes durable
    /// still reaches subscribers. `finish` also offers what was held.
    pub(crate) async fn settle(&mut self, finish: bool) {
        if !finish {
            self.busy = None;
            self.drop_held();
        }
        let mut unsent = BytesMut::new();
        self.failed = [true; 2];
        self.over = true;
        self.count_traffic();
        loop {
            self.retry();
            // Its only error is the end that has come already.
            let _ended = self.acknowledge(&mut unsent);
            if self.pending() == 0 {
                return;
            }
            let acks = Arc::clone(&self.acks);
            tokio::select! {
                () = acks.wake.notified() => {}
                () = self.unpaused(), if self.busy.is_some() => {}
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.drop_held();
        let left: usize = self.lanes.iter().flatten().map(|pending| pending.bytes).sum();
        let count = self.lanes.iter().map(VecDeque::len).sum::<usize>();
        self.shared.in_flight.give(left);
        self.shared.in_flight_publishes.fetch_sub(count, Ordering::Relaxed);
    }
}
