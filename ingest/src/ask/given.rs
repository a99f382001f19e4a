//! Parameters as they came, and what they mean. Unknown, doubled and malformed ones are refused by
//! name.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::DateTime;
use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::Quality;
use loushan_schemas::time::DeviceTime;

/// What a time may be.
const TIME: &str = "RFC 3339 such as 2026-03-01T08:00:00Z, Unix milliseconds, now, or a time before \
                    now such as -24h";
/// Characters of a value that are shown.
const SHOWN: usize = 60;

/// Names and values.
#[derive(Debug, Clone, Default)]
pub struct Given(pub Vec<(String, String)>);

/// A parameter is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadParameter {
    /// Which.
    pub parameter: String,
    /// Its value, shortened.
    pub value: Option<String>,
    /// What is wrong.
    pub error: String,
    /// What is accepted.
    pub accepted: String,
}

impl BadParameter {
    pub(super) fn new(
        parameter: impl Into<String>,
        value: Option<&str>,
        error: impl Into<String>,
        accepted: impl Into<String>,
    ) -> Self {
        let parameter: String = parameter.into();
        Self {
            parameter: parameter.chars().take(SHOWN).collect(),
            value: value.map(|text| text.chars().take(SHOWN).collect()),
            error: error.into(),
            accepted: accepted.into(),
        }
    }
}

impl fmt::Display for BadParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameter, value, error, accepted } = self;
        let value = value.as_ref().map(|value| format!(" {value:?}")).unwrap_or_default();
        write!(f, "{parameter}{value}: {error}; accepted: {accepted}")
    }
}

impl std::error::Error for BadParameter {}

impl Given {
    /// Refuses parameters that are not among `known`, and those that come twice.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), BadParameter> {
        for (i, (name, value)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let accepted = known.join(", ");
                let error = "there is no such parameter";
                return Err(BadParameter::new(name, Some(value), error, accepted));
            }
            if self.0.iter().skip(i + 1).any(|(other, _)| other == name) {
                let error = "the parameter is given twice";
                return Err(BadParameter::new(name, Some(value), error, "one of each"));
            }
        }
        Ok(())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, BadParameter> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|n| range.contains(n));
        number.map(Some).ok_or_else(|| {
            let accepted = format!("a whole number from {} to {}", range.start(), range.end());
            BadParameter::new(name, Some(text), "the value is not accepted", accepted)
        })
    }

    /// A whole number of milliseconds, as a length of time with its unit.
    pub(super) fn length(&self, name: &'static str) -> Result<Option<i64>, BadParameter> {
        let Some(text) = self.text(name) else { return Ok(None) };
        length(text).map(Some).ok_or_else(|| {
            let accepted = "a length of time such as 30s, 5m, 1h, 1d or 1w";
            BadParameter::new(name, Some(text), "the value is no length of time", accepted)
        })
    }

    pub(super) fn device(&self) -> Result<Option<Imei>, BadParameter> {
        self.read("device", "15 digits, the last one Luhn's")
    }

    pub(super) fn station(&self) -> Result<Option<StationId>, BadParameter> {
        self.read("station", "a station's name: up to 32 of a-z 0-9 -")
    }

    fn read<T: std::str::FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
        accepted: &'static str,
    ) -> Result<Option<T>, BadParameter> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let read = text.parse().map(Some);
        read.map_err(|e: T::Err| BadParameter::new(name, Some(text), e.to_string(), accepted))
    }

    pub(super) fn kind(&self) -> Result<Option<Kind>, BadParameter> {
        let Some(text) = self.text("kind") else { return Ok(None) };
        Kind::from_text(text).map(Some).ok_or_else(|| {
            let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            BadParameter::new("kind", Some(text), "there is no such kind", words.join(", "))
        })
    }

    pub(super) fn quality(&self) -> Result<Option<Quality>, BadParameter> {
        let Some(text) = self.text("min_quality") else { return Ok(None) };
        let quality = text.parse().ok().and_then(Quality::from_number);
        quality.map(Some).ok_or_else(|| {
            let accepted = "1 (all), 2, 3 or 4 (nothing speaks against them)";
            BadParameter::new("min_quality", Some(text), "there is no such quality", accepted)
        })
    }

    /// One of these words.
    pub(super) fn word<T: Copy>(
        &self,
        name: &'static str,
        words: &[(&'static str, T)],
    ) -> Result<Option<T>, BadParameter> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, thing)| *thing);
        found.map(Some).ok_or_else(|| {
            let accepted: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            BadParameter::new(name, Some(text), "the value is not accepted", accepted.join(", "))
        })
    }

    /// `from` and `to` in Unix milliseconds; each may be left out and then bounds nothing.
    pub(super) fn span(&self, now_ms: i64) -> Result<(Option<i64>, Option<i64>), BadParameter> {
        let (from, to) = (self.time("from", now_ms)?, self.time("to", now_ms)?);
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            let error = "the span ends before it begins";
            return Err(BadParameter::new("to", self.text("to"), error, "a time not before from"));
        }
        Ok((from, to))
    }

    fn time(&self, name: &'static str, now_ms: i64) -> Result<Option<i64>, BadParameter> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let before = |text: &str| now_ms.checked_sub(length(text)?);
        let ms = match text {
            "now" => Some(now_ms),
            _ => match text.strip_prefix('-') {
                Some(ago) => before(ago),
                None => time(text).map(DeviceTime::ms),
            },
        };
        ms.map(Some)
            .ok_or_else(|| BadParameter::new(name, Some(text), "the value is not a time", TIME))
    }

    /// A zone so far ahead of UTC, in milliseconds.
    pub(super) fn zone(&self) -> Result<i64, BadParameter> {
        let Some(text) = self.text("zone") else { return Ok(0) };
        zone(text).ok_or_else(|| {
            let accepted = "Z, or hours and minutes ahead of UTC such as +08:00";
            BadParameter::new("zone", Some(text), "the value is no zone", accepted)
        })
    }
}

