//! A run as a file, as flags, or as both.
//!
//! There is one list of keys ([`keys()`]). In a scenario file (TOML) a key stands by its name, a fault's in
//! the table `[fault]`; on the command line it is a flag of the same name with dashes. Both are text to the
//! same parser, so they take the same values and make the same errors. What is said later replaces what
//! was said before: defaults, then the file, then the flags. Unknown keys are refused, and all faults of a
//! scenario are told at once, each with key, value and remedy.

mod expect;
mod keys;

use std::path::PathBuf;

pub use expect::{Expected, expect};
pub use keys::{Key, keys};

use crate::fault::FaultRates;
use crate::options::FleetOptions;
use crate::report::Condition;

/// What a run needs to know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the scenario is for, in a line.
    pub about: String,
    /// The run.
    pub fleet: FleetOptions,
    /// Processes the fleet is dealt to.
    pub processes: u32,
    /// What makes the run a failure.
    pub fail_if: Vec<Condition>,
}

/// Keys with what is said of them, in order. A key that takes one value has one.
pub type Said = Vec<(String, Vec<String>)>;

/// Why there is no such run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not among the shipped ones, and no file.
    #[error("there is no scenario {name:?}: {source}; give a file or one of {}", names())]
    Unknown {
        /// As it was given.
        name: String,
        /// Why the file of that name was not read.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("scenario {name}: {source}")]
    Toml {
        /// Of which.
        name: String,
        /// Where, and what.
        source: Box<toml::de::Error>,
    },
    /// All that is wrong with its keys.
    #[error("{}", .0.join("\n"))]
    Keys(Vec<String>),
}

/// The scenarios in the binary: name and file.
pub const SHIPPED: [(&str, &str); 6] = [
    ("ordinary-day", include_str!("../../scenarios/ordinary-day.toml")),
    ("design-load", include_str!("../../scenarios/design-load.toml")),
    ("replay-storm", include_str!("../../scenarios/replay-storm.toml")),
    ("midnight-meters", include_str!("../../scenarios/midnight-meters.toml")),
    ("flaky-radio", include_str!("../../scenarios/flaky-radio.toml")),
    ("hostile", include_str!("../../scenarios/hostile.toml")),
];

fn names() -> String {
    SHIPPED.map(|(name, _)| name).join(", ")
}

/// What a scenario says: one of the shipped ones by its name, any other by its path.
///
/// # Errors
/// When there is none, when it is not TOML, or when a value is a table.
pub fn read(name: &str) -> Result<Said, ScenarioError> {
    let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
    let text = match shipped {
        Some((_, text)) => (*text).to_owned(),
        None => std::fs::read_to_string(PathBuf::from(name))
            .map_err(|source| ScenarioError::Unknown { name: name.to_owned(), source })?,
    };
    parse(name, &text)
}

fn parse(name: &str, text: &str) -> Result<Said, ScenarioError> {
    let table: toml::Table = text.parse().map_err(|source| ScenarioError::Toml {
        name: name.to_owned(),
        source: Box::new(source),
    })?;
    let (mut said, mut faults) = (Vec::new(), Vec::new());
    collect("", &table, &mut said, &mut faults);
    if faults.is_empty() { Ok(said) } else { Err(ScenarioError::Keys(faults)) }
}

fn collect(prefix: &str, table: &toml::Table, said: &mut Said, faults: &mut Vec<String>) {
    for (key, value) in table {
        let name = format!("{prefix}{key}");
        let values = match value {
            toml::Value::Table(inner) if prefix.is_empty() => {
                collect(&format!("{name}."), inner, said, faults);
                continue;
            }
            toml::Value::Array(values) => values.iter().map(text_of).collect(),
            value => text_of(value).map(|text| vec![text]),
        };
        match values {
            Some(values) => said.push((name, values)),
            None => {
                faults.push(format!("{name} is a list or table of more than texts and numbers"))
            }
        }
    }
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Default for Plan {
    /// The pilot's fleet, against no target.
    fn default() -> Self {
        let fleet = FleetOptions { faults: FaultRates::default(), ..FleetOptions::new("") };
        Self { about: String::new(), fleet, processes: 1, fail_if: Vec::new() }
    }
}

impl Plan {
    /// The defaults with what was said, later parts replacing earlier ones, checked as a whole.
    ///
    /// # Errors
    /// With all that is wrong.
    pub fn of(parts: &[Said]) -> Result<Self, ScenarioError> {
        let (keys, mut plan, mut faults) = (keys(), Self::default(), Vec::new());
        for (name, values) in parts.iter().flatten() {
            let Some(key) = keys.iter().find(|key| key.name == *name) else {
                let near = keys.iter().max_by_key(|key| likeness(&key.name, name));
                let near = near.map_or("", |key| key.name.as_str());
                faults.push(format!("unknown key {name}; the nearest one is {near}"));
                continue;
            };
            if let Err(remedy) = key.set(&mut plan, values) {
                let value = values.join(", ");
                let value: String = value.chars().take(80).collect();
                faults.push(format!("{name} is {value:?}; {remedy}"));
            }
        }
        faults.extend(plan.fleet.faults());
        if plan.processes > plan.fleet.stations.max(1) {
            faults.push(format!(
                "processes is {}, more than there are stations; give at most {}",
                plan.processes, plan.fleet.stations
            ));
        }
        if faults.is_empty() { Ok(plan) } else { Err(ScenarioError::Keys(faults)) }
    }
}

/// How many pairs of neighbouring letters two words share.
fn likeness(one: &str, other: &str) -> usize {
    let pairs =
        |word: &str| -> Vec<(char, char)> { word.chars().zip(word.chars().skip(1)).collect() };
    let others = pairs(other);
    pairs(one).iter().filter(|pair| others.contains(pair)).count()
}

#[cfg(test)]
mod tests;
