//! Topic aliases towards one client [3.3.2.3.4].

use std::sync::Arc;

use hashbrown::HashMap;

/// Most topics that are remembered for a client, whatever maximum it names.
const MAX_ALIASES: u16 = 256;

/// What an alias costs where it stands beside a topic; a topic no longer than that is better sent.
const COST: usize = 3;

/// The first topics that are sent to a client get an alias and keep it: which of many comes again is
/// not known, and an alias that moves from topic to topic saves nothing.
#[derive(Debug)]
pub(super) struct Aliases {
    max: u16,
    known: HashMap<Arc<str>, u16>,
}

/// How a topic is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alias {
    /// In full.
    None,
    /// In full, beside an alias that the client is to remember.
    New(u16),
    /// By its alias alone.
    Known(u16),
}

impl Aliases {
    /// Aliases up to the client's Topic Alias Maximum; none if that is 0.
    pub(super) fn new(maximum: u16) -> Self {
        Self { max: maximum.min(MAX_ALIASES), known: HashMap::new() }
    }

    pub(super) fn of(&self, topic: &str) -> Alias {
        if let Some(alias) = self.known.get(topic) {
            return Alias::Known(*alias);
        }
        match u16::try_from(self.known.len()) {
            Ok(taken) if taken < self.max && topic.len() > COST => Alias::New(taken + 1),
            _ => Alias::None,
        }
    }

    /// The topic was sent with a new alias.
    pub(super) fn learn(&mut self, topic: &Arc<str>, alias: u16) {
        self.known.insert(Arc::clone(topic), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_get_aliases_and_keep_them() {
        let mut aliases = Aliases::new(2);
        for (topic, alias) in [("home/a", Alias::New(1)), ("home/b", Alias::New(2))] {
            assert_eq!(aliases.of(topic), alias);
            let Alias::New(number) = alias else { unreachable!() };
            aliases.learn(&topic.into(), number);
        }
        assert_eq!(aliases.of("home/c"), Alias::None, "the maximum is 2");
        assert_eq!(aliases.of("home/a"), Alias::Known(1));
        assert_eq!(
            (Aliases::new(0).of("home/a"), Aliases::new(9).of("abc")),
            (Alias::None, Alias::None)
        );
    }
}
