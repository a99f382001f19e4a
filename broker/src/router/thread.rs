//! The router's thread: how it is started, spoken to, and ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use rumqttd::local::{LinkBuilder, LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{self, Packet};

/// How long a router may take to answer for a new link. It answers in microseconds, or is about to
/// end, or hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens links to a router.
///
/// The library's call waits for an answer that never comes if the router ends between the question
/// and it: the question, which holds the way back, stays in the router's queue. So the call is made
/// on a thread of its own, which in that case is left behind, and waited for with a bound.
pub(super) struct Open {
    build: Box<dyn Fn(&str) -> Built + Send>,
    patience: Duration,
    silent: AtomicBool,
}

/// What comes of a link once the library has called back.
type Built = Receiver<Result<(LinkTx, LinkRx), LinkError>>;

impl Open {
    /// A link by name, or `None` if the router gives none. After a router was silent once it is not
    /// asked again.
    pub(super) fn link(&self, name: &str) -> Option<(LinkTx, LinkRx)> {
        if self.is_silent() {
            return None;
        }
        match (self.build)(name).recv_timeout(self.patience) {
            Ok(Ok(link)) => Some(link),
            Ok(Err(error)) => {
                tracing::warn!(%error, "no link to the router");
                None
            }
            Err(_) => {
                self.silent.store(true, Ordering::Release);
                tracing::warn!(patience = ?self.patience, "the router does not answer for a link");
                None
            }
        }
    }

    /// Whether the router left a question unanswered: it is to be replaced.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }
}

/// Starts a router.
pub(super) fn spawn(config: rumqttd::RouterConfig) -> Open {
    // The type of its sender has no name outside the library.
    let sender = rumqttd::Router::new(0, config).spawn();
    let build = move |name: &str| {
        let (name, sender) = (name.to_owned(), sender.clone());
        let (tell, told) = sync_channel(1);
        let builder = move || {
            let built = LinkBuilder::new(&name, sender).build();
            // Nobody listens: the answer came too late, and the router is given up.
            drop(tell.send(built.map(|(tx, rx, _)| (tx, rx))));
        };
        if let Err(error) = std::thread::Builder::new().name("link".to_owned()).spawn(builder) {
            tracing::warn!(%error, "no thread to ask the router on");
        }
        told
    };
    Open { build: Box::new(build), patience: PATIENCE, silent: AtomicBool::new(false) }
}

/// Ends a router: see the module's documentation of `router`.
pub(super) fn provoke_end(open: &Open) {
    if let Some((mut tx, _rx)) = open.link("end") {
        let payload = Bytes::from_owner(LastWords);
        // No filter has that topic, since each has a prefix: the router drops the publish.
        let publish = protocol::Publish::new(Bytes::from_static(b"end"), payload, false);
        // An error says that it has ended already.
        send(&mut tx, Packet::Publish(publish, None));
    }
}

/// A payload that ends the thread on which it is dropped, if that is a router's. It unwinds without
/// the panic hook: nothing failed, and whoever reads the log is not to believe so.
struct LastWords;

impl AsRef<[u8]> for LastWords {
    fn as_ref(&self) -> &[u8] {
        b"end"
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let thread = std::thread::current();
        let router = thread.name().is_some_and(|name| name.starts_with("router-"));
        if router && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new("the router is no longer needed"));
        }
    }
}

/// Sends a packet; the future never waits, though the call may. An error says that the router has
/// ended, which its watcher tells as well.
pub(super) fn send(tx: &mut LinkTx, packet: Packet) -> bool {
    matches!(tx.send(packet).now_or_never(), Some(Ok(_)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn config() -> rumqttd::RouterConfig {
        rumqttd::RouterConfig {
            max_connections: 10,
            max_outgoing_packet_count: 200,
            max_segment_size: 1024,
            max_segment_count: 4,
            ..rumqttd::RouterConfig::default()
        }
    }

    /// A payload that holds the thread on which it is dropped until somebody says so.
    struct Brake(Sender<()>, Receiver<()>);

    impl AsRef<[u8]> for Brake {
        fn as_ref(&self) -> &[u8] {
            b"brake"
        }
    }

    impl Drop for Brake {
        fn drop(&mut self) {
            drop(self.0.send(()));
            drop(self.1.recv_timeout(LONG));
        }
    }

    #[test]
    fn a_router_that_does_not_answer_is_waited_for_with_a_bound_and_asked_once() {
        let mut open = spawn(config());
        open.patience = Duration::from_millis(100);
        let (mut tx, _rx) = open.link("a").unwrap();
        let ((held, hold), (release, released)) = (channel::<()>(), channel::<()>());
        let payload = Bytes::from_owner(Brake(held, released));
        let publish = protocol::Publish::new(Bytes::from_static(b"end"), payload, false);
        assert!(send(&mut tx, Packet::Publish(publish, None)));
        hold.recv_timeout(LONG).expect("the router holds the payload");
        assert!(!open.is_silent());
        assert!(open.link("b").is_none() && open.is_silent());
        // It could answer again, and is not asked.
        release.send(()).unwrap();
        let begun = Instant::now();
        assert!(open.link("c").is_none() && begun.elapsed() < open.patience);
    }

    #[test]
    fn a_router_ends_without_a_word_on_the_standard_error() {
        static PANICS: AtomicUsize = AtomicUsize::new(0);
        let other = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("router-")) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            other(info);
        }));
        let open = spawn(config());
        let (_tx, mut rx) = open.link("watched").unwrap();
        provoke_end(&open);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = async { while rx.next().await.is_ok() {} };
        let ended = runtime.block_on(async { tokio::time::timeout(LONG, ended).await });
        assert!(ended.is_ok(), "the router runs on");
        assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    }
}
