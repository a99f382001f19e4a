//! The broker as its owner sees it: made, served, stopped in order.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{AllowAll, Authority};
use crate::budget::Budget;
use crate::config::BrokerConfig;
use crate::connection::Debts;
use crate::handler::{PublishHandler, QoS};
use crate::latency::Latencies;
use crate::listen::{self, Entrance, Listener};
use crate::message::Message;
use crate::metrics::Metrics;
use crate::parcel::Parcels;
use crate::persist::{Kept, Opened, Store};
use crate::registry::{Attached, Ended, Registry};
use crate::retained::Retained;
use crate::router::Router;
use crate::session::{QueueLimits, Session};
use crate::subscriptions::Subscriptions;
use crate::sys::Sys;
use crate::will::{PendingWill, Publication};
use crate::wire::PublishProperties;

/// How often sessions and wills are looked at for being due.
const SWEEP: Duration = Duration::from_secs(1);

/// Past its drain time a shutdown waits this long for connections to close, and then leaves them.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: BrokerConfig,
    pub(crate) handler: Arc<dyn PublishHandler>,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) registry: Registry,
    /// Bytes of publishes that are taken and not durable.
    pub(crate) in_flight: Budget,
    /// And how many they are.
    pub(crate) in_flight_publishes: AtomicUsize,
    /// What connections hold of incomplete packets and of what clients have not taken.
    pub(crate) buffers: Budget,
    /// Bytes of wills that are not published.
    pub(crate) wills: Arc<Budget>,
    pub(crate) debts: Debts,
    pub(crate) metrics: Metrics,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) retained: Retained,
    pub(crate) parcels: Arc<Parcels>,
    /// Where sessions and retained messages outlive the process.
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) router: Router,
    pub(crate) sys: Sys,
    /// Connections are to stop reading, drain and close.
    pub(crate) stop: CancellationToken,
    /// What did not drain in time is to be left.
    pub(crate) abandon: CancellationToken,
    pub(crate) tasks: TaskTracker,
    next_client: AtomicU64,
    next_order: AtomicU64,
    pending: AtomicUsize,
}

/// What a shutdown left undone. None of it was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// Publishes that were taken and whose tickets had no outcome when the drain time was over.
    pub unanswered_publishes: usize,
    /// Connections that did not close in time and were cut.
    pub cut_connections: usize,
}

/// How the broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// False while live messages of QoS 0 reach no subscriber. Ingestion is not concerned.
    pub router_running: bool,
    /// How often the router failed and was started again.
    pub router_restarts: u64,
}

/// What the broker holds now, and may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Connections that are open.
    pub connections: usize,
    /// Publishes taken and not answered.
    pub in_flight_publishes: usize,
    /// Their bytes…
    pub in_flight_bytes: usize,
    /// …and their bound.
    pub in_flight_limit: usize,
    /// Bytes read of incomplete packets, and not yet taken by clients…
    pub buffer_bytes: usize,
    /// …and their bound.
    pub buffer_limit: usize,
    /// Bytes of wills…
    pub will_bytes: usize,
    /// …and their bound.
    pub will_limit: usize,
}

/// An MQTT broker; see the crate's documentation.
pub struct Broker {
    pub(crate) shared: Arc<Shared>,
}

impl Broker {
    /// A broker that hands what `handler` claims to it and lets everybody do everything. Its figures
    /// go to the metrics recorder that is installed by now.
    #[must_use]
    pub fn new(config: BrokerConfig, handler: Arc<dyn PublishHandler>) -> Self {
        Self::with_authority(config, handler, Arc::new(AllowAll))
    }

    /// The same, with `authority` to decide who may do what.
    #[must_use]
    pub fn with_authority(
        config: BrokerConfig,
        handler: Arc<dyn PublishHandler>,
        authority: Arc<dyn Authority>,
    ) -> Self {
        Self::restored(config, handler, authority, None)
    }

    /// The same, with the sessions and retained messages of `opened`, which go on there.
    #[must_use]
    pub fn restored(
        config: BrokerConfig,
        handler: Arc<dyn PublishHandler>,
        authority: Arc<dyn Authority>,
        opened: Option<Opened>,
    ) -> Self {
        let metrics = Metrics::new();
        let limits = QueueLimits::new(config.subscriber_queue_bytes, config.total_queue_bytes);
        let store = opened.as_ref().map(|opened| Arc::clone(&opened.store));
        let shared = Shared {
            registry: Registry::new(config.max_sessions, Arc::new(limits)),
            subscriptions: Subscriptions::default(),
            retained: Retained::new(config.retained_bytes, store.clone()),
            parcels: Arc::new(Parcels::new(store.clone())),
            store,
            router: Router::new(&config, metrics.clone()),
            sys: Sys::new(config.sys_interval),
            in_flight: Budget::new(config.total_in_flight_bytes),
            in_flight_publishes: AtomicUsize::new(0),
            buffers: Budget::new(config.total_buffer_bytes),
            wills: Arc::new(Budget::new(config.total_will_bytes)),
            debts: Debts::default(),
            metrics,
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            tasks: TaskTracker::new(),
            next_client: AtomicU64::new(0),
            next_order: AtomicU64::new(1),
            pending: AtomicUsize::new(0),
            config,
            handler,
            authority,
        };
        if let Some(opened) = opened {
            opened.restore(&shared);
        }
        Self { shared: Arc::new(shared) }
    }

