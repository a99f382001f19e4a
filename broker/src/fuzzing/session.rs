//! Two clients' packets, the handler's answers and the connections' ends, in any order.
//!
//! A model keeps what each client published and what became of it. It holds the link to this: an
//! acknowledgement is of the first unacknowledged publish of a lane, and that is durable; nothing at
//! or behind a failed one is acknowledged; what is due is sent; subscribers get durable messages
//! only; and when all is over nothing is in flight and nothing waits.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use parking_lot::Mutex;

use crate::Broker;
use crate::auth::AllowAll;
use crate::budget::Budget;
use crate::config::BrokerConfig;
use crate::handler::{AckTicket, Acknowledgement, Busy, Lane, Publish, PublishHandler, QoS};
use crate::link::{Client, End, Link};
use crate::session::{QueueLimits, Session};
use crate::wire::reason::Reason;
use crate::wire::{
    self, Ack, Disconnect, Packet, PublishProperties, RetainHandling, Subscribe, SubscribeFilter,
    SubscribeOptions, Unsubscribe, Version,
};

/// The handler claims what begins with `n` or `p`; `p` has priority.
const TOPICS: [&str; 6] = ["n/1", "n/2", "p/1", "x/1", "x/2", "$x"];
const FILTERS: [&str; 8] = ["#", "+/1", "n/#", "p/1", "x/+", "$x", "$share/g/x", "x/#/1"];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const WRITE: usize = 4096;

/// Keeps tickets until it is told how they end.
#[derive(Default)]
struct Tickets {
    waiting: Mutex<Vec<(u32, AckTicket)>>,
    busy: AtomicBool,
}

impl PublishHandler for Tickets {
    fn claims(&self, topic: &str) -> Option<Lane> {
        claims(topic)
    }

    fn handle(&self, publish: Publish, ticket: AckTicket) -> Result<(), Busy> {
        if self.busy.load(Ordering::Relaxed) {
            return Err(Busy { publish, ticket });
        }
        self.waiting.lock().push((serial(&publish.payload), ticket));
        Ok(())
    }

    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn claims(topic: &str) -> Option<Lane> {
    match topic.as_bytes().first() {
        Some(b'n') => Some(Lane::Normal),
        Some(b'p') => Some(Lane::Priority),
        _ => None,
    }
}

/// A payload is the number of its publish.
fn serial(mut payload: &[u8]) -> u32 {
    payload.get_u32()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    Durable,
    Failed,
}

struct Expected {
    serial: u32,
    id: u16,
    qos: QoS,
}

struct Station {
    version: Version,
    session: Arc<Session>,
    link: Link,
    out: BytesMut,
    /// Without acknowledgement, in order: priority, and the rest.
    lanes: [VecDeque<Expected>; 2],
}

struct World<'a> {
    input: &'a [u8],
    broker: Broker,
    handler: Arc<Tickets>,
    fates: HashMap<u32, Fate>,
}

