//! The thread that talks to the router.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use rumqttd::local::LinkTx;
use rumqttd::protocol::{self, Packet};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::inbox::{Command, Inbox};
use super::names::Names;
use super::reader::{Reader, watch};
use super::thread::{Open, provoke_end, send, spawn};
use super::{RouterState, Settings, envelope, filter_key};
use crate::metrics::Metrics;
use crate::session::Session;

/// Messages handed to the router at once: each hand-over is an event in a channel of a thousand.
const BATCH: usize = 256;

/// Filters that a new router has memory for, at least.
const MIN_FILTERS: usize = 256;

/// Segments of a filter's log; the oldest goes when one more is needed.
const SEGMENTS: usize = 4;

/// The library's own least segment.
const MIN_SEGMENT: usize = 1024;

/// A router that is replaced gets this long to hand over what it has.
const QUIET: Duration = Duration::from_millis(20);

/// A router that takes nothing for so long has failed, though its thread may live.
const HUNG: Duration = Duration::from_secs(5);

/// Wait before a router is started again, so that one that cannot start is not started in a circle.
const RESTART_BACKOFF: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Actor {
    inbox: Arc<Inbox>,
    state: Arc<RouterState>,
    settings: Settings,
    metrics: Metrics,
    runtime: Handle,
    epoch: Instant,
    router: Option<Running>,
    links: HashMap<Arc<str>, Link>,
    /// Links whose reader was asked to let go: the router hears of it afterwards, since it panics
    /// when a link that is gone asks for more.
    closing: HashMap<u64, (LinkTx, u64)>,
    names: Names,
    generation: u64,
    next_link: u64,
    /// A test keeps the router from being started again.
    #[cfg(any(test, feature = "testing"))]
    held: Option<std::sync::mpsc::Receiver<()>>,
}

/// A router and what it has seen.
struct Running {
    open: Open,
    publisher: LinkTx,
    died: Arc<AtomicBool>,
    filters: HashSet<Arc<str>>,
    max_filters: usize,
    topics: HashSet<u64>,
}

/// A session's link.
struct Link {
    session: Arc<Session>,
    filters: HashSet<Arc<str>>,
    /// `None` while there is no router.
    open: Option<OpenLink>,
}

struct OpenLink {
    number: u64,
    name: u64,
    tx: LinkTx,
    let_go: CancellationToken,
}

