//! The values as they were written, each checked against its key alone.
//!
//! File and environment are read into one map from key to value; the environment wins. Nothing
//! stops at the first fault. The TOML reader is used below its serde layer, because that layer ends
//! at the first error and prints the line it found it in, which may hold a token.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Origin, shorten};
use super::keys::SECTIONS;
use super::table::{
    Default, FAMILIES, Key, Kind, SINK_NAMES, Section, Setting, find, find_section, is_sink_name,
};

/// How every environment variable of ours starts.
pub const ENVIRONMENT_PREFIX: &str = "LOUSHAN__";

/// What was written, by dotted key.
#[derive(Debug, Default)]
pub(super) struct Raw {
    settings: BTreeMap<String, (Setting, Origin)>,
    /// Keys that were written, well or badly, and optional sections that were opened.
    mentioned: BTreeSet<String>,
    pub(super) faults: Vec<Fault>,
}

impl Raw {
    /// Reads the file's text and the environment's variables; others than ours are left alone.
    pub(super) fn read(
        file: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut raw = Self::default();
        if let Some(text) = file {
            raw.read_file(text);
        }
        let mut ours: Vec<_> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .collect();
        ours.sort();
        for (name, value) in ours {
            raw.read_variable(name, &value);
        }
        raw
    }

    /// The value of a key, its default where it has none. A faulty value counts as its default, so
    /// that the rest can be looked at.
    pub(super) fn get(&self, path: &str) -> Option<Setting> {
        if let Some((setting, _)) = self.settings.get(path) {
            return Some(setting.clone());
        }
        match find(path)? {
            (_, Key { kind, default: Default::Is(text), .. }) => kind.parse(text),
            _ => None,
        }
    }