    /// Serves MQTT on a plain socket; see [`Broker::serve_on`].
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> ShutdownReport {
        self.serve_on([Listener::tcp(listener)], stop).await
    }

    /// Serves `listeners` until `stop`, then shuts down in order: no more is accepted, no more is
    /// read, what was taken is waited for (at most `drain_timeout`) and acknowledged, clients are
    /// told, sockets are closed.
    ///
    /// Once per broker: a broker that was stopped stays so.
    pub async fn serve_on(
        &self,
        listeners: impl IntoIterator<Item = Listener>,
        stop: CancellationToken,
    ) -> ShutdownReport {
        let entrance = Arc::new(Entrance::new(&self.shared.config));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let (shared, entrance) = (Arc::clone(&self.shared), Arc::clone(&entrance));
            accepting.spawn(listen::accept(shared, entrance, listener, stop.clone()));
        }
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = sweep.tick() => self.shared.sweep(),
            }
        }
        // Their sockets are closed when they have ended.
        while accepting.join_next().await.is_some() {}
        self.shut_down().await
    }

    /// How the broker is, for readiness.
    #[must_use]
    pub fn health(&self) -> Health {
        let (router_running, router_restarts) = self.shared.router.health();
        Health { router_running, router_restarts }
    }

    /// What the broker holds now.
    #[must_use]
    pub fn load(&self) -> Load {
        let shared = &self.shared;
        Load {
            connections: shared.registry.counts().0,
            in_flight_publishes: shared.in_flight_publishes.load(Ordering::Relaxed),
            in_flight_bytes: shared.in_flight.used(),
            in_flight_limit: shared.config.total_in_flight_bytes,
            buffer_bytes: shared.buffers.used(),
            buffer_limit: shared.config.total_buffer_bytes,
            will_bytes: shared.wills.used(),
            will_limit: shared.config.total_will_bytes,
        }
    }

    /// Whether a client with that id is connected.
    #[must_use]
    pub fn is_connected(&self, client_id: &str) -> bool {
        self.shared.registry.is_connected(client_id)
    }

    /// How long acknowledgements took, from the arrival of the PUBLISH.
    #[must_use]
    pub fn ack_latencies(&self) -> Arc<Latencies> {
        Arc::clone(&self.shared.metrics.ack_latencies)
    }

    /// Publishes at QoS 1 as the broker's owner, below a topic that no client may publish to. With
    /// `retain` an empty payload ends what is retained. Never waits; what is retained is written behind.
    pub fn publish(&self, topic: &str, payload: Bytes, retain: bool) {
        let order = if retain { self.shared.next_order() } else { 0 };
        self.shared.deliver(Message {
            topic: topic.into(),
            payload,
            qos: QoS::AtLeastOnce,
            retain,
            from: "".into(),
            properties: PublishProperties::default(),
            expires: None,
            order,
        });
    }

    /// Topics and payloads of what is retained and matches a filter.
    #[must_use]
    pub fn retained(&self, filter: &str) -> Vec<(Arc<str>, Bytes)> {
        let messages = self.shared.retained.matching(filter);
        messages.iter().map(|it| (Arc::clone(&it.topic), it.payload.clone())).collect()
    }

    /// Ends the router's thread as a panic of its own would. It stays so until what is returned is
    /// dropped.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn crash_router(&self) -> std::sync::mpsc::SyncSender<()> {
        self.shared.router.crash()
    }

    /// Why sessions and retained messages cannot be written now, if they cannot.
    #[must_use]
    pub fn session_trouble(&self) -> Option<String> {
        self.shared.store.as_ref().and_then(|store| store.trouble())
    }

    async fn shut_down(&self) -> ShutdownReport {
        let shared = &self.shared;
        shared.stop.cancel();
        shared.tasks.close();
        let drain = shared.config.drain_timeout;
        if tokio::time::timeout(drain, shared.tasks.wait()).await.is_err() {
            shared.abandon.cancel();
            let _timed_out = tokio::time::timeout(CLOSE_GRACE, shared.tasks.wait()).await;
        }
        if let Some(store) = &shared.store {
            // It tries a failing disk a few times and then ends; one that hangs is left.
            store.close(drain).await;
        }
        ShutdownReport {
            unanswered_publishes: shared.pending.load(Ordering::Acquire),
            cut_connections: shared.tasks.len(),
        }
    }
}

