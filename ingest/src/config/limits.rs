//! The bounds that a configuration sets, for whoever shows figures beside them.

use std::sync::Arc;

use super::keys::SECTIONS;
use super::raw::Raw;
use super::table::{FAMILIES, Kind, Section, Setting};

/// A bound of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its key, with dots.
    pub key: Arc<str>,
    /// Its value.
    pub value: u64,
    /// Whether it is in bytes.
    pub bytes: bool,
}

/// All sizes and counts that are set, or have a default.
pub(super) fn limits(raw: &Raw) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut of = |section: &Section, name: &str| {
        for key in section.keys {
            let bytes = match key.kind {
                Kind::Size(..) => true,
                Kind::Count(..) => false,
                _ => continue,
            };
            let path = format!("{name}.{}", key.name);
            if let Some(Setting::Number(value)) = raw.get(&path) {
                limits.push(Limit { key: path.into(), value, bytes });
            }
        }
    };
    for section in SECTIONS {
        let family = FAMILIES.iter().find(|(_, stands_for)| *stands_for == section.name);
        if let Some((prefix, _)) = family {
            raw.members(prefix).iter().for_each(|name| of(section, &format!("{prefix}{name}")));
        } else if !section.optional || raw.is_on(section.name) {
            of(section, section.name);
        }
    }
    limits
}
