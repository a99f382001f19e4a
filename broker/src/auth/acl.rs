//! Free rules: who else may, and who may not.
//!
//! One rule a line, the first that is about something decides; where none is, the role does.
//!
//! ```text
//! # comment
//! allow|deny publish|subscribe|all PATTERN [user NAME | role ROLE | client ID]
//! deny subscribe test/nosubscribe
//! allow all private/%u/# role operator
//! deny all "floor plans/#"
//! ```
//!
//! PATTERN is a topic filter with `%c` and `%u` (see `filter`). A rule is about a SUBSCRIBE when its
//! pattern covers the whole of the filter. A denying one that covers a part of it leaves the
//! subscription, and its messages are then held against the rules one by one: what is denied does not
//! arrive, however wide the filter it was asked for by.

use super::filter::{Names, Pattern, PatternError, Reach};
use super::role::RoleName;

/// Rules of one file. Each is looked at with every publish of every client, so that more would be a
/// mistake.
const MAX_RULES: usize = 10_000;

/// All rules, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Acl(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    publish: bool,
    subscribe: bool,
    pattern: Pattern,
    who: Who,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Everybody,
    User(String),
    Role(RoleName),
    Client(String),
}

/// Somebody whom rules may be about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) names: Names<'a>,
    pub(super) role: RoleName,
}

/// A line that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct AclError {
    /// From 1.
    line: usize,
    why: String,
}

/// The form of a rule, for errors.
const FORM: &str =
    "a rule is allow|deny publish|subscribe|all PATTERN [user NAME | role ROLE | client ID]";

impl Acl {
    /// Reads rules.
    ///
    /// # Errors
    /// The first line that is none.
    pub(super) fn parse(text: &str) -> Result<Self, AclError> {
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let error = |why: String| AclError { line: index + 1, why };
            let words = words(line).map_err(error)?;
            if words.is_empty() {
                continue;
            }
            if rules.len() == MAX_RULES {
                return Err(error(format!("there are more than {MAX_RULES} rules")));
            }
            rules.push(rule(&words).map_err(error)?);
        }
        Ok(Self(rules))
    }

    /// These rules, then those.
    pub(super) fn then(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// Whether the rules let somebody publish to a topic; `None` where they say nothing of it.
    pub(super) fn publish(&self, topic: &str, subject: Subject<'_>) -> Option<bool> {
        let mut about = self.0.iter().filter(|rule| rule.publish && rule.is_about(subject));
        about.find(|rule| rule.matches(topic, subject.names)).map(|rule| rule.allow)
    }

    /// Whether the rules let somebody subscribe to a filter.
    pub(super) fn subscribe(&self, filter: &str, subject: Subject<'_>) -> Option<bool> {
        let mut about = self.0.iter().filter(|rule| rule.subscribe && rule.is_about(subject));
        about
            .find(|rule| rule.pattern.covers(filter, subject.names, rule.reach()))
            .map(|rule| rule.allow)
    }

    /// Whether the rules let a message reach somebody who subscribed to it.
    pub(super) fn receive(&self, topic: &str, subject: Subject<'_>) -> Option<bool> {
        let mut about = self.0.iter().filter(|rule| rule.subscribe && rule.is_about(subject));
        about.find(|rule| rule.matches(topic, subject.names)).map(|rule| rule.allow)
    }
}

impl Rule {
    fn is_about(&self, subject: Subject<'_>) -> bool {
        match &self.who {
            Who::Everybody => true,
            Who::User(user) => subject.names.user == Some(user),
            Who::Role(role) => subject.role == *role,
            Who::Client(client) => subject.names.client == client,
        }
    }

    fn matches(&self, topic: &str, names: Names<'_>) -> bool {
        self.pattern.matches(topic, names, self.reach())
    }

    fn reach(&self) -> Reach {
        if self.allow { Reach::Mqtt } else { Reach::All }
    }
}

fn rule(words: &[String]) -> Result<Rule, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [effect, action, pattern, who @ ..] = words.as_slice() else {
        return Err(FORM.to_owned());
    };
    let allow = match *effect {
        "allow" => true,
        "deny" => false,
        other => return Err(format!("{} is neither allow nor deny; {FORM}", shorten(other))),
    };
    let (publish, subscribe) = match *action {
        "publish" => (true, false),
        "subscribe" => (false, true),
        "all" => (true, true),
        other => return Err(format!("{} is no action; {FORM}", shorten(other))),
    };
    let pattern = Pattern::parse(pattern)
        .map_err(|e: PatternError| format!("{} is no pattern: {e}", shorten(pattern)))?;
    let who = match who {
        [] => Who::Everybody,
        ["user", name] => Who::User((*name).to_owned()),
        ["client", id] => Who::Client((*id).to_owned()),
        ["role", role] => Who::Role(role.parse().map_err(|e| format!("{e}, and anonymous"))?),
        [other, ..] => return Err(format!("{} after the pattern; {FORM}", shorten(other))),
    };
    Ok(Rule { allow, publish, subscribe, pattern, who })
}