impl World<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.input.split_first() else { return 0 };
        self.input = rest;
        *byte
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// Few ids, so that they meet again.
    fn id(&mut self) -> u16 {
        1 + u16::from(self.byte() % 8)
    }

    fn connect(&self, version: Version, session: Arc<Session>) -> Station {
        let client = Client {
            id: session.client_id.clone(),
            version,
            receive_maximum: 3,
            max_packet: None,
            problem_information: true,
            session_outlives: true,
            topic_alias_maximum: 0,
        };
        session.connect();
        let shared = Arc::clone(&self.broker.shared);
        let link = Link::new(shared, client, Arc::new(AllowAll), session.clone());
        Station { version, session, link, out: BytesMut::new(), lanes: Default::default() }
    }

    /// Answers one waiting ticket.
    fn answer(&mut self) {
        let (which, how) = (self.byte(), self.byte());
        let (serial, ticket) = {
            let mut waiting = self.handler.waiting.lock();
            if waiting.is_empty() {
                return;
            }
            let which = usize::from(which) % waiting.len();
            waiting.remove(which)
        };
        let mut rejected = Acknowledgement { rejected: 1, ..Acknowledgement::default() };
        let fate = match how % 8 {
            0 => Fate::Failed,
            1 => {
                drop(ticket);
                self.fates.insert(serial, Fate::Failed);
                return;
            }
            2 => {
                rejected.reason = Some("undecodable");
                rejected.nothing_accepted = true;
                Fate::Durable
            }
            3 => Fate::Durable,
            _ => {
                rejected.rejected = 0;
                Fate::Durable
            }
        };
        self.fates.insert(serial, fate);
        match fate {
            Fate::Durable => ticket.durable(rejected),
            _ => ticket.failed(),
        }
    }

    fn packet(&mut self, station: &Station) -> Packet {
        match self.byte() % 16 {
            0..7 => {
                let (qos, bits) = (self.pick(&QOS), self.byte());
                let topic = self.pick(&TOPICS);
                let serial = u32::try_from(self.fates.len()).unwrap_or(u32::MAX);
                let id = if qos == QoS::AtMostOnce { 0 } else { self.id() };
                let fate = if claims(topic).is_some() { Fate::Waiting } else { Fate::Durable };
                self.fates.insert(serial, fate);
                Packet::Publish(wire::Publish {
                    dup: bits & 1 != 0 && qos != QoS::AtMostOnce,
                    qos,
                    retain: bits & 2 != 0,
                    id,
                    topic: topic.into(),
                    payload: serial.to_be_bytes().to_vec().into(),
                    properties: PublishProperties::default(),
                })
            }
            7 => Packet::PubRel(self.ack()),
            8 => Packet::PubAck(self.ack()),
            9 => Packet::PubRec(self.ack()),
            10 => Packet::PubComp(self.ack()),
            11 | 12 => {
                let options = SubscribeOptions {
                    qos: self.pick(&QOS),
                    no_local: self.byte() & 1 != 0,
                    retain_as_published: self.byte() & 1 != 0,
                    retain_handling: self.pick(&[
                        RetainHandling::Always,
                        RetainHandling::IfNew,
                        RetainHandling::Never,
                    ]),
                };
                let filter = SubscribeFilter { filter: self.pick(&FILTERS).into(), options };
                let v5 = station.version == Version::V5;
                let subscription_id = (v5 && self.byte() & 1 != 0).then_some(300);
                Packet::Subscribe(Subscribe {
                    id: self.id(),
                    subscription_id,
                    filters: vec![filter],
                })
            }
            13 => {
                let filters = vec![self.pick(&FILTERS).into()];
                Packet::Unsubscribe(Unsubscribe { id: self.id(), filters })
            }
            14 => Packet::PingReq,
            _ => {
                let reason = Reason(self.byte() & 4);
                Packet::Disconnect(Disconnect { reason, session_expiry: None })
            }
        }
    }

    fn ack(&mut self) -> Ack {
        let reason =
            if self.byte() & 0x0f == 0 { Reason::PACKET_ID_NOT_FOUND } else { Reason::SUCCESS };
        Ack { id: self.id(), reason }
    }

    /// A packet of the client's. Says whether the connection ends.
    fn sent(&mut self, station: &mut Station, packet: Packet) -> bool {
        let mut immediate = None;
        let mut expected = None;
        if let Packet::Publish(publish) = &packet {
            let twice = publish.qos == QoS::ExactlyOnce;
            let undecided = station
                .lanes
                .iter()
                .flatten()
                .any(|other| twice && other.qos == publish.qos && other.id == publish.id);
            let received = twice && station.session.lock().received.contains(&publish.id);
            if !undecided && received {
                immediate = Some(publish.id);
            } else if !undecided {
                let lane = usize::from(claims(&publish.topic) != Some(Lane::Priority));
                let (serial, id) = (serial(&publish.payload), publish.id);
                expected = Some((lane, Expected { serial, id, qos: publish.qos }));
            }
        }
        match station.link.packet(packet, Instant::now(), &mut station.out) {
            Ok(()) => {
                if let Some((lane, expected)) = expected {
                    station.lanes[lane].push_back(expected);
                }
                self.read(station, immediate);
                false
            }
            Err(end) => {
                let allowed = matches!(end, End::Client { .. })
                    || matches!(end, End::Invalid(error)
                        if error.reason == Reason::RECEIVE_MAXIMUM_EXCEEDED
                            && station.version == Version::V5);
                assert!(allowed, "{end:?}");
                true
            }
        }
    }

    /// What a turn of the connection does. Says whether the connection ends.
    fn turn(&mut self, station: &mut Station) -> bool {
        station.link.retry();
        let acknowledged = station.link.acknowledge(&mut station.out);
        self.read(station, None);
        // What is held behind a busy handler has not been offered.
        let busy = self.handler.busy.load(Ordering::Relaxed);
        let mut failed = false;
        for lane in &mut station.lanes {
            let fates = &self.fates;
            let fate = |expected: &Expected| fates.get(&expected.serial).copied();
            let passed = |e: &Expected| e.qos == QoS::AtMostOnce && fate(e) != Some(Fate::Waiting);
            while !busy && lane.front().is_some_and(passed) {
                lane.pop_front();
            }
            let Some(head) = lane.iter().find(|e| !passed(e)) else { continue };
            failed |= fate(head) == Some(Fate::Failed);
            assert!(busy || fate(head) != Some(Fate::Durable), "an acknowledgement that is due");
        }
        assert_eq!(acknowledged.is_err(), failed, "a failed ticket ends its connection");
        if acknowledged.is_err() {
            return true;
        }
        let slow = station.link.send_messages(&mut station.out, WRITE).is_err();
        self.read(station, None);
        slow
    }

    /// Holds what the link wrote against the model.
    fn read(&mut self, station: &mut Station, mut immediate: Option<u16>) {
        let mut out = std::mem::take(&mut station.out);
        while !out.is_empty() {
            let first = out.get_u8();
            let len = varint(&mut out);
            let mut body = out.split_to(len);
            match first >> 4 {
                3 => self.delivered(station.version, first, body),
                4 => self.acknowledged(station, QoS::AtLeastOnce, body.get_u16()),
                5 => {
                    let id = body.get_u16();
                    if immediate == Some(id) {
                        immediate = None;
                    } else {
                        self.acknowledged(station, QoS::ExactlyOnce, id);
                    }
                }
                6 | 7 | 9 | 11 | 13 => {}
                other => panic!("packet type {other} to a client"),
            }
        }
        assert_eq!(immediate, None, "no PUBREC for what was received before");
    }

    fn acknowledged(&self, station: &mut Station, qos: QoS, id: u16) {
        let fates = &self.fates;
        let fate = |expected: &Expected| fates.get(&expected.serial).copied();
        for lane in &mut station.lanes {
            let passed = lane
                .iter()
                .take_while(|e| e.qos == QoS::AtMostOnce && fate(e) != Some(Fate::Waiting))
                .count();
            let head = lane.get(passed);
            if head.is_some_and(|e| (e.qos, e.id, fate(e)) == (qos, id, Some(Fate::Durable))) {
                lane.drain(..=passed);
                return;
            }
        }
        panic!("an acknowledgement of {id} that is not due");
    }

    fn delivered(&self, version: Version, first: u8, mut body: BytesMut) {
        let topic = usize::from(body.get_u16());
        body.advance(topic);
        if first & 6 != 0 {
            assert_ne!(body.get_u16(), 0);
        }
        if version == Version::V5 {
            let properties = varint(&mut body);
            body.advance(properties);
        }
        let serial = serial(&body);
        assert_eq!(
            self.fates.get(&serial),
            Some(&Fate::Durable),
            "delivered before it was durable"
        );
    }

    /// The connection ends: its tickets are answered first, or never, or follow.
    fn end(&mut self, mut station: Station, how: u8) -> Arc<Session> {
        let settled = |link: &mut Link, finish| link.settle(finish).now_or_never().is_some();
        if how & 1 != 0 {
            self.handler.busy.store(false, Ordering::Relaxed);
            let _waits_for_tickets = settled(&mut station.link, how & 2 != 0);
            while !self.handler.waiting.lock().is_empty() {
                self.answer();
            }
            assert!(settled(&mut station.link, how & 2 != 0), "tickets have ended and it waits");
            assert_eq!(station.link.pending(), 0);
        }
        let session = Arc::clone(&station.session);
        drop(station);
        self.broker.shared.finished(&session);
        if how & 4 != 0 {
            self.broker.shared.end_session(&session);
        }
        session
    }
}

