//! Zunyi: its clock, its sun, its hours. Times are Unix milliseconds, simulated.

use std::sync::OnceLock;

use chrono::{DateTime, NaiveDate};
use sunrise::{Coordinates, SolarDay, SolarEvent};

use crate::seed::Rng;

pub(crate) const SECOND: i64 = 1000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// When the pilot began: 2024-01-01 UTC. What devices counted before a run, they counted since then,
/// so that the next run goes on above the last one.
const PILOT: i64 = 1_704_067_200_000;

/// Milliseconds of the pilot before a moment; none before it began.
pub(crate) const fn in_service(ms: i64) -> i64 {
    if ms > PILOT { ms - PILOT } else { 0 }
}

/// China has one time zone, UTC+8.
const ZONE: i64 = 8 * HOUR;

/// The city's middle.
pub(crate) const LATITUDE: f64 = 27.7;
/// The city's middle.
pub(crate) const LONGITUDE: f64 = 106.9;

/// Days since 1970-01-01 by the city's clock.
pub(crate) const fn local_day(ms: i64) -> i64 {
    (ms + ZONE).div_euclid(DAY)
}

/// When a local day begins.
pub(crate) const fn day_start(local_day: i64) -> i64 {
    local_day * DAY - ZONE
}

/// The hour of the day by the city's clock, 0..=23.
pub(crate) const fn local_hour(ms: i64) -> usize {
    ((ms + ZONE).rem_euclid(DAY) / HOUR) as usize
}

/// The value of a day curve at an hour.
pub(crate) fn by_hour(curve: &[i64; 24], ms: i64) -> i64 {
    curve.get(local_hour(ms)).copied().unwrap_or_default()
}

/// Whether the city's clock shows a Saturday or a Sunday.
pub(crate) const fn is_weekend(ms: i64) -> bool {
    // 1970-01-01 was a Thursday.
    (local_day(ms) + 3).rem_euclid(7) >= 5
}

/// When, after a moment, something happens that comes by chance at a rate that changes with the
/// hour: `rate` says how often in a thousand hours it would, were all hours like the one of the
/// moment it is given. At least a millisecond later, and at most a year.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub(crate) fn next_by_hour(now: i64, rng: &mut Rng, rate: impl Fn(i64) -> i64) -> i64 {
    let mut due = -libm::log(1.0 - rng.unit());
    let mut at = now;
    let last = now + 365 * DAY;
    while at < last {
        // The zone is whole hours, so the city's hours begin with UTC's.
        let end = at - at.rem_euclid(HOUR) + HOUR;
        let per_ms = rate(at) as f64 / (1000 * HOUR) as f64;
        let expected = per_ms * (end - at) as f64;
        if due < expected {
            return (at + (due / per_ms) as i64).max(now + 1);
        }
        due -= expected;
        at = end;
    }
    last
}

/// The pilot's first local day, and how many days of sun are worked out once for all lamps.
const FIRST_DAY: i64 = local_day(PILOT);
const SUN_DAYS: i64 = 10 * 366;

/// A day's sunrise and sunset, and the time from sunset to sunrise of all the pilot's days before it:
/// of each the hours before its rise and after its set.
type SunDay = (i64, i64, i64);

fn sun_table() -> &'static [SunDay] {
    static TABLE: OnceLock<Vec<SunDay>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut dark = 0;
        (FIRST_DAY..FIRST_DAY + SUN_DAYS)
            .map(|day| {
                let (rise, set) = work_out_sun(day);
                let before = dark;
                dark += DAY - (set - rise);
                (rise, set, before)
            })
            .collect()
    })
}

fn sun_day(local_day: i64) -> Option<SunDay> {
    sun_table().get(usize::try_from(local_day - FIRST_DAY).ok()?).copied()
}

/// Sunrise and sunset of a local day.
pub(crate) fn sun(local_day: i64) -> (i64, i64) {
    sun_day(local_day).map_or_else(|| work_out_sun(local_day), |(rise, set, _)| (rise, set))
}

