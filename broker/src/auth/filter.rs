//! Which topics a pattern of a rule is about, and whether a filter lies inside it.
//!
//! A pattern is a topic filter (section 4.7) in which a whole level may also be `%c`, the client's
//! id, or `%u`, its user name. What is put in stands for itself: a client that calls itself `#` or
//! `a/b` is no wildcard and no two levels, it merely has no topic of its own.
//!
//! MQTT lets a filter that begins with a wildcard match no topic that begins with `$`. Here that
//! depends on what the rule does with it ([`Reach`]): a rule errs towards refusing.

use std::fmt;

/// Levels a pattern may have; a topic has no more.
const MAX_LEVELS: usize = 128;

/// Whether a leading wildcard reaches topics that begin with `$`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// As a subscription does: it does not. For what is allowed.
    Mqtt,
    /// It does. For what is denied: `deny all #` leaves nothing.
    All,
}

/// Names to put into a pattern.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) client: &'a str,
    /// `None` where nobody vouches for a name: `%u` then is no level at all.
    pub(super) user: Option<&'a str>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Level>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Literal(String),
    Client,
    User,
    One,
    Rest,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("it is empty")]
    Empty,
    #[error("it has more than 128 levels")]
    Deep,
    #[error("+, %c and %u stand for a whole level, and so does #, which is the last one")]
    Wildcard,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let mut levels = Vec::new();
        for level in text.split('/') {
            if levels.len() == MAX_LEVELS {
                return Err(PatternError::Deep);
            }
            if levels.last() == Some(&Level::Rest) {
                return Err(PatternError::Wildcard);
            }
            levels.push(match level {
                "+" => Level::One,
                "#" => Level::Rest,
                "%c" => Level::Client,
                "%u" => Level::User,
                // A name in the midst of a level would be cut out of what another client may choose.
                text if text.contains(['+', '#', '\0']) => return Err(PatternError::Wildcard),
                text if text.contains("%c") || text.contains("%u") => {
                    return Err(PatternError::Wildcard);
                }
                text => Level::Literal(text.to_owned()),
            });
        }
        Ok(Self(levels))
    }

    /// Whether the pattern is about a topic.
    pub(super) fn matches(&self, topic: &str, names: Names<'_>, reach: Reach) -> bool {
        if reach == Reach::Mqtt && topic.starts_with('$') && self.begins_with_wildcard() {
            return false;
        }
        let mut topic = topic.split('/');
        for level in &self.0 {
            if *level == Level::Rest {
                return true;
            }
            match topic.next() {
                Some(text) if level.is(text, names) => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }

    /// Whether every topic that a valid filter matches is one that the pattern is about.
    pub(super) fn covers(&self, filter: &str, names: Names<'_>, reach: Reach) -> bool {
        if reach == Reach::Mqtt && filter.starts_with('$') && self.begins_with_wildcard() {
            return false;
        }
        // No topic is empty: what a filter `#` matches begins with some level, and what `/#` matches,
        // which would match the empty one as well, has a second.
        let filter = match filter {
            "#" => "+/#",
            "/#" => "/+/#",
            other => other,
        };
        let mut filter = filter.split('/');
        for level in &self.0 {
            if *level == Level::Rest {
                // Also of what ends here: `a/#` is about `a`.
                return true;
            }
            let inside = match filter.next() {
                // What it matches may end here, or go on for ever.
                None | Some("#") => false,
                Some("+") => *level == Level::One,
                Some(text) => level.is(text, names),
            };
            if !inside {
                return false;
            }
        }
        filter.next().is_none()
    }

    fn begins_with_wildcard(&self) -> bool {
        matches!(self.0.first(), Some(Level::One | Level::Rest))
    }
}

impl Level {
    /// Whether a topic's level, or a literal one of a filter, is this one.
    fn is(&self, text: &str, names: Names<'_>) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Client => names.client == text,
            Self::User => names.user == Some(text),
            Self::One | Self::Rest => true,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, level) in self.0.iter().enumerate() {
            let text = match level {
                Level::Literal(text) => text,
                Level::Client => "%c",
                Level::User => "%u",
                Level::One => "+",
                Level::Rest => "#",
            };
            write!(f, "{}{text}", if n == 0 { "" } else { "/" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::topic;

    const NAMES: Names<'static> = Names { client: "c1", user: Some("u1") };

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_filter_is_covered_when_everything_it_matches_is() {
        for (text, filter, expected) in [
            ("#", "#", true),
            ("#", "a/+/#", true),
            ("+/#", "#", true),
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/#", "a/+", true),
            ("a/#", "#", false),
            ("a/#", "+/b", false),
            ("a/+/#", "a/#", false),
            ("/+/#", "/#", true),
            ("/#", "/#", true),
            ("/+", "/#", false),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/b", "a/+", false),
            ("a", "a/#", false),
            ("a/b", "a", false),
            ("a/%c/d", "a/c1/d", true),
            ("a/%c/d", "a/+/d", false),
            ("a/%u/d", "a/c1/d", false),
        ] {
            for reach in [Reach::Mqtt, Reach::All] {
                assert_eq!(pattern(text).covers(filter, NAMES, reach), expected, "{text} {filter}");
            }
        }
    }

    #[test]
    fn a_leading_wildcard_reaches_dollar_topics_only_where_that_refuses_more() {
        for text in ["#", "+/x"] {
            assert!(!pattern(text).matches("$SYS/x", NAMES, Reach::Mqtt));
            assert!(pattern(text).matches("$SYS/x", NAMES, Reach::All));
            assert!(!pattern(text).covers("$SYS/x", NAMES, Reach::Mqtt));
            assert!(pattern(text).covers("$SYS/x", NAMES, Reach::All));
        }
        assert!(pattern("$SYS/#").covers("$SYS/+/x", NAMES, Reach::Mqtt));
    }

    #[test]
    fn a_name_stands_for_itself_whatever_it_is() {
        for client in ["#", "+", "a/b", "a/#", ""] {
            let names = Names { client, user: None };
            for text in ["nb1/%c/x", "nb1/%c/#", "%c/#"] {
                let pattern = pattern(text);
                for topic in ["nb1/zunyi/x", "nb1/a/b/x", "nb1/a/b", "nb1/x", "a/b"] {
                    assert!(!pattern.matches(topic, names, Reach::All), "{client} {text} {topic}");
                    assert!(!pattern.covers(topic, names, Reach::All), "{client} {text} {topic}");
                }
                for filter in ["#", "nb1/#", "nb1/+/x", "+/+/#"] {
                    assert!(!pattern.covers(filter, names, Reach::All), "{client} {text} {filter}");
                }
            }
            // Where nobody vouches for a name, there is no level that is it.
            assert!(!pattern("a/%u").matches("a/", names, Reach::All));
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        for bad in ["a/#/b", "a#", "+a", "a%c", "%u-x", "a\0"] {
            assert_eq!(Pattern::parse(bad), Err(PatternError::Wildcard), "{bad}");
        }
        assert_eq!(Pattern::parse(&"/".repeat(128)), Err(PatternError::Deep));
        assert_eq!(pattern("a/%c/%u/+/#").to_string(), "a/%c/%u/+/#");
    }

    /// Filters of up to three levels over few words, so that they meet.
    fn filters() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec!["a", "b", "", "+", "$x"]);
        let rest = prop::option::of(Just("#"));
        (prop::collection::vec(word, 0..4), rest)
            .prop_map(|(mut levels, rest)| {
                levels.extend(rest);
                levels.join("/")
            })
            .prop_filter("valid", |text| topic::is_valid_filter(text))
    }

    /// All topics of up to five levels over the words and one that no filter names: with one level
    /// more than any filter has, what is true of them is true of all.
    fn topics() -> Vec<String> {
        let words = ["a", "b", "", "$x", "z"];
        let mut all: Vec<String> = words.map(str::to_owned).to_vec();
        let mut last = all.clone();
        for _ in 0..4 {
            last =
                last.iter().flat_map(|t| words.iter().map(move |w| format!("{t}/{w}"))).collect();
            all.extend(last.iter().cloned());
        }
        all.retain(|name| topic::is_valid_name(name));
        all
    }

    proptest! {
        #[test]
        fn covering_is_exactly_matching_whatever_the_filter_matches(
            text in filters(),
            filter in filters(),
            all in any::<bool>(),
        ) {
            let pattern = pattern(&text);
            let reach = if all { Reach::All } else { Reach::Mqtt };
            let inside = topics()
                .iter()
                .filter(|name| topic::matches(name, &filter))
                .all(|name| pattern.matches(name, NAMES, reach));
            prop_assert_eq!(pattern.covers(&filter, NAMES, reach), inside);
        }

        #[test]
        fn a_pattern_without_names_matches_as_a_filter_does(text in filters(), n in 0usize..3905) {
            let topics = topics();
            let name = &topics[n % topics.len()];
            prop_assert_eq!(
                pattern(&text).matches(name, NAMES, Reach::Mqtt),
                topic::matches(name, &text)
            );
        }
    }
}