/// The words of a line; one in double quotes may have spaces in it. A word that begins with `#` where
/// a rule would begin makes the line a comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    if rest.starts_with('#') {
        return Ok(words);
    }
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                quoted.split_once('"').ok_or_else(|| "a quotation mark is not closed".to_owned())?
            }
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    Ok(words)
}

/// Enough of a bad word to recognise it.
fn shorten(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(text: &str) -> Acl {
        Acl::parse(text).unwrap()
    }

    fn subject<'a>(client: &'a str, user: Option<&'a str>, role: RoleName) -> Subject<'a> {
        Subject { names: Names { client, user }, role }
    }

    fn anybody() -> Subject<'static> {
        subject("c1", None, RoleName::Anonymous)
    }

    #[test]
    fn the_first_rule_that_is_about_something_decides() {
        let acl = acl("# rules\n\ndeny publish a/b\nallow publish a/#\ndeny all a/#\n");
        assert_eq!(acl.publish("a/b", anybody()), Some(false));
        assert_eq!(acl.publish("a/c", anybody()), Some(true));
        assert_eq!(acl.publish("b", anybody()), None);
        assert_eq!(acl.subscribe("a/c", anybody()), Some(false));
        assert_eq!(acl.subscribe("#", anybody()), None);
    }

    #[test]
    fn a_rule_can_be_about_a_user_a_role_or_a_client() {
        let acl = acl(
            "deny all x user ada\ndeny all y role operator\ndeny all z client c1\ndeny all w role anonymous",
        );
        let ada = subject("c2", Some("ada"), RoleName::Operator);
        let who = |topic| (acl.publish(topic, ada), acl.publish(topic, anybody()));
        assert_eq!(who("x"), (Some(false), None));
        assert_eq!(who("y"), (Some(false), None));
        assert_eq!(who("z"), (None, Some(false)));
        assert_eq!(who("w"), (None, Some(false)));
    }

    #[test]
    fn what_is_denied_does_not_arrive_by_a_wider_filter() {
        let acl = acl("deny subscribe secret/#\nallow subscribe #\n");
        assert_eq!(acl.subscribe("secret/x", anybody()), Some(false));
        assert_eq!(acl.subscribe("#", anybody()), Some(true));
        assert_eq!(acl.receive("secret/x", anybody()), Some(false));
        assert_eq!(acl.receive("open/x", anybody()), Some(true));
    }

    #[test]
    fn an_allowed_filter_lies_wholly_inside_the_pattern() {
        let acl = acl("allow subscribe a/+\ndeny subscribe #\n");
        assert_eq!(acl.subscribe("a/b", anybody()), Some(true));
        assert_eq!(acl.subscribe("a/+", anybody()), Some(true));
        for wider in ["a/#", "+/b", "#", "a/b/c", "$SYS/#"] {
            assert_eq!(acl.subscribe(wider, anybody()), Some(false), "{wider}");
        }
    }

    #[test]
    fn a_pattern_with_spaces_is_quoted_and_a_wildcard_is_no_comment() {
        let acl = acl("deny all \"floor plans/#\" user \"Ada L\"\nallow publish # client c1");
        let ada = subject("c", Some("Ada L"), RoleName::Operator);
        assert_eq!(acl.publish("floor plans/1", ada), Some(false));
        assert_eq!(acl.publish("x", anybody()), Some(true));
    }

    #[test]
    fn a_line_that_is_no_rule_is_named_with_what_would_be_one() {
        for (text, said) in [
            ("allow publish a\nforbid all a", "line 2: \"forbid\" is neither allow nor deny"),
            ("allow read a", "\"read\" is no action"),
            ("allow all", "a rule is allow|deny"),
            ("allow all a/#/b", "\"a/#/b\" is no pattern"),
            ("allow all a role root", "\"root\" is no role"),
            ("allow all a for ada", "\"for\" after the pattern"),
            ("allow all a user", "\"user\" after the pattern"),
            ("allow all \"a", "not closed"),
        ] {
            let error = Acl::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