/// A time in words: RFC 3339 or Unix milliseconds.
#[must_use]
pub fn time(text: &str) -> Option<DeviceTime> {
    if let Ok(ms) = text.parse::<i64>() {
        return DeviceTime::from_ms(ms);
    }
    // A + that was not escaped in a query arrives as a space.
    let text = text.replace(' ', "+");
    DeviceTime::from_ms(DateTime::parse_from_rfc3339(&text).ok()?.timestamp_millis())
}

/// Milliseconds of a length of time; more than none, and less than a century.
fn length(text: &str) -> Option<i64> {
    const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
    // One number and one unit: years and months, of which no two are alike, are none.
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (_, unit) = text.split_at_checked(at)?;
    if !matches!(unit, "ms" | "s" | "m" | "min" | "h" | "d" | "w") {
        return None;
    }
    let length = humantime::parse_duration(text).ok()?;
    if length.is_zero() || length > CENTURY {
        return None;
    }
    i64::try_from(length.as_millis()).ok()
}

/// Milliseconds ahead of UTC.
fn zone(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    // A + that was not escaped in a query arrives as a space.
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+" | " ", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok())?;
    let (hours, minutes) = (i64::from(two(hours)?), i64::from(two(minutes)?));
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_rfc_3339_or_unix_milliseconds() {
        let ms = |text| time(text).map(DeviceTime::ms);
        assert_eq!(ms("1772352000000"), Some(1_772_352_000_000));
        assert_eq!(ms("2026-03-01T08:00:00Z"), Some(1_772_352_000_000));
        assert_eq!(ms("2026-03-01T16:00:00.5+08:00"), Some(1_772_352_000_500));
        assert_eq!(ms("2026-03-01T16:00:00 08:00"), Some(1_772_352_000_000));
        assert_eq!(ms("yesterday"), None);
        assert_eq!(ms(""), None);
        assert_eq!(ms("-1"), None);
    }

    #[test]
    fn a_span_may_be_told_by_how_long_ago_it_began() {
        let given = |from: &str| Given(vec![("from".to_owned(), from.to_owned())]);
        assert_eq!(given("-24h").span(86_400_007).unwrap(), (Some(7), None));
        assert_eq!(given("now").span(5).unwrap(), (Some(5), None));
        assert_eq!(given("-1").span(5).unwrap_err().parameter, "from");
        let mut both = given("10");
        both.0.push(("to".to_owned(), "9".to_owned()));
        assert_eq!(both.span(0).unwrap_err().parameter, "to");
    }

    #[test]
    fn lengths_have_one_unit_and_zones_hours_and_minutes() {
        assert_eq!(length("5m"), Some(300_000));
        assert_eq!(length("1w"), Some(7 * 86_400_000));
        for bad in ["", "5", "0s", "1M", "1y", "1h 30m", "-5m", "m", "99999999999d", "5µs"] {
            assert_eq!(length(bad), None, "{bad}");
        }
        assert_eq!(zone("+08:00"), Some(8 * 3_600_000));
        assert_eq!(zone(" 05:30"), Some(330 * 60_000));
        assert_eq!(zone("-03:30"), Some(-210 * 60_000));
        assert_eq!(zone("Z"), Some(0));
        for bad in ["", "8", "+8", "+08:60", "+15:00", "UTC", "+0a:00", "+080:0"] {
            assert_eq!(zone(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_fail_otherwise_than_by_its_name(text in any::<String>()) {
            for name in ["from", "to", "zone", "kind", "device", "station", "min_quality", "every"] {
                let given = Given(vec![(name.to_owned(), text.clone())]);
                let errors = [
                    given.span(0).err(), given.zone().err(), given.kind().err(),
                    given.device().err(), given.station().err(), given.quality().err(),
                    given.length("every").err(), given.number("to", 0..=9).err(),
                ];
                for error in errors.into_iter().flatten() {
                    prop_assert_eq!(error.parameter, name);
                    prop_assert!(error.value.unwrap().chars().count() <= SHOWN);
                }
            }
        }
    }
}
