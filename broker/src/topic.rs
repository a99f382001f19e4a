//! Topic names and filters: what is valid, what matches, and what is kept.

use loushan_schemas::topic::{ALARMS, Topic};

/// What the filters of shared subscriptions begin with.
const SHARE: &str = "$share/";

/// How long and how deep a topic or filter may be. MQTT bounds the length alone, at 65,535 bytes;
/// the tree of subscriptions is walked level by level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicLimits {
    pub(crate) levels: usize,
    pub(crate) bytes: usize,
}

impl TopicLimits {
    /// Whether the topic or filter is within the limits.
    pub(crate) fn allow(&self, topic: &str) -> bool {
        topic.len() <= self.bytes && topic.bytes().filter(|b| *b == b'/').count() < self.levels
    }
}

/// Whether `name` may be published to: not empty, no wildcard [MQTT-3.3.2-2, MQTT-4.7.3-1].
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && !name.bytes().any(|b| matches!(b, b'+' | b'#' | 0))
}

/// Whether `filter` may be subscribed to [MQTT-4.7.1-1, MQTT-4.7.1-2]; a shared one needs a group's
/// name without wildcards and a filter of its own [MQTT-4.8.2-1, MQTT-4.8.2-2].
pub(crate) fn is_valid_filter(filter: &str) -> bool {
    if !is_shared(filter) {
        return is_valid_pattern(filter);
    }
    share(filter).is_some_and(|(group, pattern)| {
        !group.is_empty() && !group.contains(['+', '#', '\0']) && is_valid_pattern(pattern)
    })
}

fn is_valid_pattern(filter: &str) -> bool {
    if filter.is_empty() || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wildcard = level.contains(['+', '#']);
        if wildcard && level.len() != 1 || level == "#" && levels.peek().is_some() {
            return false;
        }
    }
    true
}

/// Whether `filter` shares its messages with a group, `$share/GROUP/FILTER`.
pub(crate) fn is_shared(filter: &str) -> bool {
    filter.starts_with(SHARE)
}

/// Group and filter of a shared subscription; `None` for any other.
pub(crate) fn share(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix(SHARE)?.split_once('/')
}

/// The filter that topics are held against: without the group that it is shared with.
pub(crate) fn pattern(filter: &str) -> &str {
    share(filter).map_or(filter, |(_, pattern)| pattern)
}

/// Whether the broker itself, or whoever owns it, is the only one to publish there: its figures, and the
/// service's alarms. A region cannot be called so and publish.
pub(crate) fn is_brokers_own(name: &str) -> bool {
    let below = |root: &str| {
        name.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below("$SYS") || below(ALARMS)
}

/// Whether a message to `name` goes to a subscriber of `filter`, both being valid. A filter that
/// starts with a wildcard matches no `$`-topic [MQTT-4.7.2-1].
pub(crate) fn matches(name: &str, filter: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Whether the RETAIN flag means anything on `name`: not on the uplinks of stations, whose readings
/// are kept in the store and not here (`nb1/+/+/u/#`).
pub(crate) fn may_retain(name: &str) -> bool {
    if is_brokers_own(name) {
        return true;
    }
    match Topic::parse(name) {
        Ok(topic) => !topic.channel.is_uplink(),
        Err(_) => !matches(name, UPLINKS),
    }
}

/// What is below a station's `u/`, whether the grammar knows it or not.
const UPLINKS: &str = "nb1/+/+/u/#";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_alarms_and_figures_only_the_owner_publishes_and_may_retain_whatever_a_station_is_called()
     {
        for name in
            ["$SYS", "$SYS/broker/x", "nb1/alarms", "nb1/alarms/zunyi/u/station/station_offline"]
        {
            assert!(is_brokers_own(name) && may_retain(name), "{name}");
        }
        for name in ["nb1/alarmsx/zunyi/u/t", "nb1/zunyi/alarms/u/t", "alarms", "$SYSx"] {
            assert!(!is_brokers_own(name), "{name}");
        }
    }

    #[test]
    fn a_filter_matches_as_section_4_7_says() {
        for (name, filter, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/+", true),
            ("a/b", "a/#", true),
            ("a", "a/#", true),
            ("a/b", "#", true),
            ("a/b/c", "a/+", false),
            ("a", "a/+", false),
            ("/a", "+/+", true),
            ("/a", "/+", true),
            ("/a", "+", false),
            ("a/", "a/+", true),
            ("$SYS/x", "#", false),
            ("$SYS/x", "+/x", false),
            ("$SYS/x", "$SYS/#", true),
            ("遵义/1", "遵义/+", true),
            ("遵义/1", "#", true),
            ("a", "b", false),
        ] {
            assert_eq!(matches(name, filter), expected, "{name} against {filter}");
        }
    }

    #[test]
    fn only_names_without_wildcards_are_published_to_and_only_whole_levels_are_wildcards() {
        assert!(is_valid_name("遵义/1") && is_valid_name("/") && is_valid_name("a//b"));
        assert!(!is_valid_name("") && !is_valid_name("a/+") && !is_valid_name("#"));
        for filter in ["#", "+", "a/+/b", "+/+", "/", "a/#"] {
            assert!(is_valid_filter(filter), "{filter}");
        }
        for filter in ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a\0"] {
            assert!(!is_valid_filter(filter), "{filter:?}");
        }
        for filter in ["$share/g/a", "$share/g/+/#", "$share/遵义//", "$share"] {
            assert!(is_valid_filter(filter), "{filter}");
        }
        for filter in ["$share/", "$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/g/a#"]
        {
            assert!(!is_valid_filter(filter), "{filter}");
        }
    }

    #[test]
    fn a_topic_is_as_deep_as_it_has_levels() {
        let limits = TopicLimits { levels: 3, bytes: 8 };
        assert!(limits.allow("a/b/c") && limits.allow("//") && limits.allow("12345678"));
        assert!(!limits.allow("a/b/c/d") && !limits.allow("///") && !limits.allow("123456789"));
    }

    #[test]
    fn a_shared_filter_is_a_group_and_a_filter() {
        assert_eq!(share("$share/g/a/+"), Some(("g", "a/+")));
        assert_eq!((share("$share/g"), share("a/b")), (None, None));
        assert_eq!((pattern("$share/g//a"), pattern("$SYS/#")), ("/a", "$SYS/#"));
    }

    #[test]
    fn retain_means_nothing_on_the_uplinks_of_stations() {
        assert!(may_retain("nb1/zunyi/bs0001/state") && may_retain("home/u/t"));
        assert!(!may_retain("nb1/zunyi/bs0001/u/t") && !may_retain("nb1/zunyi/bs0001/u/x/y"));
    }
}