    /// Where a key's value came from.
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.settings.get(path).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Whether an optional section is on: it was opened, or one of its keys was set.
    pub(super) fn is_on(&self, section: &str) -> bool {
        self.mentioned.iter().any(|path| {
            path.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// The members of a family of sections, by name: the sinks of the InfluxDB protocol, say.
    pub(super) fn members(&self, prefix: &str) -> Vec<String> {
        let below = self.mentioned.iter().filter_map(|path| path.strip_prefix(prefix));
        let mut names: Vec<String> = below
            .map(|rest| rest.split_once('.').map_or(rest, |(name, _)| name))
            .filter(|name| is_sink_name(name))
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Notes what must be set and is not, section by section.
    pub(super) fn require(&mut self) {
        for section in SECTIONS {
            let family = FAMILIES.iter().find(|(_, stands_for)| *stands_for == section.name);
            if let Some((prefix, _)) = family {
                for name in self.members(prefix) {
                    self.require_of(section, &format!("{prefix}{name}"));
                }
            } else if !section.optional || self.is_on(section.name) {
                self.require_of(section, section.name);
            }
        }
    }

    fn require_of(&mut self, section: &Section, name: &str) {
        for key in section.keys {
            let path = format!("{name}.{}", key.name);
            if let Default::Required(example) = key.default
                && !self.mentioned.contains(&path)
            {
                self.faults.push(Fault {
                    problem: format!("must be set where [{name}] is"),
                    remedy: format!(
                        "write {} = \"{example}\" with your own value, or set {}",
                        key.name,
                        variable(&path)
                    ),
                    key: path,
                    origin: Origin::Default,
                });
            }
        }
    }

    fn read_file(&mut self, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            self.faults.push(Fault {
                key: String::new(),
                origin: Origin::Line(line_of(text, error.span().map_or(0, |span| span.start))),
                problem: format!("this is not TOML: {}", error.message()),
                remedy: "see print-config for a file that is".to_owned(),
            });
        }
        self.read_table("", table.get_ref(), text);
    }

    fn read_table(&mut self, prefix: &str, table: &DeTable<'_>, text: &str) {
        for (name, value) in table {
            let origin = Origin::Line(line_of(text, name.span().start));
            let path = match prefix {
                "" => name.get_ref().to_string(),
                prefix => format!("{prefix}.{}", name.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(inner) if is_section_or_above(&path) => {
                    self.mentioned.insert(path.clone());
                    self.read_table(&path, inner, text);
                }
                DeValue::String(value) => self.set(path, value, origin),
                DeValue::Integer(value) => self.set(path, &value.to_string(), origin),
                DeValue::Boolean(value) => self.set(path, &value.to_string(), origin),
                other => match find(&path) {
                    None => self.unknown(path, origin),
                    Some((_, key)) => self.faults.push(Fault {
                        problem: format!("the value is of the wrong type ({})", other.type_str()),
                        remedy: format!("write {}", key.kind.accepted()),
                        key: path,
                        origin,
                    }),
                },
            }
        }
    }

    fn read_variable(&mut self, name: String, value: &str) {
        let path = all_keys().map(|(path, _)| path).find(|path| variable(path) == name);
        match path.or_else(|| self.members_path(&name)) {
            Some(path) => self.set(path, value, Origin::Environment(name)),
            None => {
                let path = name.trim_start_matches(ENVIRONMENT_PREFIX).replace("__", ".");
                self.unknown(path.to_lowercase(), Origin::Environment(name));
            }
        }
    }

    /// The path of a variable of a family's member that does not stand for all: one the file has, whose
    /// name may have a `-` that no shell's variable can have, or one that only the environment has.
    fn members_path(&self, variable_name: &str) -> Option<String> {
        FAMILIES.iter().find_map(|(prefix, _)| {
            let rest = variable_name.strip_prefix(&variable(prefix))?;
            let (name, key) = rest.rsplit_once("__")?;
            let key = key.to_lowercase();
            let known = self.members(prefix).into_iter();
            let known = known.map(|name| format!("{prefix}{name}.{key}"));
            let known = known.into_iter().find(|path| variable(path) == variable_name);
            let path = known.unwrap_or_else(|| format!("{prefix}{}.{key}", name.to_lowercase()));
            // The reverse as well: what is written in small letters names no key.
            (find(&path).is_some() && variable(&path) == variable_name).then_some(path)
        })
    }

    fn set(&mut self, path: String, value: &str, origin: Origin) {
        let Some((_, key)) = find(&path) else {
            self.unknown(path, origin);
            return;
        };
        self.mentioned.insert(path.clone());
        match key.kind.parse(value) {
            Some(setting) => {
                self.settings.insert(path, (setting, origin));
            }
            None => self.faults.push(Fault {
                problem: match key.kind {
                    // An address may carry a password by mistake.
                    Kind::Secret | Kind::Url => "the value is not accepted".to_owned(),
                    _ => format!("{} is not accepted", shorten(value)),
                },
                remedy: format!("write {}", key.kind.accepted()),
                key: path,
                origin,
            }),
        }
    }

    fn unknown(&mut self, path: String, origin: Origin) {
        let above = path.rsplit_once('.').map(|(section, _)| section);
        let section = above.and_then(|name| Some((name, find_section(name)?)));
        let remedy = match section {
            Some((name, section)) => format!("keys of [{name}] are {}", names(section)),
            None if FAMILIES.iter().any(|(prefix, _)| path.starts_with(prefix)) => {
                SINK_NAMES.to_owned()
            }
            None => {
                let names: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
                format!("sections are {}", names.join(", "))
            }
        };
        let problem = "there is no such key or section".to_owned();
        self.faults.push(Fault { key: path, origin, problem, remedy });
    }
}

/// The environment variable of a key. A `-`, which a sink's name may have, is a `_` there.
#[must_use]
pub fn variable(path: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", path.replace('.', "__").replace('-', "_").to_uppercase())
}

/// All keys by their dotted paths; a sink's by those of the one called *influx*.
pub(super) fn all_keys() -> impl Iterator<Item = (String, &'static Key)> {
    SECTIONS.iter().flat_map(|section| {
        section.keys.iter().map(move |key| (format!("{}.{}", section.name, key.name), key))
    })
}

fn names(section: &Section) -> String {
    let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
    names.join(", ")
}

fn is_section_or_above(path: &str) -> bool {
    find_section(path).is_some()
        || SECTIONS.iter().any(|section| {
            section
                .name
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
}

/// The line, from 1, that a byte of the text is in.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
