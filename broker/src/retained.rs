//! Retained messages: the last one of each topic, for subscribers to come.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::message::Message;
use crate::persist::Store;
use crate::topic;

/// See the module.
#[derive(Debug)]
pub(crate) struct Retained {
    inner: RwLock<Inner>,
    limit: usize,
    /// Where they outlive the process.
    store: Option<Arc<Store>>,
}

#[derive(Debug, Default)]
struct Inner {
    messages: HashMap<Arc<str>, Arc<Message>>,
    bytes: usize,
}

impl Retained {
    /// Keeps at most `limit` bytes.
    pub(crate) fn new(limit: usize, store: Option<Arc<Store>>) -> Self {
        Self { inner: RwLock::default(), limit, store }
    }

    /// Puts back what a former process retained. It may pass the bound, which may have been wider.
    pub(crate) fn restore(&self, message: Arc<Message>) {
        let mut inner = self.inner.write();
        inner.bytes += message.cost();
        inner.messages.insert(message.topic.clone(), message);
    }

    /// Keeps the message in place of its topic's last one; an empty payload only forgets that
    /// [MQTT-3.3.1-6]. One that was published before it is left alone: publishes of two connections
    /// may become durable in one moment and come here in either order. Returns whether there was
    /// room: when not, the topic has no retained message.
    pub(crate) fn set(&self, message: &Arc<Message>) -> bool {
        let mut inner = self.inner.write();
        if inner.messages.get(&message.topic).is_some_and(|kept| kept.order > message.order) {
            return true;
        }
        let old = inner.messages.remove(&message.topic);
        inner.bytes = inner.bytes.saturating_sub(old.as_ref().map_or(0, |old| old.cost()));
        let bytes = inner.bytes.saturating_add(message.cost());
        let fits = bytes <= self.limit;
        if message.payload.is_empty() || !fits {
            if let Some(store) = self.store.as_ref().filter(|_| old.is_some()) {
                store.forget_retained(&message.topic);
            }
            return message.payload.is_empty();
        }
        // Under the lock, so that the database has them in the same order.
        if let Some(store) = &self.store {
            store.retain(message, old.is_some());
        }
        inner.bytes = bytes;
        inner.messages.insert(message.topic.clone(), Arc::clone(message));
        true
    }

    /// What a subscriber of `filter` gets.
    pub(crate) fn matching(&self, filter: &str) -> Vec<Arc<Message>> {
        let inner = self.inner.read();
        let now = Instant::now();
        let alive = |m: &&Arc<Message>| m.expires.is_none_or(|at| at > now);
        if filter.contains(['+', '#']) {
            let matching = |m: &&Arc<Message>| topic::matches(&m.topic, filter);
            inner.messages.values().filter(matching).filter(alive).cloned().collect()
        } else {
            inner.messages.get(filter).filter(alive).cloned().into_iter().collect()
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.inner.read().messages.len()
    }

    /// How many bytes they count as.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.read().bytes
    }

    /// Forgets what has expired.
    pub(crate) fn sweep(&self, now: Instant) {
        let expired = |m: &Message| m.expires.is_some_and(|at| at <= now);
        if !self.inner.read().messages.values().any(|m| expired(m)) {
            return;
        }
        let mut inner = self.inner.write();
        let mut freed = 0;
        inner.messages.retain(|_, message| {
            let gone = expired(message);
            if let Some(store) = self.store.as_ref().filter(|_| gone) {
                store.forget_retained(&message.topic);
            }
            freed += if gone { message.cost() } else { 0 };
            !gone
        });
        inner.bytes = inner.bytes.saturating_sub(freed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::message;

    #[test]
    fn an_empty_payload_clears_and_what_does_not_fit_is_not_kept() {
        let retained = Retained::new(2 * message("a", "xx").cost(), None);
        assert!(retained.set(&message("a", "xx")) && retained.set(&message("b", "yy")));
        assert!(!retained.set(&message("c", "zz")));
        assert!(retained.set(&message("a", "aa")), "a topic's own place is free for it");
        assert_eq!(retained.matching("#").len(), 2);
        assert_eq!(retained.matching("a")[0].payload, "aa");
        assert!(retained.set(&message("a", "")) && retained.set(&message("c", "zz")));
        assert!(retained.matching("a").is_empty() && retained.matching("+").len() == 2);
    }

    #[test]
    fn what_was_published_earlier_does_not_replace_what_was_published_later() {
        let retained = Retained::new(10_000, None);
        let numbered = |payload: &str, order: u64| {
            Arc::new(Message { order, ..Message::clone(&message("a", payload)) })
        };
        assert!(retained.set(&numbered("birth", 2)) && retained.set(&numbered("will", 1)));
        assert_eq!(retained.matching("a")[0].payload, "birth");
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_message_is_neither_sent_nor_kept() {
        let retained = Retained::new(10_000, None);
        let mut short = Message::clone(&message("a", "x"));
        short.expires = Some(Instant::now() + std::time::Duration::from_secs(5));
        retained.set(&Arc::new(short));
        assert_eq!(retained.matching("#").len(), 1);
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        assert!(retained.matching("#").is_empty() && retained.matching("a").is_empty());
        retained.sweep(Instant::now());
        assert_eq!(retained.inner.read().bytes, 0);
    }
}