impl Actor {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        state: Arc<RouterState>,
        settings: Settings,
        metrics: Metrics,
        runtime: Handle,
    ) -> Self {
        Self {
            inbox,
            state,
            settings,
            metrics,
            runtime,
            epoch: Instant::now(),
            router: None,
            links: HashMap::new(),
            closing: HashMap::new(),
            names: Names::default(),
            generation: 0,
            next_link: 0,
            #[cfg(any(test, feature = "testing"))]
            held: None,
        }
    }

    pub(super) fn run(mut self) {
        let mut commands = VecDeque::new();
        loop {
            self.inbox.take(&mut commands);
            let mut batched = 0;
            while let Some(command) = commands.pop_front() {
                if self.router.is_none() && !matches!(command, Command::Stop) {
                    self.start();
                }
                if let Command::Publish(message) = &command {
                    if let Some(router) = &mut self.router {
                        router.note_topic(&message.topic);
                        let packet = envelope::pack(message, self.epoch);
                        router.publisher.buffer().push_back(packet);
                        batched += 1;
                    }
                } else {
                    self.flush(&mut batched);
                    if !self.control(command) {
                        return;
                    }
                }
                if batched >= BATCH || commands.is_empty() {
                    self.flush(&mut batched);
                }
            }
            if self.router.as_ref().is_some_and(|r| r.is_worn(self.settings.max_topics)) {
                self.replace();
            }
        }
    }

    /// Everything but messages. Returns whether to go on.
    fn control(&mut self, command: Command) -> bool {
        match command {
            Command::Publish(_) => {}
            Command::Subscribe(session, filter) => self.subscribe(session, filter),
            Command::Unsubscribe(client_id, filter) => {
                let Some(link) = self.links.get_mut(&client_id) else { return true };
                link.filters.remove(&filter);
                let packet =
                    protocol::Unsubscribe { pkid: 1, filters: vec![envelope::prefixed(&filter)] };
                if let Some(open) = &mut link.open {
                    send(&mut open.tx, Packet::Unsubscribe(packet, None));
                }
            }
            Command::Close(client_id) => {
                if let Some(open) = self.links.remove(&client_id).and_then(|link| link.open) {
                    open.let_go.cancel();
                    self.closing.insert(open.number, (open.tx, open.name));
                }
            }
            Command::Drained(number) => {
                if let Some((mut tx, name)) = self.take_drained(number) {
                    send(&mut tx, disconnect());
                    self.names.give(name);
                }
            }
            Command::Died(generation) => {
                if generation == self.generation {
                    self.failed("its thread ended");
                    self.start();
                }
            }
            Command::Stop => {
                if let Some(router) = self.router.take() {
                    router.end();
                }
                return false;
            }
            #[cfg(any(test, feature = "testing"))]
            Command::Crash(held) => {
                self.held = Some(held);
                if let Some(router) = &self.router {
                    provoke_end(&router.open);
                }
            }
        }
        true
    }

    /// The link whose reader has ended: because it was asked to, or because its router has ended.
    fn take_drained(&mut self, number: u64) -> Option<(LinkTx, u64)> {
        self.closing.remove(&number).or_else(|| {
            let ended = |link: &&mut Link| link.open.as_ref().is_some_and(|o| o.number == number);
            let open = self.links.values_mut().find(ended)?.open.take()?;
            Some((open.tx, open.name))
        })
    }

    fn subscribe(&mut self, session: Arc<Session>, filter: Arc<str>) {
        let id = session.client_id.clone();
        let link = self.links.entry(id.clone()).or_insert_with(|| Link {
            session,
            filters: HashSet::new(),
            open: None,
        });
        link.filters.insert(filter.clone());
        if link.open.is_none() {
            // The link's filters, this one among them, are subscribed as it opens.
            self.open(&id);
        } else if let (Some(router), Some(open)) = (&mut self.router, &mut link.open) {
            router.filters.insert(filter.clone());
            subscribe(&mut open.tx, &filter);
        }
    }

    /// Opens a session's link and subscribes all its filters.
    fn open(&mut self, client_id: &Arc<str>) {
        let (Some(router), Some(link)) = (&mut self.router, self.links.get_mut(client_id)) else {
            return;
        };
        let name = self.names.take();
        let Some((mut tx, rx)) = router.open.link(&format!("s{name}")) else {
            self.names.give(name);
            if router.open.is_silent() {
                self.inbox.push(Command::Died(self.generation));
            }
            return;
        };
        self.next_link += 1;
        for filter in &link.filters {
            router.filters.insert(filter.clone());
            subscribe(&mut tx, filter);
        }
        let let_go = CancellationToken::new();
        let reader = Reader {
            session: link.session.clone(),
            inbox: Arc::clone(&self.inbox),
            number: self.next_link,
            let_go: let_go.clone(),
            epoch: self.epoch,
            metrics: self.metrics.clone(),
        };
        self.runtime.spawn(reader.run(rx));
        link.open = Some(OpenLink { number: self.next_link, name, tx, let_go });
    }

    /// Hands what was batched to the router, and waits until it has taken it: what it does not take
    /// in time piles up in the inbox, which is bounded.
    fn flush(&mut self, batched: &mut usize) {
        if std::mem::take(batched) == 0 {
            return;
        }
        let Some(router) = &mut self.router else { return };
        let last = router.publisher.buffer().pop_back();
        let sent = last.is_none_or(|packet| send(&mut router.publisher, packet));
        let since = std::time::Instant::now();
        while sent && !router.publisher.buffer().is_empty() {
            if router.died.load(Ordering::Acquire) {
                return;
            }
            if since.elapsed() > HUNG {
                return self.failed("it takes nothing");
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn failed(&mut self, why: &'static str) {
        self.state.failed.store(true, Ordering::Release);
        self.state.restarts.fetch_add(1, Ordering::AcqRel);
        self.metrics.router_restarts.increment(1);
        tracing::error!(why, "the router failed and is started again; ingestion is not concerned");
        self.router = None;
        #[cfg(any(test, feature = "testing"))]
        if let Some(held) = self.held.take() {
            let _let_go = held.recv();
        }
        std::thread::sleep(RESTART_BACKOFF);
    }

    /// Starts a router and links every session to it.
    fn start(&mut self) {
        self.generation += 1;
        for link in self.links.values_mut() {
            if let Some(open) = link.open.take() {
                open.let_go.cancel();
                self.closing.insert(open.number, (open.tx, open.name));
            }
        }
        let max_filters = {
            let live: HashSet<_> = self.links.values().flat_map(|link| &link.filters).collect();
            MIN_FILTERS.max(2 * live.len())
        };
        let segment = self.settings.bytes / max_filters / SEGMENTS;
        let config = rumqttd::RouterConfig {
            // The publisher's link, the one that ends the router, and those about to close.
            max_connections: self.settings.max_links * 2 + 2,
            max_outgoing_packet_count: 200,
            max_segment_size: segment.max(MIN_SEGMENT),
            max_segment_count: SEGMENTS,
            ..rumqttd::RouterConfig::default()
        };
        let open = spawn(config);
        let Some((publisher, watched)) = open.link("publisher") else {
            return self.failed("it does not answer");
        };
        let died = Arc::new(AtomicBool::new(false));
        let generation = self.generation;
        self.runtime.spawn(watch(watched, Arc::clone(&died), Arc::clone(&self.inbox), generation));
        self.router = Some(Running {
            open,
            publisher,
            died,
            filters: HashSet::new(),
            max_filters,
            topics: HashSet::new(),
        });
        let clients: Vec<_> = self.links.keys().cloned().collect();
        for client_id in clients {
            self.open(&client_id);
        }
        self.state.failed.store(false, Ordering::Release);
    }

    /// A router that has seen too much makes room for a new one.
    fn replace(&mut self) {
        self.state.replaced.fetch_add(1, Ordering::AcqRel);
        tracing::info!("the router has seen its fill of filters or topics and is replaced");
        let old = self.router.take();
        std::thread::sleep(QUIET);
        self.start();
        if let Some(old) = old {
            old.end();
        }
    }
}

impl Running {
    fn note_topic(&mut self, topic: &str) {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        self.topics.insert(hasher.hash_one(topic));
    }

    fn is_worn(&self, max_topics: usize) -> bool {
        self.filters.len() > self.max_filters || self.topics.len() > max_topics
    }

    fn end(self) {
        provoke_end(&self.open);
    }
}

fn disconnect() -> Packet {
    let reason_code = protocol::DisconnectReasonCode::NormalDisconnection;
    Packet::Disconnect(protocol::Disconnect { reason_code }, None)
}

fn subscribe(tx: &mut LinkTx, filter: &str) {
    let subscribe = protocol::Subscribe {
        pkid: 1,
        filters: vec![protocol::Filter {
            path: envelope::prefixed(filter),
            qos: protocol::QoS::AtMostOnce,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: protocol::RetainForwardRule::Never,
        }],
    };
    let properties =
        protocol::SubscribeProperties { id: Some(filter_key(filter)), user_properties: Vec::new() };
    send(tx, Packet::Subscribe(subscribe, Some(properties)));
}