impl Shared {
    /// A client id for a client that has none: unique in this process and unlike any a person
    /// would choose.
    pub(crate) fn assign_client_id(&self) -> Arc<str> {
        let number = self.next_client.fetch_add(1, Ordering::Relaxed);
        // The hasher's keys come from the operating system's random numbers.
        let random = std::hash::RandomState::new().hash_one(number);
        format!("auto-{number:x}-{random:016x}").into()
    }

    /// A connection got its session.
    pub(crate) fn began(self: &Arc<Self>, attached: &mut Attached) {
        if let Some(replaced) = attached.replaced.take() {
            self.end_session(&replaced);
        }
        if let Some(will) = attached.will_due.take() {
            self.publish_will(will);
        }
        let session = &attached.session;
        session.connect();
        self.link_again(session);
        self.give_parcels(session);
    }

    /// A connection's session is to outlive it by `expiry_s`, or to end with it if that is 0.
    pub(crate) fn keep(&self, attached: &Attached, expiry_s: u32) {
        let Some(store) = &self.store else { return };
        let session = &attached.session;
        let mut state = session.lock();
        if expiry_s == 0 {
            if let Some(kept) = state.kept.take() {
                kept.end();
            }
            return;
        }
        let kept = state.kept.get_or_insert_with(|| Kept::begin(store, &session.client_id));
        kept.connected(expiry_s, attached.owner.clone());
    }

    /// The next message to be retained gets a greater number than `order`.
    pub(crate) fn order_after(&self, order: u64) {
        self.next_order.fetch_max(order.saturating_add(1), Ordering::Relaxed);
    }

    /// A connection is about to let its session go.
    pub(crate) fn finished(&self, session: &Arc<Session>) {
        let one_commit = self.store.as_ref().map(|store| store.together());
        let unsent = session.disconnect();
        self.give_again(unsent);
        drop(one_commit);
        self.router.close(session);
    }

    /// Sessions ended: what they leave is seen to.
    pub(crate) fn detached(self: &Arc<Self>, ended: Vec<Ended>) {
        for Ended { session, will } in ended {
            self.end_session(&session);
            if let Some(will) = will {
                self.publish_will(will);
            }
        }
    }

    /// Publishes a will that was kept, if its client may still publish it: rights may have changed
    /// since they were looked at when its connection ended.
    pub(crate) fn publish_will(self: &Arc<Self>, will: PendingWill) {
        if !will.is_allowed() {
            self.metrics.publishes_denied.increment(1);
            tracing::warn!(client = %will.client_id, topic = ?will.will.topic,
                "a will is not published: its client may not publish it any more");
            return;
        }
        if let Some(begun) = Publication::begin(self, will) {
            let shared = Arc::clone(self);
            self.tasks.spawn(async move { begun.finish(&shared).await });
        }
    }

    /// A number for a message to be retained, greater than all before it.
    pub(crate) fn next_order(&self) -> u64 {
        self.next_order.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn report_pending(&self, count: usize) {
        self.pending.fetch_add(count, Ordering::AcqRel);
    }

    /// Once a second and not with every publish, which would be the most shared words there are.
    fn record_figures(&self) {
        let metrics = &self.metrics;
        metrics.in_flight_bytes.set(self.in_flight.used() as f64);
        metrics.buffer_bytes.set(self.buffers.used() as f64);
        let publishes = self.in_flight_publishes.load(Ordering::Relaxed);
        metrics.in_flight_publishes.set(publishes as f64);
        let (received, sent) = self.sys.traffic.bytes();
        metrics.received_bytes.absolute(received);
        metrics.sent_bytes.absolute(sent);
        metrics.subscriptions.set(self.subscriptions.count() as f64);
        metrics.sessions_away.set(self.registry.counts().1 as f64);
        metrics.queue_bytes.set(self.registry.limits().total.used() as f64);
        metrics.live_feed_bytes.set(self.router.waiting_bytes() as f64);
        metrics.retained_bytes.set(self.retained.bytes() as f64);
        metrics.will_bytes.set(self.wills.used() as f64);
        let (commands, bytes) = self.parcels.held();
        metrics.commands_waiting.set(commands as f64);
        metrics.commands_bytes.set(bytes as f64);
    }

    fn sweep(self: &Arc<Self>) {
        let (ended, wills) = self.registry.sweep(Instant::now());
        self.record_figures();
        self.retained.sweep(Instant::now());
        self.debts.sweep();
        self.sweep_parcels();
        self.publish_figures(Instant::now());
        self.detached(ended);
        for will in wills {
            self.publish_will(will);
        }
    }
}
