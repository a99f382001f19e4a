//! The table of all keys: the one place that names them. The file's reader, the environment's
//! reader, the printed default file and the resolved configuration all go by it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::units::{parse_duration, parse_size, show_duration, show_size};

/// A section of the file.
#[derive(Debug)]
pub struct Section {
    /// Its name, with dots: `sink.influx`.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static str,
    /// Whether it is off as long as none of its keys is set.
    pub optional: bool,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What it is when it is not set, as one would write it.
    pub default: Default,
    /// What it does, in lines.
    pub doc: &'static str,
}

/// What a key is when it is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This.
    Is(&'static str),
    /// Nothing, which has a meaning of its own; the text is an example.
    Unset(&'static str),
    /// It must be set where its section is; the text is an example.
    Required(&'static str),
}

/// What a key's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text but the empty one.
    Text,
    /// Text that is never shown.
    Secret,
    /// A path.
    Path,
    /// An `http://` or `https://` address.
    Url,
    /// IP address and port.
    Address,
    /// IP address and port, or `off`.
    Listen,
    /// `true` or `false`.
    Bool,
    /// Bytes, both ends included.
    Size(u64, u64),
    /// A duration in milliseconds, both ends included.
    Duration(u64, u64),
    /// A whole number, both ends included.
    Count(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// A value of a key's kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// Of [`Kind::Text`] and [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::Secret`].
    Secret(Secret),
    /// Of [`Kind::Path`].
    Path(PathBuf),
    /// Of [`Kind::Url`].
    Url(Url),
    /// Of [`Kind::Address`].
    Address(SocketAddr),
    /// Of [`Kind::Listen`]; off is `None`.
    Listen(Option<SocketAddr>),
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Size`] and [`Kind::Count`].
    Number(u64),
    /// Of [`Kind::Duration`].
    Duration(Duration),
}

/// A text that no log, error or debugger shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Kind {
    /// Reads a value; `None` where it is none of the accepted ones.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<Setting> {
        let within = |n: u64, low: u64, high: u64| (low..=high).contains(&n).then_some(n);
        Some(match self {
            Self::Text if text.is_empty() => return None,
            Self::Text => Setting::Text(text.to_owned()),
            Self::Secret if text.trim().is_empty() => return None,
            Self::Secret => Setting::Secret(Secret(text.to_owned())),
            Self::Path if text.is_empty() => return None,
            Self::Path => Setting::Path(PathBuf::from(text)),
            Self::Url => {
                let url = Url::parse(text).ok()?;
                // Credentials in a URL end in logs.
                let plain = matches!(url.scheme(), "http" | "https")
                    && url.host_str().is_some()
                    && url.fragment().is_none()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none();
                return plain.then_some(Setting::Url(url));
            }
            Self::Address => Setting::Address(text.parse().ok()?),
            Self::Listen if text == "off" => Setting::Listen(None),
            Self::Listen => Setting::Listen(Some(text.parse().ok()?)),
            Self::Bool => Setting::Bool(text.parse().ok()?),
            Self::Size(low, high) => Setting::Number(within(parse_size(text)?, low, high)?),
            Self::Count(low, high) => Setting::Number(within(text.parse().ok()?, low, high)?),
            Self::Duration(low, high) => {
                let duration = parse_duration(text)?;
                let ms = u64::try_from(duration.as_millis()).ok()?;
                within(ms, low, high)?;
                Setting::Duration(duration)
            }
            Self::Choice(words) => {
                Setting::Text((*words.iter().find(|word| **word == text)?).to_owned())
            }
        })
    }

    /// What is accepted, for people.
    #[must_use]
    pub fn accepted(self) -> String {
        let ms = |n| show_duration(Duration::from_millis(n));
        match self {
            Self::Text | Self::Secret => "text, not empty".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Url => {
                "an address such as \"http://127.0.0.1:8086\", without user or query".to_owned()
            }
            Self::Address => "an IP address and port such as \"127.0.0.1:1883\"".to_owned(),
            Self::Listen => {
                "an IP address and port such as \"127.0.0.1:1883\", or \"off\"".to_owned()
            }
            Self::Bool => "true or false".to_owned(),
            Self::Size(low, high) => format!(
                "a size in B, KiB, MiB or GiB from \"{}\" to \"{}\"",
                show_size(low),
                show_size(high)
            ),
            Self::Duration(low, high) => {
                format!("a duration with its unit from \"{}\" to \"{}\"", ms(low), ms(high))
            }
            Self::Count(low, high) => format!("a whole number from {low} to {high}"),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                quoted.join(" or ")
            }
        }
    }

    /// Whether TOML writes its values without quotes.
    #[must_use]
    pub const fn is_bare(self) -> bool {
        matches!(self, Self::Bool | Self::Count(..))
    }
}

/// The section that every sink of the InfluxDB protocol has, whatever its name: `sink.NAME`.
pub const SINK: &str = "sink.influx";

/// The section that every webhook of alarms has: `alarms.webhook.NAME`.
pub const WEBHOOK: &str = "alarms.webhook.duty";

/// The section that every maintenance window has: `alarms.maintenance.NAME`.
pub const MAINTENANCE: &str = "alarms.maintenance.night";

/// Sections of which there may be any number: what their names begin with, and the one that stands for
/// all of them in the table.
pub const FAMILIES: [(&str, &str); 3] =
    [("sink.", SINK), ("alarms.webhook.", WEBHOOK), ("alarms.maintenance.", MAINTENANCE)];

/// Names under which there is something else already.
const RESERVED: [&str; 4] = ["embedded", "dead_letter", "snapshot", "alarms"];

/// What a sink's name may be, for people.
pub const SINK_NAMES: &str = "a sink's name is a-z, then up to 31 of a-z 0-9 _ -, and not embedded, dead_letter, snapshot or alarms";

/// Whether a sink may be called so.
#[must_use]
pub fn is_sink_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && name.len() <= 32
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
        && !RESERVED.contains(&name)
}

/// The section of that name; one of a family has as many names as there are members.
#[must_use]
pub fn find_section(name: &str) -> Option<&'static Section> {
    let family = FAMILIES
        .iter()
        .find(|(prefix, _)| name.strip_prefix(prefix).is_some_and(is_sink_name))
        .map(|(_, stands_for)| *stands_for);
    let name = family.unwrap_or(name);
    super::keys::SECTIONS.iter().find(|section| section.name == name)
}

/// The section and key of a dotted path.
#[must_use]
pub fn find(path: &str) -> Option<(&'static Section, &'static Key)> {
    let (section, name) = path.rsplit_once('.')?;
    let section = find_section(section)?;
    Some((section, section.keys.iter().find(|key| key.name == name)?))
}
