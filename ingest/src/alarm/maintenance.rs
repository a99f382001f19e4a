//! Windows in which nothing is raised: somebody works there.
//!
//! What begins within a window and lasts beyond its end is raised at its end. What was raised before is
//! neither hidden nor kept from being cleared.

use std::sync::Arc;

use loushan_schemas::ids::{Imei, StationId};

use super::config::Place;
use super::rule::Rule;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// The city's time is this far ahead of UTC.
const CITY_MS: i64 = 8 * 60 * 60 * 1000;

/// When: from one moment to another, and within that perhaps only in a span of each day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// From, in Unix milliseconds.
    pub from_ms: i64,
    /// To, excluded.
    pub to_ms: i64,
    /// In which span of each day.
    pub daily: Option<Daily>,
}

/// A span of each day, in milliseconds after midnight in the city (UTC+8). It may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daily {
    from_ms: i64,
    to_ms: i64,
}

/// A window: when, and for whom. A list that is empty leaves nobody out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// What it is called.
    pub name: Arc<str>,
    /// When.
    pub when: When,
    /// Which alarms.
    pub rules: Vec<Rule>,
    /// Which stations, their devices among them.
    pub stations: Vec<String>,
    /// Which devices.
    pub devices: Vec<Imei>,
    /// Which projects.
    pub projects: Vec<String>,
    /// Which parts of the city.
    pub areas: Vec<String>,
}

impl When {
    /// When the window that a moment is in ends; `None` outside of it.
    #[must_use]
    pub fn ends_after(self, at_ms: i64) -> Option<i64> {
        let end = (self.from_ms..self.to_ms).contains(&at_ms).then_some(self.to_ms)?;
        match self.daily {
            Some(daily) => Some(daily.ends_after(at_ms)?.min(end)),
            None => Some(end),
        }
    }
}

impl Daily {
    /// Reads a span such as `02:00-04:30`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from_ms, to_ms) = (time_of_day(from.trim())?, time_of_day(to.trim())?);
        (from_ms != to_ms).then_some(Self { from_ms, to_ms })
    }

    fn ends_after(self, at_ms: i64) -> Option<i64> {
        let Self { from_ms, to_ms } = self;
        let of_day = at_ms.saturating_add(CITY_MS).rem_euclid(DAY_MS);
        let until = |end: i64| Some(at_ms.saturating_add(end - of_day));
        match from_ms < to_ms {
            true if (from_ms..to_ms).contains(&of_day) => until(to_ms),
            false if of_day < to_ms => until(to_ms),
            false if of_day >= from_ms => until(to_ms + DAY_MS),
            _ => None,
        }
    }
}

fn time_of_day(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    let (hours, minutes): (i64, i64) = match (two(hours), two(minutes)) {
        (true, true) => (hours.parse().ok()?, minutes.parse().ok()?),
        _ => return None,
    };
    ((0..24).contains(&hours) && (0..60).contains(&minutes))
        .then_some((hours * 60 + minutes) * 60_000)
}

impl Maintenance {
    /// When the window ends, if it keeps such an alarm from being raised at that moment.
    #[must_use]
    pub fn holds(
        &self,
        at_ms: i64,
        rule: Rule,
        station: &StationId,
        imei: Option<Imei>,
        place: Option<&Place>,
    ) -> Option<i64> {
        let named = |list: &[String], of: Option<&str>| {
            list.is_empty() || of.is_some_and(|of| list.iter().any(|it| it == of))
        };
        let for_it = (self.rules.is_empty() || self.rules.contains(&rule))
            && named(&self.stations, Some(station.as_str()))
            && (self.devices.is_empty() || imei.is_some_and(|imei| self.devices.contains(&imei)))
            && named(&self.projects, place.map(|place| &*place.project))
            && named(&self.areas, place.map(|place| &*place.area));
        for_it.then(|| self.when.ends_after(at_ms)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    /// Midnight in the city.
    const MIDNIGHT: i64 = 1_772_323_200_000 - CITY_MS;

    #[test]
    fn a_daily_window_is_of_the_citys_day_and_may_pass_midnight() {
        let night = Daily::parse("22:30-04:00").unwrap();
        assert_eq!(night.ends_after(MIDNIGHT), Some(MIDNIGHT + 4 * HOUR));
        assert_eq!(night.ends_after(MIDNIGHT + 4 * HOUR), None);
        assert_eq!(night.ends_after(MIDNIGHT + 22 * HOUR), None);
        let late = MIDNIGHT + 23 * HOUR;
        assert_eq!(night.ends_after(late), Some(MIDNIGHT + 28 * HOUR));
        let noon = Daily::parse("12:00-13:00").unwrap();
        assert_eq!(noon.ends_after(MIDNIGHT + 12 * HOUR), Some(MIDNIGHT + 13 * HOUR));
        assert_eq!(noon.ends_after(MIDNIGHT + 11 * HOUR), None);
        let when = When { from_ms: MIDNIGHT, to_ms: MIDNIGHT + HOUR, daily: Some(night) };
        assert_eq!(when.ends_after(MIDNIGHT), Some(MIDNIGHT + HOUR));
        assert_eq!(when.ends_after(MIDNIGHT - 1), None);
    }

    #[test]
    fn what_is_no_span_of_a_day_is_refused() {
        for text in ["", "12:00", "12:00-12:00", "24:00-25:00", "1:00-2:00", "a-b", "12:60-13:00"] {
            assert_eq!(Daily::parse(text), None, "{text}");
        }
    }
}