fn varint(bytes: &mut BytesMut) -> usize {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = bytes.get_u8();
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a variable byte integer of more than four bytes")
}

pub(super) fn run(data: &[u8]) {
    let handler = Arc::<Tickets>::default();
    let config = BrokerConfig {
        max_in_flight: 4,
        max_in_flight_bytes: 1000,
        total_in_flight_bytes: 2000,
        max_subscriptions: 4,
        retained_bytes: 600,
        live_feed_bytes: 1000,
        ..BrokerConfig::default()
    };
    let limits =
        Arc::new(QueueLimits { session: 1200, total: Budget::new(2000), away: Budget::new(1000) });
    let broker = Broker::new(config, handler.clone());
    let shared = Arc::clone(&broker.shared);
    let mut world = World { input: data, broker, handler, fates: HashMap::new() };
    let versions = [Version::V311, Version::V5];
    let mut stations = ["a", "b"].map(|id| {
        let session = Arc::new(Session::new(id.into(), Arc::clone(&limits)));
        let version = world.pick(&versions);
        Some(world.connect(version, session))
    });
    while !world.input.is_empty() {
        let op = world.byte();
        let Some(slot) = stations.get_mut(usize::from(op & 1)) else { continue };
        let Some(mut station) = slot.take() else { continue };
        let ended = match op >> 1 & 7 {
            0..3 => {
                let packet = world.packet(&station);
                world.sent(&mut station, packet)
            }
            3 | 4 => {
                world.answer();
                false
            }
            5 | 6 => world.turn(&mut station),
            _ if op & 0x30 == 0 => true,
            _ => {
                world.handler.busy.store(op & 0x10 != 0, Ordering::Relaxed);
                false
            }
        };
        *slot = Some(if ended {
            let how = world.byte();
            let session = world.end(station, how);
            let version = world.pick(&versions);
            world.connect(version, session)
        } else {
            station
        });
    }
    for station in stations.into_iter().flatten() {
        let session = world.end(station, 7);
        assert!(session.lock().subscriptions.is_empty());
    }
    world.handler.waiting.lock().clear();
    assert_eq!(shared.in_flight.used(), 0, "bytes in flight that nobody has");
    assert_eq!(shared.in_flight_publishes.load(Ordering::Relaxed), 0);
    // The router's queue, which nobody empties here, knows the sessions.
    drop((world, shared));
    assert_eq!(limits.total.used(), 0, "bytes that wait for nobody");
}
