//! rumqttd's Router behind one small interface: live fan-out at QoS 0, and nothing else.
//!
//! What that library does to whoever uses it, and what is done about it here:
//! * it panics on a topic whose first character is not ASCII, and drops what a `$`-topic holds:
//!   names and filters get an ASCII prefix on the way in and lose it on the way out, another one for
//!   `$`-topics, so that no leading wildcard reaches them;
//! * it knows no effective quality of service, No Local or retain-as-published, and hands a v5
//!   publisher's properties to a 3.1.1 writer that panics: a message travels in an envelope of ours
//!   (the correlation data, which no client sees), and each session makes its own copy of it;
//! * it silently forgets what a slow reader has not taken: so only copies of QoS 0 go by it, and each
//!   session's link is drained at once into the session's own bounded queue;
//! * it keeps every filter, topic and client id that it ever saw: links have names from a pool, and a
//!   router that has seen too much is replaced. It can only be stopped by a panic of its own thread,
//!   since it holds a sender to itself: it is sent a payload that unwinds the thread as it is
//!   dropped, past the panic hook, so that nobody reads of a panic where nothing failed;
//! * its thread may panic of itself: that is logged, counted, shown by [`Router::health`], and cured
//!   by a new router to which every subscriber is linked anew. What was on its way is lost, which
//!   QoS 0 allows; nothing else is on its way there.
//!
//! What of it was replaced by code of ours, because it cannot be mended from outside (0.20.0; paths
//! are below its `src/`):
//!
//! | what | where it goes wrong | ours |
//! |---|---|---|
//! | PUBACK and PUBREC before the message is kept anywhere, and no hook between | `router/routing.rs:589`, `:611` | [`crate::ack`], [`crate::link`] |
//! | a copy has the subscription's quality of service, not the lesser of the two | `router/routing.rs:1564` | [`crate::fanout`] |
//! | a reader that lags loses messages, at every quality of service | `router/routing.rs:1512` | [`crate::session`] |
//! | an acknowledgement out of order ends the connection | `router/routing.rs:769`, `:783` | [`crate::session`] |
//! | retained messages: no retain handling, no retain-as-published, as many as fit a window and then no more, and any empty payload clears | `router/routing.rs:962`, `:1238`, `:1469`, `:1231` | [`crate::retained`] |
//! | shared groups: one cursor for all, whoever's turn it is holds up the others, and the thread panics when a group's last member leaves with a message in flight | `router/routing.rs:1499`, `:512` | [`crate::subscriptions`] |
//! | an alias belongs to a filter, not to a topic: with a wildcard the second topic arrives as the first | `router/routing.rs:1547`, `:1575` | [`crate::link`] |
//! | a client id's state is kept for ever | `router/graveyard.rs:42`, `:53` | [`crate::registry`] |
//! | a topic that does not begin with ASCII panics, and a `$`-topic matches no filter, its own name included | `protocol/mod.rs:658` | [`crate::topic`] |
//! | properties panic the 3.1.1 writer | `protocol/v4/mod.rs:364` | [`crate::wire`] |
//! | a wake-up after a link's end panics | `router/scheduler.rs:63` | `actor` tells it last |
//!
//! One thread of ours, `actor`, talks to the router, whose calls block. Nobody else waits for it:
//! what it is to do is queued, messages within a bound in bytes and beyond that dropped and counted.

mod actor;
mod envelope;
mod inbox;
mod names;
mod reader;
#[cfg(test)]
mod tests;
mod thread;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::config::BrokerConfig;
use crate::message::Message;
use crate::metrics::Metrics;
use crate::session::Session;
use actor::Actor;
use inbox::{Command, Inbox};

/// See the module.
pub(crate) struct Router {
    inbox: Arc<Inbox>,
    state: Arc<RouterState>,
    settings: Settings,
    metrics: Metrics,
    started: Mutex<bool>,
}

/// What is said about the router outside.
#[derive(Debug, Default)]
struct RouterState {
    failed: AtomicBool,
    restarts: AtomicU64,
    /// How often a router that had seen its fill was replaced.
    replaced: AtomicU64,
}

/// The bounds on a router.
#[derive(Debug, Clone, Copy)]
struct Settings {
    /// Memory for its logs.
    bytes: usize,
    /// Distinct topics before it is replaced.
    max_topics: usize,
    max_links: usize,
}

impl Router {
    pub(crate) fn new(config: &BrokerConfig, metrics: Metrics) -> Self {
        Self {
            inbox: Arc::new(Inbox::new(config.live_feed_bytes)),
            state: Arc::default(),
            settings: Settings {
                bytes: config.router_bytes,
                max_topics: config.router_max_topics,
                max_links: config.max_connections,
            },
            metrics,
            started: Mutex::new(false),
        }
    }

    /// Gives a message to the links whose filters match. Dropped and counted if too much waits.
    pub(crate) fn publish(&self, message: Arc<Message>) {
        if !self.inbox.publish(message) {
            self.metrics.live_feed_dropped.increment(1);
        }
    }

    /// Adds a filter to a session's link, opening the link if it has none.
    pub(crate) fn subscribe(&self, session: &Arc<Session>, filter: &Arc<str>) {
        self.start();
        self.inbox.push(Command::Subscribe(Arc::clone(session), Arc::clone(filter)));
    }

    /// Takes a filter from a session's link.
    pub(crate) fn unsubscribe(&self, session: &Arc<Session>, filter: &Arc<str>) {
        self.inbox.push(Command::Unsubscribe(session.client_id.clone(), Arc::clone(filter)));
    }

    /// Closes a session's link, if it has one.
    pub(crate) fn close(&self, session: &Arc<Session>) {
        if *self.started.lock() {
            self.inbox.push(Command::Close(session.client_id.clone()));
        }
    }

    /// Bytes of the messages that wait for the router.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.inbox.bytes()
    }

    /// Whether so many subscriptions wait for the router that no more should be read for now.
    pub(crate) fn is_congested(&self) -> bool {
        self.inbox.is_congested()
    }

    /// Whether the router runs (or nobody needed one yet), and how often it had to be restarted.
    pub(crate) fn health(&self) -> (bool, u64) {
        let failed = self.state.failed.load(Ordering::Acquire);
        (!failed, self.state.restarts.load(Ordering::Acquire))
    }

    /// Starts the actor with the first subscriber: a broker without one has no router.
    fn start(&self) {
        let mut started = self.started.lock();
        if *started {
            return;
        }
        // Without a runtime there is no connection to feed: a link that a fuzz target drives.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let actor = Actor::new(
            Arc::clone(&self.inbox),
            Arc::clone(&self.state),
            self.settings,
            self.metrics.clone(),
            runtime,
        );
        match std::thread::Builder::new().name("live-feed".to_owned()).spawn(|| actor.run()) {
            Ok(_) => *started = true,
            Err(error) => {
                self.state.failed.store(true, Ordering::Release);
                tracing::error!(%error, "no thread for the live feed: subscribers get no QoS 0");
            }
        }
    }

    /// Ends the router's thread as a panic of its own would. It stays so until what is returned is
    /// dropped.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn crash(&self) -> std::sync::mpsc::SyncSender<()> {
        let (hold, held) = std::sync::mpsc::sync_channel(0);
        self.inbox.push(Command::Crash(held));
        hold
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.inbox.push(Command::Stop);
    }
}

/// What a filter is called between us and the router; it comes back with each copy.
pub(crate) fn filter_key(filter: &str) -> usize {
    // 0 is no subscription identifier.
    (BuildHasherDefault::<DefaultHasher>::default().hash_one(filter) as usize).max(1)
}
