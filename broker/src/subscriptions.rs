//! Who subscribed to what: a tree of topic levels, shared by all connections.
//!
//! It answers two questions for every publish: does anybody want it (nobody: it goes no further),
//! and whose copy must not be lost (an effective quality of service above 0).

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::handler::QoS;
use crate::session::Session;
use crate::wire::SubscribeOptions;

/// One subscription of one session.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) filter: Arc<str>,
    pub(crate) options: SubscribeOptions,
    /// The v5 subscription identifier.
    pub(crate) id: Option<u32>,
}

impl Subscription {
    /// The quality of service of a copy for this subscription [MQTT-3.8.4-8].
    pub(crate) fn effective(&self, published: QoS) -> QoS {
        self.options.qos.min(published)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    root: RwLock<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    here: Vec<(Arc<Session>, Subscription)>,
}

impl Subscriptions {
    /// Adds a subscription, or replaces the session's one of the same filter.
    pub(crate) fn insert(&self, session: &Arc<Session>, subscription: Subscription) {
        let mut root = self.root.write();
        let mut node = &mut *root;
        for level in subscription.filter.split('/') {
            node = node.children.entry_ref(level).or_default();
        }
        match node.here.iter_mut().find(|(other, _)| Arc::ptr_eq(other, session)) {
            Some((_, old)) => *old = subscription,
            None => node.here.push((Arc::clone(session), subscription)),
        }
    }

    /// Removes the session's subscription of `filter`, if there is one.
    pub(crate) fn remove(&self, session: &Arc<Session>, filter: &str) {
        remove(&mut self.root.write(), session, filter.split('/'));
    }

    /// Calls `each` with every subscription that `topic` matches.
    pub(crate) fn visit(&self, topic: &str, mut each: impl FnMut(&Arc<Session>, &Subscription)) {
        let root = self.root.read();
        visit(&root, topic.split('/'), topic.starts_with('$'), &mut each);
    }
}

/// Removes, and says whether the node is of no more use. As deep as a filter has levels.
fn remove<'a>(
    node: &mut Node,
    session: &Arc<Session>,
    mut levels: impl Iterator<Item = &'a str>,
) -> bool {
    if let Some(level) = levels.next() {
        if node.children.get_mut(level).is_some_and(|child| remove(child, session, levels)) {
            node.children.remove(level);
        }
    } else {
        node.here.retain(|(other, _)| !Arc::ptr_eq(other, session));
    }
    node.children.is_empty() && node.here.is_empty()
}

/// `reserved`: the topic starts with `$`, which no leading wildcard matches [MQTT-4.7.2-1].
fn visit<'a>(
    node: &Node,
    mut levels: impl Iterator<Item = &'a str> + Clone,
    reserved: bool,
    each: &mut impl FnMut(&Arc<Session>, &Subscription),
) {
    let mut call = |node: &Node| node.here.iter().for_each(|(s, sub)| each(s, sub));
    // `#` matches what is here as well as what is below.
    if let Some(child) = node.children.get("#").filter(|_| !reserved) {
        call(child);
    }
    let Some(level) = levels.next() else {
        return call(node);
    };
    if let Some(child) = node.children.get("+").filter(|_| !reserved) {
        visit(child, levels.clone(), false, each);
    }
    if let Some(child) = node.children.get(level) {
        visit(child, levels, false, each);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::tests::session;
    use crate::topic;
    use crate::wire::RetainHandling;

    fn subscription(filter: &str) -> Subscription {
        Subscription {
            filter: filter.into(),
            options: SubscribeOptions {
                qos: QoS::AtMostOnce,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::Always,
            },
            id: None,
        }
    }

    fn matched(tree: &Subscriptions, topic: &str) -> Vec<String> {
        let mut found = Vec::new();
        tree.visit(topic, |_, subscription| found.push(subscription.filter.to_string()));
        found.sort();
        found
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_matching_each_filter_finds(
            filters in prop::collection::btree_set("([ab$+]|遵)?(/([ab+]|)){0,3}(/#)?|#", 0..12),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            topic in "[ab$遵]?(/[ab]?){0,4}",
        ) {
            prop_assume!(topic::is_valid_name(&topic));
            let mut filters: Vec<_> =
                filters.into_iter().filter(|f| topic::is_valid_filter(f)).collect();
            let (tree, session) = (Subscriptions::default(), session("s"));
            for filter in &filters {
                tree.insert(&session, subscription(filter));
                tree.insert(&session, subscription(filter));
            }
            for index in removed {
                if filters.is_empty() {
                    break;
                }
                let filter = filters.remove(index.index(filters.len()));
                tree.remove(&session, &filter);
            }
            let mut expected: Vec<_> =
                filters.iter().filter(|f| topic::matches(&topic, f)).cloned().collect();
            expected.sort();
            prop_assert_eq!(matched(&tree, &topic), expected);
            for filter in &filters {
                tree.remove(&session, filter);
            }
            prop_assert!(tree.root.read().children.is_empty(), "nodes of no use were left");
        }
    }
}
