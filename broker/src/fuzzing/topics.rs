//! Names and filters against a model that walks slices of levels.

use std::sync::Arc;

use loushan_schemas::topic::Topic;

use crate::budget::Budget;
use crate::handler::QoS;
use crate::session::{QueueLimits, Session};
use crate::subscriptions::{Match, Subscription, Subscriptions};
use crate::topic::{self, TopicLimits};
use crate::wire::{RetainHandling, SubscribeOptions};

const MAX_FILTERS: usize = 16;
/// The default ones: what is longer or deeper reaches no tree.
const LIMITS: TopicLimits = TopicLimits { levels: 128, bytes: 4096 };

pub(super) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let name = lines.next().unwrap_or_default();
    let levels: Vec<_> = name.split('/').collect();
    let valid = !name.is_empty() && !name.contains(['+', '#', '\0']);
    assert_eq!(topic::is_valid_name(name), valid, "{name:?}");
    if let Ok(parsed) = Topic::parse(name) {
        assert_eq!(parsed.to_string(), name, "a topic of the pilot is written as it was read");
        assert!(valid);
    }
    let mut filters: Vec<&str> = Vec::new();
    for filter in lines.take(MAX_FILTERS) {
        assert_eq!(topic::is_valid_filter(filter), valid_filter(filter), "{filter:?}");
        if valid_filter(filter) && LIMITS.allow(filter) && !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    if !valid || !LIMITS.allow(name) {
        return;
    }
    topic::may_retain(name);
    let limits = QueueLimits { session: 0, total: Budget::new(0), away: Budget::new(0) };
    let session = Arc::new(Session::new("s".into(), Arc::new(limits)));
    let tree = Subscriptions::default();
    for filter in &filters {
        tree.insert(&session, subscription(filter));
        tree.insert(&session, subscription(filter));
        let pattern = topic::pattern(filter);
        let expected = matches(name.starts_with('$'), &levels, pattern);
        assert_eq!(topic::matches(name, pattern), expected, "{name:?} against {filter:?}");
    }
    // One after the other goes; the others are found all the same.
    while let Some(gone) = filters.pop() {
        let mut found = Vec::new();
        tree.visit(name, |matched| {
            found.push(match matched {
                Match::One(_, subscription) => Some(subscription.filter.clone()),
                Match::Group(_) => None,
            });
        });
        let expected = filters
            .iter()
            .chain([&gone])
            .filter(|filter| topic::matches(name, topic::pattern(filter)));
        assert_eq!(found.len(), expected.clone().count(), "{name:?}: {found:?}");
        for filter in expected.filter(|filter| !topic::is_shared(filter)) {
            assert!(found.iter().flatten().any(|f| **f == **filter), "{filter:?}");
        }
        assert_eq!(tree.count(), filters.len() + 1);
        tree.remove(&session, gone);
    }
    tree.visit(name, |left| panic!("all were removed: {left:?}"));
    assert_eq!(tree.count(), 0);
}

fn valid_filter(filter: &str) -> bool {
    let mut levels: Vec<_> = filter.split('/').collect();
    if let ["$share", rest @ ..] = levels.as_slice()
        && !rest.is_empty()
    {
        let [group, rest @ ..] = rest else { return false };
        if group.is_empty() || group.contains(['+', '#', '\0']) || rest.is_empty() {
            return false;
        }
        levels = rest.to_vec();
    }
    levels != [""]
        && !filter.contains('\0')
        && levels.iter().all(|level| !level.contains(['+', '#']) || level.len() == 1)
        && levels.iter().rev().skip(1).all(|level| *level != "#")
}

fn matches(reserved: bool, names: &[&str], filter: &str) -> bool {
    fn walk(names: &[&str], filters: &[&str]) -> bool {
        match (names, filters) {
            (_, ["#"]) => true,
            ([], []) => true,
            ([name, names @ ..], [filter, filters @ ..]) => {
                (*filter == "+" || filter == name) && walk(names, filters)
            }
            _ => false,
        }
    }
    let filters: Vec<_> = filter.split('/').collect();
    let wild = matches!(filters.first(), Some(&"#" | &"+"));
    !(reserved && wild) && walk(names, &filters)
}

fn subscription(filter: &str) -> Subscription {
    let options = SubscribeOptions {
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    };
    Subscription { filter: filter.into(), options, id: None }
}
