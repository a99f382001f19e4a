//! Who subscribed to what: a tree of topic levels, shared by all connections.
//!
//! It answers two questions for every publish: does anybody want it (nobody: it goes no further),
//! and whose copy must not be lost (an effective quality of service above 0).
//!
//! A shared subscription (`$share/GROUP/FILTER`) stands in the tree at FILTER, as a member of its
//! group: the group gets a message once ([`group`]).

mod group;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::handler::QoS;
use crate::session::Session;
use crate::topic;
use crate::wire::SubscribeOptions;

pub(crate) use group::Group;

/// One subscription of one session.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    /// As the client said it, with the group that it is shared with.
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

    pub(crate) fn is_shared(&self) -> bool {
        topic::is_shared(&self.filter)
    }
}

/// What a topic matches.
#[derive(Debug)]
pub(crate) enum Match<'a> {
    One(&'a Arc<Session>, &'a Subscription),
    Group(&'a Arc<Group>),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    root: RwLock<Node>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    here: Vec<(Arc<Session>, Subscription)>,
    groups: Vec<Arc<Group>>,
}

impl Subscriptions {
    /// Adds a subscription, or replaces the session's one of the same filter.
    pub(crate) fn insert(&self, session: &Arc<Session>, subscription: Subscription) {
        let mut root = self.root.write();
        let mut node = &mut *root;
        for level in topic::pattern(&subscription.filter).split('/') {
            node = node.children.entry_ref(level).or_default();
        }
        let is_new = if subscription.is_shared() {
            if let Some(group) = node.groups.iter().find(|g| g.filter == subscription.filter) {
                group.insert(session, subscription)
            } else {
                let group = Group::new(subscription.filter.clone());
                group.insert(session, subscription);
                node.groups.push(Arc::new(group));
                true
            }
        } else {
            put(&mut node.here, session, subscription)
        };
        self.count.fetch_add(is_new.into(), Ordering::Relaxed);
    }

    /// Removes the session's subscription of `filter`, if there is one.
    pub(crate) fn remove(&self, session: &Arc<Session>, filter: &str) {
        let mut root = self.root.write();
        let (mut removed, levels) = (false, topic::pattern(filter).split('/'));
        remove(&mut root, levels, &mut |node| {
            if topic::is_shared(filter) {
                let of_filter = |group: &&Arc<Group>| *group.filter == *filter;
                removed = node.groups.iter().find(of_filter).is_some_and(|g| g.remove(session));
                node.groups.retain(|group| !group.is_empty());
            } else {
                let before = node.here.len();
                node.here.retain(|(other, _)| !Arc::ptr_eq(other, session));
                removed = node.here.len() < before;
            }
        });
        self.count.fetch_sub(removed.into(), Ordering::Relaxed);
    }

    /// Calls `each` with every subscription and every group that `topic` matches.
    pub(crate) fn visit(&self, topic: &str, mut each: impl FnMut(Match<'_>)) {
        let root = self.root.read();
        visit(&root, topic.split('/'), topic.starts_with('$'), &mut each);
    }

    /// The group of a shared filter, while it has members.
    pub(crate) fn group(&self, filter: &str) -> Option<Arc<Group>> {
        let root = self.root.read();
        let mut node = &*root;
        for level in topic::pattern(filter).split('/') {
            node = node.children.get(level)?;
        }
        node.groups.iter().find(|group| *group.filter == *filter).cloned()
    }

    /// How many subscriptions there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Adds a subscription, or replaces the session's one. Returns whether it is new.
fn put(
    list: &mut Vec<(Arc<Session>, Subscription)>,
    session: &Arc<Session>,
    subscription: Subscription,
) -> bool {
    if let Some((_, old)) = list.iter_mut().find(|(other, _)| Arc::ptr_eq(other, session)) {
        *old = subscription;
        return false;
    }
    list.push((Arc::clone(session), subscription));
    true
}

/// Takes something from the node at `levels`, and says whether the first node is of no more use. As
/// deep as a filter has levels.
fn remove<'a>(
    node: &mut Node,
    mut levels: impl Iterator<Item = &'a str>,
    take: &mut impl FnMut(&mut Node),
) -> bool {
    if let Some(level) = levels.next() {
        if node.children.get_mut(level).is_some_and(|child| remove(child, levels, take)) {
            node.children.remove(level);
        }
    } else {
        take(node);
    }
    node.children.is_empty() && node.here.is_empty() && node.groups.is_empty()
}

/// `reserved`: the topic starts with `$`, which no leading wildcard matches [MQTT-4.7.2-1].
fn visit<'a>(
    node: &Node,
    mut levels: impl Iterator<Item = &'a str> + Clone,
    reserved: bool,
    each: &mut impl FnMut(Match<'_>),
) {
    let mut call = |node: &Node| {
        node.here.iter().for_each(|(session, sub)| each(Match::One(session, sub)));
        node.groups.iter().for_each(|group| each(Match::Group(group)));
    };
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
    use crate::wire::RetainHandling;

    pub(super) fn subscription(filter: &str, qos: QoS) -> Subscription {
        Subscription {
            filter: filter.into(),
            options: SubscribeOptions {
                qos,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::Always,
            },
            id: None,
        }
    }

    fn matched(tree: &Subscriptions, topic: &str) -> Vec<String> {
        let mut found = Vec::new();
        tree.visit(topic, |matching| {
            found.push(match matching {
                Match::One(_, subscription) => subscription.filter.to_string(),
                Match::Group(group) => group.filter.to_string(),
            });
        });
        found.sort();
        found
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_matching_each_filter_finds(
            filters in prop::collection::btree_set(
                "([$]share/[gh]/)?(([ab$+]|遵)?(/([ab+]|)){0,3}(/#)?|#)", 0..12),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            topic in "[ab$遵]?(/[ab]?){0,4}",
        ) {
            prop_assume!(topic::is_valid_name(&topic));
            let mut filters: Vec<_> =
                filters.into_iter().filter(|f| topic::is_valid_filter(f)).collect();
            let (tree, session) = (Subscriptions::default(), session("s"));
            for filter in &filters {
                tree.insert(&session, subscription(filter, QoS::AtMostOnce));
                tree.insert(&session, subscription(filter, QoS::AtLeastOnce));
            }
            for index in removed {
                if filters.is_empty() {
                    break;
                }
                let filter = filters.remove(index.index(filters.len()));
                tree.remove(&session, &filter);
            }
            prop_assert_eq!(tree.count(), filters.len());
            let matches = |f: &&String| topic::matches(&topic, topic::pattern(f));
            let mut expected: Vec<_> = filters.iter().filter(matches).cloned().collect();
            expected.sort();
            prop_assert_eq!(matched(&tree, &topic), expected);
            for filter in &filters {
                tree.remove(&session, filter);
            }
            prop_assert!(tree.root.read().children.is_empty(), "nodes of no use were left");
            prop_assert_eq!(tree.count(), 0);
        }
    }
}
