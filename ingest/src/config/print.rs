//! The commented default file, made of the table of keys.

use std::fmt::Write as _;

use super::keys::SECTIONS;
use super::raw::variable;
use super::table::{Default, Key};

/// The default file: every key with what it does and what it accepts. Optional sections and keys
/// without a default are commented out, so that the file as it is means the defaults.
#[must_use]
pub fn default_file() -> String {
    let mut out = String::from(
        "# Loushan's configuration. Every key is optional and stands here with its default.\n\
         # Each can be set by environment as well, which wins over the file.\n",
    );
    for section in SECTIONS {
        let mark = if section.optional { "#" } else { "" };
        // Writing to a String cannot fail.
        let _ok = write!(out, "\n# {}\n{mark}[{}]\n", section.doc, section.name);
        for key in section.keys {
            print_key(section.name, section.optional, key, &mut out);
        }
    }
    out
}

fn print_key(section: &str, off: bool, key: &Key, out: &mut String) {
    let (value, unset) = match key.default {
        Default::Is(text) => (text, off),
        Default::Unset(text) | Default::Required(text) => (text, true),
    };
    let quote = if key.kind.is_bare() { "" } else { "\"" };
    let mark = if unset { "#" } else { "" };
    for line in key.doc.lines() {
        let _ok = writeln!(out, "# {line}");
    }
    let _ok = writeln!(out, "# Accepted: {}.", key.kind.accepted());
    let _ok = writeln!(out, "# Environment: {}", variable(&format!("{section}.{}", key.name)));
    let _ok = writeln!(out, "{mark}{} = {quote}{value}{quote}", key.name);
}
