//! Topic names and filters: what is valid, what matches, and what is kept.

use loushan_schemas::topic::Topic;

/// Levels a filter or topic may have. MQTT names no bound; matching walks them one by one.
const MAX_LEVELS: usize = 128;

/// Whether `name` may be published to: not empty, no wildcard [MQTT-3.3.2-2, MQTT-4.7.3-1].
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && !name.bytes().any(|b| matches!(b, b'+' | b'#' | 0))
        && name.bytes().filter(|b| *b == b'/').count() < MAX_LEVELS
}

/// Whether `filter` may be subscribed to [MQTT-4.7.1-1, MQTT-4.7.1-2].
pub(crate) fn is_valid_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    let mut count = 0;
    while let Some(level) = levels.next() {
        count += 1;
        let wildcard = level.contains(['+', '#']);
        if count > MAX_LEVELS
            || wildcard && level.len() != 1
            || level == "#" && levels.peek().is_some()
        {
            return false;
        }
    }
    true
}

/// Whether `filter` names a shared group.
pub(crate) fn is_shared(filter: &str) -> bool {
    filter == "$share" || filter.starts_with("$share/")
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
        assert!(is_valid_filter(&"/".repeat(127)) && !is_valid_filter(&"/".repeat(128)));
    }

    #[test]
    fn retain_means_nothing_on_the_uplinks_of_stations() {
        assert!(may_retain("nb1/zunyi/bs0001/state") && may_retain("home/u/t"));
        assert!(!may_retain("nb1/zunyi/bs0001/u/t") && !may_retain("nb1/zunyi/bs0001/u/x/y"));
    }
}