/// How many days the pilot has had before a local day, and how long it was dark in them; nothing
/// before it began, and nothing more after its sun's table ends.
pub(crate) fn dark_before(day: i64) -> (i64, i64) {
    let day = day.clamp(FIRST_DAY, FIRST_DAY + SUN_DAYS - 1);
    (day - FIRST_DAY, sun_day(day).map_or(0, |(_, _, dark)| dark))
}

fn work_out_sun(local_day: i64) -> (i64, i64) {
    // Days outside the calendar do not come up: runs start between 1970 and 2106.
    let date = i32::try_from(local_day)
        .ok()
        .and_then(NaiveDate::from_epoch_days)
        .unwrap_or(NaiveDate::MIN);
    let event = |event, fallback| {
        Coordinates::new(LATITUDE, LONGITUDE)
            .and_then(|place| SolarDay::new(place, date).event_time(event))
            .map_or(day_start(local_day) + fallback, |t: DateTime<_>| t.timestamp_millis())
    };
    // The fallbacks would be the equator's hours; at this latitude the sun rises every day.
    (event(SolarEvent::Sunrise, 6 * HOUR), event(SolarEvent::Sunset, 18 * HOUR))
}

/// Outdoor temperature in tenths of a degree: a year's and a day's wave (coldest in mid January
/// and at five in the morning), without weather.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub(crate) fn outdoor_dc(ms: i64) -> i64 {
    let wave = |period: i64, coldest: i64| {
        let phase = (ms + ZONE - coldest).rem_euclid(period) as f64 / period as f64;
        -libm::cos(std::f64::consts::TAU * phase)
    };
    let year = wave(36_525 * DAY / 100, 15 * DAY);
    let day = wave(DAY, 5 * HOUR);
    libm::round(155.0 + 105.0 * year + 35.0 * day) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sun_rises_and_sets_over_zunyi_when_the_almanac_says() {
        // 2026-06-21: sunrise about 06:00, sunset about 19:50 by Beijing time.
        let day = local_day(1_782_000_000_000);
        let (rise, set) = sun(day);
        let minute = |t: i64| (t - day_start(day)) / MINUTE;
        assert!((350..370).contains(&minute(rise)), "{}", minute(rise));
        assert!((1180..1205).contains(&minute(set)), "{}", minute(set));
    }

    #[test]
    fn the_table_of_the_sun_is_what_is_worked_out_and_its_nights_add_up() {
        let mut dark = 0;
        for day in FIRST_DAY..FIRST_DAY + 800 {
            assert_eq!(dark_before(day), (day - FIRST_DAY, dark));
            let (rise, set) = sun(day);
            assert_eq!((rise, set), work_out_sun(day));
            dark += DAY - (set - rise);
        }
        // At 27.7 degrees a year is dark for a little less than half: the sun's disc and the air.
        let share = dark * 1000 / (800 * DAY);
        assert!((485..500).contains(&share), "{share}");
        assert_eq!(dark_before(FIRST_DAY - 5), (0, 0));
    }

    #[test]
    fn rates_by_the_hour_are_kept_and_quiet_hours_are_waited_out() {
        let mut rng = Rng::new(crate::seed::Use::Device, &[7]);
        let midnight = day_start(20_500);
        // Two an hour from eight to ten, nothing else.
        let rate = |at| if (8..10).contains(&local_hour(at)) { 2000 } else { 0 };
        let (mut at, mut seen) = (midnight, 0);
        while at < midnight + 1000 * DAY {
            at = next_by_hour(at, &mut rng, rate);
            assert!((8..10).contains(&local_hour(at)));
            seen += 1;
        }
        assert!((3850..4150).contains(&seen), "{seen} of 4000");
        let monday = day_start(local_day(1_790_000_000_000));
        let week: Vec<bool> = (0..7).map(|d| is_weekend(monday + d * DAY)).collect();
        // 2026-09-21 is a Monday.
        assert_eq!(week, [false, false, false, false, false, true, true]);
    }

    #[test]
    fn summer_afternoons_are_warmer_than_winter_mornings() {
        let july = 1_784_000_000_000;
        let noon = day_start(local_day(july)) + 16 * HOUR;
        assert!(outdoor_dc(noon) > 230);
        assert!(outdoor_dc(day_start(local_day(1_768_500_000_000)) + 5 * HOUR) < 60);
    }
}
