//! The router's thread: how it is started, spoken to, and ended.

use bytes::Bytes;
use futures_util::FutureExt;
use rumqttd::local::{LinkBuilder, LinkRx, LinkTx};
use rumqttd::protocol::{self, Packet};

/// Opens a link by name; holds the router's sender, whose type the library does not name.
pub(super) type Open = Box<dyn Fn(&str) -> Option<(LinkTx, LinkRx)> + Send>;

/// Starts a router.
pub(super) fn spawn(config: rumqttd::RouterConfig) -> Open {
    let sender = rumqttd::Router::new(0, config).spawn();
    Box::new(move |name| {
        LinkBuilder::new(name, sender.clone())
            .build()
            .map(|(tx, rx, _)| (tx, rx))
            .inspect_err(|error| tracing::warn!(%error, "no link to the router"))
            .ok()
    })
}

/// Ends a router: see the module's documentation of `router`.
pub(super) fn provoke_end(open: &Open) {
    if let Some((mut tx, _rx)) = open("end") {
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

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
        let config = rumqttd::RouterConfig {
            max_connections: 10,
            max_outgoing_packet_count: 200,
            max_segment_size: 1024,
            max_segment_count: 4,
            ..rumqttd::RouterConfig::default()
        };
        let open = spawn(config);
        let (_tx, mut rx) = open("watched").unwrap();
        provoke_end(&open);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = async { while rx.next().await.is_ok() {} };
        let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, ended).await });
        assert!(ended.is_ok(), "the router runs on");
        assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    }
}
